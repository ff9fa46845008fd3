"""From rows that a search found to the files that they stand for."""

import numpy as np

from cpython.buffer cimport (Py_buffer, PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBuffer_Release, PyObject_CheckBuffer,
                             PyObject_GetBuffer)
from cpython.list cimport PyList_Append, PyList_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.math cimport NAN
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort, realloc
from libc.string cimport memcpy, memset

from vexfs._core.opened cimport failed
from vexfs._core.ops cimport vx_fs
from vexfs._core.record cimport fit
from vexfs._core.rows cimport (VX_HIT_PATH, VX_HIT_XATTRS, VX_ROW_NONE, RowTable, vx_hit, vx_table_hits,
                               vx_table_stats)
from vexfs._core.vindex cimport VX_VINDEX_K_MAX, VectorIndex, vx_vindex_ask

__all__ = ["HIT_PATH", "HIT_XATTRS", "Found", "files_of", "fused", "nearest", "nearest_plainly", "rows_described"]

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


cdef int gather_all(RowTable table, const uint32_t *rows, size_t n, uint32_t since, uint32_t what,
                    basket *b) except -1:
    cdef int rc
    memset(b, 0, sizeof(basket))
    if not n:
        return 0
    table.begin()
    cdef vx_fs *p = table.filesystem.fs
    with nogil:
        rc = vx_table_hits(p, table.ptr, rows, n, since, what, gather, b)
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
    if rows.shape[0]:
        gather_all(table, &rows[0], rows.shape[0], VX_ROW_NONE, what, &b)
    else:
        b.data, b.n = NULL, 0
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
    cdef public bytes packed
    cdef public str kept_text
    cdef list further  # None until there are any, or somebody asks

    def __cinit__(self):
        self.packed = b""

    @property
    def others(self):
        """Further passages of the same file."""
        if self.further is None:
            self.further = []
        return self.further


cdef Found made(kind, index, const vx_hit *h, double score, double distance, str path, const char *xattrs):
    cdef Found f = Found.__new__(kind)
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


cdef int collect(RowTable table, kind, index, const uint32_t *rows, const float *scores, const float *distances,
                 size_t n, size_t k, uint32_t since, out) except -1:
    cdef basket b
    cdef size_t at = 0
    cdef vx_hit *h
    cdef const char *text
    cdef str path
    cdef Found first, f
    cdef dict files = {}
    gather_all(table, rows, n, since, VX_HIT_PATH | VX_HIT_XATTRS, &b)
    try:
        while at < b.n:
            h = <vx_hit *>(b.data + at)
            text = b.data + at + sizeof(vx_hit)
            at += room(h)
            first = files.get(h.ino)
            if first is None:
                if <size_t>PyList_GET_SIZE(out) >= k:
                    continue
                path = path_text(index, h, text)
                if path is None:
                    continue
                f = made(kind, index, h, scores[h.at], distances[h.at], path, text + h.path_n)
                files[h.ino] = f
                PyList_Append(out, f)
            else:
                f = made(kind, index, h, scores[h.at], distances[h.at], first.path, text + h.path_n)
                first.others.append(f)
    finally:
        free(b.data)
    return 0


def files_of(RowTable table not None, kind, index, const uint32_t[::1] rows, const float[::1] scores,
             const float[::1] distances, size_t k, uint32_t since, out):
    """At most k files of rows that are in order, put into `out` as objects of `kind`, a class over `Found`.

    The best passage of a file is first, the others with it.  `since` is the table's ``moment`` before they were looked
    for: a row that was given to another file after it is left out.
    """
    if rows.shape[0]:
        collect(table, kind, index, &rows[0], &scores[0], &distances[0], rows.shape[0], k, since, out)
    return out


# A row in a ranked list.
ctypedef struct ranked:
    double share
    uint32_t row
    uint32_t rank
    float distance


cdef int by_row(const void *a, const void *b) noexcept nogil:
    cdef const ranked *x = <const ranked *>a
    cdef const ranked *y = <const ranked *>b
    return (x.row > y.row) - (x.row < y.row)


cdef int by_share(const void *a, const void *b) noexcept nogil:
    cdef const ranked *x = <const ranked *>a
    cdef const ranked *y = <const ranked *>b
    return (x.share < y.share) - (x.share > y.share) or by_row(a, b)


