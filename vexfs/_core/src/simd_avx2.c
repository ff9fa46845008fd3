/* AVX2, FMA and F16C: 8 floats a register, tails through a zeroed buffer.
 *
 * Every #include stands above the target region: a prototype first seen inside it would take its ISA. */
#include <immintrin.h>

#include "vexfs/simd_shapes.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,popcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,popcnt")
#endif

#define TRUST_MIN 0x1p-100f
#define TRUST_MAX 0x1p100f
#define STEP 16
#define REGISTER_BYTES 32
#define UNROLL _Pragma("GCC unroll 4")

VX_INLINE size_t width_of(int dtype)
{
    return dtype == VX_F32 ? 4 : 2;
}

/* 16 values as two registers.  The two of bf16 hold the even and the odd values, which costs a shift and a mask where
 * widening in order costs two of each; sums do not mind. */
VX_INLINE void load_f(int dtype, const uint8_t *p, __m256 v[2])
{
    if (dtype == VX_F32) {
        v[0] = _mm256_loadu_ps((const float *)p);
        v[1] = _mm256_loadu_ps((const float *)(p + 32));
    } else if (dtype == VX_F16) {
        v[0] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
        v[1] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 16)));
    } else {
        const __m256i h = _mm256_loadu_si256((const __m256i *)p);
        v[0] = _mm256_castsi256_ps(_mm256_slli_epi32(h, 16));
        v[1] = _mm256_castsi256_ps(_mm256_and_si256(h, _mm256_set1_epi32((int)0xffff0000)));
    }
}

/* `n` bytes, at most 32, and zeros after them. */
VX_INLINE __m256i load_some(const uint8_t *p, size_t n)
{
    uint8_t padded[REGISTER_BYTES] = {0};
    memcpy(padded, p, n);
    return _mm256_loadu_si256((const __m256i *)padded);
}

VX_INLINE void load_tail_f(int dtype, const uint8_t *p, size_t n, __m256 v[2])
{
    uint8_t padded[2 * REGISTER_BYTES] = {0};
    memcpy(padded, p, n * width_of(dtype));
    load_f(dtype, padded, v);
}

VX_INLINE void step_f(int metric, __m256 x, __m256 y, __m256 *ab, __m256 *bb)
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

/* The sums of four registers, side by side. */
VX_INLINE __m128 sum4_f(const __m256 v[4])
{
    const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    return _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}

VX_INLINE __m128i sum4_i(const __m256i v[4])
{
    const __m256i sums = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}

/* Two sums a row and metric: fused multiply-add takes 4 cycles and two start a cycle, so eight keep it busy. */
VX_INLINE void four_f(int dtype, int metric, const vx_query *query, const uint8_t *const row[4],
                      const uint8_t *ahead, vx_sums *s, size_t at)
{
    const size_t width = width_of(dtype);
    const uint8_t *q = query->q;
    __m256 ab[8], bb[8], x[2], y[2];
    size_t i = 0;
    _Pragma("GCC unroll 8")
    for (int k = 0; k < 8; k++)
        ab[k] = bb[k] = _mm256_setzero_ps();
    for (; i + STEP <= query->dim; i += STEP) {
        load_f(dtype, q + i * width, x);
        UNROLL
        for (size_t k = 0; k < 4; k++) {
            if (ahead && k < width)
                _mm_prefetch((const char *)ahead + 4 * i * width + k * VX_LINE, _MM_HINT_T0);
            load_f(dtype, row[k] + i * width, y);
            step_f(metric, x[0], y[0], &ab[k], &bb[k]);
            step_f(metric, x[1], y[1], &ab[k + 4], &bb[k + 4]);
        }
    }
    if (i < query->dim) {
        load_tail_f(dtype, q + i * width, query->dim - i, x);
        UNROLL
        for (int k = 0; k < 4; k++) {
            load_tail_f(dtype, row[k] + i * width, query->dim - i, y);
            step_f(metric, x[0], y[0], &ab[k], &bb[k]);
            step_f(metric, x[1], y[1], &ab[k + 4], &bb[k + 4]);
        }
    }
    UNROLL
    for (int k = 0; k < 4; k++) {
        ab[k] = _mm256_add_ps(ab[k], ab[k + 4]);
        bb[k] = _mm256_add_ps(bb[k], bb[k + 4]);
    }
    _mm_storeu_ps(s->ab.f + at, sum4_f(ab));
    if (metric == VX_COSINE)
        _mm_storeu_ps(s->bb.f + at, sum4_f(bb));
}

