/* The kernels of the vector index for NEON (Advanced SIMD of ARMv8-A).  What the compiler makes vectors of by itself, NEON
 * being part of the base, is taken from the portable set. */
#include <arm_neon.h>

#include "vexfs/half.h"
#include "vindex_shapes.h"

#define LANES 8u

/* Eight values. */
VX_INLINED float32x4x2_t load8(int dtype, const uint8_t *p)
{
    float32x4x2_t v;
    if (dtype == VX_F32) {
        v.val[0] = vreinterpretq_f32_u8(vld1q_u8(p));
        v.val[1] = vreinterpretq_f32_u8(vld1q_u8(p + 16));
    } else if (dtype == VX_F16) {
        const float16x8_t h = vreinterpretq_f16_u8(vld1q_u8(p));
        v.val[0] = vcvt_f32_f16(vget_low_f16(h));
        v.val[1] = vcvt_f32_f16(vget_high_f16(h));
    } else if (dtype == VX_BF16) {
        const uint16x8_t h = vreinterpretq_u16_u8(vld1q_u8(p));
        v.val[0] = vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h), 16));
        v.val[1] = vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(h), 16));
    } else {
        const int16x8_t wide = vmovl_s8(vreinterpret_s8_u8(vld1_u8(p)));
        v.val[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
        v.val[1] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(wide)));
    }
    return v;
}

VX_INLINED float32x4_t step_of(int squares, float32x4_t q, float32x4_t x, float32x4_t scale, float32x4_t sum)
{
    if (!squares)
        return vfmaq_f32(sum, q, x);
    const float32x4_t d = vfmsq_f32(q, scale, x);
    return vfmaq_f32(sum, d, d);
}

VX_INLINED float compare(int dtype, int squares, const float *q, const uint8_t *row, size_t dim)
{
    const size_t width = vx_width_of(dtype);
    const float scale = dtype == VX_I8 ? vx_load_f32(row + dim) : 1;
    const float32x4_t scales = vdupq_n_f32(scale);
    float32x4_t sum[2] = {vdupq_n_f32(0), vdupq_n_f32(0)};
    for (size_t i = 0; i < dim; i += LANES) {
        const size_t n = dim - i < LANES ? dim - i : LANES;
        float some[LANES] = {0};
        uint8_t codes[4 * LANES] = {0};
        const float *qi = q + i;
        const uint8_t *xi = row + i * width;
        if (n < LANES) {
            qi = memcpy(some, qi, n * sizeof *q);
            xi = memcpy(codes, xi, n * width);
        }
        const float32x4x2_t x = load8(dtype, xi);
        sum[0] = step_of(squares, vld1q_f32(qi), x.val[0], scales, sum[0]);
        sum[1] = step_of(squares, vld1q_f32(qi + 4), x.val[1], scales, sum[1]);
    }
    const float all = vaddvq_f32(vaddq_f32(sum[0], sum[1]));
    return squares ? all : all * scale;
}

VX_COMPARISONS(compare)

VX_INLINED uint8x16_t look_up(uint8x16_t line, uint8x16_t first, uint8x16_t second)
{
    const uint8x16_t low = vandq_u8(line, vdupq_n_u8(15)), high = vshrq_n_u8(line, 4);
    return vaddq_u8(vqtbl1q_u8(first, low), vqtbl1q_u8(second, high));
}

/* Four lines make eight entries of at most 31, which a byte holds; 1024 lines of two fit 16 bits. */
VX_INLINED void sums_of(const uint8_t *block, const uint8_t *tables, size_t lines, uint32x4_t wide[8])
{
    for (size_t i = 0; i < 8; i++)
        wide[i] = vdupq_n_u32(0);
    for (size_t j = 0; j < lines;) {
        const size_t until = lines - j < 1024 ? lines : j + 1024;
        uint16x8_t some[4] = {vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u16(0)};
        for (; j < until; j += 4) {
            uint8x16_t left = vdupq_n_u8(0), right = vdupq_n_u8(0);
            for (size_t u = j; u < j + 4; u++) {
                const uint8x16_t first = vld1q_u8(tables + u * 32), second = vld1q_u8(tables + u * 32 + 16);
                left = vaddq_u8(left, look_up(vld1q_u8(block + u * VX_BLOCK), first, second));
                right = vaddq_u8(right, look_up(vld1q_u8(block + u * VX_BLOCK + 16), first, second));
            }
            some[0] = vaddw_u8(some[0], vget_low_u8(left));
            some[1] = vaddw_u8(some[1], vget_high_u8(left));
            some[2] = vaddw_u8(some[2], vget_low_u8(right));
            some[3] = vaddw_u8(some[3], vget_high_u8(right));
        }
        for (size_t i = 0; i < 4; i++) {
            wide[2 * i] = vaddw_u16(wide[2 * i], vget_low_u16(some[i]));
            wide[2 * i + 1] = vaddw_u16(wide[2 * i + 1], vget_high_u16(some[i]));
        }
    }
}

