"""Import and export: a whole tree from one side to the other, with everything that POSIX knows of a file.

Mode, owner, times to the nanosecond, extended attributes, hard links, symlinks, devices and holes come along.  A file
that is there already with the same size and modification time is left as it is but for its extended attributes; the
modification time is what is set last, so a transfer that was interrupted goes on where it stopped when it is run again.
A file that replaces another one does so at once, when all of it has been read.
"""

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from vexfs.errors import describe, from_errno
from vexfs.sides import Side, kept_time
from vexfs.store.attributes import RESERVED

CHUNK = 1 << 20
ZEROS = bytes(CHUNK)
BLOCK = 4096
#: A version, then for each entry its tag, rights and id.  Source: ``linux/posix_acl_xattr.h``.
ACCESS_LIST, GROUP_OBJ = b"system.posix_acl_access", 4
#: After these there is no sense in trying the next file.
FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESHUTDOWN}

#: What a target refuses of an attribute: all of it, or so much.
ATTRIBUTE_REFUSED = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL}
ATTRIBUTE_TOO_LARGE = {errno.ENOSPC, errno.E2BIG, errno.ERANGE}
#: Of a file that is another owner's now they would be rights that nobody gave.
_RIGHTS = stat.S_ISUID | stat.S_ISGID
#: Where a file that replaces another one is until it is complete.
UNFINISHED = b".vexfs-unfinished"

Progress = Callable[[int], Any]


@attrs.define
class Summary:
    """What a transfer did."""

    files: int = 0
    directories: int = 0
    symlinks: int = 0
    hard_links: int = 0
    special: int = 0
    unchanged: int = 0
    bytes: int = 0
    skipped: list[dict[str, str]] = attrs.field(factory=list)
    errors: list[dict[str, str]] = attrs.field(factory=list)

    @property
    def done(self) -> int:
        """Everything that is in place now."""
        return self.files + self.directories + self.symlinks + self.hard_links + self.special + self.unchanged


def measure(source: Side) -> int:
    """Bytes of all regular files below the source's root; what cannot be read counts nothing."""
    total, todo = 0, [b""]
    while todo:
        path = todo.pop()
        try:
            found = source.lstat(path)
            if stat.S_ISDIR(found.st_mode):
                todo += [os.path.join(path, name) for name in source.entries(path)]
            elif stat.S_ISREG(found.st_mode):
                total += found.st_size
        except OSError:
            continue
    return total