VX_INLINE float sum_f(__m256 v)
{
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}

VX_INLINE int32_t sum_i(__m256i v)
{
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    h = _mm_add_epi32(h, _mm_unpackhi_epi64(h, h));
    return _mm_cvtsi128_si32(_mm_add_epi32(h, _mm_shuffle_epi32(h, 1)));
}

VX_INLINE void one_f(int dtype, int metric, const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    const size_t width = width_of(dtype);
    const uint8_t *q = query->q;
    __m256 ab[8], bb[8], x[2], y[2];
    size_t i = 0;
    _Pragma("GCC unroll 8")
    for (int k = 0; k < 8; k++)
        ab[k] = bb[k] = _mm256_setzero_ps();
    for (; i + 4 * STEP <= query->dim; i += 4 * STEP) {
        UNROLL
        for (size_t k = 0; k < 4; k++) {
            load_f(dtype, q + (i + k * STEP) * width, x);
            load_f(dtype, row + (i + k * STEP) * width, y);
            step_f(metric, x[0], y[0], &ab[k], &bb[k]);
            step_f(metric, x[1], y[1], &ab[k + 4], &bb[k + 4]);
        }
    }
    for (; i < query->dim; i += STEP) {
        const size_t left = query->dim - i;
        load_tail_f(dtype, q + i * width, left < STEP ? left : STEP, x);
        load_tail_f(dtype, row + i * width, left < STEP ? left : STEP, y);
        step_f(metric, x[0], y[0], &ab[0], &bb[0]);
        step_f(metric, x[1], y[1], &ab[4], &bb[4]);
    }
    for (int k = 0; k < 4; k++) {
        ab[k] = _mm256_add_ps(ab[k], ab[k + 4]);
        bb[k] = _mm256_add_ps(bb[k], bb[k + 4]);
    }
    s->ab.f[at] = sum_f(_mm256_add_ps(_mm256_add_ps(ab[0], ab[1]), _mm256_add_ps(ab[2], ab[3])));
    if (metric == VX_COSINE)
        s->bb.f[at] = sum_f(_mm256_add_ps(_mm256_add_ps(bb[0], bb[1]), _mm256_add_ps(bb[2], bb[3])));
}

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

/* i8: 16 values a step, widened to 16 bits so that a pair of products fits; i4: 64, an unsigned row times a signed
 * query (at most 15 * 8 * 2), the row's offset of 8 taken off again by 8 times the query. */
VX_INLINE size_t step_bytes(int dtype)
{
    return dtype == VX_I8 ? 16 : 32;
}

VX_INLINE __m256i load_i(int dtype, const uint8_t *p, size_t i, size_t bytes)
{
    const size_t left = bytes - i;
    if (dtype == VX_I8)
        return _mm256_cvtepi8_epi16(left >= 16 ? _mm_loadu_si128((const __m128i *)(p + i))
                                               : _mm256_castsi256_si128(load_some(p + i, left)));
    return left >= 32 ? _mm256_loadu_si256((const __m256i *)(p + i)) : load_some(p + i, left);
}

VX_INLINE __m256i by_nibble(__m256i index, __m128i table)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), index);
}

VX_INLINE void nibbles(__m256i x, __m256i *low, __m256i *high)
{
    const __m256i fifteen = _mm256_set1_epi8(15);
    *low = _mm256_and_si256(x, fifteen);
    *high = _mm256_and_si256(_mm256_srli_epi16(x, 4), fifteen);
}

