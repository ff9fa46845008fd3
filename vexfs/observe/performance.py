"""Validation: real loads within a budget of time, held against targets, with a reason for everything that is missed."""

import time
from collections.abc import Generator
from typing import Any

import attrs

from vexfs._core import measure
from vexfs.observe import health, kernels, workload
from vexfs.observe.parts import TARGETS, Parts

Steps = Generator[dict[str, Any], None, Any]

#: Seconds of each load.
BUDGETS = {"quick": 1.0, "normal": 3.0, "comprehensive": 10.0}
LOADS = ("fuse", "vector", "semantic")
LATENCY_NS = 1_000_000
IMPROVEMENT = 2.5


@attrs.frozen
class Verdict:
    """One thing that was held against a target."""

    name: str
    ok: bool
    measured: float | str
    target: float | str
    reason: str = ""


def validate(parts: Parts, mode: str, hit_rate_target: float = 0.90, targets: dict[str, float] | None = None) -> Steps:
    """Run every load, then look at what served it.

    Yields
    ------
    dict
        Progress.

    Returns
    -------
    dict
        ``overall_success``, ``reasons``, ``checks`` by name, ``loads``, ``enabled``.
    """
    targets = targets or TARGETS
    began, seconds = time.monotonic(), BUDGETS[mode]
    total = seconds * len(LOADS) + 2
    before = _served(parts)
    loads: dict[str, workload.Measured] = {}
    for i, kind in enumerate(LOADS):
        yield {"done": i * seconds, "total": total, "text": f"{kind} operations"}
        loads[kind] = workload.run(parts, kind, seconds)
    after = _served(parts)
    yield {"done": total - 2, "total": total, "text": "mechanisms"}
    verdicts = [_rate(kind, loads[kind], targets[kind]) for kind in LOADS]
    verdicts += _mechanisms(parts, before, after, hit_rate_target)
    if mode != "quick":
        verdicts += _kernels(parts)
    verdicts += [
        Verdict(f"health_{c.name}", c.ok, c.detail, "sound", "" if c.ok else c.detail) for c in health.checks(parts)
    ]
    reasons = [f"{v.name}: {v.reason}" for v in verdicts if not v.ok]
    return {
        "overall_success": not reasons,
        "reasons": reasons,
        "mode": mode,
        "seconds": time.monotonic() - began,
        "checks": {v.name: attrs.asdict(v) for v in verdicts},
        "loads": {kind: load.as_dict() for kind, load in loads.items()},
        "enabled": parts.enabled(),
    }


def _served(parts: Parts) -> dict[str, float]:
    pool, frames, bridge = parts.pool, parts.frames, parts.bridge
    tiers = pool.stats()["tiers"].values() if pool is not None else ()
    stats = bridge.stats() if bridge is not None else {"handled": 0, "latency_mean_ns": 0.0}
    return {
        "acquires": sum(tier["acquires"] for tier in tiers),
        "misses": sum(tier["misses"] for tier in tiers),
        "violations": frames.stats()["violations"] if frames is not None else 0,
        "high_water": frames.stats()["high_water"] if frames is not None else 0,
        "handled": stats["handled"],
        "waited_ns": stats["handled"] * stats["latency_mean_ns"],
    }


def _rate(kind: str, load: workload.Measured, target: float) -> Verdict:
    reason = load.reason or f"{load.per_s:.0f} operations a second are under the target of {target:.0f}"
    ok = not load.reason and load.per_s >= target
    return Verdict(f"{kind}_ops_per_sec", ok, load.per_s, target, "" if ok else reason)


OFF = {
    "tiered_memory_pools": "enable_tiered_memory_pools is off: every buffer of the load was allocated anew",
    "avx2_acceleration": "enable_avx2_acceleration is off, or the processor lacks AVX2: distances take scalar code",
    "stack_optimization": "enable_stack_optimization is off: stack use is not bounded",
    "enhanced_bridge": "enable_enhanced_bridge is off: every change wakes the committer by itself",
}


def _mechanisms(
    parts: Parts, before: dict[str, float], after: dict[str, float], hit_rate_target: float
) -> list[Verdict]:
    enabled = parts.enabled()
    found = [
        Verdict(f"{name}_enabled", enabled[name], str(enabled[name]), "True", "" if enabled[name] else why)
        for name, why in OFF.items()
    ]
    if enabled["tiered_memory_pools"]:
        acquires, misses = after["acquires"] - before["acquires"], after["misses"] - before["misses"]
        rate = 1 - misses / acquires if acquires else 1.0
        why = f"the pools served {rate:.1%} of {acquires:.0f} buffers, and should serve {hit_rate_target:.0%}; "
        why += "vexctl performance memory-pools rebalance --workload-analysis"
        ok = rate >= hit_rate_target
        found.append(Verdict("memory_pool_hit_rate", ok, rate, hit_rate_target, "" if ok else why))
    if enabled["stack_optimization"] and parts.frames is not None:
        limit, violations = parts.frames.limit_bytes, after["violations"] - before["violations"]
        why = f"{violations:.0f} operations used more stack than the limit of {limit} bytes"
        found.append(
            Verdict("stack_within_limit", not violations, after["high_water"], limit, why if violations else "")
        )
    if enabled["enhanced_bridge"]:
        handled = after["handled"] - before["handled"]
        mean_ns = (after["waited_ns"] - before["waited_ns"]) / handled if handled > 0 else 0.0
        why = f"changes waited {mean_ns / 1e6:.2f} ms in the bridge on average, and should wait under 1 ms"
        ok = mean_ns < LATENCY_NS
        found.append(Verdict("bridge_mean_latency_ns", ok, mean_ns, LATENCY_NS, "" if ok else why))
    return found


def _kernels(parts: Parts) -> list[Verdict]:
    if parts.simd is None or parts.simd.level == "scalar":
        return []
    level, found = parts.simd.level, []
    for row in kernels.benchmark(workload.DIM, 0.6):
        if row["level"] == level:
            why = f"{row['speedup']:.2f} times as fast as scalar code, and should be {IMPROVEMENT} times"
            ok = row["speedup"] >= IMPROVEMENT
            found.append(Verdict(f"simd_{row['algorithm']}", ok, row["speedup"], IMPROVEMENT, "" if ok else why))
    return found


def samples(parts: Parts, rounds: int = 9, seconds: float = 0.6) -> Steps:
    """Several samples of every figure, the figures interleaved, for a baseline.

    Returns
    -------
    dict
        By figure: ``better`` (``"higher"`` or ``"lower"``), ``unit``, ``samples``; and why others were skipped.
    """
    figures: dict[str, dict[str, Any]] = {}

    def note(name: str, value: float, unit: str, better: str) -> None:
        figures.setdefault(name, {"unit": unit, "better": better, "samples": []})["samples"].append(value)

    skipped: dict[str, str] = {}
    for i in range(rounds):
        yield {"done": i, "total": rounds, "text": "measuring"}
        for kind in LOADS:
            if kind not in skipped:
                load = workload.run(parts, kind, seconds)
                if load.reason:
                    skipped[kind] = load.reason
                else:
                    note(f"{kind}_ops", load.per_s, "operations/s", "higher")
        note("pool_acquire", measure.pool_ns(parts.pool, 4096, 50_000), "ns", "lower")
        note("frame", measure.frame_ns(parts.frames, 63, 50_000), "ns", "lower")
        if parts.simd is not None:
            for algorithm, metric in kernels.ALGORITHMS.items():
                note(f"simd_{algorithm}", kernels.nanoseconds(parts.simd, metric, workload.DIM, 0.03), "ns", "lower")
    return {"figures": figures, "skipped": skipped}
