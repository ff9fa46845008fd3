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

static void sums_of(const uint8_t *block, const uint8_t *tables, size_t lines, uint32_t sums[VX_BLOCK])
{
    memset(sums, 0, VX_BLOCK * sizeof *sums);
    for (size_t j = 0; j < lines; j++)
        for (size_t i = 0; i < VX_BLOCK; i++) {
            const uint8_t code = block[j * VX_BLOCK + i];
            sums[i] += (uint32_t)tables[32 * j + (code & 15)] + tables[32 * j + 16 + (code >> 4)];
        }
}

static float score_of(const uint8_t *numbers, size_t i, uint32_t sum, const vx_sieve *sieve)
{
    const float a = vx_load_f32(numbers + 4 * i), b = vx_load_f32(numbers + 4 * (VX_BLOCK + i));
    return sieve->add + a + b * (sieve->step * (float)sum + sieve->base);
}

static uint32_t scan(const uint8_t *block, const uint8_t *tables, size_t lines, const vx_sieve *sieve)
{
    uint32_t sums[VX_BLOCK], found = 0;
    sums_of(block, tables, lines, sums);
    for (size_t i = 0; i < VX_BLOCK; i++)
        found |= (uint32_t)(score_of(block + lines * VX_BLOCK, i, sums[i], sieve) >= sieve->least) << i;
    return found;
}

static void scores(const uint8_t *blocks, size_t stride, size_t n, const uint8_t *tables, size_t lines,
                   const float *add, float step, float base, float *out)
{
    for (size_t b = 0; b < n; b++, blocks += stride) {
        uint32_t sums[VX_BLOCK];
        sums_of(blocks, tables, lines, sums);
        for (size_t i = 0; i < VX_BLOCK; i++) {
            const float scale = vx_load_f32(blocks + lines * VX_BLOCK + 4 * (VX_BLOCK + i));
            out[b * VX_BLOCK + i] = add[b * VX_BLOCK + i] + scale * (step * (float)sums[i] + base);
        }
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

static void rotate(const vx_rotation *r, const float *x, float *y)
{
    vx_rotate(r, x, y, vx_hadamard);
}

static void tables(const float *q, size_t dim, uint8_t *out, float *step, float *base)
{
    vx_tables(q, dim, out, step, base);
}

static float round_to(const float *q, size_t dim, int most, int8_t *out, int32_t *sum)
{
    return vx_round(q, dim, most, out, sum);
}

static void signs(const float *x, const float *c, size_t dim, uint8_t *bits, vx_moments *m)
{
    vx_signs(x, c, dim, bits, m);
}

static void spread(const float *values, size_t n, float *mean, float *deviation)
{
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        sum += values[i];
        square += (double)values[i] * values[i];
    }
    const double variance = square / (double)n - sum / (double)n * (sum / (double)n);
    *mean = (float)(sum / (double)n);
    *deviation = variance > 0 ? (float)sqrt(variance) : 0;
}

void vx_vindex_fill_scalar(vx_vkernels *k)
{
    *k = (vx_vkernels){
        .dot = {dot_f32, dot_f16, dot_bf16, dot_i8},
        .l2sq = {l2sq_f32, l2sq_f16, l2sq_bf16, l2sq_i8},
        .scan = scan,
        .scores = scores,
        .fine = fine,
        .coarse = coarse,
        .rotate = rotate,
        .tables = tables,
        .round = round_to,
        .signs = signs,
        .count = count,
        .pick = pick,
        .spread = spread,
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
