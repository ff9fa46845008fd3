"""Finding text by meaning beside BM25, LanceDB's hybrid search and Chroma, with the same model: quality and speed.

Ours is measured from text to hits through ``fs.search``; the peers are given the question's vector, which costs them
nothing.  LanceDB and Chroma run in an environment of their own (``build/peers/meaning``).
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import vexfs
from asv_benchmarks.peers.environment import ONE_THREAD, PLACE, ROOT
from asv_benchmarks.peers.meaning_data import Judged, all_sets
from asv_benchmarks.peers.meaning_share import share_rows
from asv_benchmarks.peers.table import Report, Row
from vexfs.errors import PluginBroken
from vexfs.search.embedders import resolve

PACKAGES = ("numpy", "bm25s==0.3.16", "lancedb==0.40.0", "chromadb==1.5.9")
MODES = ("semantic", "keyword", "hybrid")
MODEL, BETTER = "default", "minilm"
#: Documents that the better model is given: some tens a second.
FEW = 1000
K = 10


def run(quick: bool) -> Report:
    """Quality on every judged set; speed over all their documents together."""
    report = Report("meaning")
    sets = all_sets(PLACE / "meaning-data", 3_000 if quick else 40_000, 200 if quick else 1_000)
    python = environment(report)
    with tempfile.TemporaryDirectory() as home, vexfs.open(Path(home) / "v.vex") as fs:
        for each in sets:
            ours = quality_of(fs, each)
            theirs = peers(python, each, Path(home), ours["vectors"])
            quality_rows(report, each, ours, theirs)
        everything = Judged("all", *together(sets, 100_000))
        speed_rows(report, fs, everything, python, Path(home))
    share_rows(report, sets[0], quick)
    return report


def environment(report: Report) -> Path | None:
    """The interpreter with the peers in it; None, with a note, where they cannot be installed."""
    place = PLACE / "meaning"
    python = place / "bin/python"
    stamp = place / "packages.txt"
    if not stamp.exists() or stamp.read_text() != "\n".join(PACKAGES):
        try:
            subprocess.run([sys.executable, "-m", "venv", place], check=True)
            subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        except subprocess.CalledProcessError as error:
            report.notes.append(f"peers could not be installed: {error}")
            return None
        stamp.write_text("\n".join(PACKAGES))
    return python


def together(sets: list[Judged], most: int) -> tuple[list[str], list[str], list[int]]:
    """Documents of all sets as one, with the queries of those that are in it."""
    documents: list[str] = []
    queries: list[str] = []
    right: list[int] = []
    for each in sets:
        base = len(documents)
        documents += each.documents[: most - base]
        inside = [(q, r + base) for q, r in zip(each.queries, each.right, strict=True) if r + base < len(documents)]
        queries += [q for q, _ in inside]
        right += [r for _, r in inside]
    return documents, queries, right


def filled(fs: Any, each: Judged, model: str = MODEL) -> float:
    """The documents as files below a directory with an index; seconds that ingest took for them."""
    for at, text in enumerate(each.documents):
        fs.write_text(f"{each.name}/{at // 500}/{at}.txt", text)
    began = time.perf_counter()
    fs.index(each.name, embedder=model)
    assert fs.ingest.wait(3600), fs.ingest.status()
    return time.perf_counter() - began


def quality_of(fs: Any, each: Judged) -> dict[str, Any]:
    """nDCG@10 and recall@10 by mode, and the vectors of documents and queries."""
    filled(fs, each)
    model = resolve(MODEL)
    found: dict[str, Any] = {"vectors": (model.embed(each.documents), model.embed(each.queries))}
    for mode in MODES:
        lists = [[int(hit.id[:-4]) for hit in fs.search(q, K, under=each.name, mode=mode)] for q in each.queries]
        found[mode] = judged(lists, each.right)
    return found


def judged(lists: list[list[int]], right: list[int]) -> tuple[float, float]:
    """nDCG@10 and recall@10 where each query has one right answer."""
    ranks = [found.index(want) if want in found else -1 for found, want in zip(lists, right, strict=True)]
    gains = [1 / np.log2(rank + 2) if rank >= 0 else 0.0 for rank in ranks]
    return float(np.mean(gains)), float(np.mean([rank >= 0 for rank in ranks]))


def peers(python: Path | None, each: Judged, home: Path, vectors: Any) -> dict[str, Any]:
    """The peers' ranked lists and rates: measured by a process in their environment."""
    if python is None:
        return {}
    np.savez(home / "vectors.npz", documents=vectors[0], queries=vectors[1])
    (home / "set.json").write_text(json.dumps(each._asdict()))
    command = [str(python), str(ROOT / "asv_benchmarks/peers/meaning_peers.py"), str(home)]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=ONE_THREAD | {"PATH": "/usr/bin"})
    found: dict[str, Any] = json.loads(out.stdout.splitlines()[-1])
    return found


def quality_rows(report: Report, each: Judged, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for k, figure in enumerate(("nDCG@10", "recall@10")):
        name = f"{each.name} ({len(each.documents):,} documents), {figure}"
        half = max(("semantic", "keyword"), key=lambda mode: ours[mode][k])
        report.rows.append(Row(f"{name}: hybrid", ours["hybrid"][k], f"our {half}", ours[half][k], 1.0))
        for peer, told in theirs.items():
            mode = "keyword" if peer == "bm25s" else "hybrid"
            value = judged(told["lists"], each.right)[k]
            report.rows.append(Row(f"{name}: {mode}", ours[mode][k], peer, value, 1.0 if mode == "hybrid" else None))


def ingest_row(report: Report, fs: Any, each: Judged, name: str) -> np.ndarray:
    """Ingest beside its model alone; the vectors of the documents."""
    took, count = filled(fs, each, name), len(each.documents)
    model = resolve(name)
    model.embed(each.documents[:64])
    began = time.perf_counter()
    rows = np.concatenate([model.embed(each.documents[at : at + 64]) for at in range(0, count, 64)])
    bare = time.perf_counter() - began
    figure = f"ingest with {name!r}, passages a second ({count:,} documents)"
    report.rows.append(Row(figure, count / took, "bare model", count / bare, 0.9))
    return rows


def speed_rows(report: Report, fs: Any, each: Judged, python: Path | None, home: Path) -> None:
    rows = ingest_row(report, fs, each, MODEL)
    try:
        ingest_row(report, fs, Judged("better", each.documents[:FEW], [], []), BETTER)
    except PluginBroken as error:
        report.notes.append(str(error))
    model, size = resolve(MODEL), f"{len(each.documents):,} documents"
    rates: dict[str, float] = {}
    for mode in MODES:
        for query in each.queries[:50]:
            fs.search(query, K, under=each.name, mode=mode)
        began = time.process_time()
        for query in each.queries[:1000]:
            fs.search(query, K, under=each.name, mode=mode)
        rates[mode] = len(each.queries[:1000]) / (time.process_time() - began)
    name = f"queries a second of one core ({size})"
    report.rows.append(Row(f"hybrid {name}", rates["hybrid"], "limit", 2000.0, 1.0))
    for peer, told in peers(python, each, home, (rows, model.embed(each.queries))).items():
        mode = {"bm25s": "keyword", "chroma": "semantic"}.get(peer, "hybrid")
        target = None if peer == "bm25s" else 5.0
        report.rows.append(Row(f"{mode} {name}", rates[mode], peer, told["rate"], target))
