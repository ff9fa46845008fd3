/* The portable kernels of the vector index, and the choice among the levels' sets. */
#include <pthread.h>

#include "vexfs/half.h"
#include "vindex_shapes.h"

VX_INLINED float value_of(int dtype, const uint8_t *row, size_t i)
{
    switch (dtype) {
    case VX_F32: return vx_load_f32(row + 4 * i);
    case VX_F16: return vx_f32_of_f16(vx_load_u16(row + 2 * i));
    case VX_BF16: return vx_f32_of_bf16(vx_load_u16(row + 2 * i));
    default: return (float)(int8_t)row[i];
    }
}

VX_INLINED float compare(int dtype, int squares, const float *q, const void *row, size_t dim)
{
    const float scale = dtype == VX_I8 ? vx_load_f32((const uint8_t *)row + dim) : 1;
    float sum[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < dim; i++) {
        const float x = value_of(dtype, row, i), d = q[i] - scale * x;
        sum[i % 4] += squares ? d * d : q[i] * x;
    }
    const float all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    return squares ? all : all * scale;
}

VX_COMPARISONS(compare)

/* Of one entry of a block. */
static uint32_t sum_of(const uint8_t *block, const uint8_t *tables, size_t lines, size_t i)
{
    uint32_t sum = 0;
    for (size_t j = 0; j < lines; j++) {
        const uint8_t code = block[j * VX_BLOCK + i];
        sum += (uint32_t)tables[32 * j + (code & 15)] + tables[32 * j + 16 + (code >> 4)];
    }
    return sum;
}

static float score_of(const uint8_t *numbers, size_t i, uint32_t sum, const vx_sieve *sieve)
{
    const float a = vx_load_f32(numbers + 4 * i), b = vx_load_f32(numbers + 4 * (VX_BLOCK + i));
    return sieve->add + a + b * (sieve->step * (float)sum + sieve->base);
}

static void scan(const uint8_t *blocks, size_t stride, size_t n, const uint8_t *ahead, const uint8_t *tables, size_t lines,
                 const vx_sieve *sieve, uint32_t *found)
{
    (void)ahead;
    for (size_t b = 0; b < n; b++, blocks += stride) {
        found[b] = 0;
        for (size_t i = 0; i < VX_BLOCK; i++) {
            const uint32_t sum = sum_of(blocks, tables, lines, i);
            found[b] |= (uint32_t)(score_of(blocks + lines * VX_BLOCK, i, sum, sieve) >= sieve->least) << i;
        }
    }
}

static void scores(const uint8_t *blocks, size_t stride, size_t n, const uint8_t *tables, size_t lines,
                   const float *add, float step, float base, float *out)
{
    for (size_t b = 0; b < n; b++, blocks += stride)
        for (size_t i = 0; i < VX_BLOCK; i++) {
            const float scale = vx_load_f32(blocks + lines * VX_BLOCK + 4 * (VX_BLOCK + i));
            const uint32_t sum = sum_of(blocks, tables, lines, i);
            out[b * VX_BLOCK + i] = add[b * VX_BLOCK + i] + scale * (step * (float)sum + base);
        }
}

static int32_t fine(const uint8_t *code, const int8_t *q, size_t bytes)
{
    int32_t sum = 0;
    for (size_t at = 0; at < bytes; at += 32)
        for (size_t i = 0; i < 32; i++)
            sum += (code[at + i] & 15) * q[2 * at + i] + (code[at + i] >> 4) * q[2 * at + 32 + i];
    return sum;
}

static int32_t coarse(const int8_t *q, const uint8_t *row, size_t dim)
{
    int32_t sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += q[i] * row[i];
    return sum;
}

static uint32_t count(const float *values, size_t n, float least)
{
    uint32_t found = 0;
    for (size_t i = 0; i < n; i++)
        found += values[i] >= least;
    return found;
}

static uint32_t pick(const float *values, size_t n, float least, uint32_t *out)
{
    uint32_t found = 0;
    for (size_t i = 0; i < n; i++)
        if (values[i] >= least)
            out[found++] = (uint32_t)i;
    return found;
}

VX_SHAPED(vx_table, vx_hadamard)
VX_SHAPED_SIGNS

static void spread(const float *values, size_t n, float *mean, float *deviation)
{
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        sum += values[i];
        square += (double)values[i] * values[i];
    }
    vx_spread(sum, square, n, mean, deviation);
}

void vx_vindex_fill_scalar(vx_vkernels *k)
{
    *k = VX_SET;
}

/* Written under `once` and only read after. */
static vx_vkernels sets[VX_LEVELS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_all(void)
{
    for (int level = 0; level < VX_LEVELS; level++)
        vx_vindex_fill_scalar(&sets[level]);
#if defined(__x86_64__)
    vx_vindex_fill_avx2(&sets[VX_AVX2]);
    sets[VX_AVX512] = sets[VX_AVX2];
    vx_vindex_fill_avx512(&sets[VX_AVX512]);
    sets[VX_AVX512X] = sets[VX_AVX512];
    vx_vindex_fill_avx512x(&sets[VX_AVX512X], vx_cpu_detect());
#elif defined(__aarch64__)
    vx_vindex_fill_neon(&sets[VX_NEON]);
#endif
}

const vx_vkernels *vx_vkernels_of(int level)
{
    pthread_once(&once, fill_all);
    return &sets[level];
}
