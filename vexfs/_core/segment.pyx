"""The segment store from Python: for tests, tools and benchmarks.  The filesystem calls the C functions itself."""

import os
from typing import NamedTuple

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from vexfs._core.io cimport iovec

FRAME_MAX = VX_FRAME_MAX
COMPRESSIONS = ("none", "lz4")


class Frame(NamedTuple):
    """Where a frame stands and whose it is."""

    ino: int
    off: int
    seg: int
    pos: int
    stored: int
    raw_len: int


class ScannedFrame(NamedTuple):
    """One entry of a scan; `err` is 0 or an errno, and then only `pos` and `stored` (bytes passed) say anything."""

    ino: int
    off: int
    pos: int
    stored: int
    raw_len: int
    err: int


cdef object _failed(int status, path):
    return OSError(-status, os.strerror(-status), path)


cdef object _number(str compression):
    if compression not in COMPRESSIONS:
        raise ValueError(f"no such compression: {compression!r}; there are {', '.join(COMPRESSIONS)}")
    return COMPRESSIONS.index(compression)


cdef class _Found:
    """What a walk collects, and the error that ended it.

    Python runs between two frames, and Ctrl-C arrives there: a frame that went missing in silence would look like
    damage, and a repair would act on it.
    """

    cdef object into
    cdef object error


cdef int _collect_frame(void *ctx, const vx_frame_info *f) noexcept with gil:
    try:
        (<_Found>ctx).into.append(ScannedFrame(f.ino, f.off, f.pos, f.stored, f.raw_len, -f.err))
        return 0
    except BaseException as error:
        (<_Found>ctx).error = error
        return -4  # EINTR


cdef int _collect_segment(void *ctx, uint32_t seg, uint64_t n) noexcept with gil:
    try:
        (<_Found>ctx).into[seg] = n
        return 0
    except BaseException as error:
        (<_Found>ctx).error = error
        return -4  # EINTR


cdef class _Puts:
    """The C side of a list of frames to append.  Owns the arrays and holds the buffers."""

    cdef vx_frame_put *puts
    cdef iovec *iov
    cdef Py_buffer *views
    cdef Py_ssize_t n, held

    def __cinit__(self, list frames not None):
        self.puts = NULL
        self.iov = NULL
        self.views = NULL
        self.n = len(frames)
        self.held = 0
        pieces = [list(data) if isinstance(data, (list, tuple)) else [data] for _, _, data in frames]
        cdef size_t total = sum(map(len, pieces))
        self.puts = <vx_frame_put *>calloc(self.n + 1, sizeof(vx_frame_put))
        self.iov = <iovec *>calloc(total + 1, sizeof(iovec))
        self.views = <Py_buffer *>calloc(total + 1, sizeof(Py_buffer))
        if self.puts is NULL or self.iov is NULL or self.views is NULL:
            raise MemoryError
        cdef Py_ssize_t i
        for i in range(self.n):
            self.puts[i].ino = frames[i][0]
            self.puts[i].off = frames[i][1]
            self.puts[i].iov = self.iov + self.held
            for piece in pieces[i]:
                PyObject_GetBuffer(piece, &self.views[self.held], PyBUF_SIMPLE)
                self.iov[self.held].iov_base = self.views[self.held].buf
                self.iov[self.held].iov_len = self.views[self.held].len
                self.puts[i].raw_len += <uint32_t>self.views[self.held].len
                self.puts[i].iovcnt += 1
                self.held += 1

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.held):
            PyBuffer_Release(&self.views[i])
        free(self.views)
        free(self.iov)
        free(self.puts)


