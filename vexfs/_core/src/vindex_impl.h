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
/* What a 1-bit and a 4-bit estimate are off by, as a standard deviation: times the code's scale times the distance of
 * the query from what the code is measured from. */
#define VX_ERROR_1 0.6f
#define VX_ERROR_4 0.32f
/* Of a value that was rounded, in steps: near a list and far from the origin that is more than what codes leave out. */
#define VX_ROUNDED 0.29f
/* Fewer rows than this are compared one by one: training would cost more than it saves. */
#define VX_EXACT_ROWS 1500u
#define VX_TRAIN_ROWS 4000u
#define VX_LEVELS_OF_RECALL 8
#define VX_WARM_BLOCKS 8u

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

/* Memory of lists, from huge pages: pieces of whole blocks, and of each size those that were given back. */
#define VX_ARENA_SIZES 256
typedef struct {
    vx_span span;
    size_t used;
    void *free[VX_ARENA_SIZES];
} vx_arena;

/* A list's entries; replaced as a whole when it grows or is compacted.  Blocks of codes follow this head, then the rows'
 * numbers. */
typedef struct vx_list {
    _Atomic uint32_t count;
    uint32_t room; /* entries, a multiple of VX_BLOCK */
    size_t bytes;  /* of the whole allocation */
    vx_arena *arena; /* NULL: the allocator's */
    uint8_t fill[40];
} vx_list;

/* Of one block, behind its lines: what the 1-bit estimate is made with. */
typedef struct {
    float a[VX_BLOCK], b[VX_BLOCK];
} vx_entries;

/* What one level of recall takes, found by trying, for the nearest, 10 and 100: so many lists of every query; or so many as
 * come within `slack` of the worst of the k found, in lengths of the query. */
typedef struct {
    float recall;
    uint32_t lists_10, lists_100;
    float slack_1, slack_10, slack_100;
} vx_setting;

typedef struct {
    uint32_t levels; /* 0: nothing is known */
    vx_setting level[VX_LEVELS_OF_RECALL];
} vx_settings;

/* A row is in this many lists at most: the second is one that errs another way than the first. */
#define VX_PLACES 2

/* A set of lists that were trained together.  Vectors are rotated and measured from `origin`.
 * score(q, x) = <q, x> + fixed(x): fixed makes up for the origin, and holds -|x|^2 / 2 for l2. */
typedef struct vx_generation {
    uint32_t lists, trained_rows, number, places;
    float *origin;    /* padded */
    float *centroid;  /* lists x padded */
    float *square;    /* |c|^2 */
    float *radius;    /* how far rows are from c: the root of the mean square */
    float *bias;      /* what is added to <q, c> to rank lists; whole blocks of it */
    float *half;      /* the same to tell which is nearest: -|c|^2 / 2 */
    uint8_t *coarse;  /* lists x padded: the centroids in steps of coarse_step, 128 is 0 */
    float *coarse_step;
    uint8_t *signs;   /* the centroids' 1-bit codes, in blocks as a list has them */
    _Atomic(vx_list *) *list;
    vx_arena *arena;
    vx_span place;    /* per row: VX_PLACES numbers of lists, plus one; 0 for none */
    vx_span fine;     /* per row: padded / 2 bytes of 4-bit codes, then a and b of their estimate */
    _Atomic(vx_settings *) settings;
} vx_generation;

/* -- the index -------------------------------------------------------------------------------------------------- */

typedef struct vx_retired {
    struct vx_retired *next;
    uint64_t epoch;
    void *what;
    void (*release)(void *what);
} vx_retired;

typedef struct vx_growth vx_growth;
typedef struct vx_learning vx_learning;

/* The last queries that were asked, each once. */
#define VX_RECENT 256u
typedef struct {
    pthread_mutex_t lock;
    float *query;
    uint64_t mark[VX_RECENT]; /* tells them apart */
    uint32_t n, has_news; /* news: what was learnt is in no snapshot; under `writer` */
    _Atomic uint64_t seen, learned; /* so far, and when calibration last looked at them */
    _Atomic uint32_t calls;         /* since there are enough */
    _Atomic uint64_t rests_until;   /* what that took is to be a small part of the time */
} vx_recent;

struct vx_vindex {
    uint32_t dim, padded;
    int metric, dtype;
    size_t row_bytes, code_lines, block_bytes, fine_bytes;
    vx_simd *simd;
    vx_pool *pool;
    vx_rotation rotation;

    pthread_mutex_t writer;      /* puts and everything that changes lists */
    pthread_mutex_t maintenance; /* one maintain at a time */
    _Atomic(vx_generation *) generation;
    vx_learning *learning; /* the calibration of the lists in use, while it is made anew; under `maintenance` */
    vx_growth *growth; /* the next generation while it is being made; under `maintenance`, its queue under `writer` */

