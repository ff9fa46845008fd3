"""The handlers that llfuse calls, and nothing else: llfuse's types in, :class:`Adapter` asked, llfuse's types out.

An exception that is not a ``FUSEError`` would end llfuse's main loop and with it the mount, so each handler turns
whatever happens into one.  The number of an open file is its inode number.
"""

from llfuse import EntryAttributes, FUSEError, StatvfsData

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport ENODATA, ENOENT, ENOSYS
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from vexfs._core.fs cimport (
    VX_SET_ATIME, VX_SET_GID, VX_SET_MODE, VX_SET_MTIME, VX_SET_SIZE, VX_SET_UID, vx_attr, vx_cred, vx_statfs,
)
from vexfs.frontends.fuse.adapter cimport LINK_MAX, VX_FIRST_VIRTUAL, XATTR_MAX
from vexfs.frontends.fuse.handler cimport (
    Handler,
    R_ACCESS,
    R_CREATE,
    R_FLUSH,
    R_FORGET,
    R_FSYNC,
    R_FSYNCDIR,
    R_GETATTR,
    R_GETXATTR,
    R_LINK,
    R_LISTXATTR,
    R_LOOKUP,
    R_MKDIR,
    R_MKNOD,
    R_OPEN,
    R_OPENDIR,
    R_READ,
    R_READDIR,
    R_READLINK,
    R_RELEASE,
    R_RELEASEDIR,
    R_REMOVEXATTR,
    R_RENAME,
    R_RMDIR,
    R_SETATTR,
    R_SETXATTR,
    R_STATFS,
    R_SYMLINK,
    R_UNLINK,
    R_WRITE,
)
from vexfs.frontends.fuse.reply cimport Listing, storable

from vexfs.frontends.fuse.handler import RetireWorker

cdef enum:
    LARGE = 65536      # bytes of a request from which on waiting for the disk is likely


