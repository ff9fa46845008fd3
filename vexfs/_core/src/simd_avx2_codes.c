/* AVX2 and F16C: from f32 to the stored formats and back, 8 or 32 values a step; what is left goes the scalar way, which
 * gives the same codes.
 *
 * Every #include stands above the target region: a prototype first seen inside it would take its ISA. */
#include <immintrin.h>

#include "vexfs/simd_shapes.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#define LANES 8
#define BYTES_STEP 32 /* values that make a register of bytes */

static void rest_to(int dtype, const float *x, size_t done, size_t dim, float scale, uint8_t *out)
{
    if (done < dim)
        vx_kernels_of(VX_SCALAR)->quantise[dtype](x + done, dim - done, scale, out + vx_row_bytes(dtype, done));
}

static void rest_of(int dtype, const uint8_t *x, size_t done, size_t dim, float scale, float *out)
{
    if (done < dim)
        vx_kernels_of(VX_SCALAR)->dequantise[dtype](x + vx_row_bytes(dtype, done), dim - done, scale, out + done);
}

static void to_f16(const float *x, size_t dim, float scale, void *out)
{
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES) {
        const __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *)((uint8_t *)out + 2 * i), h);
    }
    rest_to(VX_F16, x, i, dim, scale, out);
}

static void to_bf16(const float *x, size_t dim, float scale, void *out)
{
    const __m256i half = _mm256_set1_epi32(0x7fff), one = _mm256_set1_epi32(1), quiet = _mm256_set1_epi32(0x40);
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES) {
        const __m256 v = _mm256_loadu_ps(x + i);
        const __m256i u = _mm256_castps_si256(v), cut = _mm256_srli_epi32(u, 16);
        const __m256i even = _mm256_add_epi32(_mm256_add_epi32(u, half), _mm256_and_si256(cut, one));
        const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        const __m256i h = _mm256_blendv_epi8(_mm256_srli_epi32(even, 16), _mm256_or_si256(cut, quiet), nan);
        const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
        _mm_storeu_si128((__m128i *)((uint8_t *)out + 2 * i), packed);
    }
    rest_to(VX_BF16, x, i, dim, scale, out);
}

/* rint(x / scale) in -most..most, NaN to 0. */
VX_INLINE __m256i rounded(const float *x, __m256 inverse, __m256 most)
{
    const __m256 y = _mm256_mul_ps(_mm256_loadu_ps(x), inverse);
    const __m256 within = _mm256_max_ps(_mm256_min_ps(y, most), _mm256_sub_ps(_mm256_setzero_ps(), most));
    return _mm256_cvtps_epi32(_mm256_and_ps(within, _mm256_cmp_ps(y, y, _CMP_ORD_Q)));
}

/* 32 codes in order: packing works on each half of a register, so the dwords are put back in place. */
VX_INLINE __m256i codes_of(const float *x, __m256 inverse, __m256 most)
{
    const __m256i low = _mm256_packs_epi32(rounded(x, inverse, most), rounded(x + LANES, inverse, most));
    const __m256i high = _mm256_packs_epi32(rounded(x + 2 * LANES, inverse, most), rounded(x + 3 * LANES, inverse, most));
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

static void to_i8(const float *x, size_t dim, float scale, void *out)
{
    const __m256 inverse = _mm256_set1_ps(1.0f / scale), most = _mm256_set1_ps(127.0f);
    size_t i = 0;
    for (; i + BYTES_STEP <= dim; i += BYTES_STEP)
        _mm256_storeu_si256((__m256i *)((uint8_t *)out + i), codes_of(x + i, inverse, most));
    rest_to(VX_I8, x, i, dim, scale, out);
}

static void to_i4(const float *x, size_t dim, float scale, void *out)
{
    const __m256 inverse = _mm256_set1_ps(1.0f / scale), most = _mm256_set1_ps(7.0f);
    size_t i = 0;
    for (; i + BYTES_STEP <= dim; i += BYTES_STEP) {
        const __m256i codes = codes_of(x + i, inverse, most);
        const __m256i low = _mm256_and_si256(codes, _mm256_set1_epi16(0x0f));
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(codes, 4), _mm256_set1_epi16(0xf0));
        const __m256i both = _mm256_or_si256(low, high);
        const __m128i packed = _mm_packus_epi16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
        _mm_storeu_si128((__m128i *)((uint8_t *)out + i / 2), packed);
    }
    rest_to(VX_I4, x, i, dim, scale, out);
}

