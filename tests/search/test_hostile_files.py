"""Files made to cost much: they are read, cut off or refused, in bounded time and memory."""

import json
import random
import re
import time
import tracemalloc
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from vexfs.search.chunk import Chunker
from vexfs.search.extract import Limits, Skipped, decoded, extract, shown

_spec = spec_from_file_location("documents", Path(__file__).with_name("documents.py"))
documents = module_from_spec(_spec)
_spec.loader.exec_module(documents)

WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
TEXT = 'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'


def word(body):
    return documents.zipped({"word/document.xml": f"<w:p {WORD}>{body}</w:p>"})


COSTLY = {
    "a heading of blanks": ("a.md", lambda: b"# " + b" " * 300_000 + b"x"),
    "paragraphs in paragraphs": ("a.docx", lambda: word("<w:p>" * 8000 + "</w:p>" * 8000)),
    "hidden in hidden": ("a.html", lambda: b"<svg>" * 60_000 + b"</math>" * 60_000),
    "ends of tags that end nothing": ("a.html", lambda: b"</" * 1_000_000),
    "declarations that declare nothing": ("a.html", lambda: b"<!" * 1_000_000),
    "attributes": ("a.html", lambda: b"<a " + b"x=1 " * 2_000_000),
    "a comment without end": ("a.html", lambda: b"<!--" + b"x" * (16 << 20)),
    "text without a stop": ("a.txt", lambda: ("字" * 1_500_000).encode()),
    "keys at every leaf": ("a.json", lambda: json.dumps({"a": {"k" * 20_000: ["x"] * 100_000}}).encode()),
    "a key before every passage": ("a.json", lambda: json.dumps({"k" * 500_000: "some words. " * 100_000}).encode()),
}


def plain_s():
    """What this machine computes for ten million steps: that it is slow says nothing of what it was given."""
    began = time.process_time()
    for _ in range(10_000_000):
        pass
    return time.process_time() - began


@pytest.mark.parametrize("what", COSTLY)
def test_time_and_memory_are_bounded(what):
    name, make = COSTLY[what]
    data = make()
    tracemalloc.start()
    began = time.process_time()
    try:
        found = extract(data, name)
        assert sum(len(chunk.context) for chunk in Chunker().cut(found)) < 16 << 20
    except Skipped as why:
        assert str(why)
    took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 256 << 20
    assert took < max(20, 80 * plain_s())


def test_time_is_looked_at_where_nothing_is_found():
    limits = Limits(time_s=-1)
    for name, data in (("a.html", b"<svg>" * 200_000), ("a.docx", word("<w:r/>" * 100_000))):
        assert "within" in extract(data, name, limits).cut


def test_deep_documents_are_read():
    deep = "<text:span>" * 50_000 + "deep" + "</text:span>" * 50_000
    data = documents.zipped({"content.xml": f"<text:p {TEXT}>{deep}</text:p>"})
    assert [block.text for block in extract(data, "a.odt").blocks] == ["deep"]
    within = word("<w:r><w:t>out</w:t></w:r><w:p><w:r><w:t>in</w:t></w:r></w:p><w:r><w:t>er</w:t></w:r>")
    assert [block.text for block in extract(within, "a.docx").blocks] == ["in", "outer"]


def test_pictures_within_pages_are_passed_over():
    page = b'<p>before<img src="data:' + b"Q/" * 1_000_000 + b'">after</p><p>more</p>'
    assert [block.text for block in extract(page, "a.html").blocks] == ["before after", "more"]


def test_text_behind_the_limit_is_left_out_of_one_paragraph_too():
    found = extract(b"a line\n" * 1000, "a.log", Limits(text_chars=100))
    (block,) = found.blocks
    assert len(block.text) == 100 and found.source[block.start : block.end] == block.text and "100" in found.cut


def test_lines_end_where_their_format_ends_them():
    values = ["x\u2028y", "z\x85", "u\x0cv"]
    lines = "".join(json.dumps({"a": each}, ensure_ascii=False) + "\r\n" for each in values)
    assert [block.text for block in extract(lines.encode(), "a.jsonl").blocks] == [f"a: {each}" for each in values]
    rows = extract("name,year\nx\u2028y,3\r\nz,4\ru,5\n".encode(), "a.csv")
    told = ["name: x\u2028y; year: 3", "name: z; year: 4", "name: u; year: 5"]
    assert [block.text for block in rows.blocks[1:]] == told


def test_half_a_character_is_none():
    (block,) = extract(b'{"a\\ud800": "x\\udc00y"}', "a.json").blocks
    assert (block.text, block.label) == ("a\ufffd: x\ufffdy", "a\ufffd")


def test_places_in_html_are_those_of_the_source():
    found = extract(b"<p>caf&eacute; &amp; <b>more</b> &gt;&gt; end </p>\n<p> next<br>", "a.html")
    assert [(block.text, found.source[block.start : block.end]) for block in found.blocks] == [
        ("café & more >> end", "caf&eacute; &amp; <b>more</b> &gt;&gt; end"), ("next", "next"),
    ]  # fmt: skip


LETTERS = {"shift_jis": "日本語テキスト", "gb18030": "中文文本内容", "euc_kr": "한국어텍스트", "cp1252": "éàüöabc"}
MARKS = {"utf-8": b"\xef\xbb\xbf", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff", "utf-32-le": b"\xff\xfe\0\0"}


@pytest.mark.parametrize("encoding", [*LETTERS, *MARKS])
def test_byte_ranges_hold_the_passage_also_where_bytes_are_wrong(encoding):
    """In a file with bytes that are none of its encoding."""
    found_any = False
    for seed in range(12):
        draw = random.Random(f"{encoding} {seed}")
        letters = LETTERS.get(encoding, "aé字🎉 b")
        parts = ["".join(draw.choices(letters, k=draw.randint(20, 900))) for _ in range(6)]
        data = bytearray("\r\n\r\n".join(parts).encode(encoding))
        for _ in range(draw.randint(0, 6)):
            data[draw.randrange(len(data))] = draw.choice((0xFF, 0x80, 0xD8, 0xDC))
        data = MARKS.get(encoding, b"") + bytes(data)
        try:
            found = extract(data, "a.txt")
        except Skipped:
            continue
        for chunk in Chunker().cut(found):
            if chunk.start >= 0:
                found_any = True
                errors = "replace" if encoding.startswith(("utf-1", "utf-3")) else "surrogateescape"
                there = shown(data[chunk.start : chunk.end].decode(found.encoding, errors))
                assert re.sub(r"\s+", "", there) == re.sub(r"\s+", "", chunk.text)
    assert found_any


def test_wrong_bytes_keep_their_place():
    text, encoding, skip = decoded(b"\xef\xbb\xbfa\xffb")
    assert (shown(text), encoding, skip) == ("a\ufffdb", "utf-8", 3)
    assert text.encode(encoding, "surrogateescape") == b"a\xffb"