class Transfer:
    """One run from `source` to `target`.

    Parameters
    ----------
    source, target : Side
    owners : bool
        Set owner and group; without it files belong to whoever makes them.
    keep_attributes : bool
        Leave extended attributes of the target that the source does not have.
    progress : callable, optional
        Called with the number of bytes that have just been dealt with.
    exclude : set of (device, inode)
        Directories of the source that are left out: the volume itself, should it lie in the tree.
    """

    def __init__(
        self, source: Side, target: Side, *, owners: bool = True, keep_attributes: bool = False,
        progress: Progress | None = None, exclude: frozenset[tuple[int, int]] = frozenset(),
    ) -> None:
        self.source, self.target, self.owners, self.exclude = source, target, owners, exclude
        self._keep_attributes = keep_attributes
        self.progress: Progress = progress or (lambda _: None)
        self.summary = Summary()
        self._links: dict[tuple[int, int], bytes] = {}

    def run(self) -> Summary:
        """Transfer the whole tree.  What fails is in ``summary.errors``; a full target ends the run with its error."""
        # Directories stand twice on the stack: to be entered, and to get their times when all below is done.
        todo: list[tuple[bytes, bool]] = [(b"", False)]
        while todo:
            path, filled = todo.pop()
            try:
                if filled:
                    self._metadata(path, self.source.lstat(path), directory=True)
                else:
                    todo += self._one(path)
            except OSError as error:
                if error.errno in FATAL and error.filename is None:
                    raise from_errno(error.errno, self.target.full(path)) from None
                if error.errno in FATAL:
                    raise
                self._failed(path, describe(error))
        return self.summary

    def _failed(self, path: bytes, why: str) -> None:
        self.summary.errors.append({"path": os.fsdecode(self.source.full(path)), "error": why})

    def _one(self, path: bytes) -> list[tuple[bytes, bool]]:
        """Transfer one entry; for a directory, what is to be done next."""
        found = self.source.lstat(path)
        kind = stat.S_IFMT(found.st_mode)
        there = self._there(path)
        if kind == stat.S_IFDIR:
            return self._directory(path, found, there)
        if there is not None and stat.S_ISDIR(there.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory there", self.target.full(path))
        if found.st_nlink > 1 and self._linked(path, found, there):
            return []
        if there is not None and _same(found, self._mode(path, found), there) and self._same_link(path, kind):
            self.summary.unchanged += 1
            self._attributes(path)
            self.progress(found.st_size if kind == stat.S_IFREG else 0)
            return []
        if there is not None and kind != stat.S_IFREG:
            self.target.unlink(path)
        if kind == stat.S_IFREG:
            if there is None:
                self._file(path, found)
            else:
                self._replace(path, found)
            self.summary.files += 1
        elif kind == stat.S_IFLNK:
            self.target.symlink(self.source.readlink(path), path)
            self.summary.symlinks += 1
        else:
            self.target.mknod(path, kind | 0o600, found.st_rdev)
            self.summary.special += 1
        self._metadata(path, found)
        return []

    def _there(self, path: bytes) -> Any:
        try:
            return self.target.lstat(path)
        except FileNotFoundError:
            return None

    def _same_link(self, path: bytes, kind: int) -> bool:
        return kind != stat.S_IFLNK or self.source.readlink(path) == self.target.readlink(path)

    def _directory(self, path: bytes, found: Any, there: Any) -> list[tuple[bytes, bool]]:
        if (found.st_dev, found.st_ino) in self.exclude:
            self.summary.skipped.append({"path": os.fsdecode(self.source.full(path)), "why": "is the volume itself"})
            return []
        if there is None:
            self.target.mkdir(path)
        elif not stat.S_ISDIR(there.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "is no directory there", self.target.full(path))
        else:
            if there.st_mode & stat.S_IRWXU != stat.S_IRWXU:  # until all below is done
                with contextlib.suppress(PermissionError):
                    self.target.chmod(path, stat.S_IMODE(there.st_mode) | stat.S_IRWXU)
            self._clear(os.path.join(path, UNFINISHED))
        below = [(os.path.join(path, name), False) for name in self.source.entries(path) if name != UNFINISHED]
        self.summary.directories += 1
        return [(path, True), *reversed(below)]

    def _linked(self, path: bytes, found: Any, there: Any) -> bool:
        """Make the second and later names of a file links to the first; whether that is all to do."""
        first = self._links.setdefault((found.st_dev, found.st_ino), path)
        if first == path:
            return False
        if there is not None:
            if there.st_ino == self.target.lstat(first).st_ino:
                self.summary.unchanged += 1
                return True
            self.target.unlink(path)
        self.target.link(first, path)
        self.summary.hard_links += 1
        return True

    def _replace(self, path: bytes, found: Any) -> None:
        """Copy a file that takes the place of what is there: at once, and only when all of it has been read."""
        place = os.path.join(os.path.dirname(path), UNFINISHED) if path else path  # beside the root is no place
        self._file(path, found, place)
        if place == path:
            return
        if self._keep_attributes:
            for name, value in self.target.xattrs(path).items():
                if not name.startswith(RESERVED):
                    self._set_attribute(path, name, value, place)
        self.target.rename(place, path)

    def _clear(self, place: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.target.unlink(place)

    def _file(self, path: bytes, found: Any, place: bytes | None = None) -> None:
        reading = self.source.open_read(path)
        try:
            if place is not None:
                self._clear(place)
            goal = path if place is None else place
            writing = self.target.open_write(goal)
            try:
                try:
                    self._content(reading, writing, found)
                finally:
                    self.target.close(writing)
            except BaseException:
                with contextlib.suppress(OSError):  # half a file is none; why it is half is told
                    self.target.unlink(goal)
                raise
        finally:
            self.source.close(reading)
        if self._changed(path, found):
            self._failed(path, "changed while it was read: the copy is of no one moment; the next run makes it anew")

    def _content(self, reading: int, writing: int, found: Any) -> None:
        told = 0
        for begin, end in self.source.stretches(reading, found.st_size):
            self.progress(begin - told)
            told = self._stretch(reading, writing, begin, end)
        self.progress(found.st_size - told)
        self.target.resize(writing, found.st_size)

    def _changed(self, path: bytes, found: Any) -> bool:
        try:
            now = self.source.lstat(path)
        except FileNotFoundError:
            return False  # it went: what was read is what it was at the end
        return bool((now.st_mtime_ns, now.st_size) != (found.st_mtime_ns, found.st_size))

    def _stretch(self, reading: int, writing: int, begin: int, end: int) -> int:
        """Copy a stretch of data; chunks of zeros stay holes.  Answers where it ended."""
        offset = begin
        while offset < end:
            # Chunks end on multiples, so that a large hole is whole chunks of zeros.
            piece = self.source.read(reading, min(end, (offset // CHUNK + 1) * CHUNK) - offset, offset)
            if not piece:
                break  # it was cut while we read it
            for at, part in _filled(piece):
                self.target.write(writing, part, offset + at)
                self.summary.bytes += len(part)
            offset += len(piece)
            self.progress(len(piece))
        return offset

    def _metadata(self, path: bytes, found: Any, directory: bool = False) -> None:
        """Everything but the content; the times last, because they say that all is done."""
        if self.owners:
            try:
                self.target.chown(path, found.st_uid, found.st_gid)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EACCES, errno.EINVAL):  # EINVAL: not in this user namespace
                    raise
                self._skipped(path, f"owner: {describe(error)}")
        self._attributes(path)
        if not stat.S_ISLNK(found.st_mode):
            mode = self._mode(path, found)
            keeps = directory or not mode & _RIGHTS or _owned_alike(found, self.target.lstat(path))
            self.target.chmod(path, mode if keeps else mode & ~_RIGHTS)
        self.target.utime(path, found.st_atime_ns, found.st_mtime_ns)

    def _mode(self, path: bytes, found: Any) -> int:
        """Permissions without an access list, whose mask stands where the group's are: what the group itself has."""
        mode = stat.S_IMODE(found.st_mode)
        listed = b"" if stat.S_ISLNK(found.st_mode) else self.source.xattrs(path).get(ACCESS_LIST, b"")
        for tag, rights, _ in struct.iter_unpack("<HHI", listed[4:]):
            if tag == GROUP_OBJ:
                mode &= ~stat.S_IRWXG | rights << 3
        return mode

    def _attributes(self, path: bytes) -> None:
        """Make the extended attributes those of the source; a vector that the file got where it is now stays."""
        wanted, there = self.source.xattrs(path), self.target.xattrs(path)
        for name in wanted.keys() | there.keys():
            if name in wanted:
                if wanted[name] != there.get(name):
                    self._set_attribute(path, name, wanted[name], path)
            elif not self._keep_attributes and not name.startswith(RESERVED):
                self._set_attribute(path, name, None, path)

    def _set_attribute(self, path: bytes, name: bytes, value: bytes | None, place: bytes) -> None:
        """Set an attribute of a file, or remove it, where it is; one that cannot be is left out, and told."""
        try:
            if value is None:
                self.target.remove_xattr(place, name)
            else:
                self.target.set_xattr(place, name, value)
        except OSError as error:
            if error.errno not in ATTRIBUTE_REFUSED | ATTRIBUTE_TOO_LARGE:
                raise
            why = "is more than may be there" if error.errno in ATTRIBUTE_TOO_LARGE else describe(error)
            self._skipped(path, f"xattr {os.fsdecode(name)}: {why}")

    def _skipped(self, path: bytes, why: str) -> None:
        self.summary.skipped.append({"path": os.fsdecode(self.source.full(path)), "why": why})


def _owned_alike(found: Any, there: Any) -> bool:
    return bool(found.st_uid == there.st_uid and found.st_gid == there.st_gid)


def _same(found: Any, mode: int, there: Any) -> bool:
    """Whether the target was finished by an earlier run and the source has not changed since."""
    return bool(
        stat.S_IFMT(found.st_mode) == stat.S_IFMT(there.st_mode)
        and stat.S_IMODE(there.st_mode) == (mode if _owned_alike(found, there) else mode & ~_RIGHTS)
        and kept_time(found.st_mtime_ns) == kept_time(there.st_mtime_ns)
        and found.st_rdev == there.st_rdev
        and (found.st_size == there.st_size or not stat.S_ISREG(found.st_mode))
    )


def _filled(piece: bytes) -> Iterator[tuple[int, bytes]]:
    """The parts of a piece that are not whole blocks of zeros."""
    if piece != ZEROS[: len(piece)] and ZEROS[:BLOCK] not in piece:
        yield 0, piece
        return
    begin = None
    for at in range(0, len(piece), BLOCK):
        block = piece[at : at + BLOCK]
        empty = block == ZEROS[: len(block)]
        if not empty and begin is None:
            begin = at
        elif empty and begin is not None:
            yield begin, piece[begin:at]
            begin = None
    if begin is not None:
        yield begin, piece[begin:]
