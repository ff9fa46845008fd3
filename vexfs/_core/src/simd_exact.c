/* What every level shares: the size of a row, the tiling of many-to-many, and the exact distance that is taken where a
 * sum of a fast kernel left the range in which it can be trusted. */
#include <math.h>

#include "vexfs/half.h"
#include "vexfs/simd_shapes.h"

size_t vx_row_bytes(int dtype, size_t dim)
{
    switch (dtype) {
    case VX_F32: return dim * 4;
    case VX_F16:
    case VX_BF16: return dim * 2;
    case VX_I8: return dim;
    case VX_I4: return (dim + 1) / 2;
    default: return (dim + 7) / 8;
    }
}

static double value_at(int dtype, const uint8_t *p, size_t i)
{
    switch (dtype) {
    case VX_F32: return (double)vx_load_f32(p + 4 * i);
    case VX_F16: return (double)vx_f32_of_f16(vx_load_u16(p + 2 * i));
    case VX_BF16: return (double)vx_f32_of_bf16(vx_load_u16(p + 2 * i));
    case VX_I8: return (double)(int8_t)p[i];
    case VX_I4: return (double)vx_i4_at(p, i);
    default: return p[i / 8] >> (i % 8) & 1 ? 1.0 : -1.0;
    }
}

float vx_simd_exact(int dtype, int metric, const void *a, const void *b, size_t dim)
{
    double ab = 0, aa = 0, bb = 0, dd = 0;
    for (size_t i = 0; i < dim; i++) {
        const double x = value_at(dtype, a, i), y = value_at(dtype, b, i);
        ab += x * y;
        aa += x * x;
        bb += y * y;
        dd += (x - y) * (x - y);
    }
    switch (metric) {
    case VX_DOT: return (float)ab;
    case VX_L2SQ: return (float)dd;
    case VX_L2: return (float)sqrt(dd);
    default: break;
    }
    if (aa == 0 || bb == 0)
        return isnan(ab) ? NAN : 1.0f;
    const double far = 1 - ab / (sqrt(aa) * sqrt(bb));
    return far < 0 ? 0.0f : (float)far;
}

void vx_simd_tile(vx_many_fn many, size_t row_bytes, const void *a, size_t a_stride, size_t na, const void *b,
                  size_t b_stride, size_t nb, size_t dim, float *out, size_t out_stride)
{
    const size_t fit = VX_TILE_BYTES / row_bytes / VX_CHUNK * VX_CHUNK;
    const size_t tile = fit < VX_CHUNK ? VX_CHUNK : fit;
    for (size_t j = 0; j < nb; j += tile) {
        const size_t m = nb - j < tile ? nb - j : tile;
        for (size_t i = 0; i < na; i++)
            many((const uint8_t *)a + i * a_stride, (const uint8_t *)b + j * b_stride, b_stride, m, dim,
                 out + i * out_stride + j);
    }
}
