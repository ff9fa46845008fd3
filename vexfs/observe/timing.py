"""Does the time of a distance tell something about the vectors: a statistical test; and what the caches cost.

Two classes of data are timed in random order, many times each; Welch's t-test says whether their mean times differ.
Measurements above a percentile are dropped, at several percentiles, because interruptions hide small differences; the
largest |t| counts.  Above 4.5 the times differ beyond chance (less than one in a hundred thousand).

Source: Reparaz, Balasch, Verbauwhede, *Dude, is my code constant time?*, DATE 2017.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vexfs._core.simd import Simd
from vexfs.observe.statistics import welch

Floats = NDArray[np.float32]
THRESHOLD = 4.5
CROPS = (100.0, 99.0, 95.0, 90.0, 75.0, 50.0)
ROWS = 64


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.standard_normal(shape).astype(np.float32)


def _shifted(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return _normal(rng, shape) + np.float32(3)


def _scaled(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return _normal(rng, shape) * np.float32(1000)


def _sparse(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return _normal(rng, shape) * (rng.random(shape) < 0.1).astype(np.float32)


def _equal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return np.full(shape, 0.25, np.float32)


def _large(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return _normal(rng, shape) * np.float32(1e30)


def _denormal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return _normal(rng, shape) * np.float32(1e-40)


Class = Callable[[np.random.Generator, tuple[int, ...]], Floats]

#: What random vectors are compared with, where nothing may show.
ORDINARY: dict[str, Class] = {"random": _normal, "shifted": _shifted, "scaled": _scaled, "sparse": _sparse}
#: Where single precision does not do: such distances are computed once more in double precision, which shows.
EXTREME: dict[str, Class] = {"equal": _equal, "large": _large, "denormal": _denormal}
CLASSES = {**ORDINARY, **EXTREME}


def leakage(
    kernels: Simd, metric: str, against: str, dim: int = 384, rounds: int = 4000, seed: int = 3
) -> dict[str, Any]:
    """Time `metric` over random vectors and over those of class `against`.

    Returns
    -------
    dict
        ``t`` (the largest of all crops), ``differs``, whether that is ``expected``, the median nanoseconds a distance
        of both, and the ``rounds`` timed.
    """
    rng = np.random.default_rng(seed)
    # The same memory for both classes: where data lies must not be what differs.
    query, rows, out = np.empty(dim, np.float32), np.empty((ROWS, dim), np.float32), np.empty(ROWS, np.float32)
    makers = (CLASSES["random"], CLASSES[against])
    store = [(maker(rng, (8, dim)), maker(rng, (8, ROWS, dim))) for maker in makers]
    order = rng.integers(0, 2, rounds)
    taken = np.empty(rounds)
    for i, which in enumerate(order):
        queries, matrices = store[which]
        query[:] = queries[i % 8]
        rows[:] = matrices[i % 8]
        kernels.one_to_many(query, rows, metric, out=out)  # into the caches, and the branch predictor
        began = time.perf_counter_ns()
        kernels.one_to_many(query, rows, metric, out=out)
        taken[i] = time.perf_counter_ns() - began
    ours, theirs = taken[order == 0], taken[order == 1]
    strongest = max((_cropped(ours, theirs, np.percentile(taken, crop)) for crop in CROPS), key=abs)
    return {
        "metric": metric,
        "against": against,
        "t": strongest,
        "differs": abs(strongest) > THRESHOLD,
        "rounds": rounds,
        "expected": against in EXTREME,
        "random_ns": float(np.median(ours)) / ROWS,
        "against_ns": float(np.median(theirs)) / ROWS,
    }


def _cropped(a: NDArray[np.float64], b: NDArray[np.float64], limit: float) -> float:
    a, b = a[a <= limit], b[b <= limit]
    return welch(a, b)[0] if len(a) > 20 and len(b) > 20 else 0.0


def caches(kernels: Simd, dim: int = 384, budget_s: float = 1.0) -> list[dict[str, Any]]:
    """Nanoseconds a distance over sets of growing size, in order and at random: what each level of cache costs."""
    rng, found = np.random.default_rng(4), []
    sizes = [s for s in (16 << 10, 256 << 10, 4 << 20, 64 << 20) if s >= 4 * dim]
    query = _normal(rng, (dim,))
    for size in sizes:
        n = max(1, size // (4 * dim))
        rows = np.empty((n, dim), np.float32)
        rows[:] = _normal(rng, (1, dim))
        times_over = max(1, 4096 // n)  # small sets many times, so that the call itself costs nothing
        ids = np.tile(rng.permutation(n).astype(np.uint32), times_over)
        in_order = np.tile(np.arange(n, dtype=np.uint32), times_over)
        times = {}
        for name, chosen in (("in_order", in_order), ("at_random", ids)):
            best, until = float("inf"), time.perf_counter() + budget_s / (2 * len(sizes))
            while best == float("inf") or time.perf_counter() < until:
                began = time.perf_counter_ns()
                kernels.gather(query, rows, chosen, "dot")
                best = min(best, (time.perf_counter_ns() - began) / len(chosen))
            times[name] = best
        found.append({"set_bytes": n * 4 * dim, "in_order_ns": times["in_order"], "at_random_ns": times["at_random"]})
    return found
