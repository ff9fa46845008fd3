"""Ingest at a node, with the methods of :class:`vexfs.search.ingest.Ingest` that people call."""

import os
import time
from typing import Any

from vexfs.remote.index import RemoteIndex
from vexfs.remote.link import Link, quoted, texts

_SLICE_S = 5.0


class RemoteIngest:
    """What turns text into vectors at a node."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def status(self) -> dict[str, Any]:
        """Backlog, rates, estimated time, files set aside: see :meth:`vexfs.search.ingest.Ingest.status`."""
        found: dict[str, Any] = texts(self._link.ask("GET", "/v1/ingest"))
        return found

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything that has changed so far is indexed or set aside; False: it took longer."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _SLICE_S if until is None else min(_SLICE_S, max(0.0, until - time.monotonic()))
            if self._link.ask("POST", "/v1/ingest/wait", {"timeout_s": left})["settled"]:
                return True
            if until is not None and time.monotonic() >= until:
                return False

    def status_of(self, index: RemoteIndex) -> dict[str, Any]:
        """As `status`, with the files of one index that were set aside."""
        found: dict[str, Any] = texts(self._link.ask("GET", f"/v1/indexes/{quoted(index.path)}")["ingest"])
        return found

    def retry(self, index: RemoteIndex | str | os.PathLike[str]) -> int:
        """Try the files of an index, or of the one at a path, again that were set aside; how many."""
        path = index.path if isinstance(index, RemoteIndex) else os.fsdecode(index)
        return int(self._link.ask("POST", "/v1/ingest/retry", {"index": path})["count"])
