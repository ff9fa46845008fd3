"""An open volume of files: its options, its life, its figures."""

import errno
import os
import time

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from vexfs._core.bridge cimport Bridge
from vexfs._core.frame cimport Frames
from vexfs._core.pool cimport Pool
from vexfs._core.ops cimport (
    VX_ERRNO_MAX,
    VX_OP_COUNT,
    fs_backup_meta,
    fs_changes,
    fs_close_volume,
    fs_compact,
    fs_drop_caches,
    fs_hold,
    fs_open_volume,
    fs_read_status,
    fs_statfs,
    fs_unhold,
    vx_fs,
    vx_fs_options,
    vx_fs_status,
    vx_op_names,
    vx_statfs,
)

from vexfs.errors import TOO_MANY_ATTRIBUTES, InvalidArgument, VolumeClosed, from_errno

CLOSED = "the volume has been closed; open it again"
FOREIGN = "the volume belongs to the process that opened it before this one was forked; open volumes after forking"


cdef object failed(int64_t status, path=None, path2=None):
    return from_errno(<int>-status, path, path2)


cdef object attributes_failed(int64_t status, name, bint full):
    """Of a path, or of a file by its number; `full`: it has as many attributes as it can."""
    path = None if isinstance(name, int) else name
    return from_errno(<int>-status, path, message=TOO_MANY_ATTRIBUTES if full else None)


cdef bytes encoded(path):
    if type(path) is bytes:
        return path
    if type(path) is str:
        return (<str>path).encode("utf-8", "surrogateescape")
    return os.fsencode(path)


# What a walk under the filesystem's lock found, gathered without Python: records of number, number, size, bytes.

cdef int gather(gathered *g, uint64_t a, uint64_t b, uint64_t c, const void *bytes, size_t n) noexcept nogil:
    cdef size_t need = g.n + 32 + n
    cdef uint64_t head[4]
    cdef char *p
    if need > g.cap:
        p = <char *>realloc(g.data, need * 2)
        if p is NULL:
            return -1
        g.data = p
        g.cap = need * 2
    head[0], head[1], head[2], head[3] = a, b, c, n
    memcpy(g.data + g.n, head, 32)
    memcpy(g.data + g.n + 32, bytes, n)
    g.n = need
    g.count += 1
    return 0


cdef int gather_entry(void *ctx, const char *name, size_t n, uint64_t ino, uint32_t type,
                      uint64_t cookie) noexcept nogil:
    cdef gathered *g = <gathered *>ctx
    return gather(g, ino, type, cookie, name, n) or g.count >= 512


cdef int gather_change(void *ctx, uint64_t seq, const void *data, size_t n) noexcept nogil:
    return gather(<gathered *>ctx, seq, 0, 0, data, n)


cdef list records(gathered *g):
    cdef list out = []
    cdef uint64_t head[4]
    cdef size_t at = 0
    while at < g.n:
        memcpy(head, g.data + at, 32)
        out.append((g.data[at + 32:at + 32 + head[3]], head[0], head[1], head[2]))
        at += 32 + head[3]
    free(g.data)
    g.data = NULL
    return out


cdef class _Reporter:
    cdef object call
    cdef object error


cdef int report_progress(void *ctx, uint64_t done, uint64_t total) noexcept with gil:
    cdef _Reporter r = <_Reporter>ctx
    try:
        r.call(done, total)
    except BaseException as e:
        r.error = e
        return -4  # EINTR
    return 0


cdef int report_backup(void *ctx, int done, int total) noexcept with gil:
    return report_progress(ctx, done, total)


