/* The filesystem operations: what a VexFS is.  Every frontend calls these; a frontend only translates.
 *
 * Any thread may call; nothing here touches Python.  A function answers 0 (or a count) or a negative errno.  Names are
 * bytes without NUL and slash, not terminated.  Files are addressed by inode number; an open file is the inode number
 * with an open count on it (open and create add, release takes away), so that an unlinked file lives as long as
 * somebody has it open or remembers it (a lookup that was not forgotten). */
#ifndef VEXFS_FS_H
#define VEXFS_FS_H

#include <stddef.h>
#include <stdint.h>

#include "vexfs/bridge.h"
#include "vexfs/frame.h"
#include "vexfs/pool.h"

enum { VX_PATH_MAX = 1 << 20 }; /* bytes of a path that is walked; the kernel has a limit of its own on a mount */
enum { VX_ROOT_INO = 1, VX_NAME_MAX = 255, VX_SYMLINK_MAX = 4095, VX_XATTR_VALUE_MAX = 65536, VX_XATTR_LIST_MAX = 65536 };
enum { VX_SET_MODE = 1, VX_SET_UID = 2, VX_SET_GID = 4, VX_SET_SIZE = 8, VX_SET_ATIME = 16, VX_SET_MTIME = 32,
       VX_SET_ATIME_NOW = 64, VX_SET_MTIME_NOW = 128, VX_SET_CTIME = 256 };
enum { VX_WRITE_APPEND = 1 };
enum { VX_ALLOC_KEEP_SIZE = 1, VX_ALLOC_PUNCH_HOLE = 2, VX_ALLOC_ZERO_RANGE = 16 }; /* as <linux/falloc.h> has them */
enum { VX_RENAME_NOREPLACE = 1, VX_RENAME_EXCHANGE = 2, VX_RENAME_WHITEOUT = 4 }; /* as <linux/fs.h> has them */
enum { VX_XATTR_CREATE = 1, VX_XATTR_REPLACE = 2 };

typedef struct {
    uint64_t ino, size;
    uint64_t blocks; /* 512-byte units */
    uint64_t rdev;
    uint64_t generation; /* grows with every change of the content */
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
    uint32_t mode, nlink, uid, gid;
} vx_attr;

/* Who asks.  check = 1: the core checks permissions (a mount with default_permissions leaves that to the kernel; the
 * in-process owner has all rights).  remember = 1: an operation that answers the attr of a found or made entry also
 * counts one lookup on the inode (undone by vx_fs_forget).  origin: the frontend whose own changes are not reported
 * back to it; 0 = in-process. */
typedef struct {
    uint32_t uid, gid, umask, origin, check, remember, ngroups;
    const uint32_t *groups;
} vx_cred;

typedef struct {
    uint64_t blocks, bfree, bavail; /* of 4096 bytes */
    uint64_t files, ffree;
} vx_statfs;

enum { VX_EVENT_INODE = 1, VX_EVENT_ENTRY = 2 };

/* A change that a frontend with a cache has to hear of: attributes (and content, when set) of `ino`; or the entry
 * `name` of directory `ino` came, went or points elsewhere.  kind 0: events were lost, everything may be stale. */
typedef struct {
    uint32_t kind, content;
    uint64_t ino;
    uint32_t name_n;
    char name[256];
} vx_event;

/* Called for each entry; non-zero stops.  `cookie` goes to vx_fs_readdir to continue behind this entry. */
typedef int (*vx_filldir)(void *ctx, const char *name, size_t n, uint64_t ino, uint32_t type, uint64_t cookie);

typedef struct vx_fs vx_fs;

typedef struct {
    const char *dir;         /* the volume's directory: meta.db and segments/ live in it */
    const uint8_t *meta_key; /* 32 bytes each, or NULL: not encrypted */
    const uint8_t *data_key;
    uint32_t create, read_only;
    uint32_t compression, direct_io, io_depth;
    uint64_t cache_bytes, prefetch_bytes, dirty_limit, segment_bytes, size_limit;
    uint64_t inode_cache; /* inodes kept in memory */
    uint64_t log_limit;   /* the log of metadata is copied into the database when it is longer */
    uint32_t commit_ops, commit_delay_ms;
    uint32_t atime; /* 0 noatime, 1 relatime, 2 strictatime */
    uint32_t root_uid, root_gid;
    vx_pool *pool;     /* NULL: plain aligned allocation */
    vx_frames *frames; /* NULL: no accounting */
    vx_bridge *bridge; /* NULL: mutations are counted by the operation itself */
} vx_fs_options;

