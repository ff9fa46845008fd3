"""Python's way into the filesystem operations: by path and by inode number.

Every method validates, lets go of the GIL, makes one call into the core and checks the status.
"""

import os
import stat as _stat

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_CONTIG, PyBUF_CONTIG_RO, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset
from posix.fcntl cimport O_CREAT, O_EXCL, O_TRUNC, O_WRONLY

from vexfs._core.bridge cimport Bridge
from vexfs._core.frame cimport Frames
from vexfs._core.pool cimport Pool

from vexfs.errors import InvalidArgument, from_errno

cdef int O_DIRECTORY = os.O_DIRECTORY
cdef int O_NOFOLLOW = os.O_NOFOLLOW
cdef uint32_t S_IFMT = 0o170000
cdef uint32_t S_IFDIR = 0o040000
cdef uint32_t S_IFLNK = 0o120000
cdef int ENOTDIR = 20
cdef int ELOOP = 40
cdef int ENOENT = 2
cdef int EISDIR = 21
cdef int ERANGE = -34


cdef object failed(int64_t status, path=None, path2=None):
    return from_errno(<int>-status, path, path2)


cdef bytes encoded(path):
    if type(path) is bytes:
        return path
    if type(path) is str:
        return (<str>path).encode("utf-8", "surrogateescape")
    return os.fsencode(path)


cdef class Stat:
    """One file's attributes under the names of ``os.stat_result``.

    ``st_dev`` is 0; ``generation`` grows with every change of the content; ``st_birthtime`` is the time of making.
    """

    cdef vx_attr a

    @property
    def st_mode(self):
        return self.a.mode

    @property
    def st_ino(self):
        return self.a.ino

    @property
    def st_dev(self):
        return 0

    @property
    def st_nlink(self):
        return self.a.nlink

    @property
    def st_uid(self):
        return self.a.uid

    @property
    def st_gid(self):
        return self.a.gid

    @property
    def st_size(self):
        return self.a.size

    @property
    def st_blocks(self):
        return self.a.blocks

    @property
    def st_blksize(self):
        return 131072

    @property
    def st_rdev(self):
        return self.a.rdev

    @property
    def st_atime_ns(self):
        return self.a.atime_ns

    @property
    def st_mtime_ns(self):
        return self.a.mtime_ns

    @property
    def st_ctime_ns(self):
        return self.a.ctime_ns

    @property
    def st_atime(self):
        return self.a.atime_ns * 1e-9

    @property
    def st_mtime(self):
        return self.a.mtime_ns * 1e-9

    @property
    def st_ctime(self):
        return self.a.ctime_ns * 1e-9

    @property
    def st_birthtime(self):
        return self.a.btime_ns * 1e-9

    @property
    def generation(self):
        return self.a.generation

    def __repr__(self):
        return f"Stat(ino={self.a.ino}, mode={_stat.filemode(self.a.mode)}, size={self.a.size})"


cdef Stat made(const vx_attr *a):
    cdef Stat s = Stat.__new__(Stat)
    s.a = a[0]
    return s


# What a walk under the filesystem's lock found, gathered without Python: records of number, number, size, bytes.
ctypedef struct gathered:
    char *data
    size_t n
    size_t cap
    uint32_t count


cdef int gather(gathered *g, uint64_t a, uint64_t b, uint64_t c, const void *bytes, size_t n) noexcept nogil:
    cdef size_t need = g.n + 32 + n
    cdef uint64_t head[4]
    cdef char *p
    if need > g.cap:
        p = <char *>realloc(g.data, need * 2)
        if p is NULL:
            return -1
        g.data = p
        g.cap = need * 2
    head[0], head[1], head[2], head[3] = a, b, c, n
    memcpy(g.data + g.n, head, 32)
    memcpy(g.data + g.n + 32, bytes, n)
    g.n = need
    g.count += 1
    return 0


cdef int gather_entry(void *ctx, const char *name, size_t n, uint64_t ino, uint32_t type, uint64_t cookie) noexcept nogil:
    cdef gathered *g = <gathered *>ctx
    return gather(g, ino, type, cookie, name, n) or g.count >= 512


