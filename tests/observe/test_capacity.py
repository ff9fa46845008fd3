"""Capacity by hand."""

import time

import pytest

from vexfs.errors import UsageError
from vexfs.observe.capacity import advise, plan
from vexfs.observe.history import Rates
from vexfs.observe.workload import directory


def test_a_plan_is_what_one_computes_by_hand():
    told = plan({"fuse": 86_400_000, "vector": 8_640_000}, headroom=0.2, peak=2)
    fuse, vector = told["kinds"]["fuse"], told["kinds"]["vector"]
    assert fuse["mean_per_s"] == 1000 and fuse["peak_per_s"] == 2000
    assert fuse["nodes"] == pytest.approx(2000 / (4125 * 0.8))
    assert vector["nodes"] == pytest.approx(200 / (2120 * 0.8))
    assert told["nodes_fractional"] == pytest.approx(0.6061 + 0.1179, abs=1e-3)
    assert told["nodes"] == 1 and told["nodes_to_survive_one_failure"] == 2 and told["decided_by"] == "fuse"


def test_a_stated_capacity_counts_and_a_whole_number_is_not_rounded_up():
    told = plan({"fuse": 86_400 * 3000}, headroom=0.0, capacity={"fuse": 1000}, peak=1)
    assert told["nodes_fractional"] == pytest.approx(3) and told["nodes"] == 3


@pytest.mark.parametrize("wrong", [{"headroom": 1.0}, {"headroom": -0.1}, {"peak": 0.5}, {"capacity": {"fuse": 0}}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(UsageError):
        plan({"fuse": 1}, **wrong)


@pytest.mark.parametrize(
    ("rates", "response_ms", "nodes", "advice", "reason"),
    [
        (Rates(seconds=60, fuse=3600, pool_acquires=10, pool_hit_rate=0.9), 20, 2, "up", "87% of capacity"),
        (
            Rates(seconds=60, fuse=2000, vector=1000, pool_acquires=10, pool_hit_rate=0.9),
            20,
            2,
            "up",
            "96% of capacity",
        ),
        (Rates(seconds=60, fuse=2500, pool_acquires=10, pool_hit_rate=0.8), 20, 2, "up", "80.0%, under 85%"),
        (Rates(seconds=60, fuse=2500, pool_acquires=10, pool_hit_rate=0.9), 150, 2, "up", "150.0 ms, above 100"),
        (Rates(seconds=60, fuse=100, pool_acquires=10, pool_hit_rate=0.99), 2, 3, "down", "under 50%"),
        (Rates(seconds=60, fuse=100, pool_acquires=10, pool_hit_rate=0.99), 2, 1, "stay", "one node"),
        (Rates(seconds=60, fuse=100, pool_acquires=10, pool_hit_rate=0.90), 2, 3, "stay", "under 50%"),
        (Rates(seconds=60, fuse=2500, pool_acquires=10, pool_hit_rate=0.9), 20, 2, "stay", "within bounds"),
        (Rates(seconds=60), None, 2, "down", "nothing waits"),
    ],
)
def test_advice_follows_the_thresholds(rates, response_ms, nodes, advice, reason):
    told = advise(rates, response_ms, nodes=nodes)
    assert told["advice"] == advice, told
    assert any(reason in each for each in told["reasons"]), told["reasons"]


def test_loads_that_the_node_drives_itself_are_not_clients(history):
    parts = history.parts
    history.take()
    time.sleep(0.2)
    parts.tally.add("vector", "query", n=10)
    with directory(parts):
        parts.tally.add("vector", "query", n=500)
        time.sleep(0.3)
    parts.tally.add("vector", "query", n=10)
    time.sleep(0.2)
    all_, clients = history.rates(60), history.rates(60, of_clients=True)
    assert all_.vector * all_.seconds == pytest.approx(520) and clients.vector * clients.seconds == pytest.approx(20)
    assert clients.seconds < all_.seconds - 0.25
    # A load that goes on while one looks, and one that began before.
    with directory(parts), directory(parts):
        history.take()
        parts.tally.add("vector", "query", n=1000)
        clients = history.rates(60, of_clients=True)
        assert clients.vector * clients.seconds < 25
        assert history.rates(0.0001, of_clients=True).seconds == 0
