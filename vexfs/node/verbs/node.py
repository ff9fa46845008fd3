"""``node.*``: the node as a whole."""

from typing import Any

from vexfs.node import verb as verbs
from vexfs.node.node import Node
from vexfs.version import __version__


@Node.verb("node.status")
def status(node: Node) -> dict[str, Any]:
    """Who the node is and how its parts are."""
    return {"version": __version__, **node.describe()}


@Node.verb("node.verbs")
def names(node: Node) -> list[str]:
    """Every verb that the node knows."""
    return verbs.names()


@Node.verb("node.stop")
def stop(node: Node) -> dict[str, Any]:
    """End the node cleanly, as SIGTERM does."""
    node.stop()
    return {"stopping": True}
