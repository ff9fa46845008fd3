"""Requests that are answered on the spot: read from ``/dev/fuse`` by llfuse's loop, and answered before it sees them.

What is most asked for needs nothing of llfuse: neither its objects nor the interpreter's lock.  ``room.c`` brings each
request here first; what is not answered here, and all that touches the virtual tree, goes on to llfuse and
:mod:`vexfs.frontends.fuse.operations`.

Source: ``linux/fuse.h``.
"""

from libc.errno cimport EINVAL, ENODATA, ENOENT, ENOSYS, EOPNOTSUPP
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcmp, memset
from posix.stat cimport S_ISDIR

from vexfs._core.fs cimport (
    fs_fallocate, fs_tmpfile,
    fs_write, vx_attr, vx_cred,
)
from vexfs.frontends.fuse.adapter cimport LINK_MAX, VX_FIRST_VIRTUAL
from vexfs.frontends.fuse.answer cimport (
    Answer, Asked, Created, behind, cred_of, fill_entry, finish, name_of, say, say_behind,
)
from vexfs.frontends.fuse.attributes cimport getattr, setattr, statx_
from vexfs.frontends.fuse.handler cimport (
    Handler, R_CREATE, R_FALLOCATE, R_FLUSH, R_FORGET, R_FSYNC, R_GETXATTR, R_LINK, R_LOOKUP, R_MKDIR,
    R_MKNOD, R_OPEN, R_OPENDIR, R_READ, R_READLINK, R_RELEASE, R_RELEASEDIR, R_RENAME, R_RMDIR, R_SYMLINK,
    R_UNLINK, R_WRITE, reader_of,
)
from vexfs.frontends.fuse.kernel cimport (
    FOPEN_KEEP_CACHE, FUSE_BATCH_FORGET, FUSE_CREATE, FUSE_FALLOCATE, FUSE_FLUSH, FUSE_FORGET, FUSE_FSYNC,
    FUSE_GETATTR, FUSE_GETXATTR, FUSE_INTERRUPT, FUSE_LINK, FUSE_LOOKUP, FUSE_MKDIR, FUSE_MKNOD, FUSE_OPEN,
    FUSE_OPENDIR, FUSE_READ, FUSE_READDIR, FUSE_READDIRPLUS, FUSE_READLINK, FUSE_RELEASE, FUSE_RELEASEDIR, FUSE_RENAME,
    FUSE_RENAME2, FUSE_RMDIR, FUSE_SETATTR, FUSE_SYMLINK, FUSE_TMPFILE, FUSE_UNLINK, FUSE_WRITE,
    FUSE_WRITE_KILL_SUIDGID, VX_FUSE_STATX, fuse_batch_forget_in, fuse_create_in, fuse_entry_out, fuse_fallocate_in,
    fuse_forget_in, fuse_forget_one, fuse_fsync_in, fuse_getxattr_in, fuse_getxattr_out, fuse_in_header, fuse_link_in,
    fuse_mkdir_in, fuse_mknod_in, fuse_open_in, fuse_open_out, fuse_read_in, fuse_release_in, fuse_rename2_in,
    fuse_rename_in, fuse_write_in, fuse_write_out, vx_add, vx_count, vx_time,
)
from vexfs.frontends.fuse.listing cimport readdir

cdef enum:
    LARGE = 65536      # bytes of a request from which on waiting for the disk is likely
    LABEL_N = 16

cdef const char *LABEL = "security.selinux"


# -- names

cdef int lookup(Handler handler, const Asked *asked) noexcept nogil:
    cdef Answer answer
    cdef vx_attr attr
    cdef size_t n = 0
    cdef const char *name = name_of(asked, 0, &n)
    if name == NULL or asked.head.nodeid >= VX_FIRST_VIRTUAL or handler.adapter.is_reserved(name, n):
        return 0
    vx_count(&handler.taken[<int>R_LOOKUP])
    cdef int rc = handler.adapter.lookup(asked.head.nodeid, name, n, &attr)
    if rc == -ENOENT and handler.negative_ns > 0:
        memset(&answer, 0, sizeof(answer))     # an entry without an inode: the kernel remembers that there is none
        vx_time(handler.negative_ns, &answer.body.entry.entry_valid, &answer.body.entry.entry_valid_nsec)
        say(asked, &answer, sizeof(fuse_entry_out), 0)
        return 1
    cdef uint64_t *reader = reader_of(handler, asked.head.pid)
    if rc == 0 and not S_ISDIR(attr.mode) and reader[0] == <uint64_t>asked.head.pid * 2:
        reader[0] = <uint64_t>asked.head.pid * 2 + 1    # a listing should have brought this along
    return say_entry(handler, asked, rc, &attr)


