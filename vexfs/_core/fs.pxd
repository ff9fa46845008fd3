"""The filesystem operations: what a VexFS *is*.  Every frontend calls these; a frontend only translates.

Every ``fs_*`` function takes the filesystem first and outputs last, never touches Python, may be called from any
thread, and answers 0 (or a count) or a negative errno.  Names are bytes without NUL and slash, not terminated.
Files are addressed by inode number; an open file is the inode number with an open count on it (``fs_open`` adds,
``fs_release`` takes away), so that an unlinked file lives as long as somebody has it open or remembers it.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    VX_ROOT_INO = 1
    VX_NAME_MAX = 255
    # fields of fs_setattr
    VX_SET_MODE = 1
    VX_SET_UID = 2
    VX_SET_GID = 4
    VX_SET_SIZE = 8
    VX_SET_ATIME = 16
    VX_SET_MTIME = 32
    VX_SET_ATIME_NOW = 64
    VX_SET_MTIME_NOW = 128
    VX_SET_CTIME = 256
    # flags of fs_write
    VX_WRITE_APPEND = 1
    # flags of fs_rename
    VX_RENAME_NOREPLACE = 1
    VX_RENAME_EXCHANGE = 2
    # flags of fs_setxattr, as setxattr(2)
    VX_XATTR_CREATE = 1
    VX_XATTR_REPLACE = 2

ctypedef struct vx_attr:
    uint64_t ino
    uint64_t size          # bytes
    uint64_t blocks        # 512-byte units
    uint64_t rdev
    uint64_t generation    # grows with every change of the content
    int64_t atime_ns       # since the epoch, may be negative
    int64_t mtime_ns
    int64_t ctime_ns
    int64_t btime_ns
    uint32_t mode
    uint32_t nlink
    uint32_t uid
    uint32_t gid

# Who asks.  `check` = 1: the core checks permissions (a mount with default_permissions leaves that to the kernel, the
# in-process owner has all rights).  `remember` = 1: an operation that answers an attr of a found or made entry also
# counts one lookup on the inode (undone by fs_forget).  `origin`: the frontend, whose own changes are not
# reported back to it; 0 = in-process.
ctypedef struct vx_cred:
    uint32_t uid
    uint32_t gid
    uint32_t umask
    uint32_t origin
    uint32_t check
    uint32_t remember
    uint32_t ngroups
    const uint32_t *groups

ctypedef struct vx_statfs:
    uint64_t blocks        # of 4096 bytes
    uint64_t bfree
    uint64_t bavail
    uint64_t files
    uint64_t ffree

# A change that a frontend with a cache (the kernel's) has to hear of.
cdef enum:
    VX_EVENT_INODE = 1     # attributes (and content, when `content` is set) of `ino` changed
    VX_EVENT_ENTRY = 2     # the entry `name` of directory `ino` came, went or points elsewhere

ctypedef struct vx_event:
    uint32_t kind
    uint32_t content
    uint64_t ino
    uint32_t name_n
    char name[256]

# Called once for each entry; non-zero stops.  `cookie` is what to pass to fs_readdir to go on behind this entry.
ctypedef int (*vx_filldir)(void *ctx, const char *name, size_t n, uint64_t ino, uint32_t type, uint64_t cookie) noexcept nogil

cdef struct vx_fs

cdef int fs_lookup(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, vx_attr *out) noexcept nogil
cdef void fs_forget(vx_fs *fs, uint64_t ino, uint64_t count) noexcept nogil
cdef int fs_getattr(vx_fs *fs, uint64_t ino, vx_attr *out) noexcept nogil
cdef int fs_setattr(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t fields, const vx_attr *value, vx_attr *out) noexcept nogil
cdef int fs_access(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t mask) noexcept nogil
cdef int fs_mknod(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode, uint64_t rdev, vx_attr *out) noexcept nogil
cdef int fs_mkdir(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode, vx_attr *out) noexcept nogil
cdef int fs_symlink(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, const char *target, size_t tn, vx_attr *out) noexcept nogil
# buf of at least 4096 bytes; the length of the target (not terminated), or -errno
cdef int fs_readlink(vx_fs *fs, uint64_t ino, char *buf, size_t cap) noexcept nogil
cdef int fs_link(vx_fs *fs, const vx_cred *c, uint64_t ino, uint64_t parent, const char *name, size_t n, vx_attr *out) noexcept nogil
cdef int fs_unlink(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n) noexcept nogil
cdef int fs_rmdir(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n) noexcept nogil
cdef int fs_rename(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, uint64_t new_parent, const char *new_name, size_t new_n, uint32_t flags) noexcept nogil
# Makes (or, without O_EXCL, finds) and opens a regular file.
cdef int fs_create(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode, uint32_t flags, vx_attr *out) noexcept nogil
# Adds an open count; flags as open(2): O_TRUNC is done here.
cdef int fs_open(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t flags) noexcept nogil
cdef void fs_release(vx_fs *fs, uint64_t ino) noexcept nogil
# The number of bytes, fewer than n only at the end of the file.
cdef int64_t fs_read(vx_fs *fs, uint64_t ino, uint64_t off, void *dst, size_t n) noexcept nogil
cdef int64_t fs_write(vx_fs *fs, const vx_cred *c, uint64_t ino, uint64_t off, const void *src, size_t n, uint32_t flags) noexcept nogil
cdef int fs_flush(vx_fs *fs, uint64_t ino) noexcept nogil
cdef int fs_fsync(vx_fs *fs, uint64_t ino, int datasync) noexcept nogil   # ino 0: the whole volume
cdef int fs_opendir(vx_fs *fs, const vx_cred *c, uint64_t ino) noexcept nogil
cdef void fs_releasedir(vx_fs *fs, uint64_t ino) noexcept nogil
# "." and ".." come first; cookie 0 starts.  `attrs` = 1: lookups of these entries follow, load their inodes too.
cdef int fs_readdir(vx_fs *fs, uint64_t ino, uint64_t cookie, int attrs, vx_filldir fill, void *ctx) noexcept nogil
cdef int fs_statfs(vx_fs *fs, vx_statfs *out) noexcept nogil
# The value's length; with cap 0 only the length; -ERANGE when it does not fit, -ENODATA when absent
cdef int64_t fs_getxattr(vx_fs *fs, uint64_t ino, const char *name, size_t n, void *value, size_t cap) noexcept nogil
cdef int fs_setxattr(vx_fs *fs, const vx_cred *c, uint64_t ino, const char *name, size_t n, const void *value, size_t vn, uint32_t flags) noexcept nogil
# NUL-terminated names one after another; the total length (cap as above)
cdef int64_t fs_listxattr(vx_fs *fs, uint64_t ino, char *buf, size_t cap) noexcept nogil
cdef int fs_removexattr(vx_fs *fs, const vx_cred *c, uint64_t ino, const char *name, size_t n) noexcept nogil
# Walks a path from `base`; follows symlinks (the last one only when `follow`).
cdef int fs_walk(vx_fs *fs, const vx_cred *c, uint64_t base, const char *path, size_t n, int follow, vx_attr *out) noexcept nogil

# Change events for one cache-keeping frontend: attach answers an origin (> 0), wait blocks until there is an event
# (timeout_ms < 0: for ever), answers 1, 0 on timeout or -ESHUTDOWN after detach.  When events were lost because the
# frontend was too slow, kind is 0: everything it caches may be stale.
cdef int fs_events_attach(vx_fs *fs) noexcept nogil
cdef int fs_events_wait(vx_fs *fs, int origin, int timeout_ms, vx_event *out) noexcept nogil
cdef void fs_events_detach(vx_fs *fs, int origin) noexcept nogil

cdef class Filesystem:
    cdef vx_fs *fs
    cdef object _path
    cdef vx_fs *handle(self) except NULL
