"""A request in the queue of its connection, and the head of one as bytes."""

import asyncio
from collections import deque
from collections.abc import Mapping

from vexfs.frontends.http.message import Request


class Turn:
    """A request in the queue of its connection."""

    __slots__ = (
        "answered", "arrived", "complete", "entered", "error", "hasty", "held", "pieces", "request", "running",
        "timer", "waiting", "waits", "wasted",
    )  # fmt: skip

    def __init__(self, request: Request) -> None:
        self.request = request
        self.error: BaseException | None = None
        self.pieces: deque[bytes] | None = None
        self.arrived = asyncio.Event()
        self.complete = self.running = self.answered = self.entered = self.hasty = self.waits = False
        self.waiting = self.wasted = self.held = 0
        self.timer: asyncio.TimerHandle | None = None

    def in_time(self) -> None:
        """Stop its clock."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def head_without(name: str, method: bytes, url: bytes, version: str, headers: Mapping[str, str]) -> bytes:
    """Line and headers as they were sent, without the header `name`."""
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode())]
    lines += [f"{key}: {value}".encode("latin-1") for key, value in headers.items() if key != name]
    return b"\r\n".join([*lines, b"", b""])
