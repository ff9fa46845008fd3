"""What is read out of files of every kind, and what is refused."""

import bz2
import gzip
import io
import json
import lzma
import os
import sys
import tracemalloc
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from vexfs.registry import registry
from vexfs.search import extract as extraction
from vexfs.search.extract import Block, Limits, Skipped, extract
from vexfs.search.jsonwalk import Walk, leaves

_spec = spec_from_file_location("documents", Path(__file__).with_name("documents.py"))
documents = module_from_spec(_spec)
_spec.loader.exec_module(documents)


def texts(found):
    return [block.text for block in found.blocks]


def headings(found):
    return [(block.level, block.text) for block in found.blocks if block.level]


def points_at_itself(found):
    for block in found.blocks:
        if block.exact:
            assert found.source[block.start : block.end] == block.text
        elif block.start >= 0:
            assert 0 <= block.start <= block.end <= len(found.source)
    places = [block.start for block in found.blocks if block.start >= 0]
    assert places == sorted(places)


def test_plain_text_is_paragraphs():
    found = extract(b"One\nline.  \n\n \n  Two.\n\n\n", "a.txt")
    assert texts(found) == ["One\nline.", "Two."]
    assert (found.kind, found.encoding) == ("text", "utf-8")
    points_at_itself(found)
    assert texts(extract(b"", "a.txt")) == texts(extract(b" \n\t\n", "a.txt")) == []


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "iso8859-15", "koi8-r", "shift_jis"],
)
def test_encodings_are_detected(encoding):
    words = {
        "koi8-r": "Привет, мир. Это русский текст о кофе и обжарке зёрен. ",
        "shift_jis": "これは日本語の文章です。コーヒー豆の焙煎について書いています。",
    }.get(encoding, "Déjà vu: le café crème coûte à peine trois francs à l'hôtel. ")  # fmt: skip
    found = extract((words * 20).encode(encoding), "a.txt")
    assert words.strip() in found.blocks[0].text


@pytest.mark.parametrize(
    "words", ["café weasel", "résumé of Zoë", "El niño", "José", "temperature 20°C", "Ångström", "© 2020 Foo",
              "El niño comió una manzana en la montaña mañana.", "Hyvää päivää, mitä kuuluu? Tässä on jäätelöä.",
              "penguin Übergrößenträger ñandú, das ist ein Satz.", "één van de coördinaten"]
)  # fmt: skip
def test_a_short_western_text_is_read_as_such(words):
    assert extract(words.encode("cp1252"), "a.txt").blocks[0].text == words


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_a_packed_file_is_read_as_what_it_holds(suffix, pack):
    found = extract(pack(b"# Coffee\n\nLight.\n"), f"notes.md.{suffix}")
    assert (found.kind, texts(found), found.encoding) == ("markdown", ["Coffee", "Light."], "")
    assert texts(extract(pack(b"One.\n") + pack(b"Two.\n"), f"changelog.{suffix.upper()}")) == ["One.\nTwo."]
    for data, name, why in [
        (pack(b"x" * 5000), f"a.txt.{suffix}", "more than 4096 bytes when it is unpacked"),
        (pack(b"some words\n" * 200)[:-9], f"a.txt.{suffix}", f"damaged .{suffix}"),
        (b"no such thing", f"a.txt.{suffix}", f"damaged .{suffix}"),
        (pack(b"\0\1"), f"a.tar.{suffix}", "a .tar file holds no text"),
    ]:
        with pytest.raises(Skipped, match=why):
            extract(data, name, Limits(size_bytes=4096))


def test_markdown_has_headings_of_both_kinds_and_code_as_it_stands():
    text = "# Coffee\n\nIntro\nmore.\n\nRoasts\n------\n\nLight.\n\n```py\n# no heading\n\nx = 1\n```\n\n"
    text += "### Deep ###\nEnd"
    found = extract(text.encode(), "x/a.MD")
    assert headings(found) == [(1, "Coffee"), (2, "Roasts"), (3, "Deep")]
    assert "Intro\nmore." in texts(found) and texts(found)[-1] == "End"
    assert any(block.text.startswith("```py") and "x = 1" in block.text for block in found.blocks)
    points_at_itself(found)


