"""What the settings mean for the core's mechanisms: set when a volume is opened, and again at every reload."""

from typing import Any

from vexfs import machinery
from vexfs._core.bridge import Bridge
from vexfs.config import Settings

EVEN = (1, 1, 1)
BY_PRIORITY = (3, 2, 1)


def tune(settings: Settings) -> None:
    """Set pools, frames and kernels as configured.

    Raises
    ------
    LevelNotSupported
        ``force_avx2`` on a machine that lacks AVX2.
    """
    tune_simd(settings)
    tune_pool(settings)
    tune_frames(settings)


def tune_pool(settings: Settings) -> None:
    """Counts, and whether there is a pool at all; hardening options stay as they are."""
    p, pool = settings.performance, machinery.pool()
    counts = (p.small_buffer_count, p.medium_buffer_count, p.large_buffer_count)
    if pool.counts != counts:
        pool.resize(counts)
    options = set(pool.options) - {"off"} | (set() if p.enable_tiered_memory_pools else {"off"})
    if options != set(pool.options):
        pool.set_options(sorted(options))


def tune_frames(settings: Settings) -> None:
    """Limit, threshold, whether they hold, whether operations are accounted, and whether all of them are timed."""
    p = settings.performance
    machinery.frames().configure(
        p.fuse_stack_limit, p.heap_threshold, p.enable_stack_monitoring, p.enable_stack_optimization
    )
    machinery.frames().time(1 if settings.monitoring.detailed_timing else 0)


def tune_simd(settings: Settings) -> None:
    """The level of the kernels, and how many vectors a call takes."""
    p = settings.performance
    machinery.simd().configure(
        auto_detect=p.auto_detect_simd and p.enable_avx2_acceleration,
        force_avx2=p.force_avx2,
        enable_avx512=p.enable_avx512,
        batch_size=p.simd_batch_size,
    )


def bridge_options(settings: Settings) -> dict[str, Any]:
    """The bridge's own words for the settings.

    A batch may wait a third of the target latency to fill: the rest is for handing it on, also on a busy machine.
    """
    p = settings.performance
    return {
        "batch_size": p.batch_size if p.enable_batch_processing else 1,
        "weights": BY_PRIORITY if p.priority_scheduling else EVEN,
        "lazy_sync": p.lazy_sync,
        "sync_threshold_ns": p.target_latency_ns // 3,
    }


def new_bridge(settings: Settings) -> Bridge | None:
    """A running bridge as configured; None when it is switched off."""
    if not settings.performance.enable_enhanced_bridge:
        return None
    bridge = Bridge(**bridge_options(settings))
    bridge.start()
    return bridge


def volume_options(settings: Settings) -> dict[str, Any]:
    """How the volume is opened: options of :meth:`vexfs.volume.Volume.load`."""
    storage = settings.storage
    return {
        "cache_size": storage.cache_size,
        "prefetch_size": storage.prefetch_size,
        "io_queue_depth": storage.io_queue_depth,
        "direct_io": storage.enable_direct_io,
        "pool": machinery.pool(),
        "frames": machinery.frames(),
    }
