/* AVX-512 F, BW, DQ, VL: 16 floats a register, tails by mask.
 *
 * Every #include stands above the target region: a prototype first seen inside it would take its ISA. */
#include <immintrin.h>

#include "vexfs/simd_shapes.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,evex512"))),      \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif

#define TRUST_MIN 0x1p-100f
#define TRUST_MAX 0x1p100f
#define STEP 32
#define UNROLL _Pragma("GCC unroll 4")

VX_INLINE size_t width_of(int dtype)
{
    return dtype == VX_F32 ? 4 : 2;
}

/* 32 values as two registers.  The two of bf16 hold the even and the odd values, which costs a shift and a mask where
 * widening in order costs two of each; sums do not mind. */
VX_INLINE void load_f(int dtype, const uint8_t *p, __m512 v[2])
{
    if (dtype == VX_F32) {
        v[0] = _mm512_loadu_ps(p);
        v[1] = _mm512_loadu_ps(p + 64);
    } else if (dtype == VX_F16) {
        v[0] = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
        v[1] = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p + 32)));
    } else {
        const __m512i h = _mm512_loadu_si512(p);
        v[0] = _mm512_castsi512_ps(_mm512_slli_epi32(h, 16));
        v[1] = _mm512_castsi512_ps(_mm512_and_si512(h, _mm512_set1_epi32((int)0xffff0000)));
    }
}

/* The same for the values that `m` names, with zeros for the rest. */
VX_INLINE void load_tail_f(int dtype, const uint8_t *p, __mmask32 m, __m512 v[2])
{
    const __mmask16 low = (__mmask16)m, high = (__mmask16)(m >> 16);
    if (dtype == VX_F32) {
        v[0] = _mm512_maskz_loadu_ps(low, p);
        v[1] = _mm512_maskz_loadu_ps(high, p + 64);
    } else if (dtype == VX_F16) {
        v[0] = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(low, p));
        v[1] = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(high, p + 32));
    } else {
        const __m512i h = _mm512_maskz_loadu_epi16(m, p);
        v[0] = _mm512_castsi512_ps(_mm512_slli_epi32(h, 16));
        v[1] = _mm512_castsi512_ps(_mm512_and_si512(h, _mm512_set1_epi32((int)0xffff0000)));
    }
}

VX_INLINE void step_f(int metric, __m512 x, __m512 y, __m512 *ab, __m512 *bb)
{
    if (metric == VX_L2SQ) {
        const __m512 d = _mm512_sub_ps(x, y);
        *ab = _mm512_fmadd_ps(d, d, *ab);
        return;
    }
    *ab = _mm512_fmadd_ps(x, y, *ab);
    if (metric == VX_COSINE)
        *bb = _mm512_fmadd_ps(y, y, *bb);
}

VX_INLINE __m256 halves_f(__m512 v)
{
    return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}

/* The sums of four registers, side by side. */
VX_INLINE __m128 sum4_f(const __m512 v[4])
{
    const __m256 low = _mm256_hadd_ps(halves_f(v[0]), halves_f(v[1]));
    const __m256 high = _mm256_hadd_ps(halves_f(v[2]), halves_f(v[3]));
    const __m256 sums = _mm256_hadd_ps(low, high);
    return _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}

