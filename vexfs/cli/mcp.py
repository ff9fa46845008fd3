"""``vexfs mcp``: a volume for agents, on standard input and output."""

import argparse
import os
from typing import Any

import vexfs

HELP = """\
Example: vexfs mcp notes.vex
         vexfs mcp http://127.0.0.1:8080 --token-file token

An agent starts this command itself; in its configuration: {"command": "vexfs", "args": ["mcp", "/srv/notes.vex"]}.
The tools search, read, list and similar only read.  Needs pip install 'vexfs[mcp]'.
"""


def register(subparsers: Any) -> None:
    """Add ``mcp``."""
    parser = subparsers.add_parser("mcp", help="serve a volume to agents (Model Context Protocol)", epilog=HELP)
    parser.add_argument("volume", help="the volume's directory, or the URL of a node")
    parser.add_argument("--key-file", help="of an encrypted volume")
    parser.add_argument("--token-file", help="holds the node's API token")
    parser.set_defaults(run=serve)


def serve(args: argparse.Namespace) -> int:
    """Serve until standard input ends."""
    from vexfs.frontends.mcp import make_server  # before the volume is opened: it may not be installed

    with _open(args) as volume:
        make_server(volume).run("stdio")
    return 0


def _open(args: argparse.Namespace) -> Any:
    if args.volume.startswith(("http://", "https://")):
        token = None
        if args.token_file:
            with open(args.token_file, encoding="utf-8") as file:
                token = file.read().strip()
        return vexfs.connect(args.volume, token=token)
    return vexfs.open(os.path.abspath(args.volume), create=False, key_file=args.key_file)
