"""``cluster.*``: the nodes that serve one namespace.  This version has one: the node that answers."""

from typing import Any

from vexfs.node.node import Node, alone
from vexfs.node.verbs.terms import parts_of
from vexfs.observe import health

ALONE = "this version has no cluster: the node works alone, and keeps every change once"


@Node.verb("cluster.status")
def status(node: Node) -> dict[str, Any]:
    """Whether there is a cluster, and how it stands."""
    asked, ready = node.settings.cluster.enabled, health.ready(parts_of(node))["ready"]
    return {
        "name": node.settings.general.cluster_name,
        "asked_for": asked,
        "clustered": False,
        "nodes": 1,
        "ready": int(ready),
        "ok": ready and not asked,
        "note": alone(node.settings) if asked else ALONE,
    }


@Node.verb("cluster.nodes")
def nodes(node: Node) -> list[dict[str, Any]]:
    """Every node, which is this one."""
    described = node.describe()
    ready = health.ready(parts_of(node))
    return [
        {
            "node_id": described["node_id"],
            "self": True,
            "ready": ready["ready"],
            "uptime_s": described["uptime_s"],
            "volume": str(node.volume.directory),
            "reasons": ready["reasons"],
        }
    ]


@Node.verb("cluster.health")
def cluster_health(node: Node) -> dict[str, Any]:
    """Whether every node serves, and what a cluster that was asked for lacks."""
    ready = health.ready(parts_of(node))
    reasons = [*ready["reasons"], *([alone(node.settings)] if node.settings.cluster.enabled else [])]
    return {"ok": not reasons, "reasons": reasons, "checks": ready["checks"]}
