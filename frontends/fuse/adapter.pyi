"""Typed face of the adapter: one mount's view of a filesystem, for the request handlers."""

from typing import Any

from vexfs._core.fs import Filesystem
from vexfs.frontends.fuse.options import MountOptions
from vexfs.frontends.fuse.virtual import VirtualTree

class Adapter:
    faults: int

    def __init__(self, filesystem: Filesystem, tree: VirtualTree, options: MountOptions) -> None: ...
    def detach(self) -> None:
        """Stop the flow of changes: ``wait_event`` answers None from now on."""
    def wait_event(self) -> tuple[int, bool, bytes | None] | None:
        """Wait for a change made by anybody else: inode, whether its content changed, the changed entry's name."""
    def errno_of(self, error: Any, operation: str) -> int: ...