cdef class SegmentStore:
    """Append-only files of frames.

    Parameters
    ----------
    directory : str or path-like
        Holds the segment files; must exist.
    key : bytes, optional
        32 bytes; with it frames are encrypted.
    segment_bytes : int
        Size at which a segment is sealed; 0 stands for 64 MiB.
    cache_bytes : int
        Bound of the cache of decoded frames.
    compression : {"none", "lz4"}
    direct_io : bool
        Go round the host's page cache where the host filesystem allows it; ``stats()["direct_io"]`` tells.
    io_depth : int
        Worker threads; 0 stands for 8, more than 16 are not started.
    read_only : bool
    next_segment : int
        Number of the first segment to be made, unless a file with that number or a higher one exists.

    Raises
    ------
    OSError
        ``ENOENT`` when the directory does not exist, ``EINVAL`` for a segment size under 16 KiB or above 1 GiB.
    """

    cdef vx_segstore *_store
    cdef readonly str directory

    def __cinit__(self, directory, bytes key=None, uint64_t segment_bytes=0, uint64_t cache_bytes=64 << 20,
                  str compression="none", bint direct_io=False, uint32_t io_depth=0, bint read_only=False,
                  uint64_t next_segment=0):
        self._store = NULL
        self.directory = os.fsdecode(directory)
        cdef bytes path = os.fsencode(directory)
        cdef vx_segstore_options o
        if key is not None and len(key) != 32:
            raise ValueError(f"a key must have 32 bytes, not {len(key)}")
        o.dir = path
        o.key = NULL if key is None else <const uint8_t *><const char *>key
        o.segment_bytes = segment_bytes
        o.cache_bytes = cache_bytes
        o.compression = _number(compression)
        o.direct_io = direct_io
        o.io_depth = io_depth
        o.read_only = read_only
        o.next_segment = next_segment
        o.pool = NULL
        cdef int status
        with nogil:
            status = vx_segstore_open(&self._store, &o)
        if status < 0:
            raise _failed(status, self.directory)

    def __dealloc__(self):
        vx_segstore_close(self._store)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """Stop the threads and close the files; nothing is synced.  No other call may be running."""
        cdef vx_segstore *s = self._store
        self._store = NULL
        with nogil:
            vx_segstore_close(s)

    cdef vx_segstore *_opened(self) except NULL:
        if self._store is NULL:
            raise ValueError(f"the segment store in {self.directory} is closed")
        return self._store

    cdef object _checked(self, int status, seg=None):
        if status < 0:
            path = self.directory if seg is None else os.path.join(self.directory, f"{seg:08x}.seg")
            raise _failed(status, path)

    def append(self, list frames not None):
        """Append frames; they are not durable before `sync`.

        Parameters
        ----------
        frames : list of (ino, off, data)
            `data` is a buffer or a list of buffers, 1 byte to `FRAME_MAX` together.

        Returns
        -------
        list of Frame

        Raises
        ------
        OSError
            ``EINVAL`` for a frame of a wrong size, ``EROFS``, ``ENOSPC``, ``EIO``.
        """
        cdef vx_segstore *s = self._opened()
        cdef _Puts p = _Puts(frames)
        cdef int status
        with nogil:
            status = vx_segstore_append(s, p.puts, p.n)
        self._checked(status)
        cdef Py_ssize_t i
        return [Frame(p.puts[i].ino, p.puts[i].off, p.puts[i].seg, p.puts[i].pos, p.puts[i].stored,
                      p.puts[i].raw_len) for i in range(p.n)]

    def sync(self):
        """Bring everything that was appended before to stable storage."""
        cdef vx_segstore *s = self._opened()
        cdef int status
        with nogil:
            status = vx_segstore_sync(s)
        self._checked(status)

    def read(self, frame not None, uint32_t skip=0, length=None):
        """The bytes of one frame, from `skip` on.

        Raises
        ------
        OSError
            ``EBADMSG`` when the frame is damaged, missing or another's, ``ENOENT`` when the segment is not there.
        """
        return self.read_many([frame], skip, length)[0]

    def read_many(self, list frames not None, uint32_t skip=0, length=None):
        """`read` of several frames at once, side by side."""
        cdef vx_segstore *s = self._opened()
        cdef size_t n = len(frames), i
        cdef vx_frame_get *gets = <vx_frame_get *>calloc(n + 1, sizeof(vx_frame_get))
        cdef int status
        cdef bytearray buffer
        if gets is NULL:
            raise MemoryError
        out = []
        try:
            for i, frame in enumerate(frames):
                buffer = bytearray(max(frame.raw_len - <int64_t>skip, 0) if length is None else length)
                out.append(buffer)
                gets[i] = vx_frame_get(ino=frame.ino, off=frame.off, seg=frame.seg, pos=frame.pos,
                                       stored=frame.stored, skip=skip, len=<uint32_t>len(buffer),
                                       dst=<char *>buffer, err=0)
            with nogil:
                status = vx_segstore_read(s, gets, n)
            for i in range(n):
                self._checked(gets[i].err, gets[i].seg)
            self._checked(status)
        finally:
            free(gets)
        return [bytes(b) for b in out]

    def read_into(self, frame not None, unsigned char[::1] out, uint32_t skip=0):
        """`read` into a buffer, whose length says how much."""
        cdef vx_segstore *s = self._opened()
        cdef vx_frame_get g
        g.ino, g.off, g.seg, g.pos, g.stored = frame.ino, frame.off, frame.seg, frame.pos, frame.stored
        g.skip, g.len, g.err = skip, <uint32_t>out.shape[0], 0
        g.dst = &out[0] if out.shape[0] else NULL
        with nogil:
            vx_segstore_read(s, &g, 1)
        self._checked(g.err, g.seg)

    def prefetch(self, list frames not None):
        """Start loading frames into the cache."""
        cdef vx_segstore *s = self._opened()
        cdef vx_frame_get g
        for frame in frames:
            g = vx_frame_get(ino=frame.ino, off=frame.off, seg=frame.seg, pos=frame.pos, stored=frame.stored,
                             skip=0, len=0, dst=NULL, err=0)
            vx_segstore_prefetch(s, &g, 1)

    def drop_cache(self):
        """Forget every decoded frame."""
        vx_segstore_drop_cache(self._opened())

    def pin(self, uint32_t seg):
        """Keep a segment readable although it be deleted."""
        self._checked(vx_segstore_pin(self._opened(), seg), seg)

    def unpin(self, uint32_t seg):
        """Take a `pin` back; the last one removes a deleted segment."""
        cdef vx_segstore *s = self._opened()
        with nogil:
            vx_segstore_unpin(s, seg)

    def delete(self, uint32_t seg):
        """Delete a segment, at once or with its last pin."""
        cdef vx_segstore *s = self._opened()
        cdef int status
        with nogil:
            status = vx_segstore_delete(s, seg)
        self._checked(status, seg)

    def seal(self):
        """Let the next append begin a new segment."""
        cdef vx_segstore *s = self._opened()
        cdef int status
        with nogil:
            status = vx_segstore_seal(s)
        self._checked(status)

    def trim(self, uint32_t seg, uint64_t used):
        """Cut a segment to its first `used` bytes.

        Raises
        ------
        OSError
            ``EBADMSG`` when it is shorter than that: data is missing; ``EBUSY`` while it is being appended to.
        """
        self._checked(vx_segstore_trim(self._opened(), seg, used), seg)

    def lend(self, uint32_t seg, uint32_t pos, bytes data not None):
        """Bytes of a segment that its file may lack, for reads and scans.  Before the first of them."""
        self._checked(vx_segstore_lend(self._opened(), seg, pos, <const char *>data, len(data)), seg)

    def scan(self, uint32_t seg, bint verify=True):
        """Every frame of a segment in order, damage included.

        Parameters
        ----------
        verify : bool
            Also read the data and check it.

        Returns
        -------
        list of ScannedFrame
        """
        cdef vx_segstore *s = self._opened()
        cdef _Found found = _Found()
        cdef void *ctx = <void *>found
        cdef int status
        found.into = []
        with nogil:
            status = vx_segstore_scan(s, seg, verify, _collect_frame, ctx)
        if found.error is not None:
            raise found.error
        self._checked(status, seg)
        return found.into

    def segments(self):
        """Size in bytes of every segment file, by number."""
        cdef _Found found = _Found()
        cdef int status
        found.into = {}
        status = vx_segstore_list(self._opened(), _collect_segment, <void *>found)
        if found.error is not None:
            raise found.error
        self._checked(status)
        return dict(sorted(found.into.items()))

    def size(self, uint32_t seg):
        """Bytes of a segment file, 0 when there is none."""
        return vx_segstore_size(self._opened(), seg)

    def configure(self, uint64_t cache_bytes, str compression not None):
        """Change the bound of the cache, and the compression of what is appended from now on."""
        self._checked(vx_segstore_configure(self._opened(), cache_bytes, _number(compression)))

    def stats(self):
        """Counters and sizes, by name; ``active_seg`` is None when no segment is being appended to."""
        cdef vx_segstore_stats st
        vx_segstore_read_stats(self._opened(), &st)
        found = dict(st)
        if found["active_seg"] == 0xFFFFFFFF:
            found["active_seg"] = None
        return found
