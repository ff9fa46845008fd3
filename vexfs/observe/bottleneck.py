"""Where the time of requests goes: the kernel, the frontend, the core, its lock, its store.

What the clocks of the parts say over a stretch of time is put side by side: CPU time of the mount's threads from the
kernel, time in the core from the frames, waiting for the lock and phases of commits from the filesystem.
"""

import os
import threading
from pathlib import Path
from typing import Any

import attrs

from vexfs.observe.health import spread
from vexfs.observe.parts import Parts

_TICKS = os.sysconf("SC_CLK_TCK")
MOUNT_THREADS = "vexfs-fuse-"

REMEDIES = {
    "frontend": "requests are translated in one thread: fewer of them help most; longer attr_timeout and entry_timeout",
    "core": "the operations themselves: see by_operation for which",
    "lock_wait": "operations wait for each other: fewer threads that change files at once",
    "store_data": 'commits write file data: a faster disk, compression = "none", or a larger io_queue_depth',
    "store_metadata": "commits apply metadata: a faster disk for the volume's directory",
    "store_sync": "the disk's flush: fewer fsync, or a disk with a protected cache",
    "kernel": "the way through the kernel and its wake-ups: larger requests, or work inside of the process",
    "index": "vector and semantic operations: a smaller k, a lower effort, or more nodes",
}


@attrs.frozen
class Clocks:
    """Everything read at one moment."""

    operations: dict[str, int]
    timed: dict[str, dict[str, Any]]
    status: dict[str, Any]
    requests: dict[str, int]
    mount_user_s: float
    mount_system_s: float
    index_ns: int
    pool: tuple[int, int]


def thread_times(prefix: str) -> tuple[float, float]:
    """User and system CPU seconds of this process's threads whose names start so."""
    user = system = 0.0
    for thread in threading.enumerate():
        if thread.name.startswith(prefix) and thread.native_id:
            try:
                line = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
            except OSError:
                continue
            fields = line.rpartition(")")[2].split()
            user += int(fields[11]) / _TICKS
            system += int(fields[12]) / _TICKS
    return user, system


def read(parts: Parts) -> Clocks:
    """Read every clock."""
    status, frames, mount, pool = parts.filesystem.status(), parts.frames, parts.mount, parts.pool
    timed = {}
    if frames is not None:
        timed = {name: frames.times(op) for op, name in enumerate(status["operations"])}
    tiers = pool.stats()["tiers"].values() if pool is not None else ()
    return Clocks(
        status["operations"],
        timed,
        status,
        mount.requests() if mount is not None else {},
        *thread_times(MOUNT_THREADS),
        sum(row[4] for row in parts.tally.rows()),
        (sum(tier["acquires"] for tier in tiers), sum(tier["misses"] for tier in tiers)),
    )


def analyse(then: Clocks, now: Clocks, seconds: float, client: dict[str, Any] | None = None) -> dict[str, Any]:
    """Where the time between two readings went.

    Parameters
    ----------
    client : dict, optional
        What a client outside measured meanwhile: ``spent_s`` of wall time without its own CPU time, from which the
        kernel's share is told.

    Returns
    -------
    dict
        ``parts`` in seconds, largest first; ``bottleneck`` and its ``remedy``; ``by_operation``; ``caches``.
    """
    by_operation = _operations(then, now)
    core = sum(row["seconds"] for row in by_operation.values())
    clock = {
        name: (now.status["time_ns"][name] - then.status["time_ns"][name]) / 1e9
        for name in ("lock_wait", "place", "apply", "sync")
    }
    mount_cpu = now.mount_user_s - then.mount_user_s
    waited = clock["lock_wait"]
    requests = sum(now.requests.values()) - sum(then.requests.values())
    parts = {
        "core": max(0.0, core - waited),
        "lock_wait": waited,
        "store_data": clock["place"],
        "store_metadata": clock["apply"],
        "store_sync": clock["sync"],
        "index": (now.index_ns - then.index_ns) / 1e9,
    }
    if requests:
        parts["frontend"] = max(0.0, mount_cpu - min(core, mount_cpu))
        parts["kernel"] = now.mount_system_s - then.mount_system_s
        if client is not None:
            daemon = parts["frontend"] + core + parts["kernel"]
            parts["kernel"] += max(0.0, client["spent_s"] - daemon)
    ordered = dict(sorted(parts.items(), key=lambda item: -item[1]))
    worst = next(iter(ordered))
    busy = sum(ordered.values())
    return {
        "seconds": seconds,
        "requests": requests,
        "operations": sum(row["count"] for row in by_operation.values()),
        "parts_s": ordered,
        "shares": {name: value / busy for name, value in ordered.items()} if busy else {},
        "bottleneck": worst if busy > 0.01 * seconds else None,
        "remedy": REMEDIES[worst] if busy > 0.01 * seconds else "there is hardly any load",
        "by_operation": dict(sorted(by_operation.items(), key=lambda item: -item[1]["seconds"])),
        "caches": _caches(then, now),
    }


def _operations(then: Clocks, now: Clocks) -> dict[str, dict[str, Any]]:
    rows = {}
    for name, count in now.operations.items():
        n = count - then.operations.get(name, 0)
        after, before = now.timed.get(name), then.timed.get(name)
        if n <= 0 or after is None or before is None:
            continue
        timed = after["timed"] - before["timed"]
        total_ns = after["total_ns"] - before["total_ns"]
        buckets = {i: k - before["buckets"].get(i, 0) for i, k in after["buckets"].items()}
        window = {"timed": timed, "total_ns": total_ns, "buckets": {i: k for i, k in buckets.items() if k}}
        mean_ns = total_ns / timed if timed else 0.0
        rows[name] = {"count": n, "seconds": mean_ns * n / 1e9, **spread(window)}
    return rows


def _caches(then: Clocks, now: Clocks) -> dict[str, dict[str, float]]:
    found = {}
    for cache in ("inode", "dentry"):
        hits = now.status[f"{cache}_hits"] - then.status[f"{cache}_hits"]
        misses = now.status[f"{cache}_misses"] - then.status[f"{cache}_misses"]
        found[cache] = {"hits": hits, "misses": misses, "hit_rate": hits / (hits + misses) if hits + misses else 1.0}
    acquires, misses = now.pool[0] - then.pool[0], now.pool[1] - then.pool[1]
    found["pool"] = {
        "hits": acquires - misses,
        "misses": misses,
        "hit_rate": 1 - misses / acquires if acquires else 1.0,
    }
    return found
