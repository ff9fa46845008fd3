"""The parser of commands: a slip is told by the command that it is about, with the likely word."""

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

#: Options that say where a command works; they may stand before the command, too.
PLACES = ("--socket", "--volume", "--key-file")


def places_last(arguments: Sequence[str]) -> list[str]:
    """`arguments` with what stands of :data:`PLACES` before the command behind it: ``--socket X node status``."""
    rest: list[str] = []
    moved: list[str] = []
    at = 0
    while at < len(arguments) and arguments[at].startswith("-") and arguments[at] != "--":
        word = arguments[at]
        to = moved if word.partition("=")[0] in PLACES else rest
        take = 2 if word in PLACES else 1
        to += arguments[at : at + take]
        at += take
    rest += arguments[at:]
    end = rest.index("--") if "--" in rest else len(rest)
    return [*rest[:end], *moved, *rest[end:]]


def likely(word: str, words: Iterable[str]) -> list[str]:
    """Those of `words` that somebody who wrote `word` may have meant: what it begins, else what looks like it."""
    known = list(words)
    begun = [each for each in known if len(word.lstrip("-")) > 1 and each.startswith(word)]
    return begun[:3] or difflib.get_close_matches(word, known, 3, 0.7)


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that names the likely word, and refuses options where it can say which there are."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        meant = likely(str(value), known)
        hint = f"did you mean {' or '.join(meant)}? " if meant else ""
        raise argparse.ArgumentError(action, f"there is no {value!r}; {hint}{', '.join(known)} are there")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As of the base class; a command at the end of its words leaves nothing over."""
        found, left = super().parse_known_args(args, namespace)
        if left and not any(isinstance(action, argparse._SubParsersAction) for action in self._actions):
            self._refuse(left)
        return found, left

    def _print_message(self, message: str, file: Any = None) -> None:
        """As of the base class; a help that cannot be written is an error."""
        if file is None or file is not sys.stdout:
            super()._print_message(message, file)
        else:
            file.write(message)
            file.flush()

    def _refuse(self, left: list[str]) -> NoReturn:
        option = next((word.partition("=")[0] for word in left if word.startswith("-") and word != "--"), None)
        if option is None:
            self.error(f"{left[0]!r} is one word too many; words that belong together want quotes")
        known = [each for each in self._option_string_actions if each.startswith("--")]
        if option in known:
            self.error(f"{option} stands behind --, where every word is a name; put it before that")
        meant = likely(option, known)
        hint = f"did you mean {' or '.join(meant)}?" if meant else f"it takes {', '.join(known)}"
        self.error(f"{option} is no option here; {hint}")
