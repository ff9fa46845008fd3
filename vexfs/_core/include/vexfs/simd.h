/* SIMD kernels: distances between vectors, and the codes that vectors are stored as.
 *
 * A level is a set of kernels for one instruction set.  Each level's table is complete: what a level has no kernel of
 * its own for, it takes from the level below.  Tables are filled once and never change; a `vx_simd` names the table in
 * use and counts.  Vectors may stand at any address: no kernel asks for alignment.
 *
 * | dtype | a vector of dim values is                                                     | products are summed in   |
 * | f32   | dim little-endian binary32                                                    | f32, 4 or more sums      |
 * | f16   | dim binary16                                                                  | f32                      |
 * | bf16  | dim bfloat16                                                                  | f32                      |
 * | i8    | dim signed bytes                                                              | int32, exact             |
 * | i4    | (dim + 1) / 2 bytes, two's complement nibbles, low first, a spare one zero    | int32, exact             |
 * | b1    | (dim + 7) / 8 bytes, low bit first, set is +1 and clear is -1, spare bits zero | int32, exact             |
 *
 * Where the processor has bfloat16 products, a bf16 value under 2^-126 counts as zero in dot.
 *
 * The exact sums hold for dim up to VX_DIM_MAX.  Of the float types, a sum that left the range of f32 is computed
 * again in f64, so neither huge nor tiny vectors spoil a cosine or a distance. */
#ifndef VEXFS_SIMD_H
#define VEXFS_SIMD_H

#include <stddef.h>
#include <stdint.h>

#define VX_DIM_MAX 65536u

enum vx_dtype { VX_F32, VX_F16, VX_BF16, VX_I8, VX_I4, VX_B1, VX_DTYPES };

/* dot: the inner product (larger is nearer).  cosine: 1 - cos, in 0..2; 1 where a vector is all zeros.  l2sq, l2:
 * squared and plain euclidean distance.  hamming: bits that differ, for b1 only (NULL for the others). */
enum vx_metric { VX_DOT, VX_COSINE, VX_L2SQ, VX_L2, VX_HAMMING, VX_METRICS };

/* avx512 asks for F, BW, DQ and VL; avx512x adds each of VNNI, BF16 and VPOPCNTDQ that the processor has. */
enum vx_level { VX_SCALAR, VX_NEON, VX_AVX2, VX_AVX512, VX_AVX512X, VX_LEVELS };

/* What the processor offers and the operating system keeps across a context switch. */
enum vx_cpu_feature {
    VX_CPU_NEON = 1 << 0,
    VX_CPU_AVX2 = 1 << 1,
    VX_CPU_FMA = 1 << 2,
    VX_CPU_F16C = 1 << 3,
    VX_CPU_AVX512F = 1 << 4,
    VX_CPU_AVX512BW = 1 << 5,
    VX_CPU_AVX512DQ = 1 << 6,
    VX_CPU_AVX512VL = 1 << 7,
    VX_CPU_AVX512VNNI = 1 << 8,
    VX_CPU_AVX512BF16 = 1 << 9,
    VX_CPU_AVX512VPOPCNTDQ = 1 << 10,
    VX_CPU_POPCNT = 1 << 11,
    VX_CPU_OS_AVX = 1 << 12,    /* XCR0 keeps the ymm registers */
    VX_CPU_OS_AVX512 = 1 << 13, /* XCR0 keeps the zmm and mask registers */
    VX_CPU_AVX512VBMI = 1 << 14,
    VX_CPU_INTEL = 1 << 15 /* whose prefetchers follow the rows of a block, however long they are */
};

typedef float (*vx_pair_fn)(const void *a, const void *b, size_t dim);
/* n rows, `stride` bytes apart. */
typedef void (*vx_many_fn)(const void *q, const void *rows, size_t stride, size_t n, size_t dim, float *out);
/* Row ids[i] stands at rows + ids[i] * stride; the rows ahead are prefetched. */
typedef void (*vx_gather_fn)(const void *q, const void *rows, size_t stride, const uint32_t *ids, size_t n, size_t dim,
                             float *out);
/* out[i * out_stride + j] is between row i of a and row j of b; out_stride counts floats. */
typedef void (*vx_cross_fn)(const void *a, size_t a_stride, size_t na, const void *b, size_t b_stride, size_t nb,
                            size_t dim, float *out, size_t out_stride);
