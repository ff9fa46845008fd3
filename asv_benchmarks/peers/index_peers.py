"""The indexes at work, run by :mod:`asv_benchmarks.peers.index` where the peers can be imported; prints JSON.

Every index has a knob that trades speed for recall.  All settings of all indexes are run in turns, in an order drawn
anew each round, in one thread and in processor time; what an index reaches at a recall is read off its own curve,
between the two settings around it, on a logarithmic scale of what is missed.
"""

import argparse
import ctypes
import itertools
import json
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import hnswlib
import numpy as np
import rabitqlib
from usearch.index import Index as Usearch

from asv_benchmarks.peers import index_data, index_images
from vexfs._core.vindex import VectorIndex

K, ROUNDS = 10, 5
#: Threads that hnswlib builds with: the time that counts is the processor's.
BUILDERS = os.cpu_count() or 1
#: Rows of so many bytes are read from memory, whatever the caches of the machine.
BEYOND_CACHES = 128 << 20
Search = Callable[[np.ndarray], Any]
#: Of each index: seconds to build it, and its settings with what each turns it into.
Built = tuple[float, dict[str, Search]]
#: The data sets, and how their rows are compared.
SETS = {
    "sentences": (index_data.sentences, "cosine"),
    "pictures": (index_images.descriptors, "l2"),
    "mixture": (index_data.mixture, "cosine"),
}
#: Recall and queries a second, by rising recall.
Curve = list[tuple[float, float]]


def truth(base: np.ndarray, queries: np.ndarray, metric: str) -> np.ndarray:
    """The K nearest rows of each query, by comparing all."""
    lengths = np.einsum("ij,ij->i", base, base) if metric == "l2" else None
    parts = []
    for at in range(0, len(queries), 100):
        near = queries[at : at + 100] @ base.T
        near = near if lengths is None else 2 * near - lengths
        best = np.argpartition(-near, K, axis=1)[:, :K]
        parts.append(np.take_along_axis(best, np.argsort(-np.take_along_axis(near, best, 1), axis=1), 1))
    return np.concatenate(parts)


def recall(found: Any, exact: np.ndarray) -> float:
    pairs = zip(np.asarray(found).tolist(), exact.tolist(), strict=True)
    return float(np.mean([len(set(a) & set(b)) / K for a, b in pairs]))


def vexfs(base: np.ndarray, metric: str) -> tuple[Built, VectorIndex]:
    index, begin = VectorIndex(base.shape[1], metric), time.process_time()
    index.put(np.arange(len(base)), index.encode(base))
    while index.maintain(1000):
        pass
    took = time.process_time() - begin
    levels = (0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995)
    return (took, {f"recall {r}": lambda q, r=r: index.search(q, K, recall=r)[0] for r in levels}), index


def hnsw(base: np.ndarray, metric: str) -> Built:
    index, begin = hnswlib.Index("l2" if metric == "l2" else "ip", base.shape[1]), time.process_time()
    index.init_index(len(base), M=16, ef_construction=200)
    index.add_items(base, num_threads=BUILDERS)
    took = time.process_time() - begin

    def search(q: np.ndarray, ef: int) -> Any:
        index.set_ef(ef)
        return index.knn_query(q, K, num_threads=1)[0]

    return took, {f"ef {ef}": lambda q, ef=ef: search(q, ef) for ef in (20, 40, 80, 160, 320)}


def faiss_metric(metric: str) -> int:
    return int(faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT)


def faiss_hnsw(base: np.ndarray, metric: str) -> Built:
    index, begin = faiss.IndexHNSWFlat(base.shape[1], 32, faiss_metric(metric)), time.process_time()
    index.hnsw.efConstruction = 100
    index.add(base)
    took = time.process_time() - begin

    def search(q: np.ndarray, ef: int) -> Any:
        index.hnsw.efSearch = ef
        return index.search(q, K)[1]

    return took, {f"ef {ef}": lambda q, ef=ef: search(q, ef) for ef in (20, 40, 80, 160, 320)}


def faiss_ivf(base: np.ndarray, metric: str) -> Built:
    lists, begin = int(2 * math.sqrt(len(base))), time.process_time()
    kind = f"IVF{lists},PQ{base.shape[1] // 4}x4fs,RFlat"
    index = faiss.index_factory(base.shape[1], kind, faiss_metric(metric))
    index.train(base)
    index.add(base)
    index.k_factor = 10
    took = time.process_time() - begin
    inner = faiss.extract_index_ivf(index)

    def search(q: np.ndarray, probes: int) -> Any:
        inner.nprobe = probes
        return index.search(q, K)[1]

    return took, {f"nprobe {p}": lambda q, p=p: search(q, p) for p in (8, 16, 32, 64, 128, 256)}


