"""The cross-layer bridge: one queue between the frontends and the storage, index and semantic work behind them.

Items are four numbers: the key (an inode) is the unit of order, the kind selects the handler, the class the priority.
One thread hands batches on: classes by weight, so that none starves; items of one key in the order they were enqueued,
whatever their classes.
"""

import errno
import os

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.string cimport memset

KINDS_MOST = VX_KIND_MAX
CLASSES_MOST = VX_CLASS_COUNT
CLASSES = ("high", "medium", "low")
_WAIT_MOST_S = 1_000_000
_SLICE_NS = 200_000_000


cdef class _Target:
    """A Python handler, and what became of its calls."""

    cdef object call
    cdef uint64_t failures
    cdef object last_error


cdef void _call(_Target target, list batch) noexcept:
    # What escapes goes to sys.unraisablehook.  The batch is gone; whoever owns the work finds out by its own durable
    # record (the outbox).
    try:
        target.call(batch)
    except BaseException as error:
        target.failures += 1
        target.last_error = error
        raise


cdef void _hand_over(void *ctx, const vx_item *items, size_t n) noexcept nogil:
    with gil:
        _call(<_Target>ctx, [(items[i].key, items[i].arg) for i in range(n)])


cdef class Bell:
    """What a thread waits for and others ring; as the handler of a bridge it is rung without Python's lock.

    A handler in Python keeps the bridge's thread, and whatever is queued behind, until it has that lock.
    """

    def __cinit__(self):
        self.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.fd < 0:
            raise OSError(errno.EMFILE, "no file descriptor for a bell")

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)

    def ring(self):
        """Wake who waits, or will wait next."""
        eventfd_write(self.fd, 1)

    def wait(self, timeout_s=None):
        """Wait until it was rung since the last wait, or for `timeout_s`; how often it was, once for an item."""
        cdef eventfd_t rings = 0
        cdef pollfd ready
        cdef int got, timeout_ms = -1 if timeout_s is None else int(min(max(timeout_s, 0), _WAIT_MOST_S) * 1000)
        ready.fd, ready.events = self.fd, POLLIN
        with nogil:
            got = poll(&ready, 1, timeout_ms)
            if got > 0:
                eventfd_read(ready.fd, &rings)
        if got < 0:
            PyErr_CheckSignals()  # it woke us before the time
        return rings


cdef void _ring(void *ctx, const vx_item *items, size_t n) noexcept nogil:
    eventfd_write((<Bell>ctx).fd, n)


cdef object _number(object cls):
    if not isinstance(cls, str):
        return cls
    if cls not in CLASSES:
        raise ValueError(f"no class is named {cls!r}; classes are {', '.join(CLASSES)}")
    return CLASSES.index(cls)


cdef object _checked(int status, str what):
    if status == -errno.EDEADLK:
        raise RuntimeError(f"{what} by a handler of the bridge would wait for itself")
    if status == -errno.ENOMEM:
        raise MemoryError(f"no memory to {what}")
    if status < 0:
        raise OSError(-status, f"{what}: {os.strerror(-status)}")


cdef int _fill(vx_bridge_config *c, capacity, batch_size, weights, lazy_sync, sync_threshold_ns) except -1:
    weights = tuple(weights)
    if not 1 <= capacity <= 1 << 24:
        raise ValueError(f"capacity must be 1 to {1 << 24} items a class, not {capacity}")
    if not 1 <= batch_size <= 4096:
        raise ValueError(f"batch_size must be 1 to 4096, not {batch_size}")
    if not 1 <= len(weights) <= VX_CLASS_COUNT:
        raise ValueError(f"weights must name 1 to {VX_CLASS_COUNT} classes, not {len(weights)}")
    for weight in weights:
        if not 1 <= weight <= 1000:
            raise ValueError(f"a weight must be 1 to 1000, not {weight}")
    if not 0 <= sync_threshold_ns <= 60_000_000_000:
        raise ValueError(f"sync_threshold_ns must be at most a minute, not {sync_threshold_ns}")
    memset(c, 0, sizeof(vx_bridge_config))
    c.capacity = capacity
    c.batch_size = batch_size
    c.classes = len(weights)
    for i, weight in enumerate(weights):
        c.weights[i] = weight
    c.lazy_sync = bool(lazy_sync)
    c.sync_threshold_ns = sync_threshold_ns
    return 0


