"""Records between Python and the filesystem: the names, attributes and vectors of a batch, and the way back.

A value stands in its xattr as a JSON scalar, anything else as a string: ``user.year`` holding ``2020`` is the number
2020, holding ``"2020"`` (with the quotes) or ``second edition`` a string.  What most values are is told by a look at
the bytes; ``json`` has the rest.
"""

import json
import math
import os
from collections.abc import Mapping

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.mem cimport PyMem_Free
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint8_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy

from vexfs.errors import InvalidArgument

__all__ = ["decode", "encode", "first_unfit", "names_of", "pack", "unpack"]

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *n) except NULL
    object PyUnicode_DecodeUTF8(const char *s, Py_ssize_t n, const char *errors)
    char *PyOS_double_to_string(double value, char code, int precision, int flags, int *kind) except NULL
    double PyOS_string_to_double(const char *s, char **end, PyObject *overflow) except? -1.0
    int Py_DTSF_ADD_DOT_0

cdef inline bint digit(char c) noexcept nogil:
    return c"0" <= c <= c"9"


cdef size_t digits(const char *p, size_t at, size_t n) noexcept nogil:
    while at < n and digit(p[at]):
        at += 1
    return at


cdef int number(const char *p, size_t n) noexcept nogil:
    """What bytes that begin with a digit or a minus are: nothing but a whole JSON number is one."""
    cdef size_t first = 1 if p[0] == c"-" else 0, at = digits(p, first, n), end
    if at == first or (p[first] == c"0" and at - first > 1):
        return TEXT
    if at == n:
        return WHOLE if n - first <= 15 else OTHER
    if p[at] == c".":
        end = digits(p, at + 1, n)
        if end == at + 1:
            return TEXT
        at = end
    if at < n and (p[at] == c"e" or p[at] == c"E"):
        at += 1
        if at < n and (p[at] == c"+" or p[at] == c"-"):
            at += 1
        end = digits(p, at, n)
        if end == at:
            return TEXT
        at = end
    return REAL if at == n else TEXT


cdef int kind_of(const char *p, size_t n) noexcept nogil:
    if not n:
        return TEXT
    if p[n - 1] == c" " or c"\t" <= p[n - 1] <= c"\r":
        return OTHER  # a JSON value may have blanks behind it
    cdef char c = p[0]
    if digit(c) or c == c"-":
        return number(p, n)
    if c == c"t" or c == c"f" or c == c"n":
        if n == 4:
            return OTHER if not memcmp(p, b"true", 4) or not memcmp(p, b"null", 4) else TEXT
        return OTHER if n == 5 and not memcmp(p, b"false", 5) else TEXT
    if c == c'"' or c == c"[" or c == c"{" or c == c" " or c"\t" <= c <= c"\r":
        return OTHER
    return TEXT


cdef bint is_attribute(const char *name, size_t n) noexcept nogil:
    """A name of an xattr that is an attribute's: ``user.`` and something that is not VexFS's own."""
    return n > 5 and not memcmp(name, b"user.", 5) and not (n >= 11 and not memcmp(name, b"user.vexfs.", 11))


def _refuse(token):
    raise ValueError(f"{token} is no JSON")


cdef object decode_other(const char *p, Py_ssize_t n):
    cdef str text = PyUnicode_DecodeUTF8(p, n, "surrogateescape")
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text
    return value if value is None or isinstance(value, (str, int, float)) else text


cdef object decode_at(const char *p, Py_ssize_t n):
    cdef int kind = kind_of(p, n)
    cdef char copy[64]
    cdef long long value = 0
    cdef Py_ssize_t at
    if kind == TEXT:
        return PyUnicode_DecodeUTF8(p, n, "surrogateescape")
    if kind == WHOLE:
        for at in range(1 if p[0] == c"-" else 0, n):
            value = 10 * value + (p[at] - c"0")
        return -value if p[0] == c"-" else value
    if kind == REAL and n < 64:
        memcpy(copy, p, n)
        copy[n] = 0
        return PyOS_string_to_double(copy, NULL, NULL)
    return decode_other(p, n)


def decode(bytes raw not None):
    """The value that an xattr's bytes stand for; bytes that are not UTF-8 become a string with surrogates."""
    return decode_at(PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))


cdef bytes encode_other(value):
    if hasattr(value, "item") and not isinstance(value, (str, int, float)):
        return encode(value.item())  # a numpy scalar
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogateescape")
        return raw if decode(raw) == value and isinstance(decode(raw), str) else json.dumps(value).encode()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"an attribute cannot be {value}: JSON has no such number")
    if value is not None and not isinstance(value, (int, float)):
        raise TypeError(f"an attribute is a string, number, boolean or None, not {type(value).__name__}")
    return json.dumps(value).encode()


def encode(value):
    """The bytes of a scalar, such that `decode` gives it back.

    Raises
    ------
    TypeError
        The value is no string, number, boolean or None.
    ValueError
        It is a number that JSON has no form for.
    """
    cdef Bytes out = Bytes()
    out.put_value(value)
    return out.take()