VX_INLINE __m128i sum4_i(const __m512i v[4])
{
    __m256i h[4];
    UNROLL
    for (int k = 0; k < 4; k++)
        h[k] = _mm256_add_epi32(_mm512_castsi512_si256(v[k]), _mm512_extracti64x4_epi64(v[k], 1));
    const __m256i sums = _mm256_hadd_epi32(_mm256_hadd_epi32(h[0], h[1]), _mm256_hadd_epi32(h[2], h[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}

/* The values i to i + n of four rows; n is under 32. */
VX_INLINE void part_of_four(int dtype, int metric, const uint8_t *q, const uint8_t *const row[4], size_t i, size_t n,
                            __m512 ab[4], __m512 bb[4])
{
    const size_t at = i * width_of(dtype);
    const __mmask32 m = (1u << n) - 1;
    __m512 x[2], y[2];
    load_tail_f(dtype, q + at, m, x);
    UNROLL
    for (int k = 0; k < 4; k++) {
        load_tail_f(dtype, row[k] + at, m, y);
        step_f(metric, x[0], y[0], &ab[k], &bb[k]);
        step_f(metric, x[1], y[1], &ab[k], &bb[k]);
    }
}

VX_INLINE void four_f(int dtype, int metric, const vx_query *query, const uint8_t *const row[4],
                      const uint8_t *ahead, vx_sums *s, size_t at)
{
    const size_t width = width_of(dtype);
    const uint8_t *q = query->q;
    __m512 ab[4], bb[4], x[2], y[2];
    size_t i = dtype == VX_F16 ? 0 : vx_head(row[0], width, query->dim * width);
    UNROLL
    for (int k = 0; k < 4; k++)
        ab[k] = bb[k] = _mm512_setzero_ps();
    if (i)
        part_of_four(dtype, metric, q, row, 0, i, ab, bb);
    for (; i + STEP <= query->dim; i += STEP) {
        load_f(dtype, q + i * width, x);
        UNROLL
        for (size_t k = 0; k < 4; k++) {
            if (ahead) {
                _mm_prefetch((const char *)ahead + (4 * i + k * STEP) * width, _MM_HINT_T0);
                if (dtype == VX_F32)
                    _mm_prefetch((const char *)ahead + (4 * i + k * STEP) * width + VX_LINE, _MM_HINT_T0);
            }
            load_f(dtype, row[k] + i * width, y);
            step_f(metric, x[0], y[0], &ab[k], &bb[k]);
            step_f(metric, x[1], y[1], &ab[k], &bb[k]);
        }
    }
    if (i < query->dim)
        part_of_four(dtype, metric, q, row, i, query->dim - i, ab, bb);
    _mm_storeu_ps(s->ab.f + at, sum4_f(ab));
    if (metric == VX_COSINE)
        _mm_storeu_ps(s->bb.f + at, sum4_f(bb));
}

VX_INLINE void part_of_one(int dtype, int metric, const uint8_t *q, const uint8_t *row, size_t i, size_t n,
                           __m512 ab[2], __m512 bb[2])
{
    const size_t at = i * width_of(dtype);
    const __mmask32 m = (1u << n) - 1;
    __m512 x[2], y[2];
    load_tail_f(dtype, q + at, m, x);
    load_tail_f(dtype, row + at, m, y);
    step_f(metric, x[0], y[0], &ab[0], &bb[0]);
    step_f(metric, x[1], y[1], &ab[1], &bb[1]);
}

/* Two sums, not more: the out-of-order window then reaches furthest ahead, which is what memory wants of long rows. */
VX_INLINE void one_f(int dtype, int metric, const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    const size_t width = width_of(dtype);
    const uint8_t *q = query->q;
    const __m512 zero = _mm512_setzero_ps();
    __m512 ab[2] = {zero, zero}, bb[2] = {zero, zero}, x[2], y[2];
    size_t i = dtype == VX_F16 ? 0 : vx_head(row, width, query->dim * width);
    if (i)
        part_of_one(dtype, metric, q, row, 0, i, ab, bb);
    for (; i + STEP <= query->dim; i += STEP) {
        load_f(dtype, q + i * width, x);
        load_f(dtype, row + i * width, y);
        step_f(metric, x[0], y[0], &ab[0], &bb[0]);
        step_f(metric, x[1], y[1], &ab[1], &bb[1]);
    }
    if (i < query->dim)
        part_of_one(dtype, metric, q, row, i, query->dim - i, ab, bb);
    s->ab.f[at] = _mm512_reduce_add_ps(_mm512_add_ps(ab[0], ab[1]));
    if (metric == VX_COSINE)
        s->bb.f[at] = _mm512_reduce_add_ps(_mm512_add_ps(bb[0], bb[1]));
}

VX_INLINE void step_half(int metric, __m256 x, __m256 y, __m256 *ab, __m256 *bb)
{
    if (metric == VX_L2SQ) {
        const __m256 d = _mm256_sub_ps(x, y);
        *ab = _mm256_fmadd_ps(d, d, *ab);
        return;
    }
    *ab = _mm256_fmadd_ps(x, y, *ab);
    if (metric == VX_COSINE)
        *bb = _mm256_fmadd_ps(y, y, *bb);
}

VX_INLINE __m512 whole(const __m256 half[2])
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(half[0]), half[1], 1);
}

/* For long rows that come from memory: a line a step, in halves, which prefetchers follow best.  Whole registers wait for
 * memory, and more of them a step run into misses ahead of the prefetchers. */
VX_INLINE void stream_f32(int metric, const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    const uint8_t *q = query->q;
    const __m512 zero = _mm512_setzero_ps();
    const __m256 none = _mm256_setzero_ps();
    __m512 ab[2] = {zero, zero}, bb[2] = {zero, zero};
    __m256 ab_half[2] = {none, none}, bb_half[2] = {none, none};
    size_t i = vx_head(row, 4, query->dim * 4);
    if (i)
        part_of_one(VX_F32, metric, q, row, 0, i, ab, bb);
#pragma GCC unroll 1
    for (; i + STEP / 2 <= query->dim; i += STEP / 2) {
        UNROLL
        for (size_t k = 0; k < 2; k++) {
            const size_t byte = (i + k * STEP / 4) * 4;
            step_half(metric, _mm256_loadu_ps((const float *)(const void *)(q + byte)),
                      _mm256_loadu_ps((const float *)(const void *)(row + byte)), &ab_half[k], &bb_half[k]);
        }
    }
    if (i < query->dim)
        part_of_one(VX_F32, metric, q, row, i, query->dim - i, ab, bb);
    s->ab.f[at] = _mm512_reduce_add_ps(_mm512_add_ps(whole(ab_half), _mm512_add_ps(ab[0], ab[1])));
    if (metric == VX_COSINE)
        s->bb.f[at] = _mm512_reduce_add_ps(_mm512_add_ps(whole(bb_half), _mm512_add_ps(bb[0], bb[1])));
}

#define STREAM(NAME, METRIC, FOUR)                                                                                     \
    static void NAME##_one(const vx_query *q, const uint8_t *row, vx_sums *s, size_t at)                               \
    {                                                                                                                  \
        stream_f32(METRIC == VX_L2 ? VX_L2SQ : METRIC, q, row, s, at);                                                 \
    }                                                                                                                  \
    VX_MANY(NAME, VX_F32, METRIC, 4, NAME##_one, FOUR, vx_avx512_finish_f)

#define FLOAT_ROWS(NAME, DTYPE, METRIC)                                                                                \
    static void NAME##_one(const vx_query *q, const uint8_t *row, vx_sums *s, size_t at)                               \
    {                                                                                                                  \
        one_f(DTYPE, METRIC, q, row, s, at);                                                                           \
    }                                                                                                                  \
    static void NAME##_four(const vx_query *q, const uint8_t *const row[4], const uint8_t *ahead, vx_sums *s,          \
                            size_t at)                                                                                 \
    {                                                                                                                  \
        four_f(DTYPE, METRIC, q, row, ahead, s, at);                                                                   \
    }

/* i8: 32 values a step, widened to 16 bits so that a pair of products fits; i4: 128, an unsigned row times a signed
 * query (at most 15 * 8 * 2), the row's offset of 8 taken off again by 8 times the query; b1: 512, by a table of the
 * population counts of nibbles. */
VX_INLINE size_t step_bytes(int dtype)
{
    return dtype == VX_I8 ? 32 : 64;
}

VX_INLINE __m512i load_i(int dtype, const uint8_t *p, size_t i, size_t bytes)
{
    const size_t left = bytes - i, width = step_bytes(dtype);
    const __mmask64 m = left >= width ? ~0ull >> (64 - width) : (1ull << left) - 1;
    if (dtype == VX_I8)
        return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8((__mmask32)m, p + i));
    return _mm512_maskz_loadu_epi8(m, p + i);
}