cdef dict _row(const vx_bridge_stats *s):
    return {
        "enqueued": s.enqueued, "handled": s.handled, "batches": s.batches, "rejected": s.rejected, "waits": s.waits,
        "depth": s.depth, "high_water": s.high_water, "latency_max_ns": s.latency_max_ns,
        "latency_mean_ns": <double>s.latency_sum_ns / s.latency_count if s.latency_count else 0.0,
    }


@cython.no_gc_clear
cdef class Bridge:
    """A bounded queue with priority classes, and the thread that hands its items on.

    Parameters
    ----------
    capacity : int
        Items that each class holds before its producers wait; rounded up to a power of two.
    batch_size : int
        The most items that a handler gets at once.
    weights : sequence of int
        One weight a class, highest priority first: under load, classes are served in this proportion.
    lazy_sync : bool
        Let a batch wait to fill, for `sync_threshold_ns` at most.
    """

    def __cinit__(self, capacity=8192, batch_size=100, weights=(3, 2, 1), lazy_sync=False,
                  sync_threshold_ns=1_000_000):
        self.ptr = NULL
        self.targets = [None] * VX_KIND_MAX
        _fill(&self.config, capacity, batch_size, weights, lazy_sync, sync_threshold_ns)
        self.ptr = vx_bridge_new(&self.config)
        if self.ptr == NULL:
            raise MemoryError(f"no memory for a bridge of {capacity} items a class")

    def __dealloc__(self):
        with nogil:
            vx_bridge_free(self.ptr)

    cdef vx_bridge *handle(self) except NULL:
        if self.ptr == NULL:
            raise ValueError("the bridge has been closed")
        return self.ptr

    def handler(self, uint32_t kind, call):
        """Let `call(list of (key, arg))` handle the items of `kind`, or ring a `Bell`; only while stopped when it
        replaces another.

        None takes the handler away when the last item of its kind is handled.  It runs on the bridge's thread.  What it
        raises is counted (:attr:`failures`) and reported through ``sys.unraisablehook``; the bridge goes on.
        """
        if kind >= VX_KIND_MAX:
            raise ValueError(f"a kind is 0 to {VX_KIND_MAX - 1}, not {kind}")
        cdef vx_bridge *b = self.handle()
        cdef int status
        if call is None:
            with nogil:
                status = vx_bridge_handler(b, kind, NULL, NULL)
            _checked(status, "take a handler away")
            self.targets[kind] = None
            return
        if isinstance(call, Bell):
            _checked(vx_bridge_handler(b, kind, _ring, <void *>call), "replace a handler while running")
            self.targets[kind] = call
            return
        target = _Target()
        target.call = call
        _checked(vx_bridge_handler(b, kind, _hand_over, <void *>target), "replace a handler while running")
        self.targets[kind] = target

    def start(self):
        """Start handing on, with what is already queued."""
        cdef vx_bridge *b = self.handle()
        cdef int status
        with nogil:
            status = vx_bridge_start(b)
        _checked(status, "start the bridge")
        self.going = True

    def stop(self):
        """Stop after the batch in hand; what is queued stays queued."""
        cdef vx_bridge *b = self.handle()
        cdef int status
        with nogil:
            status = vx_bridge_stop(b)
        _checked(status, "stop")
        self.going = False

    def restart(self):
        """Stop and start; nothing is lost."""
        self.stop()
        self.start()

    def close(self):
        """Handle what is queued, then end.  Again: nothing happens."""
        if self.ptr == NULL:
            return
        self.stop()
        cdef vx_bridge *b = self.ptr
        self.ptr = NULL
        with nogil:
            vx_bridge_free(b)  # NULL where somebody else closed it meanwhile

    def enqueue(self, uint64_t key, uint64_t arg=0, uint32_t kind=0, cls=0, bint wait=True):
        """Queue one item; True unless the class is full and `wait` is false (a handler never waits)."""
        cdef vx_item item
        item.key = key
        item.arg = arg
        item.kind = kind
        item.cls = _number(cls)
        item.flags = 0
        cdef vx_bridge *b = self.handle()
        cdef int status, block = wait
        if block:
            with nogil:
                status = vx_bridge_enqueue(b, &item, 1)
        else:
            status = vx_bridge_enqueue(b, &item, 0)
        if status == -errno.EAGAIN:
            return False
        if status == -errno.EINVAL:
            raise ValueError(f"no handler is registered for kind {kind}")
        return True

    def barrier(self, timeout_s=None):
        """Wait until everything enqueued before is handled; `TimeoutError` after `timeout_s`."""
        cdef vx_bridge *b = self.handle()
        cdef int status = -errno.ETIMEDOUT
        cdef uint64_t left = 0, slice_ns
        if timeout_s is not None:
            left = max(1, int(timeout_s * 1e9))
        while status == -errno.ETIMEDOUT:
            # In slices, so that a signal gets through.
            slice_ns = min(left, _SLICE_NS) if timeout_s is not None else _SLICE_NS
            with nogil:
                status = vx_bridge_barrier(b, slice_ns)
            PyErr_CheckSignals()
            if timeout_s is not None and status == -errno.ETIMEDOUT:
                left -= slice_ns
                if not left:
                    depth = self.stats()["depth"]
                    raise TimeoutError(f"the bridge did not get through in {timeout_s} s; {depth} items are queued")
        _checked(status, "a barrier")

    def configure(self, capacity=None, batch_size=None, weights=None, lazy_sync=None, sync_threshold_ns=None):
        """Change what is given, while running; nothing that is queued is lost or overtaken."""
        cdef vx_bridge_config c
        now = self.settings
        _fill(
            &c,
            now["capacity"] if capacity is None else capacity,
            now["batch_size"] if batch_size is None else batch_size,
            now["weights"] if weights is None else weights,
            now["lazy_sync"] if lazy_sync is None else lazy_sync,
            now["sync_threshold_ns"] if sync_threshold_ns is None else sync_threshold_ns,
        )
        cdef vx_bridge *b = self.handle()
        cdef int status
        with nogil:
            status = vx_bridge_configure(b, &c)
        _checked(status, "configure the bridge")
        self.config = c

    @property
    def settings(self):
        """The configuration in force, by the names of :meth:`configure`."""
        return {
            "capacity": self.config.capacity, "batch_size": self.config.batch_size,
            "weights": tuple(self.config.weights[i] for i in range(self.config.classes)),
            "lazy_sync": bool(self.config.lazy_sync), "sync_threshold_ns": self.config.sync_threshold_ns,
        }

    @property
    def running(self):
        """Whether its thread hands items on."""
        return self.going and self.ptr != NULL

    @property
    def failures(self):
        """Batches whose Python handler raised."""
        return sum((<_Target>target).failures for target in self.targets if isinstance(target, _Target))

    def stats(self, cls=None):
        """Counters of one class (a number, or a name of ``CLASSES``), or of all together with ``classes`` by number.

        Latency is the time from enqueue to the call of the handler.
        """
        cdef vx_bridge_stats s
        cdef vx_bridge *b = self.handle()
        cdef int which
        if cls is not None:
            which = _number(cls)
            vx_bridge_read(b, which, &s)
            return _row(&s)
        vx_bridge_read(b, -1, &s)
        row = _row(&s)
        row["barriers"] = s.barriers
        row["classes"] = {i: self.stats(i) for i in range(self.config.classes)}
        return row

    def percentiles(self, percents=(50, 95, 99), cls=None):
        """Latency in ns that the given percentage of items did not exceed, within 1.6 %: ``{percent: ns}``."""
        cdef int which = -1 if cls is None else _number(cls)
        return {percent: vx_bridge_percentile(self.handle(), which, percent) for percent in percents}

    def reset(self):
        """Start the counters anew; the queue is untouched."""
        vx_bridge_reset(self.handle())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.close()
