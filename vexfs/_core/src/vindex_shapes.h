/* What every level's kernels share, always inlined, so that it takes the ISA of the target region that uses it. */
#ifndef VEXFS_SRC_VINDEX_SHAPES_H
#define VEXFS_SRC_VINDEX_SHAPES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vindex_kernels.h"

/* What is smaller counts as zero, lest its inverse be infinite. */
#define VX_TINY 0x1p-100f
#define VX_INLINED static inline __attribute__((always_inline))

/* Butterflies of one stride, loops that the compiler turns into vectors. */
VX_INLINED void vx_butterfly(float *restrict low, float *restrict high, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float a = low[i], b = high[i];
        low[i] = a + b;
        high[i] = a - b;
    }
}

VX_INLINED void vx_butterfly_1(float *x, size_t n)
{
    for (size_t i = 0; i + 8 <= n; i += 8) {
        float *y = x + i;
        for (size_t h = 1; h < 8; h *= 2)
            for (size_t at = 0; at < 8; at += 2 * h)
                for (size_t j = at; j < at + h; j++) {
                    const float a = y[j], b = y[j + h];
                    y[j] = a + b;
                    y[j + h] = a - b;
                }
    }
}

/* The transform of n values, a power of two, at least 64. */
VX_INLINED void vx_hadamard(float *x, size_t n)
{
    vx_butterfly_1(x, n);
    for (size_t h = 8; h < n; h *= 2)
        for (size_t at = 0; at < n; at += 2 * h)
            vx_butterfly(x + at, x + at + h, h);
}

VX_INLINED void vx_multiply(float *restrict x, const float *restrict by, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= by[i];
}

/* A butterfly that keeps the length. */
VX_INLINED void vx_mix(float *restrict low, float *restrict high, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float a = low[i], b = high[i];
        low[i] = (a + b) * 0x1.6a09e6p-1f;
        high[i] = (a - b) * 0x1.6a09e6p-1f;
    }
}

VX_INLINED void vx_rotate(const vx_rotation *r, const float *x, float *y, void (*hadamard)(float *x, size_t n))
{
    const size_t half = r->padded / 2, rest = r->padded - r->power;
    memcpy(y, x, r->dim * sizeof *y);
    memset(y + r->dim, 0, (r->padded - r->dim) * sizeof *y);
    for (size_t round = 0; round < VX_ROUNDS; round++) {
        vx_multiply(y, r->signs + round * r->padded, r->padded);
        hadamard(y + (round % 2 ? rest : 0), r->power);
        if (rest > 0)
            vx_mix(y, y + half, half);
    }
}

/* The 16 sums of four values, each with the sign that the bit of m says; `twice` are the values, doubled. */
VX_INLINED void vx_table(float least, const float *twice, uint8_t *table)
{
    float sum[16];
    sum[0] = least;
    for (size_t i = 0, n = 1; i < 4; i++, n *= 2)
        for (size_t m = 0; m < n; m++)
            sum[n + m] = sum[m] + twice[i];
    for (size_t m = 0; m < 16; m++) {
        const int value = (int)sum[m];
        table[m] = (uint8_t)(value < 0 ? 0 : value > VX_LUT_MOST ? VX_LUT_MOST : value);
    }
}

/* Tables for every four values, shifted to begin at 0. */
VX_INLINED void vx_tables(const float *q, size_t dim, uint8_t *tables, float *step, float *base,
                          void (*table)(float least, const float *twice, uint8_t *table))
{
    float most = 0, all = 0;
    for (size_t i = 0; i < dim; i += 4) {
        const float range = fabsf(q[i]) + fabsf(q[i + 1]) + fabsf(q[i + 2]) + fabsf(q[i + 3]);
        all += range;
        most = range > most ? range : most;
    }
    const float scale = most > VX_TINY ? VX_LUT_MOST / (2 * most) : 0;
    for (size_t i = 0; i < dim; i += 4, tables += 16) {
        const float a = q[i] * scale, b = q[i + 1] * scale, c = q[i + 2] * scale, d = q[i + 3] * scale;
        const float range = fabsf(a) + fabsf(b) + fabsf(c) + fabsf(d) + 0.5f;
        const float twice[4] = {2 * a, 2 * b, 2 * c, 2 * d};
        table(range - a - b - c - d, twice, tables);
    }
    *step = scale > 0 ? 1 / scale : 0;
    *base = -all;
}

/* Values that the compiler can take eight at a time, since every lane keeps sums of its own. */
#define VX_LANES 16

VX_INLINED float vx_all(const float *lane)
{
    float sum = 0;
    for (size_t i = 0; i < VX_LANES; i++)
        sum += lane[i];
    return sum;
}

