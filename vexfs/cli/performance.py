"""``vexctl performance``: measure a node, watch it, tune it."""

from typing import Any

from vexfs.cli import performance_bridge, performance_load, performance_pools, performance_simd, performance_stack, told

GROUPS = {
    "memory-pools": "the memory pools: figures, counts, workload",
    "simd": "the distance kernels: what there is, right and fast",
    "stack": "stack use of the core's operations",
    "bridge": "the queue between frontends and storage",
}


def register(subparsers: Any) -> None:
    """Add ``performance`` and what is below it."""
    parser = subparsers.add_parser(
        "performance",
        help="measure, watch, validate and tune a node",
        description="Measure a node under real work, watch its parts, and tune them.",
        epilog="Example: vexctl performance validate --quick --json",
    )
    modules = (performance_pools, performance_simd, performance_stack, performance_bridge, performance_load)
    told.register(parser, [command for module in modules for command in module.COMMANDS], GROUPS)
