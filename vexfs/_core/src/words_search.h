/* What a search holds while it runs. */
#ifndef VEXFS_SRC_WORDS_SEARCH_H
#define VEXFS_SRC_WORDS_SEARCH_H

#include "words_query.h"

#define CHUNK 256u /* postings scored at a time */
#define BLOCKS (PART_DOCS / BLOCK)

/* A list in the part that is searched. */
typedef struct {
    const uint16_t *docs; /* sorted; NULL when wide */
    const uint8_t *tfs;
    const vx_wide *wide;
    uint32_t n, begin[WINDOWS]; /* of the windows in docs */
    int32_t bound[BLOCKS];      /* what it adds to a document of the block, at most */
} vx_cursor;

typedef struct {
    int32_t score;
    uint32_t row;
} vx_word_hit;

typedef struct {
    vx_words *w;
    const vx_words_options *o;
    const vx_score_kernels *kernels;
    vx_list lists[VX_WORDS_UNITS];
    vx_bm25 model[VX_WORDS_UNITS];
    uint8_t scoring[VX_WORDS_UNITS]; /* numbers of the lists that score */
    int n, scores_n, restricted;
    const vx_part *part;
    uint32_t number;
    vx_word_hit *heap;
    uint32_t held;
    int32_t mark;   /* a score below cannot come in */
    uint32_t *only; /* sorted documents of o->rows */
    size_t only_n;
    int32_t acc[WINDOW]; /* zero between windows */
    /* From here on not cleared at first. */
    vx_cursor at[VX_WORDS_UNITS]; /* of the lists that score, in this part */
    uint64_t allow[PART_DOCS / 64], some[PART_DOCS / 64];
    int32_t score[WINDOW], out[CHUNK];
    uint16_t doc[WINDOW];
} vx_word_search;

/* Takes the document in, if it is good enough and allowed. */
void vx_word_offer(vx_word_search *s, uint32_t doc, int32_t score);
/* words_window.c */
void vx_word_open(vx_word_search *s, int i);
void vx_word_window(vx_word_search *s, uint32_t window);

#endif
