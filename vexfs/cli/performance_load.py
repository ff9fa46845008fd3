"""``vexctl performance validate``, ``baseline``, ``regression-test``, ``diagnose`` and their like."""

import argparse
import os
from typing import Any

from vexfs.cli import mail, output, reach
from vexfs.cli.progress import Progress
from vexfs.cli.quantities import count, duration, share
from vexfs.cli.told import OUTPUT, Option, Told, read
from vexfs.errors import Unreachable, UsageError
from vexfs.observe import regression


def _figure(value: Any) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _validation(answer: dict[str, Any], width: int | None = None) -> str:
    rows = [
        (name, "ok" if c["ok"] else "MISSED", _figure(c["measured"])[:48], _figure(c["target"]))
        for name, c in answer["checks"].items()
    ]
    lines = [output.table(("check", "result", "measured", "target"), rows, width), ""]
    if "regression" in answer:
        lines += [_comparison(answer["regression"], width), ""]
    if "post_update" in answer:
        waiting = answer["post_update"]["settings_waiting"]
        lines.append(f"kernels compute {'what they should' if answer['post_update']['kernels'] else 'WRONGLY'}; "
                     f"{', '.join(waiting) or 'no setting'} waits for a restart")  # fmt: skip
    lines += answer["reasons"]
    lines.append("overall success" if answer["overall_success"] else f"{len(answer['reasons'])} things are wanting")
    if "emailed_to" in answer:
        lines.append(f"sent to {answer['emailed_to']}")
    if "mail_fault" in answer:
        lines.append(f"not sent: {answer['mail_fault']}")
    return "\n".join(lines)


def _makes_sense(args: argparse.Namespace) -> None:
    """What can be told before a minute of work: options that need each other, files that are no baselines."""
    if args.quick and args.comprehensive:
        raise UsageError("--quick and --comprehensive exclude each other")
    if args.regression_check and not args.baseline:
        raise UsageError("--regression-check compares with a baseline: give --baseline FILE")
    if args.baseline:
        _baseline(args.baseline)


def _validated(args: argparse.Namespace, answer: dict[str, Any]) -> dict[str, Any]:
    """Compare with a baseline and send the report by mail, where that is asked for."""
    if args.baseline:
        compared = regression.compare(_baseline(args.baseline), _measured(args))
        answer["regression"] = compared
        if args.regression_check:
            answer["reasons"] += [
                f"regression: {name} is {-compared['figures'][name]['change']:.1%} worse than the baseline"
                for name in compared["regressions"]
            ]
            answer["overall_success"] = not answer["reasons"]
    if args.email_report:
        found = "success" if answer["overall_success"] else "WANTING"
        subject = f"VexFS validation of {os.uname().nodename}: {found}"
        try:
            mail.send(args.email_report, subject, _validation(answer, 0))  # as wide as it is, whatever the terminal
            answer["emailed_to"] = args.email_report
        except Unreachable as error:  # what was found is told here all the same
            answer["mail_fault"] = str(error)
    return answer


def _baseline(path: str) -> dict[str, Any]:
    return regression.checked(read(path, "figures"), path)


def _measured(args: argparse.Namespace) -> dict[str, Any]:
    with reach.of(args) as node, Progress("measuring", unit="rounds") as bar:
        call = node.call("performance.baseline")
        for step in call:
            bar(step["done"], step.get("total"))
        answer: dict[str, Any] = call.result()
        return answer


