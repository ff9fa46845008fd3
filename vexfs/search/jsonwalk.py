"""The texts and numbers in a JSON document, with the keys that lead to them.

A document of tens of megabytes takes many times that as objects of Python.  So only what is small is parsed as a whole;
what is larger is gone through, entry by entry.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

DEPTH_MOST = 24
VALUE_MOST, KEY_MOST = 20_000, 300
#: Characters that are parsed as a whole, at most.
WINDOW = 1 << 20
_BLANK = re.compile(r"[ \t\n\r]*")
_OPENING = ("{", "[")
_NUMERIC = tuple("-0123456789NI")
_decoder = json.JSONDecoder()


class _Large(Exception):
    """A value is not within the window."""


class Walk:
    """One way through a document."""

    def __init__(self, text: str, window: int = WINDOW) -> None:
        self._text, self._size = text, window
        self._window, self._first = text[:window], 0
        self._at = 0

    def top(self) -> Iterator[tuple[str, Iterator[str]]]:
        """The entries of the document, each with its key or number, and its leaves; to be taken in order.

        Raises
        ------
        ValueError
            It is not JSON.
        """
        first = self._peek()
        if first in _OPENING:
            for number, key in enumerate(self._entries()):
                name = str(number) if key is None else key[:KEY_MOST]
                yield name, self._leaves("" if key is None else name, 1)
        else:
            yield "", iter([str(self._whole())])
        if self._peek():
            raise self._wrong("nothing more")

    def _wrong(self, wanted: str) -> ValueError:
        return json.JSONDecodeError(f"{wanted} is wanted", self._text, self._at)

    def _peek(self) -> str:
        """The next character that is not blank, "" at the end."""
        found = _BLANK.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        return self._text[self._at : self._at + 1]

    def _entries(self) -> Iterator[str | None]:
        """The keys of the object, or None for each entry of the list, whose value is the next to be taken."""
        end = "}" if self._peek() == "{" else "]"
        self._at += 1
        if self._peek() == end:
            self._at += 1
            return
        while True:
            key = None
            if end == "}":
                if self._peek() != '"':
                    raise self._wrong("a key in double quotes")
                key = str(self._whole())
                if self._peek() != ":":
                    raise self._wrong("':'")
                self._at += 1
            yield key
            after = self._peek()
            self._at += 1
            if after == end:
                return
            if after != ",":
                self._at -= 1
                raise self._wrong(f"',' or '{end}'")

    def _whole(self) -> Any:
        """The next value, however large."""
        try:
            return self._small()
        except _Large:
            value, self._at = _decoder.raw_decode(self._text, self._at)
            return value

    def _small(self) -> Any:
        """The next value, if it lies within a window."""
        self._peek()
        for _ in range(2):
            last = self._first + self._size >= len(self._text)
            try:
                value, end = _decoder.raw_decode(self._window, self._at - self._first)
                if last or end + 2 < len(self._window):  # else a number may go on: 1.5, 1e-5
                    self._at = self._first + end
                    return value
            except ValueError:
                if last:
                    raise
            if self._first == self._at:
                break
            self._first, self._window = self._at, self._text[self._at : self._at + self._size]
        raise _Large

    def _leaves(self, path: str, depth: int) -> Iterator[str]:
        try:
            value = self._small()
        except _Large:
            if depth >= DEPTH_MOST or self._peek() not in _OPENING:
                yield from leaves(self._whole(), path, depth)
                return
            for key in self._entries():
                if key is None and self._peek() in _NUMERIC:
                    self._whole()  # in a list this long: coordinates, vectors
                elif key is None:
                    yield from self._leaves(path, depth + 1)
                else:
                    yield from self._leaves(_below(path, key), depth + 1)
        else:
            yield from leaves(value, path, depth)


def _below(path: str, key: str) -> str:
    return (f"{path}.{key[:KEY_MOST]}" if path else key)[:KEY_MOST]


def leaves(value: Any, path: str, depth: int = 0) -> Iterator[str]:
    """The texts and numbers in a value that was parsed, behind the keys that lead to them."""
    if isinstance(value, dict) and depth < DEPTH_MOST:
        for key, each in value.items():
            yield from leaves(each, _below(path, key), depth + 1)
    elif isinstance(value, list) and depth < DEPTH_MOST:
        if value and all(isinstance(each, int | float) for each in value):
            return  # numbers without words: coordinates, vectors
        for each in value:
            yield from leaves(each, path, depth + 1)
    elif value not in (None, "", True, False):
        yield f"{path}: {str(value)[:VALUE_MOST]}" if path else str(value)[:VALUE_MOST]
