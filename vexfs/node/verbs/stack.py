"""``performance.stack.*``: the account of stack use."""

from typing import Any

from vexfs.node.node import Node
from vexfs.node.verbs.terms import Steps, needed, parts_of, seconds, waiting, whole

SECTION = "performance_optimizations"


def _frames(node: Node) -> Any:
    frames = parts_of(node).frames
    working = frames if frames is not None and frames.enabled else None
    return needed(working, "stack accounting", "enable_stack_optimization")


def _table(node: Node) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = _frames(node).table(list(parts_of(node).filesystem.status()["operations"]))
    return table


@Node.verb("performance.stack.usage")
def usage(node: Node, current: bool = False) -> dict[str, Any]:
    """Stack use of every operation that ran; with `current`, of all together."""
    frames = _frames(node)
    whole_of = frames.stats()
    told = {
        "monitoring": frames.monitoring,
        "limit_bytes": frames.limit_bytes,
        "heap_threshold_bytes": frames.heap_threshold,
        "high_water_bytes": whole_of["high_water"],
        "mean_bytes": whole_of["mean_bytes"],
        "operations_seen": whole_of["count"],
        "violations": whole_of["violations"],
        "prevented": whole_of["prevented"],
        "pooled": whole_of["pooled"],
    }
    return told if current else {**told, "operations": _table(node)}


@Node.verb("performance.stack.monitor")
def monitor(node: Node, duration: float = 60.0, real_time: bool = False) -> Steps:
    """Watch stack use: peaks start anew, and what was used meanwhile is told by operation."""
    frames = _frames(node)
    frames.clear()
    for step in waiting(seconds(duration), 1.0):
        now = frames.stats()
        row = {
            "second": round(step["done"], 1),
            "operations_seen": now["count"],
            "high_water_bytes": now["high_water"],
            "violations": now["violations"],
        }
        yield {**step, "row": row} if real_time else step
    return {"duration_s": float(duration), **usage(node)}


@Node.verb("performance.stack.configure")
def configure(
    node: Node, limit: int | None = None, heap_threshold: int | None = None, monitoring_enabled: bool | None = None
) -> dict[str, Any]:
    """Set the limit, the threshold, and whether operations are accounted."""
    wanted: dict[str, Any] = {}
    if limit is not None:
        wanted[f"{SECTION}.fuse_stack_limit"] = whole(limit, "limit", 256, 1 << 20)
    if heap_threshold is not None:
        wanted[f"{SECTION}.heap_threshold"] = whole(heap_threshold, "heap_threshold", 0, 1 << 20)
    if monitoring_enabled is not None:
        wanted[f"{SECTION}.enable_stack_monitoring"] = bool(monitoring_enabled)
    if wanted:
        node.change(wanted, origin="control")
    told: dict[str, Any] = usage(node, current=True)
    return told


@Node.verb("performance.stack.violations")
def violations(node: Node) -> dict[str, Any]:
    """Operations that went deeper than the limit."""
    table = {name: row["violations"] for name, row in _table(node).items() if row["violations"]}
    return {"count": _frames(node).stats()["violations"], "operations": table, "limit_bytes": _frames(node).limit_bytes}


@Node.verb("performance.stack.clear")
def clear(node: Node) -> dict[str, Any]:
    """Forget violations and peaks."""
    before = _frames(node).stats()["violations"]
    _frames(node).clear()
    return {"cleared": before}
