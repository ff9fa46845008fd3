/* The kernels of the vector index for AVX2, FMA and F16C.
 *
 * Every #include stands above the target region: a prototype first seen inside it would take its ISA. */
#include <immintrin.h>
#include <math.h>

#include "vexfs/half.h"
#include "vindex_shapes.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,popcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,popcnt")
#endif

VX_INLINED float sum_of(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

VX_INLINED __m256 load8(int dtype, const uint8_t *p)
{
    if (dtype == VX_F32)
        return _mm256_loadu_ps((const float *)p);
    if (dtype == VX_F16)
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
    if (dtype == VX_BF16) {
        const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
        return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
    }
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

VX_INLINED __m256 step_of(int squares, __m256 q, __m256 x, __m256 scale, __m256 sum)
{
    if (!squares)
        return _mm256_fmadd_ps(q, x, sum);
    const __m256 d = _mm256_fnmadd_ps(scale, x, q);
    return _mm256_fmadd_ps(d, d, sum);
}

VX_INLINED float compare(int dtype, int squares, const float *q, const uint8_t *row, size_t dim)
{
    const size_t width = vx_width_of(dtype);
    const float scale = dtype == VX_I8 ? vx_load_f32(row + dim) : 1;
    const __m256 scales = _mm256_set1_ps(scale);
    __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t i = 0;
    for (; i + 32 <= dim; i += 32)
        for (size_t j = 0; j < 4; j++) {
            const size_t at = i + 8 * j;
            sum[j] = step_of(squares, _mm256_loadu_ps(q + at), load8(dtype, row + at * width), scales, sum[j]);
        }
    for (; i < dim; i += 8) {
        const size_t n = dim - i < 8 ? dim - i : 8;
        float some[8] = {0};
        uint8_t codes[32] = {0};
        memcpy(some, q + i, n * sizeof *q);
        memcpy(codes, row + i * width, n * width);
        sum[0] = step_of(squares, _mm256_loadu_ps(some), load8(dtype, codes), scales, sum[0]);
    }
    const float all = sum_of(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
    return squares ? all : all * scale;
}

VX_COMPARISONS(compare)

VX_INLINED __m256i look_up(__m256i line, const uint8_t *tables)
{
    const __m256i fifteen = _mm256_set1_epi8(15);
    const __m256i first = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)tables));
    const __m256i second = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(tables + 16)));
    const __m256i low = _mm256_and_si256(line, fifteen);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(line, 4), fifteen);
    return _mm256_add_epi8(_mm256_shuffle_epi8(first, low), _mm256_shuffle_epi8(second, high));
}

/* Which of eight entries reach the least, by their sums. */
VX_INLINED uint32_t sieve_8(__m256i sums, const float *numbers, const vx_sieve *sieve)
{
    const __m256 a = _mm256_add_ps(_mm256_loadu_ps(numbers), _mm256_set1_ps(sieve->add));
    const __m256 b = _mm256_loadu_ps(numbers + VX_BLOCK);
    const __m256 s = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(sieve->step), _mm256_set1_ps(sieve->base));
    const __m256 reached = _mm256_cmp_ps(_mm256_fmadd_ps(b, s, a), _mm256_set1_ps(sieve->least), _CMP_GE_OQ);
    return (uint32_t)_mm256_movemask_ps(reached);
}

/* Even and odd entries are summed apart, as 16 bits of one 32-byte line; `wide` are entries 0-7, 8-15, 16-23, 24-31. */
VX_INLINED void widen(__m256i even, __m256i odd, __m256i wide[4])
{
    const __m256i low = _mm256_unpacklo_epi16(even, odd), high = _mm256_unpackhi_epi16(even, odd);
    wide[0] = _mm256_add_epi32(wide[0], _mm256_cvtepu16_epi32(_mm256_castsi256_si128(low)));
    wide[1] = _mm256_add_epi32(wide[1], _mm256_cvtepu16_epi32(_mm256_castsi256_si128(high)));
    wide[2] = _mm256_add_epi32(wide[2], _mm256_cvtepu16_epi32(_mm256_extracti128_si256(low, 1)));
    wide[3] = _mm256_add_epi32(wide[3], _mm256_cvtepu16_epi32(_mm256_extracti128_si256(high, 1)));
}