VX_INLINED float vx_round(const float *q, size_t dim, int most, int8_t *out, int32_t *sum)
{
    float lane[VX_LANES] = {0}, size = 0;
    for (size_t i = 0; i < dim; i += VX_LANES)
        for (size_t j = 0; j < VX_LANES; j++) {
            const float a = fabsf(q[i + j]);
            lane[j] = lane[j] > a ? lane[j] : a;
        }
    for (size_t j = 0; j < VX_LANES; j++)
        size = lane[j] > size ? lane[j] : size;
    const float inverse = size > VX_TINY ? (float)most / size : 0;
    int32_t all = 0;
    for (size_t i = 0; i < dim; i++) {
        /* Adding 1.5 * 2^23 leaves the rounded value in the low bits. */
        const float shifted = q[i] * inverse + 0x1.8p23f;
        int32_t bits;
        memcpy(&bits, &shifted, sizeof bits);
        const int32_t value = bits - 0x4b400000;
        out[i] = (int8_t)value;
        all += value;
    }
    *sum = all;
    return size / (float)most;
}

VX_INLINED void vx_signs(const float *x, const float *c, size_t dim, uint8_t *bits, vx_moments *m)
{
    float rr[VX_LANES] = {0}, r1[VX_LANES] = {0}, cr[VX_LANES] = {0}, cs[VX_LANES] = {0}, most[VX_LANES] = {0};
    for (size_t i = 0; i < dim; i += VX_LANES) {
        for (size_t j = 0; j < VX_LANES; j++) {
            const float ci = c[i + j], r = x[i + j] - ci, size = fabsf(r);
            rr[j] += r * r;
            r1[j] += size;
            cr[j] += ci * r;
            cs[j] += r >= 0 ? ci : -ci;
            most[j] = most[j] > size ? most[j] : size;
        }
        for (size_t half = 0; half < VX_LANES; half += 8) {
            uint32_t byte = 0;
            for (size_t j = 0; j < 8; j++)
                byte |= (uint32_t)(x[i + half + j] - c[i + half + j] >= 0) << j;
            bits[(i + half) / 8] = (uint8_t)byte;
        }
    }
    float size = 0;
    for (size_t j = 0; j < VX_LANES; j++)
        size = most[j] > size ? most[j] : size;
    *m = (vx_moments){vx_all(rr), vx_all(r1), vx_all(cr), vx_all(cs), size};
}

VX_INLINED void vx_spread(double sum, double square, size_t n, float *mean, float *deviation)
{
    const double average = sum / (double)n, variance = square / (double)n - average * average;
    *mean = (float)average;
    *deviation = variance > 0 ? (float)sqrt(variance) : 0;
}

VX_INLINED size_t vx_width_of(int dtype)
{
    return dtype == VX_F32 ? 4 : dtype == VX_I8 ? 1 : 2;
}

/* dot and l2sq of every dtype, from compare(dtype, squares, q, row, dim). */
#define VX_COMPARISONS(COMPARE)                                                                                        \
    VX_COMPARISON(COMPARE, f32, VX_F32)                                                                                \
    VX_COMPARISON(COMPARE, f16, VX_F16)                                                                                \
    VX_COMPARISON(COMPARE, bf16, VX_BF16)                                                                              \
    VX_COMPARISON(COMPARE, i8, VX_I8)
#define VX_COMPARISON(COMPARE, NAME, DTYPE)                                                                            \
    static float dot_##NAME(const float *q, const void *row, size_t dim)                                               \
    {                                                                                                                  \
        return COMPARE(DTYPE, 0, q, row, dim);                                                                         \
    }                                                                                                                  \
    static float l2sq_##NAME(const float *q, const void *row, size_t dim)                                              \
    {                                                                                                                  \
        return COMPARE(DTYPE, 1, q, row, dim);                                                                         \
    }

/* What is made of the shapes above, within a target region: from a table of four values, and a transform. */
#define VX_SHAPED(TABLE, HADAMARD)                                                                                     \
    static void rotate(const vx_rotation *r, const float *x, float *y)                                                 \
    {                                                                                                                  \
        vx_rotate(r, x, y, HADAMARD);                                                                                  \
    }                                                                                                                  \
    static void tables(const float *q, size_t dim, uint8_t *out, float *step, float *base)                             \
    {                                                                                                                  \
        vx_tables(q, dim, out, step, base, TABLE);                                                                     \
    }                                                                                                                  \
    static float round_to(const float *q, size_t dim, int most, int8_t *out, int32_t *sum)                             \
    {                                                                                                                  \
        return vx_round(q, dim, most, out, sum);                                                                       \
    }

/* The signs, where a level has no better way. */
#define VX_SHAPED_SIGNS                                                                                                \
    static void signs(const float *x, const float *c, size_t dim, uint8_t *bits, vx_moments *m)                        \
    {                                                                                                                  \
        vx_signs(x, c, dim, bits, m);                                                                                  \
    }

/* A whole set, under the names that it has in every file. */
#define VX_SET                                                                                                         \
    (vx_vkernels)                                                                                                      \
    {                                                                                                                  \
        .dot = {dot_f32, dot_f16, dot_bf16, dot_i8}, .l2sq = {l2sq_f32, l2sq_f16, l2sq_bf16, l2sq_i8}, .scan = scan,   \
        .scores = scores, .fine = fine, .coarse = coarse, .rotate = rotate, .tables = tables, .round = round_to,       \
        .signs = signs, .count = count, .pick = pick, .spread = spread,                                                \
    }
#endif
