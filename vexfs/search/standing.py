"""Standing queries: told when a file that is new, or has changed, matches a question."""

import queue
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vexfs.errors import QueryInvalid
from vexfs.search.hits import Hit
from vexfs.search.textindex import embedder_of

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog
    from vexfs.search.embedders import Vectors
    from vexfs.search.passages import Passages

_HELD = 10_000


class StandingQuery:
    """A question that stays; made by ``fs.watch``.  An iterator of hits, and a context manager that ends it.

    Parameters
    ----------
    catalog : Catalog
    query : str
    threshold : float
        The least cosine similarity of a file's best passage.
    under : path
    where : mapping, optional
        A filter on attributes.
    call : callable, optional
        Called with each hit, by the thread of ingest: it must be quick.  Without it, hits wait to be taken, at most
        10,000 of them.

    Attributes
    ----------
    lost : int
        Hits that nobody took in time.
    """

    def __init__(
        self, catalog: "Catalog", query: str, threshold: float = 0.5, *, under: Any = "/",
        where: Mapping[str, Any] | None = None, call: Callable[[Hit], Any] | None = None,
    ) -> None:
        if not query.strip():
            raise QueryInvalid("the question is empty; give it a few words")
        if not -1 <= threshold <= 1:
            raise QueryInvalid(f"threshold={threshold!r}; a cosine similarity from -1 to 1 is wanted")
        self.query, self.threshold, self.lost = query, threshold, 0
        self._catalog, self._where, self._call = catalog, where, call
        self._scope: int = catalog.filesystem.resolve(under if isinstance(under, str | bytes) else str(under))
        self._vectors: dict[str, Any] = {}
        self._hits: queue.Queue[Hit | None] = queue.Queue(_HELD)
        self._closed = False
        catalog.ingesting().listeners.append(self._seen)

    def _seen(self, found: "Passages", rows: "Vectors") -> None:
        """A file was indexed."""
        index = found.index
        name = index.embedder or ""
        if name not in self._vectors:
            self._vectors[name] = embedder_of(index).embed([self.query])[0]
        scores = rows @ self._vectors[name]
        best = int(np.argmax(scores))
        if scores[best] < self.threshold:
            return
        inside = index.table.rows_of(found.ino)
        bits, _ = index.mask(self._where, self._scope)
        if not len(inside) or not self._allowed(bits, int(inside[0])):
            return
        hits = index.hits(inside[best : best + 1], scores[best : best + 1], 1 - scores[best : best + 1], 1)
        for hit in hits:
            self._tell(hit)

    @staticmethod
    def _allowed(bits: Any, row: int) -> bool:
        return bits is None or (row >> 6 < len(bits) and bool(int(bits[row >> 6]) >> (row & 63) & 1))

    def _tell(self, hit: Hit) -> None:
        if self._call is not None:
            self._call(hit)
            return
        try:
            self._hits.put_nowait(hit)
        except queue.Full:
            self.lost += 1

    def take(self, timeout: float | None = None) -> Hit | None:
        """The next hit; None after `timeout` seconds, or when it was closed."""
        if self._closed and self._hits.empty():
            return None
        try:
            return self._hits.get(timeout=timeout)
        except queue.Empty:
            return None

    def __iter__(self) -> Iterator[Hit]:
        while (hit := self.take()) is not None:
            yield hit

    def close(self) -> None:
        """Be told no more."""
        if not self._closed:
            self._closed = True
            listeners = self._catalog.ingesting().listeners
            if self._seen in listeners:
                listeners.remove(self._seen)
            try:
                self._hits.put_nowait(None)
            except queue.Full:
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()