cdef int say_entry(Handler handler, const Asked *asked, int rc, const vx_attr *attr) noexcept nogil:
    cdef Answer answer
    if rc:
        return finish(asked, rc)
    fill_entry(handler, &answer.body.entry, attr)
    if say(asked, &answer, sizeof(fuse_entry_out), 0):
        handler.adapter.forget(attr.ino, 1)
    return 1


cdef int make(Handler handler, const Asked *asked) noexcept nogil:
    """mknod, mkdir, symlink, link: a new name."""
    cdef vx_attr attr
    cdef size_t start = 0, n = 0, target_n = 0
    cdef uint64_t parent = asked.head.nodeid, linked = 0
    cdef const char *target = NULL
    cdef int rc
    if asked.head.opcode == FUSE_MKNOD:
        start = sizeof(fuse_mknod_in)
    elif asked.head.opcode == FUSE_MKDIR:
        start = sizeof(fuse_mkdir_in)
    elif asked.head.opcode == FUSE_LINK:
        start = sizeof(fuse_link_in)
    cdef const char *name = name_of(asked, start, &n)
    if asked.head.opcode == FUSE_SYMLINK and name != NULL:
        target = name_of(asked, n + 1, &target_n)
    if asked.head.opcode == FUSE_LINK and name != NULL:
        linked = (<const fuse_link_in *>asked.body).oldnodeid
    if name == NULL or parent >= VX_FIRST_VIRTUAL or linked >= VX_FIRST_VIRTUAL or (
        asked.head.opcode == FUSE_SYMLINK and target == NULL
    ):
        return 0
    cdef vx_cred who = cred_of(handler, asked)
    if asked.head.opcode == FUSE_MKNOD:
        vx_count(&handler.taken[<int>R_MKNOD])
        rc = handler.adapter.mknod(
            &who, parent, name, n, (<const fuse_mknod_in *>asked.body).mode,
            (<const fuse_mknod_in *>asked.body).rdev, &attr,
        )
    elif asked.head.opcode == FUSE_MKDIR:
        vx_count(&handler.taken[<int>R_MKDIR])
        rc = handler.adapter.mkdir(&who, parent, name, n, (<const fuse_mkdir_in *>asked.body).mode, &attr)
    elif asked.head.opcode == FUSE_LINK:
        vx_count(&handler.taken[<int>R_LINK])
        rc = handler.adapter.link(&who, linked, parent, name, n, &attr)
    else:
        vx_count(&handler.taken[<int>R_SYMLINK])
        rc = handler.adapter.symlink(&who, parent, name, n, target, target_n, &attr)
    return say_entry(handler, asked, rc, &attr)


cdef int forget(Handler handler, const Asked *asked) noexcept nogil:
    if asked.n < sizeof(fuse_forget_in):
        return 0
    vx_count(&handler.taken[<int>R_FORGET])
    handler.adapter.forget(asked.head.nodeid, (<const fuse_forget_in *>asked.body).nlookup)
    return 1


cdef int forget_many(Handler handler, const Asked *asked) noexcept nogil:
    cdef const fuse_batch_forget_in *batch = <const fuse_batch_forget_in *>asked.body
    cdef const fuse_forget_one *one = <const fuse_forget_one *>(asked.body + sizeof(fuse_batch_forget_in))
    cdef uint32_t i
    if asked.n < sizeof(fuse_batch_forget_in) or (
        asked.n - sizeof(fuse_batch_forget_in) < batch.count * sizeof(fuse_forget_one)
    ):
        return 0
    vx_count(&handler.taken[<int>R_FORGET])
    for i in range(batch.count):
        handler.adapter.forget(one[i].nodeid, one[i].nlookup)
    return 1


cdef int unlink(Handler handler, const Asked *asked, bint directory) noexcept nogil:
    cdef size_t n = 0
    cdef const char *name = name_of(asked, 0, &n)
    if name == NULL or asked.head.nodeid >= VX_FIRST_VIRTUAL:
        return 0
    cdef vx_cred who = handler.adapter.cred()
    if directory:
        vx_count(&handler.taken[<int>R_RMDIR])
        return finish(asked, handler.adapter.rmdir(&who, asked.head.nodeid, name, n))
    vx_count(&handler.taken[<int>R_UNLINK])
    return finish(asked, handler.adapter.unlink(&who, asked.head.nodeid, name, n))


