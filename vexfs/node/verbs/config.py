"""``config.*``: the settings in force."""

from typing import Any

from vexfs.node.node import Node


@Node.verb("config.show")
def show(node: Node) -> dict[str, Any]:
    """Every key with its value and where that came from."""
    return {
        "file": str(node.source) if node.source else None,
        "keys": node.settings.effective(),
        "needs_restart": [
            {"key": c.key.path, "in_force": c.key.kind.show(c.old), "in_file": c.key.kind.show(c.new)}
            for c in node.waiting
        ],
    }


@Node.verb("config.reload")
def reload(node: Node) -> dict[str, list[str]]:
    """Read the configuration file again."""
    return node.reload()


@Node.verb("config.set")
def change(node: Node, values: dict[str, Any]) -> dict[str, list[str]]:
    """Set keys until the next reload."""
    return node.change(values)
