"""The filesystem operations for other compiled modules: the C functions of ``vexfs/fs.h`` by short names.

Every ``fs_*`` function takes the filesystem first and outputs last, never touches Python, may be called from any
thread without the GIL, and answers 0 (or a count) or a negative errno.  ``vexfs/fs.h`` has the semantics.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from vexfs._core.bridge cimport vx_bridge
from vexfs._core.frame cimport vx_frames
from vexfs._core.pool cimport vx_pool


cdef extern from "vexfs/fs.h" nogil:
    enum:
        VX_ROOT_INO
        VX_NAME_MAX
        VX_SET_MODE
        VX_SET_UID
        VX_SET_GID
        VX_SET_SIZE
        VX_SET_ATIME
        VX_SET_MTIME
        VX_SET_ATIME_NOW
        VX_SET_MTIME_NOW
        VX_SET_CTIME
        VX_WRITE_APPEND
        VX_RENAME_NOREPLACE
        VX_RENAME_EXCHANGE
        VX_XATTR_CREATE
        VX_XATTR_REPLACE
        VX_EVENT_INODE
        VX_EVENT_ENTRY
        VX_OP_COUNT
        VX_OP_MAX
        VX_ERRNO_MAX

    const char *const vx_op_names[]

    ctypedef struct vx_attr:
        uint64_t ino
        uint64_t size
        uint64_t blocks
        uint64_t rdev
        uint64_t generation
        int64_t atime_ns
        int64_t mtime_ns
        int64_t ctime_ns
        int64_t btime_ns
        uint32_t mode
        uint32_t nlink
        uint32_t uid
        uint32_t gid

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
        uint64_t blocks
        uint64_t bfree
        uint64_t bavail
        uint64_t files
        uint64_t ffree

    ctypedef struct vx_event:
        uint32_t kind
        uint32_t content
        uint64_t ino
        uint32_t name_n
        char name[256]

    ctypedef int (*vx_filldir)(void *ctx, const char *name, size_t n, uint64_t ino, uint32_t type,
                               uint64_t cookie) noexcept nogil

    ctypedef struct vx_fs:
        pass

    ctypedef struct vx_fs_options:
        const char *dir
        const unsigned char *meta_key
        const unsigned char *data_key
        uint32_t create
        uint32_t read_only
        uint32_t compression
        uint32_t direct_io
        uint32_t io_depth
        uint64_t cache_bytes
        uint64_t prefetch_bytes
        uint64_t dirty_limit
        uint64_t segment_bytes
        uint64_t size_limit
        uint64_t inode_cache
        uint64_t log_limit
        uint32_t commit_ops
        uint32_t commit_delay_ms
        uint32_t atime
        uint32_t root_uid
        uint32_t root_gid
        vx_pool *pool
        vx_frames *frames
        vx_bridge *bridge

    ctypedef struct vx_fs_status:
        uint64_t files
        uint64_t inodes_cached
        uint64_t dentries_cached
        uint64_t regions_cached
        uint64_t used_bytes
        uint64_t limit_bytes
        uint64_t live_bytes
        uint64_t dead_bytes
        uint64_t free_bytes
        uint64_t disk_bytes
        uint64_t segments
        uint64_t dirty_bytes
        uint64_t frozen_bytes
        uint64_t dirty_ops
        uint64_t epoch
        uint64_t committed
        uint64_t forgotten
        uint64_t durable
        uint64_t commits
        uint64_t syncs
        uint64_t commit_errors
        uint64_t reclaimed_bytes
        uint64_t reclaimed_segments
        uint64_t throttled
        uint64_t inode_hits
        uint64_t inode_misses
        uint64_t dentry_hits
        uint64_t dentry_misses
        uint64_t data_hits
        uint64_t data_misses
        uint64_t cached_bytes
        uint64_t prefetches
        uint32_t direct_io
        uint64_t lock_waits
        uint64_t lock_wait_ns
        uint64_t place_ns
        uint64_t apply_ns
        uint64_t sync_ns
        uint64_t ops[64]
        uint64_t errnos[134]
        int32_t last_error
        char last_error_text[256]

    ctypedef int (*vx_progress)(void *ctx, uint64_t done, uint64_t total) noexcept nogil
    ctypedef int (*vx_backup_progress)(void *ctx, int done, int total) noexcept nogil
    ctypedef int (*vx_change_fn)(void *ctx, uint64_t seq, const void *data, size_t n) noexcept nogil

    int fs_open_volume "vx_fs_open_volume"(vx_fs **out, const vx_fs_options *o, char *message, size_t size)
    int fs_close_volume "vx_fs_close_volume"(vx_fs *fs)
    int fs_lookup "vx_fs_lookup"(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, vx_attr *out)
    void fs_forget "vx_fs_forget"(vx_fs *fs, uint64_t ino, uint64_t count)
    int fs_getattr "vx_fs_getattr"(vx_fs *fs, uint64_t ino, vx_attr *out)
    int fs_setattr "vx_fs_setattr"(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t fields, const vx_attr *value,
                                   vx_attr *out)
    int fs_access "vx_fs_access"(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t mask)
    int fs_mknod "vx_fs_mknod"(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n,
                               uint32_t mode, uint64_t rdev, vx_attr *out)
    int fs_mkdir "vx_fs_mkdir"(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n,
                               uint32_t mode, vx_attr *out)
    int fs_symlink "vx_fs_symlink"(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n,
                                   const char *target, size_t tn, vx_attr *out)
    int fs_readlink "vx_fs_readlink"(vx_fs *fs, uint64_t ino, char *buf, size_t cap)
    int fs_link "vx_fs_link"(vx_fs *fs, const vx_cred *c, uint64_t ino, uint64_t parent, const char *name, size_t n,
                             vx_attr *out)
    int fs_unlink "vx_fs_unlink"(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n)
    int fs_rmdir "vx_fs_rmdir"(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n)
    int fs_rename "vx_fs_rename"(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n,
                                 uint64_t new_parent, const char *new_name, size_t new_n, uint32_t flags)
    int fs_room "vx_fs_room"(vx_fs *fs, uint64_t ino, uint64_t bytes)
    int fs_create "vx_fs_create"(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n,
                                 uint32_t mode, uint32_t flags, vx_attr *out)
    int fs_tmpfile "vx_fs_tmpfile"(vx_fs *fs, const vx_cred *c, uint64_t parent, uint32_t mode, uint32_t flags,
                                   vx_attr *out)
    int fs_open "vx_fs_open"(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t flags)
    void fs_release "vx_fs_release"(vx_fs *fs, uint64_t ino)
    int fs_data "vx_fs_data"(vx_fs *fs, uint64_t ino, uint64_t off, uint64_t *begin, uint64_t *end)
    int64_t fs_read "vx_fs_read"(vx_fs *fs, uint64_t ino, uint64_t off, void *dst, size_t n)
    int64_t fs_write "vx_fs_write"(vx_fs *fs, const vx_cred *c, uint64_t ino, uint64_t off, const void *src,
                                   size_t n, uint32_t flags)
    int fs_fallocate "vx_fs_fallocate"(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t mode, uint64_t off,
                                       uint64_t n)
    int fs_flush "vx_fs_flush"(vx_fs *fs, uint64_t ino)
    int fs_fsync "vx_fs_fsync"(vx_fs *fs, uint64_t ino, int datasync)
    int fs_opendir "vx_fs_opendir"(vx_fs *fs, const vx_cred *c, uint64_t ino)
    void fs_releasedir "vx_fs_releasedir"(vx_fs *fs, uint64_t ino)
    int fs_readdir "vx_fs_readdir"(vx_fs *fs, uint64_t ino, uint64_t cookie, int attrs, vx_filldir fill, void *ctx)
    int fs_statfs "vx_fs_statfs"(vx_fs *fs, vx_statfs *out)
    int64_t fs_getxattr "vx_fs_getxattr"(vx_fs *fs, uint64_t ino, const char *name, size_t n, void *value, size_t cap)
    int fs_xattrs_full "vx_fs_xattrs_full"(vx_fs *fs, uint64_t ino, const char *name, size_t n, size_t vn)
    int fs_setxattr "vx_fs_setxattr"(vx_fs *fs, const vx_cred *c, uint64_t ino, const char *name, size_t n,
                                     const void *value, size_t vn, uint32_t flags)
    int64_t fs_listxattr "vx_fs_listxattr"(vx_fs *fs, uint64_t ino, char *buf, size_t cap)
    int fs_removexattr "vx_fs_removexattr"(vx_fs *fs, const vx_cred *c, uint64_t ino, const char *name, size_t n)
    int fs_walk "vx_fs_walk"(vx_fs *fs, const vx_cred *c, uint64_t base, const char *path, size_t n, int follow,
                             vx_attr *out)
    int fs_events_attach "vx_fs_events_attach"(vx_fs *fs, int content_only)
    int fs_events_wait "vx_fs_events_wait"(vx_fs *fs, int origin, int timeout_ms, vx_event *out)
    int fs_events_take "vx_fs_events_take"(vx_fs *fs, int origin, vx_event *out, int cap)
    void fs_events_detach "vx_fs_events_detach"(vx_fs *fs, int origin)
    int fs_walk_parent "vx_fs_walk_parent"(vx_fs *fs, const vx_cred *c, uint64_t base, const char *path, size_t n,
                                           uint64_t *parent, const char **name, size_t *name_n, int *dir)
    int fs_path_of "vx_fs_path_of"(vx_fs *fs, uint64_t ino, char *buf, size_t cap)
    void fs_read_status "vx_fs_read_status"(vx_fs *fs, vx_fs_status *out)
    void fs_drop_caches "vx_fs_drop_caches"(vx_fs *fs)
    int fs_compact "vx_fs_compact"(vx_fs *fs, unsigned dead_share, vx_progress progress, void *ctx, uint32_t *left)
    int fs_hold "vx_fs_hold"(vx_fs *fs)
    void fs_unhold "vx_fs_unhold"(vx_fs *fs)
    int fs_backup_meta "vx_fs_backup_meta"(vx_fs *fs, const char *path, vx_backup_progress progress, void *ctx)
    int fs_changes "vx_fs_changes"(vx_fs *fs, uint64_t since, uint32_t limit, vx_change_fn fn, void *ctx)