VX_INLINE __m512i by_nibble(__m512i index, __m128i table)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), index);
}

VX_INLINE void nibbles(__m512i x, __m512i *low, __m512i *high)
{
    const __m512i fifteen = _mm512_set1_epi8(15);
    *low = _mm512_and_si512(x, fifteen);
    *high = _mm512_and_si512(_mm512_srli_epi16(x, 4), fifteen);
}

VX_INLINE __m512i widen_pairs(__m512i x)
{
    return _mm512_madd_epi16(x, _mm512_set1_epi16(1));
}

VX_INLINE void step_i4(int squares, __m512i x, __m512i y, __m512i *ab, __m512i *bb)
{
    const __m512i eights = _mm512_set1_epi8(8), offset = _mm512_set1_epi8((char)0x88);
    const __m128i table = _mm_setr_epi8(64, 49, 36, 25, 16, 9, 4, 1, 0, 1, 4, 9, 16, 25, 36, 49);
    __m512i xl, xh, yl, yh;
    nibbles(_mm512_xor_si512(x, offset), &xl, &xh);
    nibbles(_mm512_xor_si512(y, offset), &yl, &yh);
    xl = _mm512_sub_epi8(xl, eights);
    xh = _mm512_sub_epi8(xh, eights);
    const __m512i products = _mm512_add_epi16(_mm512_maddubs_epi16(yl, xl), _mm512_maddubs_epi16(yh, xh));
    const __m512i surplus = _mm512_maddubs_epi16(eights, _mm512_add_epi8(xl, xh));
    *ab = _mm512_add_epi32(*ab, widen_pairs(_mm512_sub_epi16(products, surplus)));
    if (squares)
        *bb = _mm512_add_epi32(*bb, _mm512_sad_epu8(_mm512_add_epi8(by_nibble(yl, table), by_nibble(yh, table)),
                                                    _mm512_setzero_si512()));
}