cdef int rename(Handler handler, const Asked *asked, size_t start, uint32_t flags) noexcept nogil:
    cdef size_t n = 0, to_n = 0
    cdef const char *name = name_of(asked, start, &n)
    cdef const char *to = name_of(asked, start + n + 1, &to_n) if name != NULL else NULL
    if to == NULL:
        return 0
    cdef uint64_t parent = (<const fuse_rename_in *>asked.body).newdir
    cdef bint is_virtual = parent >= VX_FIRST_VIRTUAL or asked.head.nodeid >= VX_FIRST_VIRTUAL
    if is_virtual and not flags:
        return 0
    cdef vx_cred who = cred_of(handler, asked)     # the owner of what RENAME_WHITEOUT leaves
    vx_count(&handler.taken[<int>R_RENAME])
    if is_virtual:
        return finish(asked, -EINVAL)
    return finish(asked, handler.adapter.rename(&who, asked.head.nodeid, name, n, parent, to, to_n, flags))


cdef int rename_2(Handler handler, const Asked *asked) noexcept nogil:
    if asked.n < sizeof(fuse_rename2_in):
        return 0
    return rename(handler, asked, sizeof(fuse_rename2_in), (<const fuse_rename2_in *>asked.body).flags)


# -- attributes

cdef int readlink(Handler handler, const Asked *asked) noexcept nogil:
    cdef char *into = behind(asked, LINK_MAX)
    if into == NULL or asked.head.nodeid >= VX_FIRST_VIRTUAL:
        return 0
    vx_count(&handler.taken[<int>R_READLINK])
    cdef int got = handler.adapter.readlink(asked.head.nodeid, into, LINK_MAX)
    if got < 0:
        return finish(asked, got)
    say_behind(asked, into, <size_t>got)
    return 1


cdef int getxattr(Handler handler, const Asked *asked) noexcept nogil:
    cdef Answer answer
    cdef size_t n = 0, size
    cdef int64_t rc
    cdef const char *name = name_of(asked, sizeof(fuse_getxattr_in), &n)
    if name == NULL or asked.head.nodeid >= VX_FIRST_VIRTUAL:
        return 0
    size = (<const fuse_getxattr_in *>asked.body).size
    cdef char *into = behind(asked, size)
    if into == NULL:
        return 0
    vx_count(&handler.taken[<int>R_GETXATTR])
    rc = handler.adapter.getxattr(asked.head.nodeid, name, n, into, size)
    if rc == -ENODATA and n == LABEL_N and memcmp(name, LABEL, LABEL_N) == 0:
        rc = -EOPNOTSUPP                       # ls -l asks of every file, until it is told that there are none
    if rc < 0:
        return finish(asked, <int>rc)
    if size:
        say_behind(asked, into, <size_t>rc)
        return 1
    memset(&answer.body.asked_for, 0, sizeof(fuse_getxattr_out))
    answer.body.asked_for.size = <uint32_t>rc
    say(asked, &answer, sizeof(fuse_getxattr_out), 0)
    return 1


# -- open files

cdef int open_any(Handler handler, const Asked *asked, int directory) noexcept nogil:
    cdef Answer answer
    cdef uint64_t ino = asked.head.nodeid
    if ino >= VX_FIRST_VIRTUAL or asked.n < sizeof(fuse_open_in):
        return 0
    cdef vx_cred who = handler.adapter.cred()
    vx_count(&handler.taken[<int>R_OPENDIR if directory else <int>R_OPEN])
    cdef int rc = handler.adapter.opendir(&who, ino) if directory else handler.adapter.open(
        &who, ino, (<const fuse_open_in *>asked.body).flags
    )
    if rc:
        return finish(asked, rc)
    memset(&answer.body.opened, 0, sizeof(fuse_open_out))
    answer.body.opened.fh = ino
    answer.body.opened.open_flags = 0 if directory else FOPEN_KEEP_CACHE
    if say(asked, &answer, sizeof(fuse_open_out), 0):
        close_any(handler, ino, directory)
    return 1


cdef void close_any(Handler handler, uint64_t ino, int directory) noexcept nogil:
    if directory:
        handler.adapter.releasedir(ino)
    else:
        handler.adapter.release(ino)


cdef int release(Handler handler, const Asked *asked, int directory) noexcept nogil:
    cdef uint64_t fh = (<const fuse_release_in *>asked.body).fh if asked.n >= sizeof(fuse_release_in) else 0
    if fh == 0 or fh >= VX_FIRST_VIRTUAL:
        return 0
    vx_count(&handler.taken[<int>R_RELEASEDIR if directory else <int>R_RELEASE])
    close_any(handler, fh, directory)
    return finish(asked, 0)


