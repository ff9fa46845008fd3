"""Extractors of documents that are archives of XML: DOCX, ODT, EPUB.

What an archive says of its own sizes is not believed: no member is read further than a limit.
"""

import io
import posixpath
import zipfile
from collections.abc import Iterator
from urllib.parse import unquote
from xml.etree import ElementTree as ET

from vexfs.search.extract import Block, Skipped, decoded
from vexfs.search.extract_html import html

_MEMBER_MOST = 64 << 20
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
        data = self.read(member)
        if b"<!ENTITY" in data[:4096]:
            raise Skipped(f"{member} in the archive declares entities")
        try:
            return ET.fromstring(data)
        except ET.ParseError as error:
            raise Skipped(f"{member} in the archive is not XML: {error}") from error


def docx(data: bytes, name: str) -> Iterator[Block]:
    """Paragraphs of a Word document, and the paragraphs of its tables; headings by their style."""
    tree = _Archive(data).tree("word/document.xml")
    for number, paragraph in enumerate(tree.iter(f"{_WORD}p"), 1):
        words = "".join(
            (node.text or "") if node.tag == f"{_WORD}t" else "\t" if node.tag == f"{_WORD}tab" else ""
            for node in paragraph.iter()
        ).strip()
        if words:
            style = paragraph.find(f"{_WORD}pPr/{_WORD}pStyle")
            yield Block(words, level=_heading(style.get(f"{_WORD}val", "") if style is not None else ""),
                        label=f"paragraph {number}")  # fmt: skip


def _heading(style: str) -> int:
    word = style.lower().replace(" ", "")
    if word == "title":
        return 1
    level = word.removeprefix("heading")
    return int(level) if word.startswith("heading") and level.isascii() and level.isdigit() else 0


def odt(data: bytes, name: str) -> Iterator[Block]:
    """Headings and paragraphs of an OpenDocument text."""
    tree = _Archive(data).tree("content.xml")
    number = 0
    for node in tree.iter():
        if node.tag in (f"{_TEXT}p", f"{_TEXT}h"):
            number += 1
            words = _spoken(node).strip()
            if words:
                level = node.get(f"{_TEXT}outline-level", "1") if node.tag == f"{_TEXT}h" else "0"
                yield Block(words, level=int(level) if level.isdigit() else 1, label=f"paragraph {number}")


def _spoken(node: ET.Element) -> str:
    parts = [node.text or ""]
    for child in node:
        if child.tag in (f"{_TEXT}s", f"{_TEXT}tab", f"{_TEXT}line-break"):
            parts.append(" ")
        elif child.tag not in (f"{_TEXT}p", f"{_TEXT}h"):
            parts.append(_spoken(child))
        parts.append(child.tail or "")
    return "".join(parts)


def epub(data: bytes, name: str) -> Iterator[Block]:
    """Chapters of a book in the order in which they are read."""
    archive = _Archive(data)
    root = archive.tree("META-INF/container.xml").find(f".//{_CONTAINER}rootfile")
    package_path = root.get("full-path", "") if root is not None else ""
    package = archive.tree(package_path)
    members = {item.get("id"): item.get("href", "") for item in package.iter(f"{_OPF}item")}
    for number, item in enumerate(package.iter(f"{_OPF}itemref"), 1):
        href = members.get(item.get("idref"))
        if not href:
            continue
        path = posixpath.normpath(posixpath.join(posixpath.dirname(package_path), unquote(href)))
        text, _, _ = decoded(archive.read(path))
        for block in html(text, path):
            yield Block(block.text, level=block.level, label=f"chapter {number}")
