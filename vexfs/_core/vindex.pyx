"""The vector index: rows that the caller numbers, and the nearest of them.

An index lives in memory, over rows that somebody else stores: inverted lists with 1-bit codes that are scanned 32 at a
time, 4-bit codes for what passes, and the stored rows themselves for the last few.  Small collections are compared row
by row.  Every method may be called by any thread; all of them release the GIL.
"""

import errno
import os

import numpy as np

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.string cimport memcpy, memset

from vexfs._core.simd import DIM_MAX

METRICS = ("cosine", "l2", "dot")
DTYPES = ("f32", "f16", "bf16", "i8")
K_MAX = VX_VINDEX_K_MAX
PLANS = ("empty", "exact", "rows", "flat", "lists", "sift")
_CHUNK = 1 << 24
cdef dict _METRIC_OF = {"dot": 0, "cosine": 1, "l2": 3}
cdef int PyBUF_WRITE = 0x200


cdef class _Stream:
    """A callback at work, and the error it raised."""

    cdef object call, failure
    cdef bytes rest


cdef int _write(void *ctx, const void *data, size_t n) noexcept nogil:
    with gil:
        return _write_chunks(<_Stream>ctx, <const char *>data, n)


cdef int _write_chunks(_Stream stream, const char *data, size_t n) noexcept:
    cdef size_t at = 0, some
    try:
        while at < n:
            some = min(n - at, <size_t>_CHUNK)
            stream.call(PyBytes_FromStringAndSize(data + at, <Py_ssize_t>some))
            at += some
        return 0
    except BaseException as error:
        stream.failure = error
        return -errno.EIO


cdef int _read(void *ctx, void *data, size_t n) noexcept nogil:
    with gil:
        return _read_chunks(<_Stream>ctx, <char *>data, n)


cdef int _read_chunks(_Stream stream, char *data, size_t n) noexcept:
    cdef size_t at = 0, some, got
    cdef const uint8_t[::1] found
    try:
        while at < n:
            some = min(n - at, <size_t>_CHUNK)
            found = stream.call(<Py_ssize_t>some)
            got = found.shape[0]
            if got == 0 or got > some:
                return -errno.EBADMSG
            memcpy(data + at, &found[0], got)
            at += got
        return 0
    except BaseException as error:
        stream.failure = error
        return -errno.EIO


cdef int _fetch(void *ctx, uint32_t first, uint32_t n, void *out) noexcept nogil:
    with gil:
        return _fetch_rows(<VectorIndex>ctx, first, n, <char *>out)


cdef int _fetch_rows(VectorIndex index, uint32_t first, uint32_t n, char *out) noexcept:
    cdef Py_ssize_t size = <Py_ssize_t>(n * index.row_bytes)
    try:
        found = memoryview(index.read_rows(first, n)).cast("B")
        if found.nbytes != size:
            raise ValueError(f"rows {first} to {first + n} are {size} bytes, read_rows answered {found.nbytes}")
        PyMemoryView_FromMemory(out, size, PyBUF_WRITE)[:] = found
        return 0
    except BaseException as error:
        index.failure = error
        return -errno.EIO


