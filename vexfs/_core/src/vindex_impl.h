/* How the vector index is put together; for the vindex_*.c files alone. */
#ifndef VEXFS_SRC_VINDEX_IMPL_H
#define VEXFS_SRC_VINDEX_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "vexfs/vindex.h"
#include "vindex_kernels.h"

#define VX_EPOCH_SHARDS 16
/* What a 1-bit and a 4-bit estimate are off by, as a standard deviation: times the code's scale times the distance
 * between query and centroid. */
#define VX_ERROR_1 0.6f
#define VX_ERROR_4 0.09f
/* Fewer rows than this are compared one by one: training would cost more than it saves. */
#define VX_EXACT_ROWS 1500u
#define VX_TRAIN_ROWS 4000u
#define VX_LEVELS_OF_RECALL 8

/* -- memory that grows in place --------------------------------------------------------------------------------- */

/* Reserved address space; the first `bytes` of it can be used and are zero when new. */
typedef struct {
    uint8_t *at;
    size_t reserved;
    _Atomic size_t bytes;
} vx_span;

int vx_span_reserve(vx_span *s, size_t most);
/* -EFBIG above what is reserved, -ENOMEM. */
int vx_span_grow(vx_span *s, size_t bytes);
void vx_span_release(vx_span *s);

/* -- lists ------------------------------------------------------------------------------------------------------ */

/* A list's entries; replaced as a whole when it grows or is compacted.  Per block: lines of 1-bit codes, then the arrays
 * of vx_entries.  The 4-bit codes follow the blocks. */
typedef struct vx_list {
    _Atomic uint32_t count;
    uint32_t room; /* entries, a multiple of VX_BLOCK */
    size_t bytes;  /* of the whole allocation */
    uint8_t *fine;
    uint8_t *blocks;
} vx_list;

/* Of one block, behind its lines: a, b of the 1-bit estimate; the same of the 4-bit one; the rows. */
typedef struct {
    float a[VX_BLOCK], b[VX_BLOCK];
    _Atomic uint32_t row[VX_BLOCK];
    float fine_a[VX_BLOCK], fine_b[VX_BLOCK];
} vx_entries;

/* One row, encoded against one list's centroid. */
typedef struct {
    float a, b, fine_a, fine_b;
    float square;   /* |r|^2 */
    uint8_t *lines; /* padded / 8 */
    uint8_t *fine;  /* padded / 2 */
} vx_code;

/* What one level of recall takes, found by trying. */
typedef struct {
    float recall, stop, width;
} vx_setting;

/* A set of lists that were trained together. */
typedef struct vx_generation {
    uint32_t lists, trained_rows, number;
    float *origin;        /* padded: what rotated vectors are measured from; not 0 for l2 only */
    float *centroid;      /* lists x padded, rotated */
    float *square;        /* |c|^2 */
    float *mean;          /* padded: of the centroids */
    uint8_t *coarse;      /* lists x padded: the centroids less their mean, in steps of coarse_step */
    float *coarse_step;
    float *spread;        /* mean |r|^2 of a list's rows */
    _Atomic(vx_list *) *list;
    vx_span place;        /* per row: list << 32 | position + 1, or 0 */
    vx_setting setting[VX_LEVELS_OF_RECALL];
    uint32_t settings;
} vx_generation;

/* -- the index -------------------------------------------------------------------------------------------------- */

typedef struct vx_retired {
    struct vx_retired *next;
    uint64_t epoch;
    void *what;
    void (*release)(void *what);
} vx_retired;

typedef struct vx_growth vx_growth;

struct vx_vindex {
    uint32_t dim, padded;
    int metric, dtype;
    size_t row_bytes, code_lines, block_bytes;
    vx_simd *simd;
    vx_pool *pool;
    vx_rotation rotation;

    pthread_mutex_t writer;      /* puts and everything that changes lists */
    pthread_mutex_t maintenance; /* one maintain at a time */
    _Atomic(vx_generation *) generation;
    vx_growth *growth; /* the next generation while it is being made; under `maintenance`, its queue under `writer` */

    vx_span rows, alive, resident, norm;
    _Atomic uint64_t live, end, resident_rows, dead;
    _Atomic uint64_t writing; /* odd while any row is being written */
    _Atomic uint32_t stripe[256]; /* odd while a row of that stripe is being written */

    vx_vindex_read_fn read;
    void *read_ctx;
    int keep;

    _Atomic uint64_t epoch;
    vx_retired *retired; /* under `writer` */
    struct {
        _Alignas(64) _Atomic uint32_t in[2];
    } readers[VX_EPOCH_SHARDS];
    _Atomic uint64_t puts, removes, searches;
    uint64_t puts_trained; /* puts when the lists were trained */
};

static inline const vx_vkernels *vx_vkernels_in(const vx_vindex *v)
{
    return vx_vkernels_of(vx_simd_kernels(v->simd)->level);
}

static inline vx_entries *vx_entries_of(const vx_vindex *v, const vx_list *l, uint32_t block)
{
    return (vx_entries *)(void *)(l->blocks + block * v->block_bytes + v->code_lines * VX_BLOCK);
}

static inline int vx_bit(const vx_span *s, uint32_t row)
{
    const _Atomic uint64_t *words = (const _Atomic uint64_t *)(const void *)s->at;
    return (int)(atomic_load_explicit(&words[row / 64], memory_order_acquire) >> (row % 64) & 1);
}

