/* NEON (Advanced SIMD of ARMv8-A): 4 floats a register, tails through a zeroed buffer.  Conversions between formats stay
 * scalar here. */
#include <arm_neon.h>

#include "vexfs/half.h"
#include "vexfs/simd_shapes.h"

#define TRUST_MIN 0x1p-100f
#define TRUST_MAX 0x1p100f
#define STEP 8
#define BYTES_STEP 16
#define UNROLL _Pragma("GCC unroll 4")

VX_INLINE size_t width_of(int dtype)
{
    return dtype == VX_F32 ? 4 : 2;
}

/* 8 values as two registers. */
VX_INLINE float32x4x2_t load_f(int dtype, const uint8_t *p)
{
    float32x4x2_t v;
    if (dtype == VX_F32) {
        v.val[0] = vreinterpretq_f32_u8(vld1q_u8(p));
        v.val[1] = vreinterpretq_f32_u8(vld1q_u8(p + 16));
        return v;
    }
    const uint8x16_t bytes = vld1q_u8(p);
    if (dtype == VX_F16) {
        const float16x8_t h = vreinterpretq_f16_u8(bytes);
        v.val[0] = vcvt_f32_f16(vget_low_f16(h));
        v.val[1] = vcvt_f32_f16(vget_high_f16(h));
    } else {
        const uint16x8_t h = vreinterpretq_u16_u8(bytes);
        v.val[0] = vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h), 16));
        v.val[1] = vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(h), 16));
    }
    return v;
}

VX_INLINE float32x4x2_t load_tail_f(int dtype, const uint8_t *p, size_t n)
{
    uint8_t padded[32] = {0};
    memcpy(padded, p, n * width_of(dtype));
    return load_f(dtype, padded);
}

VX_INLINE void step_f(int metric, float32x4_t x, float32x4_t y, float32x4_t *ab, float32x4_t *bb)
{
    if (metric == VX_L2SQ) {
        const float32x4_t d = vsubq_f32(x, y);
        *ab = vfmaq_f32(*ab, d, d);
        return;
    }
    *ab = vfmaq_f32(*ab, x, y);
    if (metric == VX_COSINE)
        *bb = vfmaq_f32(*bb, y, y);
}

VX_INLINE void four_f(int dtype, int metric, const vx_query *query, const uint8_t *const *row, const uint8_t *ahead,
                      vx_sums *s, size_t at)
{
    const uint8_t *q = query->q;
    const size_t width = width_of(dtype);
    float32x4_t ab[4], bb[4];
    size_t i = 0;
    UNROLL
    for (int k = 0; k < 4; k++)
        ab[k] = bb[k] = vdupq_n_f32(0);
    for (; i + STEP <= query->dim; i += STEP) {
        const float32x4x2_t x = load_f(dtype, q + i * width);
        for (size_t k = 0; ahead && k < width / 2; k++)
            __builtin_prefetch(ahead + 4 * i * width + k * VX_LINE, 0, 3);
        UNROLL
        for (int k = 0; k < 4; k++) {
            const float32x4x2_t y = load_f(dtype, row[k] + i * width);
            step_f(metric, x.val[0], y.val[0], &ab[k], &bb[k]);
            step_f(metric, x.val[1], y.val[1], &ab[k], &bb[k]);
        }
    }
    if (i < query->dim) {
        const float32x4x2_t x = load_tail_f(dtype, q + i * width, query->dim - i);
        UNROLL
        for (int k = 0; k < 4; k++) {
            const float32x4x2_t y = load_tail_f(dtype, row[k] + i * width, query->dim - i);
            step_f(metric, x.val[0], y.val[0], &ab[k], &bb[k]);
            step_f(metric, x.val[1], y.val[1], &ab[k], &bb[k]);
        }
    }
    UNROLL
    for (size_t k = 0; k < 4; k++) {
        s->ab.f[at + k] = vaddvq_f32(ab[k]);
        if (metric == VX_COSINE)
            s->bb.f[at + k] = vaddvq_f32(bb[k]);
    }
}

