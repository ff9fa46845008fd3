"""SIMD kernels: distances between numpy batches, and the codes that vectors are stored as.

A :class:`Simd` names the level in use (``scalar``, ``neon``, ``avx2``, ``avx512``, ``avx512x``) and counts what it did.
``VEXFS_SIMD`` in the environment is a demand: a level that is unknown, not built or not supported is an error, never a
silent fallback.

| dtype | arrays | one vector |
| --- | --- | --- |
| ``f32``, ``f16``, ``i8`` | float32, float16, int8 | ``dim`` values |
| ``bf16`` | uint16 with ``dtype="bf16"``, or an extension type named ``bfloat16`` | ``dim`` values |
| ``i4`` | uint8 with ``dtype="i4"`` | two's complement nibbles, low first; a spare one is zero |
| ``b1`` | uint8 with ``dtype="b1"`` | as ``numpy.packbits(x > 0, bitorder="little")``: set is +1, clear is -1 |
"""

import errno
import os

import numpy as np

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer

from vexfs.errors import ConfigError

DTYPES = ("f32", "f16", "bf16", "i8", "i4", "b1")
METRICS = ("dot", "cosine", "l2sq", "l2", "hamming")
LEVELS = ("scalar", "neon", "avx2", "avx512", "avx512x")
DIM_MAX = VX_DIM_MAX
ENVIRONMENT = "VEXFS_SIMD"
_FEATURES = (
    "neon", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16",
    "avx512_vpopcntdq", "popcnt", "os_avx", "os_avx512", "avx512_vbmi",
)
_NUMPY = (np.float32, np.float16, np.uint16, np.int8, np.uint8, np.uint8)
_FORMATS = {b"f": (VX_F32,), b"e": (VX_F16,), b"H": (VX_BF16,), b"b": (VX_I8,), b"B": (VX_I4, VX_B1)}
_MOST = {"i8": 127.0, "i4": 7.0}
_DTYPE_OF = {name: i for i, name in enumerate(DTYPES)}
_METRIC_OF = {name: i for i, name in enumerate(METRICS)}


class LevelUnknown(ConfigError):
    """No level has that name."""


class LevelNotBuilt(ConfigError):
    """The level belongs to another architecture than this library was compiled for."""


class LevelNotSupported(ConfigError):
    """This machine's processor, or its operating system's register state, does not offer the level."""


def capabilities():
    """What the processor offers and the operating system keeps across a context switch.

    Returns
    -------
    dict of str to bool
        One entry per instruction set, and ``os_avx``, ``os_avx512`` for the register state.
    """
    cdef uint32_t found = vx_cpu_detect()
    return {name: bool(found >> i & 1) for i, name in enumerate(_FEATURES)}


def levels():
    """Every level and whether it can be had here: ``ready``, ``not built`` or ``not supported``."""
    words = {0: "ready", -errno.ENOSYS: "not built", -errno.ENOTSUP: "not supported"}
    return {name: words[vx_level_check(i)] for i, name in enumerate(LEVELS)}


def _demanded(name, origin):
    """The number of the level `name`; `origin` says who asked, for the message."""
    level = LEVELS.index(name) if name in LEVELS else -1
    status = vx_level_check(level)
    if status == 0:
        return level
    ready = ", ".join(k for k, word in levels().items() if word == "ready")
    if status == -errno.EINVAL:
        raise LevelUnknown(f"{origin}: no SIMD level is named {name!r}; levels are {', '.join(LEVELS)}")
    if status == -errno.ENOSYS:
        raise LevelNotBuilt(f"{origin}: SIMD level {name!r} is not built for this architecture; ready here: {ready}")
    missing = "processor or operating system lacks it"
    raise LevelNotSupported(f"{origin}: SIMD level {name!r} is not supported here, {missing}; ready here: {ready}")


