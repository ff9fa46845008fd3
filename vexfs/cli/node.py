"""``vexctl node``: how the running node is, and its end."""

import argparse
from typing import Any

from vexfs.cli import output, reach
from vexfs.errors import EXIT_WANTING


def register(subparsers: Any) -> None:
    """Add ``node`` and what is below it."""
    parser = subparsers.add_parser(
        "node", help="how the node is; stop it", description="The running node as a whole.",
        epilog="Example: vexctl node status",
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    status = actions.add_parser("status", help="who it is and how its services are; 1 when one has failed",
                                description="Show how the node and its services are.",
                                epilog="Example: vexctl node status --json")  # fmt: skip
    status.set_defaults(run=status_of)
    stop = actions.add_parser("stop", help="end it cleanly", description="End the node with everything on disk.",
                              epilog="Example: vexctl node stop")  # fmt: skip
    stop.set_defaults(run=stop_of)
    for each in (status, stop):
        each.add_argument("--socket", metavar="PATH", help="control socket of the node")


def status_of(args: argparse.Namespace) -> int:
    """Run ``node status``."""
    with reach.Reach(socket=args.socket) as node:
        told = node.call("node.status").result()
    output.emit(args, told, lambda: _text(told))
    return EXIT_WANTING if any(s["state"] != "serving" for s in told["services"].values()) else 0


def _text(told: dict[str, Any]) -> str:
    shown = {key: told[key] for key in ("node_id", "cluster_name", "version", "pid", "volume", "cluster")}
    shown |= {"pid": str(told["pid"]), "up": output.duration(told["uptime_s"])}
    rows = [
        (name, s["state"], s["fault"] or ", ".join(f"{k}={v}" for k, v in s.items() if k not in _STATE))
        for name, s in told["services"].items()
    ]
    rows += [(name, "not served", why) for name, why in told["not_served"].items()]
    return output.fields(shown) + "\n\n" + output.table(("service", "state", "about"), rows)


_STATE = ("state", "fault", "failures")


def stop_of(args: argparse.Namespace) -> None:
    """Run ``node stop``."""
    with reach.Reach(socket=args.socket) as node:
        told = node.call("node.stop").result()
    output.emit(args, told, "the node is stopping")
