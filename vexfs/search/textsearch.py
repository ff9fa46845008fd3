"""Search by text: by meaning, by keywords, or both.

Both lists are ranked by rows (passages) and fused by their ranks: a row's score is the weighted sum of 1 / (c + rank)
over the lists that have it, as a share of the most that can be reached.  Constant and weights were chosen on judged
sets, see ``docs/search.md``.
"""

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vexfs._core.hits import fused
from vexfs.errors import IndexClosed, IndexMissing, QueryInvalid
from vexfs.observe.tally import tallied
from vexfs.registry import faults_of, registry
from vexfs.search.across import answers, changed, merged, scoped, unfinished, unopened
from vexfs.search.hits import Hits, Missing
from vexfs.search.query import check_k, check_options, score_of
from vexfs.search.signs import signs
from vexfs.search.textindex import embedder_of

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog
    from vexfs.search.index import Index

MODES = ("hybrid", "semantic", "keyword")
#: The constant of reciprocal rank fusion.
CONSTANT = 2.0
#: What the list by meaning counts, where that by keywords counts 1.
WEIGHTS = {"static": 0.3}
WEIGHT = 1.0
#: Passages of each list that are fused: so many, or so many for each file wanted.
DEPTH, DEPTH_PER_HIT = 30, 3
#: Where these are of few files, so many times as many are looked at.
DEEPER = 8
#: Further passages of a file that are told then.
OTHERS = 100
QUERY_MOST = 100_000

Rows = NDArray[np.uint32]
Floats = NDArray[np.float32]
Reranker = Callable[[str, list[str]], Any]


@tallied("semantic", "search")
def search_text(
    catalog: "Catalog", query: str, k: int = 10, *, under: Any = "/", where: Mapping[str, Any] | None = None,
    mode: str = "hybrid", threshold: float | None = None, recall: float = 0.95, rerank: str | Reranker | None = None,
    explain: bool = False,
) -> Hits:
    """The best files below a directory for words, each with its best passage and the others in ``hit.others``.

    Parameters
    ----------
    catalog : Catalog
    query : str
        For the keyword side: words, ``"a phrase"``, ``prefix*``, ``+must``, ``-mustnot``; signs hold for both.
    k : int
        Files; at most 10,000.
    under : path
    where : mapping, optional
        A filter on attributes.
    mode : {"hybrid", "semantic", "keyword"}
    threshold : float, optional
        Only hits with at least this score.  Scores: semantic, the cosine similarity; keyword, BM25; hybrid, 1 for what
        is first in both lists.
    recall : float
        As of :meth:`Index.query`.
    rerank : str or callable, optional
        A re-ranker (entry point ``vexfs.rerankers``, or a callable): given the query and the passages of the best
        files, it answers a score for each; the hits are put in that order and bear these scores.
    explain : bool

    Raises
    ------
    QueryInvalid
        The query is empty, or an option is not valid.
    IndexMissing
        No index of text covers the directory or lies below it.
    """
    _checked(query, k, mode)
    check_options(recall, None, None, threshold, 1)
    more = min(max(4 * k, 40), 10_000) if rerank is not None else k
    parts, missing = _parts(catalog, query, more, under, where, mode, recall, explain)
    hits = parts[0] if len(parts) == 1 else merged(parts, more)
    if rerank is not None:
        hits = reranked(query, hits, rerank)
    if threshold is not None or len(hits) > k:
        kept = [hit for hit in hits if threshold is None or hit.score >= threshold][:k]
        hits = Hits(kept, hits.explanation)
    hits.missing = missing
    return hits


def _checked(query: str, k: Any, mode: str) -> None:
    if not query.strip():
        raise QueryInvalid("the question is empty; give it a few words")
    if len(query) > QUERY_MOST:
        raise QueryInvalid(f"a question of {len(query)} characters; the most is {QUERY_MOST}")
    check_k(k)
    if mode not in MODES:
        raise QueryInvalid(f"mode={mode!r}; {', '.join(MODES)} are known")


def _parts(
    catalog: "Catalog", query: str, k: int, under: Any, where: Mapping[str, Any] | None, mode: str, recall: float,
    explain: bool,
) -> tuple[list[Hits], tuple[Missing, ...]]:
    """The best files of each index that is met, and those that cannot be searched."""
    met = [(index, scope) for index, scope in scoped(catalog, under) if index.embedder is not None]
    if not met:
        under = os.fsdecode(catalog.filesystem.path_of(under)) if isinstance(under, int) else under
        catalog.refuse_unopened_below(str(under))
        raise IndexMissing.at("no index of text covers it, and there is none below it; make one with fs.index(path, "
                              'embedder="default") or vexctl index create --embedder default', str(under))  # fmt: skip
    catalog.settle()
    missing = [each for about, each in unopened(catalog, under) if about.embedder is not None] + unfinished(met)
    try:
        found = answers(met, lambda i, scope: _one(i, query, k, scope, where, mode, recall, explain), missing)
        return found, tuple(missing)
    except IndexClosed:
        if not changed(catalog, met):
            raise
        return _parts(catalog, query, k, under, where, mode, recall, explain)


