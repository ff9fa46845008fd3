"""Typed face of an open volume: its options, its life, its figures."""

import os
from collections.abc import Callable
from typing import Any

from vexfs._core.bridge import Bridge
from vexfs._core.frame import Frames
from vexfs._core.pool import Pool

#: What whoever uses in a forked child what its parent has open is told.
CLOSED: str
FOREIGN: str

class Opened:
    """An open volume.  One per process and volume; thread-safe."""

    def __init__(self, path: str | os.PathLike[str], *, meta_key: bytes | None = None, data_key: bytes | None = None,
                 create: bool = False, read_only: bool = False, compression: str = "lz4", cache_size: int = 64 << 20,
                 prefetch_size: int = 1 << 20, io_queue_depth: int = 32, direct_io: bool = False,
                 dirty_limit: int = 64 << 20, commit_ops: int = 10_000, commit_delay_ms: int = 1000,
                 size_limit: int = 0, segment_size: int = 64 << 20, inode_cache: int = 65_536,
                 log_limit: int = 32 << 20,
                 atime: str = "relatime", owner: tuple[int, int] | None = None, pool: Pool | None = None,
                 frames: Frames | None = None, bridge: Bridge | None = None) -> None: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...
    def abandon(self) -> None:
        """In a forked child: lets go without closing; whoever uses it further is told that it is the parent's."""
    @property
    def equipment(self) -> tuple[Pool | None, Frames | None, Bridge | None]: ...
    # -- the volume
    def statvfs(self) -> tuple[int, int, int, int, int]:
        """Blocks of 4096 bytes: total, free, available; then inodes used and free."""
    def sync(self) -> None: ...
    def drop_caches(self) -> None:
        """Forget every clean cached inode, dentry, extent map and decoded frame."""
    def status(self) -> dict[str, Any]:
        """Counters and sizes: files, live/dead/free bytes, caches, commits, syncs, pending operations, last error."""
    def compact(self, progress: Callable[[int, int], object] | None = None, dead_share: int = 0) -> dict[str, int]:
        """Copies out live frames of segments with more than `dead_share` percent dead bytes and frees the segments.

        `segments_left` are those that the host has no room to copy."""
    def hold(self) -> None:
        """Syncs; then no segment goes until `unhold`: what the metadata names now can be copied."""
    def unhold(self) -> None: ...
    def backup_meta(self, target: str | os.PathLike[str], progress: Callable[[int, int], object] | None = None) -> None:
        """Copies the metadata as of now to the new file `target`; between `hold` and `unhold`, then copy segments."""
    def changes(self, since: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        """Oplog rows behind epoch `since`; `vexfs.store.rows.unpack_oplog` reads them."""
