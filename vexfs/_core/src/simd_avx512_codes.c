/* AVX-512: from f32 to the stored formats and back, 16 or 32 values a step; what is left goes the scalar way, which
 * gives the same codes.
 *
 * Every #include stands above the target region: a prototype first seen inside it would take its ISA. */
#include <immintrin.h>

#include "vexfs/simd_shapes.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))),              \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif

#define LANES 16

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
        const __m256i h = _mm512_cvtps_ph(_mm512_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm256_storeu_si256((__m256i *)((uint8_t *)out + 2 * i), h);
    }
    rest_to(VX_F16, x, i, dim, scale, out);
}

static void to_bf16(const float *x, size_t dim, float scale, void *out)
{
    const __m512i half = _mm512_set1_epi32(0x7fff), one = _mm512_set1_epi32(1), quiet = _mm512_set1_epi32(0x40);
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES) {
        const __m512 v = _mm512_loadu_ps(x + i);
        const __m512i u = _mm512_castps_si512(v), cut = _mm512_srli_epi32(u, 16);
        const __m512i even = _mm512_add_epi32(_mm512_add_epi32(u, half), _mm512_and_si512(cut, one));
        const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        const __m512i h = _mm512_mask_or_epi32(_mm512_srli_epi32(even, 16), nan, cut, quiet);
        _mm256_storeu_si256((__m256i *)((uint8_t *)out + 2 * i), _mm512_cvtepi32_epi16(h));
    }
    rest_to(VX_BF16, x, i, dim, scale, out);
}

/* rint(x / scale) in -most..most, NaN to 0. */
VX_INLINE __m512i rounded(const float *x, __m512 inverse, __m512 most)
{
    const __m512 y = _mm512_mul_ps(_mm512_loadu_ps(x), inverse);
    const __m512 within = _mm512_max_ps(_mm512_min_ps(y, most), _mm512_sub_ps(_mm512_setzero_ps(), most));
    return _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask(y, y, _CMP_ORD_Q), within);
}

static void to_i8(const float *x, size_t dim, float scale, void *out)
{
    const __m512 inverse = _mm512_set1_ps(1.0f / scale), most = _mm512_set1_ps(127.0f);
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES)
        _mm_storeu_si128((__m128i *)((uint8_t *)out + i), _mm512_cvtepi32_epi8(rounded(x + i, inverse, most)));
    rest_to(VX_I8, x, i, dim, scale, out);
}

static void to_i4(const float *x, size_t dim, float scale, void *out)
{
    const __m512 inverse = _mm512_set1_ps(1.0f / scale), most = _mm512_set1_ps(7.0f);
    size_t i = 0;
    for (; i + 2 * LANES <= dim; i += 2 * LANES) {
        const __m128i first = _mm512_cvtepi32_epi8(rounded(x + i, inverse, most));
        const __m128i second = _mm512_cvtepi32_epi8(rounded(x + i + LANES, inverse, most));
        const __m256i codes = _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
        const __m256i low = _mm256_and_si256(codes, _mm256_set1_epi16(0x0f));
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(codes, 4), _mm256_set1_epi16(0xf0));
        _mm_storeu_si128((__m128i *)((uint8_t *)out + i / 2), _mm256_cvtepi16_epi8(_mm256_or_si256(low, high)));
    }
    rest_to(VX_I4, x, i, dim, scale, out);
}

static void to_b1(const float *x, size_t dim, float scale, void *out)
{
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES) {
        const uint16_t bits = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), _mm512_setzero_ps(), _CMP_GT_OQ);
        memcpy((uint8_t *)out + i / 8, &bits, sizeof bits);
    }
    rest_to(VX_B1, x, i, dim, scale, out);
}

static void of_f16(const void *x, size_t dim, float scale, float *out)
{
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES)
        _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)((const uint8_t *)x + 2 * i))));
    rest_of(VX_F16, x, i, dim, scale, out);
}

static void of_bf16(const void *x, size_t dim, float scale, float *out)
{
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES) {
        const __m256i h = _mm256_loadu_si256((const __m256i *)((const uint8_t *)x + 2 * i));
        _mm512_storeu_ps(out + i, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)));
    }
    rest_of(VX_BF16, x, i, dim, scale, out);
}

VX_INLINE void put_scaled(float *out, __m128i codes, __m512 scale)
{
    _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)), scale));
}

static void of_i8(const void *x, size_t dim, float scale, float *out)
{
    const __m512 step = _mm512_set1_ps(scale);
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES)
        put_scaled(out + i, _mm_loadu_si128((const __m128i *)((const uint8_t *)x + i)), step);
    rest_of(VX_I8, x, i, dim, scale, out);
}

static void of_i4(const void *x, size_t dim, float scale, float *out)
{
    const __m512 step = _mm512_set1_ps(scale);
    const __m128i fifteen = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
    size_t i = 0;
    for (; i + 2 * LANES <= dim; i += 2 * LANES) {
        const __m128i codes = _mm_loadu_si128((const __m128i *)((const uint8_t *)x + i / 2));
        const __m128i low = _mm_xor_si128(_mm_and_si128(codes, fifteen), eight);
        const __m128i high = _mm_xor_si128(_mm_and_si128(_mm_srli_epi16(codes, 4), fifteen), eight);
        put_scaled(out + i, _mm_sub_epi8(_mm_unpacklo_epi8(low, high), eight), step);
        put_scaled(out + i + LANES, _mm_sub_epi8(_mm_unpackhi_epi8(low, high), eight), step);
    }
    rest_of(VX_I4, x, i, dim, scale, out);
}

static void of_b1(const void *x, size_t dim, float scale, float *out)
{
    const __m512 plus = _mm512_set1_ps(scale), minus = _mm512_set1_ps(-scale);
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES) {
        uint16_t bits;
        memcpy(&bits, (const uint8_t *)x + i / 8, sizeof bits);
        _mm512_storeu_ps(out + i, _mm512_mask_blend_ps(bits, minus, plus));
    }
    rest_of(VX_B1, x, i, dim, scale, out);
}

#define LOOP(is, predicate)                                                                                            \
    for (size_t i = 0; i < whole; i += 64) {                                                                           \
        uint64_t word = 0;                                                                                             \
        for (size_t k = 0; k < 64; k += 8)                                                                             \
            word |= (uint64_t)_mm512_cmp_pd_mask(_mm512_loadu_pd(x + i + k), v, predicate) << k;                       \
        bits[i / 64] = word;                                                                                           \
    }

static void select_rows(const double *x, size_t n, int order, double value, uint64_t *bits)
{
    const __m512d v = _mm512_set1_pd(value);
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
void vx_simd_fill_avx512_codes(vx_kernels *k)
{
    const vx_quantise_fn to[] = {to_f16, to_bf16, to_i8, to_i4, to_b1};
    const vx_dequantise_fn of[] = {of_f16, of_bf16, of_i8, of_i4, of_b1};
    memcpy(&k->quantise[VX_F16], to, sizeof to);
    memcpy(&k->dequantise[VX_F16], of, sizeof of);
    k->select = select_rows;
}
