"""Typed face of what all request handlers of one mount share."""

from collections.abc import Callable

from vexfs.frontends.fuse.adapter import Adapter
from vexfs.frontends.fuse.options import MountOptions

REQUESTS: tuple[str, ...]

class RetireWorker(BaseException):
    """Ends the request loop of one worker."""

class Handler:
    adapter: Adapter
    workers: int
    waiting: int
    retire: bool

    def __init__(
        self, adapter: Adapter, options: MountOptions, ready: Callable[[], None], crowd: int
    ) -> None: ...
    def counted(self) -> dict[str, int]: ...