VX_INLINE void one_f(int dtype, int metric, const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    const uint8_t *q = query->q;
    const size_t width = width_of(dtype);
    float32x4_t ab[4], bb[4];
    size_t i = 0;
    UNROLL
    for (int k = 0; k < 4; k++)
        ab[k] = bb[k] = vdupq_n_f32(0);
    for (; i + 2 * STEP <= query->dim; i += 2 * STEP) {
        UNROLL
        for (size_t k = 0; k < 4; k += 2) {
            const size_t j = (i + k / 2 * STEP) * width;
            const float32x4x2_t x = load_f(dtype, q + j), y = load_f(dtype, row + j);
            step_f(metric, x.val[0], y.val[0], &ab[k], &bb[k]);
            step_f(metric, x.val[1], y.val[1], &ab[k + 1], &bb[k + 1]);
        }
    }
    for (; i < query->dim; i += STEP) {
        const size_t left = query->dim - i, n = left < STEP ? left : STEP;
        const float32x4x2_t x = load_tail_f(dtype, q + i * width, n), y = load_tail_f(dtype, row + i * width, n);
        step_f(metric, x.val[0], y.val[0], &ab[0], &bb[0]);
        step_f(metric, x.val[1], y.val[1], &ab[1], &bb[1]);
    }
    s->ab.f[at] = vaddvq_f32(vaddq_f32(vaddq_f32(ab[0], ab[1]), vaddq_f32(ab[2], ab[3])));
    if (metric == VX_COSINE)
        s->bb.f[at] = vaddvq_f32(vaddq_f32(vaddq_f32(bb[0], bb[1]), vaddq_f32(bb[2], bb[3])));
}

VX_INLINE uint8x16_t load_i(const uint8_t *p, size_t i, size_t bytes)
{
    uint8_t padded[BYTES_STEP] = {0};
    if (bytes - i >= BYTES_STEP)
        return vld1q_u8(p + i);
    memcpy(padded, p + i, bytes - i);
    return vld1q_u8(padded);
}

/* Products of bytes, pairs added into 32 bits: two of -128 * -128 would not fit 16 bits, so each half goes alone. */
VX_INLINE int32x4_t add_bytes(int32x4_t sum, int8x16_t x, int8x16_t y)
{
    sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(x), vget_low_s8(y)));
    return vpadalq_s16(sum, vmull_high_s8(x, y));
}

/* The low and the high nibbles, as signed bytes. */
VX_INLINE int8x16x2_t nibbles(uint8x16_t x)
{
    const int8x16_t v = vreinterpretq_s8_u8(x);
    int8x16x2_t part;
    part.val[0] = vshrq_n_s8(vshlq_n_s8(v, 4), 4);
    part.val[1] = vshrq_n_s8(v, 4);
    return part;
}

VX_INLINE void one_i(int dtype, int squares, const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    const size_t bytes = vx_row_bytes(dtype, query->dim);
    int32x4_t ab = vdupq_n_s32(0), bb = ab;
    for (size_t i = 0; i < bytes; i += BYTES_STEP) {
        const uint8x16_t x = load_i(query->q, i, bytes), y = load_i(row, i, bytes);
        if (dtype == VX_B1) {
            ab = vreinterpretq_s32_u32(
                vpadalq_u16(vreinterpretq_u32_s32(ab), vpaddlq_u8(vcntq_u8(veorq_u8(x, y)))));
        } else if (dtype == VX_I8) {
            const int8x16_t r = vreinterpretq_s8_u8(y);
            ab = add_bytes(ab, vreinterpretq_s8_u8(x), r);
            if (squares)
                bb = add_bytes(bb, r, r);
        } else {
            const int8x16x2_t q = nibbles(x), r = nibbles(y);
            ab = add_bytes(add_bytes(ab, q.val[0], r.val[0]), q.val[1], r.val[1]);
            if (squares)
                bb = add_bytes(add_bytes(bb, r.val[0], r.val[0]), r.val[1], r.val[1]);
        }
    }
    s->ab.i[at] = vaddvq_s32(ab);
    if (squares)
        s->bb.i[at] = vaddvq_s32(bb);
}

