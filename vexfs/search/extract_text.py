"""Extractors of what is text already: plain text, markup that people read as it is, source code."""

import re
from collections.abc import Iterator

from vexfs.search.extract import Block

_PARAGRAPH = re.compile(r"\S(?:.*\S)?(?:[ \t\r\f\v]*\n(?![ \t\r\f\v]*(?:\n|\Z)).*)*")
_HEADING = re.compile(r"(#{1,6}|={1,6}|\*{1,6})[ \t]+(?=.)")
_UNDERLINE = re.compile(r"^([=\-~^\"'*+#])\1{2,}[ \t]*$")
_FENCE = re.compile(r"^[ \t]*(```|~~~)")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_DEFINITION = re.compile(
    r"^(?:export |public |private |protected |static |async |abstract |final |pub(?:\([a-z]+\))? |@|template ?<)*"
    r"(?:def|cdef|cpdef|class|function|func|fn|impl|struct|enum|trait|interface|module|type|namespace|package|sub)\b[^\n{(:]*"
)


def plain(text: str, name: str) -> Iterator[Block]:
    """Paragraphs: what stands between empty lines."""
    for found in _PARAGRAPH.finditer(text):
        body, begin = found.group().rstrip(), found.start()
        yield Block(body, begin, begin + len(body), 0, "", True)


def markdown(text: str, name: str) -> Iterator[Block]:
    """Markdown and its like: headings by ``#`` or by a line under them, paragraphs, fenced code as it stands."""
    begin, fence, before = -1, "", (-1, "")
    at = 0
    for found in _LINE.finditer(text):
        at, line = found.start(), found.group().rstrip()
        if mark := _FENCE.match(line):
            fence = "" if fence else mark.group(1)
        heading = None if fence else _HEADING.match(line)
        underlined = not fence and before[1].strip() and before[0] == begin and _UNDERLINE.match(line)
        if heading or underlined or not (line or fence):
            if begin >= 0 and not underlined:
                yield from _piece(text, begin, at)
            begin = -1
        if heading:
            title = line[heading.end() :]
            yield Block(title.rstrip(" \t#=") or title, at, at + len(line), len(heading.group(1)))
        elif underlined:
            level = 1 if line[0] in "=#" else 2 if line[0] in "-*" else 3
            yield Block(before[1].strip(), before[0], at + len(line), level)
        elif line and begin < 0:
            begin = at
        before = (at, line)
    if begin >= 0:
        yield from _piece(text, begin, len(text))


def _piece(text: str, begin: int, end: int) -> Iterator[Block]:
    body = text[begin:end].rstrip()
    if body.strip():
        yield Block(body, begin, begin + len(body), exact=True)


def code(text: str, name: str) -> Iterator[Block]:
    """Source code: a definition that is not indented begins a section, empty lines separate blocks."""
    begin, empty = -1, True
    for found in _LINE.finditer(text):
        at, line = found.start(), found.group().rstrip()
        if line and line[0] not in " \t})]" and (empty or _DEFINITION.match(line)):
            if begin >= 0:
                yield from _piece(text, begin, at)
            begin = at
            if title := _DEFINITION.match(line):
                yield Block(title.group().strip(), at, at, 2)
        empty = not line
    if begin >= 0:
        yield from _piece(text, begin, len(text))
