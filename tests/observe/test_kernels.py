"""The checks of the kernels: they pass what is right, and catch what is planted."""

import numpy as np
import pytest

from tests.waiting import until
from vexfs._core.simd import Simd
from vexfs.observe import kernels, timing


@pytest.mark.parametrize("algorithm", kernels.ALGORITHMS)
def test_every_level_is_right_within_few_ulps(algorithm):
    rows = kernels.accuracy(algorithm)
    assert [row["level"] for row in rows] == kernels.ready_levels()
    assert all(row["ok"] and row["worst_ulps"] < 8 for row in rows)


class Wrong:
    """Kernels of which one dimension is off by a little."""

    def __init__(self, level):
        self._kernels = Simd(level)

    def one_to_many(self, q, rows, metric, out=None):
        got = self._kernels.one_to_many(q, rows, metric)
        return got * np.float32(1.0001) if q.shape[0] == 33 else got

    def pair(self, a, b, metric):
        return self._kernels.pair(a, b, metric)


def test_a_kernel_that_is_wrong_at_one_dimension_is_caught(monkeypatch):
    monkeypatch.setattr(kernels, "Simd", Wrong)
    rows = kernels.accuracy("euclidean")
    assert not any(row["ok"] for row in rows) and {row["dim"] for row in rows} == {33}


def test_the_benchmark_compares_with_scalar_code():
    rows = kernels.benchmark(128, 0.2)
    assert {row["algorithm"] for row in rows} == set(kernels.ALGORITHMS)
    for row in rows:
        assert row["ns"] > 0 and (row["level"] != "scalar" or row["speedup"] == 1.0)


def test_the_timing_test_finds_a_leak_and_no_leak():
    """At a moment in which the host is quiet."""
    simd = Simd()
    for against in ("random", "scaled"):
        until(lambda against=against: not timing.leakage(simd, "dot", against, 128, 1500)["differs"])

    def planted():
        row = timing.leakage(Leaking(simd), "dot", "sparse", 128, 1500)
        return row["differs"] and abs(row["t"]) > 10

    until(planted)


class Leaking:
    """A kernel that skips rows that begin with zero."""

    def __init__(self, simd):
        self._simd = simd

    def one_to_many(self, q, rows, metric, out=None):
        return self._simd.one_to_many(q, rows[rows[:, 0] != 0], metric)


def test_what_single_precision_cannot_hold_is_expected_to_differ():
    row = timing.leakage(Simd(), "l2", "equal", 384, 800)
    assert row["expected"]


def test_larger_sets_cost_more_at_random():
    def do():
        rows = timing.caches(Simd(), budget_s=0.4)
        assert rows[-1]["set_bytes"] > 60_000_000
        return rows[-1]["at_random_ns"] > rows[0]["at_random_ns"]

    until(do)


def test_hardware_tells_when_better_is_there():
    assert kernels.hardware(Simd())["ok"]
    if kernels.best_level() != "scalar":
        told = kernels.hardware(Simd("scalar"))
        assert not told["ok"] and "would be faster" in told["notes"][0]
