"""Attributes by column: what filters look at.

For each attribute name a kind, a number and a code of a string for every row of an index.  Rows are filled from packed
xattrs; a name that no row has has no column, and of very many names only those have one that a filter asked for.
"""

import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from vexfs._core.record cimport decode_at, is_attribute
from vexfs._core.simd cimport (
    VX_EQUAL,
    VX_GREATER,
    VX_GREATER_EQUAL,
    VX_LESS,
    VX_LESS_EQUAL,
    Simd,
    vx_simd_kernels,
)


__all__ = ["ABSENT", "BOOL", "FALSE", "NONE", "NUMBER", "ORDERS", "STRING", "TRUE", "Column", "Columns", "packed",
           "places"]

ORDERS = {"$lt": VX_LESS, "$lte": VX_LESS_EQUAL, "$gt": VX_GREATER, "$gte": VX_GREATER_EQUAL, "$eq": VX_EQUAL}
ABSENT, NONE, BOOL, NUMBER, STRING = range(5)
FALSE, TRUE = -2, -3  # codes

cdef enum:
    K_ABSENT = 0
    K_NULL = 1
    K_BOOL = 2
    K_NUMBER = 3
    K_STRING = 4

    EAGER = 64  # names that get a column unasked: a volume may have any number of them
    MOST = 96   # columns, but for one filter that looks at more

cdef double EXACT = 9007199254740992.0  # 2^53: integers up to here are what they are as a float64


cdef extern from *:
    """
    #define ctz64(x) __builtin_ctzll(x)
    #define popcount64(x) __builtin_popcountll(x)
    """
    int ctz64(uint64_t x) noexcept nogil
    int popcount64(uint64_t x) noexcept nogil


