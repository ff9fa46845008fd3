/* AVX-512: many-to-many of f32, as a matrix product is computed.
 *
 * A panel of 32 rows of b is laid out value by value, so that one register holds 16 rows' values, and 14 rows of a are
 * broadcast against it: 28 sums stay in registers, nothing is added across a register, and the loads (2 and 14 for 28
 * multiply-adds) stay under what the cache delivers.  Eight panels stay in L2, the block of a in L1.  The euclidean
 * distance subtracts before it squares, so it keeps its digits where the vectors are near.
 *
 * Every #include stands above the target region: a prototype first seen inside it would take its ISA. */
#include <immintrin.h>
#include <math.h>
#include <stdlib.h>

#include "vexfs/simd_shapes.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))),                   \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif

#define LANES 16
#define BLOCK 14   /* rows of a */
#define PANEL 32   /* rows of b */
#define GROUP 256  /* rows of b whose panels stay in L2 */
/* The values of a vector that one pass takes: the longest run of additions, so rounding errors stay few. */
#define DEPTH 64
#define TRUST_MIN 0x1p-100f
#define TRUST_MAX 0x1p100f

typedef struct {
    const uint8_t *a, *b;
    size_t a_stride, b_stride, dim;
    float *out;
    size_t out_stride;
    const float *a_norm, *b_norm; /* of cosine; NaN where the squared norm cannot be trusted */
} job;

/* 16 by 16 floats, turned. */
VX_INLINE void turn(__m512 r[LANES])
{
    __m512 t[LANES];
    _Pragma("GCC unroll 8")
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    _Pragma("GCC unroll 4")
    for (int i = 0; i < 4; i++) {
        const __m512d a = _mm512_castps_pd(t[4 * i]), b = _mm512_castps_pd(t[4 * i + 1]);
        const __m512d c = _mm512_castps_pd(t[4 * i + 2]), d = _mm512_castps_pd(t[4 * i + 3]);
        r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    _Pragma("GCC unroll 4")
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
    _Pragma("GCC unroll 8")
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    }
}

/* Rows 0 to n (at most 16) of `rows`, `depth` values of each: value k of row i goes to packed[k * width + i]. */
static void pack(const uint8_t *rows, size_t stride, size_t n, size_t depth, float *packed, size_t width)
{
    for (size_t k = 0; k < depth; k += LANES) {
        const size_t left = depth - k, many = left < LANES ? left : LANES;
        const __mmask16 m = (__mmask16)((1u << many) - 1);
        __m512 r[LANES];
        _Pragma("GCC unroll 16")
        for (size_t i = 0; i < LANES; i++)
            r[i] = i < n ? _mm512_maskz_loadu_ps(m, rows + i * stride + k * sizeof(float)) : _mm512_setzero_ps();
        turn(r);
        for (size_t j = 0; j < many; j++)
            _mm512_store_ps(packed + (k + j) * width, r[j]);
    }
}

VX_INLINE __m512 add_product(int metric, __m512 sum, __m512 x, __m512 y)
{
    if (metric != VX_L2SQ)
        return _mm512_fmadd_ps(x, y, sum);
    const __m512 d = _mm512_sub_ps(x, y);
    return _mm512_fmadd_ps(d, d, sum);
}

/* 14 rows of a by 32 of b over `depth` values, added to `sums` unless this is the first pass. */
VX_INLINE void multiply(int metric, const float *a, const float *b, size_t depth, int first, float *sums)
{
    __m512 low[BLOCK], high[BLOCK];
    _Pragma("GCC unroll 14")
    for (int i = 0; i < BLOCK; i++) {
        low[i] = _mm512_setzero_ps();
        high[i] = _mm512_setzero_ps();
    }
    for (size_t k = 0; k < depth; k++) {
        const __m512 b0 = _mm512_load_ps(b + k * PANEL), b1 = _mm512_load_ps(b + k * PANEL + LANES);
        _Pragma("GCC unroll 14")
        for (int i = 0; i < BLOCK; i++) {
            const __m512 x = _mm512_set1_ps(a[k * LANES + i]);
            low[i] = add_product(metric, low[i], x, b0);
            high[i] = add_product(metric, high[i], x, b1);
        }
    }
    _Pragma("GCC unroll 14")
    for (int i = 0; i < BLOCK; i++) {
        float *own = sums + i * PANEL;
        _mm512_store_ps(own, first ? low[i] : _mm512_add_ps(low[i], _mm512_load_ps(own)));
        _mm512_store_ps(own + LANES, first ? high[i] : _mm512_add_ps(high[i], _mm512_load_ps(own + LANES)));
    }
}