VX_INLINE __m256i widen_pairs(__m256i x)
{
    return _mm256_madd_epi16(x, _mm256_set1_epi16(1));
}

VX_INLINE void step_i4(int squares, __m256i x, __m256i y, __m256i *ab, __m256i *bb)
{
    const __m256i eights = _mm256_set1_epi8(8), offset = _mm256_set1_epi8((char)0x88);
    const __m128i table = _mm_setr_epi8(64, 49, 36, 25, 16, 9, 4, 1, 0, 1, 4, 9, 16, 25, 36, 49);
    __m256i xl, xh, yl, yh;
    nibbles(_mm256_xor_si256(x, offset), &xl, &xh);
    nibbles(_mm256_xor_si256(y, offset), &yl, &yh);
    xl = _mm256_sub_epi8(xl, eights);
    xh = _mm256_sub_epi8(xh, eights);
    const __m256i products = _mm256_add_epi16(_mm256_maddubs_epi16(yl, xl), _mm256_maddubs_epi16(yh, xh));
    const __m256i surplus = _mm256_maddubs_epi16(eights, _mm256_add_epi8(xl, xh));
    *ab = _mm256_add_epi32(*ab, widen_pairs(_mm256_sub_epi16(products, surplus)));
    if (squares)
        *bb = _mm256_add_epi32(*bb, _mm256_sad_epu8(_mm256_add_epi8(by_nibble(yl, table), by_nibble(yh, table)),
                                                    _mm256_setzero_si256()));
}

VX_INLINE void step_i(int dtype, int squares, __m256i x, __m256i y, __m256i *ab, __m256i *bb)
{
    if (dtype == VX_I8) {
        *ab = _mm256_add_epi32(*ab, _mm256_madd_epi16(x, y));
        if (squares)
            *bb = _mm256_add_epi32(*bb, _mm256_madd_epi16(y, y));
    } else {
        step_i4(squares, x, y, ab, bb);
    }
}

