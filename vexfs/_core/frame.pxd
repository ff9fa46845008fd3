"""C declarations of stack-accounted frames, and the object that owns their counters."""

from libc.stdint cimport uint32_t, uint64_t


cdef extern from "vexfs/frame.h" nogil:
    enum:
        VX_OP_MAX
        VX_FRAME_BUCKETS
        VX_FRAME_TIMES
        VX_FRAMES_OFF
        VX_FRAMES_COUNTED
        VX_FRAMES_GUARDED

    ctypedef struct vx_frames:
        pass

    ctypedef struct vx_frame_stats:
        uint64_t count
        uint64_t high_water
        uint64_t violations
        uint64_t total_bytes
        uint64_t time_ns
        uint64_t prevented
        uint64_t pooled
        uint64_t painted_count
        uint64_t painted_high_water
        uint64_t *depth

    ctypedef struct vx_frame_times:
        uint64_t timed
        uint64_t total_ns
        uint64_t *bucket

    vx_frames *vx_frames_new(uint32_t limit_bytes, uint32_t heap_threshold)
    void vx_frames_free(vx_frames *f)
    void vx_frames_configure(vx_frames *f, uint32_t limit_bytes, uint32_t heap_threshold, int mode)
    void vx_frames_paint(vx_frames *f, uint32_t every)
    void vx_frames_time(vx_frames *f, uint32_t every)
    void vx_frames_read_times(vx_frames *f, int op, vx_frame_times *out)
    uint64_t vx_frame_time_limit(uint32_t bucket)
    void vx_frames_read(vx_frames *f, int op, vx_frame_stats *out)
    void vx_frames_clear(vx_frames *f)


cdef class Frames:
    cdef vx_frames *ptr
    cdef readonly uint32_t limit_bytes
    cdef readonly uint32_t heap_threshold
    cdef readonly bint enabled
    cdef readonly bint monitoring
    cdef readonly uint32_t paint_every
    cdef readonly uint32_t time_every
