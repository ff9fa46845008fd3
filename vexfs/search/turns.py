"""When ingest may work: its files pass through the bridge's lowest class, and while others ask much it waits."""

import threading
import time
from typing import TYPE_CHECKING, Any

from vexfs._core.bridge import Bell

if TYPE_CHECKING:
    from vexfs._core.fs import Filesystem

#: Kind of the bridge's items that are files to be indexed.
KIND_TEXT = 2
_BUSY_OPS_S = 400.0
_LOOK_S, _LOOK_EVERY_S = 0.01, 0.1
_STARVED_S = 2.0


class Turns:
    """The order between ingest and everybody else.

    Parameters
    ----------
    filesystem : Filesystem
    bridge : Bridge or None
        Files go through its class "low", behind what the other classes have, in its batches.
    stop : threading.Event
        Ends every wait.

    Attributes
    ----------
    worked : float
        When ingest last did something, by ``time.monotonic``.
    """

    def __init__(self, filesystem: "Filesystem", bridge: Any, stop: threading.Event) -> None:
        self._filesystem, self._bridge, self._stop = filesystem, bridge, stop
        self._through = Bell()
        self.worked = self._quiet = time.monotonic()
        if bridge is not None:
            bridge.handler(KIND_TEXT, self._through)

    def passed(self, inos: list[int]) -> tuple[list[int], list[int]]:
        """Take files through the bridge: those that came through, and those for which it had no room."""
        if self._bridge is None:
            return inos, []
        sent = through = 0
        while sent < len(inos) and self._bridge.enqueue(inos[sent], 0, KIND_TEXT, "low", wait=False):
            sent += 1
        while through < sent and not self._stop.is_set():
            through += self._through.wait(_LOOK_EVERY_S)
        return inos[:sent], inos[sent:]

    def others_are_busy(self) -> bool:
        """Whether others ask much of the filesystem: a look of ten milliseconds, in which ingest does nothing.

        Not looked for again within a tenth of a second of quiet; and every two seconds ingest may do a little anyhow.
        """
        now = time.monotonic()
        if now - self._quiet < _LOOK_EVERY_S or now - self.worked > _STARVED_S:
            return False
        before = self._operations()
        self._stop.wait(_LOOK_S)
        if self._operations() - before > _BUSY_OPS_S * _LOOK_S:
            return True
        self._quiet = time.monotonic()
        return False

    def _operations(self) -> int:
        return sum(self._filesystem.status()["operations"].values())

    def close(self) -> None:
        """Be handed nothing more."""
        if self._bridge is not None:
            self._bridge.handler(KIND_TEXT, None)
