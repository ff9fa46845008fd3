"""Typed face of the request handlers."""

from collections.abc import Callable

from vexfs.frontends.fuse.adapter import Adapter
from vexfs.frontends.fuse.options import MountOptions

class RetireWorker(BaseException):
    """Ends the request loop of one worker."""

class Operations:
    adapter: Adapter
    workers: int
    waiting: int
    most_waiting: int
    retire: bool

    def __init__(
        self, adapter: Adapter, options: MountOptions, ready: Callable[[], None], crowd: Callable[[], None]
    ) -> None: ...