cdef class _Vectors:
    """A checked view of one vector or a matrix of them; holds the buffer while a kernel reads it."""

    cdef Py_buffer view
    cdef bint held
    cdef int dtype
    cdef size_t n, dim, stride

    def __cinit__(self, array, str what, int ndim, dtype, dim):
        self.held = False
        try:
            PyObject_GetBuffer(array, &self.view, PyBUF_STRIDES | PyBUF_FORMAT)
        except (TypeError, ValueError):  # a list, or a type that the buffer protocol has no letter for
            array = np.asarray(array)
            if array.dtype.name == "bfloat16":
                array, dtype = array.view(np.uint16), dtype or "bf16"
            PyObject_GetBuffer(array, &self.view, PyBUF_STRIDES | PyBUF_FORMAT)
        self.held = True
        if self.view.ndim != ndim:
            raise ValueError(f"{what}: expected {ndim} dimension{'s' * (ndim > 1)}, got shape {np.shape(array)}")
        self.dtype = self._dtype(array, what, dtype)
        cdef Py_ssize_t columns = self.view.shape[ndim - 1]
        if columns > 1 and self.view.strides[ndim - 1] != self.view.itemsize:
            raise ValueError(f"{what}: a vector's values must be contiguous; pass numpy.ascontiguousarray({what})")
        self.n = <size_t>self.view.shape[0] if ndim == 2 else 1
        if ndim == 2 and self.n > 1 and self.view.strides[0] < 0:
            raise ValueError(f"{what}: rows must go forward; pass numpy.ascontiguousarray({what})")
        self.stride = <size_t>self.view.strides[0] if ndim == 2 else 0
        self._set_dim(what, columns, dim)

    cdef int _dtype(self, array, what, dtype) except -1:
        # An array at an odd address says "=f"; one of the other byte order says ">f", which fits nothing.
        cdef const char *form = self.view.format
        if form[0] in b"=<^@" and form[1] != 0:
            form += 1
        fits = _FORMATS.get(form, ())
        if dtype is None:
            if len(fits) == 1 and fits[0] != VX_BF16:
                return fits[0]
            kept = np.asarray(array).dtype
            raise TypeError(f"{what}: say dtype= for an array of {kept}; dtypes are {', '.join(DTYPES)}")
        cdef int wanted = _DTYPE_OF.get(dtype, -1)
        if wanted < 0:
            raise ValueError(f"{what}: no dtype is named {dtype!r}; dtypes are {', '.join(DTYPES)}")
        if wanted not in fits:
            raise TypeError(f"{what}: {dtype} is kept in {np.dtype(_NUMPY[wanted])}, got {np.asarray(array).dtype}")
        return wanted

    cdef int _set_dim(self, what, Py_ssize_t columns, dim) except -1:
        cdef size_t full = <size_t>columns * (8 if self.dtype == VX_B1 else 2 if self.dtype == VX_I4 else 1)
        if dim is not None and not 0 < dim <= VX_DIM_MAX:
            raise ValueError(f"{what}: dim must be 1 to {VX_DIM_MAX}, got {dim}")
        self.dim = full if dim is None else <size_t>dim
        if not 0 < self.dim <= VX_DIM_MAX:
            raise ValueError(f"{what}: dim must be 1 to {VX_DIM_MAX}, got {full}")
        if vx_row_bytes(self.dtype, self.dim) != <size_t>(columns * self.view.itemsize):
            raise ValueError(f"{what}: {DTYPES[self.dtype]} vectors of dim {self.dim} do not have {columns} columns")
        return 0

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


cdef class _Out:
    """The float32 array that a kernel writes to."""

    cdef Py_buffer view
    cdef bint held
    cdef float *data

    def __cinit__(self, out, size_t rows, size_t columns, int ndim):
        self.held = False
        PyObject_GetBuffer(out, &self.view, PyBUF_STRIDES | PyBUF_FORMAT)
        self.held = True
        cdef Py_buffer *v = &self.view
        cdef bint fits = v.ndim == ndim and v.format[0] == c"f" and <size_t>v.shape[0] == rows
        if not fits or (ndim == 2 and <size_t>v.shape[1] != columns):
            shape = (rows, columns)[:ndim]
            raise ValueError(f"out: expected a float32 array of shape {shape}, got {out.dtype} {np.shape(out)}")
        if v.readonly or not PyBuffer_IsContiguous(v, b'C') or <size_t>v.buf % sizeof(float):
            raise ValueError("out: must be aligned, writable and contiguous")
        self.data = <float *>v.buf

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


