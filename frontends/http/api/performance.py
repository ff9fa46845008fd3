"""``/v1/performance``: what the mechanisms of the core tell of themselves."""

from typing import Any

from vexfs.frontends.http.message import Problem, Reply, Request
from vexfs.frontends.http.route import WATCH, Answer, Route

from vexfs._core.simd import capabilities, levels
from vexfs.node import Node

Figures = dict[str, Any]


def pools(node: Node) -> Figures:
    """Memory pools."""
    return {"counts": list(node.pool.counts), "options": list(node.pool.options), **node.pool.stats()}


def simd(node: Node) -> Figures:
    """Distance kernels."""
    kernels = node.simd
    return {"level": kernels.level, "batch_size": kernels.batch_size, "levels": levels(),
            "capabilities": capabilities(), "counters": kernels.counters()}  # fmt: skip


def stack(node: Node) -> Figures:
    """Stack use."""
    frames = node.frames
    return {"limit_bytes": frames.limit_bytes, "heap_threshold": frames.heap_threshold,
            "monitoring": frames.monitoring, **frames.stats()}  # fmt: skip


def bridge(node: Node) -> Figures:
    """The queue between frontends and storage."""
    found = node.bridge
    if found is None:
        return {"enabled": False}
    return {"enabled": True, "running": found.running, "settings": found.settings, **found.stats(),
            "latency_ns": {f"p{percent:g}": value for percent, value in found.percentiles().items()}}  # fmt: skip


def filesystem(node: Node) -> Figures:
    """Files, caches, commits."""
    figures: Figures = node.volume.filesystem.status()
    return figures


def http(node: Node) -> Figures:
    """Requests of the API itself."""
    return {name: each.service.figures() for name, each in node.services.items() if hasattr(each.service, "figures")}


PARTS = {"pools": pools, "simd": simd, "stack": stack, "bridge": bridge, "filesystem": filesystem, "http": http}


def figures(node: Node) -> Figures:
    """Every part's figures."""
    return {name: part(node) for name, part in PARTS.items()}


def strings(value: Any) -> Any:
    """Keys that are numbers, as histograms have them, become strings, as JSON has them."""
    if isinstance(value, dict):
        return {str(key): strings(each) for key, each in value.items()}
    return value


def everything(request: Request) -> Reply:
    """GET: all parts."""
    return request.reply(strings(figures(request.node)))


def one(request: Request) -> Reply:
    """GET: one part."""
    name = request.path.strip("/")
    if name not in PARTS:
        raise Problem(404, f"there is no part {name!r}; parts are {', '.join(PARTS)}")
    return request.reply(strings(PARTS[name](request.node)))


def routes(node: Node) -> list[Route]:
    """Of figures."""
    found = {200: Answer(about="Figures by name", kind=Figures)}
    return [
        Route(method="GET", path="/v1/performance", about="Figures of every part", handle=everything, scope=WATCH,
              answers=found, tag="performance"),
        Route(method="GET", path="/v1/performance/{part}", about="Figures of one part", handle=one, scope=WATCH,
              answers=found, tag="performance", tail_about=f"One of {', '.join(PARTS)}."),
    ]  # fmt: skip
