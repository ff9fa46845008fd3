"""``performance.bridge.*``: the queue between frontends and storage."""

import contextlib
import time
from collections.abc import Iterable
from typing import Any

from vexfs._core import measure
from vexfs._core.bridge import CLASSES, KINDS_MOST, Bridge
from vexfs.errors import UsageError
from vexfs.node import tuning
from vexfs.node.node import Node
from vexfs.node.verbs.terms import Steps, needed, number, parts_of, seconds, time_s, waiting, whole
from vexfs.node.watch import history_of

SECTION = "performance_optimizations"
#: Of items that measure the way through the queue, and do nothing.
PROBE = KINDS_MOST - 1
PROBE_KEYS = 1 << 48


def _bridge(node: Node) -> Any:
    return needed(parts_of(node).bridge, "the bridge", "enable_enhanced_bridge")


def _percents(given: Any) -> list[float]:
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise UsageError(f"percentiles are {given!r}, and must be a list of numbers such as [50, 95, 99]")
    return [number(percent, "a percentile", 0.001, 100) for percent in given]


@Node.verb("performance.bridge.latency")
def latency(node: Node, duration: float = 10.0, percentiles: Any = (50, 95, 99), current: bool = False) -> Steps:
    """Time from enqueue to handing on: over `duration` from now on, or (`current`) since the counters were reset."""
    bridge, percents = _bridge(node), _percents(percentiles)
    if not current:
        bridge.reset()
        yield from waiting(seconds(duration))
    stats = bridge.stats()
    classes = {}
    for cls, row in stats["classes"].items():
        if row["handled"]:
            classes[CLASSES[cls] if cls < len(CLASSES) else str(cls)] = {
                f"p{p:g}_ns": ns for p, ns in bridge.percentiles(percents, cls).items()
            }
    return {
        "handled": stats["handled"],
        "mean_ns": stats["latency_mean_ns"],
        "max_ns": stats["latency_max_ns"],
        **{f"p{p:g}_ns": ns for p, ns in bridge.percentiles(percents).items()},
        "priorities": classes,
        "target_ns": node.settings.performance.target_latency_ns,
        "met": stats["latency_mean_ns"] <= node.settings.performance.target_latency_ns,
    }


@Node.verb("performance.bridge.queue_depth")
def queue_depth(node: Node) -> dict[str, Any]:
    """Items that wait now, and waited at most, by priority."""
    bridge = _bridge(node)
    stats = bridge.stats()
    return {
        "depth": stats["depth"],
        "high_water": stats["high_water"],
        "capacity": bridge.settings["capacity"],
        "running": bridge.running,
        "throughput_per_s": history_of(node).rates().bridge_items,
        "priorities": {
            CLASSES[c] if c < len(CLASSES) else str(c): {
                "depth": row["depth"],
                "high_water": row["high_water"],
                "rejected": row["rejected"],
            }
            for c, row in stats["classes"].items()
        },
    }


@Node.verb("performance.bridge.configure")
def configure(
    node: Node,
    batch_size: int | None = None,
    priority_levels: int | None = None,
    priority_weights: dict[str, int] | None = None,
    lazy_sync: bool | None = None,
    lazy_sync_threshold: float | None = None,
    sync_threshold: float | None = None,
) -> dict[str, Any]:
    """Set batch size, priorities and lazy synchronisation.

    `lazy_sync_threshold` (seconds; `sync_threshold` is the same) is the longest that a batch waits to fill; twice of it
    is the target latency.  Weights hold until the configuration is read again.
    """
    bridge, wanted = _bridge(node), {}
    lazy_sync_threshold = sync_threshold if lazy_sync_threshold is None else lazy_sync_threshold
    if batch_size is not None:
        wanted[f"{SECTION}.batch_size"] = whole(batch_size, "batch_size", 1, 4096)
    if lazy_sync is not None:
        wanted[f"{SECTION}.lazy_sync"] = bool(lazy_sync)
    if lazy_sync_threshold is not None:
        threshold_ns = round(time_s(lazy_sync_threshold, "lazy_sync_threshold", 5e-7, 5.0) * 1e9)
        wanted[f"{SECTION}.target_latency_ns"] = 3 * threshold_ns
    weights = _weights(priority_levels, priority_weights) or bridge.settings["weights"]
    if wanted:
        node.change(wanted, origin="control")
    bridge.configure(weights=weights)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in bridge.settings.items()}


