"""What is shown of a hit: its passage's text, its lines, and the stretch in which the words of the question stand."""

import codecs
import contextlib
import re
import weakref
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from vexfs.errors import IndexClosed, PluginBroken, VolumeClosed
from vexfs.search.chunk import Chunk, Chunker
from vexfs.search.extract import Limits, Skipped, extract, kind_of
from vexfs.search.passages import Changed, name_of, read

if TYPE_CHECKING:
    from vexfs.search.index import Index

#: Kinds whose passages stand in the file as they are shown.
_PLAIN = frozenset(("text", "markdown", "code"))
#: Begin a file whose letters may look like UTF-8.
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_KEPT = 32
_WORD = re.compile(r"\w+")
_SPACE = re.compile(r"\s+")

_cut: OrderedDict[tuple[weakref.ref["Index"], int, int], list[Chunk]] = OrderedDict()
_cutting = Lock()


def passage_text(index: "Index", ino: int, row: int, span: tuple[int, int] | None) -> str:
    """The text of a row's passage, "" when the file or the index went, or the file changed, meanwhile."""
    try:
        if span is not None and kind_of(name_of(index.filesystem, ino), b"") in _PLAIN:
            data = index.filesystem.read(ino, span[1] - span[0], span[0])
            with contextlib.suppress(UnicodeDecodeError):
                if 0 not in data and index.filesystem.read(ino, 2, 0) not in _UTF_16:
                    return data.decode("utf-8")
        found = np.flatnonzero(index.table.rows_of(ino) == row)
        chunks = _passages(index, ino)
        return chunks[int(found[0])].text if len(found) and int(found[0]) < len(chunks) else ""
    except VolumeClosed:
        raise
    except (OSError, Skipped, Changed, IndexClosed, PluginBroken):
        return ""


def _passages(index: "Index", ino: int) -> list[Chunk]:
    """A file cut as it was when it was indexed; the last few are kept."""
    data, name, generation = read(index.filesystem, ino, Limits())
    key = (weakref.ref(index), ino, generation)
    with _cutting:
        if key in _cut:
            _cut.move_to_end(key)
            return _cut[key]
    made = Chunker().cut(extract(data, name))
    with _cutting:
        _cut[key] = made
        while len(_cut) > _KEPT:
            _cut.popitem(last=False)
    return made


def lines_of(index: "Index", ino: int, span: tuple[int, int] | None) -> tuple[int, int] | None:
    """First and last line of a passage, counted from 1; None where the file has none that people count."""
    try:
        if span is None or kind_of(name_of(index.filesystem, ino), b"") in ("docx", "odt", "epub", "pdf", "mail"):
            return None
        before = index.filesystem.read(ino, span[1], 0)
    except VolumeClosed:
        raise
    except (OSError, Skipped):
        return None
    first = before.count(b"\n", 0, span[0]) + 1
    return first, first + before[span[0] :].rstrip(b"\r\n\0").count(b"\n")  # the end of a line is on it


def snippet(text: str, query: str, width: int = 240) -> tuple[str, list[tuple[int, int]]]:
    """At most `width` characters of a passage, around the most words of the question, and where these stand in it."""
    text = _SPACE.sub(" ", text).strip()
    stems = {_stem(word) for word in _WORD.findall(query.lower()) if len(word) > 1}
    places = [(m.start(), m.end()) for m in _WORD.finditer(text) if _stem(m.group().lower()) in stems]
    begin = 0
    if len(text) > width:
        best = -1
        for start, _ in places or [(0, 0)]:
            # The rarer a stretch repeats itself, the more it says: distinct words count.
            inside = {text[a:b].lower() for a, b in places if start <= a and b <= start + width - 40}
            if len(inside) > best:
                best, begin = len(inside), max(0, start - 30)
        if begin:
            begin = text.find(" ", begin) + 1 or begin
    part = text[begin : begin + width]
    if begin + width < len(text):
        part = part.rpartition(" ")[0] or part
    lead, tail = "… " if begin else "", " …" if begin + len(part) < len(text) else ""
    shift = len(lead) - begin
    shown = [(a + shift, b + shift) for a, b in places if begin <= a and b <= begin + len(part)]
    return f"{lead}{part}{tail}", shown


def _stem(word: str) -> str:
    """Enough to see that two words are one: without the commonest English endings."""
    for ending in ("ing", "ies", "es", "ed", "s", "y"):
        if word.endswith(ending) and len(word) - len(ending) > 2:
            return word[: -len(ending)]
    return word
