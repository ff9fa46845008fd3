"""The files of a volume as Python programs want them: the verbs of ``os`` and ``shutil`` on paths in the volume.

Paths are relative to the volume's root (a leading slash changes nothing): ``str``, ``bytes``, or path objects.  What
fails raises the ``OSError`` that ``os`` would raise, which is a class of ``vexfs.errors`` too.
"""

import contextlib
import errno
import os
import stat
import time
import weakref
from collections.abc import Callable, Iterator
from typing import IO, Any, NoReturn

from vexfs.frontends.local.attributes import Attributes
from vexfs.frontends.local.fileobject import RawFile, open_file
from vexfs.frontends.local.globbing import glob, join
from vexfs.frontends.local.paths import AnyPath, VolumePath, bind, is_own, plain_text, text
from vexfs.frontends.local.transfers import copy_content, copy_metadata, remove_tree

from vexfs._core.fs import Filesystem, Stat
from vexfs.errors import InvalidArgument, NameTooLong, VolumeClosed, from_errno


class DirEntry:
    """One entry of a directory, as ``os.DirEntry``."""

    __slots__ = ("_filesystem", "_ino", "_kind", "name", "path")

    def __init__(self, filesystem: Filesystem, directory: str, name: bytes, ino: int, kind: int) -> None:
        self._filesystem, self._ino, self._kind = filesystem, ino, kind
        self.name = os.fsdecode(name)
        self.path = join(directory, self.name)

    def inode(self) -> int:
        """The inode number."""
        return self._ino

    def stat(self, *, follow_symlinks: bool = True) -> Stat:
        """The attributes, read now."""
        return self._filesystem.stat(self.path, follow_symlinks)

    def _is(self, kind: int, follow_symlinks: bool) -> bool:
        if not follow_symlinks or not stat.S_ISLNK(self._kind):
            return self._kind == kind
        try:
            return stat.S_IFMT(self.stat().st_mode) == kind
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
                return False
            raise

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory."""
        return self._is(stat.S_IFDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a regular file."""
        return self._is(stat.S_IFREG, follow_symlinks)

    def is_symlink(self) -> bool:
        """Whether it is a symlink."""
        return stat.S_ISLNK(self._kind)

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"


