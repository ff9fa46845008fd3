"""Files set aside: from which no text can be had, or on which a model fails, each with the reason.

The list is kept with the index, so that opening a volume does not try them all again; a file is tried again when its
content or its name changes (a name tells what kind of file it is), or when that is asked for.  Losing the list costs
only time.
"""

import contextlib
import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from vexfs.errors import IndexClosed, PluginBroken, VexfsError

if TYPE_CHECKING:
    from vexfs.search.index import Index

_SAVE_EVERY_S = 20.0
_LOOKED_LEAST = 500


def _name(path: bytes) -> str:
    return os.fsdecode(path.rpartition(b"/")[2])


def told(error: BaseException) -> str:
    """An error as the reason why a file is set aside."""
    return str(error) if isinstance(error, PluginBroken) else f"{type(error).__name__}: {error}"


class Aside:
    """The files of one index that are set aside: inode number to generation, name, reason, whether a fault."""

    def __init__(self, index: "Index") -> None:
        self._index = index
        self._lock = threading.Lock()
        self._files: dict[int, tuple[int, str, str, bool]] = {}
        self._changed = False
        self._saved = time.monotonic()
        self._looked = _LOOKED_LEAST  # so many files, and they are looked for
        with contextlib.suppress(OSError, ValueError, TypeError, VexfsError):
            rows = json.loads(index.filesystem.read_file(self._place()))
            self._files = {int(ino): (int(gen), str(name), str(why), bool(bad)) for ino, gen, name, why, bad in rows}

    def _place(self) -> str:
        return f"{self._index.home}/aside.json"

    def _path(self, ino: int) -> bytes:
        try:
            return self._index.filesystem.path_of(ino)
        except OSError:
            return b""

    def has(self, ino: int, generation: int) -> bool:
        """Whether that content of the file is set aside, under the name that it has."""
        found = self._files.get(ino)
        return found is not None and found[0] == generation and found[1] == _name(self._path(ino))

    def reason(self, ino: int) -> str:
        """Why a file is set aside; "" when it is not."""
        return self._files.get(ino, (0, "", "", False))[2]

    def put(self, ino: int, generation: int, reason: str, fault: bool, path: bytes | None = None) -> None:
        """Set a file aside, with nothing left of what it was before; `fault`: something failed, rather than that there
        is no text.

        `path`: under which it was tried; it may have another one meanwhile.
        """
        name = _name(self._path(ino) if path is None else path)
        with self._lock:
            self._files[ino] = (generation, name, reason[:500], fault)
            self._changed = True
        with contextlib.suppress(IndexClosed):  # it was dropped meanwhile
            if self._index.made_from_content(ino):
                self._index.drop_rows(ino)

    def drop(self, ino: int) -> None:
        """Forget a file."""
        with self._lock:
            self._changed |= self._files.pop(ino, None) is not None

    def clear(self) -> list[int]:
        """Forget all; answers their inode numbers."""
        with self._lock:
            inos, self._files, self._changed = list(self._files), {}, True
        return inos

    def counts(self) -> tuple[int, int]:
        """Files without text, and files on which something failed."""
        with self._lock:
            faults = sum(fault for *_, fault in self._files.values())
            return len(self._files) - faults, faults

    def listed(self, most: int = 1000) -> list[dict[str, Any]]:
        """Path and reason of each that is still there, faults first; the others are forgotten."""
        with self._lock:
            rows = sorted(self._files.items(), key=lambda each: not each[1][3])
        out: list[dict[str, Any]] = []
        for ino, (_, _, reason, fault) in rows:
            if len(out) == most:
                break
            try:
                path = self._index.filesystem.path_of(ino).decode("utf-8", "surrogateescape")
            except OSError:
                path = ""
            if not path or self._index.catalog.covering(ino) is not self._index:  # it left, and a crash came meanwhile
                self.drop(ino)
                continue
            out.append({"path": path, "reason": reason, "fault": fault})
        return out

    def _forget_gone(self) -> None:
        """Without files that are no more, looked for whenever the list has doubled."""
        if len(self._files) < self._looked:
            return
        for ino in list(self._files):
            try:
                there = self._index.filesystem.getattr(ino).st_nlink
            except FileNotFoundError:
                there = 0
            if not there:
                self.drop(ino)
        self._looked = max(_LOOKED_LEAST, 2 * len(self._files))

    def save(self, now: bool = False) -> None:
        """Write the list when it has changed, now or once in a while."""
        if not self._changed or self._index.catalog.read_only:
            return
        if not now and time.monotonic() - self._saved < _SAVE_EVERY_S:
            return
        self._forget_gone()
        with self._lock:
            rows = [(ino, *each) for ino, each in self._files.items()]
            self._changed, self._saved = False, time.monotonic()
        try:
            self._index.filesystem.write_file(self._place(), json.dumps(rows).encode(), 0o600)
        except OSError:
            self._changed = True
            raise
