"""Recorded workloads of the pools, and the advice drawn from them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vexfs._core.pool import TIER_BYTES, TIERS, Pool
from vexfs.errors import InvalidArgument
from vexfs.observe.pools import TierLoad, Workload, analyse, rebalance, recommend, record


def hold(pool, size, most, rounds=200):
    """A workload that swings between none and `most` buffers in use."""
    for _ in range(rounds):
        buffers = [pool.acquire(size) for _ in range(most)]
        del buffers


def load(demand=None, **change):
    demand = demand or {}
    row = {
        "count": 64,
        "acquires": 64 * sum(demand.values()),
        "misses": 0,
        "recycled": 0,
        "high_water": max(demand, default=0),
    }
    return TierLoad(**{**row, "demand": demand, "latency_ns": {}, "mean_bytes": 0.0, **change})


def workload(**tiers):
    return Workload(1.0, {name: tiers.get(name, load()) for name in TIERS}, 0)


@pytest.fixture
def busy():
    """A pool whose medium tier is far too small for what it serves, and the recording of it."""
    pool = Pool((128, 16, 32))
    return pool, record(pool, 0, wait=lambda _: hold(pool, 4096, 100))


def test_a_recording_covers_what_happened_meanwhile():
    pool = Pool()
    hold(pool, 1000, 50)
    seen = record(pool, 0, wait=lambda _: hold(pool, 4096, 30))
    assert seen.tiers["small"].acquires == 0
    assert (seen.tiers["medium"].acquires, seen.hit_rate, seen.counts) == (6000, 1.0, (128, 64, 32))
    assert seen.tiers["medium"].mean_bytes == 4096
    assert seen.tiers["medium"].samples in (93, 94)


def test_the_prediction_is_what_comes_true(busy):
    """The hit rate foretold for another count is the one measured with it."""
    _, seen = busy
    for count in (32, 64, 96):
        other = Pool((128, count, 32))
        measured = record(other, 0, wait=lambda _, other=other: hold(other, 4096, 100)).tiers["medium"]
        assert seen.tiers["medium"].predicted(count) == pytest.approx(measured.served_within, abs=0.13)


def test_the_recommended_counts_meet_the_target(busy):
    pool, seen = busy
    assert seen.tiers["medium"].served_within < 0.5
    advice = recommend(seen, target=0.95)
    assert advice.met
    pool.resize(advice.counts)
    after = record(pool, 0, wait=lambda _: hold(pool, 4096, 100))
    assert after.tiers["medium"].served_within >= 0.95


def test_findings_name_tier_and_remedy(busy):
    _, seen = busy
    first, *_ = analyse(seen, target=0.9)
    assert (first.tier, first.severity) == ("medium", "info")
    assert "left behind, which is not reserved: 100 buffers were in use at once, the tier has 16" in first.message
    burst = workload(medium=load({100: 50}, misses=3000))
    first, *_ = analyse(burst, target=0.9)
    assert (first.tier, first.severity) == ("medium", "warning")
    assert "hit rate 6.2% is under the target of 90%: 100 buffers were in use at once, the tier has 64" in first.message
    assert analyse(workload()) == []
    idle = analyse(workload(large=load({1: 500})))
    assert [(f.tier, f.severity) for f in idle] == [("large", "info")]
    assert "768 KiB lie idle" in idle[0].message


def test_rebalancing_moves_memory_to_where_it_serves():
    pool = Pool((1024, 16, 64))
    seen = record(pool, 0, wait=lambda _: (hold(pool, 4096, 100), hold(pool, 100, 8), hold(pool, 16384, 2)))
    before = sum(n * size for n, size in zip(pool.counts, TIER_BYTES, strict=True))
    advice = rebalance(pool, seen)
    assert pool.counts == advice.counts
    assert advice.size_bytes <= before
    after = record(pool, 0, wait=lambda _: hold(pool, 4096, 100))
    assert after.tiers["medium"].served_within > 0.9


def test_a_small_budget_goes_where_it_turns_most_misses_into_hits():
    seen = workload(small=load({100: 10_000}), large=load({10: 10}))
    advice = recommend(seen, 0.9, budget_bytes=200 << 10)
    assert advice.counts[0] >= 100
    assert advice.size_bytes <= 200 << 10
    tight = recommend(seen, 0.9, budget_bytes=10 << 10)
    assert not tight.met
    assert tight.size_bytes <= 10 << 10


@given(
    demands=st.lists(st.dictionaries(st.integers(1, 5000), st.integers(1, 500), max_size=8), min_size=3, max_size=3),
    target=st.floats(0.5, 1),
    budget=st.none() | st.integers(0, 1 << 24),
)
def test_advice_holds_its_bounds(demands, target, budget):
    seen = Workload(1.0, {name: load(demand) for name, demand in zip(TIERS, demands, strict=True)}, 0)
    advice = recommend(seen, target, budget)
    if budget is None:
        assert advice.met or any(load.samples < 20 for load in seen.tiers.values())
    else:
        assert advice.size_bytes <= budget
    Pool(min(count, 4096) for count in advice.counts)


def test_a_recording_survives_its_file(busy, tmp_path):
    _, seen = busy
    seen.save(tmp_path / "load.json")
    assert Workload.load(tmp_path / "load.json") == seen


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tiers": {}}', '{"duration_s": 1, "oversize": 0, "tiers": []}'])
def test_a_file_that_is_no_recording_is_named(tmp_path, text):
    (tmp_path / "load.json").write_text(text)
    with pytest.raises(InvalidArgument, match=r"not a recorded pool workload.*load\.json"):
        Workload.load(tmp_path / "load.json")


def test_a_recording_with_a_field_missing_is_refused(busy, tmp_path):
    _, seen = busy
    seen.save(tmp_path / "load.json")
    data = json.loads((tmp_path / "load.json").read_text())
    del data["tiers"]["small"]["demand"]
    (tmp_path / "load.json").write_text(json.dumps(data))
    with pytest.raises(InvalidArgument, match="demand"):
        Workload.load(tmp_path / "load.json")


@pytest.mark.parametrize("target", [0, -1, 1.5])
def test_targets_are_shares(target):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        recommend(workload(), target)
