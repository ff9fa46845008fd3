/* How a block kernel becomes the four shapes; for the simd_*.c files alone.
 *
 * An ISA writes, per dtype and metric, a kernel of one row and a kernel of four rows that share the loads of the query,
 * and a finish that turns up to 64 raw sums into distances.  The functions here are always inlined, so they take the
 * ISA of the target region that instantiates VX_SHAPES in it.
 *
 * Short rows go by the block, longer ones singly (vx_long_row): four long rows at once are four streams that the
 * hardware prefetchers lose, which halves the bandwidth from memory (12 GB/s against 31 on Zen 4), while short ones gain
 * from sharing the query's loads and conversions. */
#ifndef VEXFS_SIMD_SHAPES_H
#define VEXFS_SIMD_SHAPES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vexfs/simd.h"

#define VX_INLINE static inline __attribute__((always_inline))
#define VX_CHUNK 64
/* Gathered rows are fetched this far ahead: the latency of memory times what one thread can move. */
#define VX_AHEAD_BYTES 3072
#define VX_LINE 64
/* The rows of a tile of many-to-many stay in a core's L2 cache. */
#define VX_TILE_BYTES (256u << 10)

/* Raw sums of up to 64 rows: ab is query times row, bb row times row; l2 kernels leave the squared distance in ab. */
typedef struct {
    union {
        float f[VX_CHUNK];
        int32_t i[VX_CHUNK];
    } ab, bb;
} vx_sums;

typedef struct {
    const void *q;
    size_t dim;
    int dtype, metric;
    float aa;    /* the query times itself, of float types */
    int32_t aa_i; /* of integer types */
} vx_query;

typedef struct {
    const uint8_t *rows;
    size_t stride;
    const uint32_t *ids; /* NULL: contiguous */
} vx_source;

typedef void (*vx_one_fn)(const vx_query *q, const uint8_t *row, vx_sums *s, size_t at);
/* A block of 4 or 8 rows.  `ahead` is walked line by line and prefetched, unless NULL; it is never read. */
typedef void (*vx_rows_fn)(const vx_query *q, const uint8_t *const *row, const uint8_t *ahead, vx_sums *s, size_t at);
/* Writes n distances; a set bit in the result asks for that row again, exactly. */
typedef uint64_t (*vx_finish_fn)(const vx_query *q, const vx_sums *s, size_t n, float *out);

/* The distance in f64 from beginning to end, rounded once. */
float vx_simd_exact(int dtype, int metric, const void *a, const void *b, size_t dim);
/* Tiles b, and takes `many` for each row of a. */
void vx_simd_tile(vx_many_fn many, size_t row_bytes, const void *a, size_t a_stride, size_t na, const void *b,
                  size_t b_stride, size_t nb, size_t dim, float *out, size_t out_stride);

/* The finish of plain AVX-512, for its extensions too. */
uint64_t vx_avx512_finish_f(const vx_query *query, const vx_sums *s, size_t n, float *out);
uint64_t vx_avx512_finish_i(const vx_query *query, const vx_sums *s, size_t n, float *out);
uint64_t vx_avx512_finish_b1(const vx_query *query, const vx_sums *s, size_t n, float *out);

/* Overlay the kernels of an ISA on the table of the level below. */
void vx_simd_fill_scalar(vx_kernels *k);
void vx_simd_fill_scalar_codes(vx_kernels *k);
void vx_simd_fill_neon(vx_kernels *k);
void vx_simd_fill_avx2(vx_kernels *k);
void vx_simd_fill_avx2_codes(vx_kernels *k);
void vx_simd_fill_avx512(vx_kernels *k);
void vx_simd_fill_avx512_codes(vx_kernels *k);
void vx_simd_fill_avx512_cross(vx_kernels *k);
void vx_simd_fill_avx512x(vx_kernels *k, uint32_t cpu);

/* Rows of more bytes than this go singly.  A block is up to a third faster where the caches hold the rows, and up to a
 * half slower where they do not: what computes least goes singly earliest. */
VX_INLINE size_t vx_long_row(int dtype, int metric)
{
    const int converts = dtype == VX_BF16 && metric >= VX_L2SQ;
    return dtype >= VX_I8 || converts ? 1024 : 600;
}

/* Set once: whether those go by the block, too, because this processor's prefetchers follow four rows at once. */
extern int vx_long_rows_by_block;

VX_INLINE const uint8_t *vx_row_at(const vx_source *src, size_t i)
{
    return src->rows + (src->ids ? src->ids[i] : i) * src->stride;
}

/* How many values of `width` bytes stand before the next cache line, where that is worth a step of its own: registers
 * as wide as a line that straddle two of them load at half the speed, and numpy's arrays begin 16 bytes into one.  The
 * same values may so be added in another order at another address. */
