"""Chunks: a file's text cut into passages that are embedded and found one by one.

A passage is 200 to 400 tokens long.  It ends where a section or a paragraph ends; one that is too long by itself is cut
between sentences, then between words.  Small sections share a passage.  Tokens are counted as a quarter of the bytes in
UTF-8, which is within a quarter of what the embedders' own vocabularies count in most languages.
"""

import bisect
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import attrs

from vexfs.search.extract import Block, Extracted

_SENTENCE = re.compile(r"[.!?。！？][\"')\]»”’]*\s+|[。！？\n]")
_BYTES_A_TOKEN = 4
_LABEL_MOST = 300


class Chunk(NamedTuple):
    """One passage.

    Attributes
    ----------
    text : str
        As it stands in the file, or as it was extracted.
    start, end : int
        The bytes of the file that it comes from; -1 where the format does not say.
    label : str
        The headings above it and its page or cell, as ``Roasting > Light roasts``; "" when there are none.
    """

    text: str
    start: int = -1
    end: int = -1
    label: str = ""

    @property
    def context(self) -> str:
        """What is embedded: the passage under its headings."""
        return f"{self.label}\n{self.text}" if self.label else self.text


@attrs.define
class Chunker:
    """Cuts text into passages of `least` to `most` tokens."""

    least: int = 200
    most: int = 400

    def cut(self, found: Extracted) -> list[Chunk]:
        """The passages of a file, in order, with their byte ranges."""
        chunks = [_joined(held, label) for held, label in self._runs(found.blocks)]
        if not found.encoding:
            return [each._replace(start=-1, end=-1) for each in chunks]
        if found.encoding == "utf-8" and not found.skip_bytes and found.source.isascii():
            return chunks
        where = _bytes_at({place for each in chunks for place in (each.start, each.end)}, found)
        return [each._replace(start=where[each.start], end=where[each.end]) for each in chunks]

    def _runs(self, blocks: list[Block]) -> Iterable[tuple[list[Block], str]]:
        """As `_passages`; what is one passage without a heading is seen at once."""
        if not any(block.level for block in blocks):
            held = [block for block in blocks if block.text.strip()]
            if sum(_tokens(block.text) for block in held) <= self.most:
                return [(held, _label([], held[0].label))] if held else []
        return self._passages(blocks)

    def _passages(self, blocks: list[Block]) -> Iterator[tuple[list[Block], str]]:
        """Runs of blocks that make one passage each, with the headings above its first one."""
        headings: list[tuple[int, str]] = []
        held: list[Block] = []
        size, label = 0, None  # None: all that is held are headings
        for block in self._pieces(blocks):
            cost = _tokens(block.text)
            sections = block.level and label is not None
            if held and (size + cost > self.most or (sections and size >= self.least)):
                if label is None:
                    yield held, _label(headings, held[-1].label)
                    held = []
                else:  # a heading goes with what is under it
                    kept = _headings_at_the_end(held)
                    yield held[: len(held) - kept], label
                    held = held[len(held) - kept :]
                size, label = sum(_tokens(each.text) for each in held), None
            if block.level:
                headings = [each for each in headings if each[0] < block.level]
                headings.append((block.level, block.text))
            elif label is None:
                label = _label(headings, block.label)
            held.append(block)
            size += cost
        if held:
            yield held, _label(headings, held[-1].label) if label is None else label

    def _pieces(self, blocks: list[Block]) -> Iterator[Block]:
        for block in blocks:
            if not block.text.strip():
                continue
            if _tokens(block.text) <= self.most:
                yield block
            else:
                yield from self._divided(block)

    def _divided(self, block: Block) -> Iterator[Block]:
        """A block that is too long: between sentences, between words where a sentence is longer than a passage."""
        text, begin = block.text, 0
        ends = [*(found.end() for found in _SENTENCE.finditer(text)), len(text)]
        while begin < len(text):
            most = begin + _chars(text, begin, self.most)
            k = bisect.bisect_right(ends, most)
            end = ends[k - 1] if k else 0
            if k < len(ends) and ends[k] - max(begin, end) > most - begin:
                end = text.rfind(" ", (begin + most) // 2, most) + 1 or most
            if (part := _part(block, begin, end)).text:
                yield part
            begin = end


def _tokens(text: str) -> int:
    return (len(text) if text.isascii() else len(text.encode("utf-8", "replace"))) // _BYTES_A_TOKEN + 1


def _chars(text: str, begin: int, tokens: int) -> int:
    """How many characters from `begin` on have at most so many tokens; at least one."""
    room = tokens * _BYTES_A_TOKEN - 1
    sample = text[begin : begin + room]
    if sample.isascii():
        return len(sample)
    return max(1, len(sample.encode("utf-8", "replace")[:room].decode("utf-8", "ignore")))


def _part(block: Block, begin: int, end: int) -> Block:
    text = block.text[begin:end]
    body = text.strip()
    if not block.exact or block.start < 0:
        return block._replace(text=body)
    start = block.start + begin + len(text) - len(text.lstrip())
    return block._replace(text=body, start=start, end=start + len(body))


def _headings_at_the_end(held: list[Block]) -> int:
    count = 0
    while count < len(held) and held[-1 - count].level:
        count += 1
    return count


def _label(headings: list[tuple[int, str]], place: str) -> str:
    words, place = " > ".join(text for _, text in headings)[:_LABEL_MOST], place[:_LABEL_MOST]
    return f"{words} ({place})" if words and place else words or place


def _joined(held: list[Block], label: str) -> Chunk:
    if len(held) == 1:
        (text, start, end, _, _, _), = held
        return Chunk(text, start, end, label) if start >= 0 else Chunk(text, label=label)
    text = "\n\n".join(block.text for block in held)
    places = [block for block in held if block.start >= 0]
    if not places:
        return Chunk(text, label=label)
    return Chunk(text, min(block.start for block in places), max(block.end for block in places), label)


def _bytes_at(places: set[int], found: Extracted) -> dict[int, int]:
    """Characters of the decoded text as bytes of the file."""
    char, byte = 0, found.skip_bytes
    where = {-1: -1}
    for place in sorted(places - {-1}):
        part = found.source[char:place]
        plain = found.encoding == "utf-8" and part.isascii()
        byte += len(part) if plain else len(part.encode(found.encoding, "surrogateescape"))
        char = place
        where[place] = byte
    return where
