"""An open volume for other compiled modules."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from vexfs._core.ops cimport vx_cred, vx_fs

ctypedef struct gathered:
    char *data
    size_t n
    size_t cap
    uint32_t count

cdef object failed(int64_t status, path=*, path2=*)
cdef object attributes_failed(int64_t status, name, bint full)
cdef bytes encoded(path)
cdef list records(gathered *g)
cdef int gather_entry(void *ctx, const char *name, size_t n, uint64_t ino, uint32_t type,
                      uint64_t cookie) noexcept nogil


cdef class Opened:
    cdef vx_fs *fs
    cdef object path
    cdef object keep          # pool, frames and bridge: they outlive the filesystem
    cdef vx_cred cred
    cdef int busy             # calls under way
    cdef bint foreign         # a forked child's copy of what its parent has open
    cdef vx_fs *handle(self) except NULL
    cdef vx_fs *enter(self) except NULL