/* Four lines make eight entries of at most 31, which a byte holds; 1024 lines of two fit 16 bits.  What comes
 * next is asked for line by line: a list seldom is longer than what the hardware takes to notice it. */
VX_INLINED void sums_of(const uint8_t *block, const uint8_t *ahead, const uint8_t *tables, size_t lines, __m256i wide[4])
{
    const __m256i bytes = _mm256_set1_epi16(255);
    wide[0] = wide[1] = wide[2] = wide[3] = _mm256_setzero_si256();
    for (size_t j = 0; j < lines;) {
        const size_t until = lines - j < 1024 ? lines : j + 1024;
        __m256i even = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
        for (; j < until; j += 4) {
            const uint8_t *line = block + j * VX_BLOCK, *table = tables + j * 32;
            _mm_prefetch((const char *)ahead + j * VX_BLOCK, _MM_HINT_T0);
            _mm_prefetch((const char *)ahead + j * VX_BLOCK + 64, _MM_HINT_T0);
            __m256i sum = look_up(_mm256_load_si256((const __m256i *)line), table);
            sum = _mm256_add_epi8(sum, look_up(_mm256_load_si256((const __m256i *)(line + 32)), table + 32));
            sum = _mm256_add_epi8(sum, look_up(_mm256_load_si256((const __m256i *)(line + 64)), table + 64));
            sum = _mm256_add_epi8(sum, look_up(_mm256_load_si256((const __m256i *)(line + 96)), table + 96));
            even = _mm256_add_epi16(even, _mm256_and_si256(sum, bytes));
            odd = _mm256_add_epi16(odd, _mm256_srli_epi16(sum, 8));
        }
        widen(even, odd, wide);
    }
}

static void scan(const uint8_t *blocks, size_t stride, size_t n, const uint8_t *ahead, const uint8_t *tables, size_t lines,
                 const vx_sieve *sieve, uint32_t *found)
{
    for (size_t b = 0; b < n; b++, blocks += stride) {
        const float *numbers = (const float *)(const void *)(blocks + lines * VX_BLOCK);
        __m256i wide[4];
        sums_of(blocks, ahead + b * stride, tables, lines, wide);
        found[b] = sieve_8(wide[0], numbers, sieve) | sieve_8(wide[1], numbers + 8, sieve) << 8 |
                   sieve_8(wide[2], numbers + 16, sieve) << 16 | sieve_8(wide[3], numbers + 24, sieve) << 24;
    }
}

static void scores(const uint8_t *blocks, size_t stride, size_t n, const uint8_t *tables, size_t lines,
                   const float *add, float step, float base, float *out)
{
    const __m256 steps = _mm256_set1_ps(step), bases = _mm256_set1_ps(base);
    for (size_t b = 0; b < n; b++, blocks += stride) {
        const float *scale = (const float *)(const void *)(blocks + lines * VX_BLOCK) + VX_BLOCK;
        __m256i wide[4];
        sums_of(blocks, blocks + stride, tables, lines, wide);
        for (size_t i = 0; i < 4; i++) {
            const __m256 s = _mm256_fmadd_ps(_mm256_cvtepi32_ps(wide[i]), steps, bases);
            const __m256 a = _mm256_loadu_ps(add + b * VX_BLOCK + 8 * i);
            _mm256_storeu_ps(out + b * VX_BLOCK + 8 * i, _mm256_fmadd_ps(_mm256_loadu_ps(scale + 8 * i), s, a));
        }
    }
}

