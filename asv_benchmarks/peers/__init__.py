"""VexFS beside what a user would pick instead, on the same work in one run.

``python -m asv_benchmarks.peers AREA [--quick] [--json FILE]``; each area is a module with ``run(quick) -> Report``.
"""