# A volume that nobody closed works with its pool, frames and bridge to its end: a collector must not take them before.
@cython.no_gc_clear
cdef class Opened:
    """An open volume.  One per process and volume; thread-safe.

    Parameters
    ----------
    path : str
        The volume's directory; ``segments/`` must exist in it.
    meta_key, data_key : bytes or None
        32 bytes each: the metadata's and the file data's keys.  None: not encrypted.
    create : bool
        Make an empty filesystem in it first.
    cache_size, prefetch_size, dirty_limit, segment_size, size_limit : int
        Bytes: decoded frames kept; read ahead; dirty data before writers wait; where a segment is sealed; the most that
        the volume may hold (0: what the host has).
    io_queue_depth : int
        Frames read, written, encoded at the same time.
    commit_ops, commit_delay_ms : int
        A commit starts after so many changes or so many milliseconds, whichever comes first.
    inode_cache : int
        Inodes kept in memory (dentries: twice as many).
    log_limit : int
        The log of metadata is copied into the database when it is longer than so many bytes.
    atime : {"relatime", "noatime", "strictatime"}
    pool, frames, bridge : Pool, Frames, Bridge or None
        Where buffers come from, where stack use is accounted, what carries mutations to the committer.  None: plain
        aligned allocation, no accounting, and each operation wakes the committer itself.  The bridge must run.

    Raises
    ------
    OSError
        A subclass from ``vexfs.errors``; the message names the file and the remedy.
    """

    def __cinit__(self):
        self.fs = NULL

    def __init__(self, path, *, meta_key=None, data_key=None, bint create=False, bint read_only=False,
                 str compression="lz4", uint64_t cache_size=64 << 20, uint64_t prefetch_size=4 << 20,
                 uint32_t io_queue_depth=32, bint direct_io=False, uint64_t dirty_limit=64 << 20,
                 uint32_t commit_ops=10_000, uint32_t commit_delay_ms=1000, uint64_t size_limit=0,
                 uint64_t segment_size=64 << 20, uint64_t inode_cache=65_536, uint64_t log_limit=32 << 20,
                 str atime="relatime", owner=None,
                 Pool pool=None, Frames frames=None, Bridge bridge=None):
        cdef vx_fs_options o
        cdef char message[512]
        cdef bytes where = os.fsencode(path), mk = meta_key or b"", dk = data_key or b""
        cdef int rc
        if self.fs is not NULL:
            raise InvalidArgument.at("is open already", path)
        if compression not in ("lz4", "none"):
            raise InvalidArgument.at(f'compression {compression!r} is unknown; "lz4" and "none" are known', path)
        if atime not in ("noatime", "relatime", "strictatime"):
            raise InvalidArgument.at(f"atime {atime!r} is unknown; noatime, relatime, strictatime are known", path)
        if len(mk) not in (0, 32) or len(dk) not in (0, 32):
            raise InvalidArgument.at("keys have 32 bytes", path)
        memset(&o, 0, sizeof(o))
        message[0] = 0
        o.dir = where
        o.meta_key = <const unsigned char *><char *>mk if mk else NULL
        o.data_key = <const unsigned char *><char *>dk if dk else NULL
        o.create = create
        o.read_only = read_only
        o.compression = compression == "lz4"
        o.direct_io = direct_io
        o.io_depth = io_queue_depth
        o.cache_bytes = cache_size
        o.prefetch_bytes = prefetch_size
        o.dirty_limit = dirty_limit
        o.segment_bytes = segment_size
        o.size_limit = size_limit
        o.inode_cache = inode_cache
        o.log_limit = log_limit
        o.commit_ops = commit_ops
        o.commit_delay_ms = commit_delay_ms
        o.atime = {"noatime": 0, "relatime": 1, "strictatime": 2}[atime]
        o.root_uid, o.root_gid = owner or (os.geteuid(), os.getegid())
        o.pool = pool.ptr if pool is not None else NULL
        o.frames = frames.ptr if frames is not None else NULL
        o.bridge = bridge.handle() if bridge is not None else NULL
        memset(&self.cred, 0, sizeof(self.cred))
        self.cred.uid = os.geteuid()
        self.cred.gid = os.getegid()
        with nogil:
            rc = fs_open_volume(&self.fs, &o, message, sizeof(message))
        if rc:
            self.fs = NULL
            raise from_errno(-rc, path, message=message.decode("utf-8", "replace"))
        self.path = os.fspath(path)
        self.keep = (pool, frames, bridge)

    cdef vx_fs *handle(self) except NULL:
        if self.fs is NULL:
            if self.foreign:
                raise VolumeClosed.at(FOREIGN, self.path)
            raise VolumeClosed.at(CLOSED, self.path)
        return self.fs

    cdef vx_fs *enter(self) except NULL:
        self.handle()
        self.busy += 1  # until the call is back: close waits for it
        return self.fs

    def abandon(self):
        """In a forked child: let go without closing, for whoever still has it; the parent process goes on with it."""
        self.foreign = self.fs is not NULL
        self.fs = NULL

    def close(self):
        """Write everything out, sync, close.  Raises the error of that; the volume is closed all the same."""
        cdef vx_fs *fs = self.fs
        cdef int rc
        if fs is NULL:
            return
        self.fs = NULL
        interrupted = None
        while self.busy:
            try:
                time.sleep(0.001)
            except KeyboardInterrupt as error:
                interrupted = error  # not left half closed: the calls that are waited for are on their way out
        with nogil:
            rc = fs_close_volume(fs)
        if interrupted is not None:
            raise interrupted
        if rc:
            raise failed(rc, self.path)

    def __dealloc__(self):
        if self.fs is not NULL:
            with nogil:  # it waits for the bridge, whose handlers may wait for Python's lock
                fs_close_volume(self.fs)

    @property
    def closed(self):
        """Whether `close` was called."""
        return self.fs is NULL

    @property
    def equipment(self):
        """The pool, the frames and the bridge that it works with; None for what it does without."""
        return self.keep

    # -- the volume

    def sync(self):
        """Wait until everything is on stable storage."""
        self.fsync(0)

    def statvfs(self):
        """Blocks of 4096 bytes (total, free, available), then inodes (used and free together, free)."""
        cdef vx_statfs s
        cdef vx_fs *fs
        cdef int rc
        fs = self.enter()
        with nogil:
            rc = fs_statfs(fs, &s)
        self.busy -= 1
        if rc:
            raise failed(rc, self.path)
        return s.blocks, s.bfree, s.bavail, s.files, s.ffree

    def drop_caches(self):
        """Forget every clean inode, dentry, extent map and decoded frame."""
        cdef vx_fs *fs
        fs = self.enter()
        with nogil:
            fs_drop_caches(fs)
        self.busy -= 1

    def status(self):
        """Counters and sizes of the running filesystem; bytes unless the name says otherwise."""
        cdef vx_fs_status s
        cdef vx_fs *fs
        fs = self.enter()
        with nogil:
            fs_read_status(fs, &s)
        self.busy -= 1
        out = {"files": s.files, "used_bytes": s.used_bytes, "limit_bytes": s.limit_bytes,
               "live_bytes": s.live_bytes, "dead_bytes": s.dead_bytes, "free_bytes": s.free_bytes,
               "disk_bytes": s.disk_bytes, "segments": s.segments, "dirty_bytes": s.dirty_bytes,
               "frozen_bytes": s.frozen_bytes, "dirty_operations": s.dirty_ops, "epoch": s.epoch,
               "committed_epoch": s.committed, "durable_epoch": s.durable, "forgotten_epoch": s.forgotten,
               "commits": s.commits, "syncs": s.syncs,
               "commit_errors": s.commit_errors, "reclaimed_bytes": s.reclaimed_bytes,
               "reclaimed_segments": s.reclaimed_segments, "throttled": s.throttled,
               "inodes_cached": s.inodes_cached, "dentries_cached": s.dentries_cached,
               "regions_cached": s.regions_cached, "inode_hits": s.inode_hits, "inode_misses": s.inode_misses,
               "dentry_hits": s.dentry_hits, "dentry_misses": s.dentry_misses,
               "data_hits": s.data_hits, "data_misses": s.data_misses, "cached_bytes": s.cached_bytes,
               "prefetches": s.prefetches, "direct_io": bool(s.direct_io),
               "last_error": s.last_error_text.decode("utf-8", "replace") if s.last_error else None}
        out["lock_waits"] = s.lock_waits
        out["time_ns"] = {"lock_wait": s.lock_wait_ns, "place": s.place_ns, "apply": s.apply_ns, "sync": s.sync_ns}
        out["errors"] = {errno.errorcode.get(k, "other"): s.errnos[k] for k in range(VX_ERRNO_MAX) if s.errnos[k]}
        out["operations"] = {vx_op_names[k].decode(): s.ops[k] for k in range(VX_OP_COUNT)}
        return out

    def compact(self, progress=None, unsigned dead_share=0):
        """Copy out the live bytes of segments with more than `dead_share` percent dead ones, and free these.

        `segments_left` of the answer are those that the host has no room to copy.
        `progress(done, total)` is called after each segment; what it raises ends the work.
        """
        cdef _Reporter r = _Reporter()
        cdef vx_fs *fs
        cdef void *ctx = <void *>r
        cdef uint32_t left = 0
        cdef int rc
        before = self.status()
        r.call = progress or (lambda done, total: None)
        fs = self.enter()
        with nogil:
            rc = fs_compact(fs, dead_share, report_progress, ctx, &left)
        self.busy -= 1
        if r.error is not None:
            raise r.error
        if rc:
            raise failed(rc, self.path)
        after = self.status()
        return {"disk_bytes_before": before["disk_bytes"], "disk_bytes_after": after["disk_bytes"],
                "segments_freed": after["reclaimed_segments"] - before["reclaimed_segments"], "segments_left": left}

    def backup_meta(self, target, progress=None):
        """Copy the metadata, as of now, to the new file `target`; between `hold` and `unhold`."""
        cdef _Reporter r = _Reporter()
        cdef vx_fs *fs
        cdef bytes where = os.fsencode(target)
        cdef const char *p = where
        cdef void *ctx = <void *>r
        cdef int rc
        r.call = progress or (lambda done, total: None)
        fs = self.enter()
        with nogil:
            rc = fs_backup_meta(fs, p, report_backup, ctx)
        self.busy -= 1
        if r.error is not None:
            raise r.error
        if rc:
            raise failed(rc, target)

    def hold(self):
        """Sync, and keep every segment until `unhold`: what the metadata names now can be copied."""
        cdef vx_fs *fs
        cdef int rc
        fs = self.enter()
        with nogil:
            rc = fs_hold(fs)
        self.busy -= 1
        if rc:
            raise failed(rc, self.path)

    def unhold(self):
        """Let reclaim go on."""
        cdef vx_fs *fs
        fs = self.enter()
        with nogil:
            fs_unhold(fs)
        self.busy -= 1

    def changes(self, uint64_t since=0, uint32_t limit=1000):
        """Oplog entries behind epoch `since`: ``(epoch, packed operations)``; ``docs/format.md`` gives the bytes."""
        cdef vx_fs *fs
        cdef gathered g
        cdef int rc
        memset(&g, 0, sizeof(g))
        fs = self.enter()
        with nogil:
            rc = fs_changes(fs, since, limit, gather_change, &g)
        self.busy -= 1
        found = records(&g)
        if rc < 0:
            raise failed(rc, self.path)
        return [(seq, data) for data, seq, _, _ in found]