    vx_span rows, alive, resident, norm;
    _Atomic uint64_t live, end, resident_rows, dead;
    _Atomic uint64_t writing; /* odd while any row is being written */
    _Atomic uint32_t stripe[256]; /* odd while a row of that stripe is being written */

    vx_vindex_read_fn read;
    void *read_ctx;
    int keep;

    _Atomic uint64_t epoch;
    vx_retired *retired, **retired_end; /* oldest first; under `writer` */
    struct {
        _Alignas(64) _Atomic uint32_t in[2];
    } readers[VX_EPOCH_SHARDS];
    _Atomic uint64_t puts, removes, searches;
    uint64_t puts_trained; /* puts when the lists were trained */
    vx_recent recent;
};

static inline const vx_vkernels *vx_vkernels_in(const vx_vindex *v)
{
    return vx_vkernels_of(vx_simd_kernels(v->simd)->level);
}

static inline uint8_t *vx_block(const vx_vindex *v, const vx_list *l, uint32_t block)
{
    return (uint8_t *)(uintptr_t)(l + 1) + block * v->block_bytes;
}

static inline vx_entries *vx_entries_of(const vx_vindex *v, const vx_list *l, uint32_t block)
{
    return (vx_entries *)(void *)(vx_block(v, l, block) + v->code_lines * VX_BLOCK);
}

