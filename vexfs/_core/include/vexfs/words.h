/* Keyword search: an inverted index in memory over rows (u32, dense, reused), ranked by BM25.
 *
 * A passage is read once, into its record: the distinct terms and their order.  Records are what a caller stores; the
 * index is made of them, or of a snapshot.  Searches run beside each other; a change waits for them and they for it,
 * microseconds each.  Functions answer 0, a count, or a negative errno, and may be called from any thread. */
#ifndef VEXFS_WORDS_H
#define VEXFS_WORDS_H

#include <stddef.h>
#include <stdint.h>

/* How text becomes terms; stands in every record and snapshot, and those of another analyser are refused. */
#define VX_WORDS_ANALYSER 1
#define VX_WORDS_K1 1.2
#define VX_WORDS_B 0.75
#define VX_WORDS_ROWS 0xfffffffeu  /* rows are below */
#define VX_WORDS_TF 255u           /* more occurrences in one passage count as so many */
#define VX_WORDS_TOKENS (1u << 24) /* of one passage, at most */
#define VX_WORDS_UNITS 64u         /* of one query, at most; the commonest plain words are left out above */

typedef struct vx_words vx_words;

/* simd: whether the machine's vector instructions may be used; results are the same.  NULL on ENOMEM. */
vx_words *vx_words_new(int simd);
void vx_words_free(vx_words *w);

/* The record of a text (UTF-8); *out is the caller's, to free().  -ENOMEM, -E2BIG above VX_WORDS_TOKENS. */
int vx_words_encode(const uint8_t *text, size_t n, uint8_t **out, size_t *out_n);
/* Inserts or replaces; visible on return.  -EBADMSG: not a record; -EINVAL: another analyser's, or no row; nothing has
 * changed then, nor after -ENOMEM. */
int vx_words_put(vx_words *w, uint32_t row, const uint8_t *record, size_t n);
/* Takes a row out of every later result: two atomic operations, no lock.  1 when it was there, else 0. */
int vx_words_remove(vx_words *w, uint32_t row);
/* Whether the row is there. */
int vx_words_has(vx_words *w, uint32_t row);
uint64_t vx_words_count(vx_words *w);

typedef struct {
    uint32_t k;
    int prefix_last;      /* the last word is the beginning of one, unless a space follows */
    const uint64_t *mask; /* bits of allowed rows, or NULL */
    size_t mask_rows;     /* rows from here on are not allowed by the mask */
    const uint32_t *rows; /* the only rows allowed, in any order, or NULL */
    size_t rows_n;
} vx_words_options;

/* The best rows for a query, best first, ties by row; how many (at most k).  -EINVAL: a query of more than
 * VX_WORDS_UNITS phrases, prefixes and signed words that the index knows, or of as many prefixes of a letter or two. */
int64_t vx_words_search(vx_words *w, const char *query, size_t n, const vx_words_options *o, uint32_t *rows,
                        float *scores);

/* What a query was understood as. */
typedef struct {
    char text[72]; /* the word as the index knows it, or the phrase, cut; NUL-terminated */
    int kind;      /* an enum vx_words_kind */
    int sign;      /* '+', '-' or ' ' */
    uint64_t df;   /* rows that have it */
    double weight; /* what one occurrence in a passage of average length adds to its score */
} vx_words_clause;
enum vx_words_kind { VX_WORDS_TERM, VX_WORDS_PREFIX, VX_WORDS_PHRASE };
/* At most VX_WORDS_UNITS; how many. */
int64_t vx_words_explain(vx_words *w, const char *query, size_t n, int prefix_last, vx_words_clause *out);

typedef struct {
    uint64_t rows, terms, postings, tokens, parts, removed, memory;
    double average_length;
} vx_words_stats;
void vx_words_read_stats(vx_words *w, vx_words_stats *out);
/* The term with this number (below stats.terms) and the rows that have it; its length, or 0. */
uint32_t vx_words_term(vx_words *w, uint32_t number, char out[64], uint64_t *df);

/* Works off what removals left behind, about so long; 1 when there is more to do. */
int vx_words_maintain(vx_words *w, double budget_ms);

/* A snapshot.  `write` and `read` answer 0 or a negative errno; `read` fills all it is asked for or fails.  Restoring wants an
 * empty index; -EBADMSG when the bytes are not a sound snapshot, and the index is empty then. */
typedef int (*vx_words_write)(void *ctx, const void *data, size_t n);
typedef int (*vx_words_read)(void *ctx, void *data, size_t n);
int vx_words_dump(vx_words *w, vx_words_write write, void *ctx);
int vx_words_restore(vx_words *w, vx_words_read read, void *ctx);

#endif
