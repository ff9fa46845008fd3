"""Who answers for the attribute ``user.vexfs.vector``: the filesystem asks, whoever has the indexes answers."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from vexfs._core.fs cimport Filesystem
from vexfs._core.ops cimport vx_fs
from vexfs._core.rows cimport vx_fs_vector_hooks, vx_vector_hooks

from vexfs.errors import row_of

__all__ = ["stand_behind"]


cdef int64_t get_vector(void *ctx, uint64_t ino, void *value, size_t cap) noexcept with gil:
    cdef bytes b
    try:
        b = (<object>ctx).get_vector(ino)
        if not cap or <size_t>PyBytes_GET_SIZE(b) > cap:
            return -34 if cap else PyBytes_GET_SIZE(b)  # ERANGE
        memcpy(value, PyBytes_AS_STRING(b), PyBytes_GET_SIZE(b))
        return PyBytes_GET_SIZE(b)
    except BaseException as error:
        return -row_of(error).errno


cdef int set_vector(void *ctx, uint64_t ino, const void *value, size_t n) noexcept with gil:
    try:
        (<object>ctx).set_vector(ino, None if value is NULL else PyBytes_FromStringAndSize(<const char *>value, n))
        return 0
    except BaseException as error:
        return -row_of(error).errno


def stand_behind(Filesystem fs not None, catalog):
    """Let `catalog` answer for the attribute ``user.vexfs.vector``: ``get_vector(ino)`` and ``set_vector(ino, value)``,
    value None to take it away; what they raise is answered as an errno.  None: nobody answers any more."""
    cdef vx_vector_hooks h
    cdef vx_vector_hooks *p = NULL
    cdef vx_fs *at = fs.enter()
    if catalog is not None:
        h.get, h.set, h.ctx = get_vector, set_vector, <void *>catalog
        p = &h
    with nogil:
        vx_fs_vector_hooks(at, p)
    fs.busy -= 1
