"""``vexctl performance stack``."""

import argparse
from typing import Any

from vexfs.cli import output
from vexfs.cli.quantities import count, duration, switch
from vexfs.cli.told import OUTPUT, Option, Told, read


def _usage(answer: dict[str, Any]) -> str:
    plain = {key: value for key, value in answer.items() if key != "operations"}
    if "operations" not in answer:
        return output.fields(plain)
    rows = [
        (name, row["count"], row["high_water"], f"{row['mean_bytes']:.0f}", row["violations"])
        for name, row in sorted(answer["operations"].items(), key=lambda item: -item[1]["high_water"])
    ]
    return (
        output.fields(plain) + "\n\n" + output.table(("operation", "count", "most bytes", "mean", "violations"), rows)
    )


def analyze(args: argparse.Namespace) -> dict[str, Any]:
    """Operations of a recording that went above a threshold."""
    recorded = read(args.input, "operations")
    limit = int(recorded.get("limit_bytes", 3072))
    threshold = args.threshold if args.threshold is not None else limit
    above = {name: row["high_water"] for name, row in recorded["operations"].items() if row["high_water"] > threshold}
    room = {name: limit - row["high_water"] for name, row in recorded["operations"].items()}
    deepest = max(recorded["operations"], key=lambda name: recorded["operations"][name]["high_water"], default=None)
    return {
        "ok": not above,
        "threshold_bytes": threshold,
        "limit_bytes": limit,
        "above": above,
        "deepest": deepest,
        "room_bytes": min(room.values(), default=limit),
    }


def _analysis(answer: dict[str, Any]) -> str:
    lines = [f"{name} used {n} bytes" for name, n in answer["above"].items()] or ["no operation went above"]
    lines[0] = f"{lines[0]} (threshold {answer['threshold_bytes']} bytes)"
    if answer["deepest"]:
        lines.append(f"the deepest is {answer['deepest']}; {answer['room_bytes']} bytes are left under the limit")
    return "\n".join(lines)


def _violations(answer: dict[str, Any]) -> str:
    if "operations" not in answer:
        return str(answer["count"])
    if not answer["count"]:
        return f"none: no operation used more than {answer['limit_bytes']} bytes"
    return output.table(("operation", "violations"), answer["operations"].items())


def _row(row: dict[str, Any]) -> str:
    return (
        f"{row['second']:6.1f} s  {row['operations_seen']:10,} operations  deepest {row['high_water_bytes']} bytes  "
        f"{row['violations']} violations"
    )


NOUN = "performance stack"
COMMANDS = (
    Told(
        "stack monitor",
        "performance.stack.monitor",
        "watch stack use; peaks start anew",
        f"{NOUN} monitor --duration 60s --output stack.json",
        (
            Option("--duration", "how long; default 60s", duration, 60.0, metavar="TIME"),
            OUTPUT,
            Option("--real-time", "a line each second", flag=True),
        ),
        show=_usage,
        live=_row,
        wanting=lambda a: a["violations"] > 0,
    ),
    Told(
        "stack analyze",
        "",
        "what a recording says",
        f"{NOUN} analyze --input stack.json --threshold 2048",
        (
            Option("--input", "what `monitor --output` wrote", required=True, local=True, metavar="FILE"),
            Option("--threshold", "bytes; default the limit", count, local=True, metavar="BYTES"),
        ),
        show=_analysis,
        run=analyze,
        wanting=lambda a: not a["ok"],
    ),
    Told(
        "stack configure",
        "performance.stack.configure",
        "set limit, threshold, monitoring",
        f"{NOUN} configure --limit 3072",
        (
            Option("--limit", "bytes that one operation may use", count, metavar="BYTES"),
            Option("--heap-threshold", "scratch above this comes from the pools", count, metavar="BYTES"),
            Option("--monitoring-enabled", "true or false", switch, metavar="BOOL"),
        ),
        show=_usage,
    ),
    Told(
        "stack violations",
        "performance.stack.violations",
        "operations that went deeper than the limit; 1 when there are",
        f"{NOUN} violations --count",
        (Option("--count", "only the number", flag=True, local=True),),
        show=_violations,
        shape=lambda args, a: {"count": a["count"]} if args.count else a,
        wanting=lambda a: a["count"] > 0,
    ),
    Told(
        "stack usage",
        "performance.stack.usage",
        "stack use, by operation",
        f"{NOUN} usage --current",
        (Option("--current", "of all together only", flag=True),),
        show=_usage,
    ),
    Told(
        "stack clear-violations",
        "performance.stack.clear",
        "forget violations and peaks",
        f"{NOUN} clear-violations",
        show=lambda a: f"{a['cleared']} violations forgotten",
    ),
)
