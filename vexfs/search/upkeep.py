"""The thread of a catalog that brings indexes into memory, keeps them in order and looks around in quiet times."""

import logging
import threading
from typing import TYPE_CHECKING

from vexfs._core.bridge import Bell

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog
    from vexfs.search.index import Index

log = logging.getLogger("vexfs.search")

#: Kind of the bridge's items that say that an index has work to do.
KIND_INDEX = 1
SLICE_MS = 20
#: How long files with vectors may wait when nobody searches.
REST_S = 0.5


class Upkeep:
    """What goes on beside searches.  It begins with the first index, and ends with the catalog."""

    def __init__(self, catalog: "Catalog") -> None:
        self._catalog = catalog
        self._work = Bell()
        self._hinted = False
        self._thread: threading.Thread | None = None
        if catalog.bridge is not None:
            catalog.bridge.handler(KIND_INDEX, self._work)

    def begin(self) -> None:
        """There is an index: what it lacks is brought into memory."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="vexfs-index", daemon=True)
            self._thread.start()
        self._work.ring()

    def hint(self, index: "Index") -> None:
        """An index changed: there may be work to do."""
        if self._hinted:
            return
        self._hinted = True
        bridge = self._catalog.bridge
        if bridge is None or not bridge.enqueue(index.description.number, 0, KIND_INDEX, "low", wait=False):
            self._work.ring()

    def _run(self) -> None:
        catalog = self._catalog
        while not catalog.ending:
            if not self._work.wait(REST_S):
                self._look()
                continue
            self._hinted = False
            more = True
            while more and not catalog.ending:
                more = False
                for index in catalog.held():
                    try:
                        more |= index.maintain(SLICE_MS)
                    except Exception:  # one that was dropped or set aside meanwhile has none
                        if not catalog.ending and catalog.of(index.description.directory) is index:
                            log.exception("upkeep of index %d failed", index.description.number)

    def _look(self) -> None:
        """In quiet times: what nobody's search has settled yet, lists that have not been kept, what was asked."""
        try:
            self._catalog.settle()
            for index in self._catalog.known():
                index.aside.save()
                if index.vectors.may_learn:
                    self.hint(index)
        except Exception:
            if not self._catalog.ending:
                log.exception("files with vectors could not be looked at")

    def wait(self) -> None:
        """Do all the work there is, here and now."""
        for index in self._catalog.indexes():
            while index.maintain(SLICE_MS):
                pass

    def close(self) -> None:
        """The catalog is ending: so does the thread."""
        self._work.ring()
        if self._thread is not None:
            self._thread.join()
