"""What changed in a filesystem, gathered for those who look now and then and never make anybody wait."""

from libc.stdlib cimport free, malloc

from vexfs._core.fs cimport Filesystem
from vexfs._core.ops cimport (
    VX_EVENT_ENTRY,
    VX_EVENT_INODE,
    fs_events_attach,
    fs_events_detach,
    fs_events_take,
    vx_event,
    vx_fs,
)

cdef int _BATCH = 512


cdef class Watch:
    """Changes of content and names since the last look, not of attributes alone.  For one thread; the filesystem must
    outlive it.

    Parameters
    ----------
    filesystem : Filesystem

    Raises
    ------
    OSError
        EMFILE: as many look on already as can.
    """

    cdef Filesystem filesystem
    cdef vx_event *events
    cdef int origin

    def __cinit__(self, Filesystem filesystem not None):
        self.origin = 0
        self.events = <vx_event *>malloc(_BATCH * sizeof(vx_event))
        if self.events is NULL:
            raise MemoryError()
        self.filesystem = filesystem
        cdef int origin = fs_events_attach(filesystem.handle(), 1)
        if origin < 0:
            raise OSError(-origin, "as many look on at the filesystem's changes as can")
        self.origin = origin

    def __dealloc__(self):
        free(self.events)

    def close(self):
        """Look on no more; before the filesystem is closed."""
        cdef vx_fs *fs
        if self.origin:
            fs = self.filesystem.handle()
            fs_events_detach(fs, self.origin)
            fs_events_take(fs, self.origin, self.events, 1)  # gives the queue back
            self.origin = 0

    def take(self):
        """What has changed.

        Returns
        -------
        (set of int, set of (int, bytes)) or None
            Inode numbers of files whose content changed; directories with the names that came, went or point elsewhere.
            None: there was more than could be remembered, and anything may have changed.
        """
        cdef vx_fs *fs = self.filesystem.handle()
        cdef vx_event *e
        cdef int n = _BATCH, k
        cdef set contents = set(), names = set()
        while n == _BATCH:
            with nogil:
                n = fs_events_take(fs, self.origin, self.events, _BATCH)
            for k in range(n):
                e = &self.events[k]
                if e.kind == VX_EVENT_ENTRY:
                    names.add((e.ino, e.name[:e.name_n]))
                elif e.kind != VX_EVENT_INODE:
                    return None
                elif e.content:
                    contents.add(e.ino)
        return contents, names