static inline _Atomic uint32_t *vx_rows_of(const vx_vindex *v, const vx_list *l)
{
    return (_Atomic uint32_t *)(void *)vx_block(v, l, l->room / VX_BLOCK);
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

static inline uint32_t *vx_place(const vx_generation *g, uint32_t row)
{
    return (uint32_t *)(void *)g->place.at + (size_t)row * VX_PLACES;
}

static inline uint8_t *vx_fine(const vx_vindex *v, const vx_generation *g, uint32_t row)
{
    return g->fine.at + row * v->fine_bytes;
}

/* Rows below may have codes: those that were put since other lists took the place of these have no room for any here. */
static inline uint64_t vx_coded(const vx_vindex *v, const vx_generation *g)
{
    const uint64_t end = atomic_load(&v->end), room = atomic_load(&g->fine.bytes) / v->fine_bytes;
    return end < room ? end : room;
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
/* Rotated, measured from the origin, of unit length for cosine: into `rotated`; answers fixed(x). */
float vx_row_prepare(const vx_vindex *v, const vx_generation *g, const float *x, float *spare, float *rotated);
float vx_row_inverse_norm(const vx_vindex *v, const float *x);

/* A number below another. */
static inline uint64_t vx_drawn(uint64_t *random, uint64_t below)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (*random >> 33) * below >> 31;
}

/* The row's values to `raw`, by way of `stored`: 1, 0 when it is gone, or why it cannot be read. */
int vx_row_load(vx_vindex *v, uint32_t row, uint8_t *stored, float *raw);

/* vindex_probe.c: the lists that are nearest to a vector. */
typedef struct {
    float *x; /* padded: rotated, from the origin */
    float square, step, base; /* |x|^2; how sums of the tables become products */
    uint8_t *tables;
    int8_t *q7;
    float *key;        /* of every list, estimated; room for whole blocks */
    uint32_t *list;    /* chosen, best first, to the width of a bucket of keys */
    float *product;    /* <x, c> of those */
    uint32_t *order;   /* scratch */
    uint32_t n;
    float bucket;
    float step_7; /* of q7 */
} vx_probe;

size_t vx_probe_bytes(const vx_vindex *v, uint32_t lists);
void vx_probe_carve(vx_probe *p, const vx_vindex *v, uint32_t lists, uint8_t *memory);
/* From p->x. */
void vx_probe_begin(vx_probe *p, const vx_vindex *v);
/* At least `want` lists, where there are so many: by rank for searches, else by distance. */
void vx_probe_choose(vx_probe *p, const vx_vindex *v, const vx_generation *g, uint32_t want, int ranked);

/* vindex_code.c */
typedef struct {
    float a, b;
    uint8_t *lines; /* padded / 8 */
} vx_code;

/* What takes a row into a generation: one thread's. */
typedef struct {
    vx_probe probe;
    float *raw, *spare;
    float fixed;
    uint32_t list[VX_PLACES], places; /* where the row belongs */
    vx_code code[VX_PLACES];
    uint8_t *fine;
    uint8_t *memory;
    uint32_t lists; /* that there is room for */
} vx_bench;

int vx_bench_room(vx_bench *b, const vx_vindex *v, uint32_t lists);
void vx_bench_free(vx_bench *b);
/* All of a row's codes from b->raw. */
void vx_bench_encode(vx_bench *b, const vx_vindex *v, const vx_generation *g);
void vx_encode_signs(const vx_vindex *v, const float *centroid, const float *x, float fixed, vx_code *c);

/* vindex_list.c */
vx_generation *vx_generation_new(const vx_vindex *v, uint32_t lists);
void vx_generation_free(void *g);
/* Derives from the centroids what searches read. */
void vx_generation_finish(const vx_vindex *v, vx_generation *g);
int vx_generation_reserve(const vx_vindex *v, vx_generation *g, uint64_t end);
/* With `writer` held: the row as b holds it; entries of what it was before no longer count. */
int vx_generation_enter(vx_vindex *v, vx_generation *g, uint32_t row, const vx_bench *b);
vx_list *vx_list_new(const vx_vindex *v, vx_arena *arena, uint32_t room);
vx_arena *vx_arena_new(const vx_vindex *v);
void vx_arena_free(void *what);
/* With `writer` held: the list without its dead entries. */
int vx_list_compact(vx_vindex *v, vx_generation *g, uint32_t list);
uint32_t vx_list_dead(vx_vindex *v, vx_generation *g, uint32_t list);

/* vindex_grow.c, called by put with `writer` held: the next generation will want this row (again). */
int vx_growth_note(vx_vindex *v, uint32_t row);
void vx_growth_free(vx_vindex *v);

/* vindex_recent.c: queries to calibrate with. */
void vx_recent_note(vx_vindex *v, const float *q, size_t nq);
/* The i-th of those kept; 0 when they are fewer. */
int vx_recent_copy(vx_vindex *v, uint32_t i, float *q);
/* A step of calibrating the lists in use anew, under `maintenance`: 1 while there is more, 0, or an errno. */
int vx_learn_step(vx_vindex *v);
void vx_learn_free(vx_vindex *v);

/* vindex_calibrate.c: how many lists a level of recall takes, found with what was asked, and else with the index's rows. */
#define VX_CALIBRATION_ROWS 400u
#define VX_NEIGHBOURS 100u
/* Where a neighbour is: in the list of that rank first, which is that far below the worst of the k. */
typedef struct {
    float slack;
    uint32_t rank;
} vx_near;

typedef struct {
    uint32_t tried, most, asked, n_1, n_10, n_100; /* queries and rows, so far and in all; queries of them */
    uint64_t random;
    uint8_t *stored;
    vx_near *near_1, *near_10, *near_100;
    uint32_t *position; /* of every list in the order of a query */
    /* Of the row at work: its neighbours, later their ranks; their scores. */
    uint32_t row[VX_NEIGHBOURS + 1];
    float score[VX_NEIGHBOURS + 1];
} vx_calibration;

int vx_calibration_begin(vx_calibration *c, const vx_vindex *v, uint32_t lists);
/* One query or row, which may take milliseconds: 1 while there are more, 0, or why a row cannot be read. */
int vx_calibration_step(vx_calibration *c, vx_vindex *v, vx_generation *g, vx_bench *b);
void vx_calibration_end(vx_calibration *c, const vx_generation *g, vx_settings *out);
void vx_calibration_free(vx_calibration *c);
/* Of a query that falls short of its slack, at most so many times the lists. */
#define VX_LISTS_MOST 2u
/* The lists that k neighbours take, each a row in `share` of all, 0 when nothing is known; and the slack, infinite then. */
uint32_t vx_calibrated_lists(const vx_generation *g, float recall, float k, float share);
float vx_calibrated_slack(const vx_generation *g, float recall, float k, float share);

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
    vx_probe probe;
    int8_t *q8;
    float *warm;     /* scores of the blocks that a search begins with */
    uint8_t *stored; /* a row that was fetched */
    vx_top top, rough;
    vx_candidate *candidate;
    uint32_t candidates, candidates_room;
    uint64_t *seen; /* rows looked at by this query: a hash set of turn << 32 | row */
    uint32_t seen_room, seen_n, turn;
    uint32_t lists, lists_most; /* to look into: where the slack is infinite, and at most */
    float slack, share; /* share: of all rows, that the mask lets through */
    float width;
    vx_vindex_work work;
    int status;
    void *memory;
    size_t memory_bytes;
} vx_search;

static inline float vx_top_least(const vx_top *t)
{
    return t->n < t->k ? -__builtin_inff() : t->score[0];
}

/* Compares the row itself and keeps it when it is good enough. */
void vx_compare_row(vx_search *s, uint32_t row);
/* 64 rows: those that are there and that the mask lets through. */
uint64_t vx_wanted_word(const vx_search *s, uint32_t word);
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
/* Those of the mask by their 4-bit codes first. */
void vx_search_sifted(vx_search *s);
void vx_search_lists(vx_search *s);
/* The rows of one query, prepared; used by calibration too. */
int vx_search_begin(vx_search *s, vx_vindex *v, const vx_vindex_ask *ask);
void vx_search_one(vx_search *s, const float *q);
void vx_search_end(vx_search *s);
#endif
