"""``vexfs serve``: run a node."""

import argparse
import logging
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from vexfs.cli import output
from vexfs.config import DEFAULT_FILE, load
from vexfs.errors import ConfigError

EPILOG = f"""\
Examples:
  vexfs serve
  vexfs serve --config {DEFAULT_FILE}
  vexfs serve --set general.data_dir=/srv/vexfs --set general.control_socket=/srv/vexfs/control.sock

SIGHUP reads the configuration again; SIGTERM stops the node with everything on disk.
"""


def register(subparsers: Any) -> None:
    """Add ``serve``."""
    parser = subparsers.add_parser("serve", help="run a node: mount, HTTP, metrics, control socket", epilog=EPILOG)
    parser.add_argument("--config", metavar="FILE", help=f"configuration; default {DEFAULT_FILE} where there is one")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="SECTION.KEY=VALUE", help="before the file"
    )
    parser.set_defaults(run=serve)


def serve(args: argparse.Namespace) -> int:
    """Run a node until a signal ends it."""
    from vexfs.node import Node

    source = args.config or (DEFAULT_FILE if Path(DEFAULT_FILE).exists() else None)
    settings = load(source, overrides=args.overrides)
    source = source and Path(source).absolute()  # it is named to clients that work elsewhere
    node = Node(settings, source=source, overrides=tuple(args.overrides))

    def stop(_number: int, _frame: FrameType | None) -> None:
        node.stop()

    def reload(_number: int, _frame: FrameType | None) -> None:
        node.ask_reload()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, reload)
    try:
        node.run()
    except ConfigError as error:
        if settings.general.log_dir and logging.getLogger("vexfs").handlers:  # else it would stand there twice
            logging.getLogger("vexfs.node").error("%s", error)
        raise
    if args.json:
        output.emit(args, {"node_id": settings.general.node_id, "stopped": True})
        sys.stdout.flush()
    return 0
