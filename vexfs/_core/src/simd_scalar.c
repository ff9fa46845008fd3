/* The scalar level: what runs where there is nothing better, and what the others are compared with.
 *
 * No auto-vectorisation, so that "scalar" means it.  Four sums a row keep the adder busy, as the vector levels do. */
#include <math.h>

#include "vexfs/half.h"
#include "vexfs/simd_shapes.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-tree-vectorize,no-tree-slp-vectorize")
#endif

/* Outside of these a sum of squares has lost digits to underflow, or is near the end of the range. */
#define TRUST_MIN 0x1p-100f
#define TRUST_MAX 0x1p100f

VX_INLINE float value_f(int dtype, const uint8_t *p, size_t i)
{
    if (dtype == VX_F32)
        return vx_load_f32(p + 4 * i);
    const uint16_t h = vx_load_u16(p + 2 * i);
    return dtype == VX_F16 ? vx_f32_of_f16(h) : vx_f32_of_bf16(h);
}

VX_INLINE void step_f(int metric, float x, float y, float *ab, float *bb)
{
    if (metric == VX_L2SQ) {
        *ab += (x - y) * (x - y);
        return;
    }
    *ab += x * y;
    if (metric == VX_COSINE)
        *bb += y * y;
}

VX_INLINE void one_f(int dtype, int metric, const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    const uint8_t *q = query->q;
    float ab[4] = {0, 0, 0, 0}, bb[4] = {0, 0, 0, 0};
    size_t i = 0;
    for (; i + 4 <= query->dim; i += 4)
        for (size_t k = 0; k < 4; k++)
            step_f(metric, value_f(dtype, q, i + k), value_f(dtype, row, i + k), &ab[k], &bb[k]);
    for (; i < query->dim; i++)
        step_f(metric, value_f(dtype, q, i), value_f(dtype, row, i), &ab[i % 4], &bb[i % 4]);
    s->ab.f[at] = (ab[0] + ab[1]) + (ab[2] + ab[3]);
    s->bb.f[at] = (bb[0] + bb[1]) + (bb[2] + bb[3]);
}

VX_INLINE void one_i8(int squares, const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    const int8_t *q = query->q, *r = (const int8_t *)row;
    int32_t ab = 0, bb = 0;
    for (size_t i = 0; i < query->dim; i++) {
        ab += q[i] * r[i];
        if (squares)
            bb += r[i] * r[i];
    }
    s->ab.i[at] = ab;
    s->bb.i[at] = bb;
}

VX_INLINE void one_i4(int squares, const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    const uint8_t *q = query->q;
    int32_t ab = 0, bb = 0;
    for (size_t i = 0; i < (query->dim + 1) / 2; i++) {
        const int rlo = ((row[i] & 15) ^ 8) - 8, rhi = (row[i] >> 4 ^ 8) - 8;
        ab += (((q[i] & 15) ^ 8) - 8) * rlo + ((q[i] >> 4 ^ 8) - 8) * rhi;
        if (squares)
            bb += rlo * rlo + rhi * rhi;
    }
    s->ab.i[at] = ab;
    s->bb.i[at] = bb;
}

static void i8_ab_one(const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    one_i8(0, query, row, s, at);
}

static void i8_abb_one(const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    one_i8(1, query, row, s, at);
}

static void i4_ab_one(const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    one_i4(0, query, row, s, at);
}

static void i4_abb_one(const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    one_i4(1, query, row, s, at);
}

/* The population count of 64 bits without an instruction for it. */
VX_INLINE uint32_t ones(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (uint32_t)((x * 0x0101010101010101u) >> 56);
}

static void b1_ab_one(const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    const uint8_t *q = query->q;
    const size_t bytes = (query->dim + 7) / 8;
    uint32_t differ = 0;
    size_t i = 0;
    for (; i + 8 <= bytes; i += 8) {
        uint64_t x, y;
        memcpy(&x, q + i, 8);
        memcpy(&y, row + i, 8);
        differ += ones(x ^ y);
    }
    for (; i < bytes; i++)
        differ += ones((uint64_t)(q[i] ^ row[i]));
    s->ab.i[at] = (int32_t)differ;
}

/* A kernel of one row, and the kernel of four that the shapes ask for beside it. */
#define FOUR_OF(NAME)                                                                                                  \
    static void NAME##_four(const vx_query *q, const uint8_t *const row[4], const uint8_t *ahead, vx_sums *s,          \
                            size_t at)                                                                                 \
    {                                                                                                                  \
        (void)ahead;                                                                                                   \
        for (size_t k = 0; k < 4; k++)                                                                                 \
            NAME##_one(q, row[k], s, at + k);                                                                          \
    }
