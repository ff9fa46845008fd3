"""The kernel's requests and their answers, as ``linux/fuse.h`` has them."""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t

cdef extern from "<linux/fuse.h>" nogil:
    """
    #include <linux/stat.h>
    #include <string.h>
    #include <sys/sysmacros.h>
    #include <time.h>

    #if FUSE_KERNEL_MINOR_VERSION < 37
    #define FUSE_TMPFILE 51
    #endif
    #ifndef FUSE_WRITE_KILL_SUIDGID
    #define FUSE_WRITE_KILL_SUIDGID (1 << 2)
    #endif

    #define VX_FUSE_STATX 52 /* protocol 7.39; struct fuse_statx has the layout of struct statx */
    struct vx_statx_out {
        struct fuse_out_header head;
        uint64_t attr_valid;
        uint32_t attr_valid_nsec, flags;
        uint64_t spare[2];
        struct statx stat;
    };

    static inline void vx_count(uint64_t *counter) { __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); }
    static inline int vx_add(int *number, int n) { return __atomic_add_fetch(number, n, __ATOMIC_RELAXED); }
    static inline void vx_time(int64_t ns, uint64_t *s, uint32_t *rest)
    {
        int64_t whole = ns / 1000000000, left = ns % 1000000000;
        if (left < 0) { /* before 1970 */
            left += 1000000000;
            whole--;
        }
        *s = (uint64_t)whole;
        *rest = (uint32_t)left;
    }
    /* What 64 bits do not hold becomes the nearest that they do. */
    static inline int64_t vx_ns(uint64_t s, uint32_t rest)
    {
        int64_t ns;
        const int64_t whole = (int64_t)s;
        if (__builtin_mul_overflow(whole, (int64_t)1000000000, &ns) || __builtin_add_overflow(ns, (int64_t)rest, &ns))
            return whole < 0 ? INT64_MIN : INT64_MAX;
        return ns;
    }
    static inline struct statx_timestamp vx_stamp(int64_t ns)
    {
        uint64_t s;
        uint32_t rest;
        vx_time(ns, &s, &rest);
        return (struct statx_timestamp){.tv_sec = (int64_t)s, .tv_nsec = rest};
    }
    static inline int64_t vx_clock(void)
    {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }
    """
    size_t strnlen(const char *text, size_t most)
    void vx_count(uint64_t *counter)
    int vx_add(int *number, int n)
    void vx_time(int64_t ns, uint64_t *s, uint32_t *rest)
    int64_t vx_ns(uint64_t s, uint32_t rest)
    int64_t vx_clock()
    statx_timestamp vx_stamp(int64_t ns)
    unsigned major(uint64_t device)
    unsigned minor(uint64_t device)

    enum:
        FUSE_LOOKUP, FUSE_FORGET, FUSE_GETATTR, FUSE_UNLINK, FUSE_RENAME, FUSE_OPEN, FUSE_READ, FUSE_WRITE
        FUSE_RELEASE, FUSE_FSYNC, FUSE_OPENDIR, FUSE_RELEASEDIR, FUSE_CREATE, FUSE_BATCH_FORGET, FUSE_RENAME2
        FUSE_GETXATTR, FUSE_FLUSH, FUSE_SETATTR, FUSE_READDIR, FUSE_READDIRPLUS
        FUSE_MKNOD, FUSE_MKDIR, FUSE_SYMLINK, FUSE_LINK, FUSE_RMDIR, FUSE_READLINK, FUSE_INTERRUPT
        FUSE_FALLOCATE, FUSE_TMPFILE
        FATTR_MODE, FATTR_UID, FATTR_GID, FATTR_SIZE, FATTR_ATIME, FATTR_MTIME, FATTR_ATIME_NOW, FATTR_MTIME_NOW
        FOPEN_KEEP_CACHE, FUSE_WRITE_KILL_SUIDGID, STATX_BASIC_STATS, STATX_BTIME, VX_FUSE_STATX

    struct statx_timestamp:
        pass
    struct statx:
        uint32_t stx_mask, stx_blksize, stx_nlink, stx_uid, stx_gid, stx_rdev_major, stx_rdev_minor
        uint16_t stx_mode
        uint64_t stx_ino, stx_size, stx_blocks
        statx_timestamp stx_atime, stx_btime, stx_ctime, stx_mtime
    struct vx_statx_out:
        uint64_t attr_valid
        uint32_t attr_valid_nsec
        statx stat

    struct fuse_in_header:
        uint32_t len, opcode, uid, gid, pid
        uint64_t unique, nodeid
    struct fuse_out_header:
        uint32_t len
        int32_t error
        uint64_t unique
    struct fuse_attr:
        uint64_t ino, size, blocks, atime, mtime, ctime
        uint32_t atimensec, mtimensec, ctimensec, mode, nlink, uid, gid, rdev, blksize
    struct fuse_entry_out:
        uint64_t nodeid, entry_valid, attr_valid
        uint32_t entry_valid_nsec, attr_valid_nsec
        fuse_attr attr
    struct fuse_attr_out:
        uint64_t attr_valid
        uint32_t attr_valid_nsec
        fuse_attr attr
    struct fuse_open_out:
        uint64_t fh
        uint32_t open_flags
    struct fuse_write_out:
        uint32_t size
    struct fuse_setattr_in:
        uint32_t valid, atimensec, mtimensec, mode, uid, gid
        uint64_t size, atime, mtime
    struct fuse_dirent:
        uint64_t ino, off
        uint32_t namelen, type
    struct fuse_getxattr_in:
        uint32_t size
    struct fuse_getxattr_out:
        uint32_t size
    struct fuse_forget_in:
        uint64_t nlookup
    struct fuse_forget_one:
        uint64_t nodeid, nlookup
    struct fuse_batch_forget_in:
        uint32_t count
    struct fuse_mknod_in:
        uint32_t mode, rdev
    struct fuse_mkdir_in:
        uint32_t mode
    struct fuse_link_in:
        uint64_t oldnodeid
    struct fuse_rename_in:
        uint64_t newdir
    struct fuse_rename2_in:
        uint64_t newdir
        uint32_t flags
    struct fuse_open_in:
        uint32_t flags
    struct fuse_create_in:
        uint32_t flags, mode
    struct fuse_release_in:
        uint64_t fh
    struct fuse_read_in:
        uint64_t fh, offset
        uint32_t size
    struct fuse_write_in:
        uint64_t fh, offset
        uint32_t size, write_flags
    struct fuse_fallocate_in:
        uint64_t fh, offset, length
        uint32_t mode
    struct fuse_fsync_in:
        uint64_t fh
        uint32_t fsync_flags
