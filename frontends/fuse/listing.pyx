"""Listings, answered on the spot: names alone, or with the attributes of what they name.

The kernel always asks for attributes; what comes without them is looked up later, name by name.  Who has begun to list
gets them, and who is known to look names up after listing them: ``du`` and ``rm -r`` read a whole directory before they
ask for the first of its files, ``find -name`` never asks.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.stat cimport S_IFMT

from vexfs._core.fs cimport vx_attr
from vexfs.frontends.fuse.adapter cimport VX_FIRST_VIRTUAL
from vexfs.frontends.fuse.answer cimport Asked, behind, fill_entry, finish, say_behind
from vexfs.frontends.fuse.handler cimport Handler, R_READDIR, reader_of
from vexfs.frontends.fuse.kernel cimport fuse_dirent, fuse_entry_out, fuse_read_in, vx_count

cdef enum:
    LISTED = 4096      # bytes of a listing where there is no room for more

cdef struct Entries:
    char *at
    size_t n, room, head     # bytes so far, at most, and before each entry for its attributes


cdef inline size_t padded(size_t n) noexcept nogil:
    return (n + 7) & ~<size_t>7


cdef int add_entry(void *context, const char *name, size_t n, uint64_t ino, uint32_t type,
                   uint64_t cookie) noexcept nogil:
    cdef Entries *entries = <Entries *>context
    cdef size_t need = padded(entries.head + sizeof(fuse_dirent) + n)
    if entries.n + need > entries.room:
        return 1
    memset(entries.at + entries.n, 0, need)
    cdef fuse_dirent *entry = <fuse_dirent *>(entries.at + entries.n + entries.head)
    entry.ino, entry.off, entry.namelen, entry.type = ino, cookie, <uint32_t>n, (type & S_IFMT) >> 12
    memcpy(<char *>entry + sizeof(fuse_dirent), name, n)
    entries.n += need
    return 0


cdef int readdir(Handler handler, const Asked *asked, bint room_for_attributes) noexcept nogil:
    cdef const fuse_read_in *wanted = <const fuse_read_in *>asked.body
    if asked.n < sizeof(fuse_read_in):
        return 0
    cdef Entries entries
    entries.n, entries.room, entries.head = 0, wanted.size, sizeof(fuse_entry_out) if room_for_attributes else 0
    cdef bint with_attributes = room_for_attributes and (wanted.offset == 0 or looks_up(handler, asked.head.pid))
    entries.at = behind(asked, entries.room)
    if entries.at == NULL:
        entries.room = LISTED
        entries.at = behind(asked, entries.room)
    vx_count(&handler.taken[<int>R_READDIR])
    if with_attributes:
        handler.adapter.last_parent = wanted.fh    # attributes are wanted, so they are loaded along
    cdef int rc = handler.adapter.readdir(wanted.fh, wanted.offset, add_entry, &entries)
    if rc:
        return finish(asked, rc)
    if with_attributes and wanted.fh < VX_FIRST_VIRTUAL:
        look_up_all(handler, wanted.fh, &entries)
    if say_behind(asked, entries.at, entries.n) and with_attributes:
        forget_all(handler, &entries)
    return 1


cdef bint looks_up(Handler handler, uint32_t thread) noexcept nogil:
    """Whether a thread looked names up after it had listed them; what it does now, it does to list them."""
    cdef uint64_t *reader = reader_of(handler, thread)
    if reader[0] == <uint64_t>thread * 2 + 1:
        return 1
    reader[0] = <uint64_t>thread * 2
    return 0


cdef fuse_dirent *entry_at(const Entries *entries, size_t at) noexcept nogil:
    return <fuse_dirent *>(entries.at + at + entries.head)


cdef void look_up_all(Handler handler, uint64_t parent, const Entries *entries) noexcept nogil:
    """Attributes of all entries but "." and "..", which the kernel then counts as looked up."""
    cdef vx_attr attr
    cdef fuse_dirent *entry
    cdef const char *name
    cdef size_t at = 0
    while at < entries.n:
        entry = entry_at(entries, at)
        name = <const char *>entry + sizeof(fuse_dirent)
        if not is_dots(name, entry.namelen) and handler.adapter.lookup(parent, name, entry.namelen, &attr) == 0:
            fill_entry(handler, <fuse_entry_out *>(entries.at + at), &attr)
        at += padded(entries.head + sizeof(fuse_dirent) + entry.namelen)


cdef void forget_all(Handler handler, const Entries *entries) noexcept nogil:
    cdef size_t at = 0
    cdef uint64_t ino
    while at < entries.n:
        ino = (<fuse_entry_out *>(entries.at + at)).nodeid
        if ino:
            handler.adapter.forget(ino, 1)
        at += padded(entries.head + sizeof(fuse_dirent) + entry_at(entries, at).namelen)


cdef inline bint is_dots(const char *name, size_t n) noexcept nogil:
    return name[0] == c"." and (n == 1 or (n == 2 and name[1] == c"."))