static void to_b1(const float *x, size_t dim, float scale, void *out)
{
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES) {
        const __m256 above = _mm256_cmp_ps(_mm256_loadu_ps(x + i), _mm256_setzero_ps(), _CMP_GT_OQ);
        ((uint8_t *)out)[i / 8] = (uint8_t)_mm256_movemask_ps(above);
    }
    rest_to(VX_B1, x, i, dim, scale, out);
}

static void of_f16(const void *x, size_t dim, float scale, float *out)
{
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint8_t *)x + 2 * i))));
    rest_of(VX_F16, x, i, dim, scale, out);
}

static void of_bf16(const void *x, size_t dim, float scale, float *out)
{
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES) {
        const __m128i h = _mm_loadu_si128((const __m128i *)((const uint8_t *)x + 2 * i));
        _mm256_storeu_ps(out + i, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)));
    }
    rest_of(VX_BF16, x, i, dim, scale, out);
}

/* The low eight bytes of `codes`. */
VX_INLINE void put_scaled(float *out, __m128i codes, __m256 scale)
{
    _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)), scale));
}

static void of_i8(const void *x, size_t dim, float scale, float *out)
{
    const __m256 step = _mm256_set1_ps(scale);
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES)
        put_scaled(out + i, _mm_loadl_epi64((const __m128i *)((const uint8_t *)x + i)), step);
    rest_of(VX_I8, x, i, dim, scale, out);
}

static void of_i4(const void *x, size_t dim, float scale, float *out)
{
    const __m256 step = _mm256_set1_ps(scale);
    const __m128i fifteen = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
    size_t i = 0;
    for (; i + 2 * LANES <= dim; i += 2 * LANES) {
        const __m128i codes = _mm_loadl_epi64((const __m128i *)((const uint8_t *)x + i / 2));
        const __m128i low = _mm_xor_si128(_mm_and_si128(codes, fifteen), eight);
        const __m128i high = _mm_xor_si128(_mm_and_si128(_mm_srli_epi16(codes, 4), fifteen), eight);
        const __m128i values = _mm_sub_epi8(_mm_unpacklo_epi8(low, high), eight);
        put_scaled(out + i, values, step);
        put_scaled(out + i + LANES, _mm_unpackhi_epi64(values, values), step);
    }
    rest_of(VX_I4, x, i, dim, scale, out);
}

static void of_b1(const void *x, size_t dim, float scale, float *out)
{
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256 plus = _mm256_set1_ps(scale), minus = _mm256_set1_ps(-scale);
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES) {
        const __m256i byte = _mm256_set1_epi32(((const uint8_t *)x)[i / 8]);
        const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(byte, bit), bit);
        _mm256_storeu_ps(out + i, _mm256_blendv_ps(minus, plus, _mm256_castsi256_ps(set)));
    }
    rest_of(VX_B1, x, i, dim, scale, out);
}

#define LOOP(is, predicate)                                                                                            \
    for (size_t i = 0; i < whole; i += 64) {                                                                           \
        uint64_t word = 0;                                                                                             \
        for (size_t k = 0; k < 64; k += 4)                                                                             \
            word |= (uint64_t)(uint32_t)_mm256_movemask_pd(_mm256_cmp_pd(_mm256_loadu_pd(x + i + k), v, predicate)) << k;\
        bits[i / 64] = word;                                                                                           \
    }

static void select_rows(const double *x, size_t n, int order, double value, uint64_t *bits)
{
    const __m256d v = _mm256_set1_pd(value);
    const size_t whole = n & ~(size_t)63;
    VX_SELECT_BY_ORDER(order, LOOP)
    if (whole < n)
        vx_kernels_of(VX_SCALAR)->select(x + whole, n - whole, order, value, bits + whole / 64);
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

/* f32 to f32 is a copy at every level. */
void vx_simd_fill_avx2_codes(vx_kernels *k)
{
    const vx_quantise_fn to[] = {to_f16, to_bf16, to_i8, to_i4, to_b1};
    const vx_dequantise_fn of[] = {of_f16, of_bf16, of_i8, of_i4, of_b1};
    memcpy(&k->quantise[VX_F16], to, sizeof to);
    memcpy(&k->dequantise[VX_F16], of, sizeof of);
    k->select = select_rows;
}
