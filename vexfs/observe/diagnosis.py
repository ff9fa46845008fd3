"""What stands out in a running node, worst first, with the command that helps."""

from typing import Any

from vexfs.observe import health, kernels, pools, workload
from vexfs.observe.history import History
from vexfs.observe.host import report as host_report

ORDER = ("error", "warning", "info")
#: Errors of operations that are nobody's mistake: what they mean, and what helps.
FAULTS = (
    (("EBADMSG", "EUCLEAN"), "met damaged bytes on the disk",
     "vexctl volume backup, then vexctl volume fsck of the copy: it names the files; restore these from a backup"),
    (("EIO",), "failed at the host's disk", "the host's log (dmesg) says why"),
)  # fmt: skip


def findings(history: History, hit_rate_target: float = 0.90) -> list[dict[str, str]]:
    """Faults and oddities of every part: ``part``, ``severity``, ``message``, ``remedy``."""
    parts = history.parts
    found = [_row(check.name, "error", check.detail, "") for check in health.checks(parts) if not check.ok]
    if any(row["part"] == "volume" for row in found):
        return found
    enabled = parts.enabled()
    for name, on in enabled.items():
        if not on:
            remedy = "" if name == "simd_acceleration" else f"set performance_optimizations.enable_{name} = true"
            found.append(_row(name, "warning", "is switched off or not available", remedy))
    if parts.pool is not None and enabled["tiered_memory_pools"]:
        load = pools.snapshot(parts.pool.stats(), None, 0.0)
        for each in pools.analyse(load, hit_rate_target):
            if each.severity == "warning":
                remedy = "vexctl performance memory-pools rebalance --workload-analysis"
                found.append(_row(f"pool {each.tier}", each.severity, each.message, remedy))
        stats = parts.pool.stats()
        for kind in ("overflows", "underflows", "use_after_free", "double_free", "bad_size"):
            if stats[kind]:
                remedy = "vexctl security memory-pools monitor; then stop the node and report it"
                found.append(_row("pool", "error", f"{stats[kind]} times {kind.replace('_', ' ')}", remedy))
    found += _core(history)
    if parts.simd is not None and parts.simd.level != kernels.best_level():
        message = f"{parts.simd.level} kernels are used; {kernels.best_level()} would be faster"
        found.append(_row("simd", "warning", message, "vexctl performance simd enable --auto-detect"))
    left = workload.leftovers(parts)
    if left:
        message = f"{len(left)} directories of measurements that were cut off"
        found.append(_row("volume", "info", message, f"remove {' '.join('/' + each for each in left)}"))
    return sorted(found, key=lambda row: ORDER.index(row["severity"]))


def _core(history: History) -> list[dict[str, str]]:
    parts, found = history.parts, []
    status = parts.filesystem.status()
    if parts.frames is not None:
        stack = parts.frames.stats()
        if stack["violations"]:
            message = f"{stack['violations']} operations used more stack than {parts.frames.limit_bytes} bytes"
            found.append(_row("stack", "warning", message, "vexctl performance stack violations"))
    if parts.bridge is not None:
        stats = parts.bridge.stats()
        if stats["rejected"]:
            found.append(_row("bridge", "info", f"refused {stats['rejected']} items because it was full", ""))
    for names, message, remedy in FAULTS:
        if count := sum(status["errors"].get(name, 0) for name in names):
            found.append(_row("store", "error", f"{count} operations {message}", remedy))
    for path, _, why in parts.volume.catalog.unopened():
        message = f"the index of {path} cannot be opened: {why}"
        remedy = f"vexctl index drop {path}, and make it anew; or restore a backup"
        found.append(_row("index", "error", message, remedy))
    if status["commit_errors"]:
        found.append(
            _row("commits", "warning", f"{status['commit_errors']} commits failed and were tried again", "see the log")
        )
    if status["throttled"]:
        message = f"{status['throttled']} writers waited for the disk to catch up"
        found.append(_row("store", "info", message, "a faster disk, or larger dirty limits"))
    dead, live = status["dead_bytes"], status["live_bytes"]
    if dead > 64 << 20 and dead > live:
        found.append(_row("store", "info", f"{dead >> 20} MiB of dead data", "vexctl volume compact"))
    rates = history.rates()
    if rates.lock_wait_share > 0.2:
        message = f"operations wait for the filesystem's lock {rates.lock_wait_share:.0%} of the time"
        found.append(_row("lock", "warning", message, "vexctl performance bottleneck-analysis"))
    return found


def host_findings() -> list[dict[str, str]]:
    """What the host does not offer as VexFS wants it."""
    return [
        _row(f"host {row['name']}", "info" if row["optional"] else "warning", row["detail"], row["remedy"])
        for row in host_report()
        if not row["ok"]
    ]


def summary(found: list[dict[str, str]]) -> dict[str, Any]:
    """How many of each, and whether all is well: no errors and no warnings."""
    count = {severity: sum(row["severity"] == severity for row in found) for severity in ORDER}
    return {"healthy": not count["error"] and not count["warning"], "count": count, "findings": found}


def _row(part: str, severity: str, message: str, remedy: str) -> dict[str, str]:
    return {"part": part, "severity": severity, "message": message, "remedy": remedy}
