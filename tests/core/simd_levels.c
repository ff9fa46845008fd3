/* Every kernel of every level of this machine against f64, in C, for machines without a Python: built by
 * test_simd_builds.py with sanitizers here and for AArch64.  Prints what was checked; exit status 1 on a difference. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vexfs/simd.h"
#include "vexfs/simd_shapes.h"

#define ROWS 19 /* a block of eight, blocks of four, single ones; more than 13 for the matrix product */
#define DIM_MOST 1537

static uint32_t seed = 1;
static long checked, failed;

static float uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(int32_t)seed / 2147483648.0f;
}

static double reference(int metric, const float *a, const float *b, size_t dim, double *unit)
{
    double ab = 0, aa = 0, bb = 0, dd = 0, size = 0, differ = 0;
    for (size_t i = 0; i < dim; i++) {
        ab += (double)a[i] * (double)b[i];
        size += fabs((double)a[i] * (double)b[i]);
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
        dd += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        differ += a[i] != b[i];
    }
    switch (metric) {
    case VX_DOT: *unit = size; return ab;
    case VX_L2SQ: *unit = dd; return dd;
    case VX_L2: *unit = sqrt(dd); return sqrt(dd);
    case VX_HAMMING: *unit = 0; return differ;
    default: *unit = 1; return aa == 0 || bb == 0 ? 1 : fmax(0, 1 - ab / sqrt(aa * bb));
    }
}

static void expect(float got, int dtype, int metric, const float *a, const float *b, size_t dim, const char *shape,
                   const char *level)
{
    double unit, want = reference(metric, a, b, dim, &unit);
    checked++;
    if (fabs((double)got - want) <= (12 + (double)dim / 64) * unit * 0x1p-24 + (double)dim * 0x1p-126)
        return;
    if (failed++ < 20)
        printf("FAILED %s dtype %d metric %d dim %zu %s: %.9g, not %.9g\n", level, dtype, metric, dim, shape,
               (double)got, want);
}

static void check(const vx_kernels *k, const vx_kernels *plain, int dtype, size_t dim)
{
    const size_t bytes = vx_row_bytes(dtype, dim), stride = bytes + 1; /* no row is aligned */
    float *values = malloc(ROWS * dim * sizeof *values), out[ROWS * ROWS];
    uint8_t *codes = malloc(ROWS * stride), *other = malloc(bytes);
    uint32_t ids[ROWS];
    const char *level = vx_level_name(k->level);
    for (size_t i = 0; i < ROWS; i++) {
        ids[i] = (uint32_t)(ROWS - 1 - i);
        for (size_t j = 0; j < dim; j++)
            values[i * dim + j] = uniform();
        plain->quantise[dtype](values + i * dim, dim, 0.01f, codes + i * stride);
        k->quantise[dtype](values + i * dim, dim, 0.01f, other);
        failed += memcmp(other, codes + i * stride, bytes) != 0;
        k->dequantise[dtype](codes + i * stride, dim, 1.0f, values + i * dim);
        checked++;
    }
    for (int metric = 0; metric < VX_METRICS; metric++) {
        const vx_shapes *shapes = &k->distance[dtype][metric];
        if (!shapes->many)
            continue;
        shapes->many(codes, codes, stride, ROWS, dim, out);
        for (size_t i = 0; i < ROWS; i++)
            expect(out[i], dtype, metric, values, values + i * dim, dim, "many", level);
        shapes->stream(codes, codes, stride, ROWS, dim, out);
        for (size_t i = 0; i < ROWS; i++)
            expect(out[i], dtype, metric, values, values + i * dim, dim, "stream", level);
        shapes->gather(codes, codes, stride, ids, ROWS, dim, out);
        for (size_t i = 0; i < ROWS; i++)
            expect(out[i], dtype, metric, values, values + ids[i] * dim, dim, "gather", level);
        expect(shapes->pair(codes, codes + stride, dim), dtype, metric, values, values + dim, dim, "pair", level);
        shapes->cross(codes, stride, ROWS, codes, stride, ROWS, dim, out, ROWS);
        for (size_t i = 0; i < ROWS * ROWS; i++)
            expect(out[i], dtype, metric, values + i / ROWS * dim, values + i % ROWS * dim, dim, "cross", level);
    }
    free(values);
    free(codes);
    free(other);
}

int main(void)
{
    const vx_kernels *plain = vx_kernels_of(VX_SCALAR);
    for (int level = 0; level < VX_LEVELS; level++) {
        if (vx_level_check(level) != 0)
            continue;
        for (int dtype = 0; dtype < VX_DTYPES; dtype++)
            for (size_t dim = 1; dim < DIM_MOST; dim += dim < 70 ? 1 : dim < 300 ? 37 : 413)
                for (vx_long_rows_by_block = 0; vx_long_rows_by_block < 2; vx_long_rows_by_block++)
                    check(vx_kernels_of(level), plain, dtype, dim);
        printf("%s: checked\n", vx_level_name(level));
    }
    printf("%ld checked, %ld failed\n", checked, failed);
    return failed != 0;
}
