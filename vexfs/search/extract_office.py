"""Extractors of documents that are archives of XML: DOCX, ODT, EPUB.

What an archive says of its own sizes is not believed: no member is read further than a limit.
"""

import io
import posixpath
import zipfile
from collections.abc import Callable, Container, Iterator, Mapping
from urllib.parse import unquote
from xml.etree import ElementTree as ET

from vexfs.search.extract import PAUSE, Block, Skipped, decoded, shown
from vexfs.search.extract_html import html

_MEMBER_MOST = 64 << 20
#: Of a table of contents, which is a tree in memory, ten times as large.
_TREE_MOST = 8 << 20
_STEP = 1 << 16
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_OPF = "{http://www.idpf.org/2007/opf}"
_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"


class _Archive:
    def __init__(self, data: bytes) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise Skipped(f"a damaged archive: {error}") from error

    def read(self, member: str) -> bytes:
        try:
            with self._zip.open(member) as file:
                data = file.read(_MEMBER_MOST + 1)
        except KeyError:
            raise Skipped(f"the archive lacks {member}") from None
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError) as error:
            raise Skipped(f"{member} in the archive cannot be read: {error}") from error
        except Exception as error:  # zlib.error and its like differ by method
            raise Skipped(f"{member} in the archive is damaged: {error}") from error
        if len(data) > _MEMBER_MOST:
            raise Skipped(f"{member} in the archive is larger than {_MEMBER_MOST} bytes")
        return data

    def tree(self, member: str) -> ET.Element:
        """A small member as a tree."""
        data = self.read(member)
        if len(data) > _TREE_MOST:
            raise Skipped(f"{member} in the archive is larger than {_TREE_MOST} bytes")
        if any("<!ENTITY".encode(each) in data for each in ("utf-8", "utf-16-le", "utf-16-be")):
            raise Skipped(f"{member} in the archive declares entities")
        try:
            return ET.fromstring(data)
        except (ET.ParseError, ValueError, LookupError) as error:
            raise Skipped(f"{member} in the archive is not XML: {error}") from error

    def paragraphs(self, member: str, reader: "_Paragraphs") -> Iterator[Block]:
        """What a reader finds in a member, which is never in memory as a tree."""
        data = self.read(member)
        parser = ET.XMLParser(target=reader)
        try:
            for at in range(0, len(data), _STEP):
                parser.feed(data[at : at + _STEP])
                yield from reader.ready
                reader.ready.clear()
                yield PAUSE
            parser.close()
        except (ET.ParseError, ValueError, LookupError) as error:
            raise Skipped(f"{member} in the archive is not XML: {error}") from error
        yield from reader.ready


class _Paragraphs:
    """A target of the parser of XML: paragraphs, which may stand in others.

    Parameters
    ----------
    paragraph : collection of str
        Tags of paragraphs and headings.
    spaces : mapping of str to str
        Tags that stand for a character.
    said : str, optional
        The tag in which text stands; default: all of it is said.
    level : callable
        The level of a heading by tag and attributes of whatever begins in a paragraph; None: it says nothing of that.
    """

    def __init__(
        self, paragraph: Container[str], spaces: Mapping[str, str], said: str | None,
        level: Callable[[str, dict[str, str]], int | None],
    ) -> None:
        self.ready: list[Block] = []
        self._paragraph, self._spaces, self._said, self._level_of = paragraph, spaces, said, level
        self._open: list[tuple[list[str], str]] = []
        self._levels: list[int] = []
        self._saying = self._number = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """The parser's call."""
        if tag in self._paragraph:
            self._number += 1
            self._open.append(([], f"paragraph {self._number}"))
            self._levels.append(0)
        elif tag in self._spaces and self._open:
            self._open[-1][0].append(self._spaces[tag])
        self._saying += tag == self._said
        if self._open and (level := self._level_of(tag, attributes)) is not None:
            self._levels[-1] = level

    def data(self, text: str) -> None:
        """The parser's call."""
        if self._open and (self._said is None or self._saying):
            self._open[-1][0].append(text)

    def end(self, tag: str) -> None:
        """The parser's call."""
        self._saying -= tag == self._said
        if tag in self._paragraph:
            (parts, label), level = self._open.pop(), self._levels.pop()
            if words := "".join(parts).strip():
                self.ready.append(Block(words, level=level, label=label))

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """The parser's call: documents have none, and it may declare entities without end."""
        raise Skipped("the archive declares entities, or might")

    def close(self) -> None:
        """The parser's call."""


def docx(data: bytes, name: str) -> Iterator[Block]:
    """Paragraphs of a Word document, and the paragraphs of its tables; headings by their style."""

    def level(tag: str, attributes: dict[str, str]) -> int | None:
        return _heading(attributes.get(f"{_WORD}val", "")) if tag == f"{_WORD}pStyle" else None

    reader = _Paragraphs((f"{_WORD}p",), {f"{_WORD}tab": "\t"}, f"{_WORD}t", level)
    yield from _Archive(data).paragraphs("word/document.xml", reader)


def _heading(style: str) -> int:
    word = style.lower().replace(" ", "")
    if word == "title":
        return 1
    level = word.removeprefix("heading")
    return int(level[:2]) if word.startswith("heading") and level.isascii() and level.isdigit() else 0


def odt(data: bytes, name: str) -> Iterator[Block]:
    """Headings and paragraphs of an OpenDocument text."""

    def level(tag: str, attributes: dict[str, str]) -> int | None:
        told = attributes.get(f"{_TEXT}outline-level", "1")[:2] if tag == f"{_TEXT}h" else ""
        return (int(told) if told.isascii() and told.isdigit() else 1) if told else None

    spaces = dict.fromkeys((f"{_TEXT}s", f"{_TEXT}tab", f"{_TEXT}line-break"), " ")
    reader = _Paragraphs((f"{_TEXT}p", f"{_TEXT}h"), spaces, None, level)
    yield from _Archive(data).paragraphs("content.xml", reader)


def epub(data: bytes, name: str) -> Iterator[Block]:
    """Chapters of a book in the order in which they are read, without those that cannot be read."""
    archive = _Archive(data)
    root = archive.tree("META-INF/container.xml").find(f".//{_CONTAINER}rootfile")
    package_path = root.get("full-path", "") if root is not None else ""
    package = archive.tree(package_path)
    fault: Skipped | None = None
    read = 0
    members = {item.get("id"): item.get("href", "") for item in package.iter(f"{_OPF}item")}
    for number, item in enumerate(package.iter(f"{_OPF}itemref"), 1):
        href = members.get(item.get("idref"))
        if not href:
            continue
        path = posixpath.normpath(posixpath.join(posixpath.dirname(package_path), unquote(href)))
        try:
            text, _, _ = decoded(archive.read(path))
        except Skipped as why:
            fault = why
            continue
        read += 1
        for block in html(shown(text), path):
            yield Block(block.text, level=block.level, label=f"chapter {number}")
    if fault is not None and not read:
        raise fault
