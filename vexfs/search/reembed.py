"""Embedding a directory's text anew by another model, while the old vectors still answer.

Everything is embedded first and held in memory (about 2.5 KB a passage); then a new index takes the place of the old
one, and the passages are put into it, some ten thousand a second.  What changed meanwhile is met by ingest.  After a
crash either the old index is there as it was, or the new one, and ingest completes it.
"""

import contextlib
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from vexfs.errors import IndexConflict, IndexMissing
from vexfs.search.chunk import Chunker
from vexfs.search.embedders import Vectors, remember, resolve
from vexfs.search.extract import Limits, Skipped
from vexfs.search.passages import Changed, Passages, is_file, passages
from vexfs.search.textindex import create_text_index

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog
    from vexfs.search.index import Index

_BATCH = 64


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
    model = resolve(cast(str, old.embedder) if embedder is None else embedder)
    remember(model)
    batches = []
    files = [int(ino) for ino in old.files() if old.made_from_content(int(ino))]
    old.renewal = {"embedder": model.name, "done": 0, "total": len(files)}
    try:
        for at in range(0, len(files), _BATCH):
            found = [each for ino in files[at : at + _BATCH] if (each := _read(old, ino)) is not None]
            if found:
                batches.append((found, model.embed([text for each in found for text in each.texts()])))
            old.renewal["done"] = done = min(at + _BATCH, len(files))
            yield done, len(files)
    finally:
        old.renewal = None
    index = create_text_index(
        catalog, old.path, model, metric=old.metric, dtype=old.dtype, rows_in=old.rows_in, instead_of=old
    )
    for found, rows in batches:
        _put(index, found, rows)
    catalog.ingesting().look_through(index)
    return index


def renewable(catalog: "Catalog", path: str) -> "Index":
    """The index that a directory has of its own, if its text can be embedded anew now.

    Raises
    ------
    IndexMissing
        It has none with an embedder.
    IndexConflict
        That is under way already.
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
    return found


def _read(index: "Index", ino: int) -> Passages | None:
    """A file's passages; None for one that went or changed meanwhile, which ingest meets."""
    if is_file(index.filesystem, ino) is None:
        return None
    try:
        return passages(index, ino, Chunker(), Limits())
    except (Skipped, Changed, OSError):
        return None


def _put(index: "Index", found: list[Passages], rows: Vectors) -> None:
    index.writer.put_files(
        [(each.ino, each.generation, len(each.chunks)) for each in found],
        [span for each in found for span in each.spans()],
        index.words.encode_all([text for each in found for text in each.words()]),
        np.ascontiguousarray(rows), told=False,
    )  # fmt: skip
