"""``python -m asv_benchmarks.peers AREA [--quick] [--json FILE]``."""

import argparse
import importlib
import sys
from pathlib import Path

AREAS = ("core", "index", "meaning", "mount", "node", "node_costs", "node_crowd")


def main() -> int:
    parser = argparse.ArgumentParser("asv_benchmarks.peers", description="VexFS beside its peers, on the same work.")
    parser.add_argument("area", choices=AREAS)
    parser.add_argument("--quick", action="store_true", help="less work: a look, not a measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    args = parser.parse_args()
    report = importlib.import_module(f"asv_benchmarks.peers.{args.area}").run(args.quick)
    print(report.text())
    if args.json:
        report.save(args.json)
    return 0 if report.met else 1


if __name__ == "__main__":
    sys.exit(main())