cdef int gather_change(void *ctx, uint64_t seq, const void *data, size_t n) noexcept nogil:
    return gather(<gathered *>ctx, seq, 0, 0, data, n)


cdef list records(gathered *g):
    cdef list out = []
    cdef uint64_t *head
    cdef size_t at = 0
    while at < g.n:
        head = <uint64_t *>(g.data + at)
        out.append((g.data[at + 32:at + 32 + head[3]], head[0], head[1], head[2]))
        at += 32 + head[3]
    free(g.data)
    g.data = NULL
    return out


cdef class _Reporter:
    cdef object call
    cdef object error


cdef int report_progress(void *ctx, uint64_t done, uint64_t total) noexcept with gil:
    cdef _Reporter r = <_Reporter>ctx
    try:
        r.call(done, total)
    except BaseException as e:
        r.error = e
        return -4  # EINTR
    return 0


cdef int report_backup(void *ctx, int done, int total) noexcept with gil:
    return report_progress(ctx, done, total)


cdef class Filesystem:
    """An open volume's filesystem.  One per process and volume; thread-safe.

    Parameters
    ----------
    path : str
        The volume's directory; ``segments/`` must exist in it.
    meta_key, data_key : bytes or None
        32 bytes each: the metadata's and the file data's keys.  None: not encrypted.
    create : bool
        Make an empty filesystem in it first.
    cache_size, prefetch_size, dirty_limit, segment_size, size_limit : int
        Bytes: decoded frames kept; read ahead; dirty data before writers wait; where a segment is sealed; the most that
        the volume may hold (0: what the host has).
    io_queue_depth : int
        Frames read, written, encoded at the same time.
    commit_ops, commit_delay_ms : int
        A commit starts after so many changes or so many milliseconds, whichever comes first.
    inode_cache : int
        Inodes kept in memory (dentries: twice as many).
    atime : {"relatime", "noatime", "strictatime"}
    pool, frames, bridge : Pool, Frames, Bridge or None
        Where buffers come from, where stack use is accounted, what carries mutations to the committer.  None: plain
        aligned allocation, no accounting, and each operation wakes the committer itself.  The bridge must run.

    Raises
    ------
    OSError
        A subclass from ``vexfs.errors``; the message names the file and the remedy.
    """

    def __cinit__(self):
        self.fs = NULL

    def __init__(self, path, *, meta_key=None, data_key=None, bint create=False, bint read_only=False,
                 str compression="lz4", uint64_t cache_size=64 << 20, uint64_t prefetch_size=1 << 20,
                 uint32_t io_queue_depth=32, bint direct_io=False, uint64_t dirty_limit=64 << 20,
                 uint32_t commit_ops=10_000, uint32_t commit_delay_ms=1000, uint64_t size_limit=0,
                 uint64_t segment_size=64 << 20, uint64_t inode_cache=65_536, str atime="relatime", owner=None,
                 Pool pool=None, Frames frames=None, Bridge bridge=None):
        cdef vx_fs_options o
        cdef char message[512]
        cdef bytes where = os.fsencode(path), mk = meta_key or b"", dk = data_key or b""
        cdef int rc
        if self.fs is not NULL:
            raise InvalidArgument.at("is open already", path)
        if compression not in ("lz4", "none"):
            raise InvalidArgument.at(f'compression {compression!r} is unknown; "lz4" and "none" are known', path)
        if atime not in ("noatime", "relatime", "strictatime"):
            raise InvalidArgument.at(f"atime {atime!r} is unknown; noatime, relatime, strictatime are known", path)
        if len(mk) not in (0, 32) or len(dk) not in (0, 32):
            raise InvalidArgument.at("keys have 32 bytes", path)
        memset(&o, 0, sizeof(o))
        message[0] = 0
        o.dir = where
        o.meta_key = <const unsigned char *><char *>mk if mk else NULL
        o.data_key = <const unsigned char *><char *>dk if dk else NULL
        o.create = create
        o.read_only = read_only
        o.compression = compression == "lz4"
        o.direct_io = direct_io
        o.io_depth = io_queue_depth
        o.cache_bytes = cache_size
        o.prefetch_bytes = prefetch_size
        o.dirty_limit = dirty_limit
        o.segment_bytes = segment_size
        o.size_limit = size_limit
        o.inode_cache = inode_cache
        o.commit_ops = commit_ops
        o.commit_delay_ms = commit_delay_ms
        o.atime = {"noatime": 0, "relatime": 1, "strictatime": 2}[atime]
        o.root_uid, o.root_gid = owner or (os.geteuid(), os.getegid())
        o.pool = pool.ptr if pool is not None else NULL
        o.frames = frames.ptr if frames is not None else NULL
        o.bridge = bridge.handle() if bridge is not None else NULL
        memset(&self.cred, 0, sizeof(self.cred))
        self.cred.uid = os.geteuid()
        self.cred.gid = os.getegid()
        with nogil:
            rc = fs_open_volume(&self.fs, &o, message, sizeof(message))
        if rc:
            self.fs = NULL
            raise from_errno(-rc, path, message=message.decode("utf-8", "replace"))
        self.path = os.fspath(path)
        self.keep = (pool, frames, bridge)

    cdef vx_fs *handle(self) except NULL:
        if self.fs is NULL:
            raise ValueError("the volume is closed")
        return self.fs

    def close(self):
        """Write everything out, sync, close.  Raises the error of that; the volume is closed all the same."""
        cdef vx_fs *fs = self.fs
        cdef int rc
        if fs is NULL:
            return
        self.fs = NULL
        with nogil:
            rc = fs_close_volume(fs)
        if rc:
            raise failed(rc, self.path)

    def __dealloc__(self):
        if self.fs is not NULL:
            fs_close_volume(self.fs)

    @property
    def closed(self):
        """Whether `close` was called."""
        return self.fs is NULL

    # -- paths

    cdef int walk(self, path, bint follow, vx_attr *a) except -1:
        cdef bytes p = encoded(path)
        cdef const char *s = p
        cdef size_t n = PyBytes_GET_SIZE(p)
        cdef vx_fs *fs = self.handle()
        cdef int rc
        with nogil:
            rc = fs_walk(fs, &self.cred, VX_ROOT_INO, s, n, follow, a)
        if rc:
            raise failed(rc, path)
        return 0

    cdef int walk_parent(self, path, bytes p, uint64_t *parent, const char **name, size_t *n, int *is_dir) except -1:
        cdef const char *s = p
        cdef size_t total = PyBytes_GET_SIZE(p)
        cdef vx_fs *fs = self.handle()
        cdef int rc
        with nogil:
            rc = fs_walk_parent(fs, &self.cred, VX_ROOT_INO, s, total, parent, name, n, is_dir)
        if rc:
            raise failed(rc, path)
        return 0

    def stat(self, path, bint follow_symlinks=True):
        """Attributes of what `path` leads to."""
        cdef vx_attr a
        self.walk(path, follow_symlinks, &a)
        return made(&a)

    def resolve(self, path, bint follow_symlinks=True):
        """Inode number of what `path` leads to."""
        cdef vx_attr a
        self.walk(path, follow_symlinks, &a)
        return a.ino

    def mkdir(self, path, uint32_t mode=0o777):
        """Make a directory; the process's umask is not applied."""
        cdef uint64_t parent
        cdef const char *name
        cdef size_t n
        cdef int is_dir, rc
        cdef vx_attr a
        cdef bytes p = encoded(path)
        self.walk_parent(path, p, &parent, &name, &n, &is_dir)
        with nogil:
            rc = fs_mkdir(self.fs, &self.cred, parent, name, n, mode, &a)
        if rc:
            raise failed(rc, path)

    def mknod(self, path, uint32_t mode=0o600, uint64_t device=0):
        """Make a file, FIFO, socket or device node, by the type bits of `mode`."""
        cdef uint64_t parent
        cdef const char *name
        cdef size_t n
        cdef int is_dir, rc
        cdef vx_attr a
        cdef bytes p = encoded(path)
        self.walk_parent(path, p, &parent, &name, &n, &is_dir)
        if is_dir:
            raise from_errno(ENOENT, path)
        with nogil:
            rc = fs_mknod(self.fs, &self.cred, parent, name, n, mode, device, &a)
        if rc:
            raise failed(rc, path)

    def symlink(self, target, path):
        """Make the symbolic link `path` that holds `target`."""
        cdef uint64_t parent
        cdef const char *name
        cdef size_t n, tn
        cdef int is_dir, rc
        cdef vx_attr a
        cdef bytes p = encoded(path), t = encoded(target)
        cdef const char *tp = t
        tn = PyBytes_GET_SIZE(t)
        self.walk_parent(path, p, &parent, &name, &n, &is_dir)
        if is_dir:
            raise from_errno(ENOENT, path)
        with nogil:
            rc = fs_symlink(self.fs, &self.cred, parent, name, n, tp, tn, &a)
        if rc:
            raise failed(rc, target, path)

    def readlink(self, path):
        """What the symbolic link holds, as bytes."""
        cdef vx_attr a
        cdef char buf[4096]
        cdef int rc
        self.walk(path, False, &a)
        with nogil:
            rc = fs_readlink(self.fs, a.ino, buf, sizeof(buf))
        if rc < 0:
            raise failed(rc, path)
        return buf[:rc]

    def link(self, source, path, bint follow_symlinks=False):
        """Give the file `source` the further name `path`."""
        cdef uint64_t parent
        cdef const char *name
        cdef size_t n
        cdef int is_dir, rc
        cdef vx_attr a
        cdef bytes p = encoded(path)
        self.walk(source, follow_symlinks, &a)
        self.walk_parent(path, p, &parent, &name, &n, &is_dir)
        if is_dir:
            raise from_errno(ENOENT, source, path)
        with nogil:
            rc = fs_link(self.fs, &self.cred, a.ino, parent, name, n, &a)
        if rc:
            raise failed(rc, source, path)

    cdef int remove(self, path, bint directory) except -1:
        cdef uint64_t parent
        cdef const char *name
        cdef size_t n
        cdef int is_dir, rc
        cdef bytes p = encoded(path)
        self.walk_parent(path, p, &parent, &name, &n, &is_dir)
        if is_dir and not directory:
            raise from_errno(ENOTDIR, path)
        with nogil:
            if directory:
                rc = fs_rmdir(self.fs, &self.cred, parent, name, n)
            else:
                rc = fs_unlink(self.fs, &self.cred, parent, name, n)
        if rc:
            raise failed(rc, path)
        return 0

    def unlink(self, path):
        """Take the name away; the file goes with its last name, once nobody has it open."""
        self.remove(path, False)

    def rmdir(self, path):
        """Remove an empty directory."""
        self.remove(path, True)

    def rename(self, source, target, uint32_t flags=0):
        """Rename as rename(2); flags 1: never replace, 2: exchange."""
        cdef uint64_t p1, p2
        cdef const char *n1
        cdef const char *n2
        cdef size_t l1, l2
        cdef int d1, d2, rc
        cdef bytes a = encoded(source), b = encoded(target)
        cdef vx_attr attr
        self.walk_parent(source, a, &p1, &n1, &l1, &d1)
        self.walk_parent(target, b, &p2, &n2, &l2, &d2)
        if d1 or d2:
            with nogil:
                rc = fs_lookup(self.fs, &self.cred, p1, n1, l1, &attr)
            if rc or (attr.mode & S_IFMT) != S_IFDIR:
                raise failed(rc or -ENOTDIR, source, target)
        with nogil:
            rc = fs_rename(self.fs, &self.cred, p1, n1, l1, p2, n2, l2, flags)
        if rc:
            raise failed(rc, source, target)

    cdef int set(self, path, uint64_t ino, uint32_t fields, vx_attr *a) except -1:
        cdef int rc
        cdef vx_attr out
        with nogil:
            rc = fs_setattr(self.fs, &self.cred, ino, fields, a, &out)
        if rc:
            raise failed(rc, path)
        return 0

    def chmod(self, path, uint32_t mode, bint follow_symlinks=True):
        """Change the permission bits."""
        cdef vx_attr a
        self.walk(path, follow_symlinks, &a)
        a.mode = mode
        self.set(path, a.ino, VX_SET_MODE, &a)

    def chown(self, path, int64_t uid, int64_t gid, bint follow_symlinks=True):
        """Change owner and group; -1 leaves one as it is."""
        cdef vx_attr a
        self.walk(path, follow_symlinks, &a)
        a.uid = <uint32_t>uid
        a.gid = <uint32_t>gid
        self.set(path, a.ino, (VX_SET_UID if uid >= 0 else 0) | (VX_SET_GID if gid >= 0 else 0), &a)

    def utimens(self, path, atime_ns, mtime_ns, bint follow_symlinks=True):
        """Set the times, in nanoseconds since 1970; None leaves one as it is."""
        cdef vx_attr a
        cdef uint32_t fields = 0
        self.walk(path, follow_symlinks, &a)
        if atime_ns is not None:
            a.atime_ns = atime_ns
            fields |= VX_SET_ATIME
        if mtime_ns is not None:
            a.mtime_ns = mtime_ns
            fields |= VX_SET_MTIME
        self.set(path, a.ino, fields, &a)

    def truncate(self, path, uint64_t size):
        """Set the file's size; new bytes are zeros."""
        cdef vx_attr a
        self.walk(path, True, &a)
        a.size = size
        self.set(path, a.ino, VX_SET_SIZE, &a)

    def truncate_ino(self, uint64_t ino, uint64_t size):
        """As `truncate`, by inode number."""
        cdef vx_attr a
        memset(&a, 0, sizeof(a))
        a.size = size
        self.handle()
        self.set(None, ino, VX_SET_SIZE, &a)

    # -- extended attributes

    def getxattr(self, path, name, bint follow_symlinks=True):
        """One extended attribute's value."""
        cdef vx_attr a
        cdef bytes key = encoded(name), value
        cdef const char *k = key
        cdef size_t kn = PyBytes_GET_SIZE(key)
        cdef int64_t n
        cdef char *v
        self.walk(path, follow_symlinks, &a)
        value = PyBytes_FromStringAndSize(NULL, 65536)
        v = PyBytes_AS_STRING(value)
        with nogil:
            n = fs_getxattr(self.fs, a.ino, k, kn, v, 65536)
        if n < 0:
            raise failed(n, path)
        return value[:n]

    def setxattr(self, path, name, const unsigned char[::1] value, uint32_t flags=0, bint follow_symlinks=True):
        """Set an extended attribute; flags 1: only make it, 2: only replace it."""
        cdef vx_attr a
        cdef bytes key = encoded(name)
        cdef const char *k = key
        cdef size_t kn = PyBytes_GET_SIZE(key), vn = value.shape[0]
        cdef const void *v = &value[0] if vn else NULL
        cdef int rc
        self.walk(path, follow_symlinks, &a)
        with nogil:
            rc = fs_setxattr(self.fs, &self.cred, a.ino, k, kn, v, vn, flags)
        if rc:
            raise failed(rc, path)

    def listxattr(self, path, bint follow_symlinks=True):
        """Names of the extended attributes, as bytes."""
        cdef vx_attr a
        cdef int64_t n
        cdef size_t room
        cdef bytes names
        cdef char *p
        self.walk(path, follow_symlinks, &a)
        n = ERANGE
        while n == ERANGE:  # it may grow between the two calls
            with nogil:
                n = fs_listxattr(self.fs, a.ino, NULL, 0)
            if n > 0:
                names = PyBytes_FromStringAndSize(NULL, n)
                p = PyBytes_AS_STRING(names)
                room = n
                with nogil:
                    n = fs_listxattr(self.fs, a.ino, p, room)
                if n >= 0:
                    return names[:n].split(b"\0")[:-1]
        if n < 0:
            raise failed(n, path)
        return []

    def removexattr(self, path, name, bint follow_symlinks=True):
        """Remove an extended attribute."""
        cdef vx_attr a
        cdef bytes key = encoded(name)
        cdef const char *k = key
        cdef size_t kn = PyBytes_GET_SIZE(key)
        cdef int rc
        self.walk(path, follow_symlinks, &a)
        with nogil:
            rc = fs_removexattr(self.fs, &self.cred, a.ino, k, kn)
        if rc:
            raise failed(rc, path)

    # -- directories

    def scandir(self, path):
        """Yield ``(name, inode number, file type bits)`` of each entry; memory for one page of entries."""
        cdef vx_attr a
        self.walk(path, True, &a)
        if (a.mode & S_IFMT) != S_IFDIR:
            raise from_errno(ENOTDIR, path)
        return self._entries(a.ino)

    def _entries(self, uint64_t ino):
        cdef uint64_t cookie = 2
        page = self.page(ino, cookie)
        while page:
            for name, child, kind, cookie in page:
                yield name, child, kind
            page = self.page(ino, cookie)

    cdef list page(self, uint64_t ino, uint64_t cookie):
        cdef vx_fs *fs = self.handle()
        cdef gathered g
        cdef int rc
        memset(&g, 0, sizeof(g))
        with nogil:
            rc = fs_readdir(fs, ino, cookie, 0, gather_entry, &g)
        found = records(&g)
        if rc < 0:
            raise failed(rc)
        return found

    # -- open files, by inode number

    def open(self, path, uint32_t flags, uint32_t mode=0o666):
        """As ``os.open``: answers an inode number with an open count on it, to be given to `release`."""
        cdef uint64_t parent
        cdef const char *name
        cdef size_t n
        cdef int is_dir, rc
        cdef vx_attr a
        cdef bytes p
        if flags & <uint32_t>O_CREAT:
            p = encoded(path)
            self.walk_parent(path, p, &parent, &name, &n, &is_dir)
            if is_dir:
                raise from_errno(EISDIR, path)
            with nogil:
                rc = fs_create(self.fs, &self.cred, parent, name, n, mode, flags, &a)
            if rc == 0:
                return a.ino
            if rc != -ELOOP or flags & <uint32_t>(O_EXCL | O_NOFOLLOW):
                raise failed(rc, path)
            try:
                self.walk(path, True, &a)
            except FileNotFoundError:
                # A dangling symlink: the file is made where it leads.  A loop ended in ELOOP above.
                target = self.readlink(p)
                above = b"" if target.startswith(b"/") else p.rpartition(b"/")[0] + b"/" if b"/" in p else b""
                return self.open(above + target, flags, mode)
        self.walk(path, not flags & <uint32_t>O_NOFOLLOW, &a)
        if (a.mode & S_IFMT) == S_IFLNK:
            raise from_errno(ELOOP, path)
        if flags & <uint32_t>O_DIRECTORY and (a.mode & S_IFMT) != S_IFDIR:
            raise from_errno(ENOTDIR, path)
        with nogil:
            rc = fs_open(self.fs, &self.cred, a.ino, flags)
        if rc:
            raise failed(rc, path)
        return a.ino

    def release(self, uint64_t ino):
        """Take an open count away."""
        if self.fs is not NULL:
            with nogil:
                fs_release(self.fs, ino)

    def read(self, uint64_t ino, size_t size, uint64_t offset):
        """At most `size` bytes from `offset` on; fewer only at the end of the file."""
        cdef vx_fs *fs = self.handle()
        cdef vx_attr a
        cdef int64_t n
        cdef bytes out
        cdef char *p
        if size > 1 << 16:  # a huge size must not make a huge buffer for a small file
            n = fs_getattr(fs, ino, &a)
            if n:
                raise failed(n)
            size = min(size, a.size - offset if offset < a.size else 0)
        out = PyBytes_FromStringAndSize(NULL, size)
        p = PyBytes_AS_STRING(out)
        with nogil:
            n = fs_read(fs, ino, offset, p, size)
        if n < 0:
            raise failed(n)
        return out if <size_t>n == size else out[:n]

    def readinto(self, uint64_t ino, buffer, uint64_t offset):
        """Fill `buffer` from `offset` on; the number of bytes."""
        cdef vx_fs *fs = self.handle()
        cdef Py_buffer view
        cdef int64_t n
        PyObject_GetBuffer(buffer, &view, PyBUF_CONTIG)
        try:
            with nogil:
                n = fs_read(fs, ino, offset, view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        if n < 0:
            raise failed(n)
        return n

    def write(self, uint64_t ino, data, int64_t offset):
        """Write all of `data` at `offset` (-1: at the end, atomically); the number of bytes."""
        cdef vx_fs *fs = self.handle()
        cdef Py_buffer view
        cdef int64_t n
        cdef uint32_t flags = VX_WRITE_APPEND if offset < 0 else 0
        PyObject_GetBuffer(data, &view, PyBUF_CONTIG_RO)
        try:
            with nogil:
                n = fs_write(fs, &self.cred, ino, 0 if flags else offset, view.buf, view.len, flags)
        finally:
            PyBuffer_Release(&view)
        if n < 0:
            raise failed(n)
        return n

    def read_file(self, path):
        """The whole content of the file."""
        cdef uint64_t ino = self.open(path, 0)
        try:
            return self.read(ino, <size_t>-1, 0)
        finally:
            self.release(ino)

    def write_file(self, path, data, uint32_t mode=0o666):
        """Make or replace the content in place; the number of bytes."""
        cdef uint64_t ino = self.open(path, O_CREAT | O_TRUNC | O_WRONLY, mode)
        try:
            return self.write(ino, data, 0)
        finally:
            self.release(ino)

    def getattr(self, uint64_t ino):
        """Attributes by inode number."""
        cdef vx_fs *fs = self.handle()
        cdef vx_attr a
        cdef int rc
        with nogil:
            rc = fs_getattr(fs, ino, &a)
        if rc:
            raise failed(rc)
        return made(&a)

    def lookup(self, uint64_t parent, bytes name):
        """Attributes of an entry of a directory."""
        cdef vx_fs *fs = self.handle()
        cdef vx_attr a
        cdef const char *p = name
        cdef size_t n = PyBytes_GET_SIZE(name)
        cdef int rc
        with nogil:
            rc = fs_lookup(fs, &self.cred, parent, p, n, &a)
        if rc:
            raise failed(rc, name)
        return made(&a)

    def fsync(self, uint64_t ino=0, bint datasync=False):
        """Wait until the file (0: everything) is on stable storage."""
        cdef vx_fs *fs = self.handle()
        cdef int rc
        with nogil:
            rc = fs_fsync(fs, ino, datasync)
        if rc:
            raise failed(rc, self.path)

    def path_of(self, uint64_t ino):
        """A path that leads to the inode, from the root, with a leading slash."""
        cdef char buf[4096]
        cdef vx_fs *fs = self.handle()
        cdef int n
        with nogil:
            n = fs_path_of(fs, ino, buf, sizeof(buf))
        if n < 0:
            raise failed(n)
        return buf[:n]

    # -- the volume

    def sync(self):
        """Wait until everything is on stable storage."""
        self.fsync(0)

    def statvfs(self):
        """Blocks of 4096 bytes (total, free, available), then inodes (used and free together, free)."""
        cdef vx_statfs s
        cdef vx_fs *fs = self.handle()
        cdef int rc
        with nogil:
            rc = fs_statfs(fs, &s)
        if rc:
            raise failed(rc, self.path)
        return s.blocks, s.bfree, s.bavail, s.files, s.ffree

    def drop_caches(self):
        """Forget every clean inode, dentry, extent map and decoded frame."""
        cdef vx_fs *fs = self.handle()
        with nogil:
            fs_drop_caches(fs)

    def status(self):
        """Counters and sizes of the running filesystem; bytes unless the name says otherwise."""
        cdef vx_fs_status s
        cdef vx_fs *fs = self.handle()
        with nogil:
            fs_read_status(fs, &s)
        out = {"files": s.files, "used_bytes": s.used_bytes, "limit_bytes": s.limit_bytes,
               "live_bytes": s.live_bytes, "dead_bytes": s.dead_bytes, "free_bytes": s.free_bytes,
               "disk_bytes": s.disk_bytes, "segments": s.segments, "dirty_bytes": s.dirty_bytes,
               "frozen_bytes": s.frozen_bytes, "dirty_operations": s.dirty_ops, "epoch": s.epoch,
               "committed_epoch": s.committed, "durable_epoch": s.durable, "commits": s.commits, "syncs": s.syncs,
               "commit_errors": s.commit_errors, "reclaimed_bytes": s.reclaimed_bytes,
               "reclaimed_segments": s.reclaimed_segments, "throttled": s.throttled,
               "inodes_cached": s.inodes_cached, "dentries_cached": s.dentries_cached,
               "regions_cached": s.regions_cached, "inode_hits": s.inode_hits, "inode_misses": s.inode_misses,
               "dentry_hits": s.dentry_hits, "dentry_misses": s.dentry_misses,
               "last_error": s.last_error_text.decode("utf-8", "replace") if s.last_error else None}
        out["operations"] = {vx_op_names[k].decode(): s.ops[k] for k in range(VX_OP_COUNT)}
        return out

    def compact(self, progress=None, unsigned dead_share=0):
        """Copy out the live bytes of segments with more than `dead_share` percent dead ones, and free these.

        `progress(done, total)` is called after each segment; what it raises ends the work.
        """
        cdef _Reporter r = _Reporter()
        cdef vx_fs *fs = self.handle()
        cdef void *ctx = <void *>r
        cdef int rc
        before = self.status()
        r.call = progress or (lambda done, total: None)
        with nogil:
            rc = fs_compact(fs, dead_share, report_progress, ctx)
        if r.error is not None:
            raise r.error
        if rc:
            raise failed(rc, self.path)
        after = self.status()
        return {"disk_bytes_before": before["disk_bytes"], "disk_bytes_after": after["disk_bytes"],
                "segments_freed": after["reclaimed_segments"] - before["reclaimed_segments"]}

    def backup_meta(self, target, progress=None):
        """Copy the metadata, as of now, to the new file `target`; between `hold` and `unhold`."""
        cdef _Reporter r = _Reporter()
        cdef vx_fs *fs = self.handle()
        cdef bytes where = os.fsencode(target)
        cdef const char *p = where
        cdef void *ctx = <void *>r
        cdef int rc
        r.call = progress or (lambda done, total: None)
        with nogil:
            rc = fs_backup_meta(fs, p, report_backup, ctx)
        if r.error is not None:
            raise r.error
        if rc:
            raise failed(rc, target)

    def hold(self):
        """Sync, and keep every segment until `unhold`: what the metadata names now can be copied."""
        cdef vx_fs *fs = self.handle()
        cdef int rc
        with nogil:
            rc = fs_hold(fs)
        if rc:
            raise failed(rc, self.path)

    def unhold(self):
        """Let reclaim go on."""
        cdef vx_fs *fs = self.handle()
        with nogil:
            fs_unhold(fs)

    def changes(self, uint64_t since=0, uint32_t limit=1000):
        """Oplog entries behind epoch `since`: ``(epoch, packed operations)``; ``docs/format.md`` gives the bytes."""
        cdef vx_fs *fs = self.handle()
        cdef gathered g
        cdef int rc
        memset(&g, 0, sizeof(g))
        with nogil:
            rc = fs_changes(fs, since, limit, gather_change, &g)
        found = records(&g)
        if rc < 0:
            raise failed(rc, self.path)
        return [(seq, data) for data, seq, _, _ in found]