def test_html_is_what_a_reader_sees():
    text = """<!DOCTYPE html><html><head><title>A &amp; B</title>
    <style>p{}</style><script>var x = "<p>no</p>";</script></head>
    <body><nav>Home</nav><h2>Chap<b>ter</b></h2><p>One <i>two</i>
    three<br>four</p><ul><li>item</ul><table><tr><td>c1</td><td>c2</td></tr></table><img alt="a cat"></body>"""
    found = extract(text.encode(), "page")
    assert found.kind == "html"
    assert headings(found) == [(1, "A & B"), (2, "Chapter")]
    assert texts(found)[2:] == ["One two three", "four", "item", "c1 c2", "a cat"]
    one = found.blocks[2]
    assert text[one.start : one.end].startswith("One <i>two") and text[one.start : one.end].endswith("three")
    points_at_itself(found)


def test_html_that_never_ends_a_tag_or_nests_without_end():
    for text in ("<p>a<b" * 50, "<div>" * 20000 + "deep", "<script>x", "&#xffffffff; &bogus; <!-- open"):
        extract(text.encode(), "a.html")


def test_code_is_cut_at_definitions():
    text = "import os\n\nX = 1\n\n\ndef roast(beans):\n    return 1\n\n    # more\n\n"
    text += "class Cup:\n    def drink(self):\n        pass\n"
    found = extract(text.encode(), "a.py")
    assert [title for _, title in headings(found)] == ["def roast", "class Cup"]
    assert any(block.text.startswith("def roast") and "# more" in block.text for block in found.blocks)
    points_at_itself(found)


def test_tables_name_their_columns():
    found = extract(b'name;year\n"Kenya; AA";2021\nBrazil;\n\n"two\nlines";3\n', "a.csv")
    assert texts(found)[1:] == ["name: Kenya; AA; year: 2021", "name: Brazil", "name: two\nlines; year: 3"]
    assert found.source[found.blocks[3].start : found.blocks[3].end] == '"two\nlines";3\n'
    points_at_itself(found)


