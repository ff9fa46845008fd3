"""The reference of both programs, made from their parsers: one Markdown page, and a manual page for each."""

import argparse
import re
from collections.abc import Iterator
from typing import Any

from vexfs.cli.main import ABOUT, build_parser, subparsers_of
from vexfs.version import __version__

PROGRAMS = ("vexfs", "vexctl")
#: What every command has, and is told once.
SHARED = ("-h", "--json")

EXIT = (
    ("0", "done"),
    ("1", "checked, and found wanting; or it failed, and standard error says why"),
    ("2", "usage"),
    ("3", "no node could be reached, or the volume is somebody else's"),
    ("130", "interrupted"),
)


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Every command at the end of its words, in the order of the help."""
    below = subparsers_of(parser)
    if not below:
        yield parser
    for child in below.values():
        yield from leaves(child)


def options_of(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """Arguments and options with their help, without those that all commands have."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or set(action.option_strings) & set(SHARED):
            continue
        value = "" if action.nargs == 0 else " " + _value(action)
        name = ", ".join(action.option_strings) + value if action.option_strings else _value(action)
        found.append((name, (action.help or "").replace("%%", "%")))
    return found


def _value(action: argparse.Action) -> str:
    if action.choices is not None:
        return "{" + ",".join(str(choice) for choice in action.choices) + "}"
    word: Any = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    return word if isinstance(word, str) else " ".join(word)


def examples_of(parser: argparse.ArgumentParser) -> list[str]:
    """The command lines of the epilog."""
    text = parser.epilog or ""
    lines = (line.strip() for line in re.sub(r"Examples?:", "\n", text).splitlines())
    return [line for line in lines if line.startswith(PROGRAMS)]


def markdown() -> str:
    """The page ``docs/cli.md``."""
    lines = [
        "# Commands",
        "",
        "Made from the programs' own `--help`. Every command takes `--json`, which answers in JSON with stable keys.",
        "Exit status:",
        "",
        "| status | meaning |",
        "| --- | --- |",
        *(f"| {code} | {meaning} |" for code, meaning in EXIT),
        "",
    ]
    for program in PROGRAMS:
        lines += [f"## {program}", "", ABOUT[program], ""]
        for leaf in leaves(build_parser(program)):
            lines += [f"### {leaf.prog}", "", _described(leaf), ""]
            options = options_of(leaf)
            if options:
                lines += ["| option | meaning |", "| --- | --- |"]
                lines += [f"| `{name}` | {text} |" for name, text in options]
                lines.append("")
            lines += [f"    {example}" for example in examples_of(leaf)]
            lines.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _described(parser: argparse.ArgumentParser) -> str:
    """The description, else the line that the help of the level above has."""
    if parser.description:
        return parser.description.strip()
    program, *words = parser.prog.split(" ")
    above = build_parser(program)
    for word in words[:-1]:
        above = subparsers_of(above)[word]
    for action in above._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                if choice.dest == words[-1] and choice.help:
                    return choice.help[0].upper() + choice.help[1:] + "."
    return ""


def manual(program: str) -> str:
    """The manual page of a program, in section 1."""
    lines = [
        f'.TH {program.upper()} 1 "" "VexFS {__version__}" "VexFS"',
        ".SH NAME",
        f"{program} \\- {_roff(ABOUT[program][0].lower() + ABOUT[program][1:].rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {program}",
        ".I COMMAND",
        "[options]",
        ".SH DESCRIPTION",
        _roff(ABOUT[program]),
        "Every command takes",
        ".BR \\-\\-json ,",
        "which answers in JSON with stable keys, and",
        ".BR \\-\\-help .",
        ".SH COMMANDS",
    ]
    for leaf in leaves(build_parser(program)):
        lines += [f".SS {_roff(leaf.prog)}", _roff(_described(leaf))]
        for name, text in options_of(leaf):
            lines += [".TP", f".B {_roff(name)}", _roff(text) or "\\&"]
        for example in examples_of(leaf):
            lines += [".PP", ".nf", f".RS 4\n{_roff(example)}\n.RE", ".fi"]
    lines.append(".SH EXIT STATUS")
    for code, meaning in EXIT:
        lines += [".TP", f".B {code}", _roff(meaning)]
    lines += [
        ".SH ENVIRONMENT",
        ".TP",
        ".B VEXFS_SOCKET",
        "Control socket of the node that commands talk to.",
        ".TP",
        ".B VEXFS_SECTION__KEY",
        "A key of the configuration, before the file.",
        ".SH FILES",
        ".TP",
        ".I /etc/vexfs/vexfs\\-performance.conf",
        "The configuration of a node.",
        ".SH SEE ALSO",
        ".BR " + ("vexctl (1)" if program == "vexfs" else "vexfs (1)"),
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _roff(text: str) -> str:
    """Text for roff: no line of it is taken for a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    lines = [line.strip() for line in escaped.splitlines() if line.strip()]
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in lines)


if __name__ == "__main__":
    print(markdown(), end="")