cdef int _metric(metric, int dtype) except -1:
    cdef int found = _METRIC_OF.get(metric, -1)
    if found < 0:
        raise ValueError(f"metric: no metric is named {metric!r}; metrics are {', '.join(METRICS)}")
    if found == VX_HAMMING and dtype != VX_B1:
        raise ValueError(f"metric: hamming is for b1 vectors, these are {DTYPES[dtype]}")
    return found


cdef int _same(_Vectors a, str a_name, _Vectors b, str b_name) except -1:
    if a.dtype != b.dtype:
        raise TypeError(f"{a_name} is {DTYPES[a.dtype]} but {b_name} is {DTYPES[b.dtype]}; both must be the same")
    if a.dim != b.dim:
        raise ValueError(f"{a_name} has dim {a.dim} but {b_name} has dim {b.dim}; both must be the same")
    return 0


cdef class Simd:
    """The kernels of one level, with counters.  Owns its counters; thread-safe.

    Parameters
    ----------
    level : str, optional
        A demand, as ``VEXFS_SIMD`` is (which comes before this one).
    auto_detect : bool
        Take the best level there is; False takes ``scalar``.
    force_avx2 : bool
        Demand ``avx2``, whatever else there is.
    enable_avx512 : bool
        False: no better than ``avx2``.
    batch_size : int
        The most rows that one kernel call works on.

    Raises
    ------
    LevelUnknown, LevelNotBuilt, LevelNotSupported
        A demand that cannot be met.
    """

    def __cinit__(self, level=None, *, auto_detect=True, force_avx2=False, enable_avx512=True, batch_size=1024):
        self.simd = NULL
        self.demand = level
        self.auto_detect = auto_detect
        self.force_avx2 = force_avx2
        self.enable_avx512 = enable_avx512
        cdef int chosen = self.choose()
        self.simd = vx_simd_new(chosen, self._batch(batch_size))
        if self.simd == NULL:
            raise MemoryError("SIMD counters")

    def __dealloc__(self):
        vx_simd_free(self.simd)

    cdef int choose(self) except -1:
        cdef vx_simd_policy policy = vx_simd_policy(-1, self.auto_detect, self.force_avx2, self.enable_avx512)
        from_environment = os.environ.get(ENVIRONMENT)
        if from_environment:
            policy.level = _demanded(from_environment, f"environment {ENVIRONMENT}")
        elif self.demand is not None:
            policy.level = _demanded(self.demand, "level")
        elif self.force_avx2:
            policy.level = _demanded("avx2", "force_avx2")
        return vx_level_choose(&policy)

    @staticmethod
    def _batch(batch_size):
        if not 1 <= batch_size <= 0xFFFFFFFF:
            raise ValueError(f"batch_size: must be at least 1, got {batch_size}")
        return batch_size

    def configure(self, *, level=None, auto_detect=None, force_avx2=None, enable_avx512=None, batch_size=None):
        """Change the policy while running; what is not given stays, and a failure changes nothing.

        `level` is a demand as in the constructor; ``"auto"`` withdraws one.
        """
        cdef uint32_t batch = vx_simd_batch(self.simd) if batch_size is None else self._batch(batch_size)
        before = self.demand, self.auto_detect, self.force_avx2, self.enable_avx512
        if level is not None:
            self.demand = None if level == "auto" else level
        if auto_detect is not None:
            self.auto_detect = auto_detect
        if force_avx2 is not None:
            self.force_avx2 = force_avx2
        if enable_avx512 is not None:
            self.enable_avx512 = enable_avx512
        try:
            vx_simd_set_level(self.simd, self.choose())
        except ConfigError:
            self.demand, self.auto_detect, self.force_avx2, self.enable_avx512 = before
            raise
        vx_simd_set_batch(self.simd, batch)

    @property
    def level(self):
        """The level in use."""
        return LEVELS[vx_simd_kernels(self.simd).level]

    @property
    def batch_size(self):
        """The most rows that one kernel call works on."""
        return vx_simd_batch(self.simd)

    def counters(self):
        """Kernel calls, and vectors compared or converted, since the start or the last reset."""
        cdef uint64_t calls, vectors
        vx_simd_read(self.simd, &calls, &vectors)
        return {"calls": calls, "vectors": vectors}

    def reset_counters(self):
        """Let the counters start at zero again."""
        vx_simd_reset(self.simd)

    def pair(self, a, b, metric, *, dtype=None, dim=None):
        """The distance between two vectors.  For many of them use the batch methods: a call costs about 1 us."""
        cdef _Vectors x = _Vectors(a, "a", 1, dtype, dim), y = _Vectors(b, "b", 1, dtype, dim)
        _same(x, "a", y, "b")
        cdef int m = _metric(metric, x.dtype)
        cdef float out = vx_simd_kernels(self.simd).distance[x.dtype][m].pair(x.view.buf, y.view.buf, x.dim)
        vx_simd_count(self.simd, 1, 1)
        return out

    def one_to_many(self, q, rows, metric, *, dtype=None, dim=None, out=None):
        """Distances between one vector and every row.

        Parameters
        ----------
        q : array, (columns,)
        rows : array, (n, columns), same type as `q`
            Rows may stand apart (any forward stride); the values of a row must be contiguous.
        metric : {"dot", "cosine", "l2sq", "l2", "hamming"}
            ``dot`` is the inner product, larger is nearer; the others are distances.  ``cosine`` is ``1 - cos``.
        dtype : str, optional
            Needed where the array's type does not say it (``bf16``, ``i4``, ``b1``).
        dim : int, optional
            Needed for ``i4`` and ``b1`` whose dim does not fill its bytes.
        out : float32 array, (n,), optional

        Returns
        -------
        float32 array, (n,)

        Raises
        ------
        ValueError, TypeError
            Shapes, types or metric do not fit; the message names the argument.
        """
        cdef _Vectors x = _Vectors(q, "q", 1, dtype, dim), y = _Vectors(rows, "rows", 2, dtype, dim)
        _same(x, "q", y, "rows")
        cdef int m = _metric(metric, x.dtype)
        result = np.empty(y.n, np.float32) if out is None else out
        cdef _Out into = _Out(result, y.n, 1, 1)
        with nogil:
            vx_simd_many(self.simd, x.dtype, m, x.view.buf, y.view.buf, y.stride, y.n, x.dim, into.data)
        return result

    def gather(self, q, rows, ids, metric, *, dtype=None, dim=None, out=None):
        """As :meth:`one_to_many`, for the rows `ids` (integers, (m,)), prefetched ahead of their use."""
        cdef _Vectors x = _Vectors(q, "q", 1, dtype, dim), y = _Vectors(rows, "rows", 2, dtype, dim)
        _same(x, "q", y, "rows")
        cdef int m = _metric(metric, x.dtype)
        chosen = np.asarray(ids)
        if chosen.ndim != 1 or chosen.dtype.kind not in "ui":
            raise ValueError(f"ids: expected integers of one dimension, got {chosen.dtype} {chosen.shape}")
        if chosen.size and not 0 <= int(chosen.min()) <= int(chosen.max()) < y.n:
            raise IndexError(f"ids: must be 0 to {y.n - 1} for {y.n} rows, got {chosen.min()} to {chosen.max()}")
        cdef const uint32_t[::1] wanted = np.ascontiguousarray(chosen, np.uint32)
        cdef size_t n = wanted.shape[0]
        cdef const uint32_t *first = &wanted[0] if n else NULL
        result = np.empty(n, np.float32) if out is None else out
        cdef _Out into = _Out(result, n, 1, 1)
        with nogil:
            vx_simd_gather(self.simd, x.dtype, m, x.view.buf, y.view.buf, y.stride, first, n, x.dim, into.data)
        return result

    def many_to_many(self, a, b, metric, *, dtype=None, dim=None, out=None):
        """Distances between every row of `a` and every row of `b`: float32, (len(a), len(b))."""
        cdef _Vectors x = _Vectors(a, "a", 2, dtype, dim), y = _Vectors(b, "b", 2, dtype, dim)
        _same(x, "a", y, "b")
        cdef int m = _metric(metric, x.dtype)
        result = np.empty((x.n, y.n), np.float32) if out is None else out
        cdef _Out into = _Out(result, x.n, y.n, 2)
        with nogil:
            vx_simd_cross(self.simd, x.dtype, m, x.view.buf, x.stride, x.n, y.view.buf, y.stride, y.n, x.dim, into.data)
        return result

    def quantise(self, x, dtype, scale=None):
        """Turn float32 vectors into stored codes.

        Parameters
        ----------
        x : float32 array, (n, dim), contiguous
        dtype : str
            ``i8`` and ``i4`` are ``rint(x / scale)`` clamped to ±127 and ±7, NaN to 0; ``b1`` is ``x > 0``;
            ``f16`` and ``bf16`` round to nearest even.
        scale : float, optional
            Of ``i8`` and ``i4``: the value of one step; the largest finite magnitude over 127 or 7 when not given.

        Returns
        -------
        codes : array, (n, columns)
        scale : float
            What :meth:`dequantise` wants; 1.0 for the types without a scale.
        """
        cdef int to = _DTYPE_OF.get(dtype, -1)
        if to < 0:
            raise ValueError(f"dtype: no dtype is named {dtype!r}; dtypes are {', '.join(DTYPES)}")
        cdef _Vectors v = _Vectors(x, "x", 2, "f32", None)
        if v.n > 1 and v.stride != v.dim * 4:
            raise ValueError("x: rows must be contiguous; pass numpy.ascontiguousarray(x)")
        step = self._scale(x, dtype, scale)
        cdef float f = step
        columns = vx_row_bytes(to, v.dim) // np.dtype(_NUMPY[to]).itemsize
        codes = np.empty((v.n, columns), _NUMPY[to])
        cdef uint8_t[::1] into = codes.view(np.uint8).reshape(-1)
        cdef uint8_t *first = &into[0] if v.n else NULL
        with nogil:
            vx_simd_quantise(self.simd, to, <const float *>v.view.buf, v.n, v.dim, f, first)
        return codes, step

    @staticmethod
    def _scale(x, dtype, scale):
        if scale is None:
            if dtype not in _MOST:
                return 1.0
            top = max(abs(float(np.max(x, initial=0))), abs(float(np.min(x, initial=0))))
            if not np.isfinite(top):
                top = float(np.max(np.abs(x), where=np.isfinite(x), initial=0))
            return max(top / _MOST[dtype], 1e-30) if top else 1.0
        if not 1e-30 <= scale <= 1e30:
            raise ValueError(f"scale: must be positive, 1e-30 to 1e30, got {scale}")
        return float(scale)

    def dequantise(self, codes, dtype=None, *, dim=None, scale=1.0):
        """Turn stored codes, (n, columns), back into float32, (n, dim).  ``b1`` gives ``+scale`` and ``-scale``."""
        cdef _Vectors v = _Vectors(codes, "codes", 2, dtype, dim)
        if v.n > 1 and v.stride != vx_row_bytes(v.dtype, v.dim):
            raise ValueError("codes: rows must be contiguous; pass numpy.ascontiguousarray(codes)")
        result = np.empty((v.n, v.dim), np.float32)
        cdef _Out into = _Out(result, v.n, v.dim, 2)
        cdef float f = scale
        with nogil:
            vx_simd_dequantise(self.simd, v.dtype, v.view.buf, v.n, v.dim, f, into.data)
        return result
