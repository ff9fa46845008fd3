"""A filesystem whose operations are a node's: the methods of the compiled one that the files API stands on."""

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator
from typing import Any

from vexfs.errors import BadHandle, InvalidArgument, NotFound, from_errno
from vexfs.remote.link import Link

#: Bytes of content in one request; and what a request has beside them: a path, and its frame.
PIECE, ROOM = 4 << 20, 8 << 10
LINKS_MOST = 40
_FIELDS = ("st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks", "st_rdev", "st_atime_ns",
           "st_mtime_ns", "st_ctime_ns", "st_birthtime_ns", "generation")  # fmt: skip


class Stat:
    """A file's attributes, with the names of ``os.stat_result``."""

    __slots__ = (*_FIELDS,)
    st_dev = 0
    st_blksize = 4096

    def __init__(self, row: list[int]) -> None:
        for name, value in zip(_FIELDS, row, strict=True):
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name in ("st_atime", "st_mtime", "st_ctime", "st_birthtime"):
            seconds: float = getattr(self, f"{name}_ns") / 1e9
            return seconds
        raise AttributeError(name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stat) and all(getattr(self, f) == getattr(other, f) for f in _FIELDS)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, field) for field in _FIELDS))

    def __repr__(self) -> str:
        return f"Stat({', '.join(f'{field}={getattr(self, field)}' for field in _FIELDS)})"


#: A handle begins with so many characters that are the same as long as the node runs.
_RUN = 8
#: Operations that may be done twice: what a broken connection leaves unknown about them does not matter.
_AGAIN = frozenset({
    "stat", "resolve", "readlink", "getxattr", "listxattr", "scandir", "read_file", "statvfs", "getattr", "read",
    "fsync", "chmod", "chown", "truncate", "truncate_ino", "write_file", "reopen", "release",
})  # fmt: skip
#: Operations that a sync has nothing to do with.
_UNCHANGING = frozenset({
    "stat", "resolve", "readlink", "getxattr", "listxattr", "scandir", "scan_on", "read_file", "statvfs", "getattr",
    "read", "fsync", "open", "reopen", "release",
})  # fmt: skip


class OpenIno(int):
    """The inode number of a file that is open at the node, with the handle that it goes by there.

    Attributes
    ----------
    handle : str
    process : int
        That opened it: a forked child gives back what it opened alone.
    birth_ns, flags : int
        By which it is opened again.
    written, synced : int
        The number of the last write that the node has answered, and of the last that an ``fsync`` of it followed.
    """

    handle: str
    process: int
    birth_ns: int
    flags: int
    written: int
    synced: int
    opening: threading.Lock

    def __new__(cls, ino: int, handle: str, birth_ns: int = 0, flags: int = os.O_RDONLY) -> "OpenIno":
        """`ino` with its handle, of this process."""
        made = super().__new__(cls, ino)
        made.handle, made.process, made.birth_ns, made.flags = handle, os.getpid(), birth_ns, flags
        made.written, made.synced, made.opening = 0, 0, threading.Lock()
        return made


