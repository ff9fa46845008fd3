/* The vector index: rows that a caller numbers, and the nearest of them.
 *
 * Rows are u32, dense from 0, reused after removal.  A stored row is the vector in the index's dtype (f32, f16, bf16; i8
 * with a float32 scale behind its values).  Over the rows stand inverted lists: each entry has a 1-bit code (scanned 32 at
 * a time), a 4-bit code (for what the scan leaves over) and its row's number; the last few are compared with the stored
 * rows themselves.  Until there are enough rows to train on, all are in one list.
 *
 * Threads: everything but free may be called at any time by any thread.  Searches wait for nobody.  put, maintain and load
 * exclude each other for short sections.  remove is one atomic operation.  A row that is being replaced while a search
 * passes may be found as it was, as it is, or, for that instant, not at all. */
#ifndef VEXFS_VINDEX_H
#define VEXFS_VINDEX_H

#include <stddef.h>
#include <stdint.h>

#include "vexfs/pool.h"
#include "vexfs/simd.h"

#define VX_VINDEX_K_MAX 10000u
#define VX_VINDEX_NONE UINT32_MAX

typedef struct vx_vindex vx_vindex;

/* Stored rows first .. first + n to `out`: 0 or a negative errno.  Called by searches, without any lock held. */
typedef int (*vx_vindex_read_fn)(void *ctx, uint32_t first, uint32_t n, void *out);
/* The bytes of a snapshot, in order: 0 or a negative errno. */
typedef int (*vx_vindex_out_fn)(void *ctx, const void *bytes, size_t n);
typedef int (*vx_vindex_in_fn)(void *ctx, void *bytes, size_t n);

/* sift: the rows of a mask by their 4-bit codes, the best of them compared. */
enum vx_vindex_plan { VX_PLAN_EMPTY, VX_PLAN_EXACT, VX_PLAN_ROWS, VX_PLAN_FLAT, VX_PLAN_LISTS, VX_PLAN_SIFT };

typedef struct {
    uint32_t k;             /* 1 to VX_VINDEX_K_MAX */
    float recall;           /* wanted on average, 0 to 1 */
    uint32_t effort;        /* lists to look into; 0: as many as `recall` takes */
    int exact;              /* 1: compare with every row; 0: never; -1: where that is cheap */
    int limited;            /* only distances <= threshold */
    float threshold;
    const uint64_t *mask;   /* bit set: the row may be found; NULL: all may.  Rows from mask_bits on may not. */
    uint64_t mask_bits;
    const uint32_t *only;   /* only these rows, compared exactly; NULL: all */
    size_t only_n;
    uint32_t threads;
} vx_vindex_ask;

/* What a search did, summed over its queries. */
typedef struct {
    uint64_t queries, lists, scanned, fine, exact, fetched;
    uint32_t plan, lists_total;
} vx_vindex_work;

typedef struct {
    uint64_t rows, codes, lists, maps, model; /* bytes: stored rows, codes in use, codes reserved, row maps, centroids */
} vx_vindex_memory;

typedef struct {
    uint64_t live, end; /* rows that can be found; one more than the highest row ever put */
    uint64_t resident;  /* stored rows in memory */
    uint64_t dead;      /* entries of removed or replaced rows that are still in lists */
    uint32_t lists, trained_rows, generation;
    uint32_t growing; /* a new generation of lists is being made */
    uint64_t puts, removes, searches;
} vx_vindex_stats;

/* 0 or -ENOMEM, -EINVAL.  The index uses `simd` and `pool` (which may be NULL) and owns neither. */
int vx_vindex_new(vx_vindex **out, uint32_t dim, int metric, int dtype, vx_simd *simd, vx_pool *pool);
void vx_vindex_free(vx_vindex *v);

size_t vx_vindex_row_bytes(const vx_vindex *v);
/* n vectors to stored rows and back.  encode: -ERANGE with *bad set for the first vector that the dtype cannot hold (a
 * value that is no number or becomes infinite). */
int vx_vindex_encode(const vx_vindex *v, const float *x, size_t n, void *stored, size_t *bad);
void vx_vindex_decode(const vx_vindex *v, const void *stored, size_t n, float *x);

/* Inserts or replaces; searchable on return.  0, -ENOMEM, -EFBIG (a row number above what can be kept). */
int vx_vindex_put(vx_vindex *v, const uint32_t *rows, const void *stored, size_t n);
/* 1 when the row was there. */
int vx_vindex_remove(vx_vindex *v, uint32_t row);
int vx_vindex_has(const vx_vindex *v, uint32_t row);
uint64_t vx_vindex_count(const vx_vindex *v);

/* nq queries of dim floats; rows and distances are nq x k, best first, filled[i] of them; work may be NULL.
 * 0, -EINVAL, -ENOMEM, or what the source of rows answered. */
int vx_vindex_search(vx_vindex *v, const float *q, size_t nq, const vx_vindex_ask *ask, uint32_t *rows, float *distances,
                     uint32_t *filled, vx_vindex_work *work);

/* About budget_ms of background work: 1 when there is more to do, 0 when not, or a negative errno. */
int vx_vindex_maintain(vx_vindex *v, uint32_t budget_ms);
/* Queries as are to come: the next lists are calibrated by them, those in use are not calibrated anew. */
void vx_vindex_expect(vx_vindex *v, const float *q, size_t nq);
/* Whether so much was asked that maintain would calibrate anew. */
int vx_vindex_may_learn(vx_vindex *v);
/* What has been learnt of queries since the last dump: its bytes, into `out` unless that is NULL; 0: nothing has. */
size_t vx_vindex_learned(vx_vindex *v, void *out);
/* The same, back again.  -ESTALE: it was learnt of other lists. */
int vx_vindex_teach(vx_vindex *v, const void *learned, size_t n);

/* Where rows that are not in memory are read.  keep 0: rows are never kept; whoever puts a row has it readable before. */
void vx_vindex_source(vx_vindex *v, vx_vindex_read_fn read, void *ctx, int keep);
/* Brings stored rows into memory; those there already stay. */
int vx_vindex_load(vx_vindex *v, uint32_t first, uint32_t n);

/* A snapshot without the stored rows; restore wants an index that was made alike and is empty: -EBADMSG when the bytes
 * are no snapshot or are damaged, -EINVAL when they belong to another kind of index. */
int vx_vindex_dump(vx_vindex *v, vx_vindex_out_fn write, void *ctx);
int vx_vindex_restore(vx_vindex *v, vx_vindex_in_fn read, void *ctx);

void vx_vindex_read_memory(vx_vindex *v, vx_vindex_memory *out);
void vx_vindex_read_stats(vx_vindex *v, vx_vindex_stats *out);
#endif
