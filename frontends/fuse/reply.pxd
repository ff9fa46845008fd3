from libc.stdint cimport int64_t, uint32_t, uint64_t

from vexfs._core.fs cimport vx_attr
from vexfs.frontends.fuse.adapter cimport Adapter

cdef struct Row:
    uint64_t ino, cookie
    uint32_t type, name_n

cdef enum:
    BATCH = 4096       # holds about as many entries as what the kernel asks for at once

cdef struct Batch:
    size_t used
    char rows[BATCH]

# Writes attributes and timeouts in seconds into an llfuse.EntryAttributes.
cdef int fill_entry(object entry, const vx_attr *a, double attr_timeout, double entry_timeout) except -1

# A time, in nanoseconds, that the kernel wants set: what 64 bits do not hold becomes the nearest that they do.
cdef int64_t storable(object ns) except? -1

cdef class Listing:
    cdef Adapter adapter
    cdef object entry
    cdef uint64_t ino, cookie
    cdef size_t at
    cdef Batch batch