#define FLOAT_ROW(NAME, DTYPE, METRIC)                                                                                 \
    static void NAME##_one(const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)                           \
    {                                                                                                                  \
        one_f(DTYPE, METRIC, query, row, s, at);                                                                       \
    }                                                                                                                  \
    FOUR_OF(NAME)

FLOAT_ROW(f32_dot, VX_F32, VX_DOT)
FLOAT_ROW(f32_cos, VX_F32, VX_COSINE)
FLOAT_ROW(f32_l2, VX_F32, VX_L2SQ)
FLOAT_ROW(f16_dot, VX_F16, VX_DOT)
FLOAT_ROW(f16_cos, VX_F16, VX_COSINE)
FLOAT_ROW(f16_l2, VX_F16, VX_L2SQ)
FLOAT_ROW(bf16_dot, VX_BF16, VX_DOT)
FLOAT_ROW(bf16_cos, VX_BF16, VX_COSINE)
FLOAT_ROW(bf16_l2, VX_BF16, VX_L2SQ)
FOUR_OF(i8_ab)
FOUR_OF(i8_abb)
FOUR_OF(i4_ab)
FOUR_OF(i4_abb)
FOUR_OF(b1_ab)

static int trusted(float sum)
{
    return sum >= TRUST_MIN && sum <= TRUST_MAX;
}

static uint64_t finish_f(const vx_query *query, const vx_sums *s, size_t n, float *out)
{
    uint64_t again = 0;
    const int aa_trusted = trusted(query->aa);
    const float norm = sqrtf(query->aa);
    for (size_t i = 0; i < n; i++) {
        const float ab = s->ab.f[i], bb = s->bb.f[i];
        int good = fabsf(ab) <= TRUST_MAX;
        out[i] = ab;
        if (query->metric == VX_L2) {
            out[i] = sqrtf(ab);
            good = trusted(ab);
        } else if (query->metric == VX_COSINE) {
            const float far = 1.0f - ab / (norm * sqrtf(bb));
            out[i] = far < 0 ? 0.0f : far;
            good = aa_trusted && trusted(bb);
        }
        again |= (uint64_t)!good << i;
    }
    return again;
}

static uint64_t finish_i(const vx_query *query, const vx_sums *s, size_t n, float *out)
{
    const float norm = sqrtf((float)query->aa_i);
    for (size_t i = 0; i < n; i++) {
        /* Unsigned: a squared distance can need the 32nd bit, and the terms may wrap on the way. */
        const uint32_t ab = (uint32_t)s->ab.i[i], bb = (uint32_t)s->bb.i[i];
        const float l2sq = (float)((uint32_t)query->aa_i + bb - 2 * ab), below = norm * sqrtf((float)bb);
        switch (query->metric) {
        case VX_DOT: out[i] = (float)s->ab.i[i]; break;
        case VX_L2SQ: out[i] = l2sq; break;
        case VX_L2: out[i] = sqrtf(l2sq); break;
        default: out[i] = below > 0 ? fmaxf(0.0f, 1.0f - (float)s->ab.i[i] / below) : 1.0f;
        }
    }
    return 0;
}

static uint64_t finish_b1(const vx_query *query, const vx_sums *s, size_t n, float *out)
{
    const float dim = (float)query->dim;
    for (size_t i = 0; i < n; i++) {
        const float differ = (float)s->ab.i[i];
        switch (query->metric) {
        case VX_DOT: out[i] = dim - 2 * differ; break;
        case VX_COSINE: out[i] = 2 * differ / dim; break;
        case VX_L2SQ: out[i] = 4 * differ; break;
        case VX_L2: out[i] = 2 * sqrtf(differ); break;
        default: out[i] = differ;
        }
    }
    return 0;
}

VX_SHAPES_FLOAT(f32, VX_F32, finish_f)
VX_SHAPES_FLOAT(f16, VX_F16, finish_f)
VX_SHAPES_FLOAT(bf16, VX_BF16, finish_f)
VX_SHAPES_INT(i8, VX_I8, finish_i)
VX_SHAPES_INT(i4, VX_I4, finish_i)
VX_SHAPES_BITS(b1, 4, b1_ab_four, finish_b1)

void vx_simd_fill_scalar(vx_kernels *k)
{
    memset(k, 0, sizeof *k);
    VX_PUT(k->distance[VX_F32], f32);
    VX_PUT(k->distance[VX_F16], f16);
    VX_PUT(k->distance[VX_BF16], bf16);
    VX_PUT(k->distance[VX_I8], i8);
    VX_PUT(k->distance[VX_I4], i4);
    VX_PUT(k->distance[VX_B1], b1);
    k->distance[VX_B1][VX_HAMMING] = b1_vhamming_shapes;
    vx_simd_fill_scalar_codes(k);
}
