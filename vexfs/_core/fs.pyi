"""Typed face of the compiled filesystem: a volume's operations by path and by inode number."""

from collections.abc import Iterator

from typing_extensions import Buffer

from vexfs._core.bypath import ByPath, PathArg
from vexfs._core.bypath import Stat as Stat

class Filesystem(ByPath):
    """An open volume's filesystem.  One per process and volume; thread-safe."""

    def scandir(self, path: PathArg | int) -> Iterator[tuple[bytes, int, int]]:
        """Entries without dot entries: ``(name, ino, file type bits of mode)``; bounded memory."""
    def open(self, path: PathArg, flags: int, mode: int = 0o666) -> int:
        """As ``os.open``: O_CREAT, O_EXCL, O_TRUNC, O_NOFOLLOW, O_DIRECTORY.  Answers an inode number with an open
        count on it: ``release`` it."""
    def read_file(self, path: PathArg) -> bytes: ...
    def write_file(self, path: PathArg, data: Buffer, mode: int = 0o666) -> int:
        """Creates or replaces the content in place; one call."""
    # -- by inode number
    def getattr(self, ino: int) -> Stat: ...
    def lookup(self, parent: int, name: bytes) -> Stat: ...
    def read(self, ino: int, size: int, offset: int) -> bytes: ...
    def data(self, ino: int, offset: int) -> tuple[int, int] | None: ...
    def readinto(self, ino: int, buffer: Buffer, offset: int) -> int: ...
    def write(self, ino: int, data: Buffer, offset: int) -> int:
        """Offset -1 appends, atomically with respect to other appends."""
    def link_ino(self, ino: int, path: str | bytes) -> None:
        """A further name for an open file; the first one of what `open` made with ``O_TMPFILE``."""
    def truncate_ino(self, ino: int, size: int) -> None: ...
    def fallocate(self, ino: int, mode: int, offset: int, length: int) -> None:
        """As ``fallocate(2)``, with its flags: FALLOC_FL_KEEP_SIZE (1), PUNCH_HOLE (2, with KEEP_SIZE), ZERO_RANGE (16).

        Without PUNCH_HOLE or ZERO_RANGE room is looked for, not set aside.  Whole pages of 4 KiB are given back.
        """
    def fsync(self, ino: int = 0, datasync: bool = False) -> None:
        """Waits until the file (0: everything) is on stable storage."""
    def release(self, ino: int) -> None: ...
    def path_of(self, ino: int) -> bytes:
        """A path that leads to the inode (one of them, for hard links)."""
