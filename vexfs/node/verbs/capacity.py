"""``capacity.*``: what this node can do, and whether that is the right amount."""

from typing import Any

from vexfs.node.node import Node
from vexfs.node.verbs.terms import Steps, number, parts_of, seconds, whole
from vexfs.node.watch import history_of
from vexfs.observe import capacity, workload
from vexfs.observe.health import spread
from vexfs.observe.performance import LOADS


@Node.verb("capacity.measure")
def measure(node: Node, duration: float = 3.0) -> Steps:
    """Operations a second that this node does, by kind, by a load of each."""
    each_s, found = seconds(duration), {}
    for i, kind in enumerate(LOADS):
        yield {"done": i * each_s, "total": len(LOADS) * each_s, "text": f"{kind} operations"}
        found[kind] = workload.run(parts_of(node), kind, each_s).as_dict()
    return found


@Node.verb("capacity.advise")
def advise(node: Node, nodes: int = 1, window: float = 60.0) -> dict[str, Any]:
    """Scale up, down or stay, from what clients did in the last `window` seconds: the node's own loads do not count."""
    history = history_of(node)
    wanted_s = number(window, "window", 1, 900)
    rates = history.rates(wanted_s, of_clients=True)
    frames = parts_of(node).frames
    response_ms = None
    if frames is not None and rates.filesystem >= 1:
        response_ms = spread(frames.times()).get("p95_ns", 0.0) / 1e6
    told = capacity.advise(rates, response_ms, nodes=whole(nodes, "nodes", 1, 10_000))
    if node.settings.monitoring.enable_performance_metrics and rates.seconds < min(1.0, wanted_s / 2):
        why = "the node has driven loads of its own all the time, or has just started; look again in a minute"
        told |= {"advice": "stay", "reasons": [why]}
    return {**told, "window_s": rates.seconds}
