"""Every metric of a node, in collectors that can be asked for alone.

A collector reads counters that the core keeps anyway and holds no lock that an operation waits for longer than a copy
lasts.  Names follow Prometheus's conventions, but for the nine gauges of :func:`rates`, which dashboards know.
"""

import time
from collections.abc import Callable, Iterable, Mapping

from vexfs._core.bridge import CLASSES
from vexfs._core.frame import TIME_LIMITS_NS
from vexfs.errors import UsageError
from vexfs.observe.exposition import Family, counter, gauge, histogram, of_each
from vexfs.observe.history import History
from vexfs.observe.process import process
from vexfs.version import __version__

Collector = Callable[[History], list[Family]]

GAUGES = (
    "vexfs_fuse_ops_per_sec",
    "vexfs_vector_ops_per_sec",
    "vexfs_semantic_ops_per_sec",
    "vexfs_memory_pool_hit_rate",
    "vexfs_simd_acceleration_enabled",
    "vexfs_tiered_memory_pools_enabled",
    "vexfs_avx2_acceleration_enabled",
    "vexfs_stack_optimization_enabled",
    "vexfs_enhanced_bridge_enabled",
)
#: Every fourth power of two of nanoseconds, from a microsecond to half a minute.
DURATIONS = tuple(i for i, ns in enumerate(TIME_LIMITS_NS) if (ns + 1) in {1 << k for k in range(10, 36, 2)})


def rates(history: History) -> list[Family]:
    """The nine gauges: measured rates of real operations, and the switches."""
    now, enabled = history.rates(), history.parts.enabled()
    values = {
        "vexfs_fuse_ops_per_sec": (now.fuse, "Requests of the kernel that the mount answered, a second."),
        "vexfs_vector_ops_per_sec": (now.vector, "Rows written and queries answered by indexes, a second."),
        "vexfs_semantic_ops_per_sec": (now.semantic, "Searches by text or by example, a second."),
        "vexfs_memory_pool_hit_rate": (
            now.pool_hit_rate if enabled["tiered_memory_pools"] else 0.0, "Share of buffers that the pools served."),
    }  # fmt: skip
    out = [gauge(name, about).add(value) for name, (value, about) in values.items()]
    about = {
        "simd_acceleration": "Whether vector instructions are used at all.",
        "tiered_memory_pools": "Whether the memory pools are on.",
        "avx2_acceleration": "Whether distances are computed with AVX2 or better.",
        "stack_optimization": "Whether stack use is measured and bounded.",
        "enhanced_bridge": "Whether mutations go through the bridge.",
    }
    return out + [gauge(f"vexfs_{name}_enabled", about[name]).add(on) for name, on in enabled.items()]


def node(history: History) -> list[Family]:
    """What runs, and since when."""
    parts = history.parts
    return [
        gauge("vexfs_build_info", "1; the labels say what runs.").add(1, version=__version__, node=parts.node_id),
        gauge("vexfs_uptime_seconds", "Time since the volume was opened.").add(time.monotonic() - parts.started),
    ]


def fuse(history: History) -> list[Family]:
    """The mount."""
    mount = history.parts.mount
    out = [gauge("vexfs_fuse_mounted", "Whether the volume is mounted.").add(mount is not None)]
    if mount is None:
        return out
    requests = counter("vexfs_fuse_requests_total", "Requests of the kernel, by kind.")
    for kind, n in mount.requests().items():
        if n:
            requests.add(n, operation=kind)
    handlers = mount.operations
    return [
        *out, requests,
        gauge("vexfs_fuse_workers", "Threads that answer requests.").add(handlers.workers),
        gauge("vexfs_fuse_waiting", "Of them, those that wait for the disk.").add(handlers.waiting),
        counter("vexfs_fuse_faults_total", "Requests answered EIO because their handler failed.")
        .add(handlers.adapter.faults),
    ]  # fmt: skip