cdef int create(Handler handler, const Asked *asked) noexcept nogil:
    cdef vx_attr attr
    cdef size_t n = 0
    cdef const char *name = name_of(asked, sizeof(fuse_create_in), &n)
    cdef const fuse_create_in *wanted = <const fuse_create_in *>asked.body
    if name == NULL or asked.head.nodeid >= VX_FIRST_VIRTUAL:
        return 0
    cdef vx_cred who = cred_of(handler, asked)
    vx_count(&handler.taken[<int>R_CREATE])
    cdef int rc = handler.adapter.create(&who, asked.head.nodeid, name, n, wanted.mode, wanted.flags, &attr)
    return finish(asked, rc) if rc else say_created(handler, asked, &attr)


cdef int tmpfile(Handler handler, const Asked *asked) noexcept nogil:
    """O_TMPFILE; the name that comes along is none."""
    cdef vx_attr attr
    cdef const fuse_create_in *wanted = <const fuse_create_in *>asked.body
    if asked.n < sizeof(fuse_create_in):
        return 0
    vx_count(&handler.taken[<int>R_CREATE])
    if asked.head.nodeid >= VX_FIRST_VIRTUAL:
        return finish(asked, -EOPNOTSUPP)
    cdef vx_cred who = cred_of(handler, asked)
    cdef int rc = fs_tmpfile(handler.adapter.fs, &who, asked.head.nodeid, wanted.mode, wanted.flags, &attr)
    if rc:
        return finish(asked, rc)
    handler.adapter.show(&attr)
    return say_created(handler, asked, &attr)


cdef int say_created(Handler handler, const Asked *asked, const vx_attr *attr) noexcept nogil:
    cdef Answer answer
    fill_entry(handler, &answer.body.created.entry, attr)
    memset(&answer.body.created.opened, 0, sizeof(fuse_open_out))
    answer.body.created.opened.fh = attr.ino
    answer.body.created.opened.open_flags = FOPEN_KEEP_CACHE
    if say(asked, &answer, sizeof(Created), 0):
        handler.adapter.release(attr.ino)
        handler.adapter.forget(attr.ino, 1)
    return 1


cdef int read(Handler handler, const Asked *asked) noexcept nogil:
    cdef const fuse_read_in *wanted = <const fuse_read_in *>asked.body
    if asked.n < sizeof(fuse_read_in) or wanted.fh >= VX_FIRST_VIRTUAL:
        return 0
    cdef size_t size = wanted.size
    cdef char *into = behind(asked, size)
    if into == NULL:
        return 0
    vx_count(&handler.taken[<int>R_READ])
    if size >= LARGE:
        begin_wait(handler)
    cdef int64_t got = handler.adapter.read(wanted.fh, wanted.offset, into, size)
    if size >= LARGE:
        vx_add(&handler.waiting, -1)
    if got < 0:
        return finish(asked, <int>got)
    say_behind(asked, into, <size_t>got)
    return 1


cdef int write_(Handler handler, const Asked *asked) noexcept nogil:
    cdef Answer answer
    cdef const fuse_write_in *wanted = <const fuse_write_in *>asked.body
    if asked.n < sizeof(fuse_write_in) or asked.n - sizeof(fuse_write_in) < wanted.size:
        return 0
    if wanted.fh >= VX_FIRST_VIRTUAL:
        return 0
    vx_count(&handler.taken[<int>R_WRITE])
    if wanted.size >= LARGE:
        begin_wait(handler)
    cdef vx_cred who = handler.adapter.cred()
    if wanted.write_flags & FUSE_WRITE_KILL_SUIDGID:
        who.uid = asked.head.uid
    cdef int64_t done = fs_write(    # the kernel decides where an append goes: no flags
        handler.adapter.fs, &who, wanted.fh, wanted.offset, asked.body + sizeof(fuse_write_in), wanted.size, 0
    )
    if wanted.size >= LARGE:
        vx_add(&handler.waiting, -1)
    if done < 0:
        return finish(asked, <int>done)
    memset(&answer.body.written, 0, sizeof(fuse_write_out))
    answer.body.written.size = <uint32_t>done
    say(asked, &answer, sizeof(fuse_write_out), 0)
    return 1