cdef class Operations(Handler):
    """One mount's handlers.

    Parameters
    ----------
    adapter : Adapter
        Does the work.
    options : MountOptions
        Timeouts.
    ready : callable
        Called without arguments when the kernel has greeted the mount.
    crowd : int
        An eventfd that is written to when every worker is about to wait for the disk; -1: nobody wants to know.
    """

    # -- life of the mount

    def init(self):
        try:
            self.ready()
        except BaseException as error:
            raise self.answer(error, "init")

    def destroy(self):
        """The mount is over; the volume is closed by whoever opened it."""

    def stacktrace(self):
        """Asked for by setting an attribute on the root, for debugging llfuse; nothing to show."""

    # -- names

    def lookup(self, uint64_t parent, bytes name not None, ctx):
        cdef vx_attr attr
        cdef const char *text = PyBytes_AS_STRING(name)
        cdef size_t n = len(name)
        cdef int rc
        self.requests[R_LOOKUP] += 1
        if parent >= VX_FIRST_VIRTUAL and self.adapter.tree.hides(parent, name, ctx.pid):
            raise FUSEError(ENOENT)
        try:
            with nogil:
                rc = self.adapter.lookup(parent, text, n, &attr)
            if rc == 0:
                return self.entry(&attr)
        except BaseException as error:
            raise self.answer(error, "lookup")
        # What the virtual tree lacks now may be there the next time.
        if rc == -ENOENT and self.negative_timeout > 0 and parent < VX_FIRST_VIRTUAL and name != b".vexfs":
            return self.negative
        raise FUSEError(-rc)

    def forget(self, list forgets not None):
        self.requests[R_FORGET] += 1
        try:
            for ino, count in forgets:
                self.adapter.forget(ino, count)
        except BaseException as error:
            raise self.answer(error, "forget")

    def mknod(self, uint64_t parent, bytes name not None, uint32_t mode, uint64_t rdev, ctx):
        cdef vx_attr attr
        cdef vx_cred who
        cdef int rc
        cdef const char *text = PyBytes_AS_STRING(name)
        cdef size_t n = len(name)
        self.requests[R_MKNOD] += 1
        try:
            who = self.cred(ctx)
            with nogil:
                rc = self.adapter.mknod(&who, parent, text, n, mode, rdev, &attr)
            if rc == 0:
                return self.entry(&attr)
        except BaseException as error:
            raise self.answer(error, "mknod")
        raise FUSEError(-rc)

    def mkdir(self, uint64_t parent, bytes name not None, uint32_t mode, ctx):
        cdef vx_attr attr
        cdef vx_cred who
        cdef int rc
        cdef const char *text = PyBytes_AS_STRING(name)
        cdef size_t n = len(name)
        self.requests[R_MKDIR] += 1
        try:
            who = self.cred(ctx)
            with nogil:
                rc = self.adapter.mkdir(&who, parent, text, n, mode, &attr)
            if rc == 0:
                return self.entry(&attr)
        except BaseException as error:
            raise self.answer(error, "mkdir")
        raise FUSEError(-rc)

    def symlink(self, uint64_t parent, bytes name not None, bytes target not None, ctx):
        cdef vx_attr attr
        cdef vx_cred who
        cdef int rc
        cdef const char *text = PyBytes_AS_STRING(name)
        cdef const char *to = PyBytes_AS_STRING(target)
        cdef size_t n = len(name), tn = len(target)
        self.requests[R_SYMLINK] += 1
        try:
            who = self.cred(ctx)
            with nogil:
                rc = self.adapter.symlink(&who, parent, text, n, to, tn, &attr)
            if rc == 0:
                return self.entry(&attr)
        except BaseException as error:
            raise self.answer(error, "symlink")
        raise FUSEError(-rc)

    def link(self, uint64_t ino, uint64_t parent, bytes name not None, ctx):
        cdef vx_attr attr
        cdef vx_cred who
        cdef int rc
        cdef const char *text = PyBytes_AS_STRING(name)
        cdef size_t n = len(name)
        self.requests[R_LINK] += 1
        try:
            who = self.cred(ctx)
            with nogil:
                rc = self.adapter.link(&who, ino, parent, text, n, &attr)
            if rc == 0:
                return self.entry(&attr)
        except BaseException as error:
            raise self.answer(error, "link")
        raise FUSEError(-rc)

    def unlink(self, uint64_t parent, bytes name not None, ctx):
        cdef vx_cred who = self.adapter.cred()
        cdef const char *text = PyBytes_AS_STRING(name)
        cdef size_t n = len(name)
        cdef int rc
        self.requests[R_UNLINK] += 1
        with nogil:
            rc = self.adapter.unlink(&who, parent, text, n)
        if rc:
            raise FUSEError(-rc)
        if parent >= VX_FIRST_VIRTUAL:
            self.adapter.tree.hide(parent, name, ctx.pid)

    def rmdir(self, uint64_t parent, bytes name not None, ctx):
        cdef vx_cred who = self.adapter.cred()
        cdef const char *text = PyBytes_AS_STRING(name)
        cdef size_t n = len(name)
        cdef int rc
        self.requests[R_RMDIR] += 1
        with nogil:
            rc = self.adapter.rmdir(&who, parent, text, n)
        if rc:
            raise FUSEError(-rc)

    def rename(self, uint64_t parent, bytes name not None, uint64_t new_parent, bytes new_name not None, ctx):
        cdef vx_cred who = self.adapter.cred()
        cdef const char *text = PyBytes_AS_STRING(name)
        cdef const char *to = PyBytes_AS_STRING(new_name)
        cdef size_t n = len(name), tn = len(new_name)
        cdef int rc
        self.requests[R_RENAME] += 1
        if new_parent >= VX_FIRST_VIRTUAL:  # the content is read for whoever asks: the kernel checks no right to that
            try:
                who = self.cred(ctx)
            except BaseException as error:
                raise self.answer(error, "rename")
        with nogil:
            rc = self.adapter.rename(&who, parent, text, n, new_parent, to, tn, 0)
        if rc:
            raise FUSEError(-rc)

    # -- attributes

    def getattr(self, uint64_t ino, ctx):
        cdef vx_attr attr
        cdef int rc
        self.requests[R_GETATTR] += 1
        try:
            with nogil:
                rc = self.adapter.getattr(ino, &attr)
            if rc == 0:
                return self.entry(&attr)
        except BaseException as error:
            raise self.answer(error, "getattr")
        raise FUSEError(-rc)

    def setattr(self, uint64_t ino, wanted, fields, fh, ctx):
        cdef vx_attr value, attr
        cdef vx_cred who
        cdef uint32_t mask = 0
        cdef int rc
        self.requests[R_SETATTR] += 1
        try:
            who = self.cred(ctx)
            memset(&value, 0, sizeof(value))
            if fields.update_mode:
                mask |= VX_SET_MODE
                value.mode = wanted.st_mode
            if fields.update_uid:
                mask |= VX_SET_UID
                value.uid = wanted.st_uid
            if fields.update_gid:
                mask |= VX_SET_GID
                value.gid = wanted.st_gid
            if fields.update_size:
                mask |= VX_SET_SIZE
                value.size = wanted.st_size
            if fields.update_atime:
                mask |= VX_SET_ATIME
                value.atime_ns = storable(wanted.st_atime_ns)
            if fields.update_mtime:
                mask |= VX_SET_MTIME
                value.mtime_ns = storable(wanted.st_mtime_ns)
            with nogil:
                rc = self.adapter.setattr(&who, ino, mask, &value, &attr)
            if rc == 0:
                return self.entry(&attr)
        except BaseException as error:
            raise self.answer(error, "setattr")
        raise FUSEError(-rc)

    def readlink(self, uint64_t ino, ctx):
        cdef char target[LINK_MAX]
        cdef int got
        self.requests[R_READLINK] += 1
        with nogil:
            got = self.adapter.readlink(ino, target, LINK_MAX)
        if got < 0:
            raise FUSEError(-got)
        try:
            return PyBytes_FromStringAndSize(target, got)
        except BaseException as error:
            raise self.answer(error, "readlink")

    def access(self, uint64_t ino, mode, ctx):
        """The kernel checks permissions itself and does not ask."""
        self.requests[R_ACCESS] += 1
        return True

    def statfs(self, ctx):
        cdef vx_statfs space
        cdef int rc
        self.requests[R_STATFS] += 1
        try:
            if self.retire:
                self.retire = False
                raise RetireWorker
            with nogil:
                rc = self.adapter.statfs(&space)
            if rc < 0:
                raise FUSEError(-rc)
            stats = StatvfsData()
            stats.f_bsize = stats.f_frsize = 4096
            stats.f_blocks, stats.f_bfree, stats.f_bavail = space.blocks, space.bfree, space.bavail
            stats.f_files, stats.f_ffree, stats.f_favail = space.files, space.ffree, space.ffree
            stats.f_namemax = 255
            return stats
        except BaseException as error:
            raise self.answer(error, "statfs")

    def getxattr(self, uint64_t ino, bytes name not None, ctx=None):
        cdef char small[256]
        cdef const char *text = PyBytes_AS_STRING(name)
        cdef size_t n = len(name)
        cdef int64_t got
        self.requests[R_GETXATTR] += 1
        with nogil:
            got = self.adapter.getxattr(ino, text, n, small, sizeof(small))
        if got == -ENODATA:
            raise FUSEError(ENODATA)     # before every write the kernel asks for security.capability: keep this short
        try:
            if got >= 0:
                return PyBytes_FromStringAndSize(small, got)
            value = PyBytes_FromStringAndSize(NULL, XATTR_MAX)
            got = self.adapter.getxattr(ino, text, n, PyBytes_AS_STRING(value), XATTR_MAX)
            if got < 0:
                raise FUSEError(-got)
            return value[:got]
        except BaseException as error:
            raise self.answer(error, "getxattr")

    def setxattr(self, uint64_t ino, bytes name not None, bytes value not None, ctx):
        cdef vx_cred who = self.adapter.cred()
        cdef const char *text = PyBytes_AS_STRING(name)
        cdef const char *data = PyBytes_AS_STRING(value)
        cdef size_t n = len(name), vn = len(value)
        cdef int rc
        self.requests[R_SETXATTR] += 1
        with nogil:
            rc = self.adapter.setxattr(&who, ino, text, n, data, vn)
        if rc:
            raise FUSEError(-rc)

    def listxattr(self, uint64_t ino, ctx):
        cdef int64_t got
        self.requests[R_LISTXATTR] += 1
        try:
            names = PyBytes_FromStringAndSize(NULL, XATTR_MAX)
            got = self.adapter.listxattr(ino, PyBytes_AS_STRING(names), XATTR_MAX)
            if got < 0:
                raise FUSEError(-got)
            found = [name for name in names[:got].split(b"\0") if name]
            # The kernel keeps their values from other users but leaves hiding the names to the filesystem.
            return found if ctx.uid == 0 else [name for name in found if not name.startswith(b"trusted.")]
        except BaseException as error:
            raise self.answer(error, "listxattr")

    def removexattr(self, uint64_t ino, bytes name not None, ctx):
        cdef vx_cred who = self.adapter.cred()
        cdef const char *text = PyBytes_AS_STRING(name)
        cdef size_t n = len(name)
        cdef int rc
        self.requests[R_REMOVEXATTR] += 1
        with nogil:
            rc = self.adapter.removexattr(&who, ino, text, n)
        if rc:
            raise FUSEError(-rc)

    # -- open files

    def create(self, uint64_t parent, bytes name not None, uint32_t mode, uint32_t flags, ctx):
        cdef vx_attr attr
        cdef vx_cred who
        cdef int rc
        cdef const char *text = PyBytes_AS_STRING(name)
        cdef size_t n = len(name)
        self.requests[R_CREATE] += 1
        try:
            who = self.cred(ctx)
            with nogil:
                rc = self.adapter.create(&who, parent, text, n, mode, flags, &attr)
            if rc == 0:
                return attr.ino, self.entry(&attr)
        except BaseException as error:
            raise self.answer(error, "create")
        raise FUSEError(-rc)

    def open(self, uint64_t ino, uint32_t flags, ctx):
        cdef vx_cred who = self.adapter.cred()
        cdef int rc
        self.requests[R_OPEN] += 1
        with nogil:
            rc = self.adapter.open(&who, ino, flags)
        if rc:
            raise FUSEError(-rc)
        return ino

    def read(self, uint64_t fh, uint64_t offset, size_t size):
        cdef int64_t got
        cdef char *into
        self.requests[R_READ] += 1
        try:
            data = PyBytes_FromStringAndSize(NULL, size)
            into = PyBytes_AS_STRING(data)
            if size >= LARGE:
                self.begin_wait()
            with nogil:
                got = self.adapter.read(fh, offset, into, size)
            if size >= LARGE:
                self.end_wait()
            if got >= 0:
                return data if <size_t>got == size else data[:got]
        except BaseException as error:
            raise self.answer(error, "read")
        raise FUSEError(<int>-got)

    def write(self, uint64_t fh, uint64_t offset, bytes data not None):
        cdef int64_t done
        cdef const char *source = PyBytes_AS_STRING(data)
        cdef size_t size = len(data)
        self.requests[R_WRITE] += 1
        try:
            if size >= LARGE or fh >= VX_FIRST_VIRTUAL:
                self.begin_wait()
            with nogil:
                done = self.adapter.write(fh, offset, source, size)
            if size >= LARGE or fh >= VX_FIRST_VIRTUAL:
                self.end_wait()
        except BaseException as error:
            raise self.answer(error, "write")
        if done < 0:
            raise FUSEError(<int>-done)
        return done

    def flush(self, uint64_t fh):
        """Refused once and never asked again: closing a file cannot fail, for a write reserves the space it needs."""
        self.requests[R_FLUSH] += 1
        raise FUSEError(ENOSYS)

    def release(self, uint64_t fh):
        self.requests[R_RELEASE] += 1
        with nogil:
            self.adapter.release(fh)

    def fsync(self, uint64_t fh, datasync):
        cdef int rc, data_only = bool(datasync)
        self.requests[R_FSYNC] += 1
        try:
            self.begin_wait()
            with nogil:
                rc = self.adapter.fsync(fh, data_only)
            self.end_wait()
        except BaseException as error:
            raise self.answer(error, "fsync")
        if rc:
            raise FUSEError(-rc)

    # -- directories

    def opendir(self, uint64_t ino, ctx):
        cdef vx_cred who = self.adapter.cred()
        cdef int rc
        self.requests[R_OPENDIR] += 1
        with nogil:
            rc = self.adapter.opendir(&who, ino)
        if rc:
            raise FUSEError(-rc)
        return ino

    def readdir(self, uint64_t fh, uint64_t offset):
        cdef Listing listing
        self.requests[R_READDIR] += 1
        try:
            listing = Listing()
            listing.adapter = self.adapter
            listing.entry = EntryAttributes()
            listing.ino, listing.cookie = fh, offset
            return listing
        except BaseException as error:
            raise self.answer(error, "readdir")

    def fsyncdir(self, uint64_t fh, datasync):
        self.requests[R_FSYNCDIR] += 1
        self.fsync(fh, datasync)

    def releasedir(self, uint64_t fh):
        self.requests[R_RELEASEDIR] += 1
        with nogil:
            self.adapter.releasedir(fh)
