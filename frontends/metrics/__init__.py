"""Metrics and health over HTTP: ``/metrics`` for Prometheus on one port, ``/health``, ``/ready`` and
``/detailed-metrics`` on another.

A small server of its own, in one thread: a scrape neither needs nor disturbs the API's workers, and a node whose API
is overloaded still says so.
"""

from vexfs.frontends.metrics.endpoints import Endpoints
from vexfs.frontends.metrics.server import Server
from vexfs.frontends.metrics.service import health_service, metrics_service

__all__ = ["Endpoints", "Server", "health_service", "metrics_service"]
