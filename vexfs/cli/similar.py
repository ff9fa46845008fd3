"""``vexctl similar``: files like another one."""

import argparse
from typing import Any

from vexfs.cli import reach
from vexfs.cli.search import add_options, answered
from vexfs.search.conditions import where_of


def register(subparsers: Any) -> None:
    """Add ``similar``."""
    parser = subparsers.add_parser(
        "similar", help="find files like another one",
        description="Find files like one in the volume, nearest first.  Status 1: nothing was found.",
        epilog="Example: vexctl similar /coffee/roasts.md --k 5",
    )  # fmt: skip
    parser.add_argument("path", metavar="FILE", help="a file of the volume")
    add_options(parser)
    parser.set_defaults(run=similar)


def similar(args: argparse.Namespace) -> int:
    """Run ``vexctl similar``."""
    with reach.of(args) as node:
        told = node.call(
            "search.similar", path=args.path, k=args.k, under=args.under, where=where_of(args.where), wait_s=args.wait
        ).result()
    return answered(args, told)