cdef void take(ranked *into, const uint32_t *rows, const float *distances, size_t n, double weight, double constant,
               uint32_t behind) noexcept nogil:
    cdef size_t i
    for i in range(n):
        into[i].row, into[i].rank = rows[i], <uint32_t>i
        into[i].share = weight / (constant + behind + <double>i + 1)
        into[i].distance = distances[i] if distances != NULL else NAN


# Rows of both lists once, best first; how many.
cdef size_t fuse(ranked *each, size_t n, uint32_t first) noexcept nogil:
    cdef size_t i, out = 0
    cdef ranked *last
    qsort(each, n, sizeof(ranked), by_row)
    for i in range(n):
        if not out or each[out - 1].row != each[i].row:
            each[out] = each[i]
            out += 1
            continue
        last = &each[out - 1]
        if each[i].distance == each[i].distance:
            last.distance = each[i].distance
        if (last.rank < first and each[i].rank < first) or last.rank == each[i].rank:
            last.share += each[i].share
        elif each[i].rank < last.rank:
            last.share = each[i].share
    qsort(each, out, sizeof(ranked), by_share)
    return out


def fused(const uint32_t[::1] near not None, const float[::1] distances not None, const uint32_t[::1] words not None,
          double weight, double constant, uint32_t first, uint32_t behind=0):
    """Two ranked lists of rows as one, by reciprocal rank fusion.

    Parameters
    ----------
    near, words : uint32 (n,), (m,)
        Best first; no row comes twice in one of them.
    distances : float32 (n,)
        Of the rows of `near`.
    weight : float
        What `near` counts, where `words` counts 1.
    constant : float
        Added to a rank, which counts from 1.
    first : int
        A row behind so many ranks of each list counts by its best rank alone.
    behind : int
        How many rows of each list come before these.

    Returns
    -------
    rows : uint32 (r,)
        Best first; those of one score ascend.
    scores : float32 (r,)
        Up to 1.
    distances : float32 (r,)
        NaN for a row that is not in `near`.
    """
    cdef size_t n = near.shape[0], m = words.shape[0]
    cdef ranked *each
    if <size_t>distances.shape[0] != n:
        raise ValueError(f"{distances.shape[0]} distances for {n} rows")
    each = <ranked *>malloc((n + m or 1) * sizeof(ranked))
    if each is NULL:
        raise MemoryError("rows of a search")
    cdef double most = (weight + 1) / (constant + 1)
    try:
        with nogil:
            if n:
                take(each, &near[0], &distances[0], n, weight / most, constant, behind)
            if m:
                take(each + n, &words[0], NULL, m, 1 / most, constant, behind)
            n = fuse(each, n + m, first)
        out = np.empty(n, np.uint32), np.empty(n, np.float32), np.empty(n, np.float32)
        spread(each, n, out[0], out[1], out[2])
        return out
    finally:
        free(each)


cdef int spread(const ranked *each, size_t n, uint32_t[::1] rows, float[::1] scores, float[::1] distances) except -1:
    cdef size_t i
    for i in range(n):
        rows[i], scores[i], distances[i] = each[i].row, <float>each[i].share, each[i].distance
    return 0


cdef inline float score_of(str metric, float distance) noexcept:
    if metric == "cosine":
        return 1 - distance
    return -distance if metric == "dot" else 1 / (1 + distance)


