"""Is the node alive, and is it serving: checks that each look at one thing and say what is wrong, and what helps."""

import logging
import os
import time
from typing import Any

import attrs

from vexfs._core.frame import TIME_LIMITS_NS
from vexfs._core.fs import Filesystem
from vexfs.errors import VexfsError
from vexfs.observe.history import History
from vexfs.observe.parts import Parts
from vexfs.version import __version__

log = logging.getLogger("vexfs.volume")
#: Below this share of the room, and this many bytes, a volume is about to refuse writes.
FREE_SHARE, FREE_BYTES = 0.01, 64 << 20
DEEP_QUEUE = 0.9


@attrs.frozen
class Check:
    """One thing that was looked at.  `detail` says what is wrong, or what was found."""

    name: str
    ok: bool
    detail: str


def alive(parts: Parts) -> dict[str, Any]:
    """What ``/health`` answers: that the process answers at all."""
    return {
        "status": "alive",
        "node": parts.node_id,
        "version": __version__,
        "uptime_s": round(time.monotonic() - parts.started, 3),
    }


def checks(parts: Parts) -> list[Check]:
    """Everything that has to hold for the node to serve."""
    try:
        status = parts.filesystem.status()
        total, _, available, _, _ = parts.filesystem.statvfs()
    except (VexfsError, ValueError) as error:
        return [Check("volume", False, str(error))]
    fault, hindrance = status["last_error"], parts.hindrance()
    found = [
        Check("services", hindrance is None, hindrance or "serving"),
        Check("volume", True, "open"),
        Check("commits", fault is None, fault or f"{status['commits']} commits"),
        _room(total * 4096, available * 4096),
    ]
    if parts.bridge is not None:
        found.append(_bridge(parts))
    expected = getattr(parts.volume, "mounted", None)
    if expected is not None:
        found.append(_mount(parts))
    return found


def tell_of_writes(filesystem: Filesystem, failing: bool) -> bool:
    """Log when changes do not reach the disk any more, and when they do again; answers whether they do not.

    `failing` is what it answered before.
    """
    fault = filesystem.status()["last_error"]
    if fault and not failing:
        log.error("%s", fault)
    elif failing and not fault:
        log.info("the disk takes again what is written")
    return bool(fault)


def _room(total: int, available: int) -> Check:
    enough = available >= min(FREE_BYTES, total // 2) and available >= total * FREE_SHARE
    detail = f"{available >> 20} MiB of {total >> 20} MiB are free"
    return Check("room", enough, detail if enough else f"{detail}; make room, or raise the volume's limit")


def _bridge(parts: Parts) -> Check:
    bridge = parts.bridge
    if bridge is None or not bridge.running:
        return Check("bridge", False, "stopped; vexctl performance bridge restart")
    depth, room = bridge.stats()["depth"], bridge.settings["capacity"]
    deep = depth > room * DEEP_QUEUE
    return Check("bridge", not deep, f"{depth} of {room} places in the queue are taken")


def _mount(parts: Parts) -> Check:
    mount = parts.mount
    if mount is None:
        return Check("mount", False, "has ended; mount the volume again")
    there = os.path.ismount(mount.mountpoint)
    return Check("mount", there, f"on {mount.mountpoint}" if there else f"{mount.mountpoint} is not mounted any more")


def ready(parts: Parts) -> dict[str, Any]:
    """What ``/ready`` answers: ``ready``, and every check."""
    found = checks(parts)
    return {
        "ready": all(check.ok for check in found),
        "node": parts.node_id,
        "checks": [attrs.asdict(check) for check in found],
        "reasons": [f"{check.name}: {check.detail}" for check in found if not check.ok],
    }


def detailed(history: History, last_s: float = 60.0) -> dict[str, Any]:
    """What ``/detailed-metrics`` answers: rates now, their history, latency histograms, the parts' own counters."""
    parts = history.parts
    frames, bridge, pool, simd = parts.frames, parts.bridge, parts.pool, parts.simd
    status = parts.filesystem.status()
    latency = {}
    if frames is not None:
        for op, name in enumerate(status["operations"]):
            times = frames.times(op)
            if times["timed"]:
                latency[name] = {**spread(times), "timed": times["timed"], "histogram_ns": bucketed(times)}
    return {
        "time": time.time(),
        "node": parts.node_id,
        "interval_s": history.interval_s,
        "rates": attrs.asdict(history.rates()),
        "enabled": parts.enabled(),
        "history": history.series(last_s),
        "latency": latency,
        "pools": pool.stats() if pool is not None else None,
        "stack": frames.stats() if frames is not None else None,
        "simd": {"level": simd.level, **simd.counters()} if simd is not None else None,
        "bridge": {**bridge.stats(), "latency_ns": bridge.percentiles()} if bridge is not None else None,
        "filesystem": status,
    }


def bucketed(times: dict[str, Any]) -> dict[str, int]:
    """A histogram of :meth:`Frames.times` by the largest time of each bucket, in ns; the last bucket is ``inf``."""
    last = len(TIME_LIMITS_NS)
    return {str(TIME_LIMITS_NS[i]) if i < last else "inf": n for i, n in sorted(times["buckets"].items())}


def spread(times: dict[str, Any]) -> dict[str, float]:
    """Mean and percentiles in ns of a histogram of :meth:`Frames.times`, within a quarter of an octave."""
    n, seen = times["timed"], 0
    out = {"mean_ns": times["total_ns"] / n if n else 0.0}
    wanted = [(50, "p50_ns"), (95, "p95_ns"), (99, "p99_ns")]
    for i, count in sorted(times["buckets"].items()):
        seen += count
        while wanted and seen >= n * wanted[0][0] / 100:
            out[wanted.pop(0)[1]] = float(TIME_LIMITS_NS[min(i, len(TIME_LIMITS_NS) - 1)])
    return out
