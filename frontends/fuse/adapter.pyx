"""Requests of a FUSE kernel, translated to the filesystem's operations.  Nothing here knows a FUSE library.

What is decided here, for every FUSE frontend alike: names and inode numbers of the virtual tree go to
:mod:`vexfs.frontends.fuse.virtual`, ``.vexfs`` can be neither made nor removed, attributes are shown as ``uid=``,
``gid=`` and ``umask=`` ask, and an exception becomes an errno.
"""

import errno as _errno
import logging

from libc.errno cimport EEXIST, ENAMETOOLONG, ENODATA, EOPNOTSUPP, EPERM, ESTALE
from libc.string cimport memcmp, memcpy, memset
from posix.fcntl cimport O_ACCMODE, O_EXCL, O_RDONLY, O_TRUNC
from posix.unistd cimport R_OK

from vexfs._core.fs cimport (
    VX_EVENT_ENTRY, VX_EVENT_INODE, VX_SET_GID, VX_SET_MODE, VX_SET_SIZE, VX_SET_UID, fs_access, fs_create,
    fs_events_attach, fs_events_detach, fs_events_wait, fs_forget, fs_fsync, fs_getattr, fs_getxattr, fs_link,
    fs_listxattr, fs_lookup, fs_mkdir, fs_mknod, fs_open, fs_opendir, fs_read, fs_readdir, fs_readlink, fs_release,
    fs_releasedir, fs_removexattr, fs_rename, fs_rmdir, fs_setattr, fs_setxattr, fs_statfs, fs_symlink, fs_unlink,
    fs_write, vx_event,
)

from vexfs.frontends.fuse.virtual import TEXT_MOST

log = logging.getLogger("vexfs.fuse")

cdef struct Hiding:
    vx_filldir fill
    void *context


cdef inline bint reserved(const char *name, size_t n) noexcept nogil:
    return n == 6 and memcmp(name, b".vexfs", 6) == 0


cdef int fill_but_reserved(void *context, const char *name, size_t n, uint64_t ino, uint32_t type,
                           uint64_t cookie) noexcept nogil:
    cdef Hiding *hiding = <Hiding *>context
    if reserved(name, n):
        return 0
    return hiding.fill(hiding.context, name, n, ino, type, cookie)


