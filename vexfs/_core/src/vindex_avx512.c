/* The kernels of the vector index for AVX-512 F, BW, DQ, VL: two lines of a block a register, tails by mask.
 *
 * Every #include stands above the target region: a prototype first seen inside it would take its ISA. */
#include <immintrin.h>

#include "vexfs/half.h"
#include "vindex_shapes.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,popcnt"))),       \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,popcnt")
#endif

#define LANES 16u
#define UNROLL _Pragma("GCC unroll 4")

VX_INLINED __mmask16 first_of(size_t n)
{
    return (__mmask16)(n < LANES ? (1u << n) - 1 : 0xffffu);
}

/* The values that m names, and zeros. */
VX_INLINED __m512 load16(int dtype, __mmask16 m, const uint8_t *p)
{
    if (dtype == VX_F32)
        return _mm512_maskz_loadu_ps(m, p);
    if (dtype == VX_F16)
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
    if (dtype == VX_BF16)
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, p)));
}

VX_INLINED __m512 step_of(int squares, __m512 q, __m512 x, __m512 scale, __m512 sum)
{
    if (!squares)
        return _mm512_fmadd_ps(q, x, sum);
    const __m512 d = _mm512_fnmadd_ps(scale, x, q);
    return _mm512_fmadd_ps(d, d, sum);
}

VX_INLINED float compare(int dtype, int squares, const float *q, const uint8_t *row, size_t dim)
{
    const size_t width = vx_width_of(dtype);
    const float scale = dtype == VX_I8 ? vx_load_f32(row + dim) : 1;
    const __m512 scales = _mm512_set1_ps(scale);
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    size_t i = 0;
    for (; i + 4 * LANES <= dim; i += 4 * LANES)
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            const size_t at = i + LANES * j;
            const __m512 x = load16(dtype, 0xffff, row + at * width);
            sum[j] = step_of(squares, _mm512_loadu_ps(q + at), x, scales, sum[j]);
        }
    for (; i < dim; i += LANES) {
        const __mmask16 m = first_of(dim - i);
        sum[0] = step_of(squares, _mm512_maskz_loadu_ps(m, q + i), load16(dtype, m, row + i * width), scales, sum[0]);
    }
    const __m512 all = _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3]));
    return squares ? _mm512_reduce_add_ps(all) : _mm512_reduce_add_ps(all) * scale;
}

VX_COMPARISONS(compare)

VX_INLINED __m512i look_up(__m512i lines, __m512i first, __m512i second)
{
    const __m512i fifteen = _mm512_set1_epi8(15);
    const __m512i low = _mm512_and_si512(lines, fifteen);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(lines, 4), fifteen);
    return _mm512_add_epi8(_mm512_shuffle_epi8(first, low), _mm512_shuffle_epi8(second, high));
}

/* 16-bit sums of even and of odd entries, apart for the even and the odd lines: what entries 0-15 and 16-31 come to. */
VX_INLINED void widen(__m512i even, __m512i odd, __m512i wide[2])
{
    const __m256i e = _mm256_add_epi16(_mm512_castsi512_si256(even), _mm512_extracti64x4_epi64(even, 1));
    const __m256i o = _mm256_add_epi16(_mm512_castsi512_si256(odd), _mm512_extracti64x4_epi64(odd, 1));
    /* Entries 0-7 and 16-23; 8-15 and 24-31. */
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_unpacklo_epi16(e, o));
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_unpackhi_epi16(e, o));
    wide[0] = _mm512_add_epi32(wide[0], _mm512_shuffle_i64x2(low, high, 0x44));
    wide[1] = _mm512_add_epi32(wide[1], _mm512_shuffle_i64x2(low, high, 0xee));
}

/* The sums of `blocks` blocks, one or two: two share what their tables cost to spread.  Eight lines make eight entries of at
 * most 31 in each half, which a byte holds; 512 lines leave each half within 15 bits.  What comes next is asked for line
 * by line, numbers first: a list seldom is longer than what the hardware takes to notice it. */