VX_INLINED int32_t sum_of_i32(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/* Two products of 15 * 127 an addition: eight of them fit 16 bits. */
static int32_t fine(const uint8_t *code, const int8_t *q, size_t bytes)
{
    const __m256i fifteen = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256i sum = _mm256_setzero_si256();
    for (size_t at = 0; at < bytes;) {
        const size_t until = bytes - at < 128 ? bytes : at + 128;
        __m256i some = _mm256_setzero_si256();
        for (; at < until; at += 32) {
            const __m256i codes = _mm256_loadu_si256((const __m256i *)(code + at));
            const __m256i low = _mm256_and_si256(codes, fifteen);
            const __m256i high = _mm256_and_si256(_mm256_srli_epi16(codes, 4), fifteen);
            const __m256i q0 = _mm256_loadu_si256((const __m256i *)(q + 2 * at));
            const __m256i q1 = _mm256_loadu_si256((const __m256i *)(q + 2 * at + 32));
            some = _mm256_add_epi16(some, _mm256_maddubs_epi16(low, q0));
            some = _mm256_add_epi16(some, _mm256_maddubs_epi16(high, q1));
        }
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(some, ones));
    }
    return sum_of_i32(sum);
}

/* 255 * 63 * 2 fits 16 bits once, so every product of pairs is widened. */
static int32_t coarse(const int8_t *q, const uint8_t *row, size_t dim)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum = _mm256_setzero_si256(), other = _mm256_setzero_si256();
    for (size_t i = 0; i < dim; i += 64) {
        const __m256i q0 = _mm256_loadu_si256((const __m256i *)(q + i));
        const __m256i q1 = _mm256_loadu_si256((const __m256i *)(q + i + 32));
        const __m256i x0 = _mm256_loadu_si256((const __m256i *)(row + i));
        const __m256i x1 = _mm256_loadu_si256((const __m256i *)(row + i + 32));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x0, q0), ones));
        other = _mm256_add_epi32(other, _mm256_madd_epi16(_mm256_maddubs_epi16(x1, q1), ones));
    }
    return sum_of_i32(_mm256_add_epi32(sum, other));
}

VX_INLINED uint32_t reached(const float *values, size_t n, __m256 least)
{
    if (n >= 8)
        return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(values), least, _CMP_GE_OQ));
    float some[8] = {0};
    memcpy(some, values, n * sizeof *values);
    const uint32_t bits = (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(some), least, _CMP_GE_OQ));
    return bits & ((1u << n) - 1);
}

static uint32_t count(const float *values, size_t n, float least)
{
    const __m256 level = _mm256_set1_ps(least);
    uint32_t found = 0;
    for (size_t i = 0; i < n; i += 8)
        found += (uint32_t)__builtin_popcount(reached(values + i, n - i, level));
    return found;
}

static uint32_t pick(const float *values, size_t n, float least, uint32_t *out)
{
    const __m256 level = _mm256_set1_ps(least);
    uint32_t found = 0;
    for (size_t i = 0; i < n; i += 8)
        for (uint32_t bits = reached(values + i, n - i, level); bits; bits &= bits - 1)
            out[found++] = (uint32_t)i + (uint32_t)__builtin_ctz(bits);
    return found;
}

/* x + swapped in the lower places of each pair, swapped - x in the upper ones. */
#define CROSS(X, SWAPPED, UPPER) _mm256_blend_ps(_mm256_add_ps(X, SWAPPED), _mm256_sub_ps(SWAPPED, X), UPPER)

