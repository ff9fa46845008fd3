/* The portable kernels of the vector index, and the choice among the levels' sets. */
#include <pthread.h>

#include "vexfs/half.h"
#include "vindex_shapes.h"

static float dot_f32(const float *q, const void *row, size_t dim)
{
    float sum[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < dim; i++)
        sum[i % 4] += q[i] * vx_load_f32((const uint8_t *)row + 4 * i);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static float l2sq_f32(const float *q, const void *row, size_t dim)
{
    float sum[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < dim; i++) {
        const float d = q[i] - vx_load_f32((const uint8_t *)row + 4 * i);
        sum[i % 4] += d * d;
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

#define HALVES(NAME, LOAD)                                                                                             \
    static float dot_##NAME(const float *q, const void *row, size_t dim)                                               \
    {                                                                                                                  \
        float sum[4] = {0, 0, 0, 0};                                                                                   \
        for (size_t i = 0; i < dim; i++)                                                                               \
            sum[i % 4] += q[i] * LOAD(vx_load_u16((const uint8_t *)row + 2 * i));                                      \
        return (sum[0] + sum[1]) + (sum[2] + sum[3]);                                                                  \
    }                                                                                                                  \
    static float l2sq_##NAME(const float *q, const void *row, size_t dim)                                              \
    {                                                                                                                  \
        float sum[4] = {0, 0, 0, 0};                                                                                   \
        for (size_t i = 0; i < dim; i++) {                                                                             \
            const float d = q[i] - LOAD(vx_load_u16((const uint8_t *)row + 2 * i));                                    \
            sum[i % 4] += d * d;                                                                                       \
        }                                                                                                              \
        return (sum[0] + sum[1]) + (sum[2] + sum[3]);                                                                  \
    }

HALVES(f16, vx_f32_of_f16)
HALVES(bf16, vx_f32_of_bf16)

static float dot_i8(const float *q, const void *row, size_t dim)
{
    const int8_t *x = row;
    float sum[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < dim; i++)
        sum[i % 4] += q[i] * (float)x[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) * vx_load_f32(x + dim);
}

static float l2sq_i8(const float *q, const void *row, size_t dim)
{
    const int8_t *x = row;
    const float scale = vx_load_f32(x + dim);
    float sum[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < dim; i++) {
        const float d = q[i] - scale * (float)x[i];
        sum[i % 4] += d * d;
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static uint32_t scan(const uint8_t *block, const uint8_t *tables, size_t lines, const vx_sieve *sieve)
{
    const uint8_t *numbers = block + lines * VX_BLOCK;
    uint32_t sums[VX_BLOCK] = {0}, found = 0;
    for (size_t j = 0; j < lines; j++)
        for (size_t i = 0; i < VX_BLOCK; i++) {
            const uint8_t code = block[j * VX_BLOCK + i];
            sums[i] += (uint32_t)tables[32 * j + (code & 15)] + tables[32 * j + 16 + (code >> 4)];
        }
    for (size_t i = 0; i < VX_BLOCK; i++) {
        const float a = vx_load_f32(numbers + 4 * i), b = vx_load_f32(numbers + 4 * (VX_BLOCK + i));
        const float score = sieve->add + a + b * (sieve->step * (float)sums[i] + sieve->base);
        found |= (uint32_t)(score >= sieve->least) << i;
    }
    return found;
}

static int32_t fine(const uint8_t *code, const int8_t *q, size_t bytes)
{
    int32_t sum = 0;
    for (size_t at = 0; at < bytes; at += 32)
        for (size_t i = 0; i < 32; i++)
            sum += (code[at + i] & 15) * q[2 * at + i] + (code[at + i] >> 4) * q[2 * at + 32 + i];
    return sum;
}

static void coarse(const int8_t *q, const uint8_t *rows, size_t n, size_t dim, int32_t *out)
{
    for (size_t r = 0; r < n; r++) {
        int32_t sum = 0;
        for (size_t i = 0; i < dim; i++)
            sum += q[i] * rows[r * dim + i];
        out[r] = sum;
    }
}

static void rotate(const vx_rotation *r, const float *x, float *y)
{
    vx_rotate(r, x, y);
}

static void tables(const float *q, size_t dim, uint8_t *out, float *step, float *base)
{
    vx_tables(q, dim, out, step, base);
}

void vx_vindex_fill_scalar(vx_vkernels *k)
{
    *k = (vx_vkernels){
        .dot = {dot_f32, dot_f16, dot_bf16, dot_i8},
        .l2sq = {l2sq_f32, l2sq_f16, l2sq_bf16, l2sq_i8},
        .scan = scan,
        .fine = fine,
        .coarse = coarse,
        .rotate = rotate,
        .tables = tables,
    };
}

/* Written under `once` and only read after. */
static vx_vkernels sets[VX_LEVELS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_all(void)
{
    for (int level = 0; level < VX_LEVELS; level++)
        vx_vindex_fill_scalar(&sets[level]);
#if defined(__x86_64__)
    for (int level = VX_AVX2; level < VX_LEVELS; level++)
        vx_vindex_fill_avx2(&sets[level]);
#endif
}

const vx_vkernels *vx_vkernels_of(int level)
{
    pthread_once(&once, fill_all);
    return &sets[level];
}
