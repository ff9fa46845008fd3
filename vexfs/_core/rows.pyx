"""Python's way to the row tables of indexes: ``vexfs/rows.h`` has the meaning."""

import time

import numpy as np

from vexfs.errors import IndexClosed

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from vexfs._core.fs cimport Filesystem
from vexfs._core.opened cimport attributes_failed, failed
from vexfs._core.ops cimport fs_read, vx_fs
from vexfs._core.vindex cimport VectorIndex, vx_vindex, vx_vindex_remove, vx_vindex_source
from vexfs._core.words cimport WordIndex, vx_words, vx_words_remove

__all__ = ["FLAG_SHIFT", "INO_MASK", "NO_ROW", "PUT_MAX", "ROW", "RecordFailed", "RowTable", "covering", "hidden",
           "moved"]

#: A row as it lies in the table; ``ino`` and ``dir`` hold flags and version in their upper 24 bits.
ROW = np.dtype([("ino", "<u8"), ("dir", "<u8"), ("generation", "<u4"), ("start", "<u4"), ("length", "<u4"),
                ("next", "<u4")])
#: ``ino`` has the inode number below its flags.
INO_MASK, FLAG_SHIFT = np.uint64((1 << 40) - 1), np.uint64(40)
NO_ROW, PUT_MAX = <uint32_t>VX_ROW_NONE, VX_PUT_MAX


class RecordFailed(Exception):
    """One record of a batch cannot be; nothing of the batch has happened.  ``at`` is its place, ``error`` why."""

    def __init__(self, at, error):
        super().__init__(at, error)
        self.at, self.error = at, error


def hidden(Filesystem fs not None):
    """The inode number of the volume's hidden directory, which is made when there is none."""
    cdef uint64_t ino = 0
    cdef int rc
    cdef vx_fs *p = fs.enter()
    with nogil:
        rc = vx_fs_hidden(p, &ino)
    fs.busy -= 1
    if rc:
        raise failed(rc)
    return ino


def moved(Filesystem fs not None):
    """Inode numbers of files that crossed the edge of an index or lost their name; of indexed directories that went."""
    cdef uint64_t inos[1024]
    cdef uint32_t n
    cdef int rc = 0
    cdef vx_fs *p = fs.enter()
    with nogil:
        n = vx_fs_moved(p, inos, 1024)
        if n:
            rc = vx_fs_find_names(p, inos, n)
    fs.busy -= 1
    if rc == -12:  # ENOMEM; what else fails, each file meets by itself
        raise failed(rc)
    return [inos[k] for k in range(n)]


def covering(Filesystem fs not None, uint64_t ino):
    """The directory of the index that covers `ino`, or 0."""
    cdef vx_table *t
    cdef uint64_t directory = 0
    cdef vx_fs *p = fs.enter()
    with nogil:
        t = vx_table_over(p, ino)
        if t is not NULL:
            directory = vx_table_dir(t)
    fs.busy -= 1
    return directory


cdef void gone_vector(void *ctx, uint32_t row) noexcept nogil:
    vx_vindex_remove(<vx_vindex *>ctx, row)


cdef void gone_words(void *ctx, uint32_t row) noexcept nogil:
    vx_words_remove(<vx_words *>ctx, row)


cdef int read_stored(void *ctx, uint32_t first, uint32_t n, void *out) noexcept nogil:
    cdef source *s = <source *>ctx
    cdef size_t want = <size_t>n * s.row_bytes
    cdef int64_t got = fs_read(s.fs, s.vectors, <uint64_t>first * s.row_bytes, out, want)
    return <int>got if got < 0 else 0 if <size_t>got == want else -74  # EBADMSG


