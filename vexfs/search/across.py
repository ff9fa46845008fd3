"""Searches that may meet several indexes: below any directory, or for files like another one."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from vexfs.errors import (
    ConfigError,
    Damaged,
    IndexClosed,
    IndexConflict,
    IndexMissing,
    IoFailed,
    IsADirectory,
    NotFound,
    PluginBroken,
    QueryInvalid,
    Unreachable,
    describe,
)  # fmt: skip
from vexfs.observe.tally import tallied
from vexfs.search.description import UNFINISHED
from vexfs.search.hits import Hit, Hits, Missing
from vexfs.search.query import check_k, directory_at
from vexfs.search.records import numbers_of

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog
    from vexfs.search.description import Description
    from vexfs.search.index import Index

#: Passages of a file that are looked for when files like it are.
PASSAGES = 8
_IN_PART = ("in part only: it was interrupted as it took the place of an older index, and ingest completes it; "
            "fs.ingest.status() and vexctl index status tell how far that is")  # fmt: skip
#: Faults of one index, beside which others answer: damage, and a model that cannot be had.
FAULTS = Damaged, IoFailed, ConfigError, PluginBroken, Unreachable, IndexConflict


def scoped(catalog: "Catalog", under: Any) -> list[tuple["Index", Any]]:
    """The indexes that a search below `under` meets, each with the directory that limits it (None: its own)."""
    ino = under if isinstance(under, int) else directory_at(catalog.filesystem, under)
    over = catalog.covering(ino)
    found: list[tuple[Index, Any]] = []
    if over is not None:
        found = [(over, None if ino == over.description.directory else ino)]
    return found + [(index, None) for index in catalog.below(ino)]


def changed(catalog: "Catalog", met: list[tuple["Index", Any]]) -> bool:
    """Whether an index that a search met was dropped, or another one took its place: the search can be repeated."""
    catalog.refuse_closed()
    return any(catalog.of(index.description.directory) is not index for index, _ in met)


def told_of(indexes: Iterable[Any], tell: Callable[[Any], Any]) -> list[Any]:
    """What is told of each index, but for those that are dropped meanwhile, by themselves or with their directory."""
    told = []
    for index in indexes:
        with contextlib.suppress(IndexClosed, NotFound):
            told.append(tell(index))
    return told


def unopened(catalog: "Catalog", under: Any) -> Iterator[tuple["Description", Missing]]:
    """The indexes that a search below `under` should meet and that cannot be opened."""
    found = catalog.unopened()
    if not found:
        return
    ino = under if isinstance(under, int) else directory_at(catalog.filesystem, under)
    top = _slashed(os.fsdecode(catalog.filesystem.path_of(ino)))
    over = catalog.covering(ino)
    nearest = "/" if over is None else _slashed(over.path)
    for path, description, why in found:
        place = _slashed(path)
        if place.startswith(top) or (top.startswith(place) and place.startswith(nearest)):
            yield description, Missing(path, why)


def unfinished(met: list[tuple["Index", Any]]) -> list[Missing]:
    """Those that a crash left with a part of their rows, as they took the place of another index."""
    return [Missing(index.path, _IN_PART) for index, _ in met if index.state.get(UNFINISHED)]


def _slashed(path: str) -> str:
    return path.rstrip("/") + "/"


def answers(
    met: list[tuple["Index", Any]], search: Callable[["Index", Any], Hits], missing: list[Missing]
) -> list[Hits]:
    """What each index answers.  One that cannot be searched is noted in `missing`, unless none can: that is raised."""
    parts: list[Hits] = []
    first: Exception | None = None
    for index, scope in met:
        try:
            parts.append(search(index, scope))
        except FAULTS as error:
            first = first or error
            missing.append(Missing(index.path, describe(error)))
    if first is not None and not parts:
        raise first
    return parts


def _text(path: Any) -> str | bytes:
    return path if isinstance(path, str | bytes) else str(path)


def merged(parts: list[Hits], k: int) -> Hits:
    """The best k files of several searches, each once."""
    best: dict[int, Hit] = {}
    for hit in (hit for part in parts for hit in part):
        known = best.get(hit.ino)
        if known is None or hit.score > known.score:
            best[hit.ino] = hit
    out = Hits(sorted(best.values(), key=lambda h: -h.score)[:k])
    explanations = [part.explanation for part in parts if part.explanation is not None]
    if explanations:
        out.explanation = {"searches": explanations} if len(explanations) > 1 else explanations[0]
    return out


def search_vector(
    catalog: "Catalog", vector: ArrayLike, k: int, *, under: Any = "/", where: Mapping[str, Any] | None = None,
    **options: Any,
) -> Hits:
    """The nearest files below a directory, over every index there of the vector's dimension.

    Raises
    ------
    IndexMissing
        There is none.
    """
    check_k(k)
    q = numbers_of(vector, "a query is a list of numbers")
    if q.ndim != 1:
        raise QueryInvalid(f"a vector of shape {q.shape}; one vector is wanted, or Index.query for several")
    met = scoped(catalog, under)
    if not met:
        catalog.refuse_unopened_below(os.fsdecode(under))
        raise IndexMissing.at("no index covers it, and there is none below it", _text(under))
    fitting = [(i, scope) for i, scope in met if i.dim == len(q)]
    if not fitting:
        dims = ", ".join(sorted({str(i.dim) for i, _ in met}))
        raise QueryInvalid(f"a vector of dimension {len(q)}; the indexes there hold vectors of dimension {dims}")
    missing = [each for about, each in unopened(catalog, under) if about.dim == len(q)] + unfinished(fitting)
    try:
        parts = answers(fitting, lambda i, scope: i.query(q, k, where=where, under=scope, **options), missing)
    except IndexClosed:
        if not changed(catalog, fitting):
            raise
        return search_vector(catalog, q, k, under=under, where=where, **options)
    hits = parts[0] if len(parts) == 1 else merged(parts, k)
    hits.missing = tuple(missing)
    return hits


def _without_vector(index: "Index", ino: int, path: str | bytes) -> IndexMissing | IsADirectory:
    """Why nothing is like it."""
    about = index.filesystem.getattr(ino)
    if stat.S_ISDIR(about.st_mode):
        return IsADirectory.at("is a directory; what is like a file is looked for", path)
    if reason := index.aside.reason(ino):
        return IndexMissing.at(f"has no vector, for it was set aside: {reason}", path)
    if index.embedder is not None and not about.st_size:
        return IndexMissing.at("has no vector, for it is empty", path)
    return IndexMissing.at("has no vector; give it one, or wait until it is indexed", path)


@tallied("semantic", "similar")
def similar(
    catalog: "Catalog", path: Any, k: int, *, under: Any = None, where: Mapping[str, Any] | None = None, **options: Any
) -> Hits:
    """Files like the one at `path`, which is left out.

    Raises
    ------
    IndexMissing
        The file has no vector, or nothing covers it.
    IsADirectory
        It is none.
    """
    check_k(k)
    catalog.settle()
    ino = catalog.filesystem.resolve(_text(path))
    index = catalog.at(path)
    try:
        vectors = index.vectors_of(ino)
        if not len(vectors):
            raise _without_vector(index, ino, _text(path))
        parts = index.query(vectors[:PASSAGES], min(k + 1, 10_000), where=where, under=under, **options)
    except IndexClosed:
        catalog.refuse_closed()
        raise
    return merged([Hits((h for h in part if h.ino != ino), part.explanation) for part in parts], k)
