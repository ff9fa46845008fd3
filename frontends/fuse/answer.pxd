"""One request of the kernel, and what is written back to ``/dev/fuse``."""

from libc.errno cimport ENOENT, errno
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uintptr_t
from libc.string cimport memset
from posix.unistd cimport write

from vexfs._core.fs cimport vx_attr, vx_cred
from vexfs.frontends.fuse.handler cimport Handler
from vexfs.frontends.fuse.kernel cimport (
    fuse_attr, fuse_attr_out, fuse_entry_out, fuse_getxattr_out, fuse_in_header, fuse_open_out, fuse_out_header,
    fuse_write_out, strnlen, vx_time,
)

cdef enum:
    BLOCK = 4096       # st_blksize, as llfuse has it
    ALIGN = 64

# An answer to all but reads, its header first.
cdef struct Created:
    fuse_entry_out entry
    fuse_open_out opened

cdef union Body:
    fuse_entry_out entry
    fuse_attr_out attr
    fuse_open_out opened
    fuse_write_out written
    fuse_getxattr_out asked_for
    Created created

cdef struct Answer:
    fuse_out_header head
    Body body

# One request at work.
cdef struct Asked:
    const fuse_in_header *head
    char *body           # what follows the header
    size_t n, room       # bytes of the body; of the whole buffer from the header on
    int device


cdef inline int say(const Asked *asked, Answer *answer, size_t n, int error) noexcept nogil:
    """0, or -ENOENT: who asked no longer waits, and will not come back to what it was given."""
    answer.head.len = <uint32_t>(sizeof(fuse_out_header) + n)
    answer.head.error = error
    answer.head.unique = asked.head.unique
    return -ENOENT if write(asked.device, answer, answer.head.len) < 0 and errno == ENOENT else 0


cdef inline int finish(const Asked *asked, int rc) noexcept nogil:
    cdef Answer answer
    say(asked, &answer, 0, rc)
    return 1


cdef inline char *behind(const Asked *asked, size_t size) noexcept nogil:
    """Where an answer of `size` bytes is made: in the buffer of the request, behind it.  NULL: there is no room."""
    cdef uintptr_t end = <uintptr_t>asked.body + asked.n + sizeof(fuse_out_header)
    cdef char *into = <char *>((end + ALIGN - 1) & ~<uintptr_t>(ALIGN - 1))
    return into if <size_t>(into - <const char *>asked.head) + size <= asked.room else NULL


cdef inline int say_behind(const Asked *asked, char *body, size_t n) noexcept nogil:
    """0, or -ENOENT, as :func:`say`."""
    cdef fuse_out_header *head = <fuse_out_header *>(body - sizeof(fuse_out_header))
    head.len = <uint32_t>(sizeof(fuse_out_header) + n)
    head.error = 0
    head.unique = asked.head.unique
    return -ENOENT if write(asked.device, head, head.len) < 0 and errno == ENOENT else 0


cdef inline vx_cred cred_of(Handler handler, const Asked *asked) noexcept nogil:
    cdef vx_cred who = handler.adapter.cred()
    who.uid = asked.head.uid
    who.gid = asked.head.gid
    return who


cdef inline void fill_attr(fuse_attr *out, const vx_attr *a) noexcept nogil:
    memset(out, 0, sizeof(fuse_attr))
    out.ino, out.size, out.blocks = a.ino, a.size, a.blocks
    vx_time(a.atime_ns, &out.atime, &out.atimensec)
    vx_time(a.mtime_ns, &out.mtime, &out.mtimensec)
    vx_time(a.ctime_ns, &out.ctime, &out.ctimensec)
    out.mode, out.nlink, out.uid, out.gid = a.mode, a.nlink, a.uid, a.gid
    out.rdev = <uint32_t>a.rdev
    out.blksize = BLOCK


cdef inline void fill_entry(Handler handler, fuse_entry_out *out, const vx_attr *a) noexcept nogil:
    memset(out, 0, sizeof(fuse_entry_out))
    out.nodeid = a.ino
    vx_time(handler.entry_ns, &out.entry_valid, &out.entry_valid_nsec)
    vx_time(handler.attr_ns, &out.attr_valid, &out.attr_valid_nsec)
    fill_attr(&out.attr, a)


cdef inline const char *name_of(const Asked *asked, size_t from_, size_t *n) noexcept nogil:
    """The name that ends with a zero there; NULL when the request ends before."""
    if from_ >= asked.n:
        return NULL
    cdef const char *name = asked.body + from_
    n[0] = strnlen(name, asked.n - from_)
    return name if n[0] < asked.n - from_ else NULL