VX_INLINE size_t vx_head(const uint8_t *row, size_t width, size_t bytes)
{
    const size_t before = -(uintptr_t)row & (VX_LINE - 1);
    return before % width == 0 && bytes >= 10 * VX_LINE ? before / width : 0;
}

VX_INLINE void vx_fetch_row(const uint8_t *row, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += VX_LINE)
        __builtin_prefetch(row + at, 0, 3);
}

VX_INLINE void vx_prepare(vx_query *query, vx_one_fn one)
{
    vx_sums s;
    const int exact_sums = query->dtype >= VX_I8;
    query->aa = 0;
    query->aa_i = 0;
    if (query->dtype == VX_B1 || (!exact_sums && query->metric != VX_COSINE))
        return;
    if (query->metric == VX_DOT)
        return;
    one(query, query->q, &s, 0);
    query->aa = s.bb.f[0];
    query->aa_i = s.bb.i[0];
}

/* One pass over n rows.  `gathered` and `block` are constants where this is inlined. */
VX_INLINE void vx_scan(const vx_query *query, const vx_source *src, size_t n, float *out, int gathered, size_t block,
                       vx_one_fn one, vx_rows_fn rows, vx_finish_fn finish)
{
    const size_t bytes = vx_row_bytes(query->dtype, query->dim);
    const size_t ahead = gathered ? block * (VX_AHEAD_BYTES / (block * bytes) + 1) : 0;
    const int singly = bytes > vx_long_row(query->dtype, query->metric) && !vx_long_rows_by_block;
    const size_t blocked = singly ? 0 : n / block * block;
    const uint8_t *row[8];
    vx_sums s;
    for (size_t i = 0; gathered && i < ahead && i < n; i++)
        vx_fetch_row(vx_row_at(src, i), bytes);
    for (size_t start = 0; start < n; start += VX_CHUNK) {
        const size_t m = n - start < VX_CHUNK ? n - start : VX_CHUNK;
        size_t i = 0;
        for (; i + block <= m && start + i < blocked; i += block) {
            const size_t at = start + i;
            for (size_t k = 0; k < block; k++)
                row[k] = vx_row_at(src, at + k);
            for (size_t k = at + ahead; gathered && k < at + ahead + block && k < n; k++)
                vx_fetch_row(vx_row_at(src, k), bytes);
            rows(query, row, gathered ? NULL : row[0] + block * src->stride, &s, i);
        }
        for (; i < m; i++) {
            if (gathered && start + i + ahead < n)
                vx_fetch_row(vx_row_at(src, start + i + ahead), bytes);
            one(query, vx_row_at(src, start + i), &s, i);
        }
        uint64_t again = finish(query, &s, m, out + start);
        for (; __builtin_expect(again != 0, 0); again &= again - 1) {
            const size_t at = start + (size_t)__builtin_ctzll(again);
            out[at] = vx_simd_exact(query->dtype, query->metric, query->q, vx_row_at(src, at), query->dim);
        }
    }
}

/* NAME_many of one dtype and metric. */
#define VX_MANY(NAME, DTYPE, METRIC, BLOCK, ONE, ROWS, FINISH)                                                         \
    static void NAME##_many(const void *q, const void *rows, size_t stride, size_t n, size_t dim, float *out)          \
    {                                                                                                                  \
        vx_query query = {.q = q, .dim = dim, .dtype = DTYPE, .metric = METRIC};                                       \
        const vx_source src = {rows, stride, NULL};                                                                    \
        vx_prepare(&query, ONE);                                                                                       \
        vx_scan(&query, &src, n, out, 0, BLOCK, ONE, ROWS, FINISH);                                                    \
    }