# Its filesystem and indexes stay until it has gone, whatever a collector finds: rows go out of use until then.
@cython.no_gc_clear
cdef class RowTable:
    """The rows of one index.

    Parameters
    ----------
    fs : Filesystem
    directory : int
        Inode number of the directory that the index belongs to.
    rows, vectors, words : int
        Inode numbers of its files; `words` 0: no keyword records.
    row_bytes : int
        Of a stored vector.

    Raises
    ------
    OSError
        EBADMSG: the file is no table.  EEXIST: the directory has an index already.
    """

    def __cinit__(self):
        self.ptr = NULL
        self.watchers = {}

    def __init__(self, Filesystem fs not None, uint64_t directory, uint64_t rows, uint64_t vectors, uint64_t words,
                 uint32_t row_bytes):
        cdef vx_table_options o
        cdef int rc
        o.dir, o.rows, o.vectors, o.words, o.row_bytes = directory, rows, vectors, words, row_bytes
        cdef vx_fs *p = fs.enter()
        with nogil:
            rc = vx_table_open(p, &o, &self.ptr)
        fs.busy -= 1
        if rc:
            raise failed(rc)
        self.filesystem = fs
        self.source.vectors = vectors
        self.directory = directory
        self.row_bytes = row_bytes

    def __dealloc__(self):
        if self.ptr is not NULL and self.filesystem is not None and not self.filesystem.closed:
            for place in range(VX_TABLE_WATCHERS):
                vx_table_watch(self.filesystem.fs, self.ptr, place, NULL, NULL)

    cdef vx_fs *begin(self) except NULL:
        """A call begins: the filesystem, which it answers, and the table stay until its `end`."""
        if self.ptr is NULL or self.closing:
            self.filesystem.handle()  # of a volume that is closed this is told
            raise IndexClosed("the index is no more: it was dropped, or its volume was closed")
        cdef vx_fs *p = self.filesystem.enter()
        self.calls += 1
        return p

    cdef void end(self):
        self.calls -= 1
        self.filesystem.busy -= 1

    def close(self):
        """Write what changed and let the table go, when the calls under way have come back."""
        cdef vx_fs *p
        if self.ptr is NULL or self.closing or self.filesystem.closed:
            return
        self.closing = True
        while self.calls:
            time.sleep(0.001)
        self.calls += 1
        p = self.filesystem.enter()
        with nogil:
            vx_table_close(p, self.ptr)
        self.ptr = NULL
        self.end()

    cdef vx_table_stats read(self) except *:
        cdef vx_table_stats s
        cdef vx_fs *p = self.begin()
        with nogil:
            vx_table_read(p, self.ptr, &s)
        self.end()
        return s

    def watch(self, index not None):
        """Rows that go out of use leave that `VectorIndex` or `WordIndex` at once, and no more another of its kind."""
        cdef bint words = isinstance(index, WordIndex)
        cdef vx_row_gone_fn gone = gone_words if words else gone_vector
        cdef void *ctx = <void *>(<WordIndex>index).ptr if words else <void *>(<VectorIndex?>index).index
        cdef vx_fs *p = self.begin()
        with nogil:
            vx_table_watch(p, self.ptr, words, gone, ctx)
        self.watchers[words] = index
        self.end()

    def attach(self, VectorIndex vectors not None, bint keep=True):
        """Let an index read stored vectors from the table's file; `keep` them in memory once read."""
        self.begin()
        self.source.fs, self.source.row_bytes = self.filesystem.fs, self.row_bytes
        with nogil:
            vx_vindex_source(vectors.index, read_stored, &self.source, keep)
        self.end()

    def __enter__(self):
        self.begin()
        return self

    def __exit__(self, *exc):
        self.end()

    def stats(self):
        """Counts: rows in the table, live ones, files, free, away and stale ones; versions of rows and tree."""
        return self.read()

    @property
    def version(self):
        """(changes of rows and attributes, moves of directories): what was computed from both still holds while
        they stay."""
        cdef vx_table_stats s = self.read()
        return s.changes, s.tree

    def __len__(self):
        return self.read().rows

    @property
    def live(self):
        """Rows that are searched."""
        return self.read().live

    @property
    def files(self):
        """Files with rows that are searched."""
        return self.read().files

    @property
    def counts(self):
        """(live, files), of one moment."""
        cdef vx_table_stats s = self.read()
        return s.live, s.files

    @property
    def waiting(self):
        """Files that `moved` would give out."""
        return self.read().moved

    @property
    def moment(self):
        """Grows when rows are given to other files: who describes rows says when it began to look for them."""
        return self.read().moment

    def rows(self, uint32_t first=0, n=None):
        """Rows first..first+n as a structured array of ``ROW``."""
        cdef uint32_t want = self.read().rows if n is None else n
        out = np.empty(want, ROW)
        cdef size_t at = out.ctypes.data
        cdef uint32_t got
        cdef vx_fs *p = self.begin()
        with nogil:
            got = vx_table_rows(p, self.ptr, first, want, <vx_row *>at)
        self.end()
        return out[:got]

    def versions(self):
        """How often each row was taken into use, uint32; ``NO_ROW`` where it is not searched."""
        cdef uint32_t cap = self.read().rows, n
        out = np.empty(cap, np.uint32)
        cdef size_t at = out.ctypes.data
        cdef vx_fs *p = self.begin()
        with nogil:
            n = vx_table_versions(p, self.ptr, <uint32_t *>at, cap)
        self.end()
        return out[:n]

    def rows_of(self, uint64_t ino):
        """The rows of a file, uint32 array, whatever their state."""
        cdef uint32_t n = 16, room = 0
        cdef size_t at
        cdef vx_fs *p
        while room < n:
            room = n
            out = np.empty(room, np.uint32)
            at = out.ctypes.data
            p = self.begin()
            with nogil:
                n = vx_table_rows_of(p, self.ptr, ino, <uint32_t *>at, room)
            self.end()
        return out[:n]

    def scope(self, uint64_t directory):
        """Live rows below a directory: a bit array (uint64 words) and how many."""
        cdef uint32_t rows = self.read().rows
        bits = np.empty((rows + 63) // 64, np.uint64)
        cdef size_t at = bits.ctypes.data
        cdef int64_t n
        cdef vx_fs *p = self.begin()
        with nogil:
            n = vx_table_scope(p, self.ptr, directory, <uint64_t *>at, rows)
        self.end()
        if n < 0:
            raise failed(n)
        return bits, n

    def touched(self):
        """Rows whose attributes may have changed since the last call, uint32 array; None: too many, look at all."""
        cdef uint32_t cap = 1 << 20
        out = np.empty(cap, np.uint32)
        cdef size_t at = out.ctypes.data
        cdef int64_t n
        cdef vx_fs *p = self.begin()
        with nogil:
            n = vx_table_touched(p, self.ptr, <uint32_t *>at, cap)
        self.end()
        return None if n < 0 else np.unique(out[:n])

    def use_words(self, uint64_t ino):
        """Keyword records go to another file from now on; nobody may be putting meanwhile."""
        cdef int rc
        cdef vx_fs *p = self.begin()
        with nogil:
            rc = vx_table_words(p, self.ptr, ino)
        self.end()
        if rc:
            raise failed(rc)

    def take_back(self, uint64_t ino):
        """A file that was away is back: the number of its rows that are to be searched again."""
        cdef int n
        cdef vx_fs *p = self.begin()
        with nogil:
            n = vx_table_return(p, self.ptr, ino)
        self.end()
        return n

    def drop(self, uint64_t ino):
        """Take a file's rows away; the file stays.  Whether it had any."""
        cdef int rc
        cdef vx_fs *p = self.begin()
        with nogil:
            rc = vx_table_drop(p, self.ptr, ino)
        self.end()
        if rc < 0:
            raise failed(rc)
        return rc > 0

    def skip(self, uint32_t n):
        """Leave the next n rows of the table unused."""
        cdef int rc
        cdef vx_fs *p = self.begin()
        with nogil:
            rc = vx_table_skip(p, self.ptr, n)
        self.end()
        if rc:
            raise failed(rc)

    def confirm(self, const uint32_t[::1] rows, const uint64_t[::1] inos):
        """After rows were taken into an index: those that went out of use meanwhile leave it again."""
        cdef size_t n = rows.shape[0]
        if not n:
            return
        cdef vx_fs *p = self.begin()
        with nogil:
            vx_table_confirm(p, self.ptr, &rows[0], &inos[0], n)
        self.end()

    def put(self, list names, const unsigned char[:, ::1] stored, *, parent=0, list xattrs=None,
            list contents=None, counts=None, spans=None, list words=None, generations=None, bint create=True,
            bint exclusive=False, bint from_content=False, bint keep_rows=False, bint append=False, list called=None):
        """Put files with their rows, all or none.

        Parameters
        ----------
        names : list of bytes or int
            Names in `parent`, or inode numbers.
        parent : int or list of int
            The directory of all names, or of each.
        stored : uint8 (rows, row_bytes)
            Stored vectors of all files, one after the other.
        xattrs : list of bytes or None
            Packed entries, laid over those that the file has.
        contents : list of bytes or None
            At most 4096 bytes each.
        counts : uint32 (n,), optional
            Rows of each file; one each when left out.
        spans : uint32 (rows, 2), optional
            First byte and length within the file.
        words : list of bytes, one a row, optional
        generations : uint64 (n,)
            With `from_content`: of the content that the rows were made from.
        called : list of bytes
            With inode numbers and `from_content`: the names under which their text was read.
        append : bool
            Take the next rows of the table, none that was used before.

        Returns
        -------
        rows : uint32 (rows,)
        inos : uint64 (n,)

        Raises
        ------
        RecordFailed
            ESTALE where a generation has passed, or the file is no longer this table's.
        OSError
            About the batch as a whole.
        """
        cdef size_t n = len(names), k
        cdef uint64_t above = 0 if type(parent) is list else parent
        cdef uint32_t total = 0, flags = 0
        cdef int rc
        cdef bytes b
        cdef const uint32_t[::1] count_of
        cdef const uint64_t[::1] generation_of
        cdef const uint32_t[:, ::1] span_of
        cdef uint32_t[::1] words_n
        cdef const char *words_at = NULL
        if create:
            flags |= VX_PUT_CREATE
        if exclusive:
            flags |= VX_PUT_EXCL
        if from_content:
            flags |= VX_PUT_CONTENT
        if keep_rows:
            flags |= VX_PUT_KEEP_ROWS
        if append:
            flags |= VX_PUT_APPEND
        cdef vx_record *r = <vx_record *>calloc(n or 1, sizeof(vx_record))
        if r is NULL:
            raise MemoryError
        try:
            if counts is not None:
                count_of = counts
            if generations is not None:
                generation_of = generations
            for k in range(n):
                name = names[k]
                r[k].parent = parent[k] if type(parent) is list else above
                if type(name) is bytes:
                    b = name
                    r[k].name = PyBytes_AS_STRING(b)
                    r[k].name_n = <uint32_t>min(PyBytes_GET_SIZE(b), 1 << 20)
                else:
                    r[k].ino = name
                    if called is not None:
                        b = called[k]
                        r[k].name = PyBytes_AS_STRING(b)
                        r[k].name_n = <uint32_t>min(PyBytes_GET_SIZE(b), 1 << 20)
                if xattrs is not None and xattrs[k] is not None:
                    b = xattrs[k]
                    r[k].xattrs = PyBytes_AS_STRING(b)
                    r[k].xattrs_n = <uint32_t>PyBytes_GET_SIZE(b)
                if contents is not None and contents[k] is not None:
                    b = contents[k]
                    r[k].content = PyBytes_AS_STRING(b)
                    r[k].content_n = <uint32_t>PyBytes_GET_SIZE(b)
                r[k].nrows = 0 if keep_rows else 1 if counts is None else count_of[k]
                if generations is not None:
                    r[k].generation = generation_of[k]
                total += r[k].nrows
            if not keep_rows and (stored.shape[0] != total or (total and stored.shape[1] != self.row_bytes)):
                raise ValueError(f"{stored.shape[0]} stored rows of {stored.shape[1]} bytes; {total} of "
                                 f"{self.row_bytes} were announced")
            if spans is not None:
                span_of = spans
                if span_of.shape[0] != total or span_of.shape[1] != 2:
                    raise ValueError("spans are a pair for each row")
            joined = None
            if words is not None:
                joined = b"".join(words)
                words_n = np.fromiter((len(w) for w in words), np.uint32, len(words))
                if words_n.shape[0] != total:
                    raise ValueError("words are one record a row")
                words_at = joined
            out = np.empty(total, np.uint32)
            rc = self._put(r, n, &span_of[0, 0] if spans is not None and total else NULL,
                           &stored[0, 0] if total else NULL, words_at,
                           &words_n[0] if words is not None and total else NULL, flags, out)
            if rc:
                for k in range(n):
                    if r[k].status:
                        raise RecordFailed(k, attributes_failed(r[k].status, names[k], r[k].status == -28))  # ENOSPC
                raise failed(rc)
            inos = np.empty(n, np.uint64)
            for k in range(n):
                inos[k] = r[k].ino
            return out, inos
        finally:
            free(r)

    cdef int _put(self, vx_record *r, size_t n, const uint32_t *spans, const unsigned char *stored, const char *words,
                  const uint32_t *words_n, uint32_t flags, out) except? -1:
        cdef size_t at = out.ctypes.data
        cdef int rc
        cdef vx_fs *p = self.begin()
        with nogil:
            rc = vx_fs_put_records(p, &self.filesystem.cred, self.ptr, r, n, <const vx_span *>spans, stored, words,
                                   words_n, flags, <uint32_t *>at)
        self.end()
        return rc
