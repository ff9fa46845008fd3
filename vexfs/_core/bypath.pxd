"""The operations by path for other compiled modules."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from vexfs._core.opened cimport Opened
from vexfs._core.ops cimport vx_attr


cdef class Stat:
    cdef vx_attr a


cdef extern from *:
    """
    #define VX_UNTRIED (-4096) /* no operation answers that */
    """
    int UNTRIED "VX_UNTRIED"


cdef Stat made(const vx_attr *a)


cdef class ByPath(Opened):
    cdef int walk(self, path, bint follow, vx_attr *a) except -1
    cdef bint leads(self, int64_t rc, path, bint follow, vx_attr *a) except -1
    cdef int walk_parent(self, path, bytes p, uint64_t *parent, const char **name, size_t *n, int *is_dir,
                         int root=*) except -1
    cdef int new_name(self, path, bytes p, uint64_t *parent, const char **name, size_t *n, source=*) except -1
    cdef int remove(self, path, bint directory) except -1
    cdef int set(self, path, bint follow, uint32_t fields, vx_attr *a) except -1
