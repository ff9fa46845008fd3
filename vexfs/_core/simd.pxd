from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

cdef extern from "vexfs/simd.h" nogil:
    enum:
        VX_DIM_MAX

    enum vx_dtype:
        VX_F32
        VX_F16
        VX_BF16
        VX_I8
        VX_I4
        VX_B1
        VX_DTYPES

    enum vx_metric:
        VX_DOT
        VX_COSINE
        VX_L2SQ
        VX_L2
        VX_HAMMING
        VX_METRICS

    enum vx_level:
        VX_SCALAR
        VX_NEON
        VX_AVX2
        VX_AVX512
        VX_AVX512X
        VX_LEVELS

    ctypedef float (*vx_pair_fn)(const void *a, const void *b, size_t dim) noexcept nogil
    ctypedef void (*vx_many_fn)(const void *q, const void *rows, size_t stride, size_t n, size_t dim,
                                float *out) noexcept nogil
    ctypedef void (*vx_gather_fn)(const void *q, const void *rows, size_t stride, const uint32_t *ids, size_t n,
                                  size_t dim, float *out) noexcept nogil
    ctypedef void (*vx_cross_fn)(const void *a, size_t a_stride, size_t na, const void *b, size_t b_stride, size_t nb,
                                 size_t dim, float *out, size_t out_stride) noexcept nogil
    ctypedef void (*vx_quantise_fn)(const float *x, size_t dim, float scale, void *out) noexcept nogil
    ctypedef void (*vx_dequantise_fn)(const void *x, size_t dim, float scale, float *out) noexcept nogil

    enum vx_order:
        VX_LESS
        VX_LESS_EQUAL
        VX_GREATER
        VX_GREATER_EQUAL
        VX_EQUAL

    ctypedef void (*vx_select_fn)(const double *x, size_t n, int order, double value, uint64_t *bits) noexcept nogil

    ctypedef struct vx_shapes:
        vx_pair_fn pair
        vx_many_fn many
        vx_gather_fn gather
        vx_cross_fn cross

    ctypedef struct vx_kernels:
        vx_shapes distance[6][5]  # [vx_dtype][vx_metric]
        vx_quantise_fn quantise[6]
        vx_dequantise_fn dequantise[6]
        vx_select_fn select
        int level

    ctypedef struct vx_simd_policy:
        int level
        int auto_detect
        int force_avx2
        int enable_avx512

    ctypedef struct vx_simd:
        pass

    uint32_t vx_cpu_detect() noexcept
    const char *vx_level_name(int level) noexcept
    int vx_level_parse(const char *name) noexcept
    int vx_level_check(int level) noexcept
    int vx_level_choose(const vx_simd_policy *policy) noexcept
    const vx_kernels *vx_kernels_of(int level) noexcept
    size_t vx_row_bytes(int dtype, size_t dim) noexcept
    vx_simd *vx_simd_new(int level, uint32_t batch) noexcept
    void vx_simd_free(vx_simd *s) noexcept
    int vx_simd_set_level(vx_simd *s, int level) noexcept
    void vx_simd_set_batch(vx_simd *s, uint32_t batch) noexcept
    uint32_t vx_simd_batch(const vx_simd *s) noexcept
    const vx_kernels *vx_simd_kernels(const vx_simd *s) noexcept
    void vx_simd_count(vx_simd *s, uint64_t calls, uint64_t vectors) noexcept
    void vx_simd_read(const vx_simd *s, uint64_t *calls, uint64_t *vectors) noexcept
    void vx_simd_reset(vx_simd *s) noexcept
    int vx_simd_many(vx_simd *s, int dtype, int metric, const void *q, const void *rows, size_t stride, size_t n,
                     size_t dim, float *out) noexcept
    int vx_simd_gather(vx_simd *s, int dtype, int metric, const void *q, const void *rows, size_t stride,
                       const uint32_t *ids, size_t n, size_t dim, float *out) noexcept
    int vx_simd_cross(vx_simd *s, int dtype, int metric, const void *a, size_t a_stride, size_t na, const void *b,
                      size_t b_stride, size_t nb, size_t dim, float *out) noexcept
    int vx_simd_quantise(vx_simd *s, int dtype, const float *x, size_t n, size_t dim, float scale, void *out) noexcept
    int vx_simd_dequantise(vx_simd *s, int dtype, const void *x, size_t n, size_t dim, float scale,
                           float *out) noexcept


# Owns `simd`; code that keeps the pointer keeps a reference to the object.
cdef class Simd:
    cdef vx_simd *simd
    cdef readonly bint auto_detect, force_avx2, enable_avx512
    cdef readonly object demand
    cdef int choose(self) except -1
