/* Every system call by which the store changes what is on disk.
 *
 * One table of calls serves the segment engine, the SQLite VFS and the volume file, so that one recorder sees every
 * write, sync, truncation, rename and removal in order.  The power-cut simulator replays a recording up to any point
 * and drops or tears what was not synced.
 *
 * All functions return 0 (or a count) or a negative errno.  Paths are absolute or relative to the working directory;
 * a recording keeps them relative to the volume's directory. */
#ifndef VEXFS_IO_H
#define VEXFS_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The record kinds of a trace, and the bits of vx_io_fault. */
enum vx_io_kind {
    VX_IO_READ, /* never recorded; here so that reads can be made to fail */
    VX_IO_CREATE,
    VX_IO_WRITE,
    VX_IO_TRUNCATE,
    VX_IO_SYNC,
    VX_IO_UNLINK,
    VX_IO_RENAME,
    VX_IO_SYNCDIR,
    VX_IO_CLOSE,
    VX_IO_OPEN,
    VX_IO_MARK,
    VX_IO_KINDS
};

/* Opens `path`; `flags` as open(2) with O_CLOEXEC added.  Returns a descriptor or -errno. */
int vx_io_open(const char *path, int flags, mode_t mode);
int vx_io_close(int fd);
/* Reads exactly `n` bytes, or fewer only at the end of the file: the count, or -errno. */
ssize_t vx_io_pread(int fd, void *buf, size_t n, off_t off);
/* Writes all `n` bytes: 0 or -errno (short writes are continued, EINTR retried). */
int vx_io_pwrite(int fd, const void *buf, size_t n, off_t off);
int vx_io_pwritev(int fd, const struct iovec *iov, int count, off_t off);
int vx_io_ftruncate(int fd, off_t size);
/* Makes the file at least `size` bytes long, with room on the disk for those from `from` on, which read as zeros;
 * -EOPNOTSUPP where the host cannot.  Recorded and made to fail as a truncation. */
int vx_io_allocate(int fd, off_t from, off_t size);
int vx_io_fdatasync(int fd);
int vx_io_unlink(const char *path);
int vx_io_rename(const char *from, const char *to);
/* Syncs the directory itself, so that created, renamed and removed names are durable. */
int vx_io_syncdir(const char *dir);

/* Recording: appends one record per call above to `trace` (process wide; 0 or -errno).  Record, little endian:
 *   u8 kind  u8[3] zero  u32 fd_id  u64 offset  u64 length  then `length` bytes: data of a write, path of an open,
 *   unlink or syncdir, "from\0to" of a rename, nothing for sync, truncate (offset = new size) and close.
 * kinds: 1 open-create 2 write 3 truncate 4 sync 5 unlink 6 rename 7 syncdir 8 close 9 open-existing 10 mark
 * Paths are kept relative to `root` ("." for itself).  Calls on files outside `root` and failed calls are not recorded;
 * of a write that failed half way the part that was written is.  A file that was open before the recording began gets
 * an open-existing record at its first call.  While recording, calls run one at a time, so the order in the trace is
 * the order on disk.  start: -EBUSY when already recording; mark and stop: -EINVAL when not, else any error that the
 * trace itself met.  The state is one per process, whichever extension module makes the call. */
int vx_io_record_start(const char *trace, const char *root);
int vx_io_record_mark(const void *data, size_t n);
int vx_io_record_stop(void);

/* Fault injection for tests: after `after` more successful calls of the `kinds` (bit k for record kind k), calls fail
 * with `err` (a positive errno) until cleared with err = 0.  A close that is made to fail has closed all the same. */
void vx_io_fault(uint32_t kinds, int64_t after, int err);

#ifdef __cplusplus
}
#endif
#endif