def umask() -> int:
    """The process's umask, read without the moment in which ``os.umask`` has to change it."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


class Files:
    """What :class:`~vexfs.frontends.local.LocalVolume` offers on files; needs only a ``filesystem``.

    What is made here gets its mode less the umask that the process had when the volume was opened.
    """

    filesystem: Filesystem

    def __init__(self) -> None:
        self._open_files: weakref.WeakSet[Any] = weakref.WeakSet()
        self._path_class: type[VolumePath] = bind(self)
        self._umask = umask()

    def __reduce__(self) -> NoReturn:
        # A copy would close what both stand on, when it goes.
        raise TypeError("an open volume cannot be copied or pickled: open it where it is needed")

    # -- objects

    def path(self, *parts: AnyPath) -> VolumePath:
        """A path object in this volume that behaves as ``pathlib.Path`` does."""
        return self._path_class(*(plain_text(part) for part in parts))

    def open(
        self, path: AnyPath, mode: str = "r", buffering: int = -1, encoding: str | None = None,
        errors: str | None = None, newline: str | None = None,
    ) -> IO[Any]:
        """Open a file as the built-in ``open`` does; text is UTF-8 unless `encoding` says otherwise."""
        file = open_file(self.filesystem, text(path), mode, buffering, encoding, errors, newline, 0o666 & ~self._umask)
        self._open_files.add(file)
        return file

    def close_files(self) -> None:
        """Flush and close every file object that is still open; raises the first error when all have been tried."""
        failed = None
        for file in list(self._open_files):
            try:
                with contextlib.suppress(ValueError):  # detached: its buffer lives on elsewhere
                    file.close()
            except OSError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def fsync(self, file: IO[Any] | None = None) -> None:
        """Wait until a file object's bytes, or everything, is on stable storage."""
        if file is None:
            self.filesystem.sync()
            return
        file.flush()
        raw: Any = file
        while not isinstance(raw, RawFile):
            raw = raw.buffer if hasattr(raw, "buffer") else raw.raw
        raw.sync()

    def attributes(self, path: AnyPath) -> Attributes:
        """The file's attributes (``user.`` xattrs) as a mapping with JSON types."""
        where = text(path)
        self.filesystem.stat(where)
        return Attributes(self.filesystem, where)

    # -- whole files

    def read_bytes(self, path: AnyPath) -> bytes:
        """A file's content."""
        return self.filesystem.read_file(text(path))

    def read_text(self, path: AnyPath, encoding: str = "utf-8", errors: str = "strict") -> str:
        """A file's content as text, with universal newlines."""
        with self.open(path, "r", encoding=encoding, errors=errors) as file:
            content: str = file.read()
        return content

    def write_bytes(self, path: AnyPath, data: Any) -> int:
        """Create or replace a file's content; makes the directories above it.  Answers the number of bytes."""
        where = text(path)
        try:
            return self._write_file(where, data)
        except FileNotFoundError:
            self._make_parents(where)
            return self._write_file(where, data)

    def _write_file(self, path: str, data: Any) -> int:
        return self.filesystem.write_file(path, data, 0o666 & ~self._umask)

    def write_text(
        self, path: AnyPath, content: str, encoding: str = "utf-8", errors: str = "strict", newline: str | None = None
    ) -> int:
        """Create or replace a file with text; makes the directories above it.  Answers the number of characters."""
        if newline not in (None, "", "\n"):
            content = content.replace("\n", newline)
        self.write_bytes(path, content.encode(encoding, errors))
        return len(content)

    def _make_parents(self, path: str) -> None:
        parent = os.path.dirname(path.rstrip("/"))
        if parent.strip("/"):
            self.makedirs(parent, exist_ok=True)

    # -- looking

    def stat(self, path: AnyPath, follow_symlinks: bool = True) -> Stat:
        """As ``os.stat``."""
        return self.filesystem.stat(text(path), follow_symlinks)

    def lstat(self, path: AnyPath) -> Stat:
        """As ``os.lstat``."""
        return self.filesystem.stat(text(path), False)

    def _kind(self, path: AnyPath, follow_symlinks: bool = True) -> int:
        where = plain_text(path)
        if is_own(where):
            return 0
        try:
            return stat.S_IFMT(self.filesystem.stat(where, follow_symlinks).st_mode)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL):
                return 0
            raise

    def exists(self, path: AnyPath, follow_symlinks: bool = True) -> bool:
        """Whether there is something at `path`."""
        return self._kind(path, follow_symlinks) != 0

    def isfile(self, path: AnyPath) -> bool:
        """Whether `path` is, or leads to, a regular file."""
        return self._kind(path) == stat.S_IFREG

    def isdir(self, path: AnyPath) -> bool:
        """Whether `path` is, or leads to, a directory."""
        return self._kind(path) == stat.S_IFDIR

    def islink(self, path: AnyPath) -> bool:
        """Whether `path` is a symlink."""
        return self._kind(path, False) == stat.S_IFLNK

    def listdir(self, path: AnyPath = ".") -> list[str]:
        """The names in a directory, in no order."""
        return [os.fsdecode(name) for name, _, _ in self.filesystem.scandir(text(path))]

    def scandir(self, path: AnyPath = ".") -> Iterator[DirEntry]:
        """The entries of a directory, in no order and bounded memory."""
        directory = text(path)
        entries = self.filesystem.scandir(directory)
        return (DirEntry(self.filesystem, directory, name, ino, kind) for name, ino, kind in entries)

    def walk(
        self, top: AnyPath = ".", topdown: bool = True, onerror: Callable[[OSError], Any] | None = None,
        followlinks: bool = False,
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        """As ``os.walk``: triples of a directory's path, the names of its directories, the names of the rest.

        Directories that cannot be listed are passed over when there is no `onerror`; not so one whose path is
        longer than 1 MiB, a volume that is closed, or one whose node does not answer.
        """
        # A stack of its own: a tree may be deeper than Python's recursion limit.
        todo: list[str | tuple[str, list[str], list[str]]] = [text(top)]
        while todo:
            directory = todo.pop()
            if isinstance(directory, tuple):
                yield directory
                continue
            directories: list[str] = []
            others: list[str] = []
            try:
                for entry in self.scandir(directory):
                    (directories if entry.is_dir() else others).append(entry.name)
            except OSError as error:
                if onerror is not None:
                    onerror(error)
                elif isinstance(error, (ConnectionError, NameTooLong, VolumeClosed)):
                    raise
                continue
            if topdown:
                yield directory, directories, others
            else:
                todo.append((directory, directories, others))
            below = [join(directory, name) for name in reversed(directories)]
            todo += [path for path in below if followlinks or not self.islink(path)]

    def glob(self, pattern: str, root: AnyPath = ".") -> list[str]:
        """Paths below `root` that match: ``*``, ``?``, ``[...]`` within a name, ``**`` across directories."""
        return list(glob(self.filesystem, text(root), pattern))

    # -- changing

    def _both(self, source: AnyPath, target: AnyPath) -> tuple[str, str]:
        """Two paths of this volume; one of another volume would mean something else here."""
        for path in (source, target):
            if isinstance(path, VolumePath) and path._files is not self:
                told = "lies in another volume; shutil.copyfileobj copies between two open files"
                raise from_errno(errno.EXDEV, str(path), message=told)
        return text(source), text(target)

    def mkdir(self, path: AnyPath, mode: int = 0o777) -> None:
        """Make one directory."""
        self.filesystem.mkdir(text(path), mode & ~self._umask)

    def makedirs(self, path: AnyPath, mode: int = 0o777, exist_ok: bool = False) -> None:
        """Make a directory and those above it."""
        where = text(path).rstrip("/") or "/"
        todo = [where]  # from the deepest
        while todo:
            last, above = todo[-1], len(todo) > 1
            try:
                self.mkdir(last, 0o777 if above else mode)
            except FileNotFoundError:
                if not (parent := os.path.dirname(last)).strip("/"):
                    raise
                todo.append(parent)
                continue
            except FileExistsError:
                if not (above or exist_ok) or not self.isdir(last):
                    raise
            todo.pop()

    def rename(self, source: AnyPath, target: AnyPath) -> None:
        """Move `source` to `target` in one step, replacing what is there as ``os.rename`` does."""
        self.filesystem.rename(*self._both(source, target))

    replace = rename

    def remove(self, path: AnyPath) -> None:
        """Remove a file's name."""
        self.filesystem.unlink(text(path))

    unlink = remove

    def rmdir(self, path: AnyPath) -> None:
        """Remove an empty directory."""
        self.filesystem.rmdir(text(path))

    def rmtree(
        self, path: AnyPath, ignore_errors: bool = False, onerror: Callable[[OSError], Any] | None = None
    ) -> None:
        """Remove a directory and all below it; symlinks are removed, not followed."""
        where, told = text(path), (lambda _: None) if ignore_errors else onerror
        try:
            if self.islink(where):
                raise from_errno(errno.ENOTDIR, where, message="is a symlink; rmtree does not follow it")
        except OSError as error:
            if told is None:
                raise
            told(error)
            return
        remove_tree(self.filesystem, where, told)

    def copy(self, source: AnyPath, target: AnyPath, follow_symlinks: bool = True) -> str:
        """Copy a file with mode, times and xattrs, into the directory `target` or as `target`.  Answers its path."""
        where, goal = self._both(source, target)
        if self.isdir(goal):
            goal = join(goal, os.path.basename(where.rstrip("/")))
        if not follow_symlinks and self.islink(where):
            self.filesystem.symlink(self.filesystem.readlink(where), goal)
        else:
            copy_content(self.filesystem, where, goal)
        copy_metadata(self.filesystem, where, goal, follow_symlinks)
        return goal

    def copytree(self, source: AnyPath, target: AnyPath, dirs_exist_ok: bool = False) -> str:
        """Copy a directory and all below it; symlinks, FIFOs, sockets and devices are copied as such."""
        where, goal = self._both(source, target)
        made = 0  # the copy itself, which may lie in what is copied
        todo = [(where, goal, False)]
        while todo:
            here, there, copied = todo.pop()
            if copied:
                copy_metadata(self.filesystem, here, there)
                continue
            todo.append((here, there, True))
            entries = list(self.scandir(here))
            self.makedirs(there, exist_ok=dirs_exist_ok)
            made = made or self.filesystem.stat(goal).st_ino
            for entry in entries:
                below = join(there, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    todo += [(entry.path, below, False)] if entry.inode() != made else []
                elif not entry.is_file(follow_symlinks=False) and not entry.is_symlink():
                    self._copy_special(entry.path, below)
                else:
                    self.copy(entry.path, below, follow_symlinks=False)
        return goal

    def _copy_special(self, source: str, target: str) -> None:
        found = self.filesystem.stat(source, False)
        self.filesystem.mknod(target, found.st_mode, found.st_rdev)
        copy_metadata(self.filesystem, source, target)

    def touch(self, path: AnyPath, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make an empty file, or set an existing one's times to now."""
        flags = os.O_CREAT | os.O_WRONLY | (0 if exist_ok else os.O_EXCL)
        where = text(path)
        if exist_ok and self.exists(where):
            now = time.time_ns()
            self.filesystem.utimens(where, now, now)
        else:
            self.filesystem.release(self.filesystem.open(where, flags, mode & ~self._umask))

    def truncate(self, path: AnyPath, size: int) -> None:
        """Cut or extend a file; what is added reads as zeros and takes no room."""
        if size < 0:
            raise InvalidArgument.at("a size is 0 bytes or more", text(path))
        self.filesystem.truncate(text(path), size)

    def symlink(self, target: AnyPath, path: AnyPath) -> None:
        """Make a symlink at `path` that says `target`."""
        self.filesystem.symlink(text(target), text(path))

    def readlink(self, path: AnyPath) -> str:
        """What a symlink says."""
        return os.fsdecode(self.filesystem.readlink(text(path)))

    def link(self, source: AnyPath, path: AnyPath, follow_symlinks: bool = False) -> None:
        """Give the file `source` a second name."""
        self.filesystem.link(*self._both(source, path), follow_symlinks)

    def chmod(self, path: AnyPath, mode: int, follow_symlinks: bool = True) -> None:
        """Set the permission bits."""
        self.filesystem.chmod(text(path), mode, follow_symlinks)

    def chown(self, path: AnyPath, uid: int, gid: int, follow_symlinks: bool = True) -> None:
        """Set owner and group; -1 leaves one as it is."""
        self.filesystem.chown(text(path), uid, gid, follow_symlinks)

    def utime(
        self, path: AnyPath, times: tuple[float, float] | None = None, *, ns: tuple[int, int] | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """Set access and modification time, as ``os.utime``."""
        if times is not None and ns is not None:
            raise ValueError("utime: you may specify either 'times' or 'ns' but not both")
        if times is not None:
            ns = round(times[0] * 1_000_000_000), round(times[1] * 1_000_000_000)
        atime_ns, mtime_ns = ns or (time.time_ns(),) * 2
        if not all(at is None or -(1 << 63) <= at < 1 << 63 for at in (atime_ns, mtime_ns)):
            raise InvalidArgument.at("a time is at most 2^63 - 1 ns from 1970: the years 1677 to 2262", text(path))
        self.filesystem.utimens(text(path), atime_ns, mtime_ns, follow_symlinks)

    def getxattr(self, path: AnyPath, name: str | bytes, follow_symlinks: bool = True) -> bytes:
        """The raw value of an xattr, by its full name (``user.NAME``)."""
        return self.filesystem.getxattr(text(path), name, follow_symlinks)

    def setxattr(
        self, path: AnyPath, name: str | bytes, value: Any, flags: int = 0, follow_symlinks: bool = True
    ) -> None:
        """Set the raw value of an xattr, as ``os.setxattr``."""
        self.filesystem.setxattr(text(path), name, value, flags, follow_symlinks)

    def listxattr(self, path: AnyPath, follow_symlinks: bool = True) -> list[str]:
        """The full names of a file's xattrs."""
        return [os.fsdecode(name) for name in self.filesystem.listxattr(text(path), follow_symlinks)]

    def removexattr(self, path: AnyPath, name: str | bytes, follow_symlinks: bool = True) -> None:
        """Remove an xattr."""
        self.filesystem.removexattr(text(path), name, follow_symlinks)
