"""``search.*``: finding files, and how far their text is indexed."""

import time
from collections.abc import Generator
from typing import Any

from vexfs.node.node import Node
from vexfs.node.verbs.volume import Steps, with_progress
from vexfs.search.across import similar as find_similar
from vexfs.search.across import told_of
from vexfs.search.hits import Hit, Hits
from vexfs.search.reembed import reembed as embed_anew
from vexfs.search.snippet import snippet
from vexfs.search.standing import StandingQuery
from vexfs.search.textsearch import search_text

_STEP_S = 0.5


def shown(hit: Hit, query: str) -> dict[str, Any]:
    """A hit as plain values, with its lines and the stretch that is worth showing."""
    text = hit.text
    part, marks = snippet(text, query)
    return {**hit.as_dict(), "lines": list(hit.lines or ()) or None, "snippet": part, "marks": marks}


def _answer(hits: Hits, query: str, began: float) -> dict[str, Any]:
    seconds = time.monotonic() - began
    return {"hits": [shown(hit, query) for hit in hits], "seconds": seconds, **about(hits)}


def about(hits: Hits) -> dict[str, Any]:
    """What an answer says beside its hits."""
    return {"explanation": hits.explanation, "missing": [each._asdict() for each in hits.missing]}


def _waited(node: Node, wait_s: float | None) -> bool:
    return not wait_s or bool(node.volume.catalog.ingesting().wait(wait_s))


@Node.verb("search.text")
def text(
    node: Node, query: str, k: int = 10, under: str = "/", where: dict[str, Any] | None = None, mode: str = "hybrid",
    threshold: float | None = None, explain: bool = False, wait_s: float | None = None,
) -> dict[str, Any]:
    """The best files below a directory for words."""
    complete = _waited(node, wait_s)
    began = time.monotonic()
    hits = search_text(
        node.volume.catalog, query, k, under=under, where=where, mode=mode, threshold=threshold, explain=explain
    )
    ingest = node.volume.catalog.ingesting().status()
    return {**_answer(hits, query, began), "complete": complete and ingest["settled"], "backlog": ingest["backlog"]}


@Node.verb("search.similar")
def similar(
    node: Node, path: str, k: int = 10, under: str | None = None, where: dict[str, Any] | None = None,
    threshold: float | None = None, explain: bool = False, wait_s: float | None = None,
) -> dict[str, Any]:
    """Files like another one; that score `threshold` or more."""
    _waited(node, wait_s)
    began = time.monotonic()
    hits = find_similar(node.volume.catalog, path, k, under=under, where=where, explain=explain)
    if threshold is not None:
        hits[:] = [hit for hit in hits if hit.score >= threshold]
    return _answer(hits, "", began)


@Node.verb("search.watch")
def watch(
    node: Node, query: str | list[float], threshold: float = 0.5, under: str = "/", where: dict[str, Any] | None = None,
) -> Generator[dict[str, Any], None, None]:
    """Hits as they come, each in a step under ``hit``; for ever, or until nobody waits for more."""
    words = query if isinstance(query, str) else ""
    with StandingQuery(node.volume.catalog, query, threshold, under=under, where=where) as standing:
        yield {"watching": query}
        while True:
            hit = standing.take(_STEP_S)
            yield {"hit": shown(hit, words)} if hit is not None else {"watching": query}


@Node.verb("search.ingest")
def ingest(node: Node) -> dict[str, Any]:
    """How far text is indexed: of the volume, and of each index with an embedder."""
    catalog = node.volume.catalog
    working = catalog.ingesting()
    read = [index for index in catalog.indexes() if index.embedder is not None]
    return {**working.status(), "indexes": told_of(read, lambda i: {"path": i.path, **working.status_of(i)})}


@Node.verb("search.reembed")
def reembed(node: Node, path: str, embedder: str | None = None) -> Steps:
    """Embed a directory's text anew, by another model or the present version of its own."""
    index = yield from with_progress(lambda told: embed_anew(node.volume.catalog, path, embedder, told), "embedding")
    return {"path": index.path, "embedder": index.embedder, "dim": index.dim}
