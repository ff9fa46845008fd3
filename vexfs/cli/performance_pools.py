"""``vexctl performance memory-pools``."""

import argparse
from typing import Any

import attrs

from vexfs._core.pool import TIERS
from vexfs.cli import output
from vexfs.cli.quantities import count, duration, share
from vexfs.cli.told import OUTPUT, Option, Told, read
from vexfs.observe import pools

DURATION = Option("--duration", "how long, as 60s or 5m; default 60s", duration, 60.0, metavar="TIME")


def _status(answer: dict[str, Any]) -> str:
    rows = [
        (
            name,
            t["buffer_bytes"],
            t["capacity"],
            t["in_use"],
            t["high_water"],
            t["acquires"],
            t["misses"],
            f"{t['hit_rate']:.1%}",
        )
        for name, t in answer["tiers"].items()
    ]
    head = "pools on" if answer["enabled"] else "pools OFF"
    head += f", hit rate {answer['hit_rate']:.1%} (target {answer['target']:.0%})"
    if answer["options"]:
        head += f", {', '.join(answer['options'])}"
    return (
        head + "\n" + output.table(("tier", "bytes", "buffers", "in use", "most", "acquires", "misses", "hits"), rows)
    )


def _rates(answer: dict[str, Any]) -> str:
    rows = [(name, f"{rate:.2%}") for name, rate in answer["tiers"].items()]
    rows += [("overall", f"{answer['overall']:.2%}"), ("last seconds", f"{answer['recent']:.2%}")]
    return (
        output.table(("tier", "hit rate"), rows)
        + f"\ntarget {answer['target']:.0%}: {'met' if answer['met'] else 'MISSED'}"
    )


def _latency(answer: dict[str, Any]) -> str:
    rows = [(name, *(row[key] for key in row)) for name, row in answer.items()]
    return output.table(("tier", "samples", "p50 ns", "p95 ns", "p99 ns", "p99.9 ns"), rows)


def _changed(answer: dict[str, Any]) -> str:
    rows = [(tier, answer["before"][tier], answer["after"][tier]) for tier in TIERS]
    text = output.table(("tier", "before", "after"), rows)
    if "target_met" in answer:
        text += f"\n{'meets' if answer['target_met'] else 'does not meet'} the target within the memory there is"
        text += f" ({output.size(answer['size_bytes'])})"
    return text


def _report(answer: dict[str, Any]) -> str:
    rows = [
        (name, t["count"], t["acquires"], t["misses"], t["recycled"], t["high_water"])
        for name, t in answer["tiers"].items()
    ]
    text = output.table(("tier", "buffers", "acquires", "misses", "recycled", "most"), rows)
    return text + f"\nhit rate {answer['hit_rate']:.1%} over {output.duration(answer['duration_s'])}"


def _row(row: dict[str, Any]) -> str:
    used = " ".join(f"{name}={n}" for name, n in row["in_use"].items())
    return (
        f"{row['second']:6.1f} s  {row['acquires_per_s']:10,.0f} acquires/s  {row['hit_rate']:7.2%} hits  in use {used}"
    )


def analyze(args: argparse.Namespace) -> dict[str, Any]:
    """Findings about a recorded workload, and the counts that would serve it."""
    recorded = read(args.input, "tiers")
    load = pools.Workload.from_dict({key: recorded[key] for key in ("duration_s", "tiers", "oversize")})
    target = recorded.get("target", pools.TARGET)
    found = {
        "hit_rate": load.hit_rate,
        "target": target,
        "findings": [attrs.asdict(f) for f in pools.analyse(load, target)],
    }
    if args.recommendations:
        advice = pools.recommend(load, target)
        found["recommendation"] = {
            "counts": dict(zip(TIERS, advice.counts, strict=True)),
            "met": advice.met,
            "predicted_hit_rates": dict(advice.hit_rates),
            "size_bytes": advice.size_bytes,
        }
    return found


def _analysis(answer: dict[str, Any]) -> str:
    lines = [f"{f['severity']:<8} {f['tier'] or 'all':<7} {f['message']}" for f in answer["findings"]] or [
        "nothing stands out"
    ]
    if "recommendation" in answer:
        counts = answer["recommendation"]["counts"]
        words = " ".join(f"--{tier}-buffers {n}" for tier, n in counts.items())
        lines.append(f"vexctl performance memory-pools configure {words}")
    return "\n".join(lines)


NOUN = "performance memory-pools"
COMMANDS = (
    Told(
        "memory-pools status",
        "performance.pools.status",
        "tiers, occupancy, hits",
        f"{NOUN} status",
        show=_status,
        wanting=lambda a: not a["enabled"],
    ),
    Told(
        "memory-pools hit-rates",
        "performance.pools.hit_rates",
        "hit rates; 1 when the target is missed",
        f"{NOUN} hit-rates",
        show=_rates,
        wanting=lambda a: not a["met"],
    ),
    Told(
        "memory-pools allocation-latency",
        "performance.pools.latency",
        "what an acquire takes, by tier",
        f"{NOUN} allocation-latency",
        show=_latency,
    ),
    Told(
        "memory-pools reset",
        "performance.pools.reset",
        "start the counters anew",
        f"{NOUN} reset",
        show=lambda _: "the counters start anew",
    ),
    Told(
        "memory-pools configure",
        "performance.pools.configure",
        "set how many buffers the tiers have",
        f"{NOUN} configure --increase-all 50%",
        (
            Option("--small-buffers", "of 1 KiB", count, metavar="N"),
            Option("--medium-buffers", "of 4 KiB", count, metavar="N"),
            Option("--large-buffers", "of 16 KiB", count, metavar="N"),
            Option("--increase-all", "by so much, as 50%%", share, metavar="SHARE"),
        ),
        show=_changed,
    ),
    Told(
        "memory-pools report",
        "performance.pools.report",
        "record the workload of the pools",
        f"{NOUN} report --duration 5m --output pools.json",
        (DURATION, OUTPUT),
        show=_report,
    ),
    Told(
        "memory-pools analyze",
        "",
        "what a recorded workload says",
        f"{NOUN} analyze --input pools.json --recommendations",
        (
            Option("--input", "what `report --output` wrote", required=True, local=True, metavar="FILE"),
            Option("--recommendations", "also tell which counts would serve it", flag=True, local=True),
        ),
        show=_analysis,
        run=analyze,
        wanting=lambda a: any(f["severity"] == "warning" for f in a["findings"]),
    ),
    Told(
        "memory-pools rebalance",
        "performance.pools.rebalance",
        "give the tiers what the workload asks for, in the same memory",
        f"{NOUN} rebalance --workload-analysis",
        (
            Option("--workload-analysis", "record the workload first, for --duration", flag=True),
            Option("--duration", "how long to record; default 10s", duration, 10.0, metavar="TIME"),
        ),
        show=_changed,
    ),
    Told(
        "memory-pools monitor",
        "performance.pools.monitor",
        "a line of figures each second",
        f"{NOUN} monitor --duration 30s",
        (DURATION,),
        show=lambda a: f"hit rate since the last reset {a['hit_rate']:.1%}",
        live=_row,
    ),
)
