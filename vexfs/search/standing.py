"""Standing queries: told when a file that is new, or has changed, matches a question."""

import contextlib
import math
import os
import queue
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from vexfs._core.columns import Columns
from vexfs.errors import QueryInvalid
from vexfs.search.embedding import Model, model_of
from vexfs.search.filters import Table, compile_filter
from vexfs.search.hits import Hit
from vexfs.search.query import directory_at, score_of
from vexfs.search.records import float32_of, numbers_of
from vexfs.search.textindex import embedder_of

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog
    from vexfs.search.index import Index

Floats = NDArray[np.float32]
_HELD = 10_000


class StandingQuery:
    """A question that stays; made by ``fs.watch``.  An iterator of hits, and a context manager that ends it;
    it ends with its volume, too.

    Told is whatever puts vectors: ingest of text, upserts, the attribute ``user.vexfs.vector``.  A vector is compared
    in the indexes of its dimension, words in those with an embedder.

    Parameters
    ----------
    catalog : Catalog
    query : str or float (dim,)
    threshold : float
        The least score of a file's best passage: of words, and of vectors where the metric is cosine, the cosine
        similarity; else as `Hit.score` has it.
    under : path
    where : mapping, optional
        A filter on attributes.
    call : callable, optional
        Called with each hit, by the thread that wrote: it must be quick.  Without it, hits wait to be taken, at most
        10,000 of them.

    Attributes
    ----------
    lost : int
        Hits that nobody took in time.
    """

    def __init__(
        self, catalog: "Catalog", query: Any, threshold: float = 0.5, *, under: Any = "/",
        where: Mapping[str, Any] | None = None, call: Callable[[Hit], Any] | None = None,
    ) -> None:
        if call is not None and not callable(call):
            raise QueryInvalid(f"call={call!r}; something that can be called is wanted")
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float, np.number)):
            raise QueryInvalid(f"threshold={threshold!r}; a number is wanted")
        if isinstance(query, str):
            if not query.strip():
                raise QueryInvalid("the question is empty; give it a few words")
            if not -1 <= threshold <= 1:
                raise QueryInvalid(f"threshold={threshold!r}; a cosine similarity from -1 to 1 is wanted")
        else:
            query = float32_of(numbers_of(query, "a query is a list of numbers"), "a query is a list of numbers")
            if query.ndim != 1 or not query.size or not np.isfinite(query).all() or not query.any():
                raise QueryInvalid(f"a vector of shape {query.shape}; one of finite numbers, not all zero, is wanted")
            if not math.isfinite(threshold):
                raise QueryInvalid(f"threshold={threshold!r}; a finite score is wanted")
        self.query, self.threshold, self.lost = query, threshold, 0
        self._catalog, self._call = catalog, call
        self._filter = None if where is None or where == {} else compile_filter(where)
        self._scope = directory_at(catalog.filesystem, under)
        self._vectors: dict[Model, Floats] = {}
        self._hits: queue.Queue[Hit | None] = queue.Queue(_HELD)
        self._closed = False
        catalog.standing.append(self)

    def _vector(self, index: "Index") -> Floats | None:
        """What the rows of an index are compared with; None: nothing."""
        if not isinstance(self.query, str):
            return self.query if len(self.query) == index.dim else None
        if index.embedder is None:
            return None
        model = model_of(index)
        if model not in self._vectors:
            self._vectors[model] = embedder_of(index).embed([self.query])[0]
        return self._vectors[model]

    def see(self, index: "Index", rows: NDArray[np.uint32], vectors: Floats, since: int) -> None:
        """Rows of an index were written; `vectors` are theirs, float32 (n, dim)."""
        q = self._vector(index)
        if q is None:
            return
        distances = _distances("cosine" if isinstance(self.query, str) else index.metric, vectors, q)
        scores = score_of("cosine" if isinstance(self.query, str) else index.metric, distances)
        near = np.flatnonzero(scores >= self.threshold)
        if not near.size:
            return
        near = near[np.argsort(-scores[near], kind="stable")]
        hits = self._inside(index.hits(rows[near], scores[near], distances[near], len(near), since))
        for hit in self._filtered(index, hits):
            self._tell(hit)

    def _inside(self, hits: list[Hit]) -> list[Hit]:
        try:
            above = os.fsdecode(self._catalog.filesystem.path_of(self._scope)).rstrip("/") + "/"
        except FileNotFoundError:  # the directory was removed
            return []
        return [hit for hit in hits if hit.path.startswith(above)]

    def _filtered(self, index: "Index", hits: list[Hit]) -> list[Hit]:
        if self._filter is None or not hits:
            return hits
        columns = Columns()
        columns.resize(len(hits))
        for at, hit in enumerate(hits):
            columns.fill(at, hit.packed)
        base = len(index.path.rstrip("/")) + 1
        paths = {at: hit.path[base:] for at, hit in enumerate(hits)}
        table = Table(columns, len(hits), lambda _: paths)
        found = self._filter.rows(table, np.ones(len(hits), np.bool_))
        return [hit for hit, good in zip(hits, found.tolist(), strict=True) if good]

    def _tell(self, hit: Hit) -> None:
        if self._call is not None:
            self._call(hit)
            return
        try:
            self._hits.put_nowait(hit)
        except queue.Full:
            self.lost += 1

    def take(self, timeout: float | None = None) -> Hit | None:
        """The next hit; None after `timeout` seconds, or when it, or its volume, was closed."""
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
            with contextlib.suppress(ValueError):
                self._catalog.standing.remove(self)
            try:
                self._hits.put_nowait(None)
            except queue.Full:
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _distances(metric: str, vectors: Floats, q: Floats) -> Any:
    """Of each row of `vectors` from `q`, as the metric has it, float32 (n,)."""
    if metric == "l2":
        return np.linalg.norm(vectors - q, axis=1)
    if metric == "dot":
        return -(vectors @ q)
    return 1 - vectors @ q / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(q))