def _baseline_text(answer: dict[str, Any]) -> str:
    rows = [
        (name, len(f["samples"]), f"{sorted(f['samples'])[len(f['samples']) // 2]:,.1f}", f["unit"])
        for name, f in answer["figures"].items()
    ]
    lines = [output.table(("figure", "samples", "median", "unit"), rows)]
    return "\n".join(lines + [f"{kind} was not measured: {why}" for kind, why in answer["skipped"].items()])


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Compare a baseline with another, or with what is measured now."""
    before = _baseline(args.baseline)
    return regression.compare(before, _baseline(args.current) if args.current else _measured(args), args.threshold)


def _comparison(answer: dict[str, Any], width: int | None = None) -> str:
    rows = [
        (name, f["verdict"], f"{f['change']:+.1%}", _figure(f["before"]), _figure(f["now"]), f["unit"], f"{f['p']:.2g}")
        for name, f in answer["figures"].items()
    ]
    heads = ("figure", "verdict", "better by", "before", "now", "unit", "p")
    lines = [output.table(heads, rows, width), *answer["notes"]]
    worse = ", ".join(answer["regressions"])
    return "\n".join(
        [*lines, f"worse: {worse}" if worse else f"nothing is worse by more than {answer['threshold']:.0%}"]
    )


def _diagnosis(answer: dict[str, Any]) -> str:
    if not answer["findings"]:
        return "nothing stands out"
    lines = []
    for row in answer["findings"]:
        lines.append(f"{row['severity']:<8} {row['part']}: {row['message']}")
        if row["remedy"]:
            lines.append(f"         {row['remedy']}")
    return "\n".join(lines)


def _bottleneck(answer: dict[str, Any]) -> str:
    rows = [(name, f"{s:.3f}", f"{answer['shares'].get(name, 0):.1%}") for name, s in answer["parts_s"].items()]
    lines = [output.table(("where", "seconds", "share"), rows)]
    slow = [
        (name, r["count"], f"{r['mean_ns'] / 1e3:.1f}", f"{r.get('p99_ns', 0) / 1e3:.1f}", f"{r['seconds']:.3f}")
        for name, r in answer["by_operation"].items()
    ]
    lines += ["", output.table(("operation", "count", "mean us", "p99 us", "seconds"), slow)]
    lines += [
        "",
        *(f"{name} cache: {c['hit_rate']:.1%} hits, {c['misses']:,} misses" for name, c in answer["caches"].items()),
    ]
    driven = "work that this command made" if answer["driven"] else "the work at hand"
    return "\n".join(
        [
            *lines,
            f"over {output.duration(answer['seconds'])} of {driven}",
            f"bottleneck: {answer['bottleneck'] or 'none'}: {answer['remedy']}",
        ]
    )


def _update(answer: dict[str, Any]) -> str:
    lines = [f"{t['name']}: {'kept' if t['kept'] else 'taken back'}: {t['reason']}" for t in answer["trials"]]
    if not lines:
        lines = [
            f"would try: {', '.join(answer['proposed']) or 'nothing'}" if "overall" not in answer else "nothing to try"
        ]
    lines += [f"{key} = {value}" for key, value in answer["kept"].items()]
    if "rolled_back" in answer:
        lines.append(f"all was taken back: {answer['rolled_back']}")
    elif answer["kept"] and not answer["written"]:
        lines.append("there is no configuration file to write that to: it holds until the volume is closed")
    if answer["backup"]:
        lines.append(f"the file as it was: {answer['backup']}")
    if answer["written"]:
        lines.append(f"written to {answer['written']}")
    return "\n".join(lines)


NOUN = "performance"
COMMANDS = (
    Told(
        "diagnose",
        "performance.diagnose",
        "what stands out, worst first; 1 when something is wrong",
        f"{NOUN} diagnose --comprehensive --output diagnosis.json",
        (Option("--comprehensive", "also under load, and the host", flag=True), OUTPUT),
        show=_diagnosis,
        wanting=lambda a: not a["healthy"],
    ),
    Told(
        "baseline",
        "performance.baseline",
        "measure every figure several times, for regression-test",
        f"{NOUN} baseline --output baseline.json",
        (OUTPUT, Option("--rounds", "samples of each figure; default 9", count, 9, metavar="N")),
        show=_baseline_text,
    ),
    Told(
        "regression-test",
        "",
        "has a figure got worse; 1 when one has",
        f"{NOUN} regression-test --baseline baseline.json --threshold 5%",
        (
            Option("--baseline", "what `baseline --output` wrote", required=True, local=True, metavar="FILE"),
            Option("--current", "another such file; by default, the node is measured now", local=True, metavar="FILE"),
            Option("--threshold", "how much worse matters; default 5%%", share, 0.05, local=True, metavar="SHARE"),
            OUTPUT,
        ),
        show=_comparison,
        run=compare,
        wanting=lambda a: not a["ok"],
        reaches=True,
    ),
    Told(
        "bottleneck-analysis",
        "performance.bottleneck",
        "where the time of requests goes",
        f"{NOUN} bottleneck-analysis --detailed",
        (
            Option("--duration", "how long; default 10s", duration, 10.0, metavar="TIME"),
            Option("--detailed", "every operation", flag=True),
            OUTPUT,
        ),
        show=_bottleneck,
    ),
    Told(
        "validate",
        "performance.validate",
        "real work on the live volume against the targets; 1 when one is missed",
        f"{NOUN} validate --comprehensive --json",
        (
            Option("--quick", "a second of each load", flag=True),
            Option("--comprehensive", "ten seconds of each load", flag=True),
            Option("--baseline", "also show how it compares with this file", local=True, metavar="FILE"),
            OUTPUT,
            Option("--email-report", "send the report there, by mail", mail.address, local=True, metavar="ADDRESS"),
            Option("--post-update", "also every kernel's results, and settings that wait for a restart", flag=True),
            Option("--regression-check", "fail on what is worse than the --baseline", flag=True, local=True),
        ),
        show=_validation,
        shape=_validated,
        check=_makes_sense,
        wanting=lambda a: not a["overall_success"] or "mail_fault" in a,
    ),
    Told(
        "update-config",
        "performance.update_config",
        "try what the workload suggests, keep what helps",
        f"{NOUN} update-config --auto-tune --backup-current",
        (
            Option("--auto-tune", "try, measure, keep or take back", flag=True),
            Option("--workload-analysis", "record the workload first", flag=True),
            Option("--backup-current", "copy the configuration file first", flag=True),
            Option("--duration", "how long to record; default 5s", duration, 5.0, metavar="TIME"),
        ),
        show=_update,
    ),
)
