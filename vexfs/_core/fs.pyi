"""Typed face of the compiled filesystem: a volume's operations by path and by inode number.

Paths are ``str`` or ``bytes`` relative to the volume's root (a leading slash is allowed).  Errors are ``OSError``
subclasses of ``vexfs.errors`` with ``errno``, ``filename`` and, for two-path operations, ``filename2``.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

from typing_extensions import Buffer

from vexfs._core.bridge import Bridge
from vexfs._core.frame import Frames
from vexfs._core.pool import Pool

PathArg = str | bytes

class Stat:
    """One file's attributes, with the names of ``os.stat_result`` (also usable where ``st_*`` attributes are)."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_blocks: int
    st_blksize: int
    st_rdev: int
    st_atime: float
    st_mtime: float
    st_ctime: float
    st_birthtime: float
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int
    generation: int

class Filesystem:
    """An open volume's filesystem.  One per process and volume; thread-safe."""

    def __init__(self, path: str | os.PathLike[str], *, meta_key: bytes | None = None, data_key: bytes | None = None,
                 create: bool = False, read_only: bool = False, compression: str = "lz4", cache_size: int = 64 << 20,
                 prefetch_size: int = 1 << 20, io_queue_depth: int = 32, direct_io: bool = False,
                 dirty_limit: int = 64 << 20, commit_ops: int = 10_000, commit_delay_ms: int = 1000,
                 size_limit: int = 0, segment_size: int = 64 << 20, inode_cache: int = 65_536,
                 atime: str = "relatime", owner: tuple[int, int] | None = None, pool: Pool | None = None,
                 frames: Frames | None = None, bridge: Bridge | None = None) -> None: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...
    # -- by path
    def stat(self, path: PathArg, follow_symlinks: bool = True) -> Stat: ...
    def resolve(self, path: PathArg, follow_symlinks: bool = True) -> int: ...
    def mkdir(self, path: PathArg, mode: int = 0o777) -> None: ...
    def mknod(self, path: PathArg, mode: int = 0o600, device: int = 0) -> None: ...
    def symlink(self, target: PathArg, path: PathArg) -> None: ...
    def readlink(self, path: PathArg) -> bytes: ...
    def link(self, source: PathArg, path: PathArg, follow_symlinks: bool = False) -> None: ...
    def unlink(self, path: PathArg) -> None: ...
    def rmdir(self, path: PathArg) -> None: ...
    def rename(self, source: PathArg, target: PathArg, flags: int = 0) -> None: ...
    def chmod(self, path: PathArg, mode: int, follow_symlinks: bool = True) -> None: ...
    def chown(self, path: PathArg, uid: int, gid: int, follow_symlinks: bool = True) -> None: ...
    def utimens(self, path: PathArg, atime_ns: int | None, mtime_ns: int | None, follow_symlinks: bool = True) -> None: ...
    def truncate(self, path: PathArg, size: int) -> None: ...
    def getxattr(self, path: PathArg, name: str | bytes, follow_symlinks: bool = True) -> bytes: ...
    def setxattr(self, path: PathArg, name: str | bytes, value: Buffer, flags: int = 0, follow_symlinks: bool = True) -> None: ...
    def listxattr(self, path: PathArg, follow_symlinks: bool = True) -> list[bytes]: ...
    def removexattr(self, path: PathArg, name: str | bytes, follow_symlinks: bool = True) -> None: ...
    def scandir(self, path: PathArg) -> Iterator[tuple[bytes, int, int]]:
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
    def readinto(self, ino: int, buffer: Buffer, offset: int) -> int: ...
    def write(self, ino: int, data: Buffer, offset: int) -> int:
        """Offset -1 appends, atomically with respect to other appends."""
    def truncate_ino(self, ino: int, size: int) -> None: ...
    def fsync(self, ino: int = 0, datasync: bool = False) -> None:
        """Waits until the file (0: everything) is on stable storage."""
    def release(self, ino: int) -> None: ...
    def path_of(self, ino: int) -> bytes:
        """A path that leads to the inode (one of them, for hard links)."""
    # -- the volume
    def statvfs(self) -> tuple[int, int, int, int, int]:
        """Blocks of 4096 bytes: total, free, available; then inodes used and free."""
    def sync(self) -> None: ...
    def drop_caches(self) -> None:
        """Forget every clean cached inode, dentry, extent map and decoded frame."""
    def status(self) -> dict[str, Any]:
        """Counters and sizes: files, live/dead/free bytes, caches, commits, syncs, pending operations, last error."""
    def compact(self, progress: Callable[[int, int], object] | None = None, dead_share: int = 0) -> dict[str, int]:
        """Copies out live frames of segments with more than `dead_share` percent dead bytes and frees the segments."""
    def hold(self) -> None:
        """Syncs; then no segment goes until `unhold`: what the metadata names now can be copied."""
    def unhold(self) -> None: ...
    def backup_meta(self, target: str | os.PathLike[str], progress: Callable[[int, int], object] | None = None) -> None:
        """Copies the metadata as of now to the new file `target`; between `hold` and `unhold`, then copy segments."""
    def changes(self, since: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        """Oplog rows behind epoch `since`; `vexfs.store.rows.unpack_oplog` reads them."""
