"""Embedding a directory's text anew by another model, while the old vectors still answer.

Everything is embedded and made ready in memory first (about 2.5 KB a passage); then a new index takes the place of the
old one with all of it: who searches in that moment waits.  What changed meanwhile is embedded before that, but for the
last of it, which ingest meets.  After a crash either the old index is there as it was, or the new one, and ingest
completes it.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from vexfs.errors import IndexConflict, IndexMissing, PluginBroken, Unreachable
from vexfs.search.chunk import Chunker
from vexfs.search.embedders import Embedder, Vectors, refuse_ambiguous, resolve
from vexfs.search.embedding import FEWEST, fitting
from vexfs.search.extract import Limits, Skipped
from vexfs.search.filling import Filling, portions
from vexfs.search.indexfile import refuse_loss
from vexfs.search.passages import Changed, Passages, is_file, passages
from vexfs.search.patience import until_answered
from vexfs.search.textindex import create_text_index

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog
    from vexfs.search.index import Index

T = TypeVar("T")

#: As of `vexfs import --index`.
_PATIENCE_S = 60.0
#: The first time a model may have to be fetched, and services may ask to be left alone.
_LOADING_S = 900.0
_LOOK_S = 0.2
_BATCH = 64
#: Passages that a model is asked for at once, unless a single file has more.
_PASSAGES = 8192
#: How often what changed meanwhile is embedded before the new index takes its place.
_ROUNDS = 3


def reembed(
    catalog: "Catalog", path: str, embedder: Any = None, progress: Callable[[int, int], Any] | None = None
) -> "Index":
    """Give the text below a directory vectors of another model.

    Parameters
    ----------
    catalog : Catalog
    path : str
        A directory with an index of its own that has an embedder.
    embedder : str, callable or Embedder, optional
        Default: the model that it had, in the version that is here now.
    progress : callable, optional
        Called with the files done and their number; what it raises ends the work, and nothing has changed.

    Returns
    -------
    Index
        The new one.

    Raises
    ------
    IndexMissing
        The directory has no such index.
    IndexConflict
        See `renewable`.
    NoSpace
        The new index does not fit into the place of the old one.
    Unreachable
        The model has not answered for a minute.
    """
    work = steps(catalog, path, embedder)
    with contextlib.closing(work):
        while True:
            try:
                done = next(work)
            except StopIteration as end:
                made: Index = end.value
                return made
            if progress is not None:
                progress(*done)


def steps(catalog: "Catalog", path: str, embedder: Any = None) -> Generator[tuple[int, int], None, "Index"]:
    """As `reembed`, step by step: yields the files done and their number; closed before its end it changes nothing."""
    old = renewable(catalog, path)
    wanted = cast(str, old.embedder) if embedder is None else embedder
    waited = until_answered((resolve(each) for each in [wanted]), _LOADING_S, _not_answering(wanted, _LOADING_S))
    (model,) = yield from _shown(waited, 0, 0)
    refuse_ambiguous(model)  # the old index goes on with the one that it has
    filling = Filling(catalog, old, model.dim)
    files = _missing(old, filling)
    old.renewal = {"embedder": model.name, "done": 0, "total": len(files)}
    try:
        for at in range(0, len(files), _BATCH):
            yield from _shown(_embed(old, model, filling, files[at : at + _BATCH]), at, len(files))
            old.renewal["done"] = done = min(at + _BATCH, len(files))
            yield done, len(files)
        for _ in range(_ROUNDS):
            more = _missing(old, filling)
            for at in range(0, len(more), _BATCH):
                yield from _shown(_embed(old, model, filling, more[at : at + _BATCH]), len(files), len(files))
                yield len(files), len(files)
    finally:
        old.renewal = None
    refuse_loss(old)  # of what was given meanwhile
    return create_text_index(
        catalog, old.path, model, metric=old.metric, dtype=old.dtype, rows_in=old.rows_in, instead_of=old,
        filled=filling,
    )  # fmt: skip


def _missing(old: "Index", filling: Filling) -> list[int]:
    """Files with passages whose content, as the old index has it, has not been embedded."""
    files = old.files().tolist()
    return [ino for ino in files if old.made_from_content(ino) and not filling.has(ino, old.generation_of(ino))]


def _shown(work: Generator[None, None, T], done: int, total: int) -> Generator[tuple[int, int], None, T]:
    """Work that yields while it is waited for, shown as so many files done."""
    with contextlib.closing(work):
        while True:
            try:
                next(work)
            except StopIteration as end:
                return cast(T, end.value)
            yield done, total


def _not_answering(embedder: Any, patience_s: float) -> str:
    name = embedder if isinstance(embedder, str) else getattr(embedder, "name", "of this program")
    return f"embedder {name} has not answered for {patience_s:g} s; the old vectors are as they were"


def _embed(old: "Index", model: Embedder, filling: Filling, files: list[int]) -> Generator[None, None, None]:
    found = [each for ino in files if (each := _read(old, ino)) is not None]
    for part in portions(found, _PASSAGES):
        texts = [text for each in part for text in each.texts()]
        rows: list[Vectors] = []
        began, done = time.monotonic(), 0
        while done < len(texts):
            try:
                told = _not_answering(model, _PATIENCE_S)
                yield from until_answered(_piecewise(model, texts[done:], rows), _PATIENCE_S, told)
            except Unreachable as error:
                if sum(map(len, rows)) > done:
                    began = time.monotonic()
                if not error.again_s or time.monotonic() + error.again_s > began + _LOADING_S:
                    raise
                until = time.monotonic() + error.again_s
                while time.monotonic() < until:
                    yield
                    time.sleep(_LOOK_S)
            done = sum(map(len, rows))
        with contextlib.suppress(Unreachable):
            yield from until_answered(_rehearsed(filling, part, model), _PATIENCE_S, _not_answering(model, _PATIENCE_S))
        filling.add(part, np.concatenate(rows))


def _rehearsed(filling: Filling, part: list[Passages], model: Embedder) -> Iterator[None]:
    for each in part:
        filling.rehearsal.hear(each.chunks, model)
    yield


def _piecewise(model: Embedder, texts: list[str], rows: list[Vectors]) -> Iterator[None]:
    """Embed some texts piece by piece, which are added to `rows`."""
    at, size = 0, FEWEST
    while at < len(texts):
        part, began = texts[at : at + size], time.perf_counter()
        rows.append(model.embed(part))
        yield
        at += len(part)
        size = fitting(size, len(part), time.perf_counter() - began)


def renewable(catalog: "Catalog", path: str) -> "Index":
    """The index that a directory has of its own, if its text can be embedded anew now.

    Raises
    ------
    IndexMissing
        It has none with an embedder.
    IndexConflict
        That is under way already, or it has vectors that were given to files, which no model makes.
    """
    found = catalog.of(catalog.filesystem.resolve(path or "/"))
    if found is None or found.embedder is None:
        raise IndexMissing.at("has no index of text of its own; make one with fs.index(path, embedder=...)", path)
    if found.renewal is not None:
        now = found.renewal
        so_far = f"{now['done']:,} of {now['total']:,} files are done"
        raise IndexConflict.at(
            f"is being embedded anew already, by {now['embedder']}: {so_far}; "
            "`vexctl index status` tells how far it is, `vexctl index reembed --follow` stays until it ends", path,
        )  # fmt: skip
    refuse_loss(found)
    return found


def _read(index: "Index", ino: int) -> Passages | None:
    """A file's passages; None for one that went or changed meanwhile, which ingest meets."""
    if is_file(index.filesystem, ino) is None:
        return None
    try:
        return passages(index, ino, Chunker(), Limits())
    except (Skipped, Changed, OSError, PluginBroken):
        return None
