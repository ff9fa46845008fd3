"""The store's system calls as tests and the power-cut simulator see them: recorded, made to fail, called directly."""

import os

from libc.stdint cimport int64_t, uint32_t
from posix.types cimport mode_t, off_t

KINDS = ("read", "create", "write", "truncate", "sync", "unlink", "rename", "syncdir", "close", "open", "mark")


cdef object _checked(ssize_t status, path=None):
    if status < 0:
        raise OSError(<int>-status, os.strerror(<int>-status), path)
    return status


def record_start(trace, root):
    """Record every change that the store makes below `root`, in order, until `record_stop`.

    Parameters
    ----------
    trace : str or path-like
        File to write the records to; replaced when it exists.  ``docs/format-segments.md`` gives its bytes.
    root : str or path-like
        The volume's directory.  Calls on files outside are not recorded.

    Raises
    ------
    OSError
        ``EBUSY`` when a recording runs in this process already.
    """
    cdef bytes t = os.fsencode(trace), r = os.fsencode(root)
    cdef const char *tp = t
    cdef const char *rp = r
    cdef int status
    with nogil:
        status = vx_io_record_start(tp, rp)
    _checked(status, trace)


def record_mark(const unsigned char[::1] data):
    """Put a mark with `data` into the trace: what the caller knows to be durable at this point.

    Raises
    ------
    OSError
        ``EINVAL`` when nothing is being recorded; the trace's own error (``ENOSPC``) when it could not be written.
    """
    cdef int status
    cdef size_t n = data.shape[0]
    cdef const void *p = &data[0] if n else NULL
    with nogil:
        status = vx_io_record_mark(p, n)
    _checked(status)


def record_stop():
    """End the recording and close the trace.

    Raises
    ------
    OSError
        ``EINVAL`` when nothing is being recorded; the trace's own error when it is incomplete.
    """
    cdef int status
    with nogil:
        status = vx_io_record_stop()
    _checked(status)


def fault(kinds, int64_t after=0, int err=5):
    """Make the store's system calls of some kinds fail, after `after` more that succeed.

    Parameters
    ----------
    kinds : str or iterable of str
        Names from `KINDS`.
    after : int
        Calls of these kinds that still succeed.
    err : int
        The errno to fail with.

    See Also
    --------
    clear_fault
    """
    cdef uint32_t bits = 0
    for kind in (kinds,) if isinstance(kinds, str) else kinds:
        if kind not in KINDS:
            raise ValueError(f"no such kind of system call: {kind!r}; there are {', '.join(KINDS)}")
        bits |= 1 << <int>KINDS.index(kind)
    if err <= 0 or after < 0:
        raise ValueError(f"err must be an errno (got {err}) and after at least 0 (got {after})")
    vx_io_fault(bits, after, err)


def clear_fault():
    """Let all system calls through again."""
    vx_io_fault(0, 0, 0)


def open(path, int flags=os.O_RDWR | os.O_CREAT, mode_t mode=0o600):
    """Open a file through the recorder and give its descriptor; see ``os.open``."""
    cdef bytes p = os.fsencode(path)
    cdef const char *c = p
    cdef int status
    with nogil:
        status = vx_io_open(c, flags, mode)
    return _checked(status, path)


def close(int fd):
    """Close a descriptor."""
    cdef int status
    with nogil:
        status = vx_io_close(fd)
    _checked(status)


def pread(int fd, size_t n, off_t off):
    """Read `n` bytes at `off`, fewer only at the end of the file."""
    cdef bytearray out = bytearray(n)
    cdef char *p = out
    cdef ssize_t got
    with nogil:
        got = vx_io_pread(fd, p, n, off)
    return bytes(out[:_checked(got)])


def pwrite(int fd, const unsigned char[::1] data, off_t off):
    """Write all of `data` at `off`."""
    cdef int status
    cdef size_t n = data.shape[0]
    cdef const void *p = &data[0] if n else NULL
    with nogil:
        status = vx_io_pwrite(fd, p, n, off)
    _checked(status)


def ftruncate(int fd, off_t size):
    """Set a file's size."""
    cdef int status
    with nogil:
        status = vx_io_ftruncate(fd, size)
    _checked(status)


def fdatasync(int fd):
    """Bring a file's data to stable storage."""
    cdef int status
    with nogil:
        status = vx_io_fdatasync(fd)
    _checked(status)


def unlink(path):
    """Remove a name."""
    cdef bytes p = os.fsencode(path)
    cdef const char *c = p
    cdef int status
    with nogil:
        status = vx_io_unlink(c)
    _checked(status, path)


def rename(source, target):
    """Give a file a new name, replacing what had it."""
    cdef bytes a = os.fsencode(source), b = os.fsencode(target)
    cdef const char *ap = a
    cdef const char *bp = b
    cdef int status
    with nogil:
        status = vx_io_rename(ap, bp)
    _checked(status, source)


def syncdir(directory):
    """Bring a directory's names to stable storage."""
    cdef bytes p = os.fsencode(directory)
    cdef const char *c = p
    cdef int status
    with nogil:
        status = vx_io_syncdir(c)
    _checked(status, directory)