/* From sums to distances, for the rows i.. and j.. of a block that exist; what left the trusted range is done again. */
VX_INLINE void finish(int metric, const job *w, size_t i, size_t rows, size_t j, size_t columns, const float *sums)
{
    const __m512 most = _mm512_set1_ps(TRUST_MAX), least = _mm512_set1_ps(TRUST_MIN);
    for (size_t r = 0; r < rows; r++) {
        float *out = w->out + (i + r) * w->out_stride + j;
        for (size_t c = 0; c < columns; c += LANES) {
            const __mmask16 live = (__mmask16)(columns - c >= LANES ? 0xffffu : (1u << (columns - c)) - 1);
            __m512 far = _mm512_load_ps(sums + r * PANEL + c);
            __mmask16 good = _mm512_cmp_ps_mask(_mm512_abs_ps(far), most, _CMP_LE_OQ);
            if (metric == VX_COSINE) {
                const __m512 below = _mm512_mul_ps(_mm512_set1_ps(w->a_norm[i + r]),
                                                   _mm512_maskz_loadu_ps(live, w->b_norm + j + c));
                far = _mm512_max_ps(_mm512_setzero_ps(), _mm512_sub_ps(_mm512_set1_ps(1), _mm512_div_ps(far, below)));
                good = _mm512_cmp_ps_mask(far, most, _CMP_LE_OQ);
            } else if (metric == VX_L2) {
                good = _mm512_mask_cmp_ps_mask(good, far, least, _CMP_GE_OQ);
                far = _mm512_sqrt_ps(far);
            }
            _mm512_mask_storeu_ps(out + c, live, far);
            for (unsigned again = live & (unsigned)(__mmask16)~good; again; again &= again - 1) {
                const size_t at = c + (size_t)__builtin_ctz(again);
                out[at] = vx_simd_exact(VX_F32, metric, w->a + (i + r) * w->a_stride, w->b + (j + at) * w->b_stride,
                                        w->dim);
            }
        }
    }
}

/* Rows of a by up to GROUP rows of b.  packed_b holds those, packed_a one block, sums one block by one panel per panel;
 * vectors longer than DEPTH come here again for each of their parts, so the sums of all blocks are kept in `sums`. */
VX_INLINE void group(int metric, const job *w, size_t na, size_t j, size_t columns, float *packed_a, float *packed_b,
                     float *sums)
{
    const size_t depth_all = (w->dim + DEPTH - 1) / DEPTH;
    for (size_t i = 0; i < na; i += BLOCK) {
        const size_t rows = na - i < BLOCK ? na - i : BLOCK;
        for (size_t part = 0; part < depth_all; part++) {
            const size_t k = part * DEPTH, depth = w->dim - k < DEPTH ? w->dim - k : DEPTH;
            pack(w->a + i * w->a_stride + k * sizeof(float), w->a_stride, rows, depth, packed_a, LANES);
            for (size_t c = 0; c < columns; c += PANEL) {
                const float *panel = packed_b + (c * w->dim) + k * PANEL;
                float *own = sums + c * BLOCK;
                if (metric == VX_L2 || metric == VX_L2SQ)
                    multiply(VX_L2SQ, packed_a, panel, depth, part == 0, own);
                else
                    multiply(VX_DOT, packed_a, panel, depth, part == 0, own);
            }
        }
        for (size_t c = 0; c < columns; c += PANEL)
            finish(metric, w, i, rows, j + c, columns - c < PANEL ? columns - c : PANEL, sums + c * BLOCK);
    }
}