DOCUMENTS = [
    [], {}, "text", 7, None, [1, 2], ["a", [1, 2], {"b": "c", "d": ["w", "x"]}],
    {"data": [{"id": n, "name": f"name {n}", "tags": ["a", "\u2028\"", [n, n]]} for n in range(9)], "x": {"y": None}},
    {"a": {"b": {"c": ["long " * 30, {"d": "e\\\\"}]}, "": "empty key"}, "z": "last"},
]  # fmt: skip


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("value", DOCUMENTS)
def test_json_gone_through_entry_by_entry_says_the_same(value, indent):
    """A window of any size finds what the document as a whole says: it matters to memory alone."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    whole = [(key, list(lines)) for key, lines in Walk(text).top()]
    if isinstance(value, dict | list):
        parsed = value.items() if isinstance(value, dict) else [("", each) for each in value]
        assert [lines for _, lines in whole] == [list(leaves(each, key, 1)) for key, each in parsed]
    for window in (8, 31, 64, 300):
        assert [(key, list(lines)) for key, lines in Walk(text, window).top()] == whole


def test_a_number_may_lie_across_the_edge_of_a_window():
    text = json.dumps({"all": ["a word", 1.5, -22.25, 1e-30, 4.5e40, {"x": 0.125, "y": 1e300}] * 9, "last": 3.75})
    whole = [(key, list(lines)) for key, lines in Walk(text).top()]
    for window in range(6, 90):
        found = [(key, list(lines)) for key, lines in Walk(text, window).top()]
        assert [key for key, _ in found] == ["all", "last"] and found[1] == whole[1]
        assert found[0][1].count("all.x: 0.125") == found[0][1].count("all.y: 1e+300") == 9


NO_JSON = ["", "{", "[1,", '{"a" 1}', '{"a": 1,}', "[1] 2", '["a', "[1}", "{1: 2}", '{"a": [1, x]}']


@pytest.mark.parametrize("text", NO_JSON)
def test_json_that_is_none_is_none_in_pieces_too(text):
    for window in (2, 5, 1000):
        with pytest.raises(ValueError):
            for _, lines in Walk(text, window).top():
                list(lines)


def test_a_large_json_document_takes_little_memory():
    record = json.dumps({"id": 17, "name": "a name", "tags": ["a", "b"], "pos": {"x": 1.5, "y": 2}})
    data = ('{"data": [' + ", ".join([record] * 200_000) + "]}").encode()
    tracemalloc.start()
    found = extract(data, "large.json", Limits(text_chars=1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.blocks[0].text.startswith("data.id: 17\ndata.name: a name\ndata.tags: a")
    assert peak < 2 * len(data)


def test_json_names_its_keys():
    value = {"title": "Roasts", "meta": {"tags": ["light", "dark"], "v": [1.5, 2.5]}, "ok": True, "none": None}
    found = extract(json.dumps(value).encode(), "a.json")
    assert texts(found) == ["title: Roasts", "meta.tags: light\nmeta.tags: dark"]
    lines = b'{"a": "x"}\n\n{"a": "y"}\n'
    found = extract(lines, "a.jsonl")
    assert texts(found) == ["a: x", "a: y"]
    assert found.source[found.blocks[1].start :] == '{"a": "y"}\n'
    found = extract(lines + b'{"a": "z', "a.jsonl")
    assert texts(found) == ["a: x", "a: y", '{"a": "z']
    deep = b"[" * 100_000
    for bad in (b'{"a": ', deep):
        with pytest.raises(Skipped, match="not JSON"):
            extract(bad, "a.json")


def test_notebooks_are_their_cells():
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "words"]},
        {"cell_type": "code", "source": "x = 1", "outputs": [{"text": "never"}]},
    ]
    found = extract(json.dumps({"cells": cells}).encode(), "a.ipynb")
    assert [(b.text, b.level, b.label) for b in found.blocks] == [
        ("Title", 1, "cell 1"), ("words", 0, "cell 1"), ("x = 1", 0, "cell 2"),
    ]  # fmt: skip
    for bad in (b"[]", b'{"worksheets": 7}', b'{"cells": {}}'):
        with pytest.raises(Skipped, match="without cells"):
            extract(bad, "a.ipynb")


def test_notebooks_of_before_2015():
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Roasts"]},
        {"cell_type": "code", "input": ["x = 1\n", "y = 2"], "outputs": [{"text": "never"}]},
        {"cell_type": "markdown", "source": "words"},
    ]
    found = extract(json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}, {}]}).encode(), "a.ipynb")
    assert [(b.text, b.level, b.label) for b in found.blocks] == [
        ("Roasts", 2, "cell 1"), ("x = 1\ny = 2", 0, "cell 2"), ("words", 0, "cell 3"),
    ]  # fmt: skip


def test_word_documents():
    data = documents.docx([("Title", "Coffee"), ("Heading2", "Roasts"), ("Normal", "Light roasts")])
    for name in ("a.docx", "without-suffix"):
        found = extract(data, name)
        assert headings(found) == [(1, "Coffee"), (2, "Roasts")]
        assert texts(found)[-1] == "Light roasts" and not found.encoding


def test_open_document_texts():
    heading = '<text:h text:outline-level="2">Roasts</text:h>'
    words = "Light<text:s/>roasts <text:span>keep</text:span>"
    data = documents.odt(f"{heading}<text:p>{words}</text:p>")
    found = extract(data, "a.odt")
    assert [(b.level, b.text) for b in found.blocks] == [(2, "Roasts"), (0, "Light roasts keep")]


def test_books_in_reading_order():
    found = extract(documents.epub(["<p>first file</p>", "<h1>Second</h1><p>file</p>"]), "a.epub")
    assert [(b.text, b.label) for b in found.blocks] == [
        ("Second", "chapter 1"), ("file", "chapter 1"), ("first file", "chapter 2"),
    ]  # fmt: skip


def test_a_book_that_lacks_a_chapter_is_read_without_it():
    data = documents.epub(["<p>last</p>", "<p>lost</p>", "<p>first</p>"])
    found = extract(without(data, "c 1.xhtml"), "a.epub")
    assert [(block.text, block.label) for block in found.blocks] == [("first", "chapter 1"), ("last", "chapter 3")]
    with pytest.raises(Skipped, match="lacks OEBPS/text/c 0.xhtml"):
        extract(without(data, ".xhtml"), "a.epub")


def without(data: bytes, end: str) -> bytes:
    """An archive less its members whose names end so."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as left:
        for name in archive.namelist():
            if not name.endswith(end):
                left.writestr(name, archive.read(name))
    return out.getvalue()


