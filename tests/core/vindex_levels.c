/* Every kernel of the vector index, of every level of this machine, against the scalar one: whole numbers to the bit, floats
 * within rounding.  In C, for machines without a Python: built by test_simd_builds.py.  Exit status 1 on a difference. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vexfs/simd.h"
#include "vindex_kernels.h"

#define MOST 4160u /* dimensions: more than a sum of 16 bits holds lines of */
#define BLOCKS 5u
#define KEYS 1003u

static uint32_t seed = 1;
static long checked, failed;
static const char *level_name;

static uint32_t drawn(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static float uniform(void)
{
    return (float)drawn() / 8388608.0f - 1;
}

static void expect(int ok, const char *what, size_t dim)
{
    checked++;
    if (!ok && failed++ < 20)
        printf("FAILED %s %s of %zu\n", level_name, what, dim);
}

static int near(float a, float b, float size)
{
    return fabsf(a - b) <= 2e-6f * size;
}

static void *room(size_t bytes)
{
    void *at = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!at)
        exit(2);
    return at;
}

static void check_compare(const vx_vkernels *k, const vx_vkernels *plain, size_t dim)
{
    float *q = malloc(dim * sizeof *q); /* to its end exactly, so that a sanitizer sees what lies beyond */
    for (size_t i = 0; i < dim; i++)
        q[i] = uniform();
    for (int dtype = VX_F32; dtype <= VX_I8; dtype++) {
        const size_t bytes = vx_row_bytes(dtype, dim);
        uint8_t *row = malloc(bytes + (dtype == VX_I8 ? sizeof(float) : 0));
        float *x = malloc(dim * sizeof *x);
        const float scale = 1.0f / 127;
        for (size_t i = 0; i < dim; i++)
            x[i] = uniform();
        vx_kernels_of(VX_SCALAR)->quantise[dtype](x, dim, scale, row);
        if (dtype == VX_I8)
            memcpy(row + dim, &scale, sizeof scale);
        expect(near(k->dot[dtype](q, row, dim), plain->dot[dtype](q, row, dim), (float)dim), "dot", dim);
        expect(near(k->l2sq[dtype](q, row, dim), plain->l2sq[dtype](q, row, dim), (float)dim), "l2sq", dim);
        free(row);
        free(x);
    }
    free(q);
}

/* The lines are asked for ahead of need, which no fault comes of; what is loaded is of the blocks alone. */
static void check_blocks(const vx_vkernels *k, const vx_vkernels *plain, size_t padded)
{
    const size_t lines = padded / 8, stride = lines * VX_BLOCK + 2 * VX_BLOCK * sizeof(float);
    uint8_t *blocks = room(BLOCKS * stride), *tables = room(32 * lines), *other = room(32 * lines);
    float *q = room(padded * sizeof *q), step, base, step_2, base_2, add[BLOCKS * VX_BLOCK], numbers[2 * VX_BLOCK];
    for (size_t i = 0; i < BLOCKS * stride; i++)
        blocks[i] = (uint8_t)drawn();
    for (size_t b = 0; b < BLOCKS; b++) {
        for (size_t i = 0; i < 2 * VX_BLOCK; i++)
            numbers[i] = uniform();
        memcpy(blocks + b * stride + lines * VX_BLOCK, numbers, sizeof numbers);
    }
    for (size_t i = 0; i < BLOCKS * VX_BLOCK; i++)
        add[i] = uniform();
    for (size_t i = 0; i < padded; i++)
        q[i] = uniform() * uniform();
    plain->tables(q, padded, tables, &step, &base);
    k->tables(q, padded, other, &step_2, &base_2);
    expect(memcmp(tables, other, 32 * lines) == 0 && step == step_2 && base == base_2, "tables", padded);
    memset(q, 0, padded * sizeof *q);
    k->tables(q, padded, other, &step_2, &base_2);
    expect(step_2 == 0 && base_2 == 0 && other[0] == 0, "tables of zeros", padded);
    /* The largest sums there can be. */
    for (int full = 0; full < 2; full++) {
        float want[BLOCKS * VX_BLOCK], got[BLOCKS * VX_BLOCK];
        uint32_t bits[BLOCKS];
        if (full) {
            memset(tables, VX_LUT_MOST, 32 * lines);
            step = 0x1p-9f;
            base = 0;
        }
        const float size = 1 + fabsf(base) + 2 * VX_LUT_MOST * (float)lines * step;
        plain->scores(blocks, stride, BLOCKS, tables, lines, add, step, base, want);
        for (size_t n = 1; n <= BLOCKS; n++) {
            k->scores(blocks, stride, n, tables, lines, add, step, base, got);
            for (size_t i = 0; i < n * VX_BLOCK; i++)
                expect(near(got[i], want[i], size), "scores", padded);
        }
        for (size_t b = 0; b < BLOCKS; b++) {
            memcpy(numbers, blocks + b * stride + lines * VX_BLOCK, sizeof numbers);
            plain->scores(blocks + b * stride, stride, 1, tables, lines, numbers, step, base, want + b * VX_BLOCK);
        }
        /* A level that no score comes so near to that rounding decides. */
        const vx_sieve sieve = {0.125f, step, base, want[7] + 0.1251f};
        for (size_t n = 1; n <= BLOCKS; n++) {
            k->scan(blocks, stride, n, blocks, tables, lines, &sieve, bits);
            for (size_t i = 0; i < n * VX_BLOCK; i++) {
                const float above = want[i] + sieve.add - sieve.least;
                expect(fabsf(above) < 4e-6f * size || (bits[i / VX_BLOCK] >> i % VX_BLOCK & 1) == (above >= 0),
                       "scan", padded);
            }
        }
    }
    free(blocks);
    free(tables);
    free(other);
    free(q);
}