def _weights(levels: int | None, named: dict[str, int] | None) -> tuple[int, ...] | None:
    if levels is not None:
        whole(levels, "priority_levels", 1, len(CLASSES))
    if named is None:
        return None if levels is None else tuning.BY_PRIORITY[:levels] if levels > 1 else (1,)
    if not isinstance(named, dict) or set(named) - set(CLASSES):
        raise UsageError(f"priority_weights is {named!r}, and must be weights by priority: {', '.join(CLASSES)}")
    if set(named) != set(CLASSES[: len(named)]):
        first = f"{', '.join(CLASSES[:-1])} and {CLASSES[-1]}, or the first of these alone"
        raise UsageError(f"priority_weights names {', '.join(named) or 'nothing'}, and must name {first}")
    weights = tuple(whole(named[name], f"the weight of {name}", 1, 1000) for name in CLASSES if name in named)
    if levels is not None and levels != len(weights):
        raise UsageError(f"priority_levels is {levels}, but {len(weights)} weights are given")
    return weights


@Node.verb("performance.bridge.restart")
def restart(node: Node) -> dict[str, Any]:
    """Stop the bridge when its queue is empty, and start it again with fresh counters."""
    bridge = _bridge(node)
    bridge.restart()
    bridge.reset()
    return {"running": bridge.running}


@Node.verb("performance.bridge.validate")
def validate(node: Node, target_latency: float | None = None, target_throughput: float | None = None) -> Steps:
    """Send items that do nothing through the queue: as fast as it takes them, then at a tenth of that.

    Its counters start anew; what other items wait meanwhile is part of the answer.
    """
    bridge = _bridge(node)
    target_ns = node.settings.performance.target_latency_ns
    if target_latency is not None:
        target_ns = round(time_s(target_latency, "target_latency", 1e-7, 60.0) * 1e9)
    wanted = number(10_000.0 if target_throughput is None else target_throughput, "target_throughput", 1, 1e9)
    yield {"done": 0, "total": 2, "text": "throughput"}
    throughput = probe_throughput(bridge)
    yield {"done": 1, "total": 2, "text": "latency"}
    bridge.reset()
    measure.enqueue_ns(bridge, PROBE, PROBE_KEYS, min(throughput / 10, 20_000.0), 10_000)
    bridge.barrier(10)
    found = bridge.percentiles((50, 95, 99))
    mean_ns = bridge.stats()["latency_mean_ns"]
    failed = []
    if mean_ns > target_ns:
        failed.append(f"the mean latency of {mean_ns / 1e3:.0f} us is above the target of {target_ns / 1e3:.0f} us")
    if throughput < wanted:
        failed.append(f"{throughput:.0f} items a second are under the target of {wanted:.0f}")
    return {
        "ok": not failed,
        "reasons": failed,
        "throughput_per_s": throughput,
        "target_throughput_per_s": wanted,
        "latency_mean_ns": mean_ns,
        "target_latency_ns": target_ns,
        **{f"latency_p{p:g}_ns": ns for p, ns in found.items()},
    }


def probe_throughput(bridge: Bridge, items: int = 100_000) -> float:
    """Items a second that go through the queue."""
    with contextlib.suppress(OSError):  # the handler is there already, and may not be replaced while running
        measure.discard(bridge, PROBE)
    began = time.perf_counter()
    measure.enqueue_ns(bridge, PROBE, PROBE_KEYS, 0, items)
    bridge.barrier(30)
    return items / (time.perf_counter() - began)
