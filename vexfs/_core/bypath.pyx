"""The operations by path."""

import stat as _stat

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from vexfs._core.opened cimport Opened, attributes_failed, encoded, failed
from vexfs._core.ops cimport (
    VX_ROOT_INO, VX_SET_ATIME, VX_SET_GID, VX_SET_MODE, VX_SET_MTIME, VX_SET_SIZE, VX_SET_UID,
    fs_getxattr,
    fs_link,
    fs_listxattr,
    fs_lookup,
    fs_mkdir,
    fs_mknod,
    fs_readlink,
    fs_removexattr,
    fs_rename,
    fs_rmdir,
    fs_setattr,
    fs_setxattr,
    fs_symlink,
    fs_unlink, fs_walk, fs_walk_parent, fs_xattrs_full,
    vx_attr, vx_fs,
)

from vexfs.errors import from_errno

cdef uint32_t S_IFMT = 0o170000, S_IFDIR = 0o040000, S_IFLNK = 0o120000
cdef int EBUSY = 16, EEXIST = 17, ENOTDIR = 20, EISDIR = 21, EINVAL = 22, ENOTEMPTY = 39, EOPNOTSUPP = 95
cdef int64_t ENOSPC = -28, ERANGE = -34


@cython.auto_pickle(True)
cdef class Stat:
    """One file's attributes under the names of ``os.stat_result``.

    ``st_dev`` is 0; ``generation`` grows with every change of the content; ``st_birthtime`` is the time of making.
    """

    @property
    def st_mode(self):
        return self.a.mode

    @property
    def st_ino(self):
        return self.a.ino

    st_dev = 0

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


cdef bint is_dots(const char *name, size_t n) noexcept:
    return (n == 1 and name[0] == b".") or (n == 2 and name[0] == b"." and name[1] == b".")


cdef bytes attribute_name(path, name):
    """The name of an extended attribute; one that cannot be is refused before the path is walked, as Linux does."""
    cdef bytes raw = encoded(name)
    if not 0 < len(raw) <= 255:
        raise from_errno(ERANGE, path)
    return raw


cdef Stat made(const vx_attr *a):
    cdef Stat s = Stat.__new__(Stat)
    s.a = a[0]
    return s


