"""``completion``: scripts that let bash, zsh and fish complete our commands, made from the parsers themselves."""

import argparse
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

SHELLS = ("bash", "zsh", "fish")

# Words before the cursor choose the row; the word right before it may be an option that takes a value: one of some
# words, a file (.), a directory (/), or what nobody can complete (-).  What is not offered here, the shell completes as
# a file.
BASH = """\
_{program}_complete() {{
    local key={program} word words value i
    local cur=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    if [ "$cur" = = ]; then cur=; elif [ "$before" = = ]; then before=${{COMP_WORDS[COMP_CWORD-2]}}; fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        case "$word" in -*) continue ;; esac
        [ -n "${{_{program}_words[$key $word]+x}}" ] && key+=" $word"
    done
    words=${{_{program}_words[$key]/ -- / }}
    before="$key $before"
    value=${{_{program}_values[$before]-}}
    COMPREPLY=()
    case "$value" in
        .) return ;;
        /) COMPREPLY=($(compgen -d -- "$cur")); compopt -o filenames 2>/dev/null; return ;;
        -) compopt +o default 2>/dev/null; return ;;
        ?*) words=$value ;;
        *) case "$cur" in -*) ;; *) words=${{_{program}_words[$key]%% -- *}} ;; esac ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
declare -A _{program}_words=(
{rows}
)
declare -A _{program}_values=(
{values}
)
complete -o default -F _{program}_complete {program}
"""
FILE, DIRECTORY, FREE = ".", "/", "-"
FISH = {FILE: "-r -F", DIRECTORY: "-x -a '(__fish_complete_directories)'", FREE: "-x"}


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


@attrs.frozen
class Node:
    """A command: its words joined by spaces, the words that may follow it, and its options."""

    path: str
    names: list[str]
    options: list[argparse.Action]
    helps: dict[str, str]
    takes_words: bool

    @property
    def spelled(self) -> list[str]:
        """Its options in full."""
        return [each for option in self.options for each in option.option_strings if each.startswith("--")]


def make_script(shell: str, program: str, parser: argparse.ArgumentParser) -> str:
    """The completion script of `program` for `shell`, one of :data:`SHELLS`."""
    nodes = list(_nodes(program, parser))
    if shell == "fish":
        return "".join(_fish_lines(program, nodes))
    script = BASH.format(program=program, rows=_rows(_words(nodes)), values=_rows(_values(nodes)))
    return script if shell == "bash" else f"autoload -U +X compinit bashcompinit && compinit && bashcompinit\n{script}"


def _rows(table: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"    [{shlex.quote(key)}]={shlex.quote(row)}" for key, row in table)


def _words(nodes: list[Node]) -> Iterator[tuple[str, str]]:
    for node in nodes:
        offered = node.names if node.names or node.takes_words else node.spelled  # before anything is typed
        yield node.path, f"{' '.join(offered)} -- {' '.join(node.spelled)}"


def _values(nodes: list[Node]) -> Iterator[tuple[str, str]]:
    for node in nodes:
        for option in node.options:
            if option.nargs != 0:
                for spelling in option.option_strings:
                    yield f"{node.path} {spelling}", _kind(option)


def _kind(option: argparse.Action) -> str:
    """The values of an option, or what kind of thing they are."""
    if option.choices is not None:
        return " ".join(map(str, option.choices))
    if option.metavar == "BOOL":
        return "true false"
    name = option.option_strings[-1]
    if name in ("--volume", "--lib", "--root"):
        return DIRECTORY
    return FILE if option.metavar == "FILE" or name.endswith("-file") or name == "--socket" else FREE


def _nodes(path: str, parser: argparse.ArgumentParser) -> Iterator[Node]:
    """`parser` and every command below it."""
    from vexfs.cli.main import subparsers_of

    children = subparsers_of(parser)
    options = [action for action in parser._actions if action.option_strings]
    places = [action for action in parser._actions if not action.option_strings and not children]
    chosen = [str(choice) for action in places for choice in action.choices or getattr(action, "names", None) or ()]
    yield Node(path, [*children, *chosen], options, _help_lines(parser), bool(places))
    for name, child in children.items():
        yield from _nodes(f"{path} {name}", child)


def _help_lines(parser: argparse.ArgumentParser) -> dict[str, str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return {choice.dest: choice.help or "" for choice in action._choices_actions}
    return {}


def _fish_lines(program: str, nodes: list[Node]) -> Iterator[str]:
    for node in nodes:
        words = node.path.split()[1:]
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in words) or "true"
        if node.names:
            unseen = f"{seen}; and not __fish_seen_subcommand_from {' '.join(node.names)}"
            for name in node.names:
                yield (
                    f"complete -c {program} -f -n {shlex.quote(unseen)} -a {name}"
                    f" -d {shlex.quote(node.helps.get(name, ''))}\n"
                )
        for option in node.options:
            kind = "" if option.nargs == 0 else _kind(option)
            value = FISH.get(kind) or (f"-x -a {shlex.quote(kind)}" if kind else "")
            for spelling in option.option_strings:
                if spelling.startswith("--"):
                    line = f"complete -c {program} -n {shlex.quote(seen)} -l {spelling.removeprefix('--')} {value}"
                    yield f"{line.rstrip()}\n"
