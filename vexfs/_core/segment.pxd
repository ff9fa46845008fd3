"""C declarations of the segment store."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from vexfs._core.io cimport iovec


cdef extern from "vexfs/pool.h" nogil:
    ctypedef struct vx_pool:
        pass


cdef extern from "vexfs/segment.h" nogil:
    enum:
        VX_FRAME_MAX

    ctypedef struct vx_segstore:
        pass

    ctypedef struct vx_segstore_options:
        const char *dir
        const uint8_t *key
        uint64_t segment_bytes
        uint64_t cache_bytes
        uint32_t compression
        uint32_t direct_io
        uint32_t io_depth
        uint32_t read_only
        uint64_t next_segment
        vx_pool *pool

    ctypedef struct vx_frame_put:
        uint64_t ino
        uint64_t off
        const iovec *iov
        uint32_t iovcnt
        uint32_t raw_len
        uint32_t seg
        uint32_t pos
        uint32_t stored
        int32_t err

    ctypedef struct vx_frame_get:
        uint64_t ino
        uint64_t off
        uint32_t seg
        uint32_t pos
        uint32_t stored
        uint32_t skip
        uint32_t len
        void *dst
        int32_t err

    ctypedef struct vx_frame_info:
        uint64_t ino
        uint64_t off
        uint32_t pos
        uint32_t stored
        uint32_t raw_len
        int32_t err

    ctypedef struct vx_segstore_stats:
        uint64_t cache_bytes
        uint64_t cache_hits
        uint64_t cache_misses
        uint64_t frames_written
        uint64_t frames_read
        uint64_t bytes_written
        uint64_t bytes_stored
        uint64_t bytes_read
        uint64_t syncs
        uint64_t sync_waits
        uint64_t checksum_errors
        uint64_t evictions
        uint64_t prefetches
        uint32_t segments
        uint32_t active_seg
        uint32_t next_segment
        uint32_t direct_io
        uint64_t active_pos
        uint64_t disk_bytes

    ctypedef int (*vx_frame_fn)(void *ctx, const vx_frame_info *f) noexcept
    ctypedef int (*vx_segment_list_fn)(void *ctx, uint32_t seg, uint64_t bytes) noexcept

    int vx_segstore_open(vx_segstore **out, const vx_segstore_options *o)
    void vx_segstore_close(vx_segstore *s)
    int vx_segstore_append(vx_segstore *s, vx_frame_put *puts, size_t n)
    int vx_segstore_sync(vx_segstore *s)
    int vx_segstore_read(vx_segstore *s, vx_frame_get *gets, size_t n)
    void vx_segstore_prefetch(vx_segstore *s, const vx_frame_get *gets, size_t n)
    void vx_segstore_drop_cache(vx_segstore *s)
    int vx_segstore_pin(vx_segstore *s, uint32_t seg)
    void vx_segstore_unpin(vx_segstore *s, uint32_t seg)
    int vx_segstore_delete(vx_segstore *s, uint32_t seg)
    int vx_segstore_seal(vx_segstore *s)
    int vx_segstore_lend(vx_segstore *s, uint32_t seg, uint32_t pos, const void *data, size_t n)
    int vx_segstore_trim(vx_segstore *s, uint32_t seg, uint64_t used)
    int vx_segstore_scan(vx_segstore *s, uint32_t seg, int verify, vx_frame_fn fn, void *ctx)
    int vx_segstore_list(vx_segstore *s, vx_segment_list_fn fn, void *ctx)
    int vx_segstore_configure(vx_segstore *s, uint64_t cache_bytes, uint32_t compression)
    void vx_segstore_read_stats(vx_segstore *s, vx_segstore_stats *out)
    uint64_t vx_segstore_size(vx_segstore *s, uint32_t seg)
