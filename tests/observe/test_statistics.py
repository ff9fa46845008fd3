"""Tests of the tests: known answers, and how often they err."""

import numpy as np
import pytest

from vexfs.observe.statistics import mann_whitney, ratio_interval, welch


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], 2 / 252),  # the most extreme of all arrangements, both ways
        ([1, 3, 5], [2, 4, 6], 0.7),
        ([5, 5, 5, 5], [5, 5, 5, 5], 1.0),
    ],
)
def test_mann_whitney_of_small_samples_is_exact(a, b, p):
    assert mann_whitney(a, b) == pytest.approx(p)
    assert mann_whitney(b, a) == pytest.approx(p)


def test_mann_whitney_errs_as_often_as_it_says():
    rng = np.random.default_rng(1)
    rejected = [mann_whitney(rng.exponential(size=9), rng.exponential(size=9)) < 0.05 for _ in range(400)]
    assert 0.02 < np.mean(rejected) < 0.08
    found = [mann_whitney(rng.normal(size=9), rng.normal(3, size=9)) < 0.05 for _ in range(100)]
    assert np.mean(found) > 0.95


def test_large_samples_take_the_normal_approximation():
    rng = np.random.default_rng(2)
    rejected = [mann_whitney(rng.normal(size=40), rng.normal(size=40)) < 0.05 for _ in range(400)]
    assert 0.02 < np.mean(rejected) < 0.08


def test_welch_knows_equal_and_different_means():
    rng = np.random.default_rng(3)
    t, freedom = welch(rng.normal(0, 1, 500), rng.normal(0, 5, 300))
    assert abs(t) < 3 and 300 < freedom < 330
    assert welch(rng.normal(0, 1, 500), rng.normal(1, 5, 500))[0] < -3
    assert welch([1.0, 1.0], [1.0, 1.0])[0] == 0


def test_the_interval_of_a_ratio_holds_the_ratio():
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(60):
        _, low, high = ratio_interval(rng.normal(110, 5, 15), rng.normal(100, 5, 15), 0.99, rounds=500)
        held += low <= 1.1 <= high
    assert held >= 56
