"""``completion``: scripts that let bash, zsh and fish complete our commands, made from the parsers themselves."""

import argparse
import shlex
from collections.abc import Iterator
from typing import Any

SHELLS = ("bash", "zsh", "fish")

# Words before the cursor choose the row; option values and file names are left to the shell's own completion.
BASH = """\
_{program}_complete() {{
    local key={program} word words i
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        case " ${{_{program}_words[$key]% -- *}} " in *" $word "*) key+=" $word" ;; esac
    done
    words=${{_{program}_words[$key]/ -- / }}
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
declare -A _{program}_words=(
{rows}
)
complete -o default -F _{program}_complete {program}
"""


def register(subparsers: Any) -> None:
    """Add ``completion`` to the program that `subparsers` belongs to."""
    program = subparsers.program
    parser = subparsers.add_parser(
        "completion",
        help="print a completion script for a shell",
        description=f"Print a script that makes a shell complete {program}'s commands and options.",
        epilog=f"Example: source <({program} completion bash)",
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(run=print_script, program=program)


def print_script(args: Any) -> None:
    """Run ``completion``."""
    from vexfs.cli import main, output

    script = make_script(args.shell, args.program, main.build_parser(args.program))
    output.emit(args, {"shell": args.shell, "script": script}, script.rstrip("\n"))


def make_script(shell: str, program: str, parser: argparse.ArgumentParser) -> str:
    """The completion script of `program` for `shell`, one of :data:`SHELLS`."""
    nodes = list(_nodes(program, parser))
    if shell == "fish":
        return "".join(_fish_lines(program, nodes))
    words = {key: f"{' '.join(names)} -- {' '.join(options)}" for key, names, options, _ in nodes}
    rows = "\n".join(f"    [{shlex.quote(key)}]={shlex.quote(row)}" for key, row in words.items())
    script = BASH.format(program=program, rows=rows)
    return script if shell == "bash" else f"autoload -U +X compinit bashcompinit && compinit && bashcompinit\n{script}"


Node = tuple[str, list[str], list[str], dict[str, str]]


def _nodes(path: str, parser: argparse.ArgumentParser) -> Iterator[Node]:
    """For each command: its words joined by spaces, the names below it, its options, and the names' help lines."""
    from vexfs.cli.main import subparsers_of

    children = subparsers_of(parser)
    options = [option for option in parser._option_string_actions if option.startswith("--")]
    chosen = [str(c) for a in parser._actions if not a.option_strings and not children for c in a.choices or ()]
    yield path, [*children, *chosen], options, _help_lines(parser)
    for name, child in children.items():
        yield from _nodes(f"{path} {name}", child)


def _help_lines(parser: argparse.ArgumentParser) -> dict[str, str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return {choice.dest: choice.help or "" for choice in action._choices_actions}
    return {}


def _fish_lines(program: str, nodes: list[Node]) -> Iterator[str]:
    for key, names, options, helps in nodes:
        words = key.split()[1:]
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in words) or "true"
        if names:
            unseen = f"{seen}; and not __fish_seen_subcommand_from {' '.join(names)}"
            for name in names:
                yield (
                    f"complete -c {program} -f -n {shlex.quote(unseen)} -a {name}"
                    f" -d {shlex.quote(helps.get(name, ''))}\n"
                )
        for option in options:
            yield f"complete -c {program} -n {shlex.quote(seen)} -l {option.removeprefix('--')}\n"
