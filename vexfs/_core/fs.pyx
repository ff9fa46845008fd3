"""Python's way into the filesystem operations: by path (inherited) and by inode number.

Every method validates, lets go of the GIL, makes one call into the core and checks the status.
"""

import os

from cpython.buffer cimport PyBUF_CONTIG, PyBUF_CONTIG_RO, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.fcntl cimport O_CREAT, O_EXCL, O_RDWR, O_WRONLY

from vexfs._core.bypath cimport UNTRIED, ByPath, made
from vexfs._core.opened cimport encoded, failed, gather_entry, gathered, records
from vexfs._core.ops cimport (
    VX_WRITE_APPEND,
    fs_create,
    fs_data,
    fs_fallocate,
    fs_fsync,
    fs_getattr,
    fs_link,
    fs_lookup,
    fs_open,
    fs_path_of,
    fs_read,
    fs_readdir,
    fs_release,
    fs_room,
    fs_tmpfile,
    fs_write,
    vx_attr,
    vx_fs,
)

from vexfs._core.bypath import Stat
from vexfs.errors import from_errno

__all__ = ["Filesystem", "Stat"]

cdef int O_DIRECTORY = os.O_DIRECTORY
cdef int O_NOFOLLOW = os.O_NOFOLLOW
cdef int O_TMPFILE = os.O_TMPFILE
cdef uint32_t S_IFMT = 0o170000
cdef uint32_t S_IFDIR = 0o040000
cdef uint32_t S_IFLNK = 0o120000
cdef int ENOENT = 2
cdef int EEXIST = 17
cdef int ENOTDIR = 20
cdef int EISDIR = 21
cdef int EINVAL = 22
cdef int ENAMETOOLONG = 36
cdef int ELOOP = 40


