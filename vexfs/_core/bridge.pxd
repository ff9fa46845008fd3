"""C declarations of the cross-layer bridge, and the object that owns one."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t


cdef extern from "vexfs/bridge.h" nogil:
    enum:
        VX_CLASS_COUNT
        VX_KIND_MAX

    ctypedef struct vx_bridge:
        pass

    ctypedef struct vx_item:
        uint64_t key
        uint64_t arg
        uint32_t kind
        uint16_t cls
        uint16_t flags

    ctypedef void (*vx_handler)(void *ctx, const vx_item *items, size_t n) noexcept nogil

    ctypedef struct vx_bridge_config:
        uint32_t capacity
        uint32_t batch_size
        uint32_t classes
        uint32_t *weights
        uint32_t lazy_sync
        uint64_t sync_threshold_ns

    ctypedef struct vx_bridge_stats:
        uint64_t enqueued
        uint64_t handled
        uint64_t batches
        uint64_t barriers
        uint64_t rejected
        uint64_t waits
        uint64_t depth
        uint64_t high_water
        uint64_t latency_count
        uint64_t latency_sum_ns
        uint64_t latency_max_ns

    vx_bridge *vx_bridge_new(const vx_bridge_config *c)
    void vx_bridge_free(vx_bridge *b)
    int vx_bridge_handler(vx_bridge *b, uint32_t kind, vx_handler fn, void *ctx)
    int vx_bridge_start(vx_bridge *b)
    int vx_bridge_stop(vx_bridge *b)
    int vx_bridge_configure(vx_bridge *b, const vx_bridge_config *c)
    int vx_bridge_enqueue(vx_bridge *b, const vx_item *item, int wait)
    int vx_bridge_barrier(vx_bridge *b, uint64_t timeout_ns)
    void vx_bridge_read(vx_bridge *b, int cls, vx_bridge_stats *out)
    uint64_t vx_bridge_percentile(vx_bridge *b, int cls, double percent)
    void vx_bridge_reset(vx_bridge *b)


cdef extern from "<sys/eventfd.h>" nogil:
    ctypedef uint64_t eventfd_t
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK
    int eventfd(unsigned int value, int flags)
    int eventfd_read(int fd, eventfd_t *value)
    int eventfd_write(int fd, eventfd_t value)

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events

    enum:
        POLLIN
    int poll(pollfd *fds, unsigned long n, int timeout_ms)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)


cdef class Bell:
    cdef int fd


cdef class Bridge:
    cdef vx_bridge *ptr
    cdef vx_bridge_config config
    cdef list targets
    cdef bint going
    cdef vx_bridge *handle(self) except NULL
