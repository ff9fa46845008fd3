"""The indexes at work, run by :mod:`asv_benchmarks.peers.index` where the peers can be imported; prints JSON.

Every index has a knob that trades speed for recall.  All settings of all indexes are run in turns, in an order drawn
anew each round, in one thread and in processor time; what an index reaches at a recall is read off its own curve,
between the two settings around it, on a logarithmic scale of what is missed.
"""

import argparse
import itertools
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import faiss
import hnswlib
import numpy as np
import rabitqlib
from usearch.index import Index as Usearch

from asv_benchmarks.peers import index_data
from vexfs._core.vindex import VectorIndex

K, ROUNDS = 10, 5
Search = Callable[[np.ndarray], Any]
#: Of each index: how it is built, and its settings with what each turns it into.
Built = tuple[float, dict[str, Search]]
#: Recall and queries a second, by rising recall.
Curve = list[tuple[float, float]]


def truth(base: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return np.argsort(-(queries @ base.T), axis=1)[:, :K]


def recall(found: Any, exact: np.ndarray) -> float:
    pairs = zip(np.asarray(found).tolist(), exact.tolist(), strict=True)
    return float(np.mean([len(set(a) & set(b)) / K for a, b in pairs]))


def vexfs(base: np.ndarray) -> tuple[Built, VectorIndex]:
    index, begin = VectorIndex(base.shape[1]), time.process_time()
    index.put(np.arange(len(base)), index.encode(base))
    while index.maintain(1000):
        pass
    took = time.process_time() - begin
    levels = (0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995)
    return (took, {f"recall {r}": lambda q, r=r: index.search(q, K, recall=r)[0] for r in levels}), index


def hnsw(base: np.ndarray) -> Built:
    index, begin = hnswlib.Index("ip", base.shape[1]), time.process_time()
    index.init_index(len(base), M=16, ef_construction=200)
    index.add_items(base, num_threads=1)
    took = time.process_time() - begin

    def search(q: np.ndarray, ef: int) -> Any:
        index.set_ef(ef)
        return index.knn_query(q, K, num_threads=1)[0]

    return took, {f"ef {ef}": lambda q, ef=ef: search(q, ef) for ef in (20, 40, 80, 160, 320)}


def faiss_hnsw(base: np.ndarray) -> Built:
    index, begin = faiss.IndexHNSWFlat(base.shape[1], 32, faiss.METRIC_INNER_PRODUCT), time.process_time()
    index.hnsw.efConstruction = 100
    index.add(base)
    took = time.process_time() - begin

    def search(q: np.ndarray, ef: int) -> Any:
        index.hnsw.efSearch = ef
        return index.search(q, K)[1]

    return took, {f"ef {ef}": lambda q, ef=ef: search(q, ef) for ef in (20, 40, 80, 160, 320)}


def faiss_ivf(base: np.ndarray) -> Built:
    lists, begin = int(2 * math.sqrt(len(base))), time.process_time()
    kind = f"IVF{lists},PQ{base.shape[1] // 4}x4fs,RFlat"
    index = faiss.index_factory(base.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.train(base)
    index.add(base)
    index.k_factor = 10
    took = time.process_time() - begin
    inner = faiss.extract_index_ivf(index)

    def search(q: np.ndarray, probes: int) -> Any:
        inner.nprobe = probes
        return index.search(q, K)[1]

    return took, {f"nprobe {p}": lambda q, p=p: search(q, p) for p in (8, 16, 32, 64, 128, 256)}


def usearch(base: np.ndarray) -> Built:
    index, begin = Usearch(ndim=base.shape[1], metric="ip", dtype="bf16"), time.process_time()
    index.add(np.arange(len(base), dtype=np.uint64), base, threads=1)
    took = time.process_time() - begin

    def search(q: np.ndarray, ef: int) -> Any:
        index.expansion_search = ef
        return index.search(q, K, threads=1).keys

    return took, {f"ef {ef}": lambda q, ef=ef: search(q, ef) for ef in (32, 64, 128, 256, 512)}


def symphony(base: np.ndarray) -> Built:
    index, begin = rabitqlib.SymqgIndex(base.shape[1], 32, "l2"), time.process_time()
    index.build(base, 200, 1)
    took = time.process_time() - begin

    def search(q: np.ndarray, ef: int) -> Any:
        return index.search_batch(q, K, ef, 1)[0]

    return took, {f"ef {ef}": lambda q, ef=ef: search(q, ef) for ef in (20, 40, 80, 120, 200, 320)}


PEERS = {"hnswlib": hnsw, "faiss HNSW32": faiss_hnsw, "faiss IVF PQ": faiss_ivf, "usearch bf16": usearch,
         "SymphonyQG": symphony}  # fmt: skip


def curves(built: dict[str, Built], queries: np.ndarray, exact: np.ndarray) -> dict[str, Curve]:
    """Of every index: its recalls and queries a second, by rising recall."""
    calls = {(name, key): call for name, (_, settings) in built.items() for key, call in settings.items()}
    reached = {which: recall(call(queries), exact) for which, call in calls.items()}
    times: dict[tuple[str, str], list[float]] = {which: [] for which in calls}
    order = random.Random(3)
    for _ in range(ROUNDS):
        for which in order.sample(list(calls), len(calls)):
            begin = time.process_time()
            calls[which](queries)
            times[which].append(time.process_time() - begin)
    found: dict[str, Curve] = {name: [] for name in built}
    for which in sorted(calls, key=reached.__getitem__):
        found[which[0]].append((reached[which], len(queries) / statistics.median(times[which])))
    return found


def speed_at(curve: Curve, wanted: float) -> float | None:
    """Queries a second at the recall `wanted`; None where the curve does not get there."""
    for (r0, s0), (r1, s1) in itertools.pairwise(curve):
        if r0 <= wanted <= r1 and r1 > r0:
            a, b, c = (math.log(max(1 - r, 1e-6)) for r in (r0, r1, wanted))
            return math.exp(math.log(s0) + (math.log(s1) - math.log(s0)) * (c - a) / (b - a))
    return curve[0][1] if curve and curve[0][0] >= wanted else None


def one_by_one(index: VectorIndex, queries: np.ndarray) -> tuple[float, float]:
    """Median and 99th percentile of a call from Python, in microseconds of the clock."""
    taken = []
    for i in range(len(queries)):
        begin = time.perf_counter()
        index.search(queries[i : i + 1], K)
        taken.append(1e6 * (time.perf_counter() - begin))
    return float(np.median(taken)), float(np.percentile(taken, 99))


def rows_of(built: dict[str, Built], lines: dict[str, Curve], notes: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for wanted in (0.95, 0.99):
        ours = speed_at(lines["vexfs"], wanted)
        for name in lines.keys() - {"vexfs"}:
            theirs = speed_at(lines[name], wanted)
            if ours is None or theirs is None:
                notes.append(f"recall {wanted}: {name if theirs is None else 'vexfs'} does not get there")
                continue
            target = 1.1 if name == "SymphonyQG" else 3.0
            figure = f"queries/s at recall@10 {wanted}"
            rows.append({"figure": figure, "ours": ours, "peer": name, "theirs": theirs, "target": target})
    if "hnswlib" in built:
        build = {"figure": "build, CPU s", "ours": built["vexfs"][0], "peer": "hnswlib", "theirs": built["hnswlib"][0]}
        rows.append({**build, "target": 1 / 3, "lower": True})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, required=True)
    rows_wanted = parser.parse_args().rows
    faiss.omp_set_num_threads(1)
    base, queries = index_data.sentences(rows_wanted)
    exact, notes = truth(base, queries), []
    ours, index = vexfs(base)
    built: dict[str, Built] = {"vexfs": ours}
    for name, build in PEERS.items():
        print(f"building {name}", file=sys.stderr, flush=True)
        try:
            built[name] = build(base)
        except (RuntimeError, ValueError, TypeError) as error:
            notes.append(f"{name}: {str(error)[:100]}")
    lines = curves(built, queries, exact)
    rows = rows_of(built, lines, notes)
    memory = index.memory()
    beyond = (memory["lists"] + memory["maps"] + memory["model"]) / len(base)
    limit = {"figure": "bytes a vector beyond its row", "ours": beyond, "peer": "limit", "theirs": 400}
    rows.append({**limit, "target": 1.0, "lower": True})
    median, late = one_by_one(index, queries)
    tail = {"figure": "one query from Python, p99 us", "ours": late, "peer": "p50", "theirs": median}
    rows.append({**tail, "target": 3.0, "lower": True})
    for name, line in lines.items():
        notes.append(f"{name}: " + ", ".join(f"{r:.4f} at {s:,.0f}/s" for r, s in line))
    notes.append(f"{len(base)} rows of 384, {len(queries)} held-out queries, one thread, processor time")
    json.dump({"rows": rows, "notes": notes, "lines": lines}, sys.stdout)


if __name__ == "__main__":
    main()