#define FLOAT_ROWS(NAME, DTYPE, METRIC)                                                                                \
    static void NAME##_one(const vx_query *q, const uint8_t *row, vx_sums *s, size_t at)                               \
    {                                                                                                                  \
        one_f(DTYPE, METRIC, q, row, s, at);                                                                           \
    }                                                                                                                  \
    static void NAME##_four(const vx_query *q, const uint8_t *const *row, const uint8_t *ahead, vx_sums *s, size_t at) \
    {                                                                                                                  \
        four_f(DTYPE, METRIC, q, row, ahead, s, at);                                                                   \
    }

/* Byte rows share too little with each other for a kernel of four to gain. */
#define INT_ROWS(NAME, DTYPE, SQUARES)                                                                                 \
    static void NAME##_one(const vx_query *q, const uint8_t *row, vx_sums *s, size_t at)                               \
    {                                                                                                                  \
        one_i(DTYPE, SQUARES, q, row, s, at);                                                                          \
    }                                                                                                                  \
    static void NAME##_four(const vx_query *q, const uint8_t *const *row, const uint8_t *ahead, vx_sums *s, size_t at) \
    {                                                                                                                  \
        (void)ahead;                                                                                                   \
        for (size_t k = 0; k < 4; k++)                                                                                 \
            one_i(DTYPE, SQUARES, q, row[k], s, at + k);                                                               \
    }

/* Four sums are always read and four distances made (the arrays are whole registers long); n of them are written. */
VX_INLINE void put(float *out, float32x4_t far, size_t n)
{
    float all[4];
    vst1q_f32(all, far);
    memcpy(out, all, (n < 4 ? n : 4) * sizeof *out);
}

VX_INLINE uint32x4_t trusted(float32x4_t sum)
{
    return vandq_u32(vcgeq_f32(sum, vdupq_n_f32(TRUST_MIN)), vcleq_f32(sum, vdupq_n_f32(TRUST_MAX)));
}

/* 1 - ab / below, not under zero; NaN stays NaN, and one where there is no direction (below is zero). */
VX_INLINE float32x4_t cosine_of(float32x4_t ab, float32x4_t below)
{
    const float32x4_t one = vdupq_n_f32(1), far = vmaxq_f32(vdupq_n_f32(0), vsubq_f32(one, vdivq_f32(ab, below)));
    return vbslq_f32(vceqzq_f32(below), one, far);
}

static uint64_t finish_f(const vx_query *query, const vx_sums *s, size_t n, float *out)
{
    uint64_t again = 0;
    const uint32x4_t aa_trusted = trusted(vdupq_n_f32(query->aa));
    const float32x4_t norm = vsqrtq_f32(vdupq_n_f32(query->aa));
    for (size_t i = 0; i < n; i += 4) {
        const float32x4_t ab = vld1q_f32(s->ab.f + i), bb = vld1q_f32(s->bb.f + i);
        float32x4_t far = ab;
        uint32x4_t good = vcaleq_f32(ab, vdupq_n_f32(TRUST_MAX));
        uint32_t lane[4];
        if (query->metric == VX_L2) {
            far = vsqrtq_f32(ab);
            good = trusted(ab);
        } else if (query->metric == VX_COSINE) {
            far = cosine_of(ab, vmulq_f32(norm, vsqrtq_f32(bb)));
            good = vandq_u32(aa_trusted, trusted(bb));
        }
        put(out + i, far, n - i);
        vst1q_u32(lane, good);
        for (size_t k = 0; k < 4 && i + k < n; k++)
            again |= (uint64_t)(lane[k] == 0) << (i + k);
    }
    return again;
}

