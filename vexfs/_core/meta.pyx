"""The metadata store from Python: for tests, the check of a volume, and tools.

The filesystem itself calls ``vexfs/meta.h`` without the interpreter.  Here rows are ``bytes`` and every failure is an
error of :mod:`vexfs.errors` whose message names the file and what helps.
"""

import errno as _errno
import os

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from vexfs.errors import FormatUnknown, KeyMissing, KeyWrong, from_errno

_OPENING = {_errno.EPROTONOSUPPORT: FormatUnknown, _errno.ENOKEY: KeyMissing, _errno.EKEYREJECTED: KeyWrong}


cdef class _Rows:
    """What a scan found, and the error that ended it: a row that went missing in silence would look like damage."""

    cdef list rows
    cdef object error

    def __cinit__(self):
        self.rows = []
        self.error = None

    cdef list found(self):
        if self.error is not None:
            raise self.error
        return self.rows


cdef int add_dentry(void *ctx, const vx_dentry_row *row) noexcept with gil:
    try:
        (<_Rows> ctx).rows.append((row.slot, row.ino, row.type, row.name[: row.name_n]))
        return 0
    except BaseException as error:
        (<_Rows> ctx).error = error
        return 1


cdef int add_entry(void *ctx, uint64_t parent, const vx_dentry_row *row) noexcept with gil:
    try:
        (<_Rows> ctx).rows.append((parent, row.slot, row.ino, row.type, row.name[: row.name_n]))
        return 0
    except BaseException as error:
        (<_Rows> ctx).error = error
        return 1


cdef int add_row(void *ctx, uint64_t key, const void *data, size_t n) noexcept with gil:
    try:
        (<_Rows> ctx).rows.append((key, (<const char *> data)[:n]))
        return 0
    except BaseException as error:
        (<_Rows> ctx).error = error
        return 1


cdef int add_small_row(void *ctx, uint32_t key, const void *data, size_t n) noexcept with gil:
    return add_row(ctx, key, data, n)


cdef int add_ino(void *ctx, uint64_t ino) noexcept with gil:
    try:
        (<_Rows> ctx).rows.append(ino)
        return 0
    except BaseException as error:
        (<_Rows> ctx).error = error
        return 1


cdef int tell_progress(void *ctx, int done, int total) noexcept with gil:
    state = <list> ctx
    try:
        return 1 if state[0](done, total) else 0
    except BaseException as error:
        state[1] = error
        return 1


cdef int add_damage(void *ctx, uint32_t page, uint32_t total, int err) noexcept with gil:
    state = <list> ctx
    state[0] = total
    if err:
        state[1].append((page, -err))
    return 0


