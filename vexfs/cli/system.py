"""``vexctl system``: the host against what VexFS wants."""

import argparse
import os
from pathlib import Path
from typing import Any

import attrs

from vexfs.cli import output, told
from vexfs.cli.told import OUTPUT, Option, Told
from vexfs.errors import NotPermitted
from vexfs.observe import host

UNDO = "/var/lib/vexfs/undo-tune.sh"


def register(subparsers: Any) -> None:
    """Add ``system`` and what is below it."""
    parser = subparsers.add_parser(
        "system",
        help="check and tune the host",
        description="Compare the host with what VexFS wants, and set it so.",
        epilog="Example: vexctl system check",
    )
    told.register(parser, COMMANDS, {})


def check(_: argparse.Namespace) -> dict[str, Any]:
    """Every check of the host."""
    rows = host.report()
    return {"ok": all(row["ok"] or row["optional"] for row in rows), "checks": rows}


def _checked(answer: dict[str, Any]) -> str:
    rows = [
        (r["name"], "ok" if r["ok"] else "could be better" if r["optional"] else "WANTING", r["value"])
        for r in answer["checks"]
    ]
    lines = [output.table(("host", "result", "is"), rows)]
    for row in answer["checks"]:
        if not row["ok"]:
            lines.append(f"{row['name']}: {row['wanted']}, because {row['why']}\n    {row['remedy']}")
    return "\n".join(lines)


def tune(args: argparse.Namespace) -> dict[str, Any]:
    """What would be set; with ``--apply``, it is, and a script that undoes it is written first."""
    wanted = host.changes()
    answer: dict[str, Any] = {"changes": [attrs.asdict(c) for c in wanted], "applied": [], "failed": [], "undo": None}
    if args.apply and wanted:
        undo = Path(args.undo_file)
        if undo.exists():
            raise NotPermitted.at("exists: it undoes an earlier tuning; run it or move it away first", undo)
        if closed := [change.path for change in wanted if not os.access(change.path, os.W_OK)]:
            raise NotPermitted.at("only root sets this; run: sudo vexctl system tune --apply", closed[0])
        try:
            done, failed = host.apply(wanted, undo)
        except OSError as error:
            told = f"cannot be written ({error.strerror}), and so nothing was set; --undo-file names another place"
            raise NotPermitted.at(told, undo) from None
        answer |= {
            "applied": [c.name for c in done],
            "failed": [{"name": c.name, "reason": why} for c, why in failed],
            "undo": str(undo),
        }
    return answer


def _tuned(answer: dict[str, Any]) -> str:
    if not answer["changes"]:
        return "the host is as VexFS wants it"
    lines = [f"{c['command']}    # {c['name']}: {c['before']} now" for c in answer["changes"]]
    if answer["undo"] is None:
        return "\n".join([*lines, "run these as root, or: vexctl system tune --apply"])
    lines = [f"{name}: set" for name in answer["applied"]] + [f"{f['name']}: {f['reason']}" for f in answer["failed"]]
    return "\n".join([*lines, f"to undo: sh {answer['undo']}"])


COMMANDS = (
    Told(
        "check",
        "",
        "what of the host differs from what VexFS wants; 1 when it matters",
        "system check",
        (OUTPUT,),
        show=_checked,
        run=check,
        wanting=lambda a: not a["ok"],
    ),
    Told(
        "tune",
        "",
        "the commands that set it so; with --apply, they are done",
        "system tune --apply",
        (
            Option("--apply", "do it, as root", flag=True, local=True),
            Option(
                "--undo-file",
                f"a script that sets everything back; default {UNDO}",
                default=UNDO,
                local=True,
                metavar="FILE",
            ),
        ),
        show=_tuned,
        run=tune,
        wanting=lambda a: bool(a["failed"]),
    ),
)
