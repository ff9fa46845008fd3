"""``vexctl performance bridge``."""

from typing import Any

from vexfs.cli import output
from vexfs.cli.performance_simd import verdict
from vexfs.cli.quantities import count, duration, percents, switch, weights
from vexfs.cli.told import Option, Told


def _latency(answer: dict[str, Any]) -> str:
    names = [key for key in answer if key.startswith("p") and key.endswith("_ns")]
    rows = [("all", *(f"{answer[n] / 1e3:.1f}" for n in names))]
    rows += [(name, *(f"{row[n] / 1e3:.1f}" for n in names)) for name, row in answer["priorities"].items()]
    table = output.table(("priority", *(f"{n[:-3]} us" for n in names)), rows)
    return (
        f"{table}\n{answer['handled']:,} items, mean {answer['mean_ns'] / 1e3:.1f} us, "
        f"target {answer['target_ns'] / 1e3:.0f} us: {'met' if answer['met'] else 'MISSED'}"
    )


def _depth(answer: dict[str, Any]) -> str:
    rows = [(name, row["depth"], row["high_water"], row["rejected"]) for name, row in answer["priorities"].items()]
    table = output.table(("priority", "waiting", "most", "refused"), rows)
    state = "running" if answer["running"] else "STOPPED"
    return (
        f"{table}\n{state}, {answer['depth']} of {answer['capacity']} wait, {answer['throughput_per_s']:,.0f} items/s"
    )


def _validate(answer: dict[str, Any]) -> str:
    mean_us, target_us = answer["latency_mean_ns"] / 1e3, answer["target_latency_ns"] / 1e3
    return (
        f"throughput {answer['throughput_per_s']:,.0f} items/s (target {answer['target_throughput_per_s']:,.0f})\n"
        f"latency {mean_us:.0f} us on average (target {target_us:.0f} us)\n"
        f"{verdict(answer)}"
    )


NOUN = "performance bridge"
COMMANDS = (
    Told(
        "bridge latency",
        "performance.bridge.latency",
        "time in the queue; 1 when the target is missed",
        f"{NOUN} latency --duration 30s --percentiles 50,95,99",
        (
            Option("--duration", "how long; default 10s", duration, 10.0, metavar="TIME"),
            Option("--percentiles", "which; default 50,95,99", percents, [50.0, 95.0, 99.0], metavar="LIST"),
            Option("--current", "since the counters were reset, instead of waiting", flag=True),
        ),
        show=_latency,
        wanting=lambda a: not a["met"],
    ),
    Told(
        "bridge configure",
        "performance.bridge.configure",
        "batches, priorities, lazy synchronisation",
        f"{NOUN} configure --batch-size 200 --priority-weights high:3,medium:2,low:1",
        (
            Option("--batch-size", "items handed on at once, at most", count, metavar="N"),
            Option("--priority-levels", "1 to 3", count, metavar="N"),
            Option("--priority-weights", "as high:3,medium:2,low:1", weights, metavar="LIST"),
            Option("--lazy-sync", "true or false: may a batch wait to fill", switch, metavar="BOOL"),
            Option("--lazy-sync-threshold", "for how long, as 500us", duration, metavar="TIME"),
            Option("--sync-threshold", "another name for --lazy-sync-threshold", duration, metavar="TIME"),
        ),
    ),
    Told(
        "bridge validate",
        "performance.bridge.validate",
        "send items through the queue, and compare with targets",
        f"{NOUN} validate --target-latency 1ms --target-throughput 10000",
        (
            Option("--target-latency", "default: target_latency_ns of the configuration", duration, metavar="TIME"),
            Option("--target-throughput", "items a second; default 10000", count, 10_000, metavar="N"),
        ),
        show=_validate,
        wanting=lambda a: not a["ok"],
    ),
    Told(
        "bridge queue-depth",
        "performance.bridge.queue_depth",
        "what waits, by priority",
        f"{NOUN} queue-depth",
        show=_depth,
        wanting=lambda a: not a["running"],
    ),
    Told(
        "bridge restart",
        "performance.bridge.restart",
        "stop and start the queue, when it is empty, with fresh counters",
        f"{NOUN} restart",
        show=lambda a: "running" if a["running"] else "stopped",
    ),
)
