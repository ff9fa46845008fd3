"""Tiered memory pools: buffers of 1, 4 and 16 KiB, 64-byte aligned, cached per thread.

A :class:`Pool` serves every part of VexFS that needs memory for a moment: dirty pages, request buffers, query scratch,
what the frames move off the stack.  An acquire that finds its tier empty is served all the same, from chunks beside it:
a hit, counted as *recycled*, when an earlier burst left a buffer there; a *miss* when new memory has to be taken.

>>> pool = Pool((128, 64, 32))
>>> with pool.acquire(4096, "request") as buffer:
...     view = numpy.frombuffer(buffer, numpy.uint8)     # no copy
"""

import errno
import os

from cpython.buffer cimport PyBuffer_FillInfo
from libc.string cimport memset

TIERS = ("small", "medium", "large")
TIER_BYTES = (1024, 4096, 16384)
DEFAULT_COUNTS = (128, 64, 32)
_OPTIONS = {
    "zero_on_free": VX_POOL_ZERO_ON_FREE,
    "guard_pages": VX_POOL_GUARD_PAGES,
    "canaries": VX_POOL_CANARIES,
    "poison": VX_POOL_POISON,
    "tracking": VX_POOL_TRACKING,
    "off": VX_POOL_OFF,
}
OPTIONS = tuple(_OPTIONS)
TAGS = tuple(vx_pool_tag_name(i).decode() for i in range(VX_TAG_COUNT))
_TAG_OF = {name: i for i, name in enumerate(TAGS)}
_COUNT_MOST = (1 << 20, 1 << 20, 1 << 19)


cdef object _checked_counts(counts):
    given = tuple(counts)
    if len(given) != VX_POOL_TIERS:
        raise ValueError(f"counts must be three numbers (buffers of 1, 4 and 16 KiB), not {given!r}")
    for name, count, most in zip(TIERS, given, _COUNT_MOST):
        if not 0 <= count <= most:
            raise ValueError(f"the count of {name} buffers must be 0 to {most}, not {count}")
    return given


cdef uint32_t _flags(options) except? 0xFFFFFFFF:
    flags = 0
    for name in options:
        if name not in _OPTIONS:
            raise ValueError(f"no pool option is named {name!r}; options are {', '.join(OPTIONS)}")
        flags |= _OPTIONS[name]
    return flags


cdef dict _histogram(const uint64_t *buckets):
    return {vx_pool_bucket(i): buckets[i] for i in range(VX_POOL_BUCKETS) if buckets[i]}


