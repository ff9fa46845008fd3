"""Stack-accounted frames: how much C stack each operation really uses, bounded and counted.

The filesystem's operations enter a frame of a :class:`Frames` object; the core's functions mark how deep they stand.
Scratch of at most `heap_threshold` bytes lives on the stack as long as the operation stays under `limit_bytes`;
anything else comes from the pools.
"""

OPERATIONS_MOST = VX_OP_MAX
LIMIT_BYTES = 3072
HEAP_THRESHOLD = 1024
TIMED_EVERY = 64
#: The largest time in ns of each bucket of a latency histogram; the last bucket has no limit.
TIME_LIMITS_NS = tuple(vx_frame_time_limit(i) for i in range(VX_FRAME_TIMES - 1))
_LIMIT_MOST = 1 << 20


cdef object _checked(limit_bytes, heap_threshold):
    if not 256 <= limit_bytes <= _LIMIT_MOST:
        raise ValueError(f"limit_bytes must be 256 to {_LIMIT_MOST}, not {limit_bytes}")
    if not 0 <= heap_threshold <= limit_bytes:
        raise ValueError(f"heap_threshold must be 0 to the limit of {limit_bytes} bytes, not {heap_threshold}")


cdef int _number(op) except -2:
    if op is not None and not 0 <= op < VX_OP_MAX:
        raise ValueError(f"an operation's number is 0 to {VX_OP_MAX - 1}, not {op}")
    return -1 if op is None else op


cdef dict _row(const vx_frame_stats *s):
    return {
        "count": s.count, "high_water": s.high_water, "mean_bytes": <double>s.total_bytes / s.count if s.count else 0.0,
        "violations": s.violations, "prevented": s.prevented, "pooled": s.pooled, "time_ns": s.time_ns,
        "painted": s.painted_count, "painted_high_water": s.painted_high_water,
        "depth": {(i + 1) * 256: s.depth[i] for i in range(VX_FRAME_BUCKETS) if s.depth[i]},
    }


cdef class Frames:
    """Counters of the operations that enter its frames, up to 64 of them, told apart by number.

    Parameters
    ----------
    limit_bytes : int
        The most C stack that an operation may use; deeper is a violation.
    heap_threshold : int
        Scratch above this goes to the pools.
    """

    def __cinit__(self, limit_bytes=LIMIT_BYTES, heap_threshold=HEAP_THRESHOLD):
        self.ptr = NULL
        _checked(limit_bytes, heap_threshold)
        self.limit_bytes = limit_bytes
        self.heap_threshold = heap_threshold
        self.enabled = True
        self.monitoring = True
        self.paint_every = 0
        self.time_every = TIMED_EVERY
        self.ptr = vx_frames_new(self.limit_bytes, self.heap_threshold)
        if self.ptr == NULL:
            raise MemoryError("no memory for the counters of frames")

    def __dealloc__(self):
        vx_frames_free(self.ptr)

    def configure(self, limit_bytes=None, heap_threshold=None, monitoring=None, enabled=None):
        """Change the limit, the threshold, whether frames are counted (`monitoring`), or whether they do anything
        (`enabled`); None leaves a value as it is.

        Without `monitoring` limit and threshold hold, uncounted; without `enabled` scratch of at most 1 KiB takes the
        stack whatever is above it.
        """
        limit_bytes = self.limit_bytes if limit_bytes is None else limit_bytes
        heap_threshold = self.heap_threshold if heap_threshold is None else heap_threshold
        _checked(limit_bytes, heap_threshold)
        self.limit_bytes = limit_bytes
        self.heap_threshold = heap_threshold
        self.monitoring = self.monitoring if monitoring is None else monitoring
        self.enabled = self.enabled if enabled is None else enabled
        cdef int mode = VX_FRAMES_GUARDED
        if not self.enabled:
            mode = VX_FRAMES_OFF
        elif self.monitoring:
            mode = VX_FRAMES_COUNTED
        vx_frames_configure(self.ptr, self.limit_bytes, self.heap_threshold, mode)

    def paint(self, uint32_t every):
        """Paint the stack below one frame in `every`, to see what code uses that marks nothing; 0 stops it.

        Painted figures stand apart: they hold the stack of libraries too, which the limit does not.
        """
        self.paint_every = every
        vx_frames_paint(self.ptr, every)

    def time(self, uint32_t every):
        """Time one frame in `every`: 1 is all of them, at two readings of the clock each; 0 is the usual 64."""
        vx_frames_time(self.ptr, every)
        self.time_every = every or TIMED_EVERY

    def times(self, op=None):
        """How long the timed frames of operation `op`, or of all together, took.

        Returns
        -------
        dict
            ``timed`` frames; ``total_ns``; ``buckets``, a histogram ``{index: frames}`` whose bucket `i` holds what
            took at most ``TIME_LIMITS_NS[i]`` and more than the one before.
        """
        cdef vx_frame_times t
        cdef int which = _number(op)
        with nogil:
            vx_frames_read_times(self.ptr, which, &t)
        return {"timed": t.timed, "total_ns": t.total_ns,
                "buckets": {i: t.bucket[i] for i in range(VX_FRAME_TIMES) if t.bucket[i]}}

    def stats(self, op=None):
        """Counters of the operation `op`, or of all together.

        Returns
        -------
        dict
            ``count``; ``high_water`` and ``mean_bytes`` of stack; ``violations`` of the limit; ``prevented`` ones
            (scratch that went to the pools because the stack had no room) and ``pooled`` (above the threshold);
            ``time_ns`` in total, estimated from the timed frames; ``painted`` frames and their high water; ``depth``,
            a histogram ``{bytes: frames}`` by steps of 256.
        """
        cdef vx_frame_stats s
        cdef int which = _number(op)
        with nogil:
            vx_frames_read(self.ptr, which, &s)
        return _row(&s)

    def table(self, names):
        """Counters by name of every operation that ran; `names[i]` is that of operation i."""
        rows = {}
        for op, name in enumerate(names):
            row = self.stats(op)
            if row["count"]:
                rows[name] = row
        return rows

    def clear(self):
        """Forget what was counted."""
        vx_frames_clear(self.ptr)