cdef class ByPath(Opened):
    """Files by their paths: ``str`` or ``bytes``, from the root; a leading slash may be there or not."""

    cdef int walk(self, path, bint follow, vx_attr *a) except -1:
        cdef bytes p = encoded(path)
        cdef const char *s = p
        cdef size_t n = PyBytes_GET_SIZE(p)
        cdef vx_fs *fs
        cdef int rc
        fs = self.enter()
        with nogil:
            rc = fs_walk(fs, &self.cred, VX_ROOT_INO, s, n, follow, a)
        self.busy -= 1
        if rc:
            raise failed(rc, path)
        return 0

    cdef bint leads(self, int64_t rc, path, bint follow, vx_attr *a) except -1:
        # Whether there is something to be done for `a`, what `path` leads to: at first (UNTRIED), and again when what
        # was found had gone (-ENOENT) before it was done, because another file took its place.
        cdef uint64_t before = 0 if rc == UNTRIED else a.ino
        if rc != UNTRIED and rc != -2:
            return False
        self.walk(path, follow, a)
        return rc == UNTRIED or a.ino != before

    cdef int walk_parent(self, path, bytes p, uint64_t *parent, const char **name, size_t *n, int *is_dir,
                         int root=17) except -1:
        # `root` is the errno for the root itself, which is no entry of a directory; by default EEXIST.
        cdef const char *s = p
        cdef size_t total = PyBytes_GET_SIZE(p)
        cdef vx_fs *fs
        cdef int rc
        fs = self.enter()
        with nogil:
            rc = fs_walk_parent(fs, &self.cred, VX_ROOT_INO, s, total, parent, name, n, is_dir)
        self.busy -= 1
        if rc:
            raise failed(-root if rc == -EEXIST else rc, path)
        return 0

    cdef int new_name(self, path, bytes p, uint64_t *parent, const char **name, size_t *n, source=None) except -1:
        # Of what is no directory: only a directory can have a slash behind it.
        cdef vx_attr a
        cdef int is_dir
        self.walk_parent(path, p, parent, name, n, &is_dir)
        if is_dir:
            self.walk(p.rstrip(b"/"), False, &a)
            raise from_errno(EEXIST, path) if source is None else from_errno(EEXIST, source, path)

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
        cdef vx_fs *fs
        cdef uint64_t parent
        cdef const char *name
        cdef size_t n
        cdef int is_dir, rc
        cdef vx_attr a
        cdef bytes p = encoded(path)
        self.walk_parent(path, p, &parent, &name, &n, &is_dir)
        fs = self.enter()
        with nogil:
            rc = fs_mkdir(fs, &self.cred, parent, name, n, mode & 0o1777, &a)
        self.busy -= 1
        if rc:
            raise failed(rc, path)

    def mknod(self, path, uint32_t mode=0o600, uint64_t device=0):
        """Make a file, FIFO, socket or device node, by the type bits of `mode`."""
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
            rc = fs_mknod(fs, &self.cred, parent, name, n, mode, device, &a)
        self.busy -= 1
        if rc:
            raise failed(rc, path)

    def symlink(self, target, path):
        """Make the symbolic link `path` that holds `target`."""
        cdef vx_fs *fs
        cdef uint64_t parent
        cdef const char *name
        cdef size_t n, tn
        cdef int rc
        cdef vx_attr a
        cdef bytes p = encoded(path), t = encoded(target)
        cdef const char *tp = t
        tn = PyBytes_GET_SIZE(t)
        self.new_name(path, p, &parent, &name, &n)
        fs = self.enter()
        with nogil:
            rc = fs_symlink(fs, &self.cred, parent, name, n, tp, tn, &a)
        self.busy -= 1
        if rc:
            raise failed(rc, target, path)

    def readlink(self, path):
        """What the symbolic link holds, as bytes."""
        cdef vx_fs *fs
        cdef vx_attr a
        cdef char buf[4096]
        cdef int rc = UNTRIED
        while self.leads(rc, path, False, &a):
            fs = self.enter()
            with nogil:
                rc = fs_readlink(fs, a.ino, buf, sizeof(buf))
            self.busy -= 1
        if rc < 0:
            raise failed(rc, path)
        return buf[:rc]

    def link(self, source, path, bint follow_symlinks=False):
        """Give the file `source` the further name `path`."""
        cdef vx_fs *fs
        cdef uint64_t parent
        cdef const char *name
        cdef size_t n
        cdef int rc = UNTRIED
        cdef vx_attr a, out
        cdef bytes p = encoded(path)
        while self.leads(rc, source, follow_symlinks, &a):
            self.new_name(path, p, &parent, &name, &n, source)
            fs = self.enter()
            with nogil:
                rc = fs_link(fs, &self.cred, a.ino, parent, name, n, &out)
            self.busy -= 1
        if rc:
            raise failed(rc, source, path)

    cdef int remove(self, path, bint directory) except -1:
        cdef vx_fs *fs
        cdef uint64_t parent
        cdef const char *name
        cdef size_t n
        cdef int is_dir, rc
        cdef vx_attr a
        cdef bytes p = encoded(path)
        self.walk_parent(path, p, &parent, &name, &n, &is_dir, EBUSY if directory else EISDIR)
        if is_dots(name, n):
            raise from_errno((EINVAL if n == 1 else ENOTEMPTY) if directory else EISDIR, path)
        if is_dir and not directory:
            fs = self.enter()
            with nogil:
                rc = fs_lookup(fs, &self.cred, parent, name, n, &a)
            self.busy -= 1
            raise from_errno(-rc if rc else EISDIR if (a.mode & S_IFMT) == S_IFDIR else ENOTDIR, path)
        fs = self.enter()
        with nogil:
            if directory:
                rc = fs_rmdir(fs, &self.cred, parent, name, n)
            else:
                rc = fs_unlink(fs, &self.cred, parent, name, n)
        self.busy -= 1
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
        cdef vx_fs *fs
        cdef uint64_t p1, p2
        cdef const char *n1
        cdef const char *n2
        cdef size_t l1, l2
        cdef int d1, d2, rc
        cdef bytes a = encoded(source), b = encoded(target)
        cdef vx_attr attr
        if flags > 2:
            raise from_errno(EINVAL, source, target)
        self.walk_parent(source, a, &p1, &n1, &l1, &d1, EBUSY)
        if is_dots(n1, l1):
            raise from_errno(EBUSY, source, target)
        self.walk_parent(target, b, &p2, &n2, &l2, &d2, EEXIST if flags & 1 else EBUSY)
        if is_dots(n2, l2):
            raise from_errno(EEXIST if flags & 1 else EBUSY, source, target)
        if d1 or d2:
            fs = self.enter()
            with nogil:
                rc = fs_lookup(fs, &self.cred, p1, n1, l1, &attr)
            self.busy -= 1
            if rc or (attr.mode & S_IFMT) != S_IFDIR:
                raise failed(rc or -ENOTDIR, source, target)
        fs = self.enter()
        with nogil:
            rc = fs_rename(fs, &self.cred, p1, n1, l1, p2, n2, l2, flags)
        self.busy -= 1
        if rc:
            raise failed(rc, source, target)

    cdef int set(self, path, bint follow, uint32_t fields, vx_attr *a) except -1:
        cdef vx_fs *fs
        cdef int rc
        cdef vx_attr at, out
        at.ino = a.ino
        while True:
            fs = self.enter()
            with nogil:
                rc = fs_setattr(fs, &self.cred, at.ino, fields, a, &out)
            self.busy -= 1
            if path is None or not self.leads(rc, path, follow, &at):
                break
        if rc:
            raise failed(rc, path)
        return 0

    def chmod(self, path, uint32_t mode, bint follow_symlinks=True):
        """Change the permission bits; a symbolic link has none."""
        cdef vx_attr a
        self.walk(path, follow_symlinks, &a)
        if (a.mode & S_IFMT) == S_IFLNK:
            raise from_errno(EOPNOTSUPP, path)
        a.mode = mode
        self.set(path, follow_symlinks, VX_SET_MODE, &a)

    def chown(self, path, int64_t uid, int64_t gid, bint follow_symlinks=True):
        """Change owner and group; -1 leaves one as it is."""
        cdef vx_attr a
        cdef uint32_t fields = (VX_SET_UID if uid >= 0 or gid < 0 else 0) | (VX_SET_GID if gid >= 0 else 0)
        self.walk(path, follow_symlinks, &a)
        # Setting what is there already still clears setuid and setgid, as chown(2) with two times -1 does.
        if uid >= 0:
            a.uid = <uint32_t>uid
        if gid >= 0:
            a.gid = <uint32_t>gid
        self.set(path, follow_symlinks, fields, &a)

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
        if fields:
            self.set(path, follow_symlinks, fields, &a)

    def truncate(self, path, uint64_t size):
        """Set the file's size; new bytes are zeros."""
        cdef vx_attr a
        self.walk(path, True, &a)
        a.size = size
        self.set(path, True, VX_SET_SIZE, &a)

    def truncate_ino(self, uint64_t ino, uint64_t size):
        """As `truncate`, by inode number."""
        cdef vx_attr a
        memset(&a, 0, sizeof(a))
        a.size, a.ino = size, ino
        self.handle()
        self.set(None, True, VX_SET_SIZE, &a)

    # -- extended attributes

    def getxattr(self, path, name, bint follow_symlinks=True):
        """One extended attribute's value."""
        cdef vx_fs *fs
        cdef vx_attr a
        cdef bytes key = attribute_name(path, name), value
        cdef const char *k = key
        cdef size_t kn = PyBytes_GET_SIZE(key)
        cdef int64_t n = UNTRIED
        cdef char *v
        value = PyBytes_FromStringAndSize(NULL, 65536)
        v = PyBytes_AS_STRING(value)
        while self.leads(n, path, follow_symlinks, &a):
            fs = self.enter()
            with nogil:
                n = fs_getxattr(fs, a.ino, k, kn, v, 65536)
            self.busy -= 1
        if n < 0:
            raise failed(n, path)
        return value[:n]

    def setxattr(self, path, name, const unsigned char[::1] value, uint32_t flags=0, bint follow_symlinks=True):
        """Set an extended attribute; flags 1: only make it, 2: only replace it."""
        cdef vx_fs *fs
        cdef vx_attr a
        cdef bytes key = attribute_name(path, name)
        cdef const char *k = key
        cdef size_t kn = PyBytes_GET_SIZE(key), vn = value.shape[0]
        cdef const void *v = &value[0] if vn else NULL
        cdef int rc = UNTRIED, full = 0
        while self.leads(rc, path, follow_symlinks, &a):
            fs = self.enter()
            with nogil:
                rc = fs_setxattr(fs, &self.cred, a.ino, k, kn, v, vn, flags)
                full = rc == ENOSPC and fs_xattrs_full(fs, a.ino, k, kn, vn)
            self.busy -= 1
        if rc:
            raise attributes_failed(rc, path, full)

    def listxattr(self, path, bint follow_symlinks=True):
        """Names of the extended attributes, as bytes."""
        cdef vx_fs *fs
        cdef vx_attr a
        cdef int64_t n
        cdef size_t room
        cdef bytes names
        cdef char *p
        n = UNTRIED
        while n == ERANGE or self.leads(n, path, follow_symlinks, &a):  # it may grow between the two calls
            fs = self.enter()
            with nogil:
                n = fs_listxattr(fs, a.ino, NULL, 0)
            self.busy -= 1
            if n > 0:
                names = PyBytes_FromStringAndSize(NULL, n)
                p = PyBytes_AS_STRING(names)
                room = n
                fs = self.enter()
                with nogil:
                    n = fs_listxattr(fs, a.ino, p, room)
                self.busy -= 1
                if n >= 0:
                    return names[:n - 1].split(b"\0")
        if n < 0:
            raise failed(n, path)
        return []

    def removexattr(self, path, name, bint follow_symlinks=True):
        """Remove an extended attribute."""
        cdef vx_fs *fs
        cdef vx_attr a
        cdef bytes key = attribute_name(path, name)
        cdef const char *k = key
        cdef size_t kn = PyBytes_GET_SIZE(key)
        cdef int rc = UNTRIED
        while self.leads(rc, path, follow_symlinks, &a):
            fs = self.enter()
            with nogil:
                rc = fs_removexattr(fs, &self.cred, a.ino, k, kn)
            self.busy -= 1
        if rc:
            raise failed(rc, path)
