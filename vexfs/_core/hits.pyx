"""From rows that a search found to the files that they stand for."""

from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from vexfs._core.opened cimport failed
from vexfs._core.ops cimport vx_fs
from vexfs._core.rows cimport VX_HIT_PATH, VX_HIT_XATTRS, RowTable, vx_hit, vx_table_hits

__all__ = ["HIT_PATH", "HIT_XATTRS", "Found", "files_of", "rows_described"]

HIT_PATH = VX_HIT_PATH
HIT_XATTRS = VX_HIT_XATTRS


# What a walk over hits gathers without Python: the hit, then path and xattrs.
ctypedef struct basket:
    char *data
    size_t n
    size_t cap


cdef inline size_t room(const vx_hit *hit) noexcept nogil:
    return (sizeof(vx_hit) + hit.path_n + hit.xattrs_n + 7) & ~<size_t>7  # the next one is aligned


cdef int gather(void *ctx, const vx_hit *hit, const char *path, const void *xattrs) noexcept nogil:
    cdef basket *b = <basket *>ctx
    cdef size_t need = b.n + room(hit)
    cdef char *p
    if need > b.cap:
        p = <char *>realloc(b.data, need * 2 + 4096)
        if p is NULL:
            return -1
        b.data = p
        b.cap = need * 2 + 4096
    memcpy(b.data + b.n, hit, sizeof(vx_hit))
    memcpy(b.data + b.n + sizeof(vx_hit), path, hit.path_n)
    if hit.xattrs_n:
        memcpy(b.data + b.n + sizeof(vx_hit) + hit.path_n, xattrs, hit.xattrs_n)
    b.n = need
    return 0


cdef int gather_all(RowTable table, const uint32_t[::1] rows, uint32_t what, basket *b) except -1:
    cdef size_t n = rows.shape[0]
    cdef int rc
    memset(b, 0, sizeof(basket))
    if not n:
        return 0
    table.begin()
    cdef vx_fs *p = table.filesystem.fs
    with nogil:
        rc = vx_table_hits(p, table.ptr, &rows[0], n, what, gather, b)
    table.end()
    if rc:
        free(b.data)
        raise failed(rc)
    return 0


def rows_described(RowTable table not None, const uint32_t[::1] rows, uint32_t what=VX_HIT_PATH):
    """The files of rows: tuples (row, inode, path, packed xattrs).

    Rows that are searched no more are left out.  A path is b"" where none was asked for or none is known.
    """
    cdef basket b
    cdef size_t at = 0
    cdef vx_hit *h
    cdef char *text
    cdef list out = []
    gather_all(table, rows, what, &b)
    try:
        while at < b.n:
            h = <vx_hit *>(b.data + at)
            text = b.data + at + sizeof(vx_hit)
            out.append((h.row, h.ino, text[:h.path_n], text[h.path_n:h.path_n + h.xattrs_n]))
            at += room(h)
        return out
    finally:
        free(b.data)


cdef class Found:
    """A file that was found: the plain part of a ``Hit``, which says what the attributes mean."""

    cdef public double score, distance
    cdef public str path
    cdef public uint64_t ino
    cdef public uint32_t row
    cdef public object span, index
    cdef public list others
    cdef readonly bytes packed
    cdef public str kept_text

    def __cinit__(self):
        self.others = []
        self.packed = b""


cdef Found made(kind, index, const vx_hit *h, double score, double distance, str path, const char *xattrs):
    cdef Found f = kind.__new__(kind)
    f.score, f.distance, f.path, f.ino, f.row, f.index = score, distance, path, h.ino, h.row, index
    f.packed = xattrs[:h.xattrs_n]
    if h.length:
        f.span = (h.start, h.start + h.length)
    return f


cdef str path_text(index, const vx_hit *h, const char *path):
    if h.path_n:
        return PyUnicode_DecodeUTF8(path, h.path_n, "surrogateescape")
    try:
        return index.filesystem.path_of(h.ino).decode("utf-8", "surrogateescape")
    except OSError:
        return None  # it went meanwhile


def files_of(RowTable table not None, kind, index, const uint32_t[::1] rows, const float[::1] scores,
             const float[::1] distances, size_t k):
    """At most k files of rows that are in order, as objects of `kind`, a class over `Found`.

    The best passage of a file is first, the others with it.
    """
    cdef basket b
    cdef size_t at = 0
    cdef vx_hit *h
    cdef const char *text
    cdef str path
    cdef Found first, f
    cdef dict files = {}
    cdef list out = []
    gather_all(table, rows, VX_HIT_PATH | VX_HIT_XATTRS, &b)
    try:
        while at < b.n:
            h = <vx_hit *>(b.data + at)
            text = b.data + at + sizeof(vx_hit)
            at += room(h)
            first = files.get(h.ino)
            if first is None:
                if <size_t>len(out) >= k:
                    continue
                path = path_text(index, h, text)
                if path is None:
                    continue
                f = made(kind, index, h, scores[h.at], distances[h.at], path, text + h.path_n)
                files[h.ino] = f
                out.append(f)
            else:
                f = made(kind, index, h, scores[h.at], distances[h.at], first.path, text + h.path_n)
                first.others.append(f)
        return out
    finally:
        free(b.data)
