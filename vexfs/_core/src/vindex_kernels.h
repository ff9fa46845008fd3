/* The kernels of the vector index: one set a level, for the vindex_*.c files alone.
 *
 * A block holds 32 entries.  Its 1-bit codes stand transposed: byte i of line j has eight dimensions of entry i, four in
 * each nibble, so that one table lookup of 32 bytes serves 32 entries.  The numbers behind the lines are floats. */
#ifndef VEXFS_SRC_VINDEX_KERNELS_H
#define VEXFS_SRC_VINDEX_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "vexfs/simd.h"

#define VX_BLOCK 32u
/* The largest entry of a lookup table: eight of them fit a byte. */
#define VX_LUT_MOST 31
#define VX_ROUNDS 4

/* A random rotation in `padded` dimensions: signs, fast Hadamard transforms of overlapping powers of two, and a mixing of
 * the two halves, four times over. */
typedef struct {
    uint32_t dim, padded, power;
    float *signs; /* VX_ROUNDS x padded, +1 or -1 times the transform's scale */
} vx_rotation;

/* score = add + a[i] + b[i] * (step * sum[i] + base); the bits of the result are the entries that reach `least`. */
typedef struct {
    float add, step, base, least;
} vx_sieve;

/* What coding a vector r (x less its centroid c) needs to know of it. */
typedef struct {
    float rr, r1, cr, cs, most; /* |r|^2, sum of |r[i]|, <c, r>, <c, signs of r>, largest |r[i]| */
} vx_moments;

typedef struct {
    float (*dot[VX_I8 + 1])(const float *q, const void *row, size_t dim);
    float (*l2sq[VX_I8 + 1])(const float *q, const void *row, size_t dim);
    /* n blocks that stand `stride` apart, each `lines` lines of 32 bytes, then a[32] and b[32]: found[n].  As many lines
     * from `ahead` on, where the next blocks are, are asked for meanwhile. */
    void (*scan)(const uint8_t *blocks, size_t stride, size_t n, const uint8_t *ahead, const uint8_t *tables,
                 size_t lines, const vx_sieve *sieve, uint32_t *found);
    /* add[i] + b[i] * (step * sum[i] + base) of n such blocks. */
    void (*scores)(const uint8_t *blocks, size_t stride, size_t n, const uint8_t *tables, size_t lines,
                   const float *add, float step, float base, float *out);
    int32_t (*fine)(const uint8_t *code, const int8_t *q, size_t bytes);
    /* `dim` unsigned bytes (a multiple of 64) times q, which stays within -63..63. */
    int32_t (*coarse)(const int8_t *q, const uint8_t *row, size_t dim);
    void (*rotate)(const vx_rotation *r, const float *x, float *y);
    /* 16 sums of four values each, for every four of the `dim` values; *step and *base undo the rounding. */
    void (*tables)(const float *q, size_t dim, uint8_t *tables, float *step, float *base);
    /* q in steps, within -most..most: the step, and the sum of the result in *sum. */
    float (*round)(const float *q, size_t dim, int most, int8_t *out, int32_t *sum);
    /* The signs of x - c, low bit first, and the moments. */
    void (*signs)(const float *x, const float *c, size_t dim, uint8_t *bits, vx_moments *m);
    /* Of n values: how many are at least `least`; where they are (room for 16 more); their mean and deviation. */
    uint32_t (*count)(const float *values, size_t n, float least);
    uint32_t (*pick)(const float *values, size_t n, float least, uint32_t *out);
    void (*spread)(const float *values, size_t n, float *mean, float *deviation);
} vx_vkernels;

/* The set of a level that vx_level_check accepts. */
const vx_vkernels *vx_vkernels_of(int level);

void vx_vindex_fill_scalar(vx_vkernels *k);
void vx_vindex_fill_neon(vx_vkernels *k); /* over those of the scalar set */
void vx_vindex_fill_avx2(vx_vkernels *k);
void vx_vindex_fill_avx512(vx_vkernels *k);
/* Those of a set that the processor has better instructions for. */
void vx_vindex_fill_avx512x(vx_vkernels *k, uint32_t cpu);
#endif
