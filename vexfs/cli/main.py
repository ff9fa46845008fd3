"""The registry of commands, what the programs do first, and what happens when a command fails."""

import argparse
import importlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from vexfs.cli import output, start
from vexfs.cli.parser import Parser, places_last
from vexfs.errors import VexfsError, describe, row_of
from vexfs.version import __version__

ABOUT = {
    "vexfs": "Mount VexFS volumes and move files in and out of them.",
    "vexctl": "Create, check, maintain and watch VexFS volumes.",
}


@dataclass(frozen=True)
class Command:
    """A command's place: its program, its name, the module that registers it, and its line in the overview."""

    program: str
    name: str
    module: str
    help: str


COMMANDS = (
    Command("vexfs", "mount", "vexfs.cli.mount", "mount a volume on a directory"),
    Command("vexfs", "umount", "vexfs.cli.umount", "unmount a volume and wait until it is closed"),
    Command("vexfs", "serve", "vexfs.cli.serve", "run a node: mount, HTTP, metrics, control socket"),
    Command("vexfs", "mcp", "vexfs.cli.mcp", "serve a volume to agents (Model Context Protocol)"),
    Command("vexfs", "import", "vexfs.cli.import_tree", "copy a tree of the host into a volume"),
    Command("vexfs", "export", "vexfs.cli.export_tree", "copy a tree of a volume to the host"),
    Command("vexctl", "volume", "vexfs.cli.volume", "create, check, compact, back up and restore volumes"),
    Command("vexctl", "index", "vexfs.cli.index", "create, list, describe and drop indexes"),
    Command("vexctl", "import", "vexfs.cli.load", "vectors from .npy, .fvecs, Parquet or JSON lines into an index"),
    Command("vexctl", "search", "vexfs.cli.search", "find files by what they say"),
    Command("vexctl", "similar", "vexfs.cli.similar", "find files like another one"),
    Command("vexctl", "config", "vexfs.cli.config", "check, show, write and reload the configuration"),
    Command("vexctl", "node", "vexfs.cli.node", "how the node is; stop it"),
    Command("vexctl", "token", "vexfs.cli.token", "make, list and revoke API tokens"),
    Command("vexctl", "performance", "vexfs.cli.performance", "measure, watch, validate and tune a node"),
    Command("vexctl", "security", "vexfs.cli.security", "harden the pools, check the kernels"),
    Command("vexctl", "capacity", "vexfs.cli.capacity", "how many nodes a load needs"),
    Command("vexctl", "system", "vexfs.cli.system", "check and tune the host"),
    Command("vexctl", "cluster", "vexfs.cli.cluster", "the nodes that serve one namespace"),
    Command("vexctl", "setup", "vexfs.cli.setup", "units, scripts, monitoring and load balancers for this host"),
    Command("vexfs", "completion", "vexfs.cli.completion", "print a completion script for a shell"),
    Command("vexctl", "completion", "vexfs.cli.completion", "print a completion script for a shell"),
)


def commands(program: str) -> list[Command]:
    """The commands of one program, in the order of its overview."""
    return [command for command in COMMANDS if command.program == program]


