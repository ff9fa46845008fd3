"""C declarations of the recorded system calls, for the extensions that make them."""

from libc.stdint cimport int64_t, uint32_t
from posix.types cimport mode_t, off_t


cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len


cdef extern from "vexfs/io.h" nogil:
    int vx_io_open(const char *path, int flags, mode_t mode)
    int vx_io_close(int fd)
    ssize_t vx_io_pread(int fd, void *buf, size_t n, off_t off)
    int vx_io_pwrite(int fd, const void *buf, size_t n, off_t off)
    int vx_io_ftruncate(int fd, off_t size)
    int vx_io_fdatasync(int fd)
    int vx_io_unlink(const char *path)
    int vx_io_rename(const char *source, const char *target)
    int vx_io_syncdir(const char *directory)
    int vx_io_record_start(const char *trace, const char *root)
    int vx_io_record_mark(const void *data, size_t n)
    int vx_io_record_stop()
    void vx_io_fault(uint32_t kinds, int64_t after, int err)
