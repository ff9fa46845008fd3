"""Keyword search: passages of text by row number, ranked by BM25; phrases, prefixes, signs."""

import os

import numpy as np

from vexfs.errors import QueryInvalid

from libc.errno cimport EBADMSG, EINVAL
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy


#: How text becomes terms.  It stands in every record and snapshot; those of another analyser are refused.
ANALYSER = VX_WORDS_ANALYSER
_ROOM = 65536
cdef uint64_t _NOTHING = 0  # where an array of nothing stands
_KINDS = ("term", "prefix", "phrase")


cdef object _failed(int status, str what):
    """Raise for what a call answered, when it is below 0."""
    if status < 0:
        raise OSError(-status, f"{what}: {os.strerror(-status)}")


cdef object _queried(int64_t status):
    """Raise for what a search answered."""
    if status == -EINVAL:
        raise QueryInvalid(f"a query of more than {VX_WORDS_UNITS} phrases, prefixes and signed words")
    _failed(<int>min(status, 0), "search")


cdef bytes _utf8(object text):
    """UTF-8 of a text; lone surrogates are separators."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


ctypedef struct _Piece:
    const uint8_t *text
    size_t text_n
    uint8_t *record
    size_t record_n


cdef class _Stream:
    """A callable that takes or gives bytes, and the exception that it raised."""

    cdef object call
    cdef object error


cdef int _write(void *ctx, const void *data, size_t n) noexcept with gil:
    cdef _Stream stream = <_Stream>ctx
    try:
        stream.call((<const char *>data)[:n])
        return 0
    except BaseException as error:
        stream.error = error
        return -EINVAL


cdef int _read(void *ctx, void *data, size_t n) noexcept with gil:
    cdef _Stream stream = <_Stream>ctx
    cdef bytes got
    try:
        got = bytes(stream.call(n))
        if len(got) != n:
            return -EBADMSG
        memcpy(data, <const char *>got, n)
        return 0
    except BaseException as error:
        stream.error = error
        return -EINVAL


cdef class WordIndex:
    """An inverted index in memory over rows (uint32, dense, reused).

    Safe to use from several threads; searches run beside each other.  A passage is encoded once, into its record, which
    the caller stores; the index is made of records, or of a snapshot.

    Parameters
    ----------
    simd : bool
        Whether the machine's vector instructions may be used; results are the same.
    """

    def __cinit__(self, *, bint simd=True):
        self.ptr = vx_words_new(simd)
        if self.ptr is NULL:
            raise MemoryError

    def __dealloc__(self):
        vx_words_free(self.ptr)

    def __len__(self):
        return vx_words_count(self.ptr)

    def __contains__(self, uint32_t row):
        return bool(vx_words_has(self.ptr, row))

    def held(self, uint32_t n):
        """Which of the rows below `n` are in it: bool (n,)."""
        out = np.empty(n, np.bool_)
        cdef unsigned char[::1] into = out.view(np.uint8)
        cdef uint32_t row
        with nogil:
            for row in range(n):
                into[row] = vx_words_has(self.ptr, row)
        return out

    @staticmethod
    def encode(text):
        """The record of one passage: its distinct terms, their order and number.

        Parameters
        ----------
        text : str or bytes
            Bytes are UTF-8; what is malformed separates words.

        Returns
        -------
        bytes
            About as long as the text; it holds all that `put` needs.
        """
        cdef bytes data = _utf8(text)
        cdef const uint8_t *p = data
        cdef size_t n = len(data), out_n = 0
        cdef uint8_t *out = NULL
        cdef int status
        with nogil:
            status = vx_words_encode(p, n, &out, &out_n)
        _failed(status, "encode")
        try:
            return (<char *>out)[:out_n]
        finally:
            free(out)

    @staticmethod
    def encode_all(texts):
        """The records of a sequence of texts, a list: as `encode` of each, without Python's lock for all of them."""
        cdef list held = [_utf8(text) for text in texts]
        cdef Py_ssize_t i, n = len(held)
        cdef _Piece *pieces = <_Piece *>calloc(n or 1, sizeof(_Piece))
        cdef bytes data
        cdef int status = 0
        if pieces is NULL:
            raise MemoryError
        try:
            for i in range(n):
                data = held[i]
                pieces[i].text, pieces[i].text_n = data, len(data)
            with nogil:
                for i in range(n):
                    status = vx_words_encode(pieces[i].text, pieces[i].text_n, &pieces[i].record, &pieces[i].record_n)
                    if status < 0:
                        break
            _failed(status, "encode")
            return [(<char *>pieces[i].record)[:pieces[i].record_n] for i in range(n)]
        finally:
            for i in range(n):
                free(pieces[i].record)
            free(pieces)

    def put(self, rows, records):
        """Insert or replace rows; they are found when this returns.

        Parameters
        ----------
        rows : array_like of uint32, shape (n,)
        records : sequence of n bytes
            What `encode` gave.

        Raises
        ------
        ValueError
            Not as many records as rows.
        OSError
            ``EBADMSG`` when a record is damaged, ``EINVAL`` when another analyser made it; rows before it are in.
        """
        cdef const uint32_t[::1] where = np.ascontiguousarray(rows, np.uint32).reshape(-1)
        cdef Py_ssize_t i, n = where.shape[0]
        cdef _Piece *pieces
        cdef list held = list(records)
        cdef bytes record
        cdef int status = 0
        if len(held) != n:
            raise ValueError(f"{len(held)} records for {n} rows")
        pieces = <_Piece *>calloc(n or 1, sizeof(_Piece))
        if pieces is NULL:
            raise MemoryError
        try:
            for i in range(n):
                record = held[i]
                pieces[i].text, pieces[i].text_n = record, len(record)
            i = 0
            with nogil:
                while i < n:
                    status = vx_words_put(self.ptr, where[i], pieces[i].text, pieces[i].text_n)
                    if status < 0:
                        break
                    i += 1
        finally:
            free(pieces)
        if status < 0:
            _failed(status, f"record of row {where[i]}")

    def remove(self, rows):
        """Take rows out; they are in no later result.  Gives how many were there."""
        cdef const uint32_t[::1] where = np.ascontiguousarray(rows, np.uint32).reshape(-1)
        cdef Py_ssize_t i
        cdef uint64_t removed = 0
        with nogil:
            for i in range(where.shape[0]):
                removed += vx_words_remove(self.ptr, where[i])
        return removed

    def search(self, str query not None, uint32_t k=10, *, mask=None, rows=None, bint prefix_last=False):
        """The best rows for a query.

        Parameters
        ----------
        query : str
            Words, any of them; ``"a phrase"``; ``pre*``; ``+must``; ``-mustnot``.
        k : int
            How many at most.
        mask : ndarray of uint64, optional
            Bits of the rows that are allowed; rows beyond its end are not.
        rows : array_like of uint32, optional
            The only rows allowed.
        prefix_last : bool
            The last word is taken as the beginning of one, unless a space follows it: search as you type.

        Returns
        -------
        rows : ndarray of uint32, shape (m,)
        scores : ndarray of float32, shape (m,)
            Best first; rows of one score ascend.  A score depends on query, passage and the whole of the index.

        Raises
        ------
        QueryInvalid
            More phrases, prefixes and signed words than a query may have.
        """
        cdef bytes text = query.encode("utf-8", "surrogatepass")
        cdef const char *p = text
        cdef size_t n = len(text)
        cdef vx_words_options o
        cdef const uint64_t[::1] bits
        cdef const uint32_t[::1] only
        cdef int64_t found
        k = <uint32_t>min(k, max(vx_words_count(self.ptr), _ROOM))  # what is asked for may be far more than there is
        o.k, o.prefix_last, o.mask, o.mask_rows, o.rows, o.rows_n = k, prefix_last, NULL, 0, NULL, 0
        if mask is not None:
            bits = np.ascontiguousarray(mask, np.uint64)
            o.mask_rows = bits.shape[0] * 64
            o.mask = &bits[0] if o.mask_rows else <const uint64_t *>&_NOTHING
        if rows is not None:
            only = np.ascontiguousarray(rows, np.uint32).reshape(-1)
            o.rows_n = only.shape[0]
            o.rows = &only[0] if o.rows_n else <const uint32_t *>&_NOTHING
        out = np.empty(k, np.uint32)
        points = np.empty(k, np.float32)
        cdef uint32_t[::1] out_view = out
        cdef float[::1] points_view = points
        with nogil:
            found = vx_words_search(self.ptr, p, n, &o, &out_view[0], &points_view[0]) if k else 0
        _queried(found)
        return out[:found], points[:found]

    def explain(self, str query not None, *, bint prefix_last=False):
        """What a query is understood as.

        Returns
        -------
        list of dict
            ``text`` (the word as the index knows it, or the phrase), ``kind`` (``term``, ``prefix``, ``phrase``),
            ``sign`` (``+``, ``-`` or nothing), ``df`` (rows that have it), ``weight`` (what one occurrence in a passage
            of average length adds).  Words that no row has are left out.
        """
        cdef bytes text = query.encode("utf-8", "surrogatepass")
        cdef const char *p = text
        cdef size_t n = len(text)
        cdef vx_words_clause *clauses = <vx_words_clause *>malloc(VX_WORDS_UNITS * sizeof(vx_words_clause))
        cdef int64_t found
        if clauses is NULL:
            raise MemoryError
        with nogil:
            found = vx_words_explain(self.ptr, p, n, prefix_last, clauses)
        try:
            _queried(found)
            return self._clauses(clauses, found)
        finally:
            free(clauses)

    cdef list _clauses(self, const vx_words_clause *clauses, int64_t n):
        return [
            {
                "text": (<bytes>clauses[i].text).decode("utf-8", "replace"),
                "kind": _KINDS[clauses[i].kind],
                "sign": chr(clauses[i].sign).strip(),
                "df": clauses[i].df,
                "weight": clauses[i].weight,
            }
            for i in range(n)
        ]

    def terms(self):
        """Every term with the number of rows that have it, in no order."""
        cdef uint32_t i = 0
        while (term := self._term(i)) is not None:
            i += 1
            if term[1]:
                yield term

    cdef tuple _term(self, uint32_t number):
        cdef char[64] name
        cdef uint64_t df = 0
        cdef uint32_t n
        with nogil:
            n = vx_words_term(self.ptr, number, name, &df)
        return ((<bytes>name[:n]).decode("utf-8", "replace"), df) if n else None

    def memory(self):
        """Bytes held, without the allocator's own."""
        return self.stats()["memory"]

    def stats(self):
        """Figures: rows, terms, postings, tokens, parts, removed, memory (bytes), average_length (positions)."""
        cdef vx_words_stats s
        with nogil:
            vx_words_read_stats(self.ptr, &s)
        return s

    def maintain(self, double budget_ms=5.0):
        """Work off what removals and replacements left behind, for about so long; True when there is more to do."""
        cdef int more
        with nogil:
            more = vx_words_maintain(self.ptr, budget_ms)
        _failed(min(more, 0), "maintain")
        return bool(more)

    def dump(self, write):
        """Write a snapshot: `write` is called with bytes, several times."""
        cdef _Stream stream = _Stream()
        cdef int status
        stream.call = write
        with nogil:
            status = vx_words_dump(self.ptr, _write, <void *>stream)
        if stream.error is not None:
            raise stream.error
        _failed(status, "dump")

    def restore(self, read):
        """Read a snapshot into an empty index: ``read(n)`` gives n bytes.

        Raises
        ------
        OSError
            ``EBADMSG`` when it is damaged, ``EINVAL`` when another analyser made it, ``EEXIST`` when the index is not
            empty.  The index is empty then.
        """
        cdef _Stream stream = _Stream()
        cdef int status
        stream.call = read
        with nogil:
            status = vx_words_restore(self.ptr, _read, <void *>stream)
        if stream.error is not None:
            raise stream.error
        _failed(status, "restore")