def filesystem(history: History) -> list[Family]:
    """Operations of every frontend, errors, commits, sizes, caches."""
    s = history.parts.filesystem.status()
    operations = counter("vexfs_fs_operations_total", "Filesystem operations of every frontend, by kind.")
    for name, n in s["operations"].items():
        if n:
            operations.add(n, operation=name)
    errors = counter("vexfs_fs_errors_total", "Operations that were answered an error, by errno.")
    for name, n in s["errors"].items():
        errors.add(n, errno=name)
    phases = counter("vexfs_fs_commit_seconds_total", "Time that commits spent, by phase.")
    for phase in ("place", "apply", "sync"):
        phases.add(s["time_ns"][phase] / 1e9, phase=phase)
    size = gauge("vexfs_fs_bytes", "Bytes of the volume, by kind.")
    for kind in ("used", "limit", "live", "dead", "free", "disk", "dirty", "frozen", "cached"):
        size.add(s[f"{kind}_bytes"], kind=kind)
    hits, misses = counter("vexfs_cache_hits_total", "Lookups that a cache answered."), counter(
        "vexfs_cache_misses_total", "Lookups that a cache could not answer.")  # fmt: skip
    entries = gauge("vexfs_cache_entries", "Entries in a cache.")
    for cache, cached in (("inode", "inodes"), ("dentry", "dentries"), ("data", "")):
        hits.add(s[f"{cache}_hits"], cache=cache)
        misses.add(s[f"{cache}_misses"], cache=cache)
        if cached:
            entries.add(s[f"{cached}_cached"], cache=cache)
    return [
        operations, errors, phases, size, hits, misses, entries.add(s["regions_cached"], cache="extent"),
        counter("vexfs_fs_commits_total", "Commits.").add(s["commits"]),
        counter("vexfs_fs_syncs_total", "Times the log was brought to stable storage.").add(s["syncs"]),
        counter("vexfs_fs_commit_errors_total", "Commits that failed and were tried again.").add(s["commit_errors"]),
        counter("vexfs_fs_prefetched_frames_total", "Frames read ahead of their reader.").add(s["prefetches"]),
        counter("vexfs_fs_throttled_total", "Writers that had to wait for room.").add(s["throttled"]),
        counter("vexfs_fs_lock_waits_total", "Operations that found the filesystem's lock taken.").add(s["lock_waits"]),
        counter("vexfs_fs_lock_wait_seconds_total", "Time waited for it.").add(s["time_ns"]["lock_wait"] / 1e9),
        counter("vexfs_fs_reclaimed_bytes_total", "Bytes of dead segments given back.").add(s["reclaimed_bytes"]),
        gauge("vexfs_fs_files", "Files, directories and the like.").add(s["files"]),
        gauge("vexfs_fs_segments", "Segments with file data.").add(s["segments"]),
    ]  # fmt: skip


def latency(history: History) -> list[Family]:
    """How long operations take in the core: those that were timed, one in 64 or all."""
    frames = history.parts.frames
    if frames is None:
        return []
    out = histogram("vexfs_fs_operation_duration_seconds",
                    "Time that filesystem operations took in the core; of one in 64, or of all under detailed timing.")
    for op, name in enumerate(history.parts.filesystem.status()["operations"]):
        times = frames.times(op)
        if times["timed"]:
            out.add_histogram(_cumulative(times["buckets"]), times["total_ns"] / 1e9, operation=name)
    return [out]


def _cumulative(buckets: Mapping[int, int]) -> Iterable[tuple[float, int]]:
    for i in DURATIONS:
        yield (TIME_LIMITS_NS[i] + 1) / 1e9, sum(n for bucket, n in buckets.items() if bucket <= i)
    yield float("inf"), sum(buckets.values())


def pools(history: History) -> list[Family]:
    """The memory pools, by tier."""
    pool = history.parts.pool
    if pool is None:
        return []
    stats = pool.stats()
    broken = counter("vexfs_pool_violations_total", "Damage that hardened pools found, by kind.")
    for kind in ("overflows", "underflows", "use_after_free", "double_free", "bad_size"):
        broken.add(stats[kind], kind=kind)
    return [
        *of_each("tier", stats["tiers"], {
            "acquires": counter("vexfs_pool_acquires_total", "Buffers asked for, by tier."),
            "misses": counter("vexfs_pool_misses_total", "Buffers that had to be allocated anew, by tier."),
            "recycled": counter("vexfs_pool_recycled_total", "Buffers that earlier bursts had left, by tier."),
            "in_use": gauge("vexfs_pool_buffers_in_use", "Buffers in use, by tier."),
            "capacity": gauge("vexfs_pool_buffers", "Buffers that a tier has."),
            "high_water": gauge("vexfs_pool_buffers_high_water", "Buffers in use at most, by tier."),
        }),
        broken,
        counter("vexfs_pool_oversize_total", "Requests above the largest tier.").add(stats["oversize"]),
    ]  # fmt: skip


def stack(history: History) -> list[Family]:
    """Stack use of the core's operations."""
    frames = history.parts.frames
    if frames is None:
        return []
    all_of = frames.stats()
    peak = gauge("vexfs_stack_high_water_bytes", "Deepest C stack of an operation.")
    for name, row in frames.table(list(history.parts.filesystem.status()["operations"])).items():
        peak.add(row["high_water"], operation=name)
    return [
        peak,
        gauge("vexfs_stack_limit_bytes", "The most C stack that an operation may use.").add(frames.limit_bytes),
        counter("vexfs_stack_violations_total", "Operations that went deeper.").add(all_of["violations"]),
        counter("vexfs_stack_prevented_total", "Scratch that went to the pools to keep the limit.")
        .add(all_of["prevented"]),
        counter("vexfs_stack_pooled_total", "Scratch above the threshold, from the pools.").add(all_of["pooled"]),
    ]  # fmt: skip