VX_INLINE void step_i(int dtype, int squares, __m512i x, __m512i y, __m512i *ab, __m512i *bb)
{
    if (dtype == VX_I8) {
        *ab = _mm512_add_epi32(*ab, _mm512_madd_epi16(x, y));
        if (squares)
            *bb = _mm512_add_epi32(*bb, _mm512_madd_epi16(y, y));
    } else if (dtype == VX_I4) {
        step_i4(squares, x, y, ab, bb);
    } else {
        const __m128i table = _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
        __m512i low, high;
        nibbles(_mm512_xor_si512(x, y), &low, &high);
        const __m512i counts = _mm512_add_epi8(by_nibble(low, table), by_nibble(high, table));
        *ab = _mm512_add_epi32(*ab, _mm512_sad_epu8(counts, _mm512_setzero_si512()));
    }
}

VX_INLINE void four_i(int dtype, int squares, const vx_query *query, const uint8_t *const row[4],
                      const uint8_t *ahead, vx_sums *s, size_t at)
{
    const uint8_t *q = query->q;
    const size_t bytes = vx_row_bytes(dtype, query->dim);
    __m512i ab[4], bb[4];
    UNROLL
    for (int k = 0; k < 4; k++)
        ab[k] = bb[k] = _mm512_setzero_si512();
    for (size_t i = 0; i < bytes; i += step_bytes(dtype)) {
        const __m512i x = load_i(dtype, q, i, bytes);
        if (ahead)
            for (size_t k = 0; k < step_bytes(dtype) / 16; k++)
                _mm_prefetch((const char *)ahead + 4 * i + k * VX_LINE, _MM_HINT_T0);
        UNROLL
        for (int k = 0; k < 4; k++)
            step_i(dtype, squares, x, load_i(dtype, row[k], i, bytes), &ab[k], &bb[k]);
    }
    _mm_storeu_si128((__m128i *)(s->ab.i + at), sum4_i(ab));
    if (squares)
        _mm_storeu_si128((__m128i *)(s->bb.i + at), sum4_i(bb));
}

VX_INLINE void one_i(int dtype, int squares, const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    const size_t bytes = vx_row_bytes(dtype, query->dim);
    __m512i ab = _mm512_setzero_si512(), bb = ab;
    for (size_t i = 0; i < bytes; i += step_bytes(dtype))
        step_i(dtype, squares, load_i(dtype, query->q, i, bytes), load_i(dtype, row, i, bytes), &ab, &bb);
    s->ab.i[at] = _mm512_reduce_add_epi32(ab);
    if (squares)
        s->bb.i[at] = _mm512_reduce_add_epi32(bb);
}