cdef class Filesystem(ByPath):
    """An open volume's filesystem.  `Opened` has the options; one per process and volume; thread-safe."""

    # -- directories

    def scandir(self, path):
        """Yield ``(name, inode number, file type bits)`` of each entry; memory for one page of entries.

        `path` may be a directory's inode number.
        """
        cdef vx_attr a
        if isinstance(path, int):
            return self._entries(path)
        self.walk(path, True, &a)
        if (a.mode & S_IFMT) != S_IFDIR:
            raise from_errno(ENOTDIR, path)
        return self._entries(a.ino)

    def _entries(self, uint64_t ino):
        cdef uint64_t cookie = 2
        page = self.page(ino, cookie)
        while page:
            for name, child, kind, after in page:
                cookie = after
                yield name, child, kind
            page = self.page(ino, cookie)

    cdef list page(self, uint64_t ino, uint64_t cookie):
        cdef vx_fs *fs
        cdef gathered g
        cdef int rc
        memset(&g, 0, sizeof(g))
        fs = self.enter()
        with nogil:
            rc = fs_readdir(fs, ino, cookie, 0, gather_entry, &g)
        self.busy -= 1
        found = records(&g)
        if rc < 0:
            raise failed(rc)
        return found

    # -- open files, by inode number

    def open(self, path, uint32_t flags, uint32_t mode=0o666):
        """As ``os.open``: answers an inode number with an open count on it, to be given to `release`."""
        cdef vx_fs *fs
        cdef uint64_t parent
        cdef const char *name
        cdef size_t n
        cdef int is_dir, rc
        cdef vx_attr a
        cdef bytes p
        cdef bint nameless = flags & <uint32_t>O_TMPFILE == <uint32_t>O_TMPFILE
        if nameless and (flags & <uint32_t>O_CREAT or not flags & <uint32_t>(O_WRONLY | O_RDWR)):
            raise from_errno(EINVAL, path)
        if flags & <uint32_t>O_CREAT:
            p = encoded(path)
            self.walk_parent(path, p, &parent, &name, &n, &is_dir, EEXIST if flags & <uint32_t>O_EXCL else EISDIR)
            if is_dir:
                raise from_errno(EISDIR, path)
            fs = self.enter()
            with nogil:
                rc = fs_create(fs, &self.cred, parent, name, n, mode, flags, &a)
            self.busy -= 1
            if rc == 0:
                return a.ino
            if rc != -ELOOP or flags & <uint32_t>(O_EXCL | O_NOFOLLOW):
                raise failed(rc, path)
            # A symlink: the file is opened, or made, where it leads, with its last slash.  A loop ends in ELOOP here.
            try:
                target = self.readlink(p)
            except OSError as error:
                if error.errno not in (ENOENT, EINVAL):
                    raise
                return self.open(path, flags, mode)  # it has just been removed or replaced
            try:
                self.walk(path, True, &a)
            except FileNotFoundError:
                if b".vexfs" in target.split(b"/"):
                    raise  # the volume's own: nothing is made there
            except NotADirectoryError:
                pass
            above = b"" if target.startswith(b"/") else p.rpartition(b"/")[0] + b"/" if b"/" in p else b""
            return self.open(above + target, flags, mode)
        rc = UNTRIED
        while self.leads(rc, path, not flags & <uint32_t>O_NOFOLLOW, &a):
            if (a.mode & S_IFMT) == S_IFLNK:
                raise from_errno(ELOOP, path)
            if flags & <uint32_t>O_DIRECTORY and (a.mode & S_IFMT) != S_IFDIR:
                raise from_errno(ENOTDIR, path)
            fs = self.enter()
            with nogil:
                if nameless:
                    rc = fs_tmpfile(fs, &self.cred, a.ino, mode, flags, &a)
                else:
                    rc = fs_open(fs, &self.cred, a.ino, flags)
            self.busy -= 1
        if rc:
            raise failed(rc, path)
        return a.ino

    def release(self, uint64_t ino):
        """Take an open count away."""
        cdef vx_fs *fs
        if self.fs is not NULL:
            fs = self.enter()
            with nogil:
                fs_release(fs, ino)
            self.busy -= 1

    def read(self, uint64_t ino, size_t size, uint64_t offset):
        """At most `size` bytes from `offset` on; fewer only at the end of the file."""
        cdef vx_fs *fs
        cdef vx_attr a
        cdef int64_t n
        cdef bytes out
        cdef char *p
        if size > 1 << 16:  # a huge size must not make a huge buffer for a small file
            fs = self.enter()
            with nogil:
                n = fs_getattr(fs, ino, &a)
            self.busy -= 1
            if n:
                raise failed(n)
            size = min(size, a.size - offset if offset < a.size else 0)
        out = PyBytes_FromStringAndSize(NULL, size)
        p = PyBytes_AS_STRING(out)
        fs = self.enter()
        with nogil:
            n = fs_read(fs, ino, offset, p, size)
        self.busy -= 1
        if n < 0:
            raise failed(n)
        return out if <size_t>n == size else out[:n]

    def data(self, uint64_t ino, uint64_t offset):
        """Where data is at or behind `offset`: begin and end of a stretch of at most a MiB, or None."""
        cdef uint64_t begin = 0, end = 0
        cdef int rc
        cdef vx_fs *fs = self.enter()
        with nogil:
            rc = fs_data(fs, ino, offset, &begin, &end)
        self.busy -= 1
        if rc:
            raise failed(rc)
        return (begin, end) if begin < end else None

    def readinto(self, uint64_t ino, buffer, uint64_t offset):
        """Fill `buffer` from `offset` on; the number of bytes."""
        cdef vx_fs *fs
        cdef Py_buffer view
        cdef int64_t n
        PyObject_GetBuffer(buffer, &view, PyBUF_CONTIG)
        try:
            fs = self.enter()
            with nogil:
                n = fs_read(fs, ino, offset, view.buf, view.len)
            self.busy -= 1
        finally:
            PyBuffer_Release(&view)
        if n < 0:
            raise failed(n)
        return n

    def write(self, uint64_t ino, data, int64_t offset):
        """Write all of `data` at `offset` (-1: at the end, atomically); the number of bytes.

        After an error 4 MiB and more may be there in part.
        """
        cdef vx_fs *fs
        cdef Py_buffer view
        cdef int64_t n = 0, done = 0
        cdef uint32_t flags = VX_WRITE_APPEND if offset < 0 else 0
        PyObject_GetBuffer(data, &view, PyBUF_CONTIG_RO)
        try:
            fs = self.enter()
            with nogil:
                while True:  # a count that is too small: the next call says why
                    n = fs_write(fs, &self.cred, ino, 0 if flags else offset + done, <const char *>view.buf + done,
                                 view.len - done, flags)
                    if n <= 0 or done + n == view.len:
                        break
                    done += n
            self.busy -= 1
        finally:
            PyBuffer_Release(&view)
        if n < 0:
            raise failed(n)
        return done + n

    def read_file(self, path):
        """The whole content of the file."""
        cdef uint64_t ino = self.open(path, 0)
        try:
            return self.read(ino, <size_t>-1, 0)
        except OSError as error:
            error.filename = path if error.filename is None else error.filename
            raise
        finally:
            self.release(ino)

    def write_file(self, path, data, uint32_t mode=0o666):
        """Make or replace the content in place; the number of bytes.  Without room for it the old one stays."""
        cdef uint64_t ino = self.open(path, O_CREAT | O_WRONLY, mode)
        cdef uint64_t n
        cdef vx_fs *fs
        cdef int rc
        try:
            n = memoryview(data).nbytes
            fs = self.enter()
            with nogil:
                rc = fs_room(fs, ino, n)
            self.busy -= 1
            if rc < 0:
                raise failed(rc)
            if rc or not n:
                self.truncate_ino(ino, 0)
            return self.write(ino, data, 0)
        except OSError as error:
            error.filename = path if error.filename is None else error.filename
            raise
        finally:
            self.release(ino)

    def getattr(self, uint64_t ino):
        """Attributes by inode number."""
        cdef vx_fs *fs
        cdef vx_attr a
        cdef int rc
        fs = self.enter()
        with nogil:
            rc = fs_getattr(fs, ino, &a)
        self.busy -= 1
        if rc:
            raise failed(rc)
        return made(&a)

    def lookup(self, uint64_t parent, bytes name):
        """Attributes of an entry of a directory."""
        cdef vx_fs *fs
        cdef vx_attr a
        cdef const char *p = name
        cdef size_t n = PyBytes_GET_SIZE(name)
        cdef int rc
        fs = self.enter()
        with nogil:
            rc = fs_lookup(fs, &self.cred, parent, p, n, &a)
        self.busy -= 1
        if rc:
            raise failed(rc, name)
        return made(&a)

    def link_ino(self, uint64_t ino, path):
        """Give an open file the further name `path`; its first, if it was made by ``open(directory, O_TMPFILE)``."""
        cdef vx_fs *fs
        cdef uint64_t parent
        cdef const char *name
        cdef size_t n
        cdef int rc
        cdef vx_attr a
        cdef bytes p = encoded(path)
        self.new_name(path, p, &parent, &name, &n)
        fs = self.enter()
        with nogil:
            rc = fs_link(fs, &self.cred, ino, parent, name, n, &a)
        self.busy -= 1
        if rc:
            raise failed(rc, path)

    def fallocate(self, uint64_t ino, uint32_t mode, uint64_t offset, uint64_t length):
        """As ``fallocate(2)``: look for room, and set the size; or zeros, whose whole pages are given back."""
        cdef vx_fs *fs
        cdef int rc
        fs = self.enter()
        with nogil:
            rc = fs_fallocate(fs, &self.cred, ino, mode, offset, length)
        self.busy -= 1
        if rc:
            raise failed(rc)

    def fsync(self, uint64_t ino=0, bint datasync=False):
        """Wait until the file (0: everything) is on stable storage."""
        cdef vx_fs *fs
        cdef int rc
        fs = self.enter()
        with nogil:
            rc = fs_fsync(fs, ino, datasync)
        self.busy -= 1
        if rc:
            raise failed(rc, self.path)

    def path_of(self, uint64_t ino):
        """A path that leads to the inode, from the root, with a leading slash."""
        cdef char buf[4096]
        cdef bytes path
        cdef char *longer = buf
        cdef size_t cap = sizeof(buf)
        cdef vx_fs *fs
        cdef int n
        while True:
            fs = self.enter()
            with nogil:
                n = fs_path_of(fs, ino, longer, cap)
            self.busy -= 1
            if n != -ENAMETOOLONG or cap > 1 << 30:
                break
            cap *= 4
            path = PyBytes_FromStringAndSize(NULL, cap)
            longer = PyBytes_AS_STRING(path)
        if n < 0:
            raise failed(n)
        return longer[:n]
