/* The scoring kernels on AVX2: 8 postings a step.  Multiplication and addition stay apart, so that the numbers are those
 * of the scalar kernels.
 *
 * Every #include stands above the target region: a prototype first seen inside it would take its ISA. */
#include <immintrin.h>

#include "words_query.h"

#define LANES 8u

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif

typedef struct {
    __m256 a, b, weight;
} wide_bm25;

static inline wide_bm25 spread(vx_bm25 m)
{
    return (wide_bm25){_mm256_set1_ps(m.a), _mm256_set1_ps(m.b), _mm256_set1_ps(m.weight)};
}

static inline __m256i contributions(__m128i tfs, __m256 length, const wide_bm25 *m)
{
    const __m256 tf = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(tfs));
    const __m256 norm = _mm256_add_ps(m->a, _mm256_mul_ps(m->b, length));
    return _mm256_cvtps_epi32(_mm256_mul_ps(m->weight, _mm256_div_ps(tf, _mm256_add_ps(tf, norm))));
}

static inline int32_t one(uint8_t tf, float length, vx_bm25 m)
{
    const __m128 t = _mm_set_ss((float)tf), norm = _mm_set_ss(m.a + m.b * length);
    return _mm_cvtss_si32(_mm_mul_ss(_mm_set_ss(m.weight), _mm_div_ss(t, _mm_add_ss(t, norm))));
}

static void sparse(const uint16_t *docs, const uint8_t *tfs, uint32_t n, const float *length, vx_bm25 m, int32_t *out)
{
    const wide_bm25 wide = spread(m);
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const __m256i at = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(docs + i)));
        const __m256 lengths = _mm256_i32gather_ps(length, at, 4);
        const __m256i c = contributions(_mm_loadl_epi64((const __m128i *)(tfs + i)), lengths, &wide);
        _mm256_storeu_si256((__m256i *)(out + i), c);
    }
    for (; i < n; i++)
        out[i] = one(tfs[i], length[docs[i]], m);
}

static void dense(const uint8_t *tfs, uint32_t n, const float *length, vx_bm25 m, int32_t *acc)
{
    const wide_bm25 wide = spread(m);
    for (uint32_t i = 0; i < n; i += LANES) {
        const __m128i tf = _mm_loadl_epi64((const __m128i *)(tfs + i));
        const __m256i c = contributions(tf, _mm256_loadu_ps(length + i), &wide);
        __m256i *at = (__m256i *)(acc + i);
        _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), c));
    }
}

static uint32_t collect(int32_t *acc, uint32_t n, int32_t least, uint16_t *docs, int32_t *scores)
{
    const __m256i below = _mm256_set1_epi32(least - 1);
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i += LANES) {
        __m256i *at = (__m256i *)(acc + i);
        const __m256i v = _mm256_loadu_si256(at);
        uint32_t hits = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(v, below)));
        for (; hits; hits &= hits - 1) {
            const uint32_t k = i + (uint32_t)__builtin_ctz(hits);
            docs[found] = (uint16_t)k;
            scores[found++] = acc[k];
        }
        _mm256_storeu_si256(at, _mm256_setzero_si256());
    }
    return found;
}

const vx_score_kernels vx_score_avx2 = {sparse, dense, collect};

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
