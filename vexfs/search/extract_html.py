"""The extractor of HTML: what a reader would see, with the place of each paragraph in the source."""

import itertools
import re
from collections.abc import Iterator
from html.parser import HTMLParser

from vexfs.search.extract import Block

_HIDDEN = frozenset(("script", "style", "template", "noscript", "svg", "math", "nav", "iframe", "head"))
_BREAKING = frozenset(
    """
    p div section article header footer main aside li ul ol dl dt dd table tr blockquote pre figure figcaption form h1
    h2 h3 h4 h5 h6 br hr title body address details summary option
    """.split()  # noqa: SIM905 - a list of words is read as one
)
_SPACE = re.compile(r"\s+")
_STEP = 1 << 16


class _Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ready: list[Block] = []
        self._lines = [0, *itertools.accumulate(len(line) + 1 for line in text.split("\n"))]
        self._hidden: list[str] = []
        self._parts: list[str] = []
        self._start = self._end = -1
        self._level = 0
        self._title = False

    def _at(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column

    def _break(self) -> None:
        words = _SPACE.sub(" ", "".join(self._parts)).strip()
        if words:
            self.ready.append(Block(words, self._start, self._end, self._level))
        self._parts, self._start = [], -1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _BREAKING:
            self._break()
        if tag == "title":
            self._title = True
            self._level = 1
        elif tag in _HIDDEN and tag not in ("br", "hr"):
            self._hidden.append(tag)
        elif len(tag) == 2 and tag[0] == "h" and tag[1] in "123456":
            self._level = int(tag[1])
        elif tag == "img":
            self._parts += [" ", *(value or "" for name, value in attrs if name == "alt"), " "]
        elif tag in ("td", "th"):
            self._parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            del self._hidden[self._hidden.index(tag) :]
            return
        if tag in _BREAKING:
            self._break()
            self._level = 0
        if tag == "title":
            self._title = False

    def handle_data(self, data: str) -> None:
        if (self._hidden and not self._title) or not data:
            return
        if self._start < 0 and data.strip():
            self._start = self._at() + len(data) - len(data.lstrip())
        self._parts.append(data)
        if data.strip():
            self._end = self._at() + len(data.rstrip())

    def close(self) -> None:
        super().close()
        self._break()


def html(text: str, name: str) -> Iterator[Block]:
    """Headings, paragraphs, cells and items of lists; without scripts, styles and navigation."""
    reader = _Reader(text)
    for at in range(0, len(text), _STEP):
        reader.feed(text[at : at + _STEP])
        yield from reader.ready
        reader.ready.clear()
    reader.close()
    yield from reader.ready