static uint64_t finish_i(const vx_query *query, const vx_sums *s, size_t n, float *out)
{
    const int32x4_t aa = vdupq_n_s32(query->aa_i);
    const float32x4_t norm = vsqrtq_f32(vcvtq_f32_s32(aa));
    for (size_t i = 0; i < n; i += 4) {
        const int32x4_t ab = vld1q_s32(s->ab.i + i), bb = vld1q_s32(s->bb.i + i);
        float32x4_t far = vcvtq_f32_s32(ab);
        if (query->metric == VX_COSINE)
            far = cosine_of(far, vmulq_f32(norm, vsqrtq_f32(vcvtq_f32_s32(bb))));
        else if (query->metric != VX_DOT) /* unsigned: a squared distance can need the 32nd bit */
            far = vcvtq_f32_u32(vreinterpretq_u32_s32(vsubq_s32(vaddq_s32(aa, bb), vshlq_n_s32(ab, 1))));
        if (query->metric == VX_L2)
            far = vsqrtq_f32(far);
        put(out + i, far, n - i);
    }
    return 0;
}

static uint64_t finish_b1(const vx_query *query, const vx_sums *s, size_t n, float *out)
{
    const float32x4_t dim = vdupq_n_f32((float)query->dim);
    for (size_t i = 0; i < n; i += 4) {
        float32x4_t far = vcvtq_f32_s32(vld1q_s32(s->ab.i + i));
        const float32x4_t twice = vaddq_f32(far, far);
        if (query->metric == VX_DOT)
            far = vsubq_f32(dim, twice);
        else if (query->metric == VX_COSINE)
            far = vdivq_f32(twice, dim);
        else if (query->metric == VX_L2SQ)
            far = vaddq_f32(twice, twice);
        else if (query->metric == VX_L2)
            far = vmulq_n_f32(vsqrtq_f32(far), 2);
        put(out + i, far, n - i);
    }
    return 0;
}

FLOAT_ROWS(f32_dot, VX_F32, VX_DOT)
FLOAT_ROWS(f32_cos, VX_F32, VX_COSINE)
FLOAT_ROWS(f32_l2, VX_F32, VX_L2SQ)
FLOAT_ROWS(f16_dot, VX_F16, VX_DOT)
FLOAT_ROWS(f16_cos, VX_F16, VX_COSINE)
FLOAT_ROWS(f16_l2, VX_F16, VX_L2SQ)
FLOAT_ROWS(bf16_dot, VX_BF16, VX_DOT)
FLOAT_ROWS(bf16_cos, VX_BF16, VX_COSINE)
FLOAT_ROWS(bf16_l2, VX_BF16, VX_L2SQ)
INT_ROWS(i8_ab, VX_I8, 0)
INT_ROWS(i8_abb, VX_I8, 1)
INT_ROWS(i4_ab, VX_I4, 0)
INT_ROWS(i4_abb, VX_I4, 1)
INT_ROWS(b1_ab, VX_B1, 0)

VX_SHAPES_FLOAT(f32, VX_F32, finish_f)
VX_SHAPES_FLOAT(f16, VX_F16, finish_f)
VX_SHAPES_FLOAT(bf16, VX_BF16, finish_f)
VX_SHAPES_INT(i8, VX_I8, finish_i)
VX_SHAPES_INT(i4, VX_I4, finish_i)
VX_SHAPES_BITS(b1, 4, b1_ab_four, finish_b1)

void vx_simd_fill_neon(vx_kernels *k)
{
    VX_PUT(k->distance[VX_F32], f32);
    VX_PUT(k->distance[VX_F16], f16);
    VX_PUT(k->distance[VX_BF16], bf16);
    VX_PUT(k->distance[VX_I8], i8);
    VX_PUT(k->distance[VX_I4], i4);
    VX_PUT(k->distance[VX_B1], b1);
    k->distance[VX_B1][VX_HAMMING] = b1_vhamming_shapes;
}
