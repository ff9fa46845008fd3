"""Tests that compare samples instead of single numbers; only numpy is needed."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def normal_tail(z: float) -> float:
    """How likely a standard normal variable is above `z`."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def welch(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Welch's t of two samples, and its degrees of freedom; 0 when neither varies."""
    x, y = np.asarray(a, float), np.asarray(b, float)
    va, vb = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    if va + vb == 0:
        return 0.0, float(len(x) + len(y) - 2)
    t = float((x.mean() - y.mean()) / math.sqrt(va + vb))
    freedom = (va + vb) ** 2 / (va**2 / (len(x) - 1) + vb**2 / (len(y) - 1))
    return t, float(freedom)


def mann_whitney(a: ArrayLike, b: ArrayLike) -> float:
    """How likely samples as different in rank as `a` and `b` are when both come from one distribution (two-sided).

    Exact by counting arrangements for up to 20 values each without ties; else the normal approximation with ties
    corrected.
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    n, m = len(x), len(y)
    both = np.concatenate([x, y])
    order = np.argsort(both, kind="stable")
    ranks = np.empty(n + m)
    values, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks[order] = np.arange(1, n + m + 1)
    sums = np.zeros(len(values))
    np.add.at(sums, inverse, ranks)
    ranks = (sums / counts)[inverse]
    u = float(ranks[:n].sum() - n * (n + 1) / 2)
    u = min(u, n * m - u)
    if len(values) == n + m and n <= 20 and m <= 20:
        ways = _arrangements(n, m)
        return min(1.0, 2 * sum(ways[: int(u) + 1]) / sum(ways))
    ties = float((counts**3 - counts).sum())
    variance = n * m / 12 * ((n + m + 1) - ties / ((n + m) * (n + m - 1)))
    if variance <= 0:
        return 1.0
    return min(1.0, 2 * normal_tail((n * m / 2 - u - 0.5) / math.sqrt(variance)))


def _arrangements(n: int, m: int) -> list[int]:
    """How many arrangements of n and m values give each U from 0 to n*m."""
    ways = [[[1] if i == 0 or j == 0 else [] for j in range(m + 1)] for i in range(n + 1)]
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            row = [0] * (i * j + 1)
            for u, w in enumerate(ways[i - 1][j]):
                row[u + j] += w
            for u, w in enumerate(ways[i][j - 1]):
                row[u] += w
            ways[i][j] = row
    return ways[n][m]


def ratio_interval(
    new: ArrayLike, old: ArrayLike, confidence: float = 0.99, rounds: int = 4000, seed: int = 5
) -> tuple[float, float, float]:
    """The ratio of the medians of `new` and `old`, and its bootstrap interval: ``(ratio, low, high)``."""
    x, y, rng = np.asarray(new, float), np.asarray(old, float), np.random.default_rng(seed)
    tops = np.median(x[rng.integers(0, len(x), (rounds, len(x)))], axis=1)
    bottoms = np.median(y[rng.integers(0, len(y), (rounds, len(y)))], axis=1)
    ratios = tops / np.maximum(bottoms, 1e-300)
    low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(np.median(x) / max(float(np.median(y)), 1e-300)), float(low), float(high)