def piece_of(body_most: int) -> int:
    """How many bytes of content go into a request whose body has so many at most."""
    return min(PIECE, max(body_most - ROOM, body_most // 2))


class RemoteFilesystem:
    """Operations by path and by open file; each is one request.  What fails raises as it does in process.

    Methods have the names, arguments and answers of :class:`vexfs._core.fs.Filesystem`.
    """

    # ruff: noqa: D102 - documented there

    def __init__(self, link: Link, piece: int = PIECE) -> None:
        self._link, self._piece = link, piece
        #: Writes to open files that the node has answered, and how many of them a sync of everything followed, by the
        #: run of the node that it was.
        self._writes, self._counting = 0, threading.Lock()
        self._synced: dict[str, int] = {}

    def _call(self, op: str, *args: Any, paths: int = 1) -> Any:
        plain = [bytes(each) if isinstance(each, (memoryview, bytearray)) else _sent(each) for each in args]
        for place in range(1 if op == "symlink" else 0, paths):
            words = os.fsdecode(plain[place]).split("/") if isinstance(plain[place], (str, bytes)) else []
            if ".." in words:
                if op == "rename" and words[-1] == "..":
                    raise from_errno(errno.EBUSY, args[place])
                plain[place] = _sent(self._walked(os.fsdecode(plain[place])))
        body = {"calls": [{"op": op, "args": plain}]}
        again = (
            op in _AGAIN or (op == "write" and args[2] != -1)
            or (op == "open" and not args[1] & (os.O_CREAT | os.O_EXCL | os.O_TRUNC))
        )  # fmt: skip
        changes = op not in _UNCHANGING or (op == "open" and not again)
        answer = self._link.ask(
            "POST", "/v1/operations", body, invalid=InvalidArgument, again=again, changes=changes
        )  # fmt: skip
        fault = answer.get("fault")
        if fault is None:
            return answer["results"][0]
        places: list[Any] = [each for each in args[:paths] if isinstance(each, (str, bytes))]
        path, path2 = [*places, None, None][:2]
        raise from_errno(fault["errno"], path, path2, message=fault["message"])

    def _walked(self, path: str) -> str:
        """`path` without ``..``, which a node does not take: each is above where what stands before it leads."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        first = len(parts) - parts[::-1].index("..")
        done, todo, links = "/", parts[:first][::-1], 0
        while todo:
            part = todo.pop()
            if part == "..":
                done = os.path.dirname(done)
                continue
            here = os.path.join(done, part)
            kind = stat.S_IFMT(self.stat(here, False).st_mode)
            if kind == stat.S_IFLNK:
                links += 1
                if links > LINKS_MOST:
                    raise from_errno(errno.ELOOP, path)
                target = os.fsdecode(self.readlink(here))
                done = "/" if target.startswith("/") else done
                todo += [part for part in target.split("/") if part not in ("", ".")][::-1]
            elif kind != stat.S_IFDIR:
                raise from_errno(errno.ENOTDIR, path)
            else:
                done = here
        return os.path.join(done, *parts[first:]) + "/" * (path.endswith("/") and done != "/")

    # -- by path

    def stat(self, path: Any, follow_symlinks: bool = True) -> Stat:
        return Stat(self._call("stat", path, follow_symlinks))

    def resolve(self, path: Any, follow_symlinks: bool = True) -> int:
        return int(self._call("resolve", path, follow_symlinks))

    def mkdir(self, path: Any, mode: int = 0o777) -> None:
        self._call("mkdir", path, mode)

    def mknod(self, path: Any, mode: int = 0o600, device: int = 0) -> None:
        self._call("mknod", path, mode, device)

    def symlink(self, target: Any, path: Any) -> None:
        self._call("symlink", target, path, paths=2)

    def readlink(self, path: Any) -> bytes:
        return bytes(self._call("readlink", path))

    def link(self, source: Any, path: Any, follow_symlinks: bool = False) -> None:
        self._call("link", source, path, follow_symlinks, paths=2)

    def unlink(self, path: Any) -> None:
        self._call("unlink", path)

    def rmdir(self, path: Any) -> None:
        self._call("rmdir", path)

    def rename(self, source: Any, target: Any, flags: int = 0) -> None:
        self._call("rename", source, target, flags, paths=2)

    def chmod(self, path: Any, mode: int, follow_symlinks: bool = True) -> None:
        self._call("chmod", path, mode, follow_symlinks)

    def chown(self, path: Any, uid: int, gid: int, follow_symlinks: bool = True) -> None:
        self._call("chown", path, uid, gid, follow_symlinks)

    def utimens(self, path: Any, atime_ns: int | None, mtime_ns: int | None, follow_symlinks: bool = True) -> None:
        self._call("utimens", path, atime_ns, mtime_ns, follow_symlinks)

    def truncate(self, path: Any, size: int) -> None:
        self._call("truncate", path, size)

    def getxattr(self, path: Any, name: str | bytes, follow_symlinks: bool = True) -> bytes:
        return bytes(self._call("getxattr", path, name, follow_symlinks))

    def setxattr(
        self, path: Any, name: str | bytes, value: Any, flags: int = 0, follow_symlinks: bool = True
    ) -> None:
        self._call("setxattr", path, name, _bytes(value), flags, follow_symlinks)

    def listxattr(self, path: Any, follow_symlinks: bool = True) -> list[bytes]:
        return list(self._call("listxattr", path, follow_symlinks))

    def removexattr(self, path: Any, name: str | bytes, follow_symlinks: bool = True) -> None:
        self._call("removexattr", path, name, follow_symlinks)

    def scandir(self, path: Any) -> Iterator[tuple[bytes, int, int]]:
        rows, more = self._call("scandir", path)
        return self._entries(rows, more)

    def _entries(self, rows: list[Any], more: str) -> Iterator[tuple[bytes, int, int]]:
        while True:
            yield from map(tuple, rows)
            if not more:
                return
            rows, more = self._call("scan_on", more, paths=0)

    def read_file(self, path: Any) -> bytes:
        if self.stat(path).st_size <= self._piece:
            return bytes(self._call("read_file", path))
        ino = self.open(path, os.O_RDONLY)
        try:
            return self.read(ino, self.getattr(ino).st_size, 0)
        finally:
            self.release(ino)

    def write_file(self, path: Any, data: Any, mode: int = 0o666) -> int:
        content = _bytes(data)
        if len(content) <= self._piece:
            return int(self._call("write_file", path, content, mode))
        ino = self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            return self.write(ino, content, 0)
        finally:
            self.release(ino)

    # -- by open file

    def open(self, path: Any, flags: int, mode: int = 0o666) -> OpenIno:
        handle, ino, birth_ns = self._call("open", path, flags, mode)
        return OpenIno(ino, handle, birth_ns, flags)

    def _on(self, op: str, ino: OpenIno, *args: Any) -> Any:
        """An operation on an open file, which is opened again when the node has given it back meanwhile."""
        handle = ino.handle
        try:
            return self._call(op, handle, *args, paths=0)
        except BadHandle as error:
            with ino.opening:
                if ino.handle == handle:
                    self._reopen(ino, error)
        return self._call(op, ino.handle, *args, paths=0)

    def _reopen(self, ino: OpenIno, error: BadHandle) -> None:
        try:
            handle, _, _ = self._call("reopen", int(ino), ino.birth_ns, ino.flags, paths=0)
        except NotFound:
            raise from_errno(
                errno.EBADF, message="the node gave this open file back, which was idle for ten minutes or open as the "
                "node was started anew; the file has been removed since"
            ) from None  # fmt: skip
        except (InvalidArgument, BadHandle):
            raise error from None
        run = ino.handle[:_RUN]
        if ino.written > max(ino.synced, self._synced.get(run, 0)) and handle[:_RUN] != run:
            self._call("release", handle, paths=0)
            raise from_errno(
                errno.EBADF, message="the node was started anew: what was written to this open file since its last "
                "fsync may be lost; open it again and write that again"
            )  # fmt: skip
        ino.handle, ino.process = handle, os.getpid()

    def _wrote(self, ino: OpenIno) -> None:
        """The node has answered a write."""
        with self._counting:
            self._writes += 1
            ino.written = self._writes

    def getattr(self, ino: OpenIno) -> Stat:
        return Stat(self._on("getattr", ino))

    def read(self, ino: OpenIno, size: int, offset: int) -> bytes:
        pieces = []
        while size > 0:
            piece = self._on("read", ino, min(size, self._piece), offset)
            pieces.append(piece)
            size, offset = size - len(piece), offset + len(piece)
            if not piece:
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, ino: OpenIno, buffer: Any, offset: int) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(ino, len(view), offset)
        view[: len(data)] = data
        return len(data)

    def write(self, ino: OpenIno, data: Any, offset: int) -> int:
        view, done = memoryview(_bytes(data)), 0
        while True:
            at = -1 if offset == -1 else offset + done
            done += int(self._on("write", ino, bytes(view[done : done + self._piece]), at))
            self._wrote(ino)
            if done >= len(view):
                return done

    def truncate_ino(self, ino: OpenIno, size: int) -> None:
        self._on("truncate_ino", ino, size)
        self._wrote(ino)

    def fsync(self, ino: OpenIno | int = 0, datasync: bool = False) -> None:
        if not isinstance(ino, OpenIno):
            self.sync()
            return
        so_far = ino.written  # one that is answered while this goes on may have come too late for it
        self._on("fsync", ino)
        with ino.opening:
            ino.synced = max(ino.synced, so_far)

    def release(self, ino: OpenIno) -> None:
        # What came along into a forked child is the parent's, which goes on with it.
        if ino.process == os.getpid() and not self._link.closed:
            with contextlib.suppress(BadHandle):  # it was given back before
                self._call("release", ino.handle, paths=0)

    # -- as a whole

    def sync(self) -> None:
        before, so_far = self._link.unsynced(), self._writes
        try:
            run = self._call("fsync", paths=0)
        except BaseException:
            self._link.unsynced(before)
            raise
        if run is not None and before - {run}:
            raise from_errno(
                errno.EIO, message="the node was started anew: what was changed before that and not synced may be "
                "lost; look whether it is there, and do again what is not"
            )  # fmt: skip
        with self._counting:
            self._synced[run] = max(self._synced.get(run, 0), so_far)

    def statvfs(self) -> tuple[int, int, int, int, int]:
        total, free, available, used, left = self._call("statvfs", paths=0)
        return total, free, available, used, left


def _bytes(data: Any) -> bytes:
    return data if isinstance(data, bytes) else bytes(memoryview(data).cast("B"))


def _sent(value: Any) -> Any:
    """Text with undecodable bytes in it travels as bytes."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return os.fsencode(value)
    return value