#define INT_ROWS(NAME, DTYPE, SQUARES)                                                                                 \
    static void NAME##_one(const vx_query *q, const uint8_t *row, vx_sums *s, size_t at)                               \
    {                                                                                                                  \
        one_i(DTYPE, SQUARES, q, row, s, at);                                                                          \
    }                                                                                                                  \
    static void NAME##_four(const vx_query *q, const uint8_t *const row[4], const uint8_t *ahead, vx_sums *s,          \
                            size_t at)                                                                                 \
    {                                                                                                                  \
        four_i(DTYPE, SQUARES, q, row, ahead, s, at);                                                                  \
    }

/* 1 - ab / below, not under zero; NaN stays NaN, and one where there is no direction (below is zero). */
VX_INLINE __m512 cosine_of(__m512 ab, __m512 below)
{
    const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1.0f);
    const __m512 far = _mm512_max_ps(zero, _mm512_sub_ps(one, _mm512_div_ps(ab, below)));
    return _mm512_mask_mov_ps(far, _mm512_cmp_ps_mask(below, zero, _CMP_EQ_OQ), one);
}

VX_INLINE __mmask16 trusted(__m512 sum)
{
    return _mm512_cmp_ps_mask(sum, _mm512_set1_ps(TRUST_MIN), _CMP_GE_OQ) &
           _mm512_cmp_ps_mask(sum, _mm512_set1_ps(TRUST_MAX), _CMP_LE_OQ);
}

uint64_t vx_avx512_finish_f(const vx_query *query, const vx_sums *s, size_t n, float *out)
{
    uint64_t again = 0;
    const int aa_trusted = query->aa >= TRUST_MIN && query->aa <= TRUST_MAX;
    const __m512 norm = _mm512_sqrt_ps(_mm512_set1_ps(query->aa));
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 live = (__mmask16)(n - i >= 16 ? 0xffffu : (1u << (n - i)) - 1);
        const __m512 ab = _mm512_maskz_loadu_ps(live, s->ab.f + i), bb = _mm512_maskz_loadu_ps(live, s->bb.f + i);
        __m512 far = ab;
        __mmask16 good = _mm512_cmp_ps_mask(_mm512_abs_ps(ab), _mm512_set1_ps(TRUST_MAX), _CMP_LE_OQ);
        if (query->metric == VX_L2) {
            far = _mm512_sqrt_ps(ab);
            good = trusted(ab);
        } else if (query->metric == VX_COSINE) {
            far = cosine_of(ab, _mm512_mul_ps(norm, _mm512_sqrt_ps(bb)));
            good = aa_trusted ? trusted(bb) : 0;
        }
        _mm512_mask_storeu_ps(out + i, live, far);
        again |= (uint64_t)(uint16_t)(live & (__mmask16)~good) << i;
    }
    return again;
}

uint64_t vx_avx512_finish_i(const vx_query *query, const vx_sums *s, size_t n, float *out)
{
    const __m512i aa = _mm512_set1_epi32(query->aa_i);
    const __m512 norm = _mm512_sqrt_ps(_mm512_cvtepi32_ps(aa));
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 live = (__mmask16)(n - i >= 16 ? 0xffffu : (1u << (n - i)) - 1);
        const __m512i ab = _mm512_maskz_loadu_epi32(live, s->ab.i + i), bb = _mm512_maskz_loadu_epi32(live, s->bb.i + i);
        __m512 far = _mm512_cvtepi32_ps(ab);
        if (query->metric == VX_COSINE)
            far = cosine_of(far, _mm512_mul_ps(norm, _mm512_sqrt_ps(_mm512_cvtepi32_ps(bb))));
        else if (query->metric != VX_DOT) /* unsigned: a squared distance can need the 32nd bit */
            far = _mm512_cvtepu32_ps(_mm512_sub_epi32(_mm512_add_epi32(aa, bb), _mm512_slli_epi32(ab, 1)));
        if (query->metric == VX_L2)
            far = _mm512_sqrt_ps(far);
        _mm512_mask_storeu_ps(out + i, live, far);
    }
    return 0;
}