static void check_codes(const vx_vkernels *k, const vx_vkernels *plain, size_t padded)
{
    uint8_t *codes = room(padded), *bits[2] = {room(padded / 8), room(padded / 8)};
    int8_t *q[2] = {room(padded), room(padded)};
    float *x = room(padded * sizeof *x), *c = room(padded * sizeof *c);
    int32_t sum[2];
    for (int extreme = 0; extreme < 2; extreme++) {
        for (size_t i = 0; i < padded; i++) {
            codes[i] = extreme ? 255 : (uint8_t)drawn();
            x[i] = extreme ? 1 : uniform();
            c[i] = extreme && i % 2 ? 1 : uniform();
        }
        const float a = plain->round(x, padded, 127, q[0], &sum[0]), b = k->round(x, padded, 127, q[1], &sum[1]);
        expect(a == b && sum[0] == sum[1] && memcmp(q[0], q[1], padded) == 0, "round", padded);
        expect(k->fine(codes, q[0], padded / 2) == plain->fine(codes, q[0], padded / 2), "fine", padded);
        plain->round(x, padded, 63, q[0], &sum[0]);
        expect(k->coarse(q[0], codes, padded) == plain->coarse(q[0], codes, padded), "coarse", padded);
        vx_moments m[2];
        plain->signs(x, c, padded, bits[0], &m[0]);
        k->signs(x, c, padded, bits[1], &m[1]);
        expect(memcmp(bits[0], bits[1], padded / 8) == 0 && memcmp(&m[0], &m[1], sizeof m[0]) == 0, "signs", padded);
    }
    free(codes);
    free(bits[0]);
    free(bits[1]);
    free(q[0]);
    free(q[1]);
    free(x);
    free(c);
}

static void check_rotation(const vx_vkernels *k, const vx_vkernels *plain, uint32_t dim)
{
    vx_rotation r = {.dim = dim, .padded = (dim + 63) / 64 * 64, .power = 64};
    while (2 * r.power <= r.padded)
        r.power *= 2;
    r.signs = room(VX_ROUNDS * r.padded * sizeof *r.signs);
    float *x = room(dim * sizeof *x), *y[2] = {room(r.padded * sizeof(float)), room(r.padded * sizeof(float))};
    for (size_t i = 0; i < VX_ROUNDS * r.padded; i++)
        r.signs[i] = drawn() % 2 ? 0.125f : -0.125f;
    for (size_t i = 0; i < dim; i++)
        x[i] = uniform();
    plain->rotate(&r, x, y[0]);
    k->rotate(&r, x, y[1]);
    expect(memcmp(y[0], y[1], r.padded * sizeof(float)) == 0, "rotate", dim);
    free(r.signs);
    free(x);
    free(y[0]);
    free(y[1]);
}

static void check_keys(const vx_vkernels *k, const vx_vkernels *plain)
{
    float key[KEYS], mean[2], deviation[2];
    uint32_t at[2][KEYS + 16];
    for (size_t i = 0; i < KEYS; i++)
        key[i] = uniform();
    for (size_t n = 1; n <= KEYS; n += n < 70 ? 1 : 41)
        for (int turn = 0; turn < 3; turn++) {
            const float least = turn == 2 ? 0 : key[drawn() % n];
            const uint32_t found = plain->pick(key, n, least, at[0]);
            expect(k->pick(key, n, least, at[1]) == found && memcmp(at[0], at[1], found * sizeof **at) == 0, "pick", n);
            expect(k->count(key, n, least) == found, "count", n);
            plain->spread(key, n, &mean[0], &deviation[0]);
            k->spread(key, n, &mean[1], &deviation[1]);
            expect(fabsf(mean[0] - mean[1]) < 1e-6f && fabsf(deviation[0] - deviation[1]) < 1e-3f, "spread", n);
        }
}

int main(void)
{
    const vx_vkernels *plain = vx_vkernels_of(VX_SCALAR);
    for (int level = 0; level < VX_LEVELS; level++) {
        if (vx_level_check(level) != 0)
            continue;
        const vx_vkernels *k = vx_vkernels_of(level);
        level_name = vx_level_name(level);
        for (uint32_t dim = 1; dim < 1600; dim += dim < 140 ? 1 : 173)
            check_compare(k, plain, dim);
        for (uint32_t padded = 64; padded <= MOST; padded += padded < 1024 ? 64 : 1024) {
            check_blocks(k, plain, padded);
            check_codes(k, plain, padded);
            check_rotation(k, plain, padded - 5);
        }
        check_blocks(k, plain, 16384);
        check_keys(k, plain);
        printf("%s: checked\n", level_name);
    }
    printf("%ld checked, %ld failed\n", checked, failed);
    return failed != 0;
}