def _one(
    index: "Index", query: str, k: int, scope: Any, where: Mapping[str, Any] | None, mode: str, recall: float,
    explain: bool,
) -> Hits:
    """The best files of one index."""
    since = index.table.moment
    bits, count = index.mask(where, scope)
    signed = signs(query) if mode == "hybrid" else None
    if signed is not None:
        bits, count = signed.narrow(index.words, index.besides(Hits(), bits))
    depth = min(max(DEPTH, DEPTH_PER_HIT * k), count, 10_000)
    explanation = {"mode": mode, "candidates": count, "depth": depth} if explain else None
    model = embedder_of(index) if mode != "keyword" else None
    if not depth:
        return Hits(explanation=explanation)
    vector = None if model is None else model.embed([query if signed is None else signed.rest])
    if vector is not None and not vector.any():
        vector = None
    hits, cut = _deep(index, query, vector, depth, k, mode, recall, bits, since, explanation)
    if cut and len(hits) < k:
        # Passages of few files came first: deeper, until there are k files, or as many as there are.
        files, most = min(k, index.count(where, scope)), min(count, 10_000)
        while cut and len(hits) < files and depth < most:
            depth = min(DEEPER * depth, most)
            hits, cut = _deep(index, query, vector, depth, k, mode, recall, bits, since, explanation)
        # These have more passages than are looked at: the files behind them.
        more, behind = hits, depth
        while cut and more and len(hits) < files:
            bits = index.besides(more, bits)
            wanted = k - len(hits)
            more, cut = _deep(index, query, vector, depth, wanted, mode, recall, bits, since, explanation, behind)
            hits.extend(list(more))
            behind += depth
        for hit in hits:
            del hit.others[OTHERS:]
    hits.explanation = explanation
    return hits


def _deep(
    index: "Index", query: str, vector: Floats | None, depth: int, k: int, mode: str, recall: float, bits: Any,
    since: int, explanation: dict[str, Any] | None, behind: int = 0,
) -> tuple[Hits, bool]:
    """At most k files of the best `depth` passages of each list, `behind` so many; and whether a list had more."""
    near, distances, words, scores = _NO_ROWS, _NO_SCORES, _NO_ROWS, _NO_SCORES
    if mode != "semantic":
        words, scores = index.words.search(query, depth, mask=bits)
    if vector is not None:
        near, distances = _nearest(index, vector, depth, recall, bits)
    if mode == "semantic":
        rows, scores = near, score_of(index.metric, distances)
    elif mode == "keyword":
        rows, distances = words, np.full(len(words), np.nan, np.float32)
    else:
        rows, scores, distances = fuse(near, distances, words, WEIGHTS.get(index.embedder or "", WEIGHT), behind)
    if explanation is not None:
        explanation |= {"depth": depth, "near": len(near), "words": len(words)}
    # Enough rows for k files, if a file has a few of them.
    few = slice(0, max(2 * k, 20))
    hits = index.hits(rows[few], scores[few], distances[few], k, since)
    if len(hits) < k and len(rows) > few.stop:
        hits = index.hits(rows, scores, distances, k, since)
    return hits, len(near) >= depth or len(words) >= depth


_NO_ROWS: Rows = np.empty(0, np.uint32)
_NO_SCORES: Floats = np.empty(0, np.float32)


def _nearest(index: "Index", vector: Floats, k: int, recall: float, bits: Any) -> tuple[Rows, Floats]:
    among = {} if bits is None else {"mask": bits}
    with index.table:  # the filesystem stays open: rows may have to be read
        rows, distances, filled = index.vectors.search(vector, k, recall=recall, **among)
    return rows[0, : filled[0]], distances[0, : filled[0]]


def fuse(
    near: Rows, distances: Floats, words: Rows, weight: float, behind: int = 0
) -> tuple[Rows, Floats, Floats]:
    """Rows by meaning, with their distances, and by keywords as one list, best first: rows, scores up to 1, distances.

    A row behind the first `DEPTH` of both lists counts by its best rank alone, so that no score depends on how far they
    are looked at.  `behind`: so many rows of each list come before these.

    Source: Cormack, Clarke, Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning
    methods", SIGIR 2009.
    """
    return fused(near, distances, words, weight, CONSTANT, max(0, DEPTH - behind), behind)


def reranked(query: str, hits: Any, rerank: str | Reranker) -> Any:
    """Hits in the order of a re-ranker's scores, which they bear from then on.

    Raises
    ------
    QueryInvalid
        It did not give a finite score for each.
    """
    call: Any = registry("rerankers").get(rerank) if isinstance(rerank, str) else rerank
    if not callable(call):
        raise QueryInvalid(f"rerank={rerank!r}; a name, or something that can be called, is wanted")
    if not hits:
        return hits
    texts = [hit.text for hit in hits]
    with faults_of(f"re-ranker {rerank}") if isinstance(rerank, str) else contextlib.nullcontext():
        scores = np.asarray(call(query, texts), np.float64)
    if scores.shape == (len(hits),) and not np.isfinite(scores).all():
        raise QueryInvalid("the re-ranker gave a score that is not finite")
    if scores.shape != (len(hits),):
        raise QueryInvalid(f"the re-ranker gave scores of shape {scores.shape} for {len(hits)} passages")
    out = []
    for at in np.argsort(-scores, kind="stable").tolist():
        hits[at].score = float(scores[at])
        out.append(hits[at])
    hits[:] = out
    return hits
