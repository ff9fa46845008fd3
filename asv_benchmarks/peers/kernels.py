"""The kernels' cells, run by :mod:`asv_benchmarks.peers.core` where the peers can be imported; prints JSON.

Every cell is a set of calls on the same arrays, made in turns in an order drawn anew, so that neither a busy neighbour
nor what a call leaves in the caches favours one of them.  A figure is the median over the turns, of processor time: all
run in one thread, and a busy machine's other work is then left out.  Peers get the arrays as they are; only NumKong's
packed matrices are made beforehand, as their users do.
"""

import argparse
import ctypes
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numkong
import numpy as np
import simsimd

from vexfs._core.simd import Simd, levels

ROWS, DIMS = 10_000, (384, 768, 1536)
BATCH = (1000, 10_000, 384)
METRICS = {"dot": ("dot", "inner"), "cosine": ("angular", "cosine"), "l2sq": ("sqeuclidean", "sqeuclidean")}
FAISS = {"dot": faiss.METRIC_INNER_PRODUCT, "l2sq": faiss.METRIC_L2}
NAMES = {"f16": ("float16", "float16"), "bf16": ("bfloat16", "bf16"), "i8": ("int8", "int8"), "b1": ("uint1", "bin8")}
Calls = dict[str, Callable[[], Any]]


def medians(calls: Calls, rounds: int) -> dict[str, float]:
    """Median processor seconds of each call, in another order each round.

    The order is drawn, not turned: with a fixed neighbour, one call would always find the caches as another left them.
    """
    names, taken = list(calls), {name: [] for name in calls}
    for name in names:
        calls[name]()
    order = random.Random(5)
    for _ in range(rounds):
        for name in order.sample(names, len(names)):
            begin = time.process_time()
            calls[name]()
            taken[name].append(time.process_time() - begin)
    return {name: statistics.median(times) for name, times in taken.items()}