def packed(found):
    """Booleans as bits, uint64 (ceil(rows / 64),), the lowest first."""
    few = np.packbits(found, bitorder="little")
    bits = np.zeros((len(found) + 63) // 64, np.uint64)
    bits.view(np.uint8)[:len(few)] = few
    return bits


def places(const uint64_t[::1] bits, size_t most):
    """How many bits are set, and where, uint32 (count,); None for those if they are more than `most`."""
    cdef size_t n = bits.shape[0], at, count = 0, k = 0
    cdef uint64_t word
    with nogil:
        for at in range(n):
            count += popcount64(bits[at])
    if count > most:
        return count, None
    out = np.empty(count, np.uint32)
    cdef uint32_t[::1] into = out
    with nogil:
        for at in range(n):
            word = bits[at]
            while word:
                into[k] = <uint32_t>(64 * at + ctz64(word))
                k += 1
                word &= word - 1
    return count, out


cdef class Column:
    """One attribute.

    Attributes
    ----------
    kind : uint8 (rows,)
        ``ABSENT``, ``NONE``, ``BOOL``, ``NUMBER`` or ``STRING``.
    number : float64 (rows,)
        The number; else NaN, which compares with nothing.
    code : int32 (rows,)
        Of a string its place in `strings`; of a boolean ``FALSE`` or ``TRUE``; else -1.
    strings : list of str
    exact : dict
        Integers beyond 2^53 by row, as Python has them.
    """

    cdef Simd simd
    cdef readonly object kind, number, code
    cdef readonly list strings
    cdef readonly dict codes, exact
    cdef uint8_t[::1] kind_at
    cdef double[::1] number_at
    cdef int32_t[::1] code_at

    def __init__(self, rows, Simd simd not None):
        self.simd = simd
        self.strings = []
        self.codes = {}
        self.exact = {}
        self.make(np.zeros(rows, np.uint8), np.full(rows, np.nan), np.full(rows, -1, np.int32))

    def select(self, int order, double value, size_t rows):
        """The rows whose number is so (of ``ORDERS``) to `value`, as bits."""
        bits = np.empty((rows + 63) // 64, np.uint64)
        cdef uint64_t[::1] into = bits
        if order < 0 or order > <int>VX_EQUAL or rows > <size_t>self.number_at.shape[0]:
            raise ValueError(f"order {order} of {rows} rows")
        if rows:
            with nogil:
                vx_simd_kernels(self.simd.simd).select(&self.number_at[0], rows, order, value, &into[0])
        return bits

    cdef make(self, kind, number, code):
        self.kind, self.number, self.code = kind, number, code
        self.kind_at, self.number_at, self.code_at = kind, number, code

    cdef grow(self, size_t rows):
        cdef size_t had = self.kind.shape[0]
        kind, number, code = np.zeros(rows, np.uint8), np.full(rows, np.nan), np.full(rows, -1, np.int32)
        kind[:had], number[:had], code[:had] = self.kind, self.number, self.code
        self.make(kind, number, code)

    cdef void clear(self, uint32_t row):
        if self.kind_at[row] != K_ABSENT:
            if self.kind_at[row] == K_NUMBER and self.exact:
                self.exact.pop(row, None)
            self.kind_at[row] = K_ABSENT
            self.number_at[row] = float("nan")
            self.code_at[row] = -1

    cdef set_string(self, uint32_t row, str value):
        code = self.codes.get(value)
        if code is None:
            if len(self.strings) > 2 * self.kind_at.shape[0]:
                self.forget()
            code = self.codes[value] = len(self.strings)
            self.strings.append(value)
        self.kind_at[row] = K_STRING
        self.code_at[row] = code

    cdef forget(self):
        """Strings that no row has any more: there are never many more of them than rows."""
        has = self.code >= 0
        used, self.code[has] = np.unique(self.code[has], return_inverse=True)
        self.strings = [self.strings[k] for k in used.tolist()]
        self.codes = {value: k for k, value in enumerate(self.strings)}

    cdef set(self, uint32_t row, value):
        if isinstance(value, str):
            self.set_string(row, value)
        elif value is None:
            self.kind_at[row] = K_NULL
        elif isinstance(value, bool):
            self.kind_at[row] = K_BOOL
            self.code_at[row] = -3 if value else -2
        else:
            self.kind_at[row] = K_NUMBER
            try:
                self.number_at[row] = value
            except OverflowError:
                self.number_at[row] = float("inf") if value > 0 else float("-inf")
            if isinstance(value, int) and not -EXACT < self.number_at[row] < EXACT:
                self.exact[row] = value


cdef class Columns:
    """The columns of an index: of the first `EAGER` names that come, and of those that filters ask for."""

    cdef readonly dict columns
    cdef dict by_raw
    cdef readonly size_t rows
    cdef bint partial  # rows were filled that have names without a column
    cdef Simd simd

    def __init__(self, Simd simd=None):
        self.simd = simd or Simd()
        self.columns = {}
        self.by_raw = {}
        self.rows = 0
        self.partial = False

    def want(self, names):
        """See to it that each of `names` has a column; True: one is new, and all rows are to be filled again."""
        new = [name for name in names if name not in self.columns] if self.partial else None
        if not new:
            return False
        if len(self.columns) + len(new) > MOST:
            self.columns = {name: c for name, c in self.columns.items() if name in names}
            self.by_raw = {r: c for r, c in self.by_raw.items() if r.decode("utf-8", "surrogateescape") in names}
        for name in new:
            try:
                self.add(name.encode("utf-8", "surrogateescape"))
            except UnicodeEncodeError:  # no file has it
                self.columns[name] = Column(self.rows, self.simd)
        return True

    def resize(self, size_t rows):
        """Room for `rows` rows; those there stay."""
        cdef Column c
        if rows <= self.rows:
            return
        self.rows = max(rows, self.rows + self.rows // 2, 256)
        for c in self.columns.values():
            c.grow(self.rows)

    def get(self, str name):
        """The column of a name, or None."""
        return self.columns.get(name)

    def clear(self, rows):
        """Rows that have no attributes any more."""
        cdef Column c
        cdef uint32_t row
        for row in rows:
            for c in self.columns.values():
                c.clear(row)

    def fill(self, uint32_t row, bytes packed not None):
        """Set a row from its file's packed xattrs."""
        cdef const char *p = PyBytes_AS_STRING(packed)
        cdef size_t n = PyBytes_GET_SIZE(packed), at = 0, name_n
        cdef uint32_t value_n
        cdef Column c
        cdef bytes raw
        if row >= self.rows:
            self.resize(row + 1)
        for c in self.columns.values():
            c.clear(row)
        while n - at > 8:
            memcpy(&value_n, p + at, 4)
            name_n = <uint8_t>p[at + 4]
            at += 8
            if is_attribute(p + at, name_n):
                raw = p[at + 5:at + name_n]
                c = self.by_raw.get(raw)
                if c is None and len(self.by_raw) < EAGER:
                    c = self.add(raw)
                if c is None:
                    self.partial = True
                else:
                    c.set(row, decode_at(p + at + name_n, value_n))
            at += name_n + value_n

    cdef Column add(self, bytes raw):
        c = Column(self.rows, self.simd)
        self.by_raw[raw] = c
        self.columns[raw.decode("utf-8", "surrogateescape")] = c
        return c

    def memory(self):
        """Bytes that the columns take, strings counted by their length."""
        cdef Column c
        return sum(13 * self.rows + sum(len(s) + 60 for s in c.strings) for c in self.columns.values())
