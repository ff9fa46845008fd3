"""Requests of a FUSE kernel, translated to the filesystem's operations.  Nothing here knows a FUSE library.

Every method answers 0, a count, or a negative errno, and may be called from any thread without the GIL.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from vexfs._core.fs cimport Filesystem, vx_attr, vx_cred, vx_filldir, vx_fs, vx_statfs

cdef enum:
    XATTR_MAX = 65536      # bytes of a value or of a list of names, the kernel's own limit
    LINK_MAX = 4096

cdef extern from *:
    """
    #define VX_FIRST_VIRTUAL ((uint64_t)1 << 62)
    """
    const uint64_t VX_FIRST_VIRTUAL

cdef class Adapter:
    cdef readonly Filesystem filesystem
    cdef readonly object tree            # VirtualTree
    cdef readonly int origin
    cdef readonly uint64_t faults        # requests answered EIO because their handler failed
    cdef vx_fs *fs
    cdef int show_uid, show_gid, show_mode
    cdef uint32_t uid, gid, permissions
    cdef uint64_t last_parent

    cdef int lookup(self, uint64_t parent, const char *name, size_t n, vx_attr *out) noexcept nogil
    cdef void forget(self, uint64_t ino, uint64_t count) noexcept nogil
    cdef int getattr(self, uint64_t ino, vx_attr *out) noexcept nogil
    cdef int setattr(self, vx_cred *who, uint64_t ino, uint32_t fields, vx_attr *value, vx_attr *out) noexcept nogil
    cdef int setattr_permissions(self, uint64_t ino, uint32_t fields, vx_attr *value) noexcept nogil
    cdef int readlink(self, uint64_t ino, char *buf, size_t cap) noexcept nogil
    cdef int mknod(self, vx_cred *who, uint64_t parent, const char *name, size_t n, uint32_t mode, uint64_t rdev,
                   vx_attr *out) noexcept nogil
    cdef int mkdir(self, vx_cred *who, uint64_t parent, const char *name, size_t n, uint32_t mode,
                   vx_attr *out) noexcept nogil
    cdef int symlink(self, vx_cred *who, uint64_t parent, const char *name, size_t n, const char *target, size_t tn,
                     vx_attr *out) noexcept nogil
    cdef int link(self, vx_cred *who, uint64_t ino, uint64_t parent, const char *name, size_t n,
                  vx_attr *out) noexcept nogil
    cdef int unlink(self, vx_cred *who, uint64_t parent, const char *name, size_t n) noexcept nogil
    cdef int rmdir(self, vx_cred *who, uint64_t parent, const char *name, size_t n) noexcept nogil
    cdef int rename(self, vx_cred *who, uint64_t parent, const char *name, size_t n, uint64_t new_parent,
                    const char *new_name, size_t new_n, uint32_t flags) noexcept nogil
    cdef int create(self, vx_cred *who, uint64_t parent, const char *name, size_t n, uint32_t mode, uint32_t flags,
                    vx_attr *out) noexcept nogil
    cdef int open_made(self, vx_cred *who, uint64_t parent, const char *name, size_t n, uint32_t mode, uint32_t flags,
                       vx_attr *out) noexcept nogil
    cdef int open(self, vx_cred *who, uint64_t ino, uint32_t flags) noexcept nogil
    cdef void release(self, uint64_t ino) noexcept nogil
    cdef int64_t read(self, uint64_t ino, uint64_t offset, void *dst, size_t n) noexcept nogil
    cdef int64_t write(self, uint64_t ino, uint64_t offset, const void *src, size_t n) noexcept nogil
    cdef int fsync(self, uint64_t ino, int datasync) noexcept nogil
    cdef int opendir(self, vx_cred *who, uint64_t ino) noexcept nogil
    cdef void releasedir(self, uint64_t ino) noexcept nogil
    cdef int readdir(self, uint64_t ino, uint64_t cookie, vx_filldir fill, void *context) noexcept nogil
    cdef int statfs(self, vx_statfs *out) noexcept nogil
    cdef int64_t getxattr(self, uint64_t ino, const char *name, size_t n, void *value, size_t cap) noexcept nogil
    cdef int setxattr(self, vx_cred *who, uint64_t ino, const char *name, size_t n, const void *value,
                      size_t vn) noexcept nogil
    cdef int64_t listxattr(self, uint64_t ino, char *buf, size_t cap) noexcept nogil
    cdef int removexattr(self, vx_cred *who, uint64_t ino, const char *name, size_t n) noexcept nogil

    cdef bint is_reserved(self, const char *name, size_t n) noexcept nogil
    cdef void show(self, vx_attr *out) noexcept nogil
    cdef vx_cred cred(self) noexcept nogil
    cdef int fault(self, error, str operation)

    cdef int virtual_attr(self, attributes, vx_attr *out) except -1
    cdef int virtual_create(self, uint64_t parent, const char *name, size_t n, vx_attr *out) noexcept with gil
    cdef int virtual_unlink(self, uint64_t parent, const char *name, size_t n) noexcept with gil
    cdef int virtual_rename(self, uint64_t parent, const char *name, size_t n, uint64_t new_parent,
                            const char *new_name, size_t new_n) noexcept with gil
    cdef int virtual_replace(self, vx_cred *who, uint64_t parent, const char *name, size_t n, uint64_t new_parent,
                             const char *new_name, size_t new_n) noexcept with gil
    cdef int virtual_setattr(self, uint64_t ino, int sized, uint64_t size, vx_attr *out) noexcept with gil
    cdef int virtual_writable(self, uint64_t ino) noexcept with gil
    cdef int64_t virtual_write(self, uint64_t ino, uint64_t offset, const void *src, size_t n) noexcept with gil
    cdef int virtual_finish(self, uint64_t ino) noexcept with gil
    cdef int virtual_lookup(self, uint64_t parent, const char *name, size_t n, vx_attr *out) noexcept with gil
    cdef void virtual_forget(self, uint64_t ino, uint64_t count) noexcept with gil
    cdef int virtual_getattr(self, uint64_t ino, vx_attr *out) noexcept with gil
    cdef int virtual_readlink(self, uint64_t ino, char *buf, size_t cap) noexcept with gil
    cdef int64_t virtual_read(self, uint64_t ino, uint64_t offset, void *dst, size_t n) noexcept with gil
    cdef int virtual_readdir(self, uint64_t ino, uint64_t cookie, vx_filldir fill, void *context) noexcept with gil