def nearest(RowTable table not None, VectorIndex vectors not None, kind, lists, index, const float[:, ::1] q,
            uint32_t want, size_t k, const uint64_t[::1] mask, const uint32_t[::1] only, uint32_t since, float recall,
            uint32_t effort, exact, threshold, uint32_t threads, dict work):
    """At most k files of the `want` nearest rows to each query.

    Parameters
    ----------
    kind, lists : type
        What files and answers are made as: a class over `Found`, and one over list.
    q : float32 (nq, dim)
    mask, only, exact, threshold, threads, work
        As for ``VectorIndex.search``.
    since : int
        The table's ``moment`` before mask and rows were looked for, as in `files_of`.

    Returns
    -------
    answers : list of `lists`
    filled : list of int
        How many rows each answer was made of: `want`, or all that there are.
    """
    cdef size_t nq = q.shape[0]
    cdef list answers = [], found = []
    cdef vx_vindex_ask ask
    if <uint32_t>q.shape[1] != vectors.dim or not 1 <= want <= VX_VINDEX_K_MAX:
        raise ValueError(f"queries of {q.shape[1]} for {want} rows; the dimension is {vectors.dim}")
    if not nq:
        return answers, found
    memset(&ask, 0, sizeof(ask))
    ask.k, ask.recall, ask.effort, ask.threads = want, recall, effort, threads
    ask.exact = -1 if exact is None else 1 if exact else 0
    if threshold is not None:
        ask.limited, ask.threshold = 1, threshold
    if mask is not None:
        ask.mask, ask.mask_bits = &mask[0], 64 * <uint64_t>mask.shape[0]
    if only is not None:
        ask.only, ask.only_n = &only[0], only.shape[0]
    answer(table, vectors, kind, lists, index, &q[0, 0], nq, &ask, k, since, work, answers, found)
    return answers, found


cdef int answer(RowTable table, VectorIndex vectors, kind, lists, index, const float *q, size_t nq,
                const vx_vindex_ask *ask, size_t k, uint32_t since, dict work, list answers, list found) except -1:
    cdef size_t want = ask.k, n = nq * want, at
    cdef uint32_t *rows
    cdef float *distances
    cdef float *scores
    cdef uint32_t *filled
    rows = <uint32_t *>malloc((2 * n + nq) * sizeof(uint32_t) + n * sizeof(float))
    if rows is NULL:
        raise MemoryError("rows of a search")
    distances, scores, filled = <float *>(rows + n), <float *>(rows + 2 * n), rows + 3 * n
    try:
        table.begin()  # the filesystem stays open: rows may have to be read
        try:
            vectors._search(q, nq, ask, rows, distances, filled, work)
        finally:
            table.end()
        for at in range(nq):
            for n in range(at * want, at * want + filled[at]):
                scores[n] = score_of(vectors.metric, distances[n])
            n = at * want
            out = lists()
            if filled[at]:
                collect(table, kind, index, rows + n, scores + n, distances + n, filled[at], k, since, out)
            answers.append(out)
            found.append(filled[at])
    finally:
        free(rows)
    return 0


def nearest_plainly(RowTable table not None, VectorIndex vectors not None, kind, lists, index, q, k, recall, threads,
                    settling):
    """The k files nearest to one query among all, as `nearest` finds them: the short way of the usual question.

    None where there is more to it, which whoever asks then looks into: a query that is no float32 array of (dim,), or
    none that can be; an option that is odd; changes that have to be settled first; files with several rows.
    """
    cdef vx_table_stats s
    cdef vx_vindex_ask ask
    cdef Py_buffer view
    cdef list answers = []
    cdef int64_t most
    cdef double share
    if type(k) is not int or type(recall) is not float or type(threads) is not int or not PyObject_CheckBuffer(q):
        return None
    most, share = min(max(k, 0), VX_VINDEX_K_MAX + 1), recall
    # Whoever takes notes out of the table says so before, and has given rows to what they tell of before he is done.
    if table.read().moved or settling.pending:
        return None
    s = table.read()
    if not (1 <= most <= VX_VINDEX_K_MAX and 0 < share <= 1 and threads == 1 and s.live == s.files > 0):
        return None
    try:
        PyObject_GetBuffer(q, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
    except (BufferError, ValueError):
        return None
    try:
        if not (view.ndim == 1 and view.shape[0] == vectors.dim and view.format[0] == b"f" and view.format[1] == 0
                and <size_t>view.buf % sizeof(float) == 0
                and fit(<const float *>view.buf, vectors.dim, vectors.metric != "cosine")):
            return None
        memset(&ask, 0, sizeof(ask))
        ask.k, ask.recall, ask.threads, ask.exact = min(<uint32_t>most, s.live), share, 1, -1
        answer(table, vectors, kind, lists, index, <const float *>view.buf, 1, &ask, most, s.moment, None, answers, [])
    finally:
        PyBuffer_Release(&view)
    return answers[0]