VX_INLINE void groups(int metric, const job *w, size_t na, size_t nb, float *packed_a, float *packed_b, float *sums)
{
    for (size_t j = 0; j < nb; j += GROUP) {
        const size_t columns = nb - j < GROUP ? nb - j : GROUP;
        for (size_t c = 0; c < (columns + PANEL - 1) / PANEL * PANEL; c += LANES) {
            const size_t left = c < columns ? columns - c : 0, rows = left < LANES ? left : LANES;
            const size_t panel = c / PANEL * PANEL;
            pack(w->b + (j + c) * w->b_stride, w->b_stride, rows, w->dim, packed_b + panel * w->dim + c % PANEL, PANEL);
        }
        group(metric, w, na, j, columns, packed_a, packed_b, sums);
    }
}

static void dispatch(int metric, const job *w, size_t na, size_t nb, float *packed_a, float *packed_b, float *sums)
{
    switch (metric) {
    case VX_DOT: groups(VX_DOT, w, na, nb, packed_a, packed_b, sums); break;
    case VX_COSINE: groups(VX_COSINE, w, na, nb, packed_a, packed_b, sums); break;
    case VX_L2SQ: groups(VX_L2SQ, w, na, nb, packed_a, packed_b, sums); break;
    default: groups(VX_L2, w, na, nb, packed_a, packed_b, sums);
    }
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

/* Square roots of the rows times themselves; NaN sends a row's distances to the exact way. */
static void norms(vx_pair_fn dot, const uint8_t *rows, size_t stride, size_t n, size_t dim, float *out)
{
    for (size_t i = 0; i < n; i++) {
        const float square = dot(rows + i * stride, rows + i * stride, dim);
        out[i] = square >= TRUST_MIN && square <= TRUST_MAX ? sqrtf(square) : NAN;
    }
}

/* Fewer rows of a than a block do not pay for packing, nor for scratch memory. */
static void cross(int metric, const void *a, size_t a_stride, size_t na, const void *b, size_t b_stride, size_t nb,
                  size_t dim, float *out, size_t out_stride)
{
    const vx_shapes *shapes = vx_kernels_of(VX_AVX512)->distance[VX_F32];
    const size_t columns = nb < GROUP ? (nb + PANEL - 1) / PANEL * PANEL : GROUP;
    const size_t a_floats = LANES * DEPTH, b_floats = columns * dim, sum_floats = columns * BLOCK;
    const size_t floats = a_floats + b_floats + sum_floats + na + nb;
    float *scratch = na < BLOCK ? NULL : aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64);
    if (!scratch) {
        vx_simd_tile(shapes[metric].many, vx_row_bytes(VX_F32, dim), a, a_stride, na, b, b_stride, nb, dim, out,
                     out_stride);
        return;
    }
    float *packed_b = scratch + a_floats, *sums = packed_b + b_floats, *a_norm = sums + sum_floats;
    const job w = {a, b, a_stride, b_stride, dim, out, out_stride, a_norm, a_norm + na};
    if (metric == VX_COSINE) {
        norms(shapes[VX_DOT].pair, a, a_stride, na, dim, a_norm);
        norms(shapes[VX_DOT].pair, b, b_stride, nb, dim, a_norm + na);
    }
    dispatch(metric, &w, na, nb, scratch, packed_b, sums);
    free(scratch);
}

#define CROSS(NAME, METRIC)                                                                                            \
    static void NAME(const void *a, size_t a_stride, size_t na, const void *b, size_t b_stride, size_t nb,             \
                     size_t dim, float *out, size_t out_stride)                                                        \
    {                                                                                                                  \
        cross(METRIC, a, a_stride, na, b, b_stride, nb, dim, out, out_stride);                                         \
    }
CROSS(cross_dot, VX_DOT)
CROSS(cross_cosine, VX_COSINE)
CROSS(cross_l2sq, VX_L2SQ)
CROSS(cross_l2, VX_L2)

void vx_simd_fill_avx512_cross(vx_kernels *k)
{
    k->distance[VX_F32][VX_DOT].cross = cross_dot;
    k->distance[VX_F32][VX_COSINE].cross = cross_cosine;
    k->distance[VX_F32][VX_L2SQ].cross = cross_l2sq;
    k->distance[VX_F32][VX_L2].cross = cross_l2;
}