cdef class Pool:
    """Buffers of three sizes with a count of each.

    Parameters
    ----------
    counts : three int
        Buffers of 1, 4 and 16 KiB.
    options : iterable of str
        Of ``OPTIONS``: ``zero_on_free``; ``guard_pages``, ``canaries``, ``poison`` and ``tracking``, which put each
        buffer under guard by itself and cost accordingly; ``off``, plain aligned allocation.

    Raises
    ------
    MemoryError
        When the counts do not fit into memory.
    """

    def __cinit__(self, counts=DEFAULT_COUNTS, options=()):
        self.ptr = NULL
        given = _checked_counts(counts)
        for i in range(VX_POOL_TIERS):
            self.numbers[i] = given[i]
        self.flags = _flags(options)
        self.ptr = vx_pool_new(self.numbers, self.flags)
        if self.ptr == NULL:
            raise MemoryError(f"no memory for a pool of {given} buffers")

    def __dealloc__(self):
        vx_pool_free(self.ptr)

    @property
    def counts(self):
        """Buffers of 1, 4 and 16 KiB, as configured."""
        return tuple(self.numbers[i] for i in range(VX_POOL_TIERS))

    @property
    def options(self):
        """The names of the options in force."""
        return tuple(name for name, flag in _OPTIONS.items() if self.flags & flag)

    def acquire(self, size_t size, str tag not None="other"):
        """A buffer of `size` bytes, contents undefined.

        Parameters
        ----------
        size : int
            Bytes; above 16 KiB the memory comes from the allocator and counts as ``oversize``.
        tag : str
            Of ``TAGS``: the owner that allocation tracking shows.

        Returns
        -------
        PoolBuffer
            Writable, contiguous bytes; released when it is closed or forgotten.
        """
        if tag not in _TAG_OF:
            raise ValueError(f"no owner is tagged {tag!r}; tags are {', '.join(TAGS)}")
        cdef PoolBuffer buffer = PoolBuffer.__new__(PoolBuffer)
        buffer.at = vx_pool_acquire(self.ptr, size, _TAG_OF[tag])
        if buffer.at == NULL:
            raise MemoryError(f"no memory for a buffer of {size} bytes")
        buffer.pool = self
        buffer.size = size
        return buffer

    def resize(self, counts):
        """Change the counts while running; buffers in use stay valid, surplus ones go when they are released."""
        given = _checked_counts(counts)
        cdef uint32_t[VX_POOL_TIERS] numbers
        for i in range(VX_POOL_TIERS):
            numbers[i] = given[i]
        cdef int status = vx_pool_resize(self.ptr, numbers)
        if status == -errno.ENOMEM:
            raise MemoryError(f"no memory for a pool of {given} buffers; it keeps {self.counts}")
        if status < 0:
            raise OSError(-status, f"{os.strerror(-status)}: {given} buffers are more than this process may address")
        self.numbers = numbers

    def set_options(self, options):
        """Change the options while running; buffers in use keep to the ones they were acquired under."""
        cdef uint32_t flags = _flags(options)
        if vx_pool_set_options(self.ptr, flags) < 0:
            raise MemoryError("no memory for hardened buffers")
        self.flags = flags

    def stats(self):
        """Counters since the last :meth:`reset`.

        Returns
        -------
        dict
            ``tiers``: for ``small``, ``medium`` and ``large`` the counts, ``hit_rate`` (1.0 before the first acquire),
            and histograms ``latency_ns`` and ``demand`` as ``{largest value of the bucket: samples}``, one acquire in
            64 being sampled; ``hit_rate`` over all; ``oversize`` and the violations by kind.
        """
        cdef vx_pool_stats s
        cdef const vx_pool_tier_stats *t
        cdef int i
        with nogil:
            vx_pool_read_stats(self.ptr, &s)
        tiers = {}
        acquires = hits = 0
        for i in range(VX_POOL_TIERS):
            t = &s.tier[i]
            acquires += t.acquires
            hits += t.hits
            tiers[TIERS[i]] = {
                "buffer_bytes": TIER_BYTES[i], "capacity": t.capacity, "in_use": t.in_use, "high_water": t.high_water,
                "acquires": t.acquires, "releases": t.releases, "hits": t.hits, "misses": t.misses,
                "hit_rate": <double>t.hits / t.acquires if t.acquires else 1.0, "recycled": t.recycled,
                "kept": t.kept, "sampled": t.sampled,
                "sampled_bytes": t.sampled_bytes, "latency_ns": _histogram(t.latency_ns),
                "demand": _histogram(t.demand),
            }
        return {
            "tiers": tiers, "hit_rate": float(hits) / acquires if acquires else 1.0, "oversize": s.oversize,
            "overflows": s.overflows, "underflows": s.underflows, "use_after_free": s.use_after_free,
            "double_free": s.double_free, "bad_size": s.bad_size,
        }

    def reset(self):
        """Start the counters anew; what is in use stays counted as in use."""
        vx_pool_reset_stats(self.ptr)

    def trim(self):
        """Give back to the system the memory that past bursts of misses left behind."""
        with nogil:
            vx_pool_trim(self.ptr)

    def check(self):
        """Look at every hardened buffer, in use or free; the number of violations that were not known before."""
        cdef size_t found
        with nogil:
            found = vx_pool_check(self.ptr)
        return found

    def violations(self):
        """The last 64 violations, oldest first: kind, owner, tier, bytes asked for, offset of the first bad byte."""
        cdef vx_pool_violation[64] rows
        cdef size_t n = vx_pool_violations(self.ptr, rows, 64)
        return [
            {
                "kind": vx_pool_violation_name(rows[i].kind).decode(), "owner": TAGS[rows[i].tag],
                "tier": TIERS[rows[i].tier], "size": rows[i].size, "offset": rows[i].offset,
                "address": rows[i].address, "time_ns": rows[i].time_ns, "serial": rows[i].serial,
            }
            for i in range(n)
        ]

    def owners(self):
        """With ``tracking``: buffers in use by owner, ``{tag: {count, bytes, oldest_ns}}``; absent when none."""
        cdef vx_pool_owner[VX_TAG_COUNT] rows
        vx_pool_owners(self.ptr, rows)
        return {
            TAGS[i]: {"count": rows[i].count, "bytes": rows[i].bytes, "oldest_ns": rows[i].oldest_ns}
            for i in range(VX_TAG_COUNT)
            if rows[i].count
        }

    def __repr__(self):
        return f"Pool({self.counts}, options={self.options})"


cdef class PoolBuffer:
    """Memory of a pool, seen as writable bytes by anything that takes a buffer."""

    def __init__(self):
        raise TypeError("buffers come from Pool.acquire")

    def __dealloc__(self):
        if self.at != NULL:
            vx_pool_release(self.pool.ptr, self.at, self.size)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.at == NULL:
            raise ValueError("the buffer has been released")
        PyBuffer_FillInfo(view, self, self.at, self.size, 0, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.exports -= 1

    def __len__(self):
        return self.size if self.at != NULL else 0

    @property
    def address(self):
        """Where it lies, a multiple of 64; 0 once released."""
        return <size_t>self.at

    def zero(self):
        """Fill it with zeros."""
        if self.at == NULL:
            raise ValueError("the buffer has been released")
        memset(self.at, 0, self.size)

    def release(self):
        """Give the memory back; `BufferError` while a view of it exists.  Again: nothing happens."""
        if self.exports:
            raise BufferError(f"the buffer is still viewed {self.exports} time(s)")
        cdef void *at = self.at
        if at != NULL:
            self.at = NULL
            vx_pool_release(self.pool.ptr, at, self.size)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if not self.exports:
            self.release()
        # Else the last view's end forgets the buffer, which releases it.
