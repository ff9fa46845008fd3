"""What llfuse wants back from a handler: an entry's attributes, a directory's entries."""

from llfuse import EntryAttributes, FUSEError

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.stat cimport struct_stat

from vexfs._core.fs cimport vx_attr

cdef extern from *:
    """
    #include <sys/stat.h>

    /* What llfuse 1.5 keeps in an EntryAttributes: writing it directly costs a third of setting eleven properties.
     * The layout is checked against llfuse's own properties before it is trusted. */
    typedef struct {
        PyObject_HEAD
        unsigned long ino, generation;
        struct stat attr;
        double attr_timeout, entry_timeout;
        struct stat *pointer;
    } vx_llfuse_entry;

    static inline void vx_split_ns(int64_t ns, struct timespec *out)
    {
        out->tv_sec = ns / 1000000000;
        out->tv_nsec = ns % 1000000000;
        if (out->tv_nsec < 0) { /* before 1970 */
            out->tv_nsec += 1000000000;
            out->tv_sec--;
        }
    }
    static inline void vx_entry_times(vx_llfuse_entry *e, int64_t atime_ns, int64_t mtime_ns, int64_t ctime_ns)
    {
        vx_split_ns(atime_ns, &e->attr.st_atim);
        vx_split_ns(mtime_ns, &e->attr.st_mtim);
        vx_split_ns(ctime_ns, &e->attr.st_ctim);
    }
    """
    ctypedef struct vx_llfuse_entry:
        unsigned long ino
        struct_stat attr
        double attr_timeout
        double entry_timeout
        struct_stat *pointer
    void vx_entry_times(vx_llfuse_entry *e, int64_t atime_ns, int64_t mtime_ns, int64_t ctime_ns) noexcept nogil


cdef void fill_raw(vx_llfuse_entry *raw, const vx_attr *a, double attr_timeout, double entry_timeout) noexcept nogil:
    raw.ino = raw.attr.st_ino = a.ino
    raw.attr.st_mode = a.mode
    raw.attr.st_nlink = a.nlink
    raw.attr.st_uid = a.uid
    raw.attr.st_gid = a.gid
    raw.attr.st_rdev = a.rdev
    raw.attr.st_size = <int64_t>a.size
    raw.attr.st_blocks = <int64_t>a.blocks
    vx_entry_times(raw, a.atime_ns, a.mtime_ns, a.ctime_ns)
    raw.attr_timeout = attr_timeout
    raw.entry_timeout = entry_timeout


cdef bint layout_known():
    """Whether an EntryAttributes is laid out as ``vx_llfuse_entry``."""
    entry = EntryAttributes()
    if EntryAttributes.__basicsize__ != sizeof(vx_llfuse_entry):
        return False
    cdef vx_llfuse_entry *raw = <vx_llfuse_entry *><void *>entry
    cdef vx_attr probe
    if raw.pointer != &raw.attr:
        return False
    memset(&probe, 0, sizeof(probe))
    probe.ino, probe.mode, probe.nlink, probe.uid, probe.gid, probe.rdev = 11, 0o100640, 12, 13, 14, 15
    probe.size, probe.blocks, probe.atime_ns, probe.mtime_ns, probe.ctime_ns = 16, 17, -18, 19, 20
    fill_raw(raw, &probe, 21.0, 22.0)
    return (entry.st_ino, entry.st_mode, entry.st_nlink, entry.st_uid, entry.st_gid, entry.st_rdev, entry.st_size,
            entry.st_blocks, entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns, entry.attr_timeout,
            entry.entry_timeout) == (11, 0o100640, 12, 13, 14, 15, 16, 17, -18, 19, 20, 21.0, 22.0)


cdef bint DIRECT = layout_known()


cdef int fill_entry(entry, const vx_attr *a, double attr_timeout, double entry_timeout) except -1:
    if DIRECT:
        fill_raw(<vx_llfuse_entry *><void *>entry, a, attr_timeout, entry_timeout)
        return 0
    entry.st_ino, entry.st_mode, entry.st_nlink = a.ino, a.mode, a.nlink
    entry.st_uid, entry.st_gid, entry.st_rdev = a.uid, a.gid, a.rdev
    entry.st_size, entry.st_blocks = a.size, a.blocks
    entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns = a.atime_ns, a.mtime_ns, a.ctime_ns
    entry.attr_timeout, entry.entry_timeout = attr_timeout, entry_timeout
    return 0


cdef int64_t storable(ns) except? -1:
    return min(max(ns, -(2**63)), 2**63 - 1)


cdef int collect(void *context, const char *name, size_t n, uint64_t ino, uint32_t type,
                 uint64_t cookie) noexcept nogil:
    cdef Batch *batch = <Batch *>context
    cdef size_t need = (sizeof(Row) + n + 7) & ~<size_t>7
    cdef Row *row
    if batch.used + need > BATCH:
        return 1
    row = <Row *>(batch.rows + batch.used)
    row.ino, row.cookie, row.type, row.name_n = ino, cookie, type, <uint32_t>n
    memcpy(<char *>row + sizeof(Row), name, n)
    batch.used += need
    return 0


cdef class Listing:
    """Entries of a directory from a cookie on, as llfuse wants them; it takes until the kernel's buffer is full."""

    def __iter__(self):
        return self

    def __next__(self):
        cdef vx_attr attr
        cdef Row *row
        cdef int rc
        if self.at >= self.batch.used:
            self.at = self.batch.used = 0
            with nogil:
                rc = self.adapter.readdir(self.ino, self.cookie, collect, &self.batch)
            if rc < 0:
                raise FUSEError(-rc)
            if self.batch.used == 0:
                raise StopIteration
        row = <Row *>(self.batch.rows + self.at)
        self.at += (sizeof(Row) + row.name_n + 7) & ~<size_t>7
        self.cookie = row.cookie
        memset(&attr, 0, sizeof(attr))
        attr.ino, attr.mode = row.ino, row.type
        fill_entry(self.entry, &attr, 0, 0)
        return PyBytes_FromStringAndSize(<char *>row + sizeof(Row), row.name_n), self.entry, row.cookie