VX_INLINE void four_i(int dtype, int squares, const vx_query *query, const uint8_t *const row[4],
                      const uint8_t *ahead, vx_sums *s, size_t at)
{
    const uint8_t *q = query->q;
    const size_t bytes = vx_row_bytes(dtype, query->dim);
    __m256i ab[4], bb[4];
    UNROLL
    for (int k = 0; k < 4; k++)
        ab[k] = bb[k] = _mm256_setzero_si256();
    for (size_t i = 0; i < bytes; i += step_bytes(dtype)) {
        const __m256i x = load_i(dtype, q, i, bytes);
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
    __m256i ab = _mm256_setzero_si256(), bb = ab;
    for (size_t i = 0; i < bytes; i += step_bytes(dtype))
        step_i(dtype, squares, load_i(dtype, query->q, i, bytes), load_i(dtype, row, i, bytes), &ab, &bb);
    s->ab.i[at] = sum_i(ab);
    if (squares)
        s->bb.i[at] = sum_i(bb);
}

/* b1: 64 bits a step by the scalar instruction, which short rows fill better than a table of nibbles fills registers. */
VX_INLINE uint64_t bits_apart(const uint8_t *a, const uint8_t *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (uint64_t)_mm_popcnt_u64(x ^ y);
}

/* The bytes after the last whole word; fewer than 8. */
VX_INLINE uint64_t rest_apart(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint64_t differ = 0;
    for (size_t i = 0; i < n; i++)
        differ += (uint64_t)_mm_popcnt_u32((uint32_t)(a[i] ^ b[i]));
    return differ;
}

static void b1_ab_one(const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    const uint8_t *q = query->q;
    const size_t bytes = vx_row_bytes(VX_B1, query->dim), whole = bytes & ~(size_t)7;
    uint64_t differ = rest_apart(q + whole, row + whole, bytes - whole);
    for (size_t i = 0; i < whole; i += 8)
        differ += bits_apart(q + i, row + i);
    s->ab.i[at] = (int32_t)differ;
}

static void b1_ab_four(const vx_query *query, const uint8_t *const *row, const uint8_t *ahead, vx_sums *s, size_t at)
{
    const uint8_t *q = query->q, *r0 = row[0], *r1 = row[1], *r2 = row[2], *r3 = row[3];
    const size_t bytes = vx_row_bytes(VX_B1, query->dim), whole = bytes & ~(size_t)7, left = bytes - whole;
    uint64_t d0 = 0, d1 = 0, d2 = 0, d3 = 0;
    (void)ahead;
    for (size_t i = 0; i < whole; i += 8) {
        d0 += bits_apart(q + i, r0 + i);
        d1 += bits_apart(q + i, r1 + i);
        d2 += bits_apart(q + i, r2 + i);
        d3 += bits_apart(q + i, r3 + i);
    }
    if (left) {
        d0 += rest_apart(q + whole, r0 + whole, left);
        d1 += rest_apart(q + whole, r1 + whole, left);
        d2 += rest_apart(q + whole, r2 + whole, left);
        d3 += rest_apart(q + whole, r3 + whole, left);
    }
    s->ab.i[at] = (int32_t)d0;
    s->ab.i[at + 1] = (int32_t)d1;
    s->ab.i[at + 2] = (int32_t)d2;
    s->ab.i[at + 3] = (int32_t)d3;
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
VX_INLINE __m256 cosine_of(__m256 ab, __m256 below)
{
    const __m256 zero = _mm256_setzero_ps(), one = _mm256_set1_ps(1.0f);
    const __m256 far = _mm256_max_ps(zero, _mm256_sub_ps(one, _mm256_div_ps(ab, below)));
    return _mm256_blendv_ps(far, one, _mm256_cmp_ps(below, zero, _CMP_EQ_OQ));
}

VX_INLINE __m256 trusted(__m256 sum)
{
    return _mm256_and_ps(_mm256_cmp_ps(sum, _mm256_set1_ps(TRUST_MIN), _CMP_GE_OQ),
                         _mm256_cmp_ps(sum, _mm256_set1_ps(TRUST_MAX), _CMP_LE_OQ));
}

/* Squared distances need all 32 bits, and AVX2 converts signed integers only: the halves are converted apart. */
VX_INLINE __m256 of_unsigned(__m256i v)
{
    const __m256 low = _mm256_cvtepi32_ps(_mm256_and_si256(v, _mm256_set1_epi32(0xffff)));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32(v, 16)), _mm256_set1_ps(65536.0f), low);
}

/* Eight sums are always read and eight distances made (the arrays are whole registers long); n of them are written. */
VX_INLINE void put(float *out, __m256 far, size_t n)
{
    float all[8];
    if (n >= 8) {
        _mm256_storeu_ps(out, far);
        return;
    }
    _mm256_storeu_ps(all, far);
    for (size_t k = 0; k < n; k++)
        out[k] = all[k];
}

static uint64_t finish_f(const vx_query *query, const vx_sums *s, size_t n, float *out)
{
    uint64_t again = 0;
    const int aa_trusted = query->aa >= TRUST_MIN && query->aa <= TRUST_MAX;
    const __m256 norm = _mm256_sqrt_ps(_mm256_set1_ps(query->aa));
    for (size_t i = 0; i < n; i += 8) {
        const __m256 ab = _mm256_loadu_ps(s->ab.f + i), bb = _mm256_loadu_ps(s->bb.f + i);
        const __m256 size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), ab);
        __m256 far = ab, good = _mm256_cmp_ps(size, _mm256_set1_ps(TRUST_MAX), _CMP_LE_OQ);
        if (query->metric == VX_L2) {
            far = _mm256_sqrt_ps(ab);
            good = trusted(ab);
        } else if (query->metric == VX_COSINE) {
            far = cosine_of(ab, _mm256_mul_ps(norm, _mm256_sqrt_ps(bb)));
            good = aa_trusted ? trusted(bb) : _mm256_setzero_ps();
        }
        put(out + i, far, n - i);
        again |= (uint64_t)(~_mm256_movemask_ps(good) & 0xff) << i;
    }
    return n < 64 ? again & ((1ull << n) - 1) : again;
}

