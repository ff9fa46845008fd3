"""``performance.simd.*`` and ``security.simd.*``: the distance kernels."""

import time
from typing import Any

from vexfs._core.simd import ENVIRONMENT, Simd, capabilities, levels
from vexfs.errors import UsageError
from vexfs.node import tuning
from vexfs.node.node import Node
from vexfs.node.verbs.terms import Steps, number, parts_of, seconds, whole
from vexfs.observe import kernels, timing

SECTION = "performance_optimizations"
DIM = 384


def _algorithms(given: str | None) -> list[str]:
    if given is None:
        return list(kernels.ALGORITHMS)
    if given not in kernels.ALGORITHMS:
        raise UsageError(f"algorithm is {given!r}, and must be {', '.join(kernels.ALGORITHMS)}")
    return [given]


@Node.verb("performance.simd.capabilities")
def offered(node: Node) -> dict[str, Any]:
    """What the processor offers, and which kernels can be used."""
    return {"capabilities": capabilities(), "levels": levels(), "best": kernels.best_level()}


@Node.verb("performance.simd.status")
def status(node: Node) -> dict[str, Any]:
    """The kernels in use, and what they have computed."""
    simd, chosen = node.simd, node.settings.performance
    return {
        "level": simd.level,
        "accelerated": simd.level != "scalar",
        "enabled": parts_of(node).enabled()["avx2_acceleration"],
        "demanded_by_environment": simd.demand and f"{ENVIRONMENT}={simd.demand}",
        "auto_detect": chosen.auto_detect_simd,
        "force_avx2": chosen.force_avx2,
        "enable_avx512": chosen.enable_avx512,
        "batch_size": simd.batch_size,
        **simd.counters(),
    }


@Node.verb("performance.simd.hardware_check")
def hardware_check(node: Node) -> dict[str, Any]:
    """Whether the best kernels of this machine are used, and why not."""
    return kernels.hardware(node.simd)


@Node.verb("performance.simd.restart")
def restart(node: Node) -> dict[str, Any]:
    """Look at the processor anew, choose kernels as configured, start the counters anew."""
    tuning.tune_simd(node.settings)
    node.simd.reset_counters()
    told: dict[str, Any] = status(node)
    return told


@Node.verb("performance.simd.test")
def accuracy(node: Node, algorithm: str | None = None) -> dict[str, Any]:
    """Compare the kernels of every level with double precision."""
    rows = [row for name in _algorithms(algorithm) for row in kernels.accuracy(name)]
    return {"ok": all(row["ok"] for row in rows), "tests": rows}


@Node.verb("performance.simd.benchmark")
def benchmark(node: Node, vector_size: int = DIM, iterations: int = 100_000) -> dict[str, Any]:
    """Time every level against scalar code; about `iterations` distances of each."""
    dim = whole(vector_size, "vector_size", 1, 65_536)
    n = whole(iterations, "iterations", 1, 10**9)
    budget_s = min(120.0, max(0.2, n * dim * 0.4e-9 * len(kernels.ALGORITHMS) * len(kernels.ready_levels())))
    return {"vector_size": dim, "results": kernels.benchmark(dim, budget_s)}