/* Strides 1, 2 and 4 within registers, 8 and 16 between them; then pairs of strides at once. */
VX_INLINED void hadamard(float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 32) {
        __m256 r[4];
        for (size_t j = 0; j < 4; j++) {
            r[j] = _mm256_loadu_ps(x + i + 8 * j);
            r[j] = CROSS(r[j], _mm256_shuffle_ps(r[j], r[j], 0xb1), 0xaa);
            r[j] = CROSS(r[j], _mm256_shuffle_ps(r[j], r[j], 0x4e), 0xcc);
            r[j] = CROSS(r[j], _mm256_permute2f128_ps(r[j], r[j], 1), 0xf0);
        }
        const __m256 a = _mm256_add_ps(r[0], r[1]), b = _mm256_sub_ps(r[0], r[1]);
        const __m256 c = _mm256_add_ps(r[2], r[3]), d = _mm256_sub_ps(r[2], r[3]);
        _mm256_storeu_ps(x + i, _mm256_add_ps(a, c));
        _mm256_storeu_ps(x + i + 8, _mm256_add_ps(b, d));
        _mm256_storeu_ps(x + i + 16, _mm256_sub_ps(a, c));
        _mm256_storeu_ps(x + i + 24, _mm256_sub_ps(b, d));
    }
    size_t h = 32;
    for (; 4 * h <= n; h *= 4)
        for (size_t at = 0; at < n; at += 4 * h)
            for (size_t i = at; i < at + h; i += 8) {
                const __m256 p = _mm256_loadu_ps(x + i), q = _mm256_loadu_ps(x + i + h);
                const __m256 r = _mm256_loadu_ps(x + i + 2 * h), s = _mm256_loadu_ps(x + i + 3 * h);
                const __m256 a = _mm256_add_ps(p, q), b = _mm256_sub_ps(p, q);
                const __m256 c = _mm256_add_ps(r, s), d = _mm256_sub_ps(r, s);
                _mm256_storeu_ps(x + i, _mm256_add_ps(a, c));
                _mm256_storeu_ps(x + i + h, _mm256_add_ps(b, d));
                _mm256_storeu_ps(x + i + 2 * h, _mm256_sub_ps(a, c));
                _mm256_storeu_ps(x + i + 3 * h, _mm256_sub_ps(b, d));
            }
    if (h < n)
        vx_butterfly(x, x + h, h);
}

/* The value where the mask is set. */
VX_INLINED __m256 where(__m256i mask, float value)
{
    return _mm256_and_ps(_mm256_castsi256_ps(mask), _mm256_set1_ps(value));
}

/* The 16 sums of four values, eight at a time. */
VX_INLINED void table_of(float least, const float *twice, uint8_t *out)
{
    const __m256i by_1 = _mm256_setr_epi32(0, -1, 0, -1, 0, -1, 0, -1), by_2 = _mm256_setr_epi32(0, 0, -1, -1, 0, 0, -1, -1);
    const __m256i by_4 = _mm256_setr_epi32(0, 0, 0, 0, -1, -1, -1, -1);
    __m256 low = _mm256_add_ps(_mm256_set1_ps(least), where(by_1, twice[0]));
    low = _mm256_add_ps(_mm256_add_ps(low, where(by_2, twice[1])), where(by_4, twice[2]));
    const __m256 high = _mm256_add_ps(low, _mm256_set1_ps(twice[3]));
    const __m256i wide = _mm256_packs_epi32(_mm256_cvttps_epi32(low), _mm256_cvttps_epi32(high));
    const __m256i value = _mm256_permute4x64_epi64(wide, 0xd8);
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(value), _mm256_extracti128_si256(value, 1));
    _mm_storeu_si128((__m128i *)out, _mm_min_epu8(bytes, _mm_set1_epi8(VX_LUT_MOST)));
}

VX_SHAPED(table_of, hadamard)
VX_SHAPED_SIGNS

static void spread(const float *values, size_t n, float *mean, float *deviation)
{
    __m256 sum = _mm256_setzero_ps(), square = _mm256_setzero_ps();
    float rest = 0, rest_square = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 x = _mm256_loadu_ps(values + i);
        sum = _mm256_add_ps(sum, x);
        square = _mm256_fmadd_ps(x, x, square);
    }
    for (; i < n; i++) {
        rest += values[i];
        rest_square += values[i] * values[i];
    }
    vx_spread(sum_of(sum) + rest, sum_of(square) + rest_square, n, mean, deviation);
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

void vx_vindex_fill_avx2(vx_vkernels *k)
{
    *k = VX_SET;
}
