"""``performance.pools.*``: the memory pools."""

from typing import Any

import attrs

from vexfs._core.pool import TIERS
from vexfs.errors import UsageError
from vexfs.node.node import Node
from vexfs.node.verbs.terms import Steps, needed, number, parts_of, seconds, waiting, whole
from vexfs.node.watch import history_of
from vexfs.observe import pools

KEYS = {tier: f"performance_optimizations.{tier}_buffer_count" for tier in TIERS}


def _pool(node: Node) -> Any:
    return needed(parts_of(node).pool, "the memory pool", "enable_tiered_memory_pools")


@Node.verb("performance.pools.status")
def status(node: Node) -> dict[str, Any]:
    """Counts, occupancy, hits and options of every tier."""
    pool, stats = _pool(node), _pool(node).stats()
    tiers = {
        name: {
            key: tier[key]
            for key in (
                "buffer_bytes",
                "capacity",
                "in_use",
                "high_water",
                "acquires",
                "misses",
                "recycled",
                "hit_rate",
            )
        }
        for name, tier in stats["tiers"].items()
    }
    return {
        "enabled": parts_of(node).enabled()["tiered_memory_pools"],
        "hit_rate": stats["hit_rate"],
        "target": node.settings.performance.pool_hit_rate_target,
        "tiers": tiers,
        "oversize": stats["oversize"],
        "options": list(pool.options),
        "violations": {kind: stats[kind] for kind in ("overflows", "underflows", "use_after_free", "double_free")},
    }


@Node.verb("performance.pools.hit_rates")
def hit_rates(node: Node) -> dict[str, Any]:
    """Hit rates since the last reset and over the last seconds."""
    stats, target = _pool(node).stats(), node.settings.performance.pool_hit_rate_target
    asked = sum(tier["acquires"] for tier in stats["tiers"].values())
    return {
        "overall": stats["hit_rate"],
        "recent": history_of(node).rates().pool_hit_rate,
        "tiers": {name: tier["hit_rate"] for name, tier in stats["tiers"].items()},
        "acquires": asked,
        "target": target,
        "met": not asked or stats["hit_rate"] >= target,
    }


@Node.verb("performance.pools.latency")
def latency(node: Node) -> dict[str, Any]:
    """Percentiles of the time that an acquire takes, by tier, of one in 64."""
    load = pools.snapshot(_pool(node).stats(), None, 0.0)
    return {
        name: {"samples": tier.samples, **{f"p{p:g}_ns": tier.latency(p) for p in (50, 95, 99, 99.9)}}
        for name, tier in load.tiers.items()
    }


@Node.verb("performance.pools.reset")
def reset(node: Node) -> dict[str, Any]:
    """Start the counters anew; buffers stay."""
    _pool(node).reset()
    return {"reset": True}


@Node.verb("performance.pools.configure")
def configure(
    node: Node,
    small_buffers: int | None = None,
    medium_buffers: int | None = None,
    large_buffers: int | None = None,
    increase_all: float | None = None,
) -> dict[str, Any]:
    """Set how many buffers the tiers have, until the configuration is reloaded."""
    before = dict(zip(TIERS, _pool(node).counts, strict=True))
    wanted = dict(before)
    if increase_all is not None:
        more = 1 + number(increase_all, "increase_all", 0, 100)
        wanted = {tier: round(n * more) for tier, n in before.items()}
    for tier, given in zip(TIERS, (small_buffers, medium_buffers, large_buffers), strict=True):
        if given is not None:
            wanted[tier] = whole(given, f"{tier}_buffers", 0, 1 << 19)
    if wanted == before and increase_all is None and small_buffers is medium_buffers is large_buffers is None:
        raise UsageError("say what to set: --small-buffers, --medium-buffers, --large-buffers or --increase-all")
    node.change({KEYS[tier]: n for tier, n in wanted.items()}, origin="control")
    return {"before": before, "after": dict(zip(TIERS, _pool(node).counts, strict=True))}


@Node.verb("performance.pools.report")
def report(node: Node, duration: float = 60.0) -> Steps:
    """Record the workload of the pools."""
    pool = _pool(node)
    before, duration_s = pool.stats(), seconds(duration)
    yield from waiting(duration_s)
    load = pools.snapshot(pool.stats(), before, duration_s)
    return {**attrs.asdict(load), "hit_rate": load.hit_rate, "target": node.settings.performance.pool_hit_rate_target}


@Node.verb("performance.pools.rebalance")
def rebalance(node: Node, workload_analysis: bool = False, duration: float = 10.0) -> Steps:
    """Give the tiers the counts that the workload asks for, within the memory that they have now.

    The workload is that since the last reset; with `workload_analysis`, one recorded now.
    """
    pool = _pool(node)
    before, duration_s = (pool.stats(), seconds(duration)) if workload_analysis else (None, 0.0)
    if workload_analysis:
        yield from waiting(duration_s)
    load = pools.snapshot(pool.stats(), before, duration_s)
    counts = dict(zip(TIERS, pool.counts, strict=True))
    advice = pools.rebalance(pool, load, node.settings.performance.pool_hit_rate_target)
    node.change({KEYS[tier]: n for tier, n in zip(TIERS, advice.counts, strict=True)}, origin="control")
    return {
        "before": counts,
        "after": dict(zip(TIERS, advice.counts, strict=True)),
        "predicted_hit_rates": dict(advice.hit_rates),
        "size_bytes": advice.size_bytes,
        "target_met": advice.met,
    }


@Node.verb("performance.pools.monitor")
def monitor(node: Node, duration: float = 60.0) -> Steps:
    """Report the pools' figures each second."""
    history, rows = history_of(node), []
    for step in waiting(seconds(duration), 1.0):
        now, stats = history.rates(2.0), _pool(node).stats()
        row = {
            "second": round(step["done"], 1),
            "acquires_per_s": now.pool_acquires,
            "hit_rate": now.pool_hit_rate,
            "in_use": {name: tier["in_use"] for name, tier in stats["tiers"].items()},
        }
        rows.append(row)
        yield {**step, "row": row}
    return {"rows": rows, "hit_rate": _pool(node).stats()["hit_rate"]}
