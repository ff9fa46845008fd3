"""Attributes of files, answered on the spot: told, with the time of making where it is asked for, and set."""

from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memset

from vexfs._core.fs cimport (
    VX_SET_ATIME, VX_SET_GID, VX_SET_MODE, VX_SET_MTIME, VX_SET_SIZE, VX_SET_UID, vx_attr, vx_cred,
)
from vexfs.frontends.fuse.adapter cimport VX_FIRST_VIRTUAL
from vexfs.frontends.fuse.answer cimport BLOCK, Answer, Asked, cred_of, fill_attr, finish, say
from vexfs.frontends.fuse.handler cimport Handler, R_GETATTR, R_SETATTR
from vexfs.frontends.fuse.kernel cimport (
    FATTR_ATIME, FATTR_ATIME_NOW, FATTR_GID, FATTR_MODE, FATTR_MTIME, FATTR_MTIME_NOW, FATTR_SIZE, FATTR_UID,
    STATX_BASIC_STATS, STATX_BTIME, fuse_attr_out, fuse_out_header, fuse_setattr_in, major, minor, statx, vx_clock,
    vx_count, vx_ns, vx_stamp, vx_statx_out, vx_time,
)


cdef int say_attr(Handler handler, const Asked *asked, const vx_attr *attr) noexcept nogil:
    cdef Answer answer
    memset(&answer.body.attr, 0, sizeof(fuse_attr_out))
    vx_time(handler.attr_ns, &answer.body.attr.attr_valid, &answer.body.attr.attr_valid_nsec)
    fill_attr(&answer.body.attr.attr, attr)
    say(asked, &answer, sizeof(fuse_attr_out), 0)
    return 1


cdef int getattr(Handler handler, const Asked *asked) noexcept nogil:
    cdef vx_attr attr
    if asked.head.nodeid >= VX_FIRST_VIRTUAL:
        return 0
    vx_count(&handler.taken[<int>R_GETATTR])
    cdef int rc = handler.adapter.getattr(asked.head.nodeid, &attr)
    return finish(asked, rc) if rc else say_attr(handler, asked, &attr)


cdef int statx_(Handler handler, const Asked *asked) noexcept nogil:
    """What getattr says, and when the file was made.  Of virtual files, too: a refusal would be one for all."""
    cdef vx_statx_out answer
    cdef statx *out = &answer.stat
    cdef vx_attr a
    vx_count(&handler.taken[<int>R_GETATTR])
    cdef int rc = handler.adapter.getattr(asked.head.nodeid, &a)
    if rc:
        return finish(asked, rc)
    memset(&answer, 0, sizeof(answer))
    if a.ino < VX_FIRST_VIRTUAL:
        vx_time(handler.attr_ns, &answer.attr_valid, &answer.attr_valid_nsec)
    out.stx_mask = STATX_BASIC_STATS | STATX_BTIME
    out.stx_blksize = BLOCK
    out.stx_nlink, out.stx_uid, out.stx_gid, out.stx_mode = a.nlink, a.uid, a.gid, <uint16_t>a.mode
    out.stx_ino, out.stx_size, out.stx_blocks = a.ino, a.size, a.blocks
    out.stx_atime, out.stx_btime = vx_stamp(a.atime_ns), vx_stamp(a.btime_ns)
    out.stx_ctime, out.stx_mtime = vx_stamp(a.ctime_ns), vx_stamp(a.mtime_ns)
    out.stx_rdev_major, out.stx_rdev_minor = major(a.rdev), minor(a.rdev)
    say(asked, <Answer *>&answer, sizeof(vx_statx_out) - sizeof(fuse_out_header), 0)
    return 1


cdef int setattr(Handler handler, const Asked *asked) noexcept nogil:
    cdef vx_attr value, attr
    cdef uint32_t mask = 0
    cdef int rc
    cdef const fuse_setattr_in *wanted = <const fuse_setattr_in *>asked.body
    if asked.n < sizeof(fuse_setattr_in) or asked.head.nodeid >= VX_FIRST_VIRTUAL:
        return 0
    memset(&value, 0, sizeof(value))
    if wanted.valid & FATTR_MODE:
        mask |= VX_SET_MODE
        value.mode = wanted.mode
    if wanted.valid & FATTR_UID:
        mask |= VX_SET_UID
        value.uid = wanted.uid
    if wanted.valid & FATTR_GID:
        mask |= VX_SET_GID
        value.gid = wanted.gid
    if wanted.valid & FATTR_SIZE:
        mask |= VX_SET_SIZE
        value.size = wanted.size
    if wanted.valid & FATTR_ATIME:
        mask |= VX_SET_ATIME
        value.atime_ns = vx_clock() if wanted.valid & FATTR_ATIME_NOW else vx_ns(wanted.atime, wanted.atimensec)
    if wanted.valid & FATTR_MTIME:
        mask |= VX_SET_MTIME
        value.mtime_ns = vx_clock() if wanted.valid & FATTR_MTIME_NOW else vx_ns(wanted.mtime, wanted.mtimensec)
    cdef vx_cred who = cred_of(handler, asked)
    vx_count(&handler.taken[<int>R_SETATTR])
    if mask == 0 and who.uid:
        # chown(f, -1, -1), or before a write, which says so itself: who may not write takes no set-id bits away.
        rc = handler.adapter.getattr(asked.head.nodeid, &attr)
        if rc or (who.uid != attr.uid and not attr.mode & 0o022):
            return finish(asked, rc) if rc else say_attr(handler, asked, &attr)
    rc = handler.adapter.setattr(&who, asked.head.nodeid, mask, &value, &attr)
    return finish(asked, rc) if rc else say_attr(handler, asked, &attr)