/* One vector: i8 and i4 are rint(x / scale), clamped to -127..127 and -7..7, NaN to 0; b1 is x > 0; f16 and bf16
 * round to nearest even and take no scale.  Dequantising b1 gives +scale and -scale. */
typedef void (*vx_quantise_fn)(const float *x, size_t dim, float scale, void *out);
typedef void (*vx_dequantise_fn)(const void *x, size_t dim, float scale, float *out);

/* Bit i of `bits`, low first, tells whether x[i] is so to `value`; NaN is in no order.  Bits behind the last are zero. */
enum vx_order { VX_LESS, VX_LESS_EQUAL, VX_GREATER, VX_GREATER_EQUAL, VX_EQUAL };
typedef void (*vx_select_fn)(const double *x, size_t n, int order, double value, uint64_t *bits);

typedef struct {
    vx_pair_fn pair;
    vx_many_fn many;
    vx_many_fn stream; /* as `many`, for long rows that are not in the caches: see vx_simd_sweep */
    vx_gather_fn gather;
    vx_cross_fn cross;
} vx_shapes;

typedef struct {
    vx_shapes distance[VX_DTYPES][VX_METRICS];
    vx_quantise_fn quantise[VX_DTYPES];     /* from f32; f32 itself is a copy */
    vx_dequantise_fn dequantise[VX_DTYPES]; /* to f32 */
    vx_select_fn select;
    int level;
} vx_kernels;

/* Which level to take.  level >= 0 is a demand; else the best is taken, no better than the switches allow. */
typedef struct {
    int level;         /* an enum vx_level, or -1 */
    int auto_detect;   /* 0: scalar */
    int force_avx2;    /* avx2, whatever else there is */
    int enable_avx512; /* 0: no better than avx2 */
} vx_simd_policy;

uint32_t vx_cpu_detect(void);

const char *vx_level_name(int level);
/* The level of that name, or -EINVAL. */
int vx_level_parse(const char *name);
/* 0; -EINVAL unknown; -ENOSYS not built into this library; -ENOTSUP not supported by this machine. */
int vx_level_check(int level);
/* The level that the policy asks for, or the error of vx_level_check for a demand that cannot be met. */
int vx_level_choose(const vx_simd_policy *policy);
/* The table of a level that vx_level_check accepts; NULL otherwise.  It lives as long as the library. */
const vx_kernels *vx_kernels_of(int level);

/* Bytes of one vector. */
size_t vx_row_bytes(int dtype, size_t dim);


typedef struct vx_simd vx_simd;

/* NULL on ENOMEM.  `level` must pass vx_level_check; `batch` bounds the rows of one kernel call, at least 1. */
vx_simd *vx_simd_new(int level, uint32_t batch);
void vx_simd_free(vx_simd *s);
/* 0 or the error of vx_level_check.  Calls under way finish on the table they began with. */
int vx_simd_set_level(vx_simd *s, int level);
void vx_simd_set_batch(vx_simd *s, uint32_t batch);
uint32_t vx_simd_batch(const vx_simd *s);
const vx_kernels *vx_simd_kernels(const vx_simd *s);
/* Code that calls kernels itself (an index) adds what it did, once a query. */
void vx_simd_count(vx_simd *s, uint64_t calls, uint64_t vectors);
void vx_simd_read(const vx_simd *s, uint64_t *calls, uint64_t *vectors);
void vx_simd_reset(vx_simd *s);

/* What goes over n rows from end to end takes: `stream` where they are long, and more than caches keep. */
vx_many_fn vx_simd_sweep(const vx_shapes *shapes, size_t n, size_t stride);

/* Counted, in batches.  0, or -EINVAL where that dtype has no such metric or dim is 0 or above VX_DIM_MAX. */
int vx_simd_many(vx_simd *s, int dtype, int metric, const void *q, const void *rows, size_t stride, size_t n,
                 size_t dim, float *out);
int vx_simd_gather(vx_simd *s, int dtype, int metric, const void *q, const void *rows, size_t stride,
                   const uint32_t *ids, size_t n, size_t dim, float *out);
int vx_simd_cross(vx_simd *s, int dtype, int metric, const void *a, size_t a_stride, size_t na, const void *b,
                  size_t b_stride, size_t nb, size_t dim, float *out);
int vx_simd_quantise(vx_simd *s, int dtype, const float *x, size_t n, size_t dim, float scale, void *out);
int vx_simd_dequantise(vx_simd *s, int dtype, const void *x, size_t n, size_t dim, float scale, float *out);
#endif
