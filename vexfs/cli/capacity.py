"""``vexctl capacity``: how many nodes a load needs, and whether to add or remove some."""

import argparse
from typing import Any

from vexfs.cli import output, reach, told
from vexfs.cli.progress import Progress
from vexfs.cli.quantities import count, duration, factor, share
from vexfs.cli.told import Option, Told
from vexfs.errors import UsageError, VexfsError
from vexfs.observe import capacity
from vexfs.observe.parts import TARGETS

KINDS = ("fuse", "vector", "semantic")


def register(subparsers: Any) -> None:
    """Add ``capacity`` and what is below it."""
    parser = subparsers.add_parser(
        "capacity",
        help="how many nodes a load needs",
        description="Plan nodes for a load, and advise on scaling.",
        epilog="Example: vexctl capacity plan --fuse-ops-per-day 500m --headroom 20%",
    )
    told.register(parser, COMMANDS, {})


def plan(args: argparse.Namespace) -> dict[str, Any]:
    """The nodes that a load needs."""
    wanted = {kind: getattr(args, f"{kind}_ops_per_day") for kind in KINDS}
    per_day = {kind: n for kind, n in wanted.items() if n is not None}
    if not per_day:
        raise UsageError("say how much: --fuse-ops-per-day, --vector-ops-per-day or --semantic-ops-per-day")
    stated = {kind: getattr(args, f"{kind}_per_node") for kind in KINDS}
    can = {kind: n for kind, n in stated.items() if n is not None}
    source = dict.fromkeys(per_day, "the target of a node") | dict.fromkeys(can, "stated")
    if args.nodes_from == "measured":
        with reach.of(args) as node, Progress("measuring", unit="s") as bar:
            call = node.call("capacity.measure", duration=args.duration)
            for step in call:
                bar(step["done"], step.get("total"))
            found = call.result()
        for kind in per_day:
            if kind not in can:
                if found[kind]["reason"]:
                    raise VexfsError(
                        f"the capacity for {kind} operations cannot be measured: {found[kind]['reason']}; "
                        f"state it with --{kind}-per-node"
                    )
                can[kind], source[kind] = found[kind]["per_s"], "measured"
    return {**capacity.plan(per_day, args.headroom, can, args.peak), "capacity_from": source}


def _plan(answer: dict[str, Any]) -> str:
    rows = [
        (
            kind,
            f"{k['per_day']:,.0f}",
            f"{k['peak_per_s']:,.1f}",
            f"{k['node_per_s']:,.0f}",
            answer["capacity_from"][kind],
            f"{k['nodes']:.2f}",
        )
        for kind, k in answer["kinds"].items()
    ]
    table = output.table(("kind", "a day", "at peak, a second", "a node, a second", "from", "nodes"), rows)
    return (
        f"{table}\n{answer['nodes_fractional']:.2f} nodes with {answer['headroom']:.0%} headroom and a peak of "
        f"{answer['peak_factor']:g} times the mean: {answer['nodes']}, or {answer['nodes_to_survive_one_failure']} to "
        "survive the loss of one"
    )


def _advice(answer: dict[str, Any]) -> str:
    return "\n".join([f"scale {answer['advice']}" if answer["advice"] != "stay" else "stay", *answer["reasons"]])


COMMANDS = (
    Told(
        "plan",
        "",
        "the nodes that a load needs",
        "capacity plan --fuse-ops-per-day 500m --vector-ops-per-day 80m --headroom 20%",
        (
            *(Option(f"--{kind}-ops-per-day", "as 500m", count, local=True, metavar="N") for kind in KINDS),
            Option(
                "--headroom", "share of a node that stays free; default 20%%", share, 0.20, local=True, metavar="SHARE"
            ),
            Option(
                "--peak",
                "the busiest time against the mean; default 2x",
                factor,
                capacity.PEAK,
                local=True,
                metavar="FACTOR",
            ),
            Option(
                "--nodes-from",
                "what a node can do: measured now, or stated",
                default="stated",
                local=True,
                choices=("measured", "stated"),
            ),
            *(
                Option(
                    f"--{kind}-per-node",
                    f"operations a second; default {TARGETS[kind]:g}",
                    factor,
                    local=True,
                    metavar="N",
                )
                for kind in KINDS
            ),
            Option("--duration", "of each measurement; default 3s", duration, 3.0, local=True, metavar="TIME"),
        ),
        show=_plan,
        run=plan,
        reaches=True,
    ),
    Told(
        "advise",
        "capacity.advise",
        "scale up, down or stay, from the live figures; 1 for up",
        "capacity advise --nodes 3",
        (
            Option("--nodes", "how many there are; default 1", count, 1, metavar="N"),
            Option("--window", "look back so far; default 60s", duration, 60.0, metavar="TIME"),
        ),
        show=_advice,
        wanting=lambda a: a["advice"] == "up",
    ),
)
