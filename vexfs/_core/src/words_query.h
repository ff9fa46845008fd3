/* A query: parsed, then resolved to posting lists. */
#ifndef VEXFS_SRC_WORDS_QUERY_H
#define VEXFS_SRC_WORDS_QUERY_H

#include "words_internal.h"

typedef struct {
    uint32_t at; /* of its bytes */
    uint8_t n, flags;
} vx_word;

typedef struct {
    uint32_t first, n; /* words */
    uint8_t kind;      /* enum vx_words_kind */
    char sign;
} vx_unit;

typedef struct {
    uint8_t *bytes;
    vx_word *word;
    vx_unit *unit;
    size_t bytes_n, bytes_cap, words, words_cap, units, units_cap;
} vx_query;

int vx_query_parse(vx_query *q, const char *text, size_t n, int prefix_last);
void vx_query_free(vx_query *q);

/* Postings made for one query, of one part. */
typedef struct {
    uint16_t *docs;
    uint8_t *tfs;
    uint32_t n, cap;
} vx_made;

typedef struct {
    vx_term *term; /* NULL: made */
    vx_made *made; /* one a part */
    const vx_unit *unit;
    uint64_t df;
    double weight;
    double times; /* that it counts: once each time it is said, and some for each time another form of it is */
    char sign;
} vx_list;

/* The lists of a query; those of plain words first found unknown are left out.  The lock must be held.  How many (at most
 * VX_WORDS_UNITS), 0 when nothing can match; -ENOMEM, -EINVAL. */
int vx_query_resolve(vx_words *w, const vx_query *q, vx_list lists[VX_WORDS_UNITS]);
void vx_lists_free(vx_words *w, vx_list *lists, int n);

/* -- words_score*.c: contributions, in whole numbers so that a sum does not depend on its order */
typedef struct {
    float a, b, weight; /* rint(weight * tf / (tf + (a + b * length))) */
} vx_bm25;

typedef struct {
    /* out[i] of the posting docs[i], tfs[i]; length is the part's. */
    void (*sparse)(const uint16_t *docs, const uint8_t *tfs, uint32_t n, const float *length, vx_bm25 m, int32_t *out);
    /* Adds to acc[i] for a byte a document; n is a multiple of 8; length is the window's. */
    void (*dense)(const uint8_t *tfs, uint32_t n, const float *length, vx_bm25 m, int32_t *acc);
    /* Where acc[i] >= least (at least 1): i and acc[i] to docs and scores; how many.  Zeroes acc; n is a multiple of 8. */
    uint32_t (*collect)(int32_t *acc, uint32_t n, int32_t least, uint16_t *docs, int32_t *scores);
} vx_score_kernels;
extern const vx_score_kernels vx_score_scalar, vx_score_avx2;

static inline int32_t vx_contribution(uint8_t tf, float length, vx_bm25 m)
{
    const float norm = m.a + m.b * length;
    return (int32_t)__builtin_lrintf(m.weight * ((float)tf / ((float)tf + norm)));
}

#endif
