"""``vexctl cluster``: the nodes that serve one namespace."""

from typing import Any

from vexfs.cli import output, told
from vexfs.cli.told import Told


def register(subparsers: Any) -> None:
    """Add ``cluster`` and what is below it."""
    parser = subparsers.add_parser(
        "cluster",
        help="the nodes that serve one namespace",
        description="The nodes that serve one namespace.",
        epilog="Example: vexctl cluster status",
    )
    told.register(parser, COMMANDS, {})


def _nodes(answer: list[dict[str, Any]]) -> str:
    rows = [
        (n["node_id"], "ready" if n["ready"] else "NOT READY", output.duration(n["uptime_s"]), n["volume"])
        for n in answer
    ]
    return output.table(("node", "state", "up", "volume"), rows)


def _health(answer: dict[str, Any]) -> str:
    rows = [(c["name"], "ok" if c["ok"] else "WANTING", c["detail"]) for c in answer["checks"]]
    return "\n".join([output.table(("check", "result", "detail"), rows), *answer["reasons"]])


COMMANDS = (
    Told(
        "status",
        "cluster.status",
        "whether there is a cluster, and how it stands",
        "cluster status",
        wanting=lambda a: not a["ok"],
    ),
    Told("nodes", "cluster.nodes", "every node", "cluster nodes", show=_nodes),
    Told(
        "health",
        "cluster.health",
        "whether every node serves; 1 when one does not",
        "cluster health",
        show=_health,
        wanting=lambda a: not a["ok"],
    ),
)
