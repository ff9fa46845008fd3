"""How far ingest has followed a volume's log of changes, kept with each index: opening looks at what is newer.

A mark is an epoch up to which every change below the index's directory was indexed or set aside.  It is written after
what it speaks of, and a crash leaves a prefix of what was written, so it never speaks of too much.  Without one, or
when the log no longer reaches back to it, every file is compared with its rows.
"""

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from vexfs.search.description import UNFINISHED
from vexfs.store.rows import BadRow, unpack_oplog

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog
    from vexfs.search.index import Index

#: The log keeps so many epochs, unless they take much room (``docs/format.md``); a mark further back is not followed.
_KEPT_EPOCHS = 1000
#: A mark is written when something was indexed or so many epochs have passed, at most once in so many seconds.
_EPOCHS, _EVERY_S = 200, 20.0
_AT_ONCE = 32
_EXCHANGE = 2
_FILE = 0o100000


class Marks:
    """The marks of a catalog's text indexes.  For the thread of ingest, but for :meth:`forget`.

    Attributes
    ----------
    worked : bool
        Something was indexed or set aside since a mark was written.
    faulted : bool
        Something may have been lost; the next process is to look again.
    looks : int
        How often it was asked to look at what the log does not tell.
    """

    def __init__(self, catalog: "Catalog") -> None:
        self._catalog, self._filesystem = catalog, catalog.filesystem
        self._saved_at = time.monotonic()
        self._saved = -1
        self.worked = self.faulted = False
        self.looks = 0
        #: The epoch up to which everything has been worked off; None: not known.
        self._followed: int | None = None
        self._lock = threading.Lock()
        self._there = True

    def epoch(self) -> int:
        """The last committed epoch."""
        return int(self._filesystem.status()["committed_epoch"])

    def of(self, index: "Index") -> int | None:
        """An index's mark; None where there is none that can be followed."""
        with contextlib.suppress(OSError, ValueError):
            mark, now = int(self._filesystem.read_file(f"{index.home}/ingested")), self.epoch()
            if max(0, now - _KEPT_EPOCHS) <= mark <= now:
                return mark
        return None

    def newer(self, mark: int) -> tuple[set[int], set[tuple[int, bytes]]] | None:
        """Files that were made, changed or lost a name behind a mark, and entries that came; None: it cannot be
        told.
        """
        files: set[int] = set()
        names: set[tuple[int, bytes]] = set()
        followed = mark
        while found := self._filesystem.changes(followed, _AT_ONCE):
            followed = found[-1][0]
            for _, packed in found:
                try:
                    for change in unpack_oplog(packed):
                        made = change.kind == "make" and change.b >> 32 & 0o170000 == _FILE
                        if made or change.kind in ("content", "unlink"):
                            files.add(change.ino)
                        elif change.kind == "link":
                            names.add((change.a, change.first))
                        elif change.kind == "rename":
                            names.add((change.b, change.second))
                            if change.c & _EXCHANGE:
                                names.add((change.a, change.first))
                except BadRow:
                    return None
        oldest = self._filesystem.changes(0, 1)  # what takes much room goes before its time
        return None if oldest and oldest[0][0] > mark + 1 else (files, names)

    def settled(self, epoch: int, looks: int) -> None:
        """All changes up to `epoch` have been worked off, and what it was asked to look at, `looks` times."""
        with self._lock:
            if looks == self.looks:
                self._followed = epoch
        unfinished = [index for index in self._catalog.known() if index.state.get(UNFINISHED)]
        if unfinished:
            with self._catalog.lock, contextlib.suppress(OSError):  # without room for it, it is said once more
                for index in unfinished if looks == self.looks else ():
                    index.keep(**{UNFINISHED: False})

    def due(self, now: bool = False) -> bool:
        """Whether a mark is to be written; `now`: however long ago the last one was."""
        if self.faulted or self._followed is None:
            return False
        news = self.worked or self._followed - self._saved >= _EPOCHS
        return news and (now or time.monotonic() - self._saved_at >= _EVERY_S)

    def save(self) -> None:
        """Write the mark of every text index."""
        with self._lock:
            looks, epoch = self.looks, self._followed
        if epoch is None:
            return
        self.worked, self._saved, self._saved_at = False, epoch, time.monotonic()
        for index in self._catalog.indexes():
            if index.embedder is not None:
                self._filesystem.write_file(f"{index.home}/ingested", b"%d" % epoch, 0o600)
        self._there = True
        if self.looks != looks:
            self._remove()

    def forget(self) -> None:
        """What is to be looked at now is not in the log: no mark holds until it has been.  For any thread."""
        with self._lock:
            self.looks += 1
            self._followed = None
        self._remove()

    def _remove(self) -> None:
        self.worked = True
        if not self._there:
            return
        self._there = False
        for index in self._catalog.known():
            if index.embedder is not None:
                with contextlib.suppress(OSError):
                    self._filesystem.unlink(f"{index.home}/ingested")