def simd(history: History) -> list[Family]:
    """The distance kernels."""
    kernels = history.parts.simd
    if kernels is None:
        return []
    counted = kernels.counters()
    return [
        gauge("vexfs_simd_level_info", "1; the label names the kernels in use.").add(1, level=kernels.level),
        counter("vexfs_simd_calls_total", "Calls of distance kernels, by level.")
        .add(counted["calls"], level=kernels.level),
        counter("vexfs_simd_vectors_total", "Distances computed, by level.")
        .add(counted["vectors"], level=kernels.level),
    ]  # fmt: skip


def bridge(history: History) -> list[Family]:
    """The bridge, by priority."""
    queue = history.parts.bridge
    if queue is None:
        return []
    classes = {CLASSES[cls]: row for cls, row in queue.stats()["classes"].items()}
    spread = Family("vexfs_bridge_latency_seconds", "summary", "Time from enqueue to handing on, by priority.")
    for priority, row in classes.items():
        for percent, ns in queue.percentiles((50, 95, 99), priority).items():
            spread.add(ns / 1e9, priority=priority, quantile=str(percent / 100))
        spread.samples.append(("_sum", {"priority": priority}, row["latency_mean_ns"] * row["handled"] / 1e9))
        spread.samples.append(("_count", {"priority": priority}, row["handled"]))
    return [
        *of_each("priority", classes, {
            "handled": counter("vexfs_bridge_items_total", "Items handed on, by priority."),
            "batches": counter("vexfs_bridge_batches_total", "Batches handed on, by priority."),
            "rejected": counter("vexfs_bridge_rejected_total", "Items refused by a full queue, by priority."),
            "depth": gauge("vexfs_bridge_queue_depth", "Items that wait, by priority."),
        }),
        spread,
    ]  # fmt: skip


def index(history: History) -> list[Family]:
    """Vector and semantic operations, by index."""
    vectors = counter("vexfs_vector_operations_total", "Rows written and queries answered, by index and operation.")
    searches = counter("vexfs_semantic_operations_total", "Searches by text or by example, by operation.")
    spent = counter("vexfs_index_seconds_total", "Time spent in them.")
    labels = history.parts.volume.catalog.labels()
    summed: dict[tuple[str, str, str], list[int]] = {}
    for kind, operation, number, n, spent_ns in history.parts.tally.rows():
        # What dropped indexes did is kept together, under no name.
        row = summed.setdefault((kind, operation, labels.get(number, "")), [0, 0])
        row[0] += n
        row[1] += spent_ns
    for (kind, operation, name), (n, spent_ns) in summed.items():
        family = vectors if kind == "vector" else searches
        family.add(n, index=name, operation=operation)
        spent.add(spent_ns / 1e9, index=name, operation=operation, kind=kind)
    return [vectors, searches, spent]


def ingest(history: History) -> list[Family]:
    """Text on its way into indexes, and the models that it waits for."""
    backlog = gauge("vexfs_ingest_backlog_files", "Files that changed and are not indexed yet.")
    awaited = gauge("vexfs_ingest_awaited_seconds", "How long a model that does not come back has been asked.")
    held = gauge("vexfs_ingest_held", "1 for each model that failed and is asked again later.")
    catalog = history.parts.volume.catalog
    if any(each.embedder is not None for each in catalog.known()):
        status = catalog.ingesting().status()
        backlog.add(status["backlog"])
        for name, seconds in status["awaited"].items():
            awaited.add(seconds, embedder=name)
        for name in status["held"]:
            held.add(1, embedder=name)
    return [backlog, awaited, held]


#: By the name that ``collect[]`` takes.
COLLECTORS: dict[str, Collector] = {
    "rates": rates,
    "node": node,
    "fuse": fuse,
    "filesystem": filesystem,
    "latency": latency,
    "pools": pools,
    "stack": stack,
    "simd": simd,
    "bridge": bridge,
    "index": index,
    "ingest": ingest,
    "process": process,
}


def collect(history: History, wanted: Iterable[str] = ()) -> list[Family]:
    """The families of every collector, or of those that `wanted` names; a family's own name is taken too.

    Raises
    ------
    UsageError
        A name is neither that of a collector nor that of a metric; the message lists the collectors.
    """
    names = set(wanted)
    if not names:
        return [family for of in COLLECTORS.values() for family in of(history)]
    metrics = {name for name in names if name.startswith(("vexfs_", "process_"))}
    unknown = names - metrics - set(COLLECTORS)
    if unknown:
        raise UsageError(f"collect[]: no collector is called {', '.join(sorted(unknown))}; "
                         f"there are {', '.join(COLLECTORS)}, and the names of metrics")  # fmt: skip
    chosen, seen = [], set()
    for name, of in COLLECTORS.items():
        if name in names or metrics:
            for family in of(history):
                seen.add(family.name)
                if name in names or family.name in metrics:
                    chosen.append(family)
    if metrics - seen - set(GAUGES):
        absent = ", ".join(sorted(metrics - seen))
        raise UsageError(f"collect[]: there is no metric {absent}; the collectors are {', '.join(COLLECTORS)}")
    return chosen
