"""``vexctl config``: check a configuration, show what is in force, write the default file, reload."""

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vexfs.cli import output, reach
from vexfs.config import DEFAULT_FILE, Faults, Settings, load
from vexfs.config.reference import default_file
from vexfs.errors import EXIT_WANTING, ConfigError, Exists


def register(subparsers: Any) -> None:
    """Add ``config`` and what is below it."""
    parser = subparsers.add_parser(
        "config", help="check, show, write and reload the configuration",
        description="The configuration of a node: one TOML file.",
        epilog=f"Example: vexctl config check {DEFAULT_FILE}",
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="check a file",
                               description="Check a configuration file, the user and certificates in it included.",
                               epilog=f"Example: vexctl config check {DEFAULT_FILE}")  # fmt: skip
    check.add_argument("file", nargs="?", default=DEFAULT_FILE, help=f"default {DEFAULT_FILE}")
    check.set_defaults(run=check_of)
    show = actions.add_parser(
        "show", help="every key with its value and where that came from",
        description="Show the configuration: of the running node with --effective, else of a file.",
        epilog="Example: vexctl config show --effective",
    )  # fmt: skip
    show.add_argument("--config", metavar="FILE", help=f"the file; default {DEFAULT_FILE} where there is one")
    show.add_argument("--effective", action="store_true", help="what is in force in the running node")
    show.add_argument("--changed", action="store_true", help="only what is not the default")
    show.add_argument("--socket", metavar="PATH", help="control socket of the node")
    show.set_defaults(run=show_of)
    init = actions.add_parser("init", help="write the commented default file",
                              description="Write the default configuration, every key explained; - is standard output.",
                              epilog="Example: vexctl config init -")  # fmt: skip
    init.add_argument("file", nargs="?", default=DEFAULT_FILE, help=f"default {DEFAULT_FILE}; nothing is overwritten")
    init.set_defaults(run=init_of)
    again = actions.add_parser("reload", help="have the node read its file again",
                               description="Have the running node read its configuration file again.",
                               epilog="Example: vexctl config reload")  # fmt: skip
    again.add_argument("--socket", metavar="PATH", help="control socket of the node")
    again.set_defaults(run=reload_of)


def check_of(args: argparse.Namespace) -> int:
    """Run ``config check``; 1 when the file is not valid."""
    try:
        settings = load(args.file, environment={})
        if faults := list(_unfit(settings)):
            raise Faults(faults)
    except Faults as error:
        output.emit(args, {"file": args.file, "valid": False, "faults": error.faults}, "\n".join(error.faults))
        return EXIT_WANTING
    output.emit(args, {"file": args.file, "valid": True, "faults": []}, f"{args.file} is valid")
    return 0


def _unfit(settings: Settings) -> Iterator[str]:
    """What stands in keys that name something of this host, or hold what another part reads, and cannot be."""
    from vexfs.frontends.fuse.serving import options_of
    from vexfs.frontends.http.server import Certificates
    from vexfs.node import privileges

    reads: list[Callable[[], Any]] = [lambda: options_of(settings), lambda: privileges.found(settings.general.run_as)]
    if settings.api.tls_enabled:
        reads.append(lambda: Certificates(settings))
    for read in reads:
        try:
            read()
        except ConfigError as error:
            place = settings.origin(str(error).partition(":")[0]).place
            yield f"{place}: {error}"


def show_of(args: argparse.Namespace) -> None:
    """Run ``config show``."""
    waiting: list[dict[str, Any]] = []
    if args.effective:
        with reach.Reach(socket=args.socket) as node:
            told = node.call("config.show").result()
        rows, source, waiting = told["keys"], told["file"], told["needs_restart"]
    else:
        source = args.config or (DEFAULT_FILE if os.path.exists(DEFAULT_FILE) else None)
        rows = load(source).effective()
    if args.changed:
        rows = [row for row in rows if row["value"] != row["default"]]
    output.emit(args, {"file": source, "keys": rows, "needs_restart": waiting}, lambda: _table(rows, waiting))


def _table(rows: list[dict[str, Any]], waiting: list[dict[str, Any]]) -> str:
    cells = [(row["key"], row["value"], row["place"] or row["origin"]) for row in rows]
    lines = [output.table(("key", "value", "from"), cells)]
    lines += [f"waits for a restart: {w['key']} = {w['in_file']}" for w in waiting]
    return "\n".join(lines)


def init_of(args: argparse.Namespace) -> None:
    """Run ``config init``."""
    text = default_file()
    if args.file == "-":
        output.emit(args, {"text": text}, text.rstrip())
        return
    path = Path(args.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        raise Exists.at("exists; nothing is overwritten: move it away or name another file", path)
    output.write_file(path, text)
    output.emit(args, {"file": str(path)}, f"wrote {path}")


def reload_of(args: argparse.Namespace) -> None:
    """Run ``config reload``."""
    with reach.Reach(socket=args.socket) as node:
        told = node.call("config.reload").result()
    lines = [f"changed: {', '.join(told['applied']) or 'nothing'}"]
    if told["read_again"]:
        lines.append(f"read again: {', '.join(told['read_again'])}")
    if told["needs_restart"]:
        lines.append(f"waits for a restart: {', '.join(told['needs_restart'])}")
    output.emit(args, told, "\n".join(lines))
