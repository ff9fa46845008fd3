"""``index.*``: the indexes of a node's volume, and vectors from files of its host."""

import contextlib
import re
import time
from collections import Counter
from collections.abc import Generator
from typing import Any

import numpy as np

from vexfs.errors import IndexMissing, ReadOnly, VexfsError, describe
from vexfs.node.node import Node
from vexfs.node.verbs.search import about
from vexfs.search.across import search_vector, told_of
from vexfs.search.index import Index
from vexfs.search.patience import until_indexed
from vexfs.search.records import parse_vector
from vexfs.search.reembed import steps
from vexfs.search.sources import open_source

#: A model that does not answer is waited for so long while nothing else goes on.
_PATIENCE_S = 2.0


def described(index: Index) -> dict[str, Any]:
    """What an index is and how it stands, as plain values."""
    out = index.describe()
    out["memory_bytes"] = sum(out["memory"].values())
    return out


@Node.verb("index.list")
def list_(node: Node) -> list[dict[str, Any]]:
    """Every index; of one that cannot be opened what is known, and ``error``."""
    catalog = node.volume.catalog
    broken = [
        {"path": path, "number": d.number, "dim": d.dim, "metric": d.metric, "dtype": d.dtype, "embedder": d.embedder,
         "error": why}
        for path, d, why in catalog.unopened()
    ]  # fmt: skip
    return told_of(catalog.indexes(), described) + broken


@Node.verb("index.status")
def status(node: Node, path: str) -> dict[str, Any]:
    """The index that covers a path, and how far its text is indexed."""
    catalog = node.volume.catalog
    index = catalog.at(path)
    out = described(index)
    if index.embedder is not None:
        out["ingest"] = catalog.ingesting().status_of(index)
    return out


@Node.verb("index.create")
def create(
    node: Node, path: str, dim: int | None = None, metric: str | None = None, dtype: str | None = None,
    embedder: str | None = None, rows_in: str | None = None,
) -> dict[str, Any]:
    """The index of a directory, made when there is none."""
    catalog = node.volume.catalog
    if embedder is not None:
        from vexfs.search.textindex import create_text_index

        return described(create_text_index(catalog, path, embedder, dim, metric, dtype, rows_in))
    return described(catalog.create(path, dim=dim, metric=metric, dtype=dtype, rows_in=rows_in))


@Node.verb("index.drop")
def drop(node: Node, path: str) -> dict[str, Any]:
    """Drop a directory's index and its vectors; the files stay."""
    node.volume.catalog.drop(path)
    return {"path": path, "dropped": True}


@Node.verb("index.reembed")
def reembed(
    node: Node, path: str, embedder: str | None = None
) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Embed the text of an index anew, by another model; ended before its end, the old vectors stay."""
    began = time.monotonic()
    work = steps(node.volume.catalog, path, embedder)
    with contextlib.closing(work):
        while True:
            try:
                done, total = next(work)
            except StopIteration as end:
                index: Index = end.value
                break
            yield {"done": done, "total": total}
    node.volume.filesystem.sync()
    return {"path": index.path, "embedder": index.embedder, "dim": index.dim, "files": len(index),
            "seconds": time.monotonic() - began}  # fmt: skip


@Node.verb("index.retry")
def retry(node: Node, path: str) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Try the files again that the index covering a path has set aside, and wait for that, unless a model does not
    answer; then, and when the wait is ended, it goes on by itself.
    """
    catalog = node.volume.catalog
    index = catalog.at(path)
    if catalog.read_only:
        raise ReadOnly.at("the volume is open for reading only; nothing can be indexed", path)
    ingest = catalog.ingesting()
    tried = ingest.retry(index)
    for now in until_indexed(ingest, _PATIENCE_S):
        yield {"done": max(0, tried - now["backlog"]), "total": tried}
    return {**status(node, path), "tried": tried}


#: The number of a record in a message.
_NUMBER = re.compile(r"\b(vector|record) (\d+)")


def _in_file(error: VexfsError, file: str, stored: int) -> VexfsError:
    """What failed after so many records, told with its place in the file."""
    told = describe(error)
    if not told.startswith(file) and getattr(error, "filename", None) is None:  # nor about a file of the volume
        told = f"{file}: " + _NUMBER.sub(lambda found: f"{found[1]} {int(found[2]) + stored}", told)
    return type(error).at(f"{told}; the {stored:,} records before are stored" if stored else told)


@Node.verb("index.load")
def load(
    node: Node, file: str, path: str, metric: str | None = None, dtype: str | None = None, rows_in: str | None = None,
    id_column: str | None = None, vector_column: str | None = None, text_column: str | None = None,
) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Records from a file of the host into the index of a directory, which is made when there is none."""
    source = open_source(file, id_column=id_column, vector_column=vector_column, text_column=text_column)
    catalog = node.volume.catalog
    there = {each.description.number for each in catalog.indexes()}
    index = catalog.create(path, dim=source.dim, metric=metric, dtype=dtype, rows_in=rows_in)
    made = index.description.number not in there
    began, done, left_out = time.monotonic(), 0, Counter[str]()
    yield {"done": 0, "total": source.rows}
    try:
        for batch in source.batches():
            for piece in batch.apart():
                index.upsert(piece.ids, piece.vectors, piece.attributes, piece.contents)
                done += len(piece.ids)
            left_out += batch.left_out
            yield {"done": done, "total": source.rows}
    except VexfsError as error:
        if not done and made:
            catalog.drop(path)
        raise _in_file(error, file, done) from None
    node.volume.filesystem.sync()
    return {"path": index.path, "records": done, "seconds": time.monotonic() - began, "files": len(index),
            "left_out": dict(left_out)}  # fmt: skip


@Node.verb("index.search")
def search(
    node: Node, vector: str | list[float], k: int = 10, under: str = "/", where: dict[str, Any] | None = None,
    explain: bool = False, threshold: float | None = None, wait_s: float | None = None,
) -> dict[str, Any]:
    """The nearest files to a vector: numbers, or text with numbers between commas; that score `threshold` or more."""
    catalog = node.volume.catalog
    if wait_s:
        catalog.ingesting().wait(wait_s)
    if isinstance(vector, str):
        index = catalog.covering(under) or next(iter(catalog.below(catalog.filesystem.resolve(under))), None)
        if index is None:
            raise IndexMissing.at("no index covers it, and there is none below it", under)
        vector = parse_vector(vector.encode(), index.dim).tolist()
    began = time.monotonic()
    hits = search_vector(catalog, np.array(vector, np.float32), k, under=under, where=where, explain=explain)
    if threshold is not None:
        hits[:] = [hit for hit in hits if hit.score >= threshold]
    shown = [{**hit.as_dict(), "lines": None, "snippet": hit.text, "marks": []} for hit in hits]
    return {"hits": shown, "seconds": time.monotonic() - began, **about(hits)}
