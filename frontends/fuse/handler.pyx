"""What all request handlers of one mount share: counting, answering, waiting, and who asks."""

import llfuse
from llfuse import EntryAttributes, FUSEError

from libc.stdint cimport uint64_t
from libc.string cimport memset
from posix.unistd cimport write

from vexfs._core.fs cimport vx_attr, vx_cred
from vexfs.frontends.fuse.adapter cimport VX_FIRST_VIRTUAL, Adapter
from vexfs.frontends.fuse.reply cimport fill_entry

cdef extern from *:
    """
    static inline int vx_add(int *number, int n) { return __atomic_add_fetch(number, n, __ATOMIC_RELAXED); }
    """
    int vx_add(int *number, int n) nogil

#: Seconds that the kernel is told to trust an answer, at most.
TIMEOUT_MOST = 1e9

#: The requests of a kernel, in the order of their counters.
REQUESTS = (
    "lookup", "forget", "mknod", "mkdir", "symlink", "link", "unlink", "rmdir", "rename", "getattr", "setattr",
    "readlink", "access", "statfs", "getxattr", "setxattr", "listxattr", "removexattr", "create", "open",
    "read", "write", "flush", "release", "fsync", "opendir", "readdir", "fsyncdir", "releasedir", "fallocate",
)


class RetireWorker(BaseException):
    """Raised by a handler on purpose: ends the main loop of the thread that it runs in."""


cdef class Handler:
    """What :class:`vexfs.frontends.fuse.operations.Operations` builds on."""

    def __init__(self, Adapter adapter not None, options, ready, int crowd):
        self.adapter = adapter
        self.attr_timeout = options.attr_timeout_s
        self.entry_timeout = options.entry_timeout_s
        self.negative_timeout = options.negative_timeout_s
        self.attr_ns, self.entry_ns, self.negative_ns = (
            int(min(s, TIMEOUT_MOST) * 1e9) for s in (self.attr_timeout, self.entry_timeout, self.negative_timeout)
        )
        self.negative = EntryAttributes()
        self.negative.st_ino = 0        # an entry without an inode: the kernel remembers that there is none
        self.negative.entry_timeout = self.negative_timeout
        self.ready = ready
        self.crowd = crowd
        self.lock = llfuse.lock
        self.workers = 1
        memset(self.requests, 0, sizeof(self.requests))
        memset(self.taken, 0, sizeof(self.taken))
        memset(self.readers, 0, sizeof(self.readers))

    def counted(self):
        """Requests so far, by kind."""
        return {name: self.requests[i] + self.taken[i] for i, name in enumerate(REQUESTS)}

    cdef object answer(self, error, str operation):
        """The FUSEError to raise for whatever a handler ran into."""
        if isinstance(error, (FUSEError, RetireWorker)):
            return error
        return FUSEError(self.adapter.errno_of(error, operation))

    cdef object entry(self, const vx_attr *attr):
        entry = EntryAttributes()
        if attr.ino >= VX_FIRST_VIRTUAL:
            fill_entry(entry, attr, 0, 0)
        else:
            fill_entry(entry, attr, self.attr_timeout, self.entry_timeout)
        return entry

    cdef vx_cred cred(self, ctx):
        cdef vx_cred who = self.adapter.cred()
        who.uid = ctx.uid
        who.gid = ctx.gid
        return who

    cdef void ask_for_workers(self) noexcept nogil:
        cdef uint64_t one = 1
        if self.crowd >= 0:
            write(self.crowd, &one, sizeof(one))

    cdef int begin_wait(self) except -1:
        """Let other requests run while this one waits for the disk; see to it that somebody is left to take them."""
        if vx_add(&self.waiting, 1) >= self.workers:
            self.ask_for_workers()
        self.lock.release()
        return 0

    cdef int end_wait(self) except -1:
        self.lock.acquire()
        vx_add(&self.waiting, -1)
        return 0
