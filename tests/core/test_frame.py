"""Frames as Python sees them; their truth is tested natively."""

import itertools
import threading
import time

import pytest

from vexfs._core.frame import OPERATIONS_MOST, TIME_LIMITS_NS, TIMED_EVERY, Frames
from vexfs._core.measure import frame_ns


def test_frames_are_counted_by_operation():
    frames = Frames()
    began = time.perf_counter_ns()
    frame_ns(frames, 3, 1000)
    took = time.perf_counter_ns() - began
    frame_ns(frames, 5, 10)
    assert (frames.stats(3)["count"], frames.stats(5)["count"], frames.stats()["count"]) == (1000, 10, 1010)
    assert list(frames.table(["a", "b", "c", "read", "d", "write"])) == ["read", "write"]
    row = frames.stats(3)
    assert 0 < row["mean_bytes"] <= row["high_water"] < 3072
    assert sum(row["depth"].values()) == 1000
    assert row["violations"] == 0
    assert 1000 < row["time_ns"] <= took * 1000  # each of the frames that are timed stands for those that are not


def test_every_threads_frames_count_also_after_it_ended():
    frames = Frames()
    threads = [threading.Thread(target=frame_ns, args=(frames, 1, 5000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert frames.stats(1)["count"] == 20000
    frames.clear()
    assert frames.stats(1)["count"] == frames.stats(1)["high_water"] == 0
    frame_ns(frames, 1, 7)
    assert frames.stats(1)["count"] == 7


def test_switched_off_nothing_is_counted_and_on_again_it_is():
    frames = Frames()
    frames.configure(monitoring=False)
    frame_ns(frames, 2, 100)
    assert frames.stats(2)["count"] == 0
    frames.configure(monitoring=True)
    frame_ns(frames, 2, 100)
    assert frames.stats(2)["count"] == 100


def test_painting_is_a_sample():
    frames = Frames()
    frames.paint(10)
    frame_ns(frames, 4, 1000)
    row = frames.stats(4)
    assert 99 <= row["painted"] <= 101
    assert row["painted_high_water"] >= row["high_water"] > 0
    frames.paint(0)
    frame_ns(frames, 4, 1000)
    assert frames.stats(4)["painted"] == row["painted"]


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"limit_bytes": 10}, "limit_bytes must be 256 to 1048576, not 10"),
        (
            {"limit_bytes": 1000, "heap_threshold": 1001},
            "heap_threshold must be 0 to the limit of 1000 bytes, not 1001",
        ),
    ],
)
def test_wrong_limits_are_explained(wrong, match):
    with pytest.raises(ValueError, match=match):
        Frames(**wrong)
    frames = Frames()
    with pytest.raises(ValueError, match=match):
        frames.configure(**wrong)
    assert (frames.limit_bytes, frames.heap_threshold) == (3072, 1024)


@pytest.mark.parametrize("op", [-1, OPERATIONS_MOST])
def test_operations_have_numbers(op):
    with pytest.raises(ValueError, match="0 to 63"):
        Frames().stats(op)


def test_timing_every_frame_gives_a_histogram_that_adds_up():
    frames = Frames()
    frame_ns(frames, 3, 6400)
    sampled = frames.times(3)
    assert 99 <= sampled["timed"] <= 101
    frames.time(1)
    began = time.perf_counter_ns()
    frame_ns(frames, 3, 1000)
    took = time.perf_counter_ns() - began
    times = frames.times(3)
    assert times["timed"] - sampled["timed"] == 1000
    assert sum(times["buckets"].values()) == times["timed"] == frames.times()["timed"]
    assert 0 < times["total_ns"] - sampled["total_ns"] < took
    frames.clear()
    assert frames.times() == {"timed": 0, "total_ns": 0, "buckets": {}}
    frames.time(0)
    assert frames.time_every == TIMED_EVERY


def test_a_latency_lies_in_the_bucket_of_its_size():
    frames = Frames()
    frames.time(1)
    frame_ns(frames, 0, 200)
    times = frames.times()
    limits = [0, *TIME_LIMITS_NS]
    low = sum(n * limits[i] for i, n in times["buckets"].items())
    high = sum(n * limits[i + 1] for i, n in times["buckets"].items())
    assert low <= times["total_ns"] <= high
    assert all(b / a < 1.26 for a, b in itertools.pairwise(TIME_LIMITS_NS))