@Node.verb("performance.simd.configure")
def configure(
    node: Node,
    enable_avx2: bool | None = None,
    enable_fma: bool | None = None,
    enable_avx512: bool | None = None,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Allow or forbid levels.  The AVX2 kernels need FMA: without it, scalar code is used."""
    wanted: dict[str, Any] = {}
    if enable_avx2 is not None or enable_fma is not None:
        wanted[f"{SECTION}.enable_avx2_acceleration"] = enable_avx2 is not False and enable_fma is not False
    if enable_avx512 is not None:
        wanted[f"{SECTION}.enable_avx512"] = bool(enable_avx512)
    if batch_size is not None:
        wanted[f"{SECTION}.simd_batch_size"] = whole(batch_size, "batch_size", 1, 1 << 20)
    if not wanted:
        raise UsageError("say what to set: --enable-avx2, --enable-fma, --enable-avx512 or --batch-size")
    node.change(wanted, origin="control")
    told: dict[str, Any] = status(node)
    return told


@Node.verb("performance.simd.enable")
def enable(node: Node, auto_detect: bool = False) -> dict[str, Any]:
    """Switch vector kernels on; with `auto_detect`, the best that the processor has."""
    wanted: dict[str, Any] = {f"{SECTION}.enable_avx2_acceleration": True}
    if auto_detect:
        wanted |= {f"{SECTION}.auto_detect_simd": True, f"{SECTION}.enable_avx512": True}
    node.change(wanted, origin="control")
    told: dict[str, Any] = status(node)
    return told


@Node.verb("performance.simd.validate")
def validate(node: Node, duration: float = 5.0, target_improvement: float = 2.5) -> Steps:
    """Whether the kernels in use are right, and so many times faster than scalar code."""
    wanted = number(target_improvement, "target_improvement", 0.01, 1000)
    until, level = time.monotonic() + seconds(duration), node.simd.level
    best: dict[str, float] = {}
    while True:
        yield {"done": max(0.0, float(duration) - (until - time.monotonic())), "total": float(duration)}
        for row in kernels.benchmark(DIM, min(1.5, float(duration))):
            if row["level"] == level:
                best[row["algorithm"]] = max(best.get(row["algorithm"], 0.0), row["speedup"])
        if time.monotonic() >= until:
            break
    wrong = [
        row for name in kernels.ALGORITHMS for row in kernels.accuracy(name) if row["level"] == level and not row["ok"]
    ]
    reasons = [
        f"{row['algorithm']} is wrong by {row['worst_ulps']:.1f} ulps at dimension {row['dim']}" for row in wrong
    ]
    if level == "scalar":
        reasons.append("scalar code is in use: SIMD is switched off, or this processor has none that VexFS knows")
    else:
        reasons += [
            f"{name} is {x:.2f} times as fast as scalar code, and should be {wanted:g} times"
            for name, x in best.items()
            if x < wanted
        ]
    return {"ok": not reasons, "reasons": reasons, "level": level, "target_improvement": wanted, "improvement": best}


@Node.verb("security.simd.verify")
def verify(node: Node, check_instruction_set: bool = False, validate_results: bool = False) -> dict[str, Any]:
    """Whether the processor has what the chosen kernels need, and whether they compute what they should."""
    both = check_instruction_set == validate_results
    told: dict[str, Any] = {"level": node.simd.level}
    reasons = []
    if check_instruction_set or both:
        state = levels()[node.simd.level]
        told["instruction_set"] = {"level": node.simd.level, "state": state, "capabilities": capabilities()}
        reasons += [] if state == "ready" else [f"the kernels of {node.simd.level} are in use, but it is {state}"]
    if validate_results or both:
        rows = [row for name in kernels.ALGORITHMS for row in kernels.accuracy(name, seed=int(time.time()) & 0xFFFF)]
        told["results"] = rows
        reasons += [
            f"{row['algorithm']} on {row['level']} is wrong by {row['worst_ulps']:.1f} ulps"
            for row in rows
            if not row["ok"]
        ]
    return {"ok": not reasons, "reasons": reasons, **told}


@Node.verb("security.simd.monitor")
def monitor(node: Node, timing_analysis: bool = False, cache_analysis: bool = False, rounds: int = 4000) -> Steps:
    """Test whether the time of a distance depends on the vectors, and show what the caches cost.

    Over vectors whose distance single precision cannot hold, a difference is expected: they are computed once more.
    Elsewhere a dependence is found only if a second, independent run finds it as well.
    """
    both = timing_analysis == cache_analysis
    n = whole(rounds, "rounds", 500, 1_000_000)
    told: dict[str, Any] = {"level": node.simd.level, "threshold_t": timing.THRESHOLD}
    kernel = Simd(node.simd.level)
    if timing_analysis or both:
        rows = []
        cases = [(m, c) for m in kernels.ALGORITHMS.values() for c in timing.CLASSES]
        for i, (metric, against) in enumerate(cases):
            yield {"done": i, "total": len(cases), "text": f"{metric} against {against}"}
            row = timing.leakage(kernel, metric, against, DIM, n)
            if row["differs"] and not row["expected"]:
                again = timing.leakage(kernel, metric, against, DIM, 2 * n, seed=17)
                row = {**again, "differs": again["differs"] and row["t"] * again["t"] > 0}
            rows.append(row)
        told["timing"] = rows
    if cache_analysis or both:
        told["caches"] = timing.caches(kernel)
    leaking = [row for row in told.get("timing", ()) if row["differs"] and not row["expected"]]
    reasons = [
        f"{row['metric']} takes {row['against_ns']:.1f} ns over {row['against']} vectors, {row['random_ns']:.1f} "
        f"over random ones (t = {row['t']:.1f})"
        for row in leaking
    ]
    return {"ok": not reasons, "reasons": reasons, **told}