cdef class Meta:
    """An open metadata store.

    Parameters
    ----------
    path : str
        The ``meta.db`` file.
    key : bytes, optional
        The volume's master key, 32 bytes; without one the store is plain.
    create : bool
        Make the store when it is not there.
    read_only : bool
        Refuse every change; nothing on disk is touched.
    salvage : bool
        Open although the write-ahead log is damaged, and lose the commits after the damage.
    cache_bytes : int
        Page cache of both connections together; 0 means 32 MiB.

    Raises
    ------
    NotFound, KeyMissing, KeyWrong, FormatUnknown, Damaged
        With ``errno`` ``ENOENT``, ``ENOKEY``, ``EKEYREJECTED``, ``EPROTONOSUPPORT``, ``EBADMSG``.

    Notes
    -----
    Reads may come from any thread.  Changes (``begin`` to ``commit``, and ``checkpoint``) belong to one thread at a
    time.  The object owns the C store and closes it when it goes.
    """

    def __cinit__(self, path, *, bytes key=None, bint create=False, bint read_only=False, bint salvage=False,
                  uint64_t cache_bytes=0):
        cdef vx_meta_options o
        cdef bytes name = os.fsencode(path)
        cdef int rc
        self.m = NULL
        self.path = os.fsdecode(path)
        if key is not None and len(key) != 32:
            raise ValueError(f"a key has 32 bytes, not {len(key)}")
        o.path = name
        o.key = NULL if key is None else <const uint8_t *> <const char *> key
        o.cache_bytes = cache_bytes
        o.create, o.read_only, o.salvage = create, read_only, salvage
        with nogil:
            rc = vx_meta_open(&self.m, &o)
        if rc:
            message = vx_meta_error(NULL).decode(errors="replace")
            if -rc in _OPENING:
                raise _OPENING[-rc](-rc, message)
            raise from_errno(rc, message=message)

    def __dealloc__(self):
        if self.m != NULL:
            vx_meta_close(self.m)

    cdef int check(self, int rc) except -1:
        if rc >= 0:
            return rc
        if rc == -_errno.ENOENT:
            raise from_errno(rc, message=f"{self.path}: no such row")
        raise from_errno(rc, message=vx_meta_error(self.m).decode(errors="replace"))

    cdef int closed(self) except -1:
        if self.m == NULL:
            raise ValueError(f"{self.path}: the store is closed")
        return 0

    def close(self):
        """Copy the log into the database, remove it, and close; a second call does nothing."""
        cdef vx_meta *m = self.m
        self.m = NULL
        if m != NULL:
            with nogil:
                vx_meta_close(m)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # -- reading ------------------------------------------------------------------------------------------------------

    def refresh(self):
        """Let later reads see the newest commit."""
        self.closed()
        vx_meta_refresh(self.m)

    def get_inode(self, uint64_t ino):
        """The inode's row as ``bytes``; ``NotFound`` if there is none."""
        cdef const void *data = NULL
        cdef size_t n = 0
        cdef int rc
        self.closed()
        rc = vx_meta_get_inode(self.m, ino, &data, &n)
        self.check(rc)
        return (<const char *> data)[:n]

    def get_map(self, uint64_t ino, uint32_t region):
        """The extent map of one region of a file."""
        cdef const void *data = NULL
        cdef size_t n = 0
        self.closed()
        self.check(vx_meta_get_map(self.m, ino, region, &data, &n))
        return (<const char *> data)[:n]

    def get_xattr(self, uint64_t ino):
        """The extended attributes of an inode, packed."""
        cdef const void *data = NULL
        cdef size_t n = 0
        self.closed()
        self.check(vx_meta_get_xattr(self.m, ino, &data, &n))
        return (<const char *> data)[:n]

    def get_content(self, uint64_t ino):
        """The content of a small file that does not lie in its inode's row."""
        cdef const void *data = NULL
        cdef size_t n = 0
        self.closed()
        self.check(vx_meta_get_content(self.m, ino, &data, &n))
        return (<const char *> data)[:n]

    def lookup(self, uint64_t parent, uint64_t hash, bytes name):
        """``(ino, type, slot)`` of the name among the slots ``hash`` to ``hash + 3``."""
        cdef uint64_t ino = 0, slot = 0
        cdef uint32_t kind = 0
        self.closed()
        self.check(vx_meta_lookup(self.m, parent, hash, name, len(name), &ino, &kind, &slot))
        return ino, kind, slot

    def scan(self, uint64_t parent, uint64_t after=0, uint32_t limit=1000):
        """Entries of a directory with a slot above `after`: a list of ``(slot, ino, type, name)``."""
        rows = _Rows()
        self.closed()
        self.check(vx_meta_scan(self.m, parent, after, limit, add_dentry, <void *> rows))
        return rows.found()

    def scan_maps(self, uint64_t ino, uint32_t first=0):
        """Extent maps of a file from a region on: a list of ``(region, map)``."""
        rows = _Rows()
        self.closed()
        self.check(vx_meta_scan_maps(self.m, ino, first, add_small_row, <void *> rows))
        return rows.found()

    def get_int(self, str name):
        """A number of the ``meta`` table."""
        cdef int64_t value = 0
        cdef bytes key = name.encode()
        self.closed()
        self.check(vx_meta_get_int(self.m, key, &value))
        return value

    def get_blob(self, str name):
        """A value of the ``meta`` table."""
        cdef const void *data = NULL
        cdef size_t n = 0
        cdef bytes key = name.encode()
        self.closed()
        self.check(vx_meta_get_blob(self.m, key, &data, &n))
        return (<const char *> data)[:n]

    def scan_segments(self):
        """All segments: a list of ``(seg, row)``."""
        rows = _Rows()
        self.closed()
        self.check(vx_meta_scan_segments(self.m, add_small_row, <void *> rows))
        return rows.found()

    def scan_orphans(self):
        """Inodes that have no name left but may still be open."""
        rows = _Rows()
        self.closed()
        self.check(vx_meta_scan_orphans(self.m, add_ino, <void *> rows))
        return rows.found()

    def scan_tails(self, int64_t after=-1, uint32_t limit=1000):
        """What the log has of segments: a list of ``(segment << 32 | position, data)`` above `after`, in that order."""
        rows = _Rows()
        self.closed()
        self.check(vx_meta_scan_tails(self.m, after, limit, add_row, <void *> rows))
        return rows.found()

    def settle_tails(self, directory):
        """Write the tails to their segments in `directory`, what is missing of them with a store for reading only."""
        cdef bytes name = os.fsencode(directory)
        cdef int rc
        self.closed()
        rc = vx_meta_settle_tails(self.m, name)
        if rc < 0:
            self.check(rc)
        return rc

    def scan_oplog(self, uint64_t after=0, uint32_t limit=1000):
        """Entries of the outbox with a number above `after`: a list of ``(seq, data)``."""
        rows = _Rows()
        self.closed()
        self.check(vx_meta_scan_oplog(self.m, after, limit, add_row, <void *> rows))
        return rows.found()

    def scan_inodes(self, int64_t after=-1, uint32_t limit=1000):
        """Inodes above `after`: a list of ``(ino, row)``."""
        rows = _Rows()
        self.closed()
        self.check(vx_meta_scan_inodes(self.m, after, limit, add_row, <void *> rows))
        return rows.found()

    def scan_all_maps(self, int64_t after=-1, uint32_t limit=1000):
        """Extent maps of all files: a list of ``(ino << 24 | region, map)``."""
        rows = _Rows()
        self.closed()
        self.check(vx_meta_scan_all_maps(self.m, after, limit, add_row, <void *> rows))
        return rows.found()

    def scan_xattrs(self, int64_t after=-1, uint32_t limit=1000):
        """Extended attributes of all files: a list of ``(ino, data)``."""
        rows = _Rows()
        self.closed()
        self.check(vx_meta_scan_xattrs(self.m, after, limit, add_row, <void *> rows))
        return rows.found()

    def scan_contents(self, int64_t after=-1, uint32_t limit=1000):
        """Contents of small files: a list of ``(ino, data)``."""
        rows = _Rows()
        self.closed()
        self.check(vx_meta_scan_contents(self.m, after, limit, add_row, <void *> rows))
        return rows.found()

    def scan_dentries(self, uint64_t parent=0, uint64_t after=0, uint32_t limit=1000):
        """Entries of all directories behind ``(parent, after)``: a list of ``(parent, slot, ino, type, name)``."""
        rows = _Rows()
        self.closed()
        self.check(vx_meta_scan_dentries(self.m, parent, after, limit, add_entry, <void *> rows))
        return rows.found()

    # -- writing ------------------------------------------------------------------------------------------------------

    def begin(self):
        """Open the transaction in which every change is made."""
        self.closed()
        self.check(vx_meta_begin(self.m))

    def commit(self):
        """Make the transaction visible, atomically and in order; :meth:`sync` makes it durable."""
        cdef int rc
        self.closed()
        with nogil:
            rc = vx_meta_commit(self.m)
        self.check(rc)

    def rollback(self):
        """Undo the transaction; without one, do nothing."""
        self.closed()
        self.check(vx_meta_rollback(self.m))

    def put_inode(self, uint64_t ino, bytes row):
        self.closed()
        self.check(vx_meta_put_inode(self.m, ino, <const char *> row, len(row)))

    def del_inode(self, uint64_t ino):
        """Remove an inode with all that belongs to it: attributes, content, extent maps, its note as an orphan."""
        self.closed()
        self.check(vx_meta_del_inode(self.m, ino, VX_PART_ALL))

    def put_dentry(self, uint64_t parent, uint64_t slot, uint64_t ino, uint32_t type, bytes name):
        self.closed()
        self.check(vx_meta_put_dentry(self.m, parent, slot, ino, type, name, len(name)))

    def del_dentry(self, uint64_t parent, uint64_t slot):
        self.closed()
        self.check(vx_meta_del_dentry(self.m, parent, slot))

    def put_map(self, uint64_t ino, uint32_t region, bytes data):
        self.closed()
        self.check(vx_meta_put_map(self.m, ino, region, <const char *> data, len(data)))

    def del_map(self, uint64_t ino, uint32_t region):
        self.closed()
        self.check(vx_meta_del_map(self.m, ino, region))

    def del_maps(self, uint64_t ino, uint32_t from_region=0):
        self.closed()
        self.check(vx_meta_del_maps(self.m, ino, from_region))

    def put_xattr(self, uint64_t ino, bytes data):
        self.closed()
        self.check(vx_meta_put_xattr(self.m, ino, <const char *> data, len(data)))

    def del_xattr(self, uint64_t ino):
        self.closed()
        self.check(vx_meta_del_xattr(self.m, ino))

    def put_content(self, uint64_t ino, bytes data):
        self.closed()
        self.check(vx_meta_put_content(self.m, ino, <const char *> data, len(data)))

    def del_content(self, uint64_t ino):
        self.closed()
        self.check(vx_meta_del_content(self.m, ino))

    def put_segment(self, uint32_t seg, bytes row):
        self.closed()
        self.check(vx_meta_put_segment(self.m, seg, <const char *> row, len(row)))

    def del_segment(self, uint32_t seg):
        self.closed()
        self.check(vx_meta_del_segment(self.m, seg))

    def put_tail(self, uint32_t seg, uint32_t pos, bytes data):
        self.closed()
        self.check(vx_meta_put_tail(self.m, seg, pos, <const char *> data, len(data)))

    def clear_tails(self):
        self.closed()
        self.check(vx_meta_clear_tails(self.m))

    def put_orphan(self, uint64_t ino):
        self.closed()
        self.check(vx_meta_put_orphan(self.m, ino))

    def del_orphan(self, uint64_t ino):
        self.closed()
        self.check(vx_meta_del_orphan(self.m, ino))

    def put_oplog(self, uint64_t seq, bytes data):
        self.closed()
        self.check(vx_meta_put_oplog(self.m, seq, <const char *> data, len(data)))

    def trim_oplog(self, uint64_t upto, uint64_t most_bytes=1 << 62):
        """Remove the entries of the outbox up to and with `upto`, and those with `most_bytes` or more behind them.
        Answers the last that went, 0 when none did."""
        cdef uint64_t last = 0
        self.closed()
        self.check(vx_meta_trim_oplog(self.m, upto, most_bytes, &last))
        return last

    def put_int(self, str name, int64_t value):
        cdef bytes key = name.encode()
        self.closed()
        self.check(vx_meta_put_int(self.m, key, value))

    def put_blob(self, str name, bytes data):
        cdef bytes key = name.encode()
        self.closed()
        self.check(vx_meta_put_blob(self.m, key, <const char *> data, len(data)))

    # -- durability ---------------------------------------------------------------------------------------------------

    def sync(self):
        """Return when every commit so far is on stable storage; callers at the same time share one sync."""
        cdef int rc
        self.closed()
        with nogil:
            rc = vx_meta_sync(self.m)
        self.check(rc)

    def checkpoint(self, bint truncate=False):
        """Copy the log into the database and sync it; with `truncate` empty the log file too."""
        cdef int rc
        self.closed()
        with nogil:
            rc = vx_meta_checkpoint(self.m, truncate)
        self.check(rc)

    @property
    def wal_bytes(self):
        """Committed bytes in the log that are not yet in the database."""
        self.closed()
        return vx_meta_wal_bytes(self.m)

    def backup(self, path, progress=None):
        """Copy the newest commit to a new file while the store stays in use.

        Parameters
        ----------
        path : path-like
            Must not exist; it appears when the copy is complete and durable.
        progress : callable, optional
            Called with ``(pages done, pages in all)``; a true answer cancels (``errno`` ``ECANCELED``).
        """
        cdef bytes name = os.fsencode(path)
        cdef const char *c_name = name
        cdef int rc
        cdef vx_progress_fn fn = NULL
        cdef list state = [progress, None]
        cdef void *ctx = <void *> state
        self.closed()
        if progress is not None:
            fn = tell_progress
        with nogil:
            rc = vx_meta_backup(self.m, c_name, fn, ctx)
        if state[1] is not None:
            raise state[1]
        self.check(rc)

    def verify(self):
        """Check every page of the database file.

        Returns
        -------
        pages : int
            How many there are.
        damaged : list of (int, int)
            Page number and errno: ``EBADMSG`` damaged, ``EKEYREJECTED`` sound but not of this place or key.
        """
        cdef int rc
        cdef list state = [0, []]
        cdef void *ctx = <void *> state
        self.closed()
        with nogil:
            rc = vx_meta_verify(self.m, add_damage, ctx)
        self.check(rc)
        return state[0], state[1]