cdef class Bytes:
    """Bytes that grow at their end."""

    cdef char *data
    cdef size_t n, cap

    def __dealloc__(self):
        free(self.data)

    cdef char *room(self, size_t n) except NULL:
        cdef char *more
        if self.n + n > self.cap or self.data is NULL:
            more = <char *>realloc(self.data, 2 * (self.n + n) + 256)
            if more is NULL:
                raise MemoryError
            self.data, self.cap = more, 2 * (self.n + n) + 256
        self.n += n
        return self.data + self.n - n

    cdef int put(self, const void *data, size_t n) except -1:
        memcpy(self.room(n), data, n)
        return 0

    cdef bytes take(self):
        cdef size_t n = self.n
        self.n = 0
        return PyBytes_FromStringAndSize(self.data, n)

    cdef int put_other(self, value) except -1:
        cdef bytes raw = encode_other(value)
        return self.put(PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))

    cdef int put_whole(self, value) except -1:
        cdef char text[32]
        if -10 ** 15 < value < 10 ** 15:
            return self.put(text, snprintf(text, sizeof(text), "%lld", <long long>value))
        return self.put_other(value)

    cdef int put_value(self, value) except -1:
        cdef const char *text
        cdef char *real
        cdef Py_ssize_t n
        kind = type(value)
        if kind is int:
            return self.put_whole(value)
        if kind is str:
            try:
                text = PyUnicode_AsUTF8AndSize(value, &n)
            except UnicodeEncodeError:
                return self.put_other(value)
            return self.put(text, n) if kind_of(text, n) == TEXT else self.put_other(value)
        if kind is float and math.isfinite(value):
            real = PyOS_double_to_string(value, c"r", 0, Py_DTSF_ADD_DOT_0, NULL)
            try:
                return self.put(real, len(real))
            finally:
                PyMem_Free(real)
        return self.put_other(value)


cdef class Packer:
    """Entries of xattrs: length of the value (4 bytes), of the name (1), three zeros, name, value."""

    cdef Bytes out
    cdef dict raw

    def __init__(self):
        self.out = Bytes()
        self.raw = {}

    cdef bytes name(self, name, Py_ssize_t place):
        cdef bytes raw
        if not isinstance(name, str) or not name:
            raise InvalidArgument.at(f"an attribute of record {place} is called {name!r}; names are strings")
        raw = b"user." + name.encode("utf-8", "surrogateescape")
        if len(raw) > NAME_MAX or b"\0" in raw or raw.startswith(b"user.vexfs."):
            raise InvalidArgument.at(f"{name!r} cannot be the name of an attribute (record {place})")
        self.raw[name] = raw
        return raw

    cdef int entry(self, name, value, Py_ssize_t place) except -1:
        cdef bytes raw = self.raw.get(name) if type(name) is str else None
        cdef size_t head = self.out.n
        cdef uint32_t value_n
        cdef char *p
        if raw is None:
            raw = self.name(name, place)
        p = self.out.room(8)
        p[4], p[5], p[6], p[7] = <char>PyBytes_GET_SIZE(raw), 0, 0, 0
        self.out.put(PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))
        cdef size_t begin = self.out.n
        try:
            self.out.put_value(value)
        except (TypeError, ValueError) as error:
            raise InvalidArgument.at(f"attribute {name!r} of record {place}: {error}") from None
        value_n = <uint32_t>(self.out.n - begin)
        memcpy(self.out.data + head, &value_n, 4)
        return 0

    cdef list rows(self, list rows):
        cdef Py_ssize_t place
        cdef PyObject *name
        cdef PyObject *value
        cdef Py_ssize_t at
        cdef list packed = []
        for place in range(len(rows)):
            row = rows[place]
            if not row:
                packed.append(None)
                continue
            if type(row) is not dict:
                if not isinstance(row, Mapping):
                    raise InvalidArgument.at(f"attributes of record {place} are {row!r}; a mapping is wanted")
                row = dict(row)
            at = 0
            while PyDict_Next(row, &at, &name, &value):
                self.entry(<object>name, <object>value, place)
            packed.append(self.out.take())
        return packed

    cdef list columns(self, dict columns, Py_ssize_t n):
        cdef Py_ssize_t place
        cdef list packed = []
        for place in range(n):
            for name, values in columns.items():
                value = (<list>values)[place]
                if value is not None and not (isinstance(value, float) and value != value):
                    self.entry(name, value, place)
            packed.append(self.out.take() if self.out.n else None)
        return packed


def columns_of(attributes):
    """The values of attributes that are given by name: a list for each; None of what is given by record.

    Parameters
    ----------
    attributes : mapping of n values each, or a table of pandas, polars or Arrow, or anything else
    """
    names = getattr(attributes, "column_names", None)  # of Arrow
    if names is None:
        names = getattr(attributes, "columns", None)
    if isinstance(attributes, Mapping):
        names = attributes
    if names is None:
        return None
    found = {}
    for name in names:
        values = attributes[name]
        listed = getattr(values, "tolist", None) or getattr(values, "to_pylist", None)
        found[name] = list(values) if listed is None else listed()
    return found


