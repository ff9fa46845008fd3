"""What all request handlers of one mount share."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from vexfs._core.fs cimport vx_attr, vx_cred
from vexfs.frontends.fuse.adapter cimport Adapter

cdef enum:
    R_LOOKUP, R_FORGET, R_MKNOD, R_MKDIR, R_SYMLINK, R_LINK, R_UNLINK, R_RMDIR, R_RENAME, R_GETATTR, R_SETATTR
    R_READLINK, R_ACCESS, R_STATFS, R_GETXATTR, R_SETXATTR, R_LISTXATTR, R_REMOVEXATTR, R_CREATE, R_OPEN
    R_READ, R_WRITE, R_FLUSH, R_RELEASE, R_FSYNC, R_OPENDIR, R_READDIR, R_FSYNCDIR, R_RELEASEDIR, R_FALLOCATE
    R_COUNT
    READERS = 64       # threads that list directories, of which is known what they want

cdef class Handler:
    cdef readonly Adapter adapter
    cdef uint64_t requests[R_COUNT]   # begun, by kind; the interpreter's lock guards them
    cdef uint64_t taken[R_COUNT]      # by frontends.fuse.direct; atomic
    cdef uint64_t readers[READERS]    # threads that list: twice their number, and 1 for those that look names up then
    cdef double attr_timeout, entry_timeout, negative_timeout
    cdef int64_t attr_ns, entry_ns, negative_ns
    cdef object negative, ready, lock
    cdef int crowd               # an eventfd, or -1
    cdef public int workers      # threads that answer requests now
    cdef readonly int waiting    # of them, those that wait for the disk; atomic
    cdef public bint retire      # the next statfs ends one worker

    cdef object answer(self, error, str operation)
    cdef object entry(self, const vx_attr *attr)
    cdef vx_cred cred(self, ctx)
    cdef void ask_for_workers(self) noexcept nogil
    cdef int begin_wait(self) except -1
    cdef int end_wait(self) except -1


cdef inline uint64_t *reader_of(Handler handler, uint32_t thread) noexcept nogil:
    return &handler.readers[thread % READERS]
