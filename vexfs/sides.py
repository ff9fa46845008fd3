"""The two sides of an import or export: a tree on the host and a tree in a volume, under one set of verbs.

Paths are bytes relative to the side's root; ``b""`` is the root itself.  Symlinks are never followed.
"""

# ruff: noqa: D102 - the protocol Side says what each method does

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any, Protocol

from vexfs._core.fs import Filesystem


def kept_time(ns: int) -> int:
    """The time that a volume keeps of one, ns since 1970: from the year 1677 to 2262, as on a mount."""
    return max(-(1 << 63), min(ns, (1 << 63) - 1))


class Side(Protocol):
    """What a transfer needs of either side.  Failures are ``OSError``."""

    def full(self, path: bytes) -> bytes:
        """The path for messages."""

    def entries(self, path: bytes) -> list[bytes]:
        """The names in a directory, sorted."""

    def lstat(self, path: bytes) -> Any:
        """The attributes, with the names of ``os.stat_result``."""

    def readlink(self, path: bytes) -> bytes:
        """What a symlink says."""

    def xattrs(self, path: bytes) -> dict[bytes, bytes]:
        """All extended attributes that may be read."""

    def set_xattr(self, path: bytes, name: bytes, value: bytes) -> None:
        """Set one extended attribute."""

    def remove_xattr(self, path: bytes, name: bytes) -> None:
        """Remove one extended attribute."""

    def mkdir(self, path: bytes) -> None:
        """Make a directory that its owner alone may use."""

    def mknod(self, path: bytes, mode: int, device: int) -> None:
        """Make a FIFO, socket or device."""

    def symlink(self, target: bytes, path: bytes) -> None:
        """Make a symlink."""

    def link(self, source: bytes, path: bytes) -> None:
        """Give a file a second name."""

    def unlink(self, path: bytes) -> None:
        """Remove a name that is no directory's."""

    def rename(self, source: bytes, path: bytes) -> None:
        """Move a file, in place of the one that is there."""

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        """Set owner and group."""

    def chmod(self, path: bytes, mode: int) -> None:
        """Set the permission bits; of a symlink there are none."""

    def utime(self, path: bytes, atime_ns: int, mtime_ns: int) -> None:
        """Set the times."""

    def open_read(self, path: bytes) -> int:
        """A handle on a regular file."""

    def open_write(self, path: bytes) -> int:
        """A handle on a new, empty regular file that its owner alone may use."""

    def stretches(self, handle: int, size: int) -> Iterator[tuple[int, int]]:
        """Where there is data: begin and end of each stretch between holes."""

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Bytes of an open file."""

    def write(self, handle: int, data: bytes, offset: int) -> None:
        """Put all of `data` into an open file."""

    def resize(self, handle: int, size: int) -> None:
        """Set the size of an open file."""

    def close(self, handle: int) -> None:
        """Give the handle back."""


class HostSide:
    """A tree of the host."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(os.fsencode(root))

    def full(self, path: bytes) -> bytes:
        return os.path.join(self.root, path) if path else self.root

    def entries(self, path: bytes) -> list[bytes]:
        return sorted(os.listdir(self.full(path)))

    def lstat(self, path: bytes) -> Any:
        return os.lstat(self.full(path))

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(self.full(path))

    def xattrs(self, path: bytes) -> dict[bytes, bytes]:
        where = self.full(path)
        values = {}
        try:
            names = os.listxattr(where, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return {}
            raise
        for name in names:
            with contextlib.suppress(PermissionError):
                values[os.fsencode(name)] = os.getxattr(where, name, follow_symlinks=False)
        return values

    def set_xattr(self, path: bytes, name: bytes, value: bytes) -> None:
        os.setxattr(self.full(path), name, value, follow_symlinks=False)

    def remove_xattr(self, path: bytes, name: bytes) -> None:
        os.removexattr(self.full(path), name, follow_symlinks=False)

    def mkdir(self, path: bytes) -> None:
        os.mkdir(self.full(path), 0o700)

    def mknod(self, path: bytes, mode: int, device: int) -> None:
        os.mknod(self.full(path), mode, device)

    def symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, self.full(path))

    def link(self, source: bytes, path: bytes) -> None:
        os.link(self.full(source), self.full(path), follow_symlinks=False)

    def unlink(self, path: bytes) -> None:
        os.unlink(self.full(path))

    def rename(self, source: bytes, path: bytes) -> None:
        os.rename(self.full(source), self.full(path))

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        os.chown(self.full(path), uid, gid, follow_symlinks=False)

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(self.full(path), mode)

    def utime(self, path: bytes, atime_ns: int, mtime_ns: int) -> None:
        os.utime(self.full(path), ns=(atime_ns, mtime_ns), follow_symlinks=False)

    def open_read(self, path: bytes) -> int:
        return os.open(self.full(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)

    def open_write(self, path: bytes) -> int:
        return os.open(self.full(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def stretches(self, handle: int, size: int) -> Iterator[tuple[int, int]]:
        end = 0
        while end < size:
            try:
                begin = os.lseek(handle, end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                yield end, size  # a filesystem that does not tell
                return
            end = min(os.lseek(handle, begin, os.SEEK_HOLE), size)
            if begin < end:
                yield begin, end
            else:
                return

    def read(self, handle: int, size: int, offset: int) -> bytes:
        return os.pread(handle, size, offset)

    def write(self, handle: int, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(handle, view, offset)
            view, offset = view[done:], offset + done

    def resize(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def close(self, handle: int) -> None:
        os.close(handle)


class VolumeSide:
    """A tree of a volume."""

    def __init__(self, filesystem: Filesystem, root: str) -> None:
        self.filesystem = filesystem
        self.root = b"/" + os.fsencode(root).strip(b"/")

    def full(self, path: bytes) -> bytes:
        return os.path.join(self.root, path) if path else self.root

    def entries(self, path: bytes) -> list[bytes]:
        return sorted(name for name, _, _ in self.filesystem.scandir(self.full(path)))

    def lstat(self, path: bytes) -> Any:
        return self.filesystem.stat(self.full(path), False)

    def readlink(self, path: bytes) -> bytes:
        return self.filesystem.readlink(self.full(path))

    def xattrs(self, path: bytes) -> dict[bytes, bytes]:
        where = self.full(path)
        return {name: self.filesystem.getxattr(where, name, False) for name in self.filesystem.listxattr(where, False)}

    def set_xattr(self, path: bytes, name: bytes, value: bytes) -> None:
        self.filesystem.setxattr(self.full(path), name, value, 0, False)

    def remove_xattr(self, path: bytes, name: bytes) -> None:
        self.filesystem.removexattr(self.full(path), name, False)

    def mkdir(self, path: bytes) -> None:
        self.filesystem.mkdir(self.full(path), 0o700)

    def mknod(self, path: bytes, mode: int, device: int) -> None:
        self.filesystem.mknod(self.full(path), mode, device)

    def symlink(self, target: bytes, path: bytes) -> None:
        self.filesystem.symlink(target, self.full(path))

    def link(self, source: bytes, path: bytes) -> None:
        self.filesystem.link(self.full(source), self.full(path), False)

    def unlink(self, path: bytes) -> None:
        self.filesystem.unlink(self.full(path))

    def rename(self, source: bytes, path: bytes) -> None:
        self.filesystem.rename(self.full(source), self.full(path))

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        self.filesystem.chown(self.full(path), uid, gid, False)

    def chmod(self, path: bytes, mode: int) -> None:
        self.filesystem.chmod(self.full(path), mode)

    def utime(self, path: bytes, atime_ns: int, mtime_ns: int) -> None:
        self.filesystem.utimens(self.full(path), kept_time(atime_ns), kept_time(mtime_ns), False)

    def open_read(self, path: bytes) -> int:
        return self.filesystem.open(self.full(path), os.O_RDONLY | os.O_NOFOLLOW)

    def open_write(self, path: bytes) -> int:
        return self.filesystem.open(self.full(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def stretches(self, handle: int, size: int) -> Iterator[tuple[int, int]]:
        end = 0
        while end < size and (found := self.filesystem.data(handle, end)) is not None:
            begin, end = found
            if begin < size:
                yield begin, min(end, size)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        return self.filesystem.read(handle, size, offset)

    def write(self, handle: int, data: bytes, offset: int) -> None:
        self.filesystem.write(handle, data, offset)

    def resize(self, handle: int, size: int) -> None:
        self.filesystem.truncate_ino(handle, size)

    def close(self, handle: int) -> None:
        self.filesystem.release(handle)