def pack(attributes, Py_ssize_t n):
    """Packed xattrs of n records, each bytes or None.

    Parameters
    ----------
    attributes : sequence of n mappings, mapping of n values each, or a table of n rows
        A missing value of a column (None, NaN) is no attribute.

    Raises
    ------
    InvalidArgument
        Names the record and what cannot be.
    """
    cdef Packer packer = Packer()
    columns = columns_of(attributes)
    if columns is not None:
        for name, values in columns.items():
            if len(values) != n:
                raise InvalidArgument.at(f"attribute {name!r} has {len(values)} values for {n} records")
        return packer.columns(columns, n)
    try:
        rows = list(attributes)
    except TypeError:
        raise InvalidArgument.at(f"attributes are {attributes!r}; a mapping for each record is wanted") from None
    if len(rows) != n:
        raise InvalidArgument.at(f"attributes for {len(rows)} records; there are {n}")
    return packer.rows(rows)


def unpack(bytes packed not None):
    """The attributes among packed xattrs, by name."""
    cdef const char *p = PyBytes_AS_STRING(packed)
    cdef size_t n = PyBytes_GET_SIZE(packed), at = 0, name_n
    cdef uint32_t value_n
    cdef dict out = {}
    while n - at > 8:
        memcpy(&value_n, p + at, 4)
        name_n = <uint8_t>p[at + 4]
        at += 8
        if name_n + value_n > n - at:
            raise ValueError("xattr entry with impossible lengths")
        if is_attribute(p + at, name_n):
            out[PyUnicode_DecodeUTF8(p + at + 5, name_n - 5, "surrogateescape")] = decode_at(p + at + name_n, value_n)
        at += name_n + value_n
    return out


cdef bint plain_name(const char *p, size_t n) noexcept nogil:
    """A name of one part that needs no closer look."""
    return 0 < n <= NAME_MAX and p[0] != c"." and memchr(p, c"/", n) is NULL and memchr(p, 0, n) is NULL


cdef int look_closer(bytes name) except -1:
    cdef list parts = name.split(b"/")
    if any(part in (b"", b".", b"..", b".vexfs") or b"\0" in part for part in parts):
        raise InvalidArgument.at(f"{os.fsdecode(name)!r} cannot be an id: it is no name of a file")
    if max(map(len, parts)) > NAME_MAX:
        raise InvalidArgument.at(f"id {os.fsdecode(name[:40])!r}... is longer than 255 bytes")
    return 0


def names_of(ids):
    """Ids as names of files, bytes each; each once.

    Raises
    ------
    InvalidArgument
        An id that no file can have, or one that comes twice.
    """
    cdef const char *text
    cdef Py_ssize_t n
    cdef bytes name
    cdef list names = []
    for place, each in enumerate(ids):
        if type(each) is str and (<str>each).isascii():
            text = PyUnicode_AsUTF8AndSize(each, &n)
            name = PyBytes_FromStringAndSize(text, n)
        else:
            each = each.item() if type(each).__module__ == "numpy" else each
            if not isinstance(each, str | bytes):
                raise InvalidArgument.at(f"id {place} is {each!r}; ids are the names of files: strings")
            try:
                name = each if isinstance(each, bytes) else each.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError as error:
                raise InvalidArgument.at(f"id {place} is {each!r}: {error.reason}") from None
        names.append(name)
    if len(set(names)) != len(names):
        seen = set()
        for name in names:
            if name in seen:
                raise InvalidArgument.at(f"id {os.fsdecode(name)!r} comes twice in one batch")
            seen.add(name)
    for name in names:
        if not plain_name(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)):
            look_closer(name)
    return names


cdef int fit(const float *x, size_t n, bint any_length) noexcept nogil:
    """Whether a vector is finite and, unless it may have any length, not as good as zeros: it has a number of 2**-119.

    Of smaller ones neither the inverse of the length nor the step of i8 is a normal float32.
    """
    cdef const uint32_t *bits = <const uint32_t *>x
    cdef uint32_t infinite = 0, some = 0
    cdef size_t k
    for k in range(n):
        infinite |= (bits[k] & 0x7f800000) == 0x7f800000
        some |= (bits[k] & 0x7fffffff) >= 0x04000000
    return not infinite and (any_length or some != 0)


def first_unfit(const float[:, ::1] x, bint any_length):
    """The first vector that is not finite or, unless `any_length`, is as good as zeros; -1: every one is fit."""
    cdef Py_ssize_t row, rows = x.shape[0], found = -1
    cdef size_t n = x.shape[1]
    with nogil:
        for row in range(rows):
            if not fit(&x[row, 0], n, any_length):
                found = row
                break
    return found
