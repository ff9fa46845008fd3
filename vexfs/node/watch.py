"""What a node observes about itself: one history for metrics, health and the performance verbs."""

import threading

from vexfs.node.node import Node
from vexfs.observe.history import History
from vexfs.observe.parts import Parts

_making = threading.Lock()
_NAME = "history"


def history_of(node: Node) -> History:
    """The running history of `node`, under the settings that are in force now."""
    with _making:
        history: History | None = node.extras.get(_NAME)
        if history is None or history.parts.volume is not node.volume:
            if history is not None:
                history.stop()
            history = History(_parts(node))
            _adopt(node, history)
            history.start()
            node.extras[_NAME] = history
    _adopt(node, history)
    return history


def _parts(node: Node) -> Parts:
    def switches() -> dict[str, bool]:
        chosen = node.settings.performance
        return {
            "tiered_memory_pools": chosen.enable_tiered_memory_pools,
            "avx2_acceleration": chosen.enable_avx2_acceleration,
            "stack_optimization": chosen.enable_stack_optimization,
            "enhanced_bridge": chosen.enable_enhanced_bridge,
        }

    return Parts(node.volume, node.simd, switches, node.settings.general.node_id, node.hindrance)


def _adopt(node: Node, history: History) -> None:
    monitoring = node.settings.monitoring
    history.interval_s = monitoring.metrics_collection_interval
    history.enabled = monitoring.enable_performance_metrics
