"""A baseline against figures that did not change, that got worse, and that were not measured."""

import numpy as np
import pytest

from vexfs.errors import InvalidArgument
from vexfs.observe import regression


def figures(seed, **medians):
    rng = np.random.default_rng(seed)
    made = {}
    for name, median in medians.items():
        better = "lower" if name.endswith("ns") else "higher"
        made[name] = {"unit": "x", "better": better, "samples": list(rng.normal(median, median * 0.03, 9))}
    return regression.baseline({"figures": made, "skipped": {}}, {"simd": True})


def test_noise_is_no_regression():
    for seed in range(20):
        told = regression.compare(figures(seed, ops=1000, pool_ns=20), figures(seed + 100, ops=1000, pool_ns=20))
        assert told["ok"] and not told["regressions"]


def test_worse_is_told_in_either_direction_of_better():
    told = regression.compare(figures(1, ops=1000, pool_ns=20, other=5), figures(2, ops=800, pool_ns=25, other=5))
    assert set(told["regressions"]) == {"ops", "pool_ns"} and not told["ok"]
    assert told["figures"]["ops"]["change"] == pytest.approx(-0.2, abs=0.05)
    better = regression.compare(figures(1, ops=1000, pool_ns=20), figures(2, ops=1300, pool_ns=15))
    assert set(better["improvements"]) == {"ops", "pool_ns"} and better["ok"]


def test_a_change_within_the_threshold_is_none():
    assert regression.compare(figures(1, ops=1000), figures(2, ops=900), threshold=0.2)["ok"]


def test_what_is_gone_and_what_differs_is_named():
    now = figures(2, ops=1000)
    now["host"] = {"cpu": "another"}
    told = regression.compare(figures(1, ops=1000, vector_ops=5), now)
    assert not told["ok"] and any("vector_ops" in note for note in told["notes"])
    assert any("host differs" in note for note in told["notes"])


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        {"format": "x"},
        {"format": regression.FORMAT, "figures": {"a": {"samples": [1], "better": "lower"}}},
        {"format": regression.FORMAT, "figures": {"a": {"samples": [1] * 9}}},
        *(
            {"format": regression.FORMAT, "figures": {"a": {"samples": [value] * 9, "better": "lower", "unit": "s"}}}
            for value in (0, -1, float("nan"), float("inf"))
        ),
        {"format": regression.FORMAT, "figures": {"a": {"samples": [1] * 9, "better": "lower"}}},
    ],
)
def test_what_is_no_baseline_is_refused(data):
    with pytest.raises(InvalidArgument, match="base.json"):
        regression.checked(data, "base.json")
