"""Pools, frames and the bridge: beside the allocator, the standard library's queue, and their stated limits."""

import queue
import statistics
import threading
import time
from collections.abc import Callable

from asv_benchmarks.peers.table import Row
from vexfs._core.bridge import Bridge
from vexfs._core.frame import Frames
from vexfs._core.measure import burst_ns, discard, enqueue_ns, frame_ns, pool_ns
from vexfs._core.pool import Pool

RATE = 100_000
PRODUCERS = 2


def interleaved(rounds: int, *measured: Callable[[], float]) -> list[float]:
    """Medians of all, taken in turns, so that a busy moment of the machine hits each alike."""
    taken = [[measure() for measure in measured] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def least(rounds: int, *measured: Callable[[], float]) -> list[float]:
    """The least of each: what the machine can do, for absolute limits.  Short and often, between neighbours."""
    taken = [[measure() for measure in measured] for _ in range(rounds)]
    return [min(column) for column in zip(*taken, strict=True)]


def at_once(work: Callable[[], float], threads: int) -> float:
    """The slowest of several threads that do the same work together."""
    took: list[float] = []
    running = [threading.Thread(target=lambda: took.append(work())) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return max(took)


def pool_rows(rounds: int, steps: int) -> list[Row]:
    """Acquire and release, one and two threads; a burst of pages, most of them misses."""
    rows = []
    for size in (1024, 4096, 16384):
        pool = Pool()
        one = lambda pool=pool, size=size: pool_ns(pool, size, steps)  # noqa: E731
        both = lambda one=one: at_once(one, 2)  # noqa: E731
        ours, theirs = interleaved(rounds, one, lambda size=size: pool_ns(None, size, steps))
        alone, two = least(rounds * 4, one, both)
        name = f"pool acquire + release {size // 1024} KiB"
        rows += [
            Row(f"{name}, ns", alone, "limit", 15, 1.0, lower=True),
            Row(f"{name}, two threads, ns", two, "limit", 25, 1.0, lower=True),
            Row(f"{name}, a second", 1e9 / ours, "aligned malloc + free", 1e9 / theirs, 3.2),
        ]
    pool = Pool()
    ours, theirs = interleaved(rounds, lambda: burst_ns(pool, 4096, 20_000), lambda: burst_ns(None, 4096, 20_000))
    rows.append(Row("20,000 pages at once, ns a page", ours, "aligned malloc + free", theirs, lower=True))
    return rows


def frame_rows(rounds: int, steps: int) -> list[Row]:
    """Enter and leave; what remains of it when accounting is switched off; and with three marks below."""
    frames, n = Frames(), steps // 4
    on, off, marked = least(
        rounds * 8, lambda: frame_ns(frames, 0, n), lambda: frame_ns(None, 0, n), lambda: frame_ns(frames, 0, n, 3)
    )
    return [
        Row("frame enter + leave, ns", on, "limit", 10, 1.0, lower=True),
        Row("frame enter + leave, ns", on, "accounting off", off, lower=True),
        Row("frame enter + three marks + leave, ns", marked, "accounting off", off, lower=True),
    ]


def hand_over_us(rate: float, items: int, lazy: bool) -> float:
    """Mean latency from enqueue to handler with two producers."""
    bridge = Bridge(lazy_sync=lazy)
    discard(bridge)
    with bridge:
        threads = [
            threading.Thread(target=enqueue_ns, args=(bridge, 0, k << 32, rate / PRODUCERS, items // PRODUCERS))
            for k in range(PRODUCERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bridge.barrier(60)
        return bridge.stats()["latency_mean_ns"] / 1e3


def bridge_enqueue_ns(items: int) -> float:
    """One enqueue, into a bridge that hands on meanwhile."""
    bridge = Bridge(capacity=1 << 17)
    discard(bridge)
    with bridge:
        took = enqueue_ns(bridge, rounds=items)
        bridge.barrier(60)
    return took


def through_bridge(items: int) -> float:
    """Items a second from a Python producer to a Python handler."""
    seen: list[tuple[int, int]] = []
    bridge = Bridge()
    bridge.handler(0, seen.extend)
    start = time.perf_counter()
    with bridge:
        for i in range(items):
            bridge.enqueue(i)
        bridge.barrier(60)
    assert len(seen) == items
    return items / (time.perf_counter() - start)


def through_queue(items: int) -> float:
    """The same through `queue.Queue` and a thread."""
    seen: list[tuple[int, int]] = []
    between: queue.Queue[tuple[int, int] | None] = queue.Queue(8192)

    def handle() -> None:
        while (item := between.get()) is not None:
            seen.append(item)

    worker = threading.Thread(target=handle)
    start = time.perf_counter()
    worker.start()
    for i in range(items):
        between.put((i, 0))
    between.put(None)
    worker.join()
    assert len(seen) == items
    return items / (time.perf_counter() - start)


def bridge_rows(rounds: int, items: int) -> list[Row]:
    """Enqueue, hand-over, and the way from Python to Python."""
    enqueue, prompt, lazy = least(
        rounds,
        lambda: bridge_enqueue_ns(items),
        lambda: hand_over_us(RATE, items, lazy=False),
        lambda: hand_over_us(RATE, items, lazy=True),
    )
    ours, theirs = interleaved(rounds, lambda: through_bridge(items // 2), lambda: through_queue(items // 2))
    return [
        Row("bridge enqueue, ns", enqueue, "limit", 100, 1.0, lower=True),
        Row("bridge hand-over at 100,000/s, mean us", prompt, "limit", 100, 1.0, lower=True),
        Row("bridge hand-over at 100,000/s, lazy, mean us", lazy, "limit", 1000, 1.0, lower=True),
        Row("Python to Python, items a second", ours, "queue.Queue", theirs, 1.0),
    ]


def rows(quick: bool) -> list[Row]:
    """Everything this module compares."""
    rounds = 5 if quick else 15
    steps, items = (200_000, 20_000) if quick else (400_000, 60_000)
    return [*pool_rows(rounds, steps), *frame_rows(rounds, steps), *bridge_rows(rounds, items)]
