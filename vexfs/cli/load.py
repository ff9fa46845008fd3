"""``vexctl import``: vectors from a file of the host into an index."""

import argparse
from pathlib import Path
from typing import Any

from vexfs.cli import output, reach
from vexfs.cli.index import METRICS

EPILOG = """\
Arrays (.npy, .fvecs, .bvecs) give ids by number; tables (.parquet, .jsonl) have a column of ids, one of vectors, and
the other columns become attributes.

Examples:
  vexctl import papers.npy /papers --volume notes.vex
  vexctl import papers.parquet /papers --vector-column embedding --id-column doi
  vexctl import big.fvecs /big --rows-in disk
"""


def register(subparsers: Any) -> None:
    """Add ``import``."""
    parser = subparsers.add_parser(
        "import", help="vectors from .npy, .fvecs, Parquet or JSON lines into an index",
        description="Put the vectors of a file into the index of a directory, which is made when there is none.",
        epilog=EPILOG,
    )  # fmt: skip
    parser.add_argument("file", metavar="FILE", help="on this host")
    parser.add_argument("path", metavar="DIR", help="a directory of the volume")
    parser.add_argument("--metric", choices=METRICS, help="of a new index; default: cosine")
    parser.add_argument("--dtype", choices=("f32", "f16", "bf16", "i8"), help="of a new index; default: f32")
    parser.add_argument("--rows-in", choices=("memory", "disk"), help="of a new index; default: memory")
    parser.add_argument("--id-column", metavar="NAME", help="default: id")
    parser.add_argument("--vector-column", metavar="NAME", help="default: vector, embedding")
    parser.add_argument("--text-column", metavar="NAME", help="becomes the content of the files")
    reach.add_options(parser)
    parser.set_defaults(run=load)


def load(args: argparse.Namespace) -> int:
    """Run ``vexctl import``."""
    with reach.of(args) as node:
        told = node.call(
            "index.load", file=str(Path(args.file).absolute()), path=args.path, metric=args.metric, dtype=args.dtype,
            rows_in=args.rows_in, id_column=args.id_column, vector_column=args.vector_column,
            text_column=args.text_column,
        ).result(f"importing {Path(args.file).name}", "records")  # fmt: skip
    rate = told["records"] / max(told["seconds"], 1e-9)
    spent = output.duration(told["seconds"])
    lines = [f"{told['records']:,} records into {output.printable(told['path'])} in {spent}, {rate:,.0f} a second"]
    lines += [f"left out: {output.printable(name)}, of {count:,} records: is no string, number or boolean"
              for name, count in told["left_out"].items()]  # fmt: skip
    output.emit(args, told, lambda: "\n".join(lines))
    return 0