static uint64_t finish_i(const vx_query *query, const vx_sums *s, size_t n, float *out)
{
    const __m256i aa = _mm256_set1_epi32(query->aa_i);
    const __m256 norm = _mm256_sqrt_ps(_mm256_cvtepi32_ps(aa));
    for (size_t i = 0; i < n; i += 8) {
        const __m256i ab = _mm256_loadu_si256((const __m256i *)(s->ab.i + i));
        const __m256i bb = _mm256_loadu_si256((const __m256i *)(s->bb.i + i));
        __m256 far = _mm256_cvtepi32_ps(ab);
        if (query->metric == VX_COSINE)
            far = cosine_of(far, _mm256_mul_ps(norm, _mm256_sqrt_ps(_mm256_cvtepi32_ps(bb))));
        else if (query->metric != VX_DOT)
            far = of_unsigned(_mm256_sub_epi32(_mm256_add_epi32(aa, bb), _mm256_slli_epi32(ab, 1)));
        if (query->metric == VX_L2)
            far = _mm256_sqrt_ps(far);
        put(out + i, far, n - i);
    }
    return 0;
}

static uint64_t finish_b1(const vx_query *query, const vx_sums *s, size_t n, float *out)
{
    const __m256 dim = _mm256_set1_ps((float)query->dim);
    for (size_t i = 0; i < n; i += 8) {
        __m256 far = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(s->ab.i + i)));
        const __m256 twice = _mm256_add_ps(far, far);
        if (query->metric == VX_DOT)
            far = _mm256_sub_ps(dim, twice);
        else if (query->metric == VX_COSINE)
            far = _mm256_div_ps(twice, dim);
        else if (query->metric == VX_L2SQ)
            far = _mm256_add_ps(twice, twice);
        else if (query->metric == VX_L2)
            far = _mm256_mul_ps(_mm256_set1_ps(2.0f), _mm256_sqrt_ps(far));
        put(out + i, far, n - i);
    }
    return 0;
}

FLOAT_ROWS(f32_dot, VX_F32, VX_DOT)
FLOAT_ROWS(f32_cos, VX_F32, VX_COSINE)
FLOAT_ROWS(f32_l2, VX_F32, VX_L2SQ)
FLOAT_ROWS(f16_dot, VX_F16, VX_DOT)
FLOAT_ROWS(f16_cos, VX_F16, VX_COSINE)
FLOAT_ROWS(f16_l2, VX_F16, VX_L2SQ)
FLOAT_ROWS(bf16_dot, VX_BF16, VX_DOT)
FLOAT_ROWS(bf16_cos, VX_BF16, VX_COSINE)
FLOAT_ROWS(bf16_l2, VX_BF16, VX_L2SQ)
INT_ROWS(i8_ab, VX_I8, 0)
INT_ROWS(i8_abb, VX_I8, 1)
INT_ROWS(i4_ab, VX_I4, 0)
INT_ROWS(i4_abb, VX_I4, 1)

VX_SHAPES_FLOAT(f32, VX_F32, finish_f)
VX_SHAPES_FLOAT(f16, VX_F16, finish_f)
VX_SHAPES_FLOAT(bf16, VX_BF16, finish_f)
VX_SHAPES_INT(i8, VX_I8, finish_i)
VX_SHAPES_INT(i4, VX_I4, finish_i)
VX_SHAPES_BITS(b1, 4, b1_ab_four, finish_b1)

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

void vx_simd_fill_avx2(vx_kernels *k)
{
    VX_PUT(k->distance[VX_F32], f32);
    VX_PUT(k->distance[VX_F16], f16);
    VX_PUT(k->distance[VX_BF16], bf16);
    VX_PUT(k->distance[VX_I8], i8);
    VX_PUT(k->distance[VX_I4], i4);
    VX_PUT(k->distance[VX_B1], b1);
    k->distance[VX_B1][VX_HAMMING] = b1_vhamming_shapes;
    vx_simd_fill_avx2_codes(k);
}
