"""``security.*``: hardened pools, and kernels that compute what they should without telling what they see."""

from typing import Any

from vexfs.errors import UsageError
from vexfs.node.node import Node
from vexfs.node.verbs import kernels  # noqa: F401 - it registers security.simd.*
from vexfs.node.verbs.terms import Steps, needed, parts_of, seconds, waiting

OPTIONS = ("zero_on_free", "guard_pages", "allocation_tracking", "canaries", "poison")
_NAMES = {"allocation_tracking": "tracking"}


def _pool(node: Node) -> Any:
    return needed(parts_of(node).pool, "the memory pool", "enable_tiered_memory_pools")


@Node.verb("security.pools.configure")
def configure(node: Node, **switches: bool) -> dict[str, Any]:
    """Set the options of the pools; what is not named stays."""
    unknown = set(switches) - set(OPTIONS)
    if unknown or not switches:
        raise UsageError(f"options are {', '.join(OPTIONS)}; say true or false for at least one")
    pool = _pool(node)
    before = set(pool.options)
    wanted = set(before)
    for name, on in switches.items():
        option = _NAMES.get(name, name)
        wanted = wanted | {option} if on else wanted - {option}
    pool.set_options(sorted(wanted))
    return {
        "before": sorted(before),
        "options": sorted(pool.options),
        "hardened": bool(wanted - {"zero_on_free", "off"}),
    }


@Node.verb("security.pools.monitor")
def monitor(
    node: Node, detect_overflows: bool = False, detect_use_after_free: bool = False, duration: float = 10.0
) -> Steps:
    """Look for damage among the buffers; detectors that are not on are switched on for as long as it takes."""
    pool = _pool(node)
    before = set(pool.options)
    both = detect_overflows == detect_use_after_free
    wanted = set(before)
    if detect_overflows or both:
        wanted |= {"canaries"}
    if detect_use_after_free or both:
        wanted |= {"poison"}
    known = {(v["serial"], v["kind"]) for v in pool.violations()}
    fresh: list[dict[str, Any]] = []
    pool.set_options(sorted(wanted))
    try:
        for step in waiting(seconds(duration), 0.5):
            pool.check()
            fresh = [v for v in pool.violations() if (v["serial"], v["kind"]) not in known]
            yield {**step, "text": f"{len(fresh)} violations"}
        pool.check()
        fresh = [v for v in pool.violations() if (v["serial"], v["kind"]) not in known]
    finally:
        pool.set_options(sorted(before))
    stats = pool.stats()
    return {
        "ok": not fresh,
        "watched": sorted(wanted),
        "violations": fresh,
        "reasons": [f"{v['kind']} of a buffer of {v['size']} bytes of {v['owner']}" for v in fresh],
        "since_start": {kind: stats[kind] for kind in ("overflows", "underflows", "use_after_free", "double_free")},
        "owners": pool.owners(),
    }