/* Opens the volume (or makes an empty one with create = 1).  On failure *message (size bytes) says what and where. */
int vx_fs_open_volume(vx_fs **out, const vx_fs_options *o, char *message, size_t size);
/* Writes everything out, syncs and closes.  The first error of that, or 0; the object is gone either way. */
int vx_fs_close_volume(vx_fs *fs);

int vx_fs_lookup(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, vx_attr *out);
void vx_fs_forget(vx_fs *fs, uint64_t ino, uint64_t count);
int vx_fs_getattr(vx_fs *fs, uint64_t ino, vx_attr *out);
int vx_fs_setattr(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t fields, const vx_attr *value, vx_attr *out);
int vx_fs_access(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t mask);
int vx_fs_mknod(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode, uint64_t rdev,
                vx_attr *out);
int vx_fs_mkdir(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode, vx_attr *out);
int vx_fs_symlink(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, const char *target,
                  size_t tn, vx_attr *out);
/* The length of the target (not terminated), or -errno. */
int vx_fs_readlink(vx_fs *fs, uint64_t ino, char *buf, size_t cap);
int vx_fs_link(vx_fs *fs, const vx_cred *c, uint64_t ino, uint64_t parent, const char *name, size_t n, vx_attr *out);
int vx_fs_unlink(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n);
int vx_fs_rmdir(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n);
int vx_fs_rename(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, uint64_t new_parent,
                 const char *new_name, size_t new_n, uint32_t flags);
/* Makes (or, without O_EXCL, finds) and opens a regular file. */
int vx_fs_create(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode,
                 uint32_t flags, vx_attr *out);
/* Makes and opens a regular file without a name; vx_fs_link may give it one, unless `flags` has O_EXCL. */
int vx_fs_tmpfile(vx_fs *fs, const vx_cred *c, uint64_t parent, uint32_t mode, uint32_t flags, vx_attr *out);
/* Adds an open count; flags as open(2): O_TRUNC is done here. */
int vx_fs_open(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t flags);
void vx_fs_release(vx_fs *fs, uint64_t ino);
/* The number of bytes, fewer than n only at the end of the file. */
int64_t vx_fs_read(vx_fs *fs, uint64_t ino, uint64_t off, void *dst, size_t n);
/* Where data is at or behind `off`: a stretch of at most a MiB, which may have zeros in it; both the file's size: nowhere. */
int vx_fs_data(vx_fs *fs, uint64_t ino, uint64_t off, uint64_t *begin, uint64_t *end);
/* Whether there is room for `bytes` as all that a file has, before that is given up; 1: it has something. */
int vx_fs_room(vx_fs *fs, uint64_t ino, uint64_t bytes);
int64_t vx_fs_write(vx_fs *fs, const vx_cred *c, uint64_t ino, uint64_t off, const void *src, size_t n,
                    uint32_t flags);
/* As fallocate(2): room for bytes off..off + n, which is looked for and not set aside; or zeros there. */
int vx_fs_fallocate(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t mode, uint64_t off, uint64_t n);
int vx_fs_flush(vx_fs *fs, uint64_t ino);
int vx_fs_fsync(vx_fs *fs, uint64_t ino, int datasync); /* ino 0: the whole volume */
int vx_fs_opendir(vx_fs *fs, const vx_cred *c, uint64_t ino);
void vx_fs_releasedir(vx_fs *fs, uint64_t ino);
/* "." and ".." first; cookie 0 starts.  attrs = 1: lookups of these entries follow, load their inodes too. */
int vx_fs_readdir(vx_fs *fs, uint64_t ino, uint64_t cookie, int attrs, vx_filldir fill, void *ctx);
int vx_fs_statfs(vx_fs *fs, vx_statfs *out);
/* The value's length; cap 0 asks only for that; -ERANGE when it does not fit, -ENODATA when absent. */
int64_t vx_fs_getxattr(vx_fs *fs, uint64_t ino, const char *name, size_t n, void *value, size_t cap);
int vx_fs_setxattr(vx_fs *fs, const vx_cred *c, uint64_t ino, const char *name, size_t n, const void *value, size_t vn,
                   uint32_t flags);
