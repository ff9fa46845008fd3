"""Commands that send one verb to a node and show what it answers, each described by a :class:`Told`.

A description names the words of the command, the verb, the options (which become the verb's arguments), and how the
answer looks to people.  Every such command has ``--socket``, ``--volume``, ``--key-file`` and ``--json``.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from vexfs.cli import output, reach
from vexfs.cli.progress import Progress
from vexfs.cli.quantities import switch
from vexfs.errors import EXIT_WANTING, InvalidArgument

Show = Callable[[Any], str]


@attrs.frozen
class Option:
    """One option; its name becomes the verb's argument unless `local` says that the command itself uses it."""

    name: str
    about: str
    type: Callable[[str], Any] | None = None
    default: Any = None
    flag: bool = False
    local: bool = False
    required: bool = False
    metavar: str | None = None
    choices: tuple[str, ...] | None = None

    @property
    def dest(self) -> str:
        """The argument's name."""
        return self.name.lstrip("-").replace("-", "_")

    def add(self, parser: Any) -> None:
        """Add it to a parser."""
        if self.flag:
            parser.add_argument(self.name, action="store_true", help=self.about)
            return
        words: dict[str, Any] = {"help": self.about, "default": self.default, "required": self.required}
        if self.type is not None:
            words["type"] = self.type
        if self.type is switch:
            words |= {"nargs": "?", "const": True, "help": f"{self.about} (true when no word follows)"}
        if self.choices is not None:
            words["choices"] = self.choices
        elif self.metavar is not None:
            words["metavar"] = self.metavar
        parser.add_argument(self.name, **words)


@attrs.frozen
class Told:
    """One command.

    Attributes
    ----------
    words : str
        Below the noun: ``"memory-pools status"``.
    verb : str
        What the node is sent; empty when `run` answers without a node.
    example : str
        Behind the program's name.
    show : callable, optional
        Text for people of an answer; by default its fields.
    wanting : callable, optional
        Whether an answer means "found wanting": exit status 1.
    live : callable, optional
        A line for each progress report that has a ``"row"``, printed as it comes.
    run : callable, optional
        Answers from the parsed arguments alone.
    shape : callable, optional
        What becomes of an answer under the command's own options, before it is written or shown.
    reaches : bool
        Whether `run` may talk to a node, and so takes the options that say which.
    check : callable, optional
        Raises `UsageError` when options make no sense together, before anything is done.
    """

    words: str
    verb: str
    about: str
    example: str
    options: tuple[Option, ...] = ()
    show: Show | None = None
    wanting: Callable[[Any], bool] | None = None
    live: Show | None = None
    run: Callable[[argparse.Namespace], Any] | None = None
    shape: Callable[[argparse.Namespace, Any], Any] | None = None
    reaches: bool = False
    check: Callable[[argparse.Namespace], None] | None = None


OUTPUT = Option("--output", "write the answer to this file too, as JSON", local=True, metavar="FILE")


def register(parser: Any, commands: Iterable[Told], groups: Mapping[str, str]) -> None:
    """Add `commands` below `parser`; `groups` has the help of each word that has commands below it."""
    actions = {"": parser.add_subparsers(dest="action", metavar="ACTION", required=True)}
    for command in commands:
        *path, name = command.words.split(" ")
        for depth in range(len(path)):
            group = " ".join(path[: depth + 1])
            if group not in actions:
                about = groups[group]
                made = actions[" ".join(path[:depth])].add_parser(path[depth], help=about, description=_sentence(about))
                actions[group] = made.add_subparsers(dest=f"action{depth + 1}", metavar="ACTION", required=True)
        made = actions[" ".join(path)].add_parser(
            name, help=command.about, description=_sentence(command.about), epilog=f"Example: vexctl {command.example}"
        )
        for option in command.options:
            option.add(made)
        if command.verb or command.reaches:
            reach.add_options(made)
        made.set_defaults(run=_runner(command))


def _sentence(about: str) -> str:
    return about[0].upper() + about[1:] + "."


def _runner(command: Told) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        if command.check is not None:
            command.check(args)
        _has_place(getattr(args, "output", None))
        answer = command.run(args) if command.run is not None else ask(command, args)
        if command.shape is not None:
            answer = command.shape(args, answer)
        try:
            if getattr(args, "output", None):
                write(args.output, answer)  # before it is shown: who reads that may go away
        finally:  # what cannot be written is shown at least
            output.emit(args, answer, None if command.show is None else lambda: command.show(answer))  # type: ignore[misc]
        return EXIT_WANTING if command.wanting is not None and command.wanting(answer) else 0

    return run


def ask(command: Told, args: argparse.Namespace) -> Any:
    """Send the verb with the options that were given; progress is drawn, or printed when the command has live rows."""
    asked = {o.dest: getattr(args, o.dest) for o in command.options if not o.local}
    left_out = {o.dest for o in command.options if o.flag and not getattr(args, o.dest)}
    sent = {name: value for name, value in asked.items() if value is not None and name not in left_out}
    with reach.of(args) as node:
        call = node.call(command.verb, **sent)
        with Progress(command.words.split(" ")[-1], unit="s") as bar:
            for step in call:
                if command.live is not None and "row" in step and not args.json:
                    print(command.live(step["row"]), flush=True)
                elif "done" in step:
                    bar(step["done"], step.get("total"))
        return call.result()


def _has_place(path: str | None) -> None:
    """Tell of an ``--output`` that cannot be before a minute of work is done for it."""
    if not path or path == "-" or (os.path.exists(path) and not os.path.isfile(path)):
        return
    if not os.access(os.path.dirname(os.path.abspath(path)), os.W_OK | os.X_OK):
        raise InvalidArgument.at("cannot be written: there is no such directory, or it is not yours to write to", path)


def write(path: str, answer: Any) -> None:
    """Write an answer as JSON; ``-`` is standard output."""
    text = json.dumps(answer, indent=2, default=str) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        output.write_file(path, text)


def read(path: str, wanted: str) -> Any:
    """What :func:`write` wrote; `wanted` is a key that it must have.

    Raises
    ------
    InvalidArgument
        The file is no JSON, or is about something else.
    """
    try:
        found = json.loads(Path(path).read_text())
    except ValueError as error:
        raise InvalidArgument.at(f"is no JSON ({error})", path) from None
    if not isinstance(found, dict) or wanted not in found:
        raise InvalidArgument.at(f"is not what this command reads: it has no {wanted!r}", path)
    return found