static void scores(const uint8_t *blocks, size_t stride, size_t n, const uint8_t *tables, size_t lines,
                   const float *add, float step, float base, float *out)
{
    for (size_t b = 0; b < n; b++, blocks += stride) {
        const float *scale = (const float *)(const void *)(blocks + lines * VX_BLOCK) + VX_BLOCK;
        uint32x4_t wide[8];
        sums_of(blocks, tables, lines, wide);
        for (size_t i = 0; i < 8; i++) {
            const float32x4_t s = vfmaq_f32(vdupq_n_f32(base), vcvtq_f32_u32(wide[i]), vdupq_n_f32(step));
            const float32x4_t a = vld1q_f32(add + b * VX_BLOCK + 4 * i);
            vst1q_f32(out + b * VX_BLOCK + 4 * i, vfmaq_f32(a, vld1q_f32(scale + 4 * i), s));
        }
    }
}

static void scan(const uint8_t *blocks, size_t stride, size_t n, const uint8_t *ahead, const uint8_t *tables, size_t lines,
                 const vx_sieve *sieve, uint32_t *found)
{
    (void)ahead;
    for (size_t b = 0; b < n; b++, blocks += stride) {
        const float *numbers = (const float *)(const void *)(blocks + lines * VX_BLOCK);
        float score[VX_BLOCK];
        scores(blocks, stride, 1, tables, lines, numbers, sieve->step, sieve->base, score);
        found[b] = 0;
        for (uint32_t i = 0; i < VX_BLOCK; i++)
            found[b] |= (uint32_t)(score[i] + sieve->add >= sieve->least) << i;
    }
}

/* Sixteen products of at most 15 * 127 in pairs: eight such sums fit 16 bits, and are widened at once. */
static int32_t fine(const uint8_t *code, const int8_t *q, size_t bytes)
{
    int32x4_t sum = vdupq_n_s32(0);
    for (size_t at = 0; at < bytes; at += 32)
        for (size_t half = 0; half < 32; half += 16) {
            const uint8x16_t codes = vld1q_u8(code + at + half);
            const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(codes, vdupq_n_u8(15)));
            const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(codes, 4));
            const int8x16_t q0 = vld1q_s8(q + 2 * at + half), q1 = vld1q_s8(q + 2 * at + 32 + half);
            int16x8_t some = vmull_s8(vget_low_s8(low), vget_low_s8(q0));
            some = vmlal_s8(some, vget_high_s8(low), vget_high_s8(q0));
            some = vmlal_s8(some, vget_low_s8(high), vget_low_s8(q1));
            some = vmlal_s8(some, vget_high_s8(high), vget_high_s8(q1));
            sum = vpadalq_s16(sum, some);
        }
    return vaddvq_s32(sum);
}

/* Of a byte, 128 more than its value: q times the value, and 128 times the sum of q. */
static int32_t coarse(const int8_t *q, const uint8_t *row, size_t dim)
{
    int32x4_t sum = vdupq_n_s32(0), all = vdupq_n_s32(0);
    for (size_t i = 0; i < dim; i += 16) {
        const int8x16_t x = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(row + i), vdupq_n_u8(128))), qi = vld1q_s8(q + i);
        sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(x), vget_low_s8(qi)));
        sum = vpadalq_s16(sum, vmull_s8(vget_high_s8(x), vget_high_s8(qi)));
        all = vpadalq_s16(all, vpaddlq_s8(qi));
    }
    return vaddvq_s32(sum) + 128 * vaddvq_s32(all);
}

static uint32_t count(const float *values, size_t n, float least)
{
    uint32x4_t found = vdupq_n_u32(0);
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        found = vsubq_u32(found, vcgeq_f32(vld1q_f32(values + i), vdupq_n_f32(least)));
    uint32_t all = vaddvq_u32(found);
    for (; i < n; i++)
        all += values[i] >= least;
    return all;
}

void vx_vindex_fill_neon(vx_vkernels *k)
{
    const vx_vkernels own = {
        .dot = {dot_f32, dot_f16, dot_bf16, dot_i8},
        .l2sq = {l2sq_f32, l2sq_f16, l2sq_bf16, l2sq_i8},
    };
    memcpy(k->dot, own.dot, sizeof own.dot);
    memcpy(k->l2sq, own.l2sq, sizeof own.l2sq);
    k->scan = scan;
    k->scores = scores;
    k->fine = fine;
    k->coarse = coarse;
    k->count = count;
}