uint64_t vx_avx512_finish_b1(const vx_query *query, const vx_sums *s, size_t n, float *out)
{
    const __m512 dim = _mm512_set1_ps((float)query->dim);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 live = (__mmask16)(n - i >= 16 ? 0xffffu : (1u << (n - i)) - 1);
        __m512 far = _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(live, s->ab.i + i));
        const __m512 twice = _mm512_add_ps(far, far);
        if (query->metric == VX_DOT)
            far = _mm512_sub_ps(dim, twice);
        else if (query->metric == VX_COSINE)
            far = _mm512_div_ps(twice, dim);
        else if (query->metric == VX_L2SQ)
            far = _mm512_add_ps(twice, twice);
        else if (query->metric == VX_L2)
            far = _mm512_mul_ps(_mm512_set1_ps(2.0f), _mm512_sqrt_ps(far));
        _mm512_mask_storeu_ps(out + i, live, far);
    }
    return 0;
}

FLOAT_ROWS(f32_dot, VX_F32, VX_DOT)
FLOAT_ROWS(f32_cos, VX_F32, VX_COSINE)
FLOAT_ROWS(f32_l2, VX_F32, VX_L2SQ)
FLOAT_ROWS(f16_cos, VX_F16, VX_COSINE)
FLOAT_ROWS(bf16_dot, VX_BF16, VX_DOT)
FLOAT_ROWS(bf16_cos, VX_BF16, VX_COSINE)
FLOAT_ROWS(bf16_l2, VX_BF16, VX_L2SQ)
INT_ROWS(i8_ab, VX_I8, 0)
INT_ROWS(i8_abb, VX_I8, 1)
INT_ROWS(i4_ab, VX_I4, 0)
INT_ROWS(i4_abb, VX_I4, 1)
INT_ROWS(b1_ab, VX_B1, 0)

VX_SHAPES_FLOAT(f32, VX_F32, vx_avx512_finish_f)
STREAM(f32_dot_stream, VX_DOT, f32_dot_four)
STREAM(f32_cos_stream, VX_COSINE, f32_cos_four)
STREAM(f32_l2sq_stream, VX_L2SQ, f32_l2_four)
STREAM(f32_l2_stream, VX_L2, f32_l2_four)
VX_SHAPES(f16_vcosine, VX_F16, VX_COSINE, 4, f16_cos_one, f16_cos_four, vx_avx512_finish_f)
VX_SHAPES_FLOAT(bf16, VX_BF16, vx_avx512_finish_f)
VX_SHAPES_INT(i8, VX_I8, vx_avx512_finish_i)
VX_SHAPES_INT(i4, VX_I4, vx_avx512_finish_i)
VX_SHAPES_BITS(b1, 4, b1_ab_four, vx_avx512_finish_b1)

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

void vx_simd_fill_avx512(vx_kernels *k)
{
    VX_PUT(k->distance[VX_F32], f32);
    k->distance[VX_F32][VX_DOT].stream = f32_dot_stream_many;
    k->distance[VX_F32][VX_COSINE].stream = f32_cos_stream_many;
    k->distance[VX_F32][VX_L2SQ].stream = f32_l2sq_stream_many;
    k->distance[VX_F32][VX_L2].stream = f32_l2_stream_many;
    /* The other metrics of f16 stay with AVX2: converting to a whole register takes twice as long as to two halves. */
    k->distance[VX_F16][VX_COSINE] = f16_vcosine_shapes;
    VX_PUT(k->distance[VX_BF16], bf16);
    VX_PUT(k->distance[VX_I8], i8);
    VX_PUT(k->distance[VX_I4], i4);
    VX_PUT(k->distance[VX_B1], b1);
    k->distance[VX_B1][VX_HAMMING] = b1_vhamming_shapes;
    vx_simd_fill_avx512_codes(k);
    vx_simd_fill_avx512_cross(k);
}