@cython.no_gc_clear  # it lets go of its pool last
cdef class VectorIndex:
    """Rows of vectors under numbers of the caller's choice, searched exactly or approximately.

    Parameters
    ----------
    dim : int
        1 to 65,536.
    metric : {"cosine", "l2", "dot"}
        Distances are ``1 - cos``, euclidean, and the negative inner product: smaller is nearer.
    dtype : {"f32", "f16", "bf16", "i8"}
        What rows are stored as.  ``i8`` has a scale of its own in every row.
    simd : Simd
    pool : Pool, optional
        Where queries take their scratch from.

    Raises
    ------
    ValueError
        An argument is out of range; the message names it.
    """

    def __cinit__(self, dim, metric="cosine", dtype="f32", *, Simd simd=None, Pool pool=None):
        self.index = NULL
        if not 1 <= dim <= DIM_MAX:
            raise ValueError(f"dim: must be 1 to {DIM_MAX}, got {dim}")
        if metric not in METRICS:
            raise ValueError(f"metric: no metric is named {metric!r}; metrics are {', '.join(METRICS)}")
        if dtype not in DTYPES:
            raise ValueError(f"dtype: no dtype is named {dtype!r}; dtypes are {', '.join(DTYPES)}")
        self.simd = Simd() if simd is None else simd
        self.pool = pool
        self.dim, self.metric, self.dtype = dim, metric, dtype
        cdef vx_pool *memory = NULL if pool is None else pool.ptr
        self._check(vx_vindex_new(&self.index, dim, _METRIC_OF[metric], DTYPES.index(dtype), self.simd.simd, memory))
        self.row_bytes = vx_vindex_row_bytes(self.index)

    def __dealloc__(self):
        vx_vindex_free(self.index)

    cdef object _check(self, int status):
        if status >= 0:
            return status
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        if status == -errno.ENOMEM:
            raise MemoryError("vector index")
        raise OSError(-status, f"vector index: {os.strerror(-status)}")

    def __len__(self):
        return vx_vindex_count(self.index)

    def __contains__(self, row):
        return 0 <= row < VX_VINDEX_NONE and bool(vx_vindex_has(self.index, row))

    def _vectors(self, vectors):
        found = np.ascontiguousarray(vectors, np.float32)
        if found.ndim != 2 or found.shape[1] != self.dim:
            raise ValueError(f"expected vectors of shape (n, {self.dim}), got {np.shape(vectors)}")
        return found

    def _stored(self, stored):
        found = np.ascontiguousarray(stored)
        if found.dtype != np.uint8 or found.ndim != 2 or found.shape[1] != self.row_bytes:
            raise ValueError(f"expected stored rows, uint8 (n, {self.row_bytes}), got {found.dtype} {found.shape}")
        return found

    def encode(self, vectors):
        """What is stored of each vector.

        Parameters
        ----------
        vectors : float32 array, (n, dim)

        Returns
        -------
        uint8 array, (n, row_bytes)

        Raises
        ------
        ValueError
            A value is not a number, infinite, or more than the dtype holds; the message says which vector.
        """
        cdef const float[:, ::1] x = self._vectors(vectors)
        out = np.empty((x.shape[0], self.row_bytes), np.uint8)
        cdef uint8_t[:, ::1] into = out
        cdef size_t bad = 0, n = x.shape[0]
        cdef int status
        if n == 0:
            return out
        with nogil:
            status = vx_vindex_encode(self.index, &x[0, 0], n, &into[0, 0], &bad)
        if status < 0:
            what = "holds a value that is not a finite number"
            if np.isfinite(np.asarray(x)[bad]).all():
                what = f"holds a value outside the range of {self.dtype}"
            raise ValueError(f"vector {bad} {what}")
        return out

    def decode(self, stored):
        """The vectors, float32 (n, dim), of stored rows, uint8 (n, row_bytes)."""
        cdef const uint8_t[:, ::1] x = self._stored(stored)
        out = np.empty((x.shape[0], self.dim), np.float32)
        cdef float[:, ::1] into = out
        cdef size_t n = x.shape[0]
        if n:
            with nogil:
                vx_vindex_decode(self.index, &x[0, 0], n, &into[0, 0])
        return out

    def put(self, rows, stored):
        """Insert or replace rows; they can be found when this returns.

        Parameters
        ----------
        rows : uint32 array, (n,)
            Dense numbers from 0; memory is taken up to the largest.
        stored : uint8 array, (n, row_bytes)
            From :meth:`encode`.
        """
        cdef const uint32_t[::1] numbers = np.ascontiguousarray(rows, np.uint32)
        cdef const uint8_t[:, ::1] x = self._stored(stored)
        cdef size_t n = numbers.shape[0]
        cdef int status = 0
        if <size_t>x.shape[0] != n:
            raise ValueError(f"expected as many stored rows as numbers, got {x.shape[0]} and {n}")
        if n:
            with nogil:
                status = vx_vindex_put(self.index, &numbers[0], &x[0, 0], n)
        self._check(status)

    def remove(self, rows):
        """Remove rows (an integer or uint32 array); returns how many were there."""
        cdef const uint32_t[::1] numbers = np.ascontiguousarray(np.atleast_1d(rows), np.uint32)
        cdef Py_ssize_t i
        cdef uint64_t removed = 0
        with nogil:
            for i in range(numbers.shape[0]):
                removed += vx_vindex_remove(self.index, numbers[i])
        return removed

    def search(self, queries, k=10, *, recall=0.95, effort=0, exact=None, mask=None, rows=None, threshold=None,
               threads=1, work=None):
        """The `k` nearest rows of each query, best first.

        Parameters
        ----------
        queries : float32 array, (nq, dim)
        k : int
            1 to 10,000.
        recall : float
            How many of the true nearest are wanted, on average; calibrated on the index's own rows.
        effort : int
            How many lists to look into; 0 leaves it to `recall`.
        exact : bool, optional
            True compares with every row, False never does; None does where it is cheap.
        mask : uint64 array, (ceil(n / 64),), optional
            Row ``i`` may be found when bit ``i % 64`` of word ``i // 64`` is set.
        rows : uint32 array, optional
            Only these rows, compared one by one.
        threshold : float, optional
            Only distances up to this one.
        threads : int
            The most threads to deal the queries out to.
        work : dict, optional
            Is told what was done: ``plan``, ``lists``, ``lists_total``, ``scanned``, ``fine``, ``exact``, ``fetched``.

        Returns
        -------
        rows : uint32 array, (nq, k)
        distances : float32 array, (nq, k)
        filled : uint32 array, (nq,)
            How many of a query's k there are; the rest are ``4294967295`` and infinity.
        """
        cdef const float[:, ::1] q = self._vectors(queries)
        cdef size_t nq = q.shape[0]
        if not 1 <= k <= VX_VINDEX_K_MAX:
            raise ValueError(f"k: must be 1 to {VX_VINDEX_K_MAX}, got {k}")
        if not 0 < recall <= 1:
            raise ValueError(f"recall: must be above 0 and at most 1, got {recall}")
        if effort < 0 or threads < 1:
            raise ValueError(f"effort must be at least 0 and threads at least 1, got {effort} and {threads}")
        cdef vx_vindex_ask ask
        memset(&ask, 0, sizeof(ask))
        ask.k, ask.recall, ask.effort, ask.threads = k, recall, min(effort, 1 << 31), threads
        ask.exact = -1 if exact is None else 1 if exact else 0
        if threshold is not None:
            ask.limited, ask.threshold = 1, threshold
        cdef const uint64_t[::1] bits
        cdef const uint32_t[::1] only
        cdef uint64_t no_bits = 0
        cdef uint32_t no_rows = 0
        if mask is not None:
            bits = np.ascontiguousarray(mask, np.uint64)
            ask.mask, ask.mask_bits = &bits[0] if bits.shape[0] else &no_bits, 64 * <uint64_t>bits.shape[0]
        if rows is not None:
            only = np.ascontiguousarray(rows, np.uint32)
            ask.only, ask.only_n = &only[0] if only.shape[0] else &no_rows, only.shape[0]
        found, distances = np.empty((nq, k), np.uint32), np.empty((nq, k), np.float32)
        filled = np.zeros(nq, np.uint32)
        cdef uint32_t[:, ::1] out_rows = found
        cdef float[:, ::1] out_distances = distances
        cdef uint32_t[::1] out_filled = filled
        if nq:
            self._search(&q[0, 0], nq, &ask, &out_rows[0, 0], &out_distances[0, 0], &out_filled[0], work)
        return found, distances, filled

    cdef object _search(self, const float *q, size_t nq, const vx_vindex_ask *ask, uint32_t *rows, float *distances,
                        uint32_t *filled, dict work):
        cdef vx_vindex_work done
        cdef int status
        memset(&done, 0, sizeof(done))
        with nogil:
            status = vx_vindex_search(self.index, q, nq, ask, rows, distances, filled, &done)
        self._check(status)
        if work is not None:
            work.update(done)
            work["plan"] = PLANS[done.plan]

    def maintain(self, budget_ms=50):
        """About `budget_ms` of background work; True when there is more to do."""
        cdef uint32_t budget = budget_ms
        cdef int status
        with nogil:
            status = vx_vindex_maintain(self.index, budget)
        return bool(self._check(status))

    @property
    def may_learn(self):
        """Whether so much was asked that `maintain` would calibrate anew, by what was asked."""
        return bool(vx_vindex_may_learn(self.index))

    def expect(self, const float[:, ::1] queries not None):
        """Take queries (float32, (n, dim)) such as are to come: the next lists are calibrated by them."""
        if <uint32_t>queries.shape[1] != self.dim:
            raise ValueError(f"queries of {queries.shape[1]} dimensions; the index has {self.dim}")
        cdef size_t n = queries.shape[0]
        if n:
            with nogil:
                vx_vindex_expect(self.index, &queries[0, 0], n)

    def learned(self):
        """What has been learnt of queries since the last `dump`, to be kept: bytes, b"" for nothing."""
        cdef size_t n, told
        cdef char *at
        with nogil:  # here and below: who holds the index's lock may wait for Python's
            n = vx_vindex_learned(self.index, NULL)
        if n == 0:
            return b""
        cdef bytes out = PyBytes_FromStringAndSize(NULL, n)
        at = PyBytes_AS_STRING(out)
        with nogil:
            told = vx_vindex_learned(self.index, at)
        return out if told == n else b""

    def teach(self, bytes learned not None):
        """Take what was learnt back.

        Raises
        ------
        OSError
            ``ESTALE``: it was learnt of other lists; ``EBADMSG``: it is none, or damaged.
        """
        cdef const char *at = PyBytes_AS_STRING(learned)
        cdef size_t n = len(learned)
        cdef int status
        with nogil:
            status = vx_vindex_teach(self.index, at, n)
        self._check(status)

    def source(self, read_rows, *, keep=True):
        """Where rows that are not in memory are read: ``read_rows(first, n)`` answers their stored bytes.

        With ``keep=False`` rows are never kept in memory, only their codes; what is put must be readable before.
        """
        self.read_rows = read_rows
        cdef vx_vindex_read_fn call = NULL
        if read_rows is not None:
            call = _fetch
        cdef bint kept = keep
        cdef void *ctx = <void *>self
        with nogil:
            vx_vindex_source(self.index, call, ctx, kept)

    def load(self, first=0, n=None):
        """Bring stored rows into memory."""
        cdef uint32_t begin = first, count = VX_VINDEX_NONE - 1 if n is None else n
        cdef int status
        with nogil:
            status = vx_vindex_load(self.index, begin, count)
        self._check(status)

    def dump(self, write):
        """Write a snapshot (everything but the stored rows) through ``write(bytes)``."""
        cdef _Stream stream = _Stream()
        cdef int status
        stream.call = write
        with nogil:
            status = vx_vindex_dump(self.index, _write, <void *>stream)
        self.failure = stream.failure
        self._check(status)

    @classmethod
    def restore(cls, dim, metric="cosine", dtype="f32", *, read, simd=None, pool=None):
        """An index from a snapshot, read through ``read(n)``: bytes or an array of them, at most n, not none.

        Stored rows are not in it: give the index a :meth:`source`, and :meth:`load` what is to be in memory.

        Raises
        ------
        OSError
            ``EBADMSG``: no snapshot, or damaged; ``EINVAL``: of an index of another kind.
        """
        cdef VectorIndex index = cls(dim, metric, dtype, simd=simd, pool=pool)
        cdef _Stream stream = _Stream()
        cdef int status
        stream.call = read
        with nogil:
            status = vx_vindex_restore(index.index, _read, <void *>stream)
        index.failure = stream.failure
        index._check(status)
        return index

    def memory(self):
        """Bytes by what they are for: ``rows``, ``codes`` in use, ``lists`` reserved for codes, ``maps``, ``model``."""
        cdef vx_vindex_memory found
        with nogil:
            vx_vindex_read_memory(self.index, &found)
        return dict(found)

    def stats(self):
        """Counts: rows ``live`` and ``resident``, ``dead`` entries, ``lists``, ``growing``, ``puts`` and so on."""
        cdef vx_vindex_stats found
        with nogil:
            vx_vindex_read_stats(self.index, &found)
        return dict(found)