def test_pdf_pages():
    pytest.importorskip("pypdf")
    found = extract(documents.pdf(["Light roasts keep acidity", "Dark roasts do not"]), "paper")
    assert [(b.text.strip(), b.label) for b in found.blocks] == [
        ("Light roasts keep acidity", "page 1"), ("Dark roasts do not", "page 2"),
    ]  # fmt: skip


def test_pdf_without_its_library_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(Skipped, match=r"vexfs\[pdf\]"):
        extract(documents.pdf(["x"]), "a.pdf")


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["docx", "odt", "epub", "pdf"])
def test_damaged_documents_are_refused_with_a_reason(kind, cut):
    if kind == "pdf":
        pytest.importorskip("pypdf")
    data = {
        "docx": documents.docx([("Normal", "x" * 5000)]),
        "odt": documents.odt("<text:p>x</text:p>"),
        "epub": documents.epub(["<p>x</p>"]),
        "pdf": documents.pdf(["words"]),
    }[kind]
    try:
        extract(data[: int(len(data) * cut)], f"a.{kind}")
    except Skipped as why:
        assert str(why)
    for at in range(40, len(data) - 40, 37):
        broken = bytearray(data)
        broken[at] ^= 0x5A
        try:
            extract(bytes(broken), f"a.{kind}")
        except Skipped as why:
            assert str(why)


def test_bombs_are_not_unpacked(monkeypatch):
    from vexfs.search import extract_office

    monkeypatch.setattr(extract_office, "_MEMBER_MOST", 1 << 20)
    bomb = documents.zipped({"content.xml": b"\0" * (2 << 20)})
    with pytest.raises(Skipped, match="larger"):
        extract(bomb, "a.odt")
    entity = '<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'
    with pytest.raises(Skipped, match="entities"):
        extract(documents.zipped({"word/document.xml": entity}), "a.docx")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.png", b"x"), ("a", b"\x89PNG\r\n"), ("a.bin", bytes(range(256)) * 4), ("a.dat", b"\x7fELF\x02"),
        ("a.txt", b"\1\2\3\4" * 9), ("a.zip", b"PK"), ("noise", os.urandom(5000)), ("a", documents.zipped({"x": "y"})),
    ],
)  # fmt: skip
def test_what_is_no_text_is_skipped(name, data):
    with pytest.raises(Skipped):
        extract(data, name)


def test_limits():
    with pytest.raises(Skipped, match="the most is 10"):
        extract(b"x" * 11, "a.txt", Limits(size_bytes=10))
    found = extract(b"word\n\n" * 1000, "a.txt", Limits(text_chars=100))
    assert len(found.blocks) < 50 and "behind" in found.cut
    found = extract(b"word\n\n" * 1000, "a.txt", Limits(time_s=-1))
    assert len(found.blocks) == 1 and "within" in found.cut


def test_a_plugin_reads_its_suffix_and_replaces_a_kind():
    plugins = registry("extractors")
    plugins.add("rtf", lambda data, name: [Block(f"{len(data)} bytes of {name}")])
    try:
        found = extract(b"\0\1\2", "a.rtf")
        assert (found.kind, texts(found)) == ("rtf", ["3 bytes of a.rtf"])
    finally:
        plugins._loaded.pop("rtf")


def test_every_kind_has_an_extractor():
    assert not registry("extractors").broken()
    assert set(extraction._SUFFIXES) <= set(registry("extractors").names())
