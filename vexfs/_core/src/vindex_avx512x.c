/* The kernels of the vector index that VNNI has instructions for: products of bytes, summed four at a time in 32 bits.
 *
 * Every #include stands above the target region: a prototype first seen inside it would take its ISA. */
#include <immintrin.h>

#include "vindex_kernels.h"
#include "vindex_shapes.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2"))),            \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2")
#endif

/* Low nibbles of 32 bytes in one half, high ones in the other, as the values stand that they belong to. */
static int32_t fine(const uint8_t *code, const int8_t *q, size_t bytes)
{
    const __m512i shift = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(4), 1);
    const __m512i fifteen = _mm512_set1_epi8(15);
    __m512i sum = _mm512_setzero_si512();
    for (size_t at = 0; at < bytes; at += 32) {
        const __m512i twice = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(code + at)));
        const __m512i codes = _mm512_and_si512(_mm512_srlv_epi16(twice, shift), fifteen);
        sum = _mm512_dpbusd_epi32(sum, codes, _mm512_loadu_si512(q + 2 * at));
    }
    return _mm512_reduce_add_epi32(sum);
}

static int32_t coarse(const int8_t *q, const uint8_t *row, size_t dim)
{
    __m512i sum = _mm512_setzero_si512(), other = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + 128 <= dim; i += 128) {
        sum = _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(row + i), _mm512_loadu_si512(q + i));
        other = _mm512_dpbusd_epi32(other, _mm512_loadu_si512(row + i + 64), _mm512_loadu_si512(q + i + 64));
    }
    if (i < dim)
        sum = _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(row + i), _mm512_loadu_si512(q + i));
    return _mm512_reduce_add_epi32(_mm512_add_epi32(sum, other));
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

void vx_vindex_fill_avx512x(vx_vkernels *k, uint32_t cpu)
{
    if (cpu & VX_CPU_AVX512VNNI) {
        k->fine = fine;
        k->coarse = coarse;
    }
}