/* Why setting one answered -ENOSPC.  1: the file's attributes are as many as it can have; 0: the volume has no room. */
int vx_fs_xattrs_full(vx_fs *fs, uint64_t ino, const char *name, size_t n, size_t vn);
int64_t vx_fs_listxattr(vx_fs *fs, uint64_t ino, char *buf, size_t cap);
int vx_fs_removexattr(vx_fs *fs, const vx_cred *c, uint64_t ino, const char *name, size_t n);
/* Walks a path from `base`; follows symlinks (the last one only when `follow`). */
int vx_fs_walk(vx_fs *fs, const vx_cred *c, uint64_t base, const char *path, size_t n, int follow, vx_attr *out);
/* The directory and the last name of a path: *name points into `path`.  A trailing slash sets *dir. */
int vx_fs_walk_parent(vx_fs *fs, const vx_cred *c, uint64_t base, const char *path, size_t n, uint64_t *parent,
                      const char **name, size_t *name_n, int *dir);
/* A path that leads to the inode, from the root, starting with a slash; its length, or -errno. */
int vx_fs_path_of(vx_fs *fs, uint64_t ino, char *buf, size_t cap);

/* With `content_only` changes of attributes alone are not told, vectors of files among them. */
int vx_fs_events_attach(vx_fs *fs, int content_only);
int vx_fs_events_wait(vx_fs *fs, int origin, int timeout_ms, vx_event *out);
/* What has happened since the last call, at most `cap` events, without waiting; how many, or -ESHUTDOWN. */
int vx_fs_events_take(vx_fs *fs, int origin, vx_event *out, int cap);
void vx_fs_events_detach(vx_fs *fs, int origin);

#define VX_ERRNO_MAX 134 /* Linux's errnos; what is none is counted as 0 */

typedef struct {
    uint64_t files, inodes_cached, dentries_cached, regions_cached;
    uint64_t used_bytes, limit_bytes, live_bytes, dead_bytes, free_bytes, disk_bytes, segments;
    uint64_t dirty_bytes, frozen_bytes, dirty_ops, epoch, committed, durable;
    uint64_t forgotten; /* the last epoch whose changes are kept no longer, since the volume was opened */
    uint64_t commits, syncs, commit_errors, reclaimed_bytes, reclaimed_segments, opens, throttled;
    uint64_t inode_hits, inode_misses, dentry_hits, dentry_misses;
    uint64_t data_hits, data_misses, cached_bytes, prefetches; /* frames of file data */
    uint64_t lock_waits, lock_wait_ns; /* operations that found the filesystem's lock taken */
    uint64_t place_ns, apply_ns, sync_ns; /* commits: file data written, metadata applied; syncs of the log */
    uint64_t ops[VX_OP_MAX], errnos[VX_ERRNO_MAX];
    uint32_t direct_io;
    int32_t last_error;
    char last_error_text[256];
} vx_fs_status;

void vx_fs_read_status(vx_fs *fs, vx_fs_status *out);
void vx_fs_drop_caches(vx_fs *fs);
/* Copies out the live frames of segments with more than `dead_share` percent dead bytes; done/total in segments;
 * `left`: those that the host has no room to copy. */
int vx_fs_compact(vx_fs *fs, unsigned dead_share, int (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                  uint32_t *left);
/* Commits and syncs; then, until unhold, no segment goes: what the metadata names can be copied.  Holds nest, and
 * operations and commits go on. */
int vx_fs_hold(vx_fs *fs);
void vx_fs_unhold(vx_fs *fs);
/* Online copy of the metadata as of the last commit; while held, every segment that it names can be copied after. */
int vx_fs_backup_meta(vx_fs *fs, const char *path, int (*progress)(void *ctx, int done, int total), void *ctx);
typedef int (*vx_change_fn)(void *ctx, uint64_t seq, const void *data, size_t n);
int vx_fs_changes(vx_fs *fs, uint64_t since, uint32_t limit, vx_change_fn fn, void *ctx);

/* Operation numbers: of counters, frames and histograms. */
enum vx_op { VX_OP_LOOKUP, VX_OP_FORGET, VX_OP_GETATTR, VX_OP_SETATTR, VX_OP_ACCESS, VX_OP_MKNOD, VX_OP_MKDIR,
             VX_OP_SYMLINK, VX_OP_READLINK, VX_OP_LINK, VX_OP_UNLINK, VX_OP_RMDIR, VX_OP_RENAME, VX_OP_CREATE,
             VX_OP_OPEN, VX_OP_RELEASE, VX_OP_READ, VX_OP_WRITE, VX_OP_FLUSH, VX_OP_FSYNC, VX_OP_OPENDIR,
             VX_OP_RELEASEDIR, VX_OP_READDIR, VX_OP_STATFS, VX_OP_GETXATTR, VX_OP_SETXATTR, VX_OP_LISTXATTR,
             VX_OP_REMOVEXATTR, VX_OP_WALK, VX_OP_FALLOCATE, VX_OP_COUNT };
extern const char *const vx_op_names[VX_OP_COUNT];

#endif
