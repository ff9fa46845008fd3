"""What one step of the mechanisms costs on this machine, timed from C without the GIL."""

import errno
import os

from libc.stdint cimport uint32_t, uint64_t

from vexfs._core.bridge cimport Bridge, vx_bridge, vx_bridge_handler, vx_handler, vx_item
from vexfs._core.frame cimport Frames, vx_frames
from vexfs._core.pool cimport Pool, vx_pool


cdef extern from "vexfs/measure.h" nogil:
    uint64_t vx_measure_pool(vx_pool *p, size_t size, uint64_t rounds)
    uint64_t vx_measure_burst(vx_pool *p, size_t size, uint64_t depth, uint64_t rounds)
    uint64_t vx_measure_frame(vx_frames *f, int op, uint32_t marks, uint64_t rounds)
    int vx_measure_enqueue(vx_bridge *b, uint32_t kind, uint64_t key, uint32_t classes, double rate, uint64_t rounds,
                           uint64_t *spent_ns)
    void vx_measure_discard(void *ctx, const vx_item *items, size_t n) noexcept


def pool_ns(Pool pool, size_t size, uint64_t rounds=100_000):
    """Nanoseconds of one acquire and release; `pool` None: of aligned allocation instead."""
    cdef vx_pool *p = pool.ptr if pool is not None else NULL
    cdef uint64_t took
    with nogil:
        took = vx_measure_pool(p, size, rounds)
    return <double>took / rounds


def burst_ns(Pool pool, size_t size, uint64_t depth, uint64_t rounds=1):
    """Nanoseconds a buffer, when `depth` of them are acquired and touched before any is released."""
    cdef vx_pool *p = pool.ptr if pool is not None else NULL
    cdef uint64_t took
    with nogil:
        took = vx_measure_burst(p, size, depth, rounds)
    if not took:
        raise MemoryError(f"no memory for {depth} buffers of {size} bytes")
    return <double>took / (depth * rounds)


def frame_ns(Frames frames, int op=0, uint64_t rounds=100_000, uint32_t marks=0):
    """Nanoseconds of entering and leaving a frame, with `marks` below it; `frames` None: accounting is switched off."""
    cdef vx_frames *f = frames.ptr if frames is not None else NULL
    cdef uint64_t took
    with nogil:
        took = vx_measure_frame(f, op, marks, rounds)
    return <double>took / rounds


def discard(Bridge bridge not None, uint32_t kind=0):
    """Let a C handler that does nothing take the items of `kind`."""
    cdef int status = vx_bridge_handler(bridge.handle(), kind, <vx_handler>vx_measure_discard, NULL)
    if status < 0:
        raise OSError(-status, f"replace a handler while running: {os.strerror(-status)}")


def enqueue_ns(Bridge bridge not None, uint32_t kind=0, uint64_t key=0, double rate=0, uint64_t rounds=100_000):
    """Nanoseconds inside one enqueue, over `rounds` items at `rate` a second (0: as fast as can be)."""
    cdef vx_bridge *b = bridge.handle()
    cdef uint32_t classes = bridge.config.classes
    cdef uint64_t spent = 0
    cdef int status
    with nogil:
        status = vx_measure_enqueue(b, kind, key, classes, rate, rounds, &spent)
    if status == -errno.EINVAL:
        raise ValueError(f"no handler is registered for kind {kind}")
    if status < 0:
        raise OSError(-status, os.strerror(-status))
    return <double>spent / rounds