cdef int fsync(Handler handler, const Asked *asked) noexcept nogil:
    cdef const fuse_fsync_in *wanted = <const fuse_fsync_in *>asked.body
    if asked.n < sizeof(fuse_fsync_in) or wanted.fh >= VX_FIRST_VIRTUAL:
        return 0
    vx_count(&handler.taken[<int>R_FSYNC])
    begin_wait(handler)
    cdef int rc = handler.adapter.fsync(wanted.fh, wanted.fsync_flags & 1)
    vx_add(&handler.waiting, -1)
    return finish(asked, rc)


cdef int fallocate(Handler handler, const Asked *asked) noexcept nogil:
    """The kernel has written out, and let go of, what its pages have there."""
    cdef const fuse_fallocate_in *wanted = <const fuse_fallocate_in *>asked.body
    if asked.n < sizeof(fuse_fallocate_in):
        return 0
    vx_count(&handler.taken[<int>R_FALLOCATE])
    if wanted.fh >= VX_FIRST_VIRTUAL:
        return finish(asked, -EOPNOTSUPP)
    cdef vx_cred who = handler.adapter.cred()
    begin_wait(handler)
    cdef int rc = fs_fallocate(handler.adapter.fs, &who, wanted.fh, wanted.mode, wanted.offset, wanted.length)
    vx_add(&handler.waiting, -1)
    return finish(asked, rc)


cdef void begin_wait(Handler handler) noexcept nogil:
    if vx_add(&handler.waiting, 1) >= handler.workers:
        handler.ask_for_workers()


cdef int take(Handler handler, char *request, size_t n, size_t room, int device) noexcept nogil:
    """Whether the request that has come has been answered here."""
    cdef Asked asked
    cdef const fuse_in_header *head = <const fuse_in_header *>request
    if n < sizeof(fuse_in_header):
        return 0
    asked.head, asked.body = head, request + sizeof(fuse_in_header)
    asked.n, asked.room, asked.device = n - sizeof(fuse_in_header), room, device
    if head.opcode == FUSE_LOOKUP:
        return lookup(handler, &asked)
    if head.opcode == FUSE_GETATTR:
        return getattr(handler, &asked)
    if head.opcode == FUSE_READ:
        return read(handler, &asked)
    if head.opcode == FUSE_WRITE:
        return write_(handler, &asked)
    if head.opcode == FUSE_OPEN:
        return open_any(handler, &asked, 0)
    if head.opcode == FUSE_RELEASE:
        return release(handler, &asked, 0)
    if head.opcode == FUSE_CREATE:
        return create(handler, &asked)
    if head.opcode == FUSE_UNLINK:
        return unlink(handler, &asked, 0)
    if head.opcode == FUSE_RMDIR:
        return unlink(handler, &asked, 1)
    if head.opcode in (FUSE_MKDIR, FUSE_MKNOD, FUSE_SYMLINK, FUSE_LINK):
        return make(handler, &asked)
    if head.opcode == FUSE_READLINK:
        return readlink(handler, &asked)
    if head.opcode == FUSE_FLUSH:
        vx_count(&handler.taken[<int>R_FLUSH])
        return finish(&asked, -ENOSYS)         # as in Operations.flush
    if head.opcode == FUSE_INTERRUPT:
        return finish(&asked, -ENOSYS)         # nothing that is asked for takes so long: not to be sent any more
    if head.opcode == FUSE_FSYNC:
        return fsync(handler, &asked)
    if head.opcode == FUSE_GETXATTR:
        return getxattr(handler, &asked)
    if head.opcode == FUSE_RENAME:
        return rename(handler, &asked, sizeof(fuse_rename_in), 0)
    if head.opcode == FUSE_RENAME2:
        return rename_2(handler, &asked)
    if head.opcode == FUSE_OPENDIR:
        return open_any(handler, &asked, 1)
    if head.opcode == FUSE_RELEASEDIR:
        return release(handler, &asked, 1)
    if head.opcode == FUSE_SETATTR:
        return setattr(handler, &asked)
    if head.opcode == VX_FUSE_STATX:
        return statx_(handler, &asked)
    if head.opcode == FUSE_TMPFILE:
        return tmpfile(handler, &asked)
    if head.opcode == FUSE_FALLOCATE:
        return fallocate(handler, &asked)
    if head.opcode == FUSE_READDIRPLUS:
        return readdir(handler, &asked, 1)
    if head.opcode == FUSE_READDIR:
        return readdir(handler, &asked, 0)
    if head.opcode == FUSE_FORGET:
        return forget(handler, &asked)
    if head.opcode == FUSE_BATCH_FORGET:
        return forget_many(handler, &asked)
    return 0


def taker():
    """The address of what answers requests, for ``room.c``; its first argument is the address of the Handler."""
    return <uintptr_t>&take
