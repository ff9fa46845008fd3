"""File objects: what ``open`` gives out for a file of the host, for a file of a volume.

``RawFile`` is the unbuffered layer; the standard library's own buffers and text layer go on top, so that whatever
takes a Python file (zipfile, csv, numpy, pandas, pyarrow) takes these.
"""

import errno
import io
import operator
import os
import threading
from typing import IO, Any, cast

from vexfs._core.fs import Filesystem
from vexfs.errors import InvalidArgument, from_errno

BUFFER_SIZE = 128 << 10
#: The most that a volume writes at once: all of it or nothing.
PIECE = 4 << 20


def flags_of(mode: str) -> int:
    """The flags of ``os.open`` for a mode of ``open``, without text and binary.

    Raises
    ------
    ValueError
        As ``open`` does.
    """
    letters = set(mode)
    if letters - set("rwaxbt+") or len(mode) > len(letters):
        raise ValueError(f"invalid mode: {mode!r}")
    if len(letters & set("rwax")) != 1:
        raise ValueError("must have exactly one of create/read/write/append mode")
    if {"b", "t"} <= letters:
        raise ValueError("can't have text and binary mode at once")
    access = os.O_RDWR if "+" in letters else os.O_RDONLY if "r" in letters else os.O_WRONLY
    extra = {"r": 0, "w": os.O_CREAT | os.O_TRUNC, "a": os.O_CREAT | os.O_APPEND, "x": os.O_CREAT | os.O_EXCL}
    return access | extra[(letters & set("rwax")).pop()]


class RawFile(io.RawIOBase):
    """An open file of a volume.  Thread-safe: the position moves with the read or write that moves it."""

    def __init__(self, filesystem: Filesystem, path: str, mode: str, permissions: int = 0o666) -> None:
        self._ino = -1  # before anything can fail: what is half made is closed, too
        self.name, self.mode = path, mode
        flags = flags_of(mode)
        self.mode = mode.replace("t", "") + ("" if "b" in mode else "b")
        self._filesystem = filesystem
        self._append = bool(flags & os.O_APPEND)
        self._can_read = flags & os.O_ACCMODE != os.O_WRONLY
        self._can_write = flags & os.O_ACCMODE != os.O_RDONLY
        self._position = 0
        self._moving = threading.Lock()
        ino = filesystem.open(path, flags, permissions)
        try:
            # An O_RDONLY open of a directory is legal, a file object on one is not.
            found = filesystem.getattr(ino)
            if found.st_mode & 0o170000 == 0o040000:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            if found.st_mode & 0o170000 != 0o100000:
                told = "is a FIFO, a socket or a device: it has no content in the volume; open it on a mount"
                raise from_errno(errno.EINVAL, path, message=told)
            self._position = found.st_size if self._append else 0
        except BaseException:
            filesystem.release(ino)
            raise
        self._ino = ino

    @property
    def ino(self) -> int:
        """The file's inode number."""
        self._check()
        return self._ino

    @property
    def size(self) -> int:
        """The file's size now, bytes."""
        self._check()
        return self._filesystem.getattr(self._ino).st_size

    def _check(self, ability: bool = True, what: str = "") -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        if not ability:
            raise io.UnsupportedOperation(f"not {what}")

    def readable(self) -> bool:
        """Whether the file was opened for reading."""
        self._check()
        return self._can_read

    def writable(self) -> bool:
        """Whether the file was opened for writing."""
        self._check()
        return self._can_write

    def seekable(self) -> bool:
        """True: every file of a volume is."""
        self._check()
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`; answers the number of bytes, 0 at the end."""
        self._check(self._can_read, "readable")
        with self._moving:
            n = self._filesystem.readinto(self._ino, buffer, self._position)
            self._position += n
        return n

    def readall(self) -> bytes:
        """Everything from the position to the end."""
        self._check(self._can_read, "readable")
        with self._moving:
            pieces: list[bytes] = []
            while True:
                rest = self._filesystem.getattr(self._ino).st_size - self._position
                piece = self._filesystem.read(self._ino, rest, self._position) if rest > 0 else b""
                if not piece:
                    return b"".join(pieces) if len(pieces) != 1 else pieces[0]
                pieces.append(piece)
                self._position += len(piece)

    def write(self, data: Any) -> int:
        """Write `data` at the position, or at the end when the file was opened for appending.

        Fewer bytes than `data` has when the rest, behind a number of `PIECE`, met an error; the next write tells it.
        """
        self._check(self._can_write, "writable")
        view, done = memoryview(data), 0
        view = view.cast("B") if view.nbytes > PIECE else view
        with self._moving:
            while True:
                piece = view[done : done + PIECE] if view.nbytes > PIECE else view
                try:
                    n = self._filesystem.write(self._ino, piece, -1 if self._append else self._position)
                except OSError:
                    if not done:
                        raise
                    break
                done += n
                self._position += n
                if done >= view.nbytes:
                    break
            if self._append:
                self._position = self._filesystem.getattr(self._ino).st_size
        return done

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; past the end is allowed, and a write there leaves a hole."""
        self._check()
        with self._moving:
            if whence == os.SEEK_SET:
                target = offset
            elif whence == os.SEEK_CUR:
                target = self._position + offset
            elif whence == os.SEEK_END:
                target = self._filesystem.getattr(self._ino).st_size + offset
            else:
                raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
            if target < 0:
                raise InvalidArgument(errno.EINVAL, "negative seek position", self.name)
            self._position = target
            return target

    def tell(self) -> int:
        """The position."""
        self._check()
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend to `size`, by default to the position, which stays where it is."""
        self._check(self._can_write, "writable")
        size = self._position if size is None else operator.index(size)
        if size < 0:
            raise InvalidArgument(errno.EINVAL, "negative size", self.name)
        self._filesystem.truncate_ino(self._ino, size)
        return size

    def sync(self) -> None:
        """Wait until what was written is on stable storage."""
        self._check()
        self._filesystem.fsync(self._ino)

    def close(self) -> None:
        """Give the file back."""
        if not self.closed:
            try:
                super().close()
            finally:
                ino, self._ino = self._ino, -1
                if ino > 0:
                    self._filesystem.release(ino)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name!r} mode={self.mode!r}{' [closed]' if self.closed else ''}>"


def open_file(
    filesystem: Filesystem, path: str, mode: str = "r", buffering: int = -1, encoding: str | None = None,
    errors: str | None = None, newline: str | None = None, permissions: int = 0o666,
) -> IO[Any]:
    """What the built-in ``open`` does, for a path in a volume."""
    binary = "b" in mode
    if binary and (encoding is not None or errors is not None or newline is not None):
        raise ValueError("binary mode doesn't take an encoding, errors or newline argument")
    if not binary and buffering == 0:
        raise ValueError("can't have unbuffered text I/O")
    raw = RawFile(filesystem, path, mode, permissions)
    if buffering == 0:
        return raw  # type: ignore[return-value]
    try:
        size = BUFFER_SIZE if buffering in (-1, 1) else buffering
        buffer: Any
        if "+" in mode:
            buffer = io.BufferedRandom(raw, size)
        else:
            buffer = io.BufferedReader(raw, size) if raw.readable() else io.BufferedWriter(raw, size)
        if binary:
            return cast("IO[Any]", buffer)
        text = io.TextIOWrapper(buffer, encoding or "utf-8", errors, newline, line_buffering=buffering == 1)
        text.mode = mode  # type: ignore[misc]
        return text
    except BaseException:
        raw.close()
        raise