/* The bit as it was. */
static inline int vx_set_bit(vx_span *s, uint32_t row, int to)
{
    _Atomic uint64_t *word = (_Atomic uint64_t *)(void *)s->at + row / 64;
    const uint64_t bit = (uint64_t)1 << (row % 64);
    const uint64_t was = to ? atomic_fetch_or(word, bit) : atomic_fetch_and(word, ~bit);
    return (was & bit) != 0;
}

static inline uint64_t *vx_place(const vx_generation *g, uint32_t row)
{
    return (uint64_t *)(void *)g->place.at + row;
}

static inline float *vx_norm(const vx_vindex *v, uint32_t row)
{
    return (float *)(void *)v->norm.at + row;
}

static inline uint8_t *vx_row(const vx_vindex *v, uint32_t row)
{
    return v->rows.at + row * v->row_bytes;
}

/* Whether memory holds rows up to `end`. */
int vx_vindex_reserve(vx_vindex *v, uint64_t end);

/* What a reader sees between these stays allocated. */
uint64_t vx_epoch_enter(vx_vindex *v);
void vx_epoch_leave(vx_vindex *v, uint64_t ticket);
/* With `writer` held: freed when no reader can see it any more. */
int vx_retire(vx_vindex *v, void *what, void (*release)(void *what));
void vx_retired_free(vx_vindex *v, int all);

/* vindex_rows.c: rows in their stored form. */
void vx_row_decode(const vx_vindex *v, const void *stored, float *x);
/* The stored row to `out`, whole though it is being replaced; 1 when it was fetched from the source, 0, or an errno. */
int vx_row_copy(vx_vindex *v, uint32_t row, void *out);
/* Rotated and ready to be coded; cosine: of unit length.  Answers |x|^2 as scores need it. */
float vx_row_prepare(const vx_vindex *v, const vx_generation *g, const float *x, float *spare, float *rotated);
float vx_row_inverse_norm(const vx_vindex *v, const float *x);

/* vindex_list.c */
vx_generation *vx_generation_new(const vx_vindex *v, uint32_t lists);
void vx_generation_free(void *g);
/* Derives the coarse codes from the centroids. */
int vx_generation_finish(const vx_vindex *v, vx_generation *g);
int vx_code_new(const vx_vindex *v, vx_code *c);
void vx_code_free(vx_code *c);
void vx_encode_row(const vx_vindex *v, const float *centroid, const float *x, float square, vx_code *c);
/* With `writer` held: the row's new entry; an older one no longer counts. */
int vx_list_append(vx_vindex *v, vx_generation *g, uint32_t list, uint32_t row, const vx_code *c);
uint32_t vx_nearest_list(const vx_vindex *v, const vx_generation *g, const float *x, int8_t *spare_q, int32_t *spare);
vx_list *vx_list_new(const vx_vindex *v, uint32_t room);
/* With `writer` held: the list without its dead entries. */
int vx_list_compact(vx_vindex *v, vx_generation *g, uint32_t list);
uint32_t vx_list_dead(vx_vindex *v, vx_generation *g, uint32_t list);
/* q in steps, within -most..most; the step. */
float vx_round_query(const float *q, size_t n, int most, int8_t *out);

/* vindex_grow.c, called by put with `writer` held: the next generation will want this row (again). */
int vx_growth_note(vx_vindex *v, uint32_t row);
void vx_growth_free(vx_vindex *v);

/* -- searching --------------------------------------------------------------------------------------------------- */

typedef struct {
    float score; /* what it is at best */
    uint32_t row;
} vx_candidate;

/* The k largest scores seen, as a heap with the least of them at its root. */
typedef struct {
    float *score;
    uint32_t *row;
    uint32_t k, n;
} vx_top;

void vx_top_push(vx_top *t, float score, uint32_t row);
/* Best first; ties by row. */
void vx_top_sort(vx_top *t);

/* One query at work. */
typedef struct {
    vx_vindex *v;
    const vx_vindex_ask *ask;
    const vx_vkernels *kernels;
    vx_generation *g;
    const float *q; /* of unit length for cosine */
    float q_square, q_scale, least; /* |q|^2; 1 / |q|; the score that `threshold` asks for */
    float *rotated;
    int8_t *q8, *q7;
    uint8_t *tables;
    float *coarse;
    int32_t *coarse_i;
    uint32_t *order;
    uint8_t *stored; /* a row that was fetched */
    vx_top top, rough;
    vx_candidate *candidate;
    uint32_t candidates, candidates_room;
    uint32_t *seen; /* rows compared, a hash set */
    uint32_t seen_room;
    uint32_t lists; /* to look into at most */
    float stop, width;
    vx_vindex_work work;
    int status;
    void *memory, *big;
    size_t memory_bytes;
} vx_search;

static inline float vx_top_least(const vx_top *t)
{
    return t->n < t->k ? -__builtin_inff() : t->score[0];
}

/* Compares the row itself and keeps it when it is good enough. */
void vx_compare_row(vx_search *s, uint32_t row);
static inline int vx_wanted(const vx_search *s, uint32_t row)
{
    const vx_vindex_ask *a = s->ask;
    return vx_bit(&s->v->alive, row) &&
           (!a->mask || (row < a->mask_bits && (a->mask[row / 64] >> (row % 64) & 1)));
}
/* All rows, those of ask->only, those of the mask. */
void vx_search_exact(vx_search *s);
void vx_search_only(vx_search *s);
void vx_search_masked(vx_search *s);
void vx_search_lists(vx_search *s);
/* The rows of one query, prepared; used by calibration too. */
int vx_search_begin(vx_search *s, vx_vindex *v, const vx_vindex_ask *ask);
void vx_search_one(vx_search *s, const float *q);
void vx_search_end(vx_search *s);
#endif
