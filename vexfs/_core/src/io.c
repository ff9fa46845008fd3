/* System calls that change the disk, each seen by the recorder and the fault injector when one is switched on.
 *
 * Unwatched, a call costs one relaxed load more than the system call alone. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "iowatch.h"
#include "vexfs/io.h"

static int retried(int result)
{
    return result < 0 && errno == EINTR;
}

int vx_io_open(const char *path, int flags, mode_t mode)
{
    vx_iowatch *w = vx_iowatch_enter();
    int kind = VX_IO_OPEN, fd, err = 0;
    if (w) {
        struct stat st;
        if ((flags & O_CREAT) && lstat(path, &st) < 0)
            kind = VX_IO_CREATE;
        err = vx_iowatch_fault(w, kind);
    }
    do
        fd = err ? err : open(path, flags | O_CLOEXEC, mode);
    while (!err && retried(fd));
    if (!err && fd < 0)
        fd = -errno;
    if (w) {
        if (fd >= 0) {
            vx_iowatch_opened(w, kind, fd, path);
            if (flags & O_TRUNC && kind == VX_IO_OPEN)
                vx_iowatch_on_file(w, VX_IO_TRUNCATE, fd, 0);
        }
        vx_iowatch_leave(w);
    }
    return fd;
}

int vx_io_close(int fd)
{
    vx_iowatch *w = vx_iowatch_enter();
    int err = w ? vx_iowatch_fault(w, VX_IO_CLOSE) : 0;
    if (close(fd) < 0 && errno != EINTR && !err) /* after EINTR Linux has closed it */
        err = -errno;
    if (w) {
        vx_iowatch_closed(w, fd);
        vx_iowatch_leave(w);
    }
    return err;
}

ssize_t vx_io_pread(int fd, void *buf, size_t n, off_t off)
{
    char *p = buf;
    size_t done = 0;
    vx_iowatch *w = vx_iowatch_enter();
    if (w) {
        int err = vx_iowatch_fault(w, VX_IO_READ);
        vx_iowatch_leave(w);
        if (err)
            return err;
    }
    while (done < n) {
        ssize_t got = pread(fd, p + done, n - done, off + (off_t)done);
        if (got > 0)
            done += (size_t)got;
        else if (got == 0 || (errno == EINVAL && done)) /* EINVAL: a direct read goes on from an unaligned end */
            break;
        else if (errno != EINTR)
            return -errno;
    }
    return (ssize_t)done;
}

int vx_io_pwrite(int fd, const void *buf, size_t n, off_t off)
{
    struct iovec one = {.iov_base = (void *)(uintptr_t)buf, .iov_len = n};
    return vx_io_pwritev(fd, &one, 1, off);
}

#define PIECES_MAX 1024 /* what Linux takes in one call */

/* Writes everything or fails; `*done` tells how far it came. */
static int write_all(int fd, const struct iovec *iov, int count, off_t off, uint64_t *done)
{
    size_t skip = 0; /* bytes of iov[0] that are written */
    while (count > 0) {
        ssize_t put;
        off_t at = off + (off_t)*done;
        if (skip) /* the rest of a piece, after a short write */
            put = pwrite(fd, (char *)iov->iov_base + skip, iov->iov_len - skip, at);
        else
            put = pwritev(fd, iov, count < PIECES_MAX ? count : PIECES_MAX, at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        *done += (uint64_t)put;
        skip += (size_t)put;
        int moved = 0;
        while (count > 0 && skip >= iov->iov_len) {
            skip -= iov->iov_len;
            iov++;
            count--;
            moved = 1;
        }
        if (put == 0 && !moved)
            return -EIO; /* a file that takes no byte and gives no reason */
    }
    return 0;
}

int vx_io_pwritev(int fd, const struct iovec *iov, int count, off_t off)
{
    uint64_t done = 0;
    vx_iowatch *w = vx_iowatch_enter();
    int err = w ? vx_iowatch_fault(w, VX_IO_WRITE) : 0;
    if (!err)
        err = write_all(fd, iov, count, off, &done);
    if (w) {
        if (done)
            vx_iowatch_written(w, fd, iov, count, (uint64_t)off, done);
        vx_iowatch_leave(w);
    }
    return err;
}

/* A file's new size; `from` of it: longer, with room on the disk for what comes from there on. */
static int resize(int fd, const off_t *from, off_t size)
{
    vx_iowatch *w = vx_iowatch_enter();
    int err = w ? vx_iowatch_fault(w, VX_IO_TRUNCATE) : 0, done;
    do
        done = err ? 0 : from ? fallocate(fd, 0, *from, size - *from) : ftruncate(fd, size);
    while (retried(done));
    if (done < 0)
        err = -errno;
    if (w) {
        if (!err)
            vx_iowatch_on_file(w, VX_IO_TRUNCATE, fd, (uint64_t)size);
        vx_iowatch_leave(w);
    }
    return err;
}

int vx_io_ftruncate(int fd, off_t size)
{
    return resize(fd, NULL, size);
}

int vx_io_allocate(int fd, off_t from, off_t size)
{
    return resize(fd, &from, size);
}

int vx_io_fdatasync(int fd)
{
    vx_iowatch *w = vx_iowatch_enter();
    int err = w ? vx_iowatch_fault(w, VX_IO_SYNC) : 0;
    if (!err && fdatasync(fd) < 0)
        err = -errno;
    if (w) {
        if (!err)
            vx_iowatch_on_file(w, VX_IO_SYNC, fd, 0);
        vx_iowatch_leave(w);
    }
    return err;
}

int vx_io_unlink(const char *path)
{
    vx_iowatch *w = vx_iowatch_enter();
    int err = w ? vx_iowatch_fault(w, VX_IO_UNLINK) : 0;
    if (!err && unlink(path) < 0)
        err = -errno;
    if (w) {
        if (!err)
            vx_iowatch_on_path(w, VX_IO_UNLINK, path);
        vx_iowatch_leave(w);
    }
    return err;
}

int vx_io_rename(const char *from, const char *to)
{
    vx_iowatch *w = vx_iowatch_enter();
    int err = w ? vx_iowatch_fault(w, VX_IO_RENAME) : 0;
    if (!err && rename(from, to) < 0)
        err = -errno;
    if (w) {
        if (!err)
            vx_iowatch_renamed(w, from, to);
        vx_iowatch_leave(w);
    }
    return err;
}

int vx_io_syncdir(const char *dir)
{
    vx_iowatch *w = vx_iowatch_enter();
    int err = w ? vx_iowatch_fault(w, VX_IO_SYNCDIR) : 0;
    if (!err) {
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) < 0)
            err = -errno;
        if (fd >= 0)
            close(fd);
    }
    if (w) {
        if (!err)
            vx_iowatch_on_path(w, VX_IO_SYNCDIR, dir);
        vx_iowatch_leave(w);
    }
    return err;
}