cdef class Adapter:
    """One mount's view of a filesystem.

    Parameters
    ----------
    filesystem : Filesystem
        The open filesystem; it must outlive the mount.
    tree : VirtualTree
        What stands under ``.vexfs``.
    options : MountOptions
        How attributes are shown.
    """

    def __cinit__(self, Filesystem filesystem not None, tree, options):
        self.filesystem = filesystem
        self.tree = tree
        self.fs = filesystem.handle()
        self.show_uid = options.uid is not None
        self.show_gid = options.gid is not None
        self.show_mode = options.umask is not None
        self.uid = options.uid or 0
        self.gid = options.gid or 0
        self.permissions = 0o777 & ~(options.umask or 0)
        cdef int origin = fs_events_attach(self.fs, 0)
        if origin < 0:
            raise OSError(-origin, "the filesystem has no room for another frontend with a cache")
        self.origin = origin

    def detach(self):
        """Stop the flow of changes: ``wait_event`` answers None from now on."""
        fs_events_detach(self.fs, self.origin)

    def wait_event(self):
        """Wait for a change made by anybody else.

        Returns
        -------
        tuple or None
            ``(ino, content, name)``: the entry `name` (bytes) of directory `ino` changed, or, with `name` None, the
            attributes of `ino` and, if `content`, its bytes; ``(0, True, None)``: events were lost, anything may have
            changed.  None after ``detach``.
        """
        cdef vx_event event
        cdef int rc
        with nogil:
            rc = fs_events_wait(self.fs, self.origin, -1, &event)
        if rc < 0:
            return None
        if event.kind == VX_EVENT_ENTRY:
            return event.ino, False, event.name[:event.name_n]
        if event.kind == VX_EVENT_INODE:
            return event.ino, event.content != 0, None
        return 0, True, None

    def errno_of(self, error, str operation):
        """The errno that answers a request whose handler raised `error`; what is no ``OSError`` counts as a fault."""
        return self.fault(error, operation)

    cdef int fault(self, error, str operation):
        if isinstance(error, OSError) and error.errno:
            return error.errno
        if isinstance(error, MemoryError):
            return _errno.ENOMEM
        self.faults += 1
        log.error("%s failed and was answered EIO: %s: %s", operation, type(error).__name__, error, exc_info=error)
        return _errno.EIO

    cdef vx_cred cred(self) noexcept nogil:
        cdef vx_cred who
        memset(&who, 0, sizeof(who))
        who.origin = <uint32_t>self.origin
        who.remember = 1
        return who

    cdef void show(self, vx_attr *out) noexcept nogil:
        if self.show_uid:
            out.uid = self.uid
        if self.show_gid:
            out.gid = self.gid
        if self.show_mode:
            out.mode = (out.mode & ~<uint32_t>0o777) | self.permissions

    # -- names

    cdef bint is_reserved(self, const char *name, size_t n) noexcept nogil:
        return reserved(name, n)

    cdef int lookup(self, uint64_t parent, const char *name, size_t n, vx_attr *out) noexcept nogil:
        if parent >= VX_FIRST_VIRTUAL or reserved(name, n):
            return self.virtual_lookup(parent, name, n, out)
        cdef vx_cred who = self.cred()
        cdef int rc = fs_lookup(self.fs, &who, parent, name, n, out)
        self.last_parent = parent
        if rc == 0:
            self.show(out)
        return rc

    cdef void forget(self, uint64_t ino, uint64_t count) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL:
            self.virtual_forget(ino, count)
        else:
            fs_forget(self.fs, ino, count)

    cdef int mknod(self, vx_cred *who, uint64_t parent, const char *name, size_t n, uint32_t mode, uint64_t rdev,
                   vx_attr *out) noexcept nogil:
        if parent >= VX_FIRST_VIRTUAL or reserved(name, n):
            return -EPERM
        cdef int rc = fs_mknod(self.fs, who, parent, name, n, mode, rdev, out)
        if rc == 0:
            self.show(out)
        return rc

    cdef int mkdir(self, vx_cred *who, uint64_t parent, const char *name, size_t n, uint32_t mode,
                   vx_attr *out) noexcept nogil:
        if parent >= VX_FIRST_VIRTUAL or reserved(name, n):
            return -EPERM
        cdef int rc = fs_mkdir(self.fs, who, parent, name, n, mode, out)
        if rc == 0:
            self.show(out)
        return rc

    cdef int symlink(self, vx_cred *who, uint64_t parent, const char *name, size_t n, const char *target, size_t tn,
                     vx_attr *out) noexcept nogil:
        if parent >= VX_FIRST_VIRTUAL or reserved(name, n):
            return -EPERM
        cdef int rc = fs_symlink(self.fs, who, parent, name, n, target, tn, out)
        if rc == 0:
            self.show(out)
        return rc

    cdef int link(self, vx_cred *who, uint64_t ino, uint64_t parent, const char *name, size_t n,
                  vx_attr *out) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL or parent >= VX_FIRST_VIRTUAL or reserved(name, n):
            return -EPERM
        cdef int rc = fs_link(self.fs, who, ino, parent, name, n, out)
        if rc == 0:
            self.show(out)
        return rc

    cdef int unlink(self, vx_cred *who, uint64_t parent, const char *name, size_t n) noexcept nogil:
        if parent >= VX_FIRST_VIRTUAL:
            return self.virtual_unlink(parent, name, n)
        if reserved(name, n):
            return -EPERM
        return fs_unlink(self.fs, who, parent, name, n)

    cdef int rmdir(self, vx_cred *who, uint64_t parent, const char *name, size_t n) noexcept nogil:
        if parent >= VX_FIRST_VIRTUAL or reserved(name, n):
            return -EPERM
        return fs_rmdir(self.fs, who, parent, name, n)

    cdef int rename(self, vx_cred *who, uint64_t parent, const char *name, size_t n, uint64_t new_parent,
                    const char *new_name, size_t new_n, uint32_t flags) noexcept nogil:
        if parent >= VX_FIRST_VIRTUAL and new_parent >= VX_FIRST_VIRTUAL:
            return self.virtual_rename(parent, name, n, new_parent, new_name, new_n)
        if parent >= VX_FIRST_VIRTUAL:
            return -EPERM
        if new_parent >= VX_FIRST_VIRTUAL:
            return self.virtual_replace(who, parent, name, n, new_parent, new_name, new_n)
        if reserved(name, n) or reserved(new_name, new_n):
            return -EPERM
        return fs_rename(self.fs, who, parent, name, n, new_parent, new_name, new_n, flags)

    # -- attributes

    cdef int getattr(self, uint64_t ino, vx_attr *out) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL:
            return self.virtual_getattr(ino, out)
        cdef int rc = fs_getattr(self.fs, ino, out)
        if rc == 0:
            self.show(out)
        return rc

    cdef int setattr(self, vx_cred *who, uint64_t ino, uint32_t fields, vx_attr *value, vx_attr *out) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL:
            return self.virtual_setattr(ino, fields & VX_SET_SIZE, value.size, out)
        # What is shown instead of what is stored cannot be changed, only confirmed.
        if fields & VX_SET_UID and self.show_uid and value.uid != self.uid:
            return -EPERM
        if fields & VX_SET_GID and self.show_gid and value.gid != self.gid:
            return -EPERM
        cdef int rc = self.setattr_permissions(ino, fields, value)
        if rc:
            return rc
        # A chown that confirms all becomes one without fields, which takes set-user-id bits away as any chown does.
        if self.show_uid:
            fields &= ~<uint32_t>VX_SET_UID
        if self.show_gid:
            fields &= ~<uint32_t>VX_SET_GID
        rc = fs_setattr(self.fs, who, ino, fields, value, out)
        if rc == 0:
            self.show(out)
        return rc

    cdef int setattr_permissions(self, uint64_t ino, uint32_t fields, vx_attr *value) noexcept nogil:
        # Where permissions are shown instead of those that are stored, these stay; the bits above them can be changed.
        cdef vx_attr now
        if not fields & VX_SET_MODE or not self.show_mode:
            return 0
        if value.mode & 0o777 != self.permissions:
            return -EPERM
        cdef int rc = fs_getattr(self.fs, ino, &now)
        value.mode = (value.mode & ~<uint32_t>0o777) | (now.mode & 0o777)
        return rc

    cdef int readlink(self, uint64_t ino, char *buf, size_t cap) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL:
            return self.virtual_readlink(ino, buf, cap)
        return fs_readlink(self.fs, ino, buf, cap)

    cdef int statfs(self, vx_statfs *out) noexcept nogil:
        return fs_statfs(self.fs, out)

    cdef int64_t getxattr(self, uint64_t ino, const char *name, size_t n, void *value, size_t cap) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL:
            return -ENODATA
        return fs_getxattr(self.fs, ino, name, n, value, cap)

    cdef int setxattr(self, vx_cred *who, uint64_t ino, const char *name, size_t n, const void *value,
                      size_t vn) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL:
            return -EOPNOTSUPP  # programs that copy an access list go on without
        return fs_setxattr(self.fs, who, ino, name, n, value, vn, 0)

    cdef int64_t listxattr(self, uint64_t ino, char *buf, size_t cap) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL:
            return 0
        return fs_listxattr(self.fs, ino, buf, cap)

    cdef int removexattr(self, vx_cred *who, uint64_t ino, const char *name, size_t n) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL:
            return -EOPNOTSUPP
        return fs_removexattr(self.fs, who, ino, name, n)

    # -- open files

    cdef int create(self, vx_cred *who, uint64_t parent, const char *name, size_t n, uint32_t mode, uint32_t flags,
                    vx_attr *out) noexcept nogil:
        if parent >= VX_FIRST_VIRTUAL:
            return self.virtual_create(parent, name, n, out)
        if reserved(name, n):
            return -EPERM
        cdef int rc = fs_create(self.fs, who, parent, name, n, mode, flags | O_EXCL, out)
        if rc == -EEXIST and not flags & O_EXCL:
            return self.open_made(who, parent, name, n, mode, flags, out)
        if rc == 0:
            self.show(out)
        return rc

    cdef int open_made(self, vx_cred *who, uint64_t parent, const char *name, size_t n, uint32_t mode, uint32_t flags,
                       vx_attr *out) noexcept nogil:
        """What others have made since the kernel looked: after ESTALE it looks again, and checks who may open it, but
        only once, and by then the file may have come and gone again.

        What is opened here it does not check: files of who asks, or for root, where sticky directories have no say.
        """
        cdef vx_attr top
        who.check = 1
        if self.show_uid or self.show_mode or fs_getattr(self.fs, parent, &top) or top.mode & 0o1000:
            return -ESTALE
        if fs_create(self.fs, who, parent, name, n, mode, flags, out):
            return -ESTALE
        if out.mode & 0o170000 == 0o100000 and (not who.uid or who.uid == out.uid):
            self.show(out)
            return 0
        fs_release(self.fs, out.ino)
        fs_forget(self.fs, out.ino, 1)
        return -ESTALE

    cdef int open(self, vx_cred *who, uint64_t ino, uint32_t flags) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL:
            return 0 if flags & O_ACCMODE == O_RDONLY and not flags & O_TRUNC else self.virtual_writable(ino)
        return fs_open(self.fs, who, ino, flags)

    cdef void release(self, uint64_t ino) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL:
            self.virtual_finish(ino)
        else:
            fs_release(self.fs, ino)

    cdef int64_t read(self, uint64_t ino, uint64_t offset, void *dst, size_t n) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL:
            return self.virtual_read(ino, offset, dst, n)
        return fs_read(self.fs, ino, offset, dst, n)

    cdef int64_t write(self, uint64_t ino, uint64_t offset, const void *src, size_t n) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL:
            return self.virtual_write(ino, offset, src, n)
        # The kernel has the setuid bits taken away by setattr before, and decides where an append goes: no flags.
        cdef vx_cred who = self.cred()
        return fs_write(self.fs, &who, ino, offset, src, n, 0)

    cdef int fsync(self, uint64_t ino, int datasync) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL:
            return self.virtual_finish(ino)
        return fs_fsync(self.fs, ino, datasync)

    # -- directories

    cdef int opendir(self, vx_cred *who, uint64_t ino) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL:
            return 0
        return fs_opendir(self.fs, who, ino)

    cdef void releasedir(self, uint64_t ino) noexcept nogil:
        if ino < VX_FIRST_VIRTUAL:
            fs_releasedir(self.fs, ino)

    cdef int readdir(self, uint64_t ino, uint64_t cookie, vx_filldir fill, void *context) noexcept nogil:
        if ino >= VX_FIRST_VIRTUAL:
            return self.virtual_readdir(ino, cookie, fill, context)
        cdef Hiding hiding
        hiding.fill = fill
        hiding.context = context
        # A program that looked names up since the last batch will look up the next ones too.
        cdef int attrs = cookie == 0 or self.last_parent == ino
        return fs_readdir(self.fs, ino, cookie, attrs, fill_but_reserved, &hiding)

    # -- the virtual tree

    cdef int virtual_attr(self, attributes, vx_attr *out) except -1:
        memset(out, 0, sizeof(vx_attr))
        out.ino = attributes.ino
        out.mode = attributes.mode
        out.size = attributes.size
        out.nlink = attributes.nlink
        out.uid = self.uid if self.show_uid else attributes.uid
        out.gid = self.gid if self.show_gid else attributes.gid
        out.atime_ns = out.mtime_ns = out.ctime_ns = out.btime_ns = attributes.time_ns
        return 0

    cdef int virtual_lookup(self, uint64_t parent, const char *name, size_t n, vx_attr *out) noexcept with gil:
        try:
            return self.virtual_attr(self.tree.lookup(parent, name[:n]), out)
        except BaseException as error:
            return -self.fault(error, "lookup of a virtual name")

    cdef int virtual_create(self, uint64_t parent, const char *name, size_t n, vx_attr *out) noexcept with gil:
        try:
            return self.virtual_attr(self.tree.create(parent, name[:n]), out)
        except BaseException as error:
            return -self.fault(error, "create of a virtual name")

    cdef int virtual_unlink(self, uint64_t parent, const char *name, size_t n) noexcept with gil:
        try:
            self.tree.unlink(parent, name[:n])
            return 0
        except BaseException as error:
            return -self.fault(error, "unlink of a virtual name")

    cdef int virtual_rename(self, uint64_t parent, const char *name, size_t n, uint64_t new_parent,
                            const char *new_name, size_t new_n) noexcept with gil:
        try:
            self.tree.rename(parent, name[:n], new_parent, new_name[:new_n])
            return 0
        except BaseException as error:
            return -self.fault(error, "rename of a virtual name")

    cdef int virtual_replace(self, vx_cred *who, uint64_t parent, const char *name, size_t n, uint64_t new_parent,
                             const char *new_name, size_t new_n) noexcept with gil:
        # A file of the volume becomes a text.  Refused, as from another disk, programs would remove the old text first.
        cdef int rc
        try:
            found = self.filesystem.lookup(parent, name[:n])
            rc = fs_access(self.fs, who, found.st_ino, R_OK)
            if rc:
                return rc
            # One byte more than can be: a larger file is refused, and not read.
            text = self.filesystem.read(found.st_ino, min(found.st_size, TEXT_MOST + 1), 0)
            self.tree.replace(new_parent, new_name[:new_n], text)
            return fs_unlink(self.fs, who, parent, name, n)
        except BaseException as error:
            return -self.fault(error, "rename to a virtual name")

    cdef int virtual_setattr(self, uint64_t ino, int sized, uint64_t size, vx_attr *out) noexcept with gil:
        # Programs that replace a file give the new one the old one's rights and times: these are the directory's.
        try:
            if not self.tree.writable(ino):
                return -EPERM
            return self.virtual_attr(self.tree.truncate(ino, size) if sized else self.tree.attributes(ino), out)
        except BaseException as error:
            return -self.fault(error, "setattr of a virtual node")

    cdef int virtual_writable(self, uint64_t ino) noexcept with gil:
        try:
            return 0 if self.tree.writable(ino) else -EPERM
        except BaseException as error:
            return -self.fault(error, "open of a virtual file")

    cdef int64_t virtual_write(self, uint64_t ino, uint64_t offset, const void *src, size_t n) noexcept with gil:
        try:
            return self.tree.write(ino, offset, (<const char *>src)[:n])
        except BaseException as error:
            return -self.fault(error, "write to a virtual file")

    cdef int virtual_finish(self, uint64_t ino) noexcept with gil:
        try:
            self.tree.finish(ino)
            return 0
        except BaseException as error:
            return -self.fault(error, "the end of writing to a virtual file")

    cdef void virtual_forget(self, uint64_t ino, uint64_t count) noexcept with gil:
        try:
            self.tree.forget(ino, count)
        except BaseException as error:
            self.fault(error, "forget of a virtual node")

    cdef int virtual_getattr(self, uint64_t ino, vx_attr *out) noexcept with gil:
        try:
            return self.virtual_attr(self.tree.attributes(ino), out)
        except BaseException as error:
            return -self.fault(error, "getattr of a virtual node")

    cdef int virtual_readlink(self, uint64_t ino, char *buf, size_t cap) noexcept with gil:
        cdef bytes target
        try:
            target = self.tree.readlink(ino)
            if <size_t>len(target) > cap:
                return -ENAMETOOLONG
            memcpy(buf, <const char *>target, len(target))
            return <int>len(target)
        except BaseException as error:
            return -self.fault(error, "readlink of a virtual link")

    cdef int64_t virtual_read(self, uint64_t ino, uint64_t offset, void *dst, size_t n) noexcept with gil:
        cdef bytes text
        try:
            text = self.tree.read(ino, offset, n)
            memcpy(dst, <const char *>text, len(text))
            return len(text)
        except BaseException as error:
            return -self.fault(error, "read of a virtual file")

    cdef int virtual_readdir(self, uint64_t ino, uint64_t cookie, vx_filldir fill, void *context) noexcept with gil:
        cdef bytes name
        cdef uint64_t at = cookie
        try:
            for name, child, mode in self.tree.list(ino, cookie):
                at += 1
                if fill(context, name, len(name), child, mode, at):
                    break
            return 0
        except BaseException as error:
            return -self.fault(error, "listing of a virtual directory")
