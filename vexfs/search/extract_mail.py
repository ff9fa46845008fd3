"""The extractor of mail: a message, or many behind one another in a file (mbox)."""

import contextlib
import re
from collections.abc import Iterator
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from typing import Any

from vexfs.search.extract import Block, Skipped, decoded, shown
from vexfs.search.extract_html import html
from vexfs.search.extract_text import plain

_SHOWN = ("From", "To", "Cc", "Date")
#: The line that stands before each message of an mbox.
_BETWEEN = re.compile(rb"(?:\A|\r?\n\r?\n)From [^\n]*\d\d:\d\d[^\n]*\n")


def mail(data: bytes, name: str) -> Iterator[Block]:
    """Subject, people and date, what was written, and the names of what is attached, of each message."""
    found = list(_BETWEEN.finditer(data))
    try:
        if not found or found[0].start():
            yield from _message(message_from_bytes(data), 1, "")
            return
        ends = [*(each.start() for each in found[1:]), len(data)]
        for number, (line, end) in enumerate(zip(found, ends, strict=True), 1):
            yield from _message(message_from_bytes(data[line.end() : end]), 1, f"message {number}")
    except RecursionError:
        raise Skipped("mail in mail without end") from None


def _message(message: Message, level: int, label: str) -> Iterator[Block]:
    yield Block(_header(message, "Subject"), level=level, label=label)
    yield Block("\n".join(f"{key}: {words}" for key in _SHOWN if (words := _header(message, key))), label=label)
    yield from _part(message, level, label)


def _part(part: Message, level: int, label: str) -> Iterator[Block]:
    """What is said in a part, or in one of several that say the same."""
    kind = part.get_content_type()
    within: Any = part.get_payload() if part.is_multipart() else []
    if kind == "multipart/alternative":
        within = sorted(within, key=_rank)[:1]
    if name := _filename(part):
        yield Block(f"Attachment: {name}", label=label)
    if kind == "message/rfc822":
        for each in within:
            yield from _message(each, level + 1, label)
    elif part.is_multipart():
        for each in within:
            yield from _part(each, level, label)
    elif part.get_content_maintype() == "text" and part.get_content_disposition() != "attachment":
        for block in (html if kind == "text/html" else plain)(_text(part), ""):
            yield Block(block.text, level=block.level and level + block.level, label=label)


def _rank(part: Message) -> int:
    """The best of several that say the same is the plainest that says something."""
    kind = part.get_content_type()
    if kind == "text/plain":
        return 0 if _text(part).strip() else 4
    return 1 if kind == "text/html" else 2 if part.is_multipart() else 3


def _text(part: Message) -> str:
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    try:
        return data.decode(part.get_content_charset() or "utf-8")
    except (LookupError, ValueError):  # said wrongly, or not at all
        try:
            return shown(decoded(data)[0])
        except Skipped:
            return ""


def _filename(part: Message) -> str:
    return _words(part.get_filename() or "")


def _header(message: Message, key: str) -> str:
    return _words(next((words for name, words in message.raw_items() if name.lower() == key.lower()), ""))


def _words(raw: str) -> str:
    """A header as people read it; bytes that are no ASCII stand in it as surrogates."""
    data = raw.encode("utf-8", "surrogateescape")
    try:
        words = data.decode("utf-8")
    except UnicodeDecodeError:
        words = data.decode("cp1252", "replace")
    with contextlib.suppress(MessageError, LookupError, ValueError):
        words = str(make_header(decode_header(words)))
    return " ".join(words.split())