def usearch(base: np.ndarray, metric: str) -> Built:
    kind = "l2sq" if metric == "l2" else "ip"
    index, begin = Usearch(ndim=base.shape[1], metric=kind, dtype="bf16"), time.process_time()
    index.add(np.arange(len(base), dtype=np.uint64), base, threads=1)
    took = time.process_time() - begin

    def search(q: np.ndarray, ef: int) -> Any:
        index.expansion_search = ef
        return index.search(q, K, threads=1).keys

    return took, {f"ef {ef}": lambda q, ef=ef: search(q, ef) for ef in (32, 64, 128, 256, 512)}


def symphony(base: np.ndarray, metric: str) -> Built:
    """It knows distances alone, which order sentences, that have one length, as their cosine does."""
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


def resident_bytes() -> int:
    """Resident memory, once what was freed has gone back."""
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def read_gbs(base: np.ndarray) -> float:
    """GB/s at which memory is read here: the best of sums over the same bytes."""
    flat, best = base.reshape(-1).view(np.int64), 0.0
    for _ in range(7):
        begin = time.perf_counter()
        np.add.reduce(flat)
        best = max(best, flat.nbytes / (time.perf_counter() - begin) / 1e9)
    return best


def more_rows(index: VectorIndex, base: np.ndarray, queries: np.ndarray) -> list[dict[str, Any]]:
    """Two threads beside one; exact search beside what memory gives; the tail of single queries."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(2 * ROUNDS + 1):
        for threads, seen in rates.items():
            begin = time.perf_counter()
            index.search(queries, K, recall=0.95, threads=threads)
            seen.append(len(queries) / (time.perf_counter() - begin))
    one, two = (statistics.median(seen) for seen in rates.values())
    figure = "queries/s at recall 0.95, two threads"
    rows: list[dict[str, Any]] = [{"figure": figure, "ours": two, "peer": "one thread", "theirs": one, "target": 1.8}]
    if base.nbytes > BEYOND_CACHES:
        plain, exact = [], []
        for query in queries[:7]:
            plain.append(read_gbs(base))
            begin = time.perf_counter()
            index.search(query[None], K, exact=True)
            exact.append(base.nbytes / (time.perf_counter() - begin) / 1e9)
        best = {"ours": max(exact), "peer": "sum over memory", "theirs": max(plain), "target": 0.9}
        rows.append({"figure": "exact search, GB/s of rows", **best})
    median, late = one_by_one(index, queries)
    tail = {"figure": "one query from Python, p99 us", "ours": late, "peer": "p50", "theirs": median}
    return [*rows, {**tail, "target": 3.0, "lower": True}]


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
            target = {"SymphonyQG": 1.1, "faiss IVF PQ": 1.0}.get(name, 3.0)
            figure = f"queries/s at recall@10 {wanted}"
            rows.append({"figure": figure, "ours": ours, "peer": name, "theirs": theirs, "target": target})
    if "hnswlib" in built:
        build = {"figure": "build, CPU s", "ours": built["vexfs"][0], "peer": "hnswlib", "theirs": built["hnswlib"][0]}
        rows.append({**build, "target": 1 / 3, "lower": True})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--set", choices=SETS, default="sentences")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="only these")
    args = parser.parse_args()
    faiss.omp_set_num_threads(1)
    data, metric = SETS[args.set]
    base, queries = data(args.rows)
    exact, notes = truth(base, queries, metric), []
    before = resident_bytes()
    ours, index = vexfs(base, metric)
    held = {"vexfs": resident_bytes() - before}
    built: dict[str, Built] = {"vexfs": ours}
    for name in args.peers:
        print(f"building {name}", file=sys.stderr, flush=True)
        before = resident_bytes()
        try:
            built[name] = PEERS[name](base, metric)
        except (RuntimeError, ValueError, TypeError) as error:
            notes.append(f"{name}: {str(error)[:100]}")
        held[name] = resident_bytes() - before
    lines = curves(built, queries, exact)
    rows = rows_of(built, lines, notes)
    memory = index.memory()
    beyond = (memory["lists"] + memory["maps"] + memory["model"]) / len(base)
    if base.shape[1] == 384:
        limit = {"figure": "bytes a vector beyond its row", "ours": beyond, "peer": "limit", "theirs": 400}
        rows.append({**limit, "target": 1.0, "lower": True})
    for name in built.keys() - {"vexfs"}:
        figure = {"figure": "resident for index and rows, MiB", "ours": held["vexfs"] / 2**20, "peer": name}
        target = 0.6 if name == "SymphonyQG" else None
        rows.append({**figure, "theirs": held[name] / 2**20, "target": target, "lower": True})
    rows += more_rows(index, base, queries)
    for name, line in lines.items():
        notes.append(f"{name}: " + ", ".join(f"{r:.4f} at {s:,.0f}/s" for r, s in line))
    notes.append(f"{len(base)} rows of {base.shape[1]}, {len(queries)} held-out queries, one thread, processor time")
    for row in rows:
        row["figure"] = f"{args.set}: {row['figure']}"
    json.dump({"rows": rows, "notes": notes, "lines": lines}, sys.stdout)


if __name__ == "__main__":
    main()
