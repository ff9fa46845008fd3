"""C declarations of the tiered memory pools, and the object that owns one."""

from libc.stdint cimport int32_t, uint32_t, uint64_t


cdef extern from "vexfs/pool.h" nogil:
    enum:
        VX_POOL_TIERS
        VX_POOL_BUCKETS
        VX_POOL_ZERO_ON_FREE
        VX_POOL_GUARD_PAGES
        VX_POOL_CANARIES
        VX_POOL_POISON
        VX_POOL_TRACKING
        VX_POOL_OFF
        VX_TAG_COUNT

    ctypedef struct vx_pool:
        pass

    ctypedef struct vx_pool_tier_stats:
        uint64_t acquires
        uint64_t hits
        uint64_t misses
        uint64_t in_use
        uint64_t high_water
        uint64_t capacity
        uint64_t releases
        uint64_t *latency_ns
        uint64_t *demand
        uint64_t sampled
        uint64_t sampled_bytes
        uint64_t recycled
        uint64_t kept

    ctypedef struct vx_pool_stats:
        vx_pool_tier_stats *tier
        uint64_t oversize
        uint64_t overflows
        uint64_t underflows
        uint64_t use_after_free
        uint64_t double_free
        uint64_t bad_size

    ctypedef struct vx_pool_violation:
        uint32_t kind
        uint32_t tag
        uint32_t tier
        int32_t offset
        uint64_t size
        uint64_t address
        uint64_t time_ns
        uint64_t serial

    ctypedef struct vx_pool_owner:
        uint64_t count
        uint64_t bytes
        uint64_t oldest_ns

    uint64_t vx_pool_bucket(uint32_t i)
    vx_pool *vx_pool_new(const uint32_t *counts, uint32_t options)
    void vx_pool_free(vx_pool *p)
    void *vx_pool_acquire(vx_pool *p, size_t size, int tag)
    void vx_pool_release(vx_pool *p, void *buf, size_t size)
    int vx_pool_resize(vx_pool *p, const uint32_t *counts)
    int vx_pool_set_options(vx_pool *p, uint32_t options)
    void vx_pool_read_stats(vx_pool *p, vx_pool_stats *out)
    void vx_pool_reset_stats(vx_pool *p)
    void vx_pool_trim(vx_pool *p)
    size_t vx_pool_check(vx_pool *p)
    size_t vx_pool_violations(vx_pool *p, vx_pool_violation *out, size_t n)
    void vx_pool_owners(vx_pool *p, vx_pool_owner *out)
    const char *vx_pool_violation_name(uint32_t kind)
    const char *vx_pool_tag_name(uint32_t tag)


cdef class Pool:
    cdef vx_pool *ptr
    cdef uint32_t[VX_POOL_TIERS] numbers
    cdef uint32_t flags


cdef class PoolBuffer:
    cdef Pool pool
    cdef void *at
    cdef Py_ssize_t size
    cdef Py_ssize_t exports
