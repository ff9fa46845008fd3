"""C declarations of the vector index, and the object that owns one."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from vexfs._core.pool cimport Pool, vx_pool
from vexfs._core.simd cimport Simd, vx_simd


cdef extern from "vexfs/vindex.h" nogil:
    const uint32_t VX_VINDEX_K_MAX
    const uint32_t VX_VINDEX_NONE

    ctypedef struct vx_vindex:
        pass

    ctypedef int (*vx_vindex_read_fn)(void *ctx, uint32_t first, uint32_t n, void *out) noexcept nogil
    ctypedef int (*vx_vindex_out_fn)(void *ctx, const void *bytes, size_t n) noexcept nogil
    ctypedef int (*vx_vindex_in_fn)(void *ctx, void *bytes, size_t n) noexcept nogil

    ctypedef struct vx_vindex_ask:
        uint32_t k
        float recall
        uint32_t effort
        int exact
        int limited
        float threshold
        const uint64_t *mask
        uint64_t mask_bits
        const uint32_t *only
        size_t only_n
        uint32_t threads

    ctypedef struct vx_vindex_work:
        uint64_t queries
        uint64_t lists
        uint64_t scanned
        uint64_t fine
        uint64_t exact
        uint64_t fetched
        uint32_t plan
        uint32_t lists_total

    ctypedef struct vx_vindex_memory:
        uint64_t rows
        uint64_t codes
        uint64_t lists
        uint64_t maps
        uint64_t model

    ctypedef struct vx_vindex_stats:
        uint64_t live
        uint64_t end
        uint64_t resident
        uint64_t dead
        uint32_t lists
        uint32_t trained_rows
        uint32_t generation
        uint32_t growing
        uint64_t puts
        uint64_t removes
        uint64_t searches

    int vx_vindex_new(vx_vindex **out, uint32_t dim, int metric, int dtype, vx_simd *simd, vx_pool *pool) noexcept
    void vx_vindex_free(vx_vindex *v) noexcept
    size_t vx_vindex_row_bytes(const vx_vindex *v) noexcept
    int vx_vindex_encode(const vx_vindex *v, const float *x, size_t n, void *stored, size_t *bad) noexcept
    void vx_vindex_decode(const vx_vindex *v, const void *stored, size_t n, float *x) noexcept
    int vx_vindex_put(vx_vindex *v, const uint32_t *rows, const void *stored, size_t n) noexcept
    int vx_vindex_remove(vx_vindex *v, uint32_t row) noexcept
    int vx_vindex_has(const vx_vindex *v, uint32_t row) noexcept
    uint64_t vx_vindex_count(const vx_vindex *v) noexcept
    int vx_vindex_search(vx_vindex *v, const float *q, size_t nq, const vx_vindex_ask *ask, uint32_t *rows,
                         float *distances, uint32_t *filled, vx_vindex_work *work) noexcept
    int vx_vindex_maintain(vx_vindex *v, uint32_t budget_ms) noexcept
    void vx_vindex_expect(vx_vindex *v, const float *q, size_t nq) noexcept
    int vx_vindex_may_learn(vx_vindex *v) noexcept
    size_t vx_vindex_learned(vx_vindex *v, void *out) noexcept
    int vx_vindex_teach(vx_vindex *v, const void *learned, size_t n) noexcept
    void vx_vindex_source(vx_vindex *v, vx_vindex_read_fn read, void *ctx, int keep) noexcept
    int vx_vindex_load(vx_vindex *v, uint32_t first, uint32_t n) noexcept
    int vx_vindex_dump(vx_vindex *v, vx_vindex_out_fn write, void *ctx) noexcept
    int vx_vindex_restore(vx_vindex *v, vx_vindex_in_fn read, void *ctx) noexcept
    void vx_vindex_read_memory(vx_vindex *v, vx_vindex_memory *out) noexcept
    void vx_vindex_read_stats(vx_vindex *v, vx_vindex_stats *out) noexcept


# Owns `index`; code that keeps the pointer keeps a reference to the object.
cdef class VectorIndex:
    cdef vx_vindex *index
    cdef Simd simd
    cdef Pool pool
    cdef object read_rows, failure
    cdef readonly uint32_t dim
    cdef readonly str metric, dtype
    cdef readonly size_t row_bytes
    cdef object _check(self, int status)
    cdef object _search(self, const float *q, size_t nq, const vx_vindex_ask *ask, uint32_t *rows, float *distances,
                        uint32_t *filled, dict work)
