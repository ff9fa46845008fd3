/* The stored number formats, one value at a time, in portable C: loads from any address, and conversions that round to
 * nearest even. */
#ifndef VEXFS_HALF_H
#define VEXFS_HALF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline float vx_load_f32(const void *p)
{
    float f;
    memcpy(&f, p, sizeof f);
    return f;
}

static inline uint16_t vx_load_u16(const void *p)
{
    uint16_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

static inline uint32_t vx_bits_of_f32(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float vx_f32_of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline float vx_f32_of_bf16(uint16_t h)
{
    return vx_f32_of_bits((uint32_t)h << 16);
}

static inline uint16_t vx_bf16_of_f32(float f)
{
    const uint32_t u = vx_bits_of_f32(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) /* NaN: keep it one though its low bits go */
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

static inline float vx_f32_of_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, shifted = (uint32_t)(h & 0x7fff) << 13;
    const uint32_t exponent = shifted & 0x0f800000u;
    if (exponent == 0) /* zero or denormal: 2^-24 a step, exact in f32 */
        return vx_f32_of_bits(sign | vx_bits_of_f32((float)(h & 0x7fff) * 0x1p-24f));
    if (exponent == 0x0f800000u)
        return vx_f32_of_bits(sign | 0x7f800000u | shifted);
    return vx_f32_of_bits(sign | (shifted + (112u << 23)));
}

static inline uint16_t vx_f16_of_f32(float f)
{
    const uint32_t u = vx_bits_of_f32(f), magnitude = u & 0x7fffffffu;
    const uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x477ff000u) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000u) { /* below 2^-14: adding 0.5 lets the adder round at 2^-24 */
        const uint32_t rounded = vx_bits_of_f32(vx_f32_of_bits(magnitude) + 0.5f);
        return (uint16_t)(sign | (rounded - 0x3f000000u));
    }
    return (uint16_t)(sign | ((magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1)) >> 13));
}

/* The i-th two's complement nibble. */
static inline int vx_i4_at(const uint8_t *p, size_t i)
{
    return ((p[i / 2] >> (i % 2 * 4) & 15) ^ 8) - 8;
}
#endif
