"""Searches of the vector index for what is within a distance."""

import numpy as np
import pytest

from tests.core.test_vindex import clustered, distances, filled
from vexfs._core.vindex import METRICS


@pytest.mark.parametrize("metric", METRICS)
def test_thresholds(metric):
    x, q = clustered(6000, 64), clustered(5, 64, 1)
    index = filled(x, metric)
    exact = distances(metric, q, x)
    limit = float(np.sort(exact, axis=1)[:, 40].mean())
    for mode in (True, False):
        rows, found, n = index.search(q, 2000, threshold=limit, exact=mode, recall=0.999)
        true = [set(np.flatnonzero(row <= limit).tolist()) for row in exact]
        for i, expected in enumerate(true):
            got = set(rows[i, : n[i]].tolist())
            assert np.all(found[i, : n[i]] <= limit)
            assert len(got & expected) >= (1 if mode else 0.95) * len(expected) - 1
            assert len(got - expected) <= 1
    assert np.all(index.search(q, 10, threshold=-1e9)[2] == 0)


@pytest.mark.parametrize("metric", METRICS)
def test_a_threshold_that_leaves_out_nothing_leaves_out_nothing(metric):
    x, q = clustered(9000, 64), clustered(20, 64, 1)
    index = filled(x, metric)
    some = np.flatnonzero(np.random.default_rng(5).random(9000) < 0.01)
    mask = np.zeros(9000 + -9000 % 64, bool)
    mask[some] = True
    mask = np.packbits(mask, bitorder="little").view(np.uint64)
    _, _, n = index.search(q, 200, mask=mask, threshold=1e6, exact=False, recall=0.9)
    assert np.all(n == len(some))
    work = {}
    index.search(q, 200, threshold=-1e6, exact=False, recall=0.9, work=work)
    assert work["lists"] == 0


@pytest.mark.parametrize("metric", METRICS)
def test_the_only_row_within_a_threshold_is_found(metric):
    x, q = np.split(np.random.default_rng(0).standard_normal((12200, 64)).astype(np.float32), [12000])
    index = filled(x, metric)
    least = distances(metric, q, x).min(axis=1).tolist()
    n = sum(int(index.search(v[None], 10, threshold=d + 1e-5)[2][0]) for v, d in zip(q, least, strict=True))
    assert n >= 0.85 * len(q)  # by what the ten nearest take it was half


@pytest.mark.parametrize("metric", METRICS)
def test_a_threshold_that_all_are_within_changes_nothing(metric):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(64) + 1e-3 * rng.standard_normal((12000, 64))).astype(np.float32)
    index, q = filled(x, metric), rng.standard_normal((50, 64)).astype(np.float32)
    for k in (1, 10):
        assert np.array_equal(index.search(q, k, threshold=1e6)[0], index.search(q, k)[0])