def subparsers_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers one level below `parser`, by command name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def parsers_below(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """`parser` and every parser under it."""
    yield parser
    for child in subparsers_of(parser).values():
        yield from parsers_below(child)


def _complete(parser: argparse.ArgumentParser) -> None:
    """Give a command and everything below it what all commands share: ``--json``, help that keeps its lines."""
    for each in parsers_below(parser):
        each.formatter_class = argparse.RawDescriptionHelpFormatter
        if not subparsers_of(each) and "--json" not in each._option_string_actions:
            each.add_argument(
                "--json", action="store_true", default=argparse.SUPPRESS, help="answer in JSON, with stable keys"
            )


def build_parser(program: str, wanted: str | None = None) -> argparse.ArgumentParser:
    """The parser of one program.

    Parameters
    ----------
    program : str
        ``"vexfs"`` or ``"vexctl"``.
    wanted : str, optional
        Import and register this command alone; the others appear only by name and help line.  Without it every
        command is registered.
    """
    epilog = f"`{program} COMMAND --help` explains a command, with an example."
    if program == "vexctl":
        epilog += "  --socket, --volume and --key-file may stand before COMMAND, too."
    parser = Parser(program, description=ABOUT[program], epilog=epilog)
    parser.add_argument("--version", action="version", version=f"{program} {__version__}")
    parser.add_argument("--json", action="store_true", default=False, help="answer in JSON, with stable keys")
    parser.add_argument("--debug", action="store_true", help="on an error, show where it arose")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    subparsers.program = program  # type: ignore[attr-defined]  # for a module that serves both programs
    for command in commands(program):
        if wanted in (None, command.name):
            importlib.import_module(command.module).register(subparsers)
        else:
            subparsers.add_parser(command.name, help=command.help, add_help=False)
    for child in subparsers.choices.values():
        _complete(child)
    return parser


def first_word(arguments: Sequence[str]) -> str:
    """The command among `arguments`: the first that is not an option; empty when there is none."""
    return next((a for a in arguments if not a.startswith("-")), "")


def _expected(error: Exception) -> bool:
    """Whether the message alone tells the user enough (anything else is a defect, and shows its traceback)."""
    return isinstance(error, (VexfsError, OSError, ValueError, MemoryError))


def _of_interrupt(error: BaseException) -> bool:
    """Whether Ctrl-C is behind an error, as when it meets a class of another package in the making."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen and not isinstance(at, KeyboardInterrupt):
        seen.add(id(at))
        at = at.__cause__
    return isinstance(at, KeyboardInterrupt)


def run(program: str, arguments: Sequence[str] | None = None) -> int:
    """Parse `arguments`, run the command, and answer the exit status.  Errors become one line each on standard error.

    Raises
    ------
    SystemExit
        From argparse: 0 after ``--help`` and ``--version``, 2 for wrong usage.
    """
    arguments = places_last(sys.argv[1:] if arguments is None else arguments)
    args: Any = argparse.Namespace(debug=False)
    try:
        args = build_parser(program, first_word(arguments)).parse_args(arguments)
        start.begun()
        status = args.run(args)
        sys.stdout.flush()
        return 0 if status is None else int(status)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _complain_no_more()  # the reader of our output has gone (`| head`)
        return 128 + signal.SIGPIPE
    except Exception as error:
        if _of_interrupt(error):
            print(f"{program}: interrupted", file=sys.stderr)
            return 128 + signal.SIGINT
        if args.debug or not _expected(error):
            raise
        try:
            sys.stdout.flush()
        except OSError:
            _complain_no_more()
        for told in getattr(error, "faults", None) or [describe(error)]:  # a configuration may have several
            print(f"{program}: {output.printable(' '.join(told.split()))}", file=sys.stderr)
        return row_of(error).exit_code


def _complain_no_more() -> None:
    """Have what standard output does not take go nowhere: Python would tell of it once more when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _main(program: str) -> None:
    def warn(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
        line: str | None = None,
    ) -> None:  # fmt: skip
        print(f"{program}: warning: {message}", file=sys.stderr)

    warnings.showwarning = warn  # a line for people, not the place in our source
    _complete_streams()
    sys.exit(run(program))


def _complete_streams() -> None:
    """Make good what a parent closed: a file of a volume must not become the place where messages are written."""
    while (made := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(made, True)
    os.close(made)
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        utf8 = (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"
        if isinstance(stream, io.TextIOWrapper) and not (utf8 and stream.errors == "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no error


def vexfs() -> None:
    """Run ``vexfs``; ``vexfs /SOURCE DIRECTORY -o ...`` is how mount.fuse mounts the type fuse.vexfs."""
    if sys.argv[1:2] and sys.argv[1].startswith("/"):
        sys.exit(importlib.import_module("vexfs.cli.mount").helper())
    _main("vexfs")


def vexctl() -> None:
    """Run ``vexctl``."""
    _main("vexctl")
