"""Indexes and searches of a volume, as Python programs want them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from vexfs.frontends.local.paths import AnyPath, text

from vexfs.search.catalog import Catalog
from vexfs.search.hits import Hit, Hits
from vexfs.search.index import Index

if TYPE_CHECKING:
    from vexfs.search.ingest import Ingest
    from vexfs.search.standing import StandingQuery


class Searching:
    """What :class:`~vexfs.frontends.local.LocalVolume` offers on indexes; needs only a ``catalog``."""

    catalog: Catalog

    def index(
        self, path: AnyPath = "/", *, dim: int | None = None, metric: str | None = None, dtype: str | None = None,
        embedder: Any = None, rows_in: str | None = None,
    ) -> Index:
        """The index of a directory, which is made, with the directory, when there is none.

        Parameters
        ----------
        path : path
            The index covers everything below it but what a nested index covers.
        dim : int
            Of the vectors, 1 to 65,536; an existing index, and one with an embedder, knows it.
        metric : {"cosine", "l2", "dot"}
        dtype : {"f32", "f16", "bf16", "i8"}
            What vectors are stored as.
        rows_in : {"memory", "disk"}
            Where stored vectors are when a search compares them; "disk" needs a fraction of the memory and more time.
        embedder : str, optional
            The model that turns text below the directory into vectors; ``"default"``.

        Raises
        ------
        IndexConflict
            The directory has another index.
        """
        if embedder is not None:
            from vexfs.search.textindex import create_text_index

            made: Index = create_text_index(self.catalog, text(path), embedder, dim, metric, dtype, rows_in)
            return made
        return self.catalog.create(text(path), dim=dim, metric=metric, dtype=dtype, rows_in=rows_in)

    def indexes(self) -> list[Index]:
        """Every index of the volume."""
        return self.catalog.indexes()

    def drop_index(self, path: AnyPath) -> None:
        """Drop a directory's index and its vectors; the files stay."""
        self.catalog.drop(text(path))

    def similar(
        self, path: AnyPath, k: int = 10, *, under: AnyPath | None = None, where: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Hits:
        """Files like the one at `path`, nearest first, without itself."""
        from vexfs.search.across import similar

        scope = None if under is None else text(under)
        return similar(self.catalog, text(path), k, under=scope, where=where, **options)

    def search(
        self, query: Any, k: int = 10, *, under: AnyPath = "/", where: Mapping[str, Any] | None = None, **options: Any
    ) -> Hits:
        """The best files below a directory for a vector (``float32 (dim,)``) or, where files are indexed by their
        text, for words.

        Parameters
        ----------
        query : str or array
        k : int
            At most 10,000.
        under : path
        where : mapping, optional
            A filter on attributes, as ``{"year": {"$gte": 2020}}``.
        **options
            Of a vector: `recall`, `effort`, `exact`, `threshold`, `explain` (see :meth:`Index.query`).
            Of a text: `mode` ("hybrid", "semantic", "keyword").
        """
        if isinstance(query, str):
            from vexfs.search.textsearch import search_text

            found: Hits = search_text(self.catalog, query, k, under=text(under), where=where, **options)
            return found
        from vexfs.search.across import search_vector

        return search_vector(self.catalog, query, k, under=text(under), where=where, **options)

    def watch(
        self, query: Any, *, threshold: float = 0.5, under: AnyPath = "/", where: Mapping[str, Any] | None = None,
        call: Callable[[Hit], Any] | None = None,
    ) -> "StandingQuery":
        """A standing query: told when a file that is new, or has changed, matches.

        Parameters
        ----------
        query : str or float (dim,)
            Words for indexes with an embedder, a vector for indexes of its dimension.
        threshold : float
            The least score of a file's best passage; of words the cosine similarity.
        under : path
        where : mapping, optional
        call : callable, optional
            Called with each hit; without it, iterate over what this answers, or `take` from it.
        """
        from vexfs.search.standing import StandingQuery

        return StandingQuery(self.catalog, query, threshold, under=text(under), where=where, call=call)

    def reembed(
        self, path: AnyPath, embedder: Any = None, *, progress: Callable[[int, int], Any] | None = None
    ) -> Index:
        """Embed the text below a directory anew, by another model or the present version of its own.

        Returns when that is done; until then the old vectors answer.

        Parameters
        ----------
        path : path
            A directory with an index of its own that has an embedder.
        embedder : str, callable or Embedder, optional
        progress : callable, optional
            Called with the files done and their number.
        """
        from vexfs.search.reembed import reembed

        return reembed(self.catalog, text(path), embedder, progress)

    @property
    def ingest(self) -> "Ingest":
        """What turns text into vectors in the background: ``status()``, ``wait(timeout)``, ``retry(index)``."""
        return self.catalog.ingesting()