#define MOST_LINES 512u
VX_INLINED void sums_of(const uint8_t *block, size_t stride, const uint8_t *ahead, const uint8_t *tables, size_t lines,
                        size_t blocks, __m512i wide[][2])
{
    const __m512i bytes = _mm512_set1_epi16(255);
    for (size_t b = 0; b < blocks; b++)
        for (size_t at = lines * VX_BLOCK; at < stride; at += 64)
            _mm_prefetch((const char *)ahead + b * stride + at, _MM_HINT_T1);
    for (size_t b = 0; b < blocks; b++)
        wide[b][0] = wide[b][1] = _mm512_setzero_si512();
    for (size_t j = 0; j < lines;) {
        const size_t until = lines - j < MOST_LINES ? lines : j + MOST_LINES;
        __m512i even[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        __m512i odd[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        for (; j < until; j += 8) {
            __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
            UNROLL
            for (size_t u = 0; u < 8; u += 2) {
                const __m512i table = _mm512_load_si512(tables + (j + u) * 32);
                const __m512i first = _mm512_shuffle_i64x2(table, table, 0xa0);
                const __m512i second = _mm512_shuffle_i64x2(table, table, 0xf5);
                UNROLL
                for (size_t b = 0; b < blocks; b++) {
                    const size_t at = b * stride + (j + u) * VX_BLOCK;
                    _mm_prefetch((const char *)ahead + at, _MM_HINT_T1);
                    sum[b] = _mm512_add_epi8(sum[b], look_up(_mm512_loadu_si512(block + at), first, second));
                }
            }
            UNROLL
            for (size_t b = 0; b < blocks; b++) {
                even[b] = _mm512_add_epi16(even[b], _mm512_and_si512(sum[b], bytes));
                odd[b] = _mm512_add_epi16(odd[b], _mm512_srli_epi16(sum[b], 8));
            }
        }
        for (size_t b = 0; b < blocks; b++)
            widen(even[b], odd[b], wide[b]);
    }
}

/* Which of sixteen entries reach the least, by their sums. */
VX_INLINED uint32_t sieve_16(__m512i sums, const float *numbers, const vx_sieve *sieve)
{
    const __m512 a = _mm512_add_ps(_mm512_loadu_ps(numbers), _mm512_set1_ps(sieve->add));
    const __m512 b = _mm512_loadu_ps(numbers + VX_BLOCK);
    const __m512 s = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(sieve->step), _mm512_set1_ps(sieve->base));
    return _mm512_cmp_ps_mask(_mm512_fmadd_ps(b, s, a), _mm512_set1_ps(sieve->least), _CMP_GE_OQ);
}

VX_INLINED void scan_some(const uint8_t *block, size_t stride, size_t blocks, const uint8_t *ahead, const uint8_t *tables,
                          size_t lines, const vx_sieve *sieve, uint32_t *found)
{
    __m512i wide[2][2];
    sums_of(block, stride, ahead, tables, lines, blocks, wide);
    for (size_t b = 0; b < blocks; b++) {
        const float *numbers = (const float *)(const void *)(block + b * stride + lines * VX_BLOCK);
        found[b] = sieve_16(wide[b][0], numbers, sieve) | sieve_16(wide[b][1], numbers + LANES, sieve) << LANES;
    }
}

static void scan(const uint8_t *blocks, size_t stride, size_t n, const uint8_t *ahead, const uint8_t *tables, size_t lines,
                 const vx_sieve *sieve, uint32_t *found)
{
    size_t b = 0;
    for (; b + 2 <= n; b += 2)
        scan_some(blocks + b * stride, stride, 2, ahead + b * stride, tables, lines, sieve, found + b);
    if (b < n)
        scan_some(blocks + b * stride, stride, 1, ahead + b * stride, tables, lines, sieve, found + b);
}

VX_INLINED void score_some(const uint8_t *block, size_t stride, size_t blocks, const uint8_t *tables, size_t lines,
                           const float *add, float step, float base, float *out)
{
    const __m512 steps = _mm512_set1_ps(step), bases = _mm512_set1_ps(base);
    __m512i wide[2][2];
    sums_of(block, stride, block + blocks * stride, tables, lines, blocks, wide);
    for (size_t i = 0; i < 2 * blocks; i++) {
        const float *scale = (const float *)(const void *)(block + i / 2 * stride + lines * VX_BLOCK) + VX_BLOCK;
        const __m512 s = _mm512_fmadd_ps(_mm512_cvtepi32_ps(wide[i / 2][i % 2]), steps, bases);
        const __m512 a = _mm512_loadu_ps(add + LANES * i);
        _mm512_storeu_ps(out + LANES * i, _mm512_fmadd_ps(_mm512_loadu_ps(scale + i % 2 * LANES), s, a));
    }
}

static void scores(const uint8_t *blocks, size_t stride, size_t n, const uint8_t *tables, size_t lines,
                   const float *add, float step, float base, float *out)
{
    size_t b = 0;
    for (; b + 2 <= n; b += 2)
        score_some(blocks + b * stride, stride, 2, tables, lines, add + b * VX_BLOCK, step, base, out + b * VX_BLOCK);
    if (b < n)
        score_some(blocks + b * stride, stride, 1, tables, lines, add + b * VX_BLOCK, step, base, out + b * VX_BLOCK);
}

static uint32_t count(const float *values, size_t n, float least)
{
    const __m512 level = _mm512_set1_ps(least);
    uint32_t found = 0;
    for (size_t i = 0; i < n; i += LANES) {
        const __mmask16 m = first_of(n - i);
        const __m512 x = _mm512_maskz_loadu_ps(m, values + i);
        found += (uint32_t)__builtin_popcount(_mm512_mask_cmp_ps_mask(m, x, level, _CMP_GE_OQ));
    }
    return found;
}

static uint32_t pick(const float *values, size_t n, float least, uint32_t *out)
{
    const __m512 level = _mm512_set1_ps(least);
    __m512i at = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    uint32_t found = 0;
    for (size_t i = 0; i < n; i += LANES) {
        const __mmask16 m = first_of(n - i);
        const __m512 x = _mm512_maskz_loadu_ps(m, values + i);
        const __mmask16 bits = _mm512_mask_cmp_ps_mask(m, x, level, _CMP_GE_OQ);
        _mm512_storeu_si512(out + found, _mm512_maskz_compress_epi32(bits, at));
        found += (uint32_t)__builtin_popcount(bits);
        at = _mm512_add_epi32(at, _mm512_set1_epi32(LANES));
    }
    return found;
}

/* x + swapped where the sign is 1, swapped - x where it is -1: the product is exact. */
#define CROSS(X, SIGNS, SWAPPED) _mm512_fmadd_ps(X, SIGNS, SWAPPED)

VX_INLINED __m512 signs_of(__mmask16 minus)
{
    return _mm512_mask_blend_ps(minus, _mm512_set1_ps(1), _mm512_set1_ps(-1));
}

/* Strides 1 to 8 within registers, 16 and 32 between them; then pairs of strides at once. */
VX_INLINED void hadamard(float *x, size_t n)
{
    const __m512 by_1 = signs_of(0xaaaa), by_2 = signs_of(0xcccc), by_4 = signs_of(0xf0f0), by_8 = signs_of(0xff00);
    for (size_t i = 0; i < n; i += 4 * LANES) {
        __m512 r[4];
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            r[j] = _mm512_loadu_ps(x + i + LANES * j);
            r[j] = CROSS(r[j], by_1, _mm512_permute_ps(r[j], 0xb1));
            r[j] = CROSS(r[j], by_2, _mm512_permute_ps(r[j], 0x4e));
            r[j] = CROSS(r[j], by_4, _mm512_shuffle_f32x4(r[j], r[j], 0xb1));
            r[j] = CROSS(r[j], by_8, _mm512_shuffle_f32x4(r[j], r[j], 0x4e));
        }
        const __m512 a = _mm512_add_ps(r[0], r[1]), b = _mm512_sub_ps(r[0], r[1]);
        const __m512 c = _mm512_add_ps(r[2], r[3]), d = _mm512_sub_ps(r[2], r[3]);
        _mm512_storeu_ps(x + i, _mm512_add_ps(a, c));
        _mm512_storeu_ps(x + i + LANES, _mm512_add_ps(b, d));
        _mm512_storeu_ps(x + i + 2 * LANES, _mm512_sub_ps(a, c));
        _mm512_storeu_ps(x + i + 3 * LANES, _mm512_sub_ps(b, d));
    }
    size_t h = 4 * LANES;
    for (; 4 * h <= n; h *= 4)
        for (size_t at = 0; at < n; at += 4 * h)
            for (size_t i = at; i < at + h; i += LANES) {
                const __m512 p = _mm512_loadu_ps(x + i), q = _mm512_loadu_ps(x + i + h);
                const __m512 r = _mm512_loadu_ps(x + i + 2 * h), s = _mm512_loadu_ps(x + i + 3 * h);
                const __m512 a = _mm512_add_ps(p, q), b = _mm512_sub_ps(p, q);
                const __m512 c = _mm512_add_ps(r, s), d = _mm512_sub_ps(r, s);
                _mm512_storeu_ps(x + i, _mm512_add_ps(a, c));
                _mm512_storeu_ps(x + i + h, _mm512_add_ps(b, d));
                _mm512_storeu_ps(x + i + 2 * h, _mm512_sub_ps(a, c));
                _mm512_storeu_ps(x + i + 3 * h, _mm512_sub_ps(b, d));
            }
    if (h < n)
        vx_butterfly(x, x + h, h);
}

