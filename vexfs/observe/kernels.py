"""The distance kernels looked at from outside: are they right, how fast are they, which ones does this machine have."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vexfs._core.simd import Simd, capabilities, levels

Floats = NDArray[np.float32]

#: The algorithms that operators know, as the kernels call them.
ALGORITHMS = {"euclidean": "l2", "cosine": "cosine", "dot-product": "dot"}
DIMS = (1, 3, 7, 8, 16, 31, 33, 64, 100, 128, 255, 384, 768, 1000, 1536)
#: Relative error that sums in another order may have, a dimension: half a unit in the last place each.
EPSILON = float(np.finfo(np.float32).eps)
ROWS = 256


def ready_levels() -> list[str]:
    """Levels that this machine can run, slowest first."""
    return [level for level, state in levels().items() if state == "ready"]


def best_level() -> str:
    """The fastest level that this machine can run."""
    return ready_levels()[-1]


def _reference(a: Floats, b: Floats, metric: str) -> Any:
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    if metric == "dot":
        return wide_b @ wide_a
    if metric == "l2":
        return np.sqrt(((wide_b - wide_a) ** 2).sum(axis=1))
    norms = np.linalg.norm(wide_a) * np.linalg.norm(wide_b, axis=1)
    return 1 - (wide_b @ wide_a) / norms


def _scale(a: Floats, b: Floats, metric: str) -> Any:
    """What an error is measured against: the size of what was added up, not of the result, which may cancel out."""
    if metric == "dot":
        return np.abs(b).astype(np.float64) @ np.abs(a).astype(np.float64)
    if metric == "l2":
        return np.sqrt(((b.astype(np.float64) - a.astype(np.float64)) ** 2).sum(axis=1))
    return 1.0


def accuracy(algorithm: str, seed: int = 1) -> list[dict[str, Any]]:
    """Compare the kernels of every level with double precision, over many dimensions.

    Returns
    -------
    list of dict
        For each level: ``ok``, ``cases``, ``worst_error`` (relative) and the ``dim`` where it was, ``bound``.
    """
    metric, rng, rows = ALGORITHMS[algorithm], np.random.default_rng(seed), []
    data = {dim: rng.standard_normal((40, dim)).astype(np.float32) for dim in DIMS}
    for level in ready_levels():
        kernels, worst, where, ok = Simd(level), 0.0, 0, True
        for dim, x in data.items():
            got = kernels.one_to_many(x[0], x[1:], metric)
            pairs = np.array([kernels.pair(x[0], row, metric) for row in x[1:5]])
            sign = _orientation(got, x, metric)
            wanted, scale = _reference(x[0], x[1:], metric), _scale(x[0], x[1:], metric)
            error = np.abs(sign * got - wanted) / np.maximum(scale, 1e-30)
            error = max(float(error.max()), float(np.max(np.abs(sign * pairs - wanted[:4]) / _first(scale))))
            ok &= error <= 8 * EPSILON * np.sqrt(dim) + 4 * EPSILON
            if error > worst:
                worst, where = error, dim
        rows.append(
            {
                "level": level,
                "algorithm": algorithm,
                "ok": bool(ok),
                "cases": len(DIMS) * 43,
                "worst_error": worst,
                "worst_ulps": worst / EPSILON,
                "dim": where,
            }
        )
    return rows


def _first(scale: Any) -> Any:
    return np.maximum(scale[:4], 1e-30) if isinstance(scale, np.ndarray) else scale


def _orientation(got: Floats, x: Floats, metric: str) -> float:
    """A kernel may answer a dot product as a distance, negated: smaller is nearer."""
    return -1.0 if metric == "dot" and float(got[0]) * float(x[1] @ x[0]) < 0 else 1.0


def nanoseconds(kernels: Simd, metric: str, dim: int, budget_s: float = 0.05, seed: int = 2) -> float:
    """Nanoseconds a distance in batches of 256 rows that stay in the cache: the best of many rounds."""
    rng = np.random.default_rng(seed)
    q, rows = rng.standard_normal(dim).astype(np.float32), rng.standard_normal((ROWS, dim)).astype(np.float32)
    out, best, until = np.empty(ROWS, np.float32), float("inf"), time.perf_counter() + budget_s
    while time.perf_counter() < until:
        began = time.perf_counter_ns()
        for _ in range(8):
            kernels.one_to_many(q, rows, metric, out=out)
        best = min(best, (time.perf_counter_ns() - began) / (8 * ROWS))
    return best


def benchmark(dim: int, budget_s: float, metrics: Iterable[str] = tuple(ALGORITHMS)) -> list[dict[str, Any]]:
    """Time every level against scalar code, interleaved: ``ns`` a distance and ``speedup``, by algorithm."""
    table, names = [], ready_levels()
    metrics = list(metrics)
    share_s = budget_s / (3 * len(metrics) * len(names))
    for algorithm in metrics:
        best = dict.fromkeys(names, float("inf"))
        for _ in range(3):
            for level in names:
                best[level] = min(best[level], nanoseconds(Simd(level), ALGORITHMS[algorithm], dim, share_s))
        for level in names:
            table.append(
                {
                    "algorithm": algorithm,
                    "level": level,
                    "dim": dim,
                    "ns": best[level],
                    "per_s": 1e9 / best[level],
                    "speedup": best["scalar"] / best[level],
                }
            )
    return table


def hardware(kernels: Simd) -> dict[str, Any]:
    """What the processor offers, what is used, and what is left unused and why."""
    offered, states = capabilities(), levels()
    notes = []
    if kernels.level != best_level():
        notes.append(f"{best_level()} would be faster than {kernels.level}, which the configuration asks for")
    if offered.get("avx2") and not offered.get("os_avx"):
        notes.append("the processor has AVX2, but the system does not save its registers")
    if offered.get("avx2") and not offered.get("fma"):
        notes.append("AVX2 without FMA: the AVX2 kernels need both")
    return {
        "level": kernels.level,
        "best": best_level(),
        "levels": states,
        "capabilities": offered,
        "ok": kernels.level == best_level(),
        "notes": notes,
    }
