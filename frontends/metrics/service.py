"""Metrics and health as services of a node; both read the node's one history."""

from typing import Any

from vexfs.frontends.metrics.endpoints import Endpoints
from vexfs.frontends.metrics.server import Address, Server

from vexfs.config import Settings
from vexfs.node import Node
from vexfs.node.watch import history_of


class MetricsService:
    """One of the two ports of a node.

    Parameters
    ----------
    node : Node
    name : {"metrics", "health"}
    """

    def __init__(self, node: Node, name: str) -> None:
        self._node = node
        self._name = name
        monitoring = node.settings.monitoring
        bind = monitoring.metrics_bind if name == "metrics" else monitoring.health_check_bind
        self._address: Address = (bind.host, bind.port)
        self._server: Server | None = None

    def prepare(self) -> None:
        """The ports are above 1024 by default; lower ones need the right to bind them."""

    def start(self) -> None:
        """Bind, and answer from now on."""
        endpoints = Endpoints(history_of(self._node))
        address = {self._name: self._address}
        self._server = Server(endpoints, address.get("metrics"), address.get("health"))
        self._server.start()

    def stop(self, timeout_s: float) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.stop()

    def failure(self) -> str | None:
        """Why nobody is answered any more."""
        return None if self._server is None else self._server.failure()

    def reload(self, settings: Settings) -> None:
        """Take over how often, and whether, rates are measured."""
        history_of(self._node)

    def describe(self) -> dict[str, Any]:
        """Where it answers."""
        host, port = self._server.addresses[self._name] if self._server else self._address
        return {"address": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"}


def metrics_service(node: Node) -> MetricsService:
    """The port that Prometheus scrapes."""
    return MetricsService(node, "metrics")


def health_service(node: Node) -> MetricsService:
    """The port that load balancers and people ask."""
    return MetricsService(node, "health")