/* NAME_pair, NAME_many, NAME_gather, NAME_cross of one dtype and metric, and NAME_shapes that names them. */
#define VX_SHAPES(NAME, DTYPE, METRIC, BLOCK, ONE, ROWS, FINISH)                                                            \
    VX_MANY(NAME, DTYPE, METRIC, BLOCK, ONE, ROWS, FINISH)                                                             \
    static void NAME##_gather(const void *q, const void *rows, size_t stride, const uint32_t *ids, size_t n,           \
                              size_t dim, float *out)                                                                  \
    {                                                                                                                  \
        vx_query query = {.q = q, .dim = dim, .dtype = DTYPE, .metric = METRIC};                                       \
        const vx_source src = {rows, stride, ids};                                                                     \
        vx_prepare(&query, ONE);                                                                                       \
        vx_scan(&query, &src, n, out, 1, BLOCK, ONE, ROWS, FINISH);                                                           \
    }                                                                                                                  \
    static float NAME##_pair(const void *a, const void *b, size_t dim)                                                 \
    {                                                                                                                  \
        vx_query query = {.q = a, .dim = dim, .dtype = DTYPE, .metric = METRIC};                                       \
        vx_sums s;                                                                                                     \
        float out;                                                                                                     \
        vx_prepare(&query, ONE);                                                                                       \
        ONE(&query, b, &s, 0);                                                                                         \
        if (FINISH(&query, &s, 1, &out))                                                                               \
            out = vx_simd_exact(DTYPE, METRIC, a, b, dim);                                                             \
        return out;                                                                                                    \
    }                                                                                                                  \
    static void NAME##_cross(const void *a, size_t a_stride, size_t na, const void *b, size_t b_stride, size_t nb,     \
                             size_t dim, float *out, size_t out_stride)                                                \
    {                                                                                                                  \
        vx_simd_tile(NAME##_many, vx_row_bytes(DTYPE, dim), a, a_stride, na, b, b_stride, nb, dim, out, out_stride);   \
    }                                                                                                                  \
    static const vx_shapes NAME##_shapes = {NAME##_pair, NAME##_many, NAME##_many, NAME##_gather, NAME##_cross};

/* The metrics of one dtype.  A float type T brings T_dot, T_cos and T_l2, an integer type T_ab and T_abb (which sums
 * the row's squares too), each as _one and _four. */
#define VX_SHAPES_FLOAT(T, DTYPE, FINISH)                                                                              \
    VX_SHAPES(T##_vdot, DTYPE, VX_DOT, 4, T##_dot_one, T##_dot_four, FINISH)                                              \
    VX_SHAPES(T##_vcosine, DTYPE, VX_COSINE, 4, T##_cos_one, T##_cos_four, FINISH)                                        \
    VX_SHAPES(T##_vl2sq, DTYPE, VX_L2SQ, 4, T##_l2_one, T##_l2_four, FINISH)                                              \
    VX_SHAPES(T##_vl2, DTYPE, VX_L2, 4, T##_l2_one, T##_l2_four, FINISH)

#define VX_SHAPES_INT(T, DTYPE, FINISH)                                                                                \
    VX_SHAPES(T##_vdot, DTYPE, VX_DOT, 4, T##_ab_one, T##_ab_four, FINISH)                                                \
    VX_SHAPES(T##_vcosine, DTYPE, VX_COSINE, 4, T##_abb_one, T##_abb_four, FINISH)                                        \
    VX_SHAPES(T##_vl2sq, DTYPE, VX_L2SQ, 4, T##_abb_one, T##_abb_four, FINISH)                                            \
    VX_SHAPES(T##_vl2, DTYPE, VX_L2, 4, T##_abb_one, T##_abb_four, FINISH)

#define VX_SHAPES_BITS(T, BLOCK, ROWS, FINISH)                                                                                      \
    VX_SHAPES(T##_vdot, VX_B1, VX_DOT, BLOCK, T##_ab_one, ROWS, FINISH)                                                \
    VX_SHAPES(T##_vcosine, VX_B1, VX_COSINE, BLOCK, T##_ab_one, ROWS, FINISH)                                          \
    VX_SHAPES(T##_vl2sq, VX_B1, VX_L2SQ, BLOCK, T##_ab_one, ROWS, FINISH)                                              \
    VX_SHAPES(T##_vl2, VX_B1, VX_L2, BLOCK, T##_ab_one, ROWS, FINISH)                                                  \
    VX_SHAPES(T##_vhamming, VX_B1, VX_HAMMING, BLOCK, T##_ab_one, ROWS, FINISH)

/* Puts those into row R of a table. */
#define VX_PUT(R, T)                                                                                                   \
    do {                                                                                                               \
        (R)[VX_DOT] = T##_vdot_shapes;                                                                                 \
        (R)[VX_COSINE] = T##_vcosine_shapes;                                                                           \
        (R)[VX_L2SQ] = T##_vl2sq_shapes;                                                                               \
        (R)[VX_L2] = T##_vl2_shapes;                                                                                   \
    } while (0)

/* A kernel's loop for each order, as C and as <immintrin.h> have it. */
#define VX_SELECT_BY_ORDER(order, LOOP)                                                                                \
    switch (order) {                                                                                                   \
    case VX_LESS: LOOP(<, _CMP_LT_OQ) break;                                                                           \
    case VX_LESS_EQUAL: LOOP(<=, _CMP_LE_OQ) break;                                                                    \
    case VX_GREATER: LOOP(>, _CMP_GT_OQ) break;                                                                        \
    case VX_GREATER_EQUAL: LOOP(>=, _CMP_GE_OQ) break;                                                                 \
    default: LOOP(==, _CMP_EQ_OQ) break;                                                                               \
    }

#endif
