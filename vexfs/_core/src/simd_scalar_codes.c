/* Scalar level: from f32 to the stored formats and back. */
#include <math.h>

#include "vexfs/half.h"
#include "vexfs/simd_shapes.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-tree-vectorize,no-tree-slp-vectorize")
#endif

/* Adding and taking off 1.5 * 2^23 rounds to nearest even without a call into libm. */
#define ROUNDER 12582912.0f

static int rounded(float x, float inverse, float most)
{
    float y = x * inverse;
    if (!(y == y))
        return 0;
    y = y > most ? most : y < -most ? -most : y;
    return (int)((y + ROUNDER) - ROUNDER);
}

static void to_f32(const float *x, size_t dim, float scale, void *out)
{
    (void)scale;
    memcpy(out, x, dim * sizeof *x);
}

static void to_f16(const float *x, size_t dim, float scale, void *out)
{
    (void)scale;
    for (size_t i = 0; i < dim; i++) {
        const uint16_t h = vx_f16_of_f32(x[i]);
        memcpy((uint8_t *)out + 2 * i, &h, sizeof h);
    }
}

static void to_bf16(const float *x, size_t dim, float scale, void *out)
{
    (void)scale;
    for (size_t i = 0; i < dim; i++) {
        const uint16_t h = vx_bf16_of_f32(x[i]);
        memcpy((uint8_t *)out + 2 * i, &h, sizeof h);
    }
}

static void to_i8(const float *x, size_t dim, float scale, void *out)
{
    const float inverse = 1.0f / scale;
    for (size_t i = 0; i < dim; i++)
        ((int8_t *)out)[i] = (int8_t)rounded(x[i], inverse, 127.0f);
}

static void to_i4(const float *x, size_t dim, float scale, void *out)
{
    const float inverse = 1.0f / scale;
    uint8_t *codes = out;
    for (size_t i = 0; i < dim; i += 2) {
        const int low = rounded(x[i], inverse, 7.0f);
        const int high = i + 1 < dim ? rounded(x[i + 1], inverse, 7.0f) : 0;
        codes[i / 2] = (uint8_t)((low & 15) | (high & 15) << 4);
    }
}

static void to_b1(const float *x, size_t dim, float scale, void *out)
{
    uint8_t *codes = out;
    (void)scale;
    memset(codes, 0, vx_row_bytes(VX_B1, dim));
    for (size_t i = 0; i < dim; i++)
        codes[i / 8] = (uint8_t)(codes[i / 8] | (x[i] > 0) << (i % 8));
}

static void of_f32(const void *x, size_t dim, float scale, float *out)
{
    (void)scale;
    memcpy(out, x, dim * sizeof *out);
}

static void of_f16(const void *x, size_t dim, float scale, float *out)
{
    (void)scale;
    for (size_t i = 0; i < dim; i++)
        out[i] = vx_f32_of_f16(vx_load_u16((const uint8_t *)x + 2 * i));
}

static void of_bf16(const void *x, size_t dim, float scale, float *out)
{
    (void)scale;
    for (size_t i = 0; i < dim; i++)
        out[i] = vx_f32_of_bf16(vx_load_u16((const uint8_t *)x + 2 * i));
}

static void of_i8(const void *x, size_t dim, float scale, float *out)
{
    for (size_t i = 0; i < dim; i++)
        out[i] = (float)((const int8_t *)x)[i] * scale;
}

static void of_i4(const void *x, size_t dim, float scale, float *out)
{
    for (size_t i = 0; i < dim; i++)
        out[i] = (float)vx_i4_at(x, i) * scale;
}

static void of_b1(const void *x, size_t dim, float scale, float *out)
{
    const uint8_t *codes = x;
    for (size_t i = 0; i < dim; i++)
        out[i] = codes[i / 8] >> (i % 8) & 1 ? scale : -scale;
}

#define LOOP(is, predicate)                                                                                            \
    for (size_t i = 0; i < n; i++)                                                                                     \
        bits[i / 64] |= (uint64_t)(x[i] is value) << (i % 64);

static void select_rows(const double *x, size_t n, int order, double value, uint64_t *bits)
{
    memset(bits, 0, (n + 63) / 64 * sizeof *bits);
    VX_SELECT_BY_ORDER(order, LOOP)
}

void vx_simd_fill_scalar_codes(vx_kernels *k)
{
    const vx_quantise_fn to[VX_DTYPES] = {to_f32, to_f16, to_bf16, to_i8, to_i4, to_b1};
    const vx_dequantise_fn of[VX_DTYPES] = {of_f32, of_f16, of_bf16, of_i8, of_i4, of_b1};
    memcpy(k->quantise, to, sizeof to);
    memcpy(k->dequantise, of, sizeof of);
    k->select = select_rows;
}