class Table:
    """Rows for the report, and what could not be compared."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def usable(self, figure: str, calls: Calls) -> Calls:
        """The calls that the peers support; what they refuse is noted."""
        found = {}
        for name, call in calls.items():
            try:
                call()
                found[name] = call
            except (LookupError, TypeError, ValueError) as error:
                self.notes.append(f"{figure}: {name} has no such kernel ({str(error)[:60]})")
        return found

    def beside_peers(self, figure: str, work: float, ours: Callable[[], Any], peers: Calls, target: float) -> None:
        """`work` over seconds, beside the fastest peer."""
        peers = self.usable(figure, peers)
        times = medians({"vexfs": ours, **peers}, self.rounds)
        best = min(peers, key=times.__getitem__)
        self.add(figure, work / times["vexfs"], best, work / times[best], target)

    def add(self, figure: str, ours: float, peer: str, theirs: float, target: float | None) -> None:
        self.rows.append({"figure": figure, "ours": ours, "peer": peer, "theirs": theirs, "target": target})
        print(f"{figure}: {ours:.3g} beside {peer} {theirs:.3g}", file=sys.stderr, flush=True)


def float32_cells(table: Table, simd: Simd, dim: int, rng: np.random.Generator) -> None:
    rows, q = rng.normal(size=(ROWS, dim)).astype("f4"), rng.normal(size=dim).astype("f4")
    ours, theirs = np.empty(ROWS, "f4"), np.empty(ROWS, "f4")
    packed = numkong.dots_pack(rows)
    for metric, (nk, ss) in METRICS.items():
        peers: Calls = {
            "numkong": lambda nk=nk: numkong.cdist(q[None], rows, metric=nk),
            "simsimd": lambda ss=ss: simsimd.cdist(q[None], rows, metric=ss, threads=1),
        }
        if metric == "dot":
            peers["numpy"] = lambda: np.dot(rows, q, out=theirs)
            peers["numkong packed"] = lambda: numkong.dots_packed(q[None], packed)
        if metric in FAISS:
            kind = FAISS[metric]
            peers["faiss"] = lambda kind=kind: faiss.pairwise_distances(q[None], rows, kind)
        call = lambda metric=metric: simd.one_to_many(q, rows, metric, out=ours)  # noqa: E731
        table.beside_peers(f"f32 {metric} {dim}, M rows/s", ROWS / 1e6, call, peers, 1.0)


def code_cells(table: Table, simd: Simd, dim: int, rng: np.random.Generator) -> None:
    x = rng.normal(size=(ROWS + 1, dim)).astype("f4")
    out = np.empty(ROWS, "f4")
    for dtype, (nk_type, ss_type) in NAMES.items():
        codes, _ = simd.quantise(x, dtype)
        q, rows = codes[:1].copy(), codes[1:].copy()
        for metric in ("hamming",) if dtype == "b1" else METRICS:
            nk, ss = METRICS.get(metric, ("hamming", "hamming"))
            peers: Calls = {
                "numkong": lambda q=q, rows=rows, nk=nk, t=nk_type: numkong.cdist(q, rows, metric=nk, dtype=t),
                "simsimd": lambda q=q, rows=rows, ss=ss, t=ss_type: simsimd.cdist(
                    q, rows, metric=ss, dtype=t, threads=1
                ),
            }
            if metric == "dot" and dtype != "bf16":
                packed = numkong.dots_pack(rows)
                peers["numkong packed"] = lambda q=q, packed=packed: numkong.dots_packed(q, packed)
            if metric == "hamming":
                bits = numkong.hammings_pack(rows)
                peers["numkong packed"] = lambda q=q, bits=bits: numkong.hammings_packed(q, bits)

            def call(q=q, rows=rows, metric=metric, dtype=dtype):
                return simd.one_to_many(q[0], rows, metric, dtype=dtype, out=out)

            table.beside_peers(f"{dtype} {metric} {dim}, M rows/s", ROWS / 1e6, call, peers, 1.0)


def matrix_cell(table: Table, simd: Simd, rng: np.random.Generator) -> None:
    na, nb, dim = BATCH
    a, b = rng.normal(size=(na, dim)).astype("f4"), rng.normal(size=(nb, dim)).astype("f4")
    ours, theirs = np.empty((na, nb), "f4"), np.empty((na, nb), "f4")
    packed = numkong.dots_pack(b)
    calls: Calls = {
        "vexfs": lambda: simd.many_to_many(a, b, "dot", out=ours),
        "numpy": lambda: np.matmul(a, b.T, out=theirs),
        "numkong packed": lambda: numkong.dots_packed(a, packed),
    }
    times = medians(calls, max(5, table.rounds // 3))
    work = 2e-9 * na * nb * dim
    figure = f"many-to-many f32 dot {na} x {nb} x {dim}, GFLOP/s"
    for peer, target in (("numpy", 0.9), ("numkong packed", 1.0)):
        table.add(figure, work / times["vexfs"], peer, work / times[peer], target)


def bandwidth_cells(table: Table, simd: Simd, rows: int, rng: np.random.Generator) -> None:
    """f32 rows that no cache holds, beside reading the same bytes and doing nothing with them."""
    with tempfile.TemporaryDirectory() as place:
        library = Path(place) / "bandwidth.so"
        source = Path(__file__).with_name("bandwidth.c")
        subprocess.run(["cc", "-O3", "-march=native", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
        read_all = ctypes.CDLL(str(library)).read_all
    read_all.argtypes, read_all.restype = (ctypes.c_void_p, ctypes.c_size_t), ctypes.c_uint64
    for dim in DIMS:
        data = rng.random(size=(rows * 384 // dim, dim), dtype="f4")
        q, out = data[0].copy(), np.empty(len(data), "f4")
        calls: Calls = {"read": lambda data=data: read_all(data.ctypes.data, data.nbytes)}
        for metric in METRICS:
            calls[metric] = lambda m=metric, q=q, data=data, out=out: simd.one_to_many(q, data, m, out=out)
        times = medians(calls, table.rounds)
        for metric in METRICS:
            figure = f"f32 {metric} {dim}, {data.nbytes >> 20} MiB in memory, GB/s"
            table.add(figure, data.nbytes / times[metric] / 1e9, "limit", data.nbytes / times["read"] / 1e9, 0.9)


def level_cells(table: Table, rng: np.random.Generator) -> None:
    ready = [name for name in ("avx2", "avx512x", "neon") if levels()[name] == "ready"]
    if not ready:
        table.notes.append("no vector level on this machine: nothing to compare the scalar one with")
    kernels = {name: Simd(name) for name in ("scalar", *ready)}
    for dtype in ("f32", "f16", "bf16", "i8", "b1"):
        codes, _ = kernels["scalar"].quantise(rng.normal(size=(2000, 384)).astype("f4"), dtype)
        out = np.empty(len(codes), "f4")
        for metric in METRICS:
            calls: Calls = {
                name: lambda k=k, m=metric, c=codes, t=dtype, o=out: k.one_to_many(c[0], c, m, dtype=t, out=o)
                for name, k in kernels.items()
            }
            times = medians(calls, table.rounds)
            for name in ready:
                rates = len(codes) / times[name] / 1e6, len(codes) / times["scalar"] / 1e6
                target = None if name == "avx512x" else 2.75
                table.add(f"{dtype} {metric} 384, {name}, M rows/s", rates[0], "scalar", rates[1], target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    faiss.omp_set_num_threads(1)
    table, simd, rng = Table(7 if quick else 31), Simd(), np.random.default_rng(20)
    for dim in DIMS:
        float32_cells(table, simd, dim, rng)
        code_cells(table, simd, dim, rng)
    matrix_cell(table, simd, rng)
    bandwidth_cells(table, simd, 100_000 if quick else 400_000, rng)
    level_cells(table, rng)
    table.notes.append(f"level {simd.level}; one thread each; {ROWS} rows unless said; every cell from Python")
    json.dump({"rows": table.rows, "notes": table.notes}, sys.stdout)


if __name__ == "__main__":
    main()