/* The 16 sums of four values at once. */
VX_INLINED void table_of(float least, const float *twice, uint8_t *out)
{
    __m512 sum = _mm512_set1_ps(least);
    sum = _mm512_mask_add_ps(sum, 0xaaaa, sum, _mm512_set1_ps(twice[0]));
    sum = _mm512_mask_add_ps(sum, 0xcccc, sum, _mm512_set1_ps(twice[1]));
    sum = _mm512_mask_add_ps(sum, 0xf0f0, sum, _mm512_set1_ps(twice[2]));
    sum = _mm512_mask_add_ps(sum, 0xff00, sum, _mm512_set1_ps(twice[3]));
    const __m512i value = _mm512_max_epi32(_mm512_cvttps_epi32(sum), _mm512_setzero_si512());
    const __m512i kept = _mm512_min_epi32(value, _mm512_set1_epi32(VX_LUT_MOST));
    _mm_storeu_si128((__m128i *)out, _mm512_cvtepi32_epi8(kept));
}

VX_SHAPED(table_of, hadamard)

static void spread(const float *values, size_t n, float *mean, float *deviation)
{
    __m512 sum = _mm512_setzero_ps(), square = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += LANES) {
        const __m512 x = _mm512_maskz_loadu_ps(first_of(n - i), values + i);
        sum = _mm512_add_ps(sum, x);
        square = _mm512_fmadd_ps(x, x, square);
    }
    vx_spread(_mm512_reduce_add_ps(sum), _mm512_reduce_add_ps(square), n, mean, deviation);
}

