"""The steps of :mod:`asv_benchmarks.peers.records`, run where the peers can be imported; prints JSON.

Searches are made one at a time, on one processor, in turns of a fraction of a second in an order drawn anew each round,
in processor time; of each store with the least effort that found the recall asked for.  Inserts have every processor
and are timed by the clock.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import vexfs
from asv_benchmarks.peers import index_data
from asv_benchmarks.peers.records_peers import STORES, YEARS, Floats, Qdrant, Span, Store, VexFS, years_of

RECALL, K = 0.985, 10
SEARCHED, ROUNDS, TURN_S, INSERT_ROUNDS, INSERTED = 300, 5, 0.15, 5, 20_000
#: Share of the records that a filter leaves to the years that it spans; "fresh": each query has another span.
FILTERS = {"no filter": 0, "10 %": 10, "1 %": 1, "10 %, fresh": 10, "1 %, fresh": 1}
Answers = list[list[tuple[str, Any]]]


def span_of(name: str, query: int) -> Span:
    width = FILTERS[name]
    if not width:
        return None
    first = YEARS[0] + (query * 37 % (100 - width + 1) if "fresh" in name else 50)
    return first, first + width - 1


class Truth:
    """The right answers, worked out when they are first asked for."""

    def __init__(self, base: Floats, queries: Floats) -> None:
        self.base, self.queries, self.years = base, queries, years_of(len(base))
        self.known: dict[tuple[int, Span], set[int]] = {}

    def of(self, query: int, span: Span) -> set[int]:
        found = self.known.get((query, span))
        if found is None:
            rows = np.arange(len(self.base))
            if span is not None:
                rows = np.flatnonzero((self.years >= span[0]) & (self.years <= span[1]))
            near = np.argsort(-(self.base[rows] @ self.queries[query]))[:K]
            found = self.known[query, span] = set(rows[near].tolist())
        return found

    def recall(self, name: str, answers: dict[int, list[tuple[str, Any]]]) -> float:
        shares = []
        for query, answer in answers.items():
            right = self.of(query, span_of(name, query))
            shares.append(len(right & {int(path[4:]) for path, _ in answer}) / len(right))
        return float(np.mean(shares))


def effort_for(store: Store, name: str, truth: Truth) -> tuple[Any, float]:
    """The least effort with the recall that is asked for, and its recall; else the greatest one."""
    if len(store.efforts) == 1:
        return store.efforts[0], 1.0  # compares with everything
    for effort in store.efforts:
        store.use(effort)
        reached = truth.recall(name, {q: store.search(truth.queries[q], span_of(name, q)) for q in range(SEARCHED)})
        if reached >= RECALL:
            break
    return effort, reached


def fill(home: Path, truth: Truth) -> dict[str, Any]:
    """What is there from the last time stays; VexFS is always filled anew."""
    home.mkdir(parents=True, exist_ok=True)
    for name, kind in STORES.items():
        place, done = home / name, home / f"{name}.json"
        if name == "vexfs":
            done.unlink(missing_ok=True)
        if done.exists():
            continue
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        print(f"filling {name}", file=sys.stderr, flush=True)
        store, begin = kind(), time.monotonic()
        store.fill(place, truth.base)
        took = time.monotonic() - begin
        store.open(place)
        tried = {each: effort_for(store, each, truth) for each in FILTERS}
        print(f"{name} {took:.1f} s, {tried}", file=sys.stderr, flush=True)
        done.write_text(json.dumps({"efforts": {each: effort for each, (effort, _) in tried.items()}, "took": took}))
        if isinstance(store, VexFS):
            store.fs.close()
    return {"rows": [], "notes": []}


def opened(home: Path) -> dict[str, tuple[Store, dict[str, Any]]]:
    """The stores that are filled, with their efforts."""
    found = {}
    for name, kind in STORES.items():
        if not (home / f"{name}.json").exists():
            continue
        store = kind()
        store.open(home / name)
        found[name] = store, json.loads((home / f"{name}.json").read_text())["efforts"]
    return found


def turn(store: Store, name: str, truth: Truth, first: int, seen: dict[int, list[tuple[str, Any]]]) -> float:
    """Milliseconds a search in one turn, after one that is not counted."""
    queries, n = truth.queries[:SEARCHED], 0
    store.search(queries[first % len(queries)], span_of(name, first % len(queries)))
    begin = time.process_time()
    while (took := time.process_time() - begin) < TURN_S:
        at = (first + n) % len(queries)
        seen[at] = store.search(queries[at], span_of(name, at))
        n += 1
    return 1e3 * took / n


def search(home: Path, truth: Truth) -> dict[str, Any]:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    alone = latency(home, truth)
    stores, order = opened(home), random.Random(3)
    turns = [(store, name) for store in stores for name in FILTERS]
    times: dict[tuple[str, str], list[float]] = {each: [] for each in turns}
    seen: dict[tuple[str, str], dict[int, list[tuple[str, Any]]]] = {each: {} for each in turns}
    for k in range(ROUNDS):
        for which in order.sample(turns, len(turns)):
            store, efforts = stores[which[0]]
            store.use(efforts[which[1]])
            times[which].append(turn(store, which[1], truth, 131 * k, seen[which]))
    rows: list[dict[str, Any]] = []
    notes = [f"{len(truth.base):,} records, one search at a time on one processor, in processor time"]
    notes += [f"{name} is not filled, and left out" for name in STORES if name not in stores]
    for name in FILTERS:
        ours, *others = ((store, statistics.median(times[store, name])) for store in stores)
        for store, theirs in others:
            least = 2 if store == "qdrant-edge" else 10 if FILTERS[name] else None
            figure = f"search, paths and attributes, {name}, ms"
            target = {"target": least and 1 / least, "lower": True}
            rows.append({"figure": figure, "ours": ours[1], "peer": store, "theirs": theirs, **target})
        reached = (f"{s} {truth.recall(name, seen[s, name]):.4f} ({stores[s][1][name]})" for s in stores)
        notes.append(f"recall@10, {name}: " + ", ".join(reached))
    vexed = stores["vexfs"][0]
    assert isinstance(vexed, VexFS)
    vexed.fs.close()
    return {"rows": rows + alone, "notes": notes}


def latency(home: Path, truth: Truth) -> list[dict[str, Any]]:
    """One query at a time, while no other store is open: the whole, and what the index in memory takes of it."""
    store = VexFS()
    store.open(home / "vexfs")
    index, queries = store.index, truth.queries
    whole: Callable[[Floats], Any] = lambda q: index.query(q, K, recall=RECALL)  # noqa: E731
    bare: Callable[[Floats], Any] = lambda q: index.vectors.search(q[None], K, recall=RECALL)  # noqa: E731
    taken: dict[Callable[[Floats], Any], list[float]] = {whole: [], bare: []}
    for q in queries:
        whole(q)
    for _ in range(ROUNDS):
        for call, spent in taken.items():
            for q in queries:
                begin = time.thread_time()
                call(q)
                spent.append(1e6 * (time.thread_time() - begin))
    middle, inner = (float(np.median(spent)) for spent in taken.values())
    late = float(np.percentile(taken[whole], 99))
    store.fs.close()
    return [
        {"figure": "index.query, p50 us beyond the search in C", "ours": middle - inner, "peer": "limit",
         "theirs": 10.0, "target": 1.0, "lower": True},
        {"figure": "index.query, p99 us", "ours": late, "peer": "p50", "theirs": middle, "target": 3.0, "lower": True},
    ]  # fmt: skip


def inserts(home: Path, base: Floats) -> dict[str, tuple[float, float]]:
    """Records a second of both, each into a new store; and microseconds of the calling thread's processor for each."""
    found = {}
    for name in ("vexfs", "qdrant-edge"):
        place = home / f"insert-{name}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        if name == "vexfs":
            with vexfs.open(place / "v.vex") as fs:
                index = fs.index("papers", dim=base.shape[1])
                begin, busy = time.perf_counter(), time.thread_time()
                VexFS.insert(fs, index, base)
                took, busy = time.perf_counter() - begin, time.thread_time() - busy
        else:
            shard = Qdrant().create(place)
            begin, busy = time.perf_counter(), time.thread_time()
            Qdrant.insert(shard, base)
            took, busy = time.perf_counter() - begin, time.thread_time() - busy
            shard.close()
        found[name] = len(base) / took, 1e6 * busy / len(base)
        shutil.rmtree(place)
    return found


def insert(home: Path, truth: Truth) -> dict[str, Any]:
    base = truth.base[:INSERTED]
    rounds = [inserts(home, base) for _ in range(INSERT_ROUNDS)]
    names = ("vexfs", "qdrant-edge")
    ours, theirs = (statistics.median(each[name][0] for each in rounds) for name in names)
    caller = ", ".join(f"{name} {statistics.median(each[name][1] for each in rounds):.1f}" for name in names)
    figure = "inserts a second, durable, batches of 1000, two attributes"
    rows = [
        {"figure": figure, "ours": ours, "peer": "qdrant-edge", "theirs": theirs, "target": 1.0},
        {"figure": figure, "ours": ours, "peer": "limit", "theirs": 40_000, "target": 1.0},
    ]
    told = f"inserts: {len(base):,} records into a new store, two processors; us of the caller's thread each: {caller}"
    return {"rows": rows, "notes": [told]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("fill", "search", "insert"))
    parser.add_argument("home", type=Path)
    parser.add_argument("--rows", type=int, required=True)
    args = parser.parse_args()
    truth = Truth(*index_data.sentences(args.rows))
    found = {"fill": fill, "search": search, "insert": insert}[args.step](args.home, truth)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
