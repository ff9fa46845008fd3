"""Rates are those of real operations, as counted from outside."""

import os
import time

from tests.waiting import until
from vexfs.observe.history import History, Rates, Reading


def test_the_rate_of_the_mount_is_what_a_client_counts(inside):
    parts, path = inside
    history = History(parts)
    before = time.monotonic()
    history.take()
    count, began = 0, time.monotonic()
    while time.monotonic() - began < 1.5:
        os.statvfs(path)  # one request each: the kernel never answers this by itself
        count += 1
    ended = time.monotonic()
    measured = history.rates()
    assert abs(measured.fuse * measured.seconds - count) <= 2
    assert ended - began <= measured.seconds <= time.monotonic() - before


def test_hit_rate_and_bridge_are_those_of_the_window(own, history):
    fs = own.filesystem
    history.take()
    for i in range(50):
        fs.write_file(f"a{i}", b"x" * 5000)
    held = [history.parts.pool.acquire(4096) for _ in range(70)]  # more than the tier's 64 buffers
    fs.sync()
    history.parts.bridge.barrier(30)  # hands commits on in a thread of its own

    def acquires():
        return sum(tier["acquires"] for tier in history.parts.pool.stats()["tiers"].values())

    before, now, after = acquires(), history.rates(), acquires()
    assert now.filesystem * now.seconds >= 50
    assert before <= round(now.pool_acquires * now.seconds) <= after
    assert 0 < now.pool_hit_rate < 1
    assert now.bridge_items > 0 and len(held) == 70


def test_tallied_operations_have_rates(parts, history):
    history.take()
    parts.tally.add("vector", "upsert", "/papers", 400)
    parts.tally.add("semantic", "search", "", 10)
    now = history.rates()
    assert round(now.vector * now.seconds) == 400
    assert round(now.semantic * now.seconds) == 10


def test_switched_off_all_is_zero(own, history):
    history.take()
    own.filesystem.write_file("a", b"x")
    history.enabled = False
    assert history.rates().filesystem == 0


def test_the_series_has_one_entry_an_interval(own, history):
    history.interval_s = 0.05
    history.take()
    began = time.monotonic()
    history.start()
    own.filesystem.write_file("a", b"x" * 100)
    until(lambda: len(history.series()) >= 6)
    history.stop()
    took = time.monotonic() - began
    series = history.series()
    assert 6 <= len(series) <= took / 0.05 + 3
    assert sum(row["filesystem"] * row["seconds"] for row in series) >= 1
    assert len(history.series(last_s=0.1)) < len(series)


def test_counters_that_were_reset_give_no_negative_rates():
    then, now = Reading(time_s=1.0, fuse=100, pool_acquires=50), Reading(time_s=2.0, fuse=10, pool_acquires=5)
    assert Rates.between(then, now).fuse == 0
    assert Rates.between(then, then) == Rates()


def test_reading_goes_on_after_the_volume_is_closed(own, history):
    history.interval_s = 0.02
    history.start()
    own.close()
    watching, taken = history._thread, []
    take, history.take = history.take, lambda: [taken.append(1), take()][1]
    until(lambda: len(taken) > 3)
    assert watching.is_alive()
    history.stop()