/* 255 * 63 * 2 fits 16 bits once, so every product of pairs is widened. */
static int32_t coarse(const int8_t *q, const uint8_t *row, size_t dim)
{
    const __m512i ones = _mm512_set1_epi16(1);
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < dim; i += 64) {
        const __m512i pairs = _mm512_maddubs_epi16(_mm512_loadu_si512(row + i), _mm512_loadu_si512(q + i));
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, ones));
    }
    return _mm512_reduce_add_epi32(sum);
}

static void signs(const float *x, const float *c, size_t dim, uint8_t *bits, vx_moments *m)
{
    __m512 rr = _mm512_setzero_ps(), r1 = rr, cr = rr, cs = rr, most = rr;
    for (size_t i = 0; i < dim; i += LANES) {
        const __m512 ci = _mm512_loadu_ps(c + i), r = _mm512_sub_ps(_mm512_loadu_ps(x + i), ci), size = _mm512_abs_ps(r);
        const __mmask16 plus = _mm512_cmp_ps_mask(r, _mm512_setzero_ps(), _CMP_GE_OQ);
        rr = _mm512_add_ps(rr, _mm512_mul_ps(r, r));
        r1 = _mm512_add_ps(r1, size);
        cr = _mm512_add_ps(cr, _mm512_mul_ps(ci, r));
        cs = _mm512_mask_add_ps(_mm512_sub_ps(cs, ci), plus, cs, ci);
        most = _mm512_max_ps(most, size);
        memcpy(bits + i / 8, &plus, sizeof plus);
    }
    float lane[4][LANES];
    _mm512_storeu_ps(lane[0], rr);
    _mm512_storeu_ps(lane[1], r1);
    _mm512_storeu_ps(lane[2], cr);
    _mm512_storeu_ps(lane[3], cs);
    *m = (vx_moments){vx_all(lane[0]), vx_all(lane[1]), vx_all(lane[2]), vx_all(lane[3]), _mm512_reduce_max_ps(most)};
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

/* The 4-bit codes of a row are too short for wide registers without VNNI: those of AVX2 stay. */
void vx_vindex_fill_avx512(vx_vkernels *k)
{
    int32_t (*const fine)(const uint8_t *code, const int8_t *q, size_t bytes) = k->fine;
    *k = VX_SET;
}
