"""The extractor of HTML: what a reader would see, with the place of each paragraph in the source."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser

from vexfs.search.extract import PAUSE, Block, Skipped

_HIDDEN = frozenset(("script", "style", "template", "noscript", "svg", "math", "nav", "iframe", "head"))
_BREAKING = frozenset(
    """
    p div section article header footer main aside li ul ol dl dt dd table tr blockquote pre figure figcaption form h1
    h2 h3 h4 h5 h6 br hr title body address details summary option
    """.split()  # noqa: SIM905 - a list of words is read as one
)
_SPACE = re.compile(r"\s+")
_QUOTED = re.compile(r"\"[^\"]*(?:\"|\Z)|'[^']*(?:'|\Z)")
_STEP, _STEP_MOST = 1 << 16, 1 << 20
_TAG_MOST = 1 << 18


class _Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ready: list[Block] = []
        self._lines = [0, *itertools.accumulate(len(line) + 1 for line in text.split("\n"))]
        self._text = text
        self._hidden: list[str] = []
        self._hiding: Counter[str] = Counter()
        self._parts: list[str] = []
        self._start = self._end = -1
        self._open = False  # words whose end in the source is not known yet
        self._level = 0
        self._title = False

    def _at(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column

    def _ends(self) -> None:
        """Whatever comes now ends what was said before: entities are longer in the source than in the words."""
        if self._open:
            self._open = False
            end = self._at()
            while end > self._start and self._text[end - 1].isspace():
                end -= 1
            self._end = end

    def _break(self) -> None:
        words = _SPACE.sub(" ", "".join(self._parts)).strip()
        if words:
            self.ready.append(Block(words, self._start, self._end, self._level))
        self._parts, self._start = [], -1

    def in_endless_tag(self) -> bool:
        """Whether a tag has begun that says more than a tag can, its quoted values aside."""
        raw = self.rawdata
        if self.cdata_elem is not None or raw[:1] != "<" or not raw[1:2].isalpha():
            return False
        return len(_QUOTED.sub("", raw)) > _TAG_MOST

    def handle_comment(self, data: str) -> None:
        self._ends()

    def handle_decl(self, decl: str) -> None:
        self._ends()

    def handle_pi(self, data: str) -> None:
        self._ends()

    def unknown_decl(self, data: str) -> None:
        self._ends()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._ends()
        if tag in _BREAKING:
            self._break()
        if tag == "title":
            self._title = True
            self._level = 1
        elif tag in _HIDDEN and tag not in ("br", "hr"):
            self._hidden.append(tag)
            self._hiding[tag] += 1
        elif len(tag) == 2 and tag[0] == "h" and tag[1] in "123456":
            self._level = int(tag[1])
        elif tag == "img":
            self._parts += [" ", *(value or "" for name, value in attrs if name == "alt"), " "]
        elif tag in ("td", "th"):
            self._parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._ends()
        if self._hiding[tag]:
            while self._hiding[tag]:  # out of the outermost of them
                self._hiding[self._hidden.pop()] -= 1
            return
        if tag in _BREAKING:
            self._break()
            self._level = 0
        if tag == "title":
            self._title = False

    def handle_data(self, data: str) -> None:
        self._ends()
        if (self._hidden and not self._title) or not data:
            return
        said = bool(data.strip())
        if self._start < 0 and said:
            start = self._at()
            while self._text[start].isspace():
                start += 1
            self._start = start
        self._parts.append(data)
        self._open |= said

    def close(self) -> None:
        self.rawdata = self.rawdata[:_STEP]  # what never ends is looked through from each of its characters
        super().close()
        self._ends()
        self._break()


def html(text: str, name: str) -> Iterator[Block]:
    """Headings, paragraphs, cells and items of lists; without scripts, styles and navigation."""
    reader = _Reader(text)
    at = 0
    while at < len(text):
        # What is not whole yet is read from its beginning again: the longer, the more is added at once.
        step = max(_STEP, min(len(reader.rawdata), _STEP_MOST))
        reader.feed(text[at : at + step])
        at += step
        if len(reader.rawdata) > _TAG_MOST and reader.in_endless_tag():
            raise Skipped(f"a tag with more than {_TAG_MOST} characters of attributes")
        yield from reader.ready
        reader.ready.clear()
        yield PAUSE
    reader.close()
    yield from reader.ready
