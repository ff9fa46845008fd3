"""Passages: their size, their borders, and the bytes that they point at."""

import itertools
import random

import pytest

from vexfs.search.chunk import Chunker, _tokens
from vexfs.search.extract import Block, Extracted, extract

SENTENCE = "Light roasts keep the acidity of the bean, and dark ones trade it for body. "


def cut(data: bytes, name: str = "a.md", **sizes):
    return Chunker(**sizes).cut(extract(data, name))


def test_a_short_file_is_one_passage():
    data = b"# Coffee\n\nLight roasts.\n\n## Dark\n\nBitter.\n"
    (only,) = cut(data)
    assert data[only.start : only.end] == data.strip()
    assert only.label == "Coffee" and only.context.startswith("Coffee\n")
    assert cut(b"") == cut(b"\n\n", "a.txt") == []


def test_sections_of_a_good_size_stand_alone_under_their_headings():
    data = "".join(f"{'#' * (1 + (n % 2))} Part {n}\n\n" + (SENTENCE * 6 + "\n\n") * 2 for n in range(6)).encode()
    found = cut(data)
    assert [each.label for each in found] == [
        f"Part {n}" if n % 2 == 0 else f"Part {n - 1} > Part {n}" for n in range(6)
    ]
    first_lines = [data[each.start : each.end].split(b"\n")[0].strip(b"# ").decode() for each in found]
    assert first_lines == [f"Part {n}" for n in range(6)]


def test_a_heading_never_ends_a_passage():
    data = (("## Small\n\n" + SENTENCE * 3 + "\n\n") * 30).encode()
    found = cut(data)
    assert len(found) > 4
    assert not [each for each in found if each.text.rstrip().endswith("Small")]


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.py", "a.csv"])
def test_sizes_keep_to_their_limits(name):
    rng = random.Random(1)
    words = ["acidity", "bean", "Röstung", "コーヒー豆", "crema", "body,", "dark.", "light!", "why?", "x"]
    text = "".join(rng.choice(words) + rng.choice(["  ", " ", " ", "\n", "\n\n"]) for _ in range(20_000))
    text += "y" * 9000 + " " + "語" * 3000
    data = text.encode()
    found = cut(data, name)
    sizes = [_tokens(each.text) for each in found]
    assert max(sizes) <= 400 + 10  # the joints between paragraphs
    assert sum(size >= 150 for size in sizes) > 0.9 * len(sizes)
    lost = set("".join(text.split())) - set("".join("".join(each.text for each in found).split()))
    assert not lost - {","}  # which separates columns


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_byte_ranges_hold_the_passage(encoding):
    text = "".join(f"Absatz {n}: Röstung für {n} Bohnen à {n} Gramm. " * 7 + "\r\n\r\n" for n in range(60))
    data = text.encode(encoding)
    found = cut(data, "a.txt")
    assert len(found) > 5
    decoder = {"utf-16": "utf-16-le", "utf-8-sig": "utf-8"}.get(encoding, encoding)
    for each in found:
        there = data[each.start : each.end].decode(decoder)
        assert " ".join(there.split()) == " ".join(each.text.split())
    for before, after in itertools.pairwise(found):
        assert before.end <= after.start


def test_a_long_paragraph_is_cut_between_sentences():
    data = (SENTENCE * 100).encode()
    found = cut(data, "a.txt")
    assert all(each.text.startswith("Light") and each.text.endswith(".") for each in found)
    assert b" ".join(data[each.start : each.end] for each in found) == data.strip()


def test_a_long_sentence_is_cut_between_words():
    data = ("roast " * 5000).encode()
    for each in cut(data, "a.txt"):
        assert set(each.text.split()) == {"roast"}


@pytest.mark.parametrize("word", ["roast ", "Röstung ", "焙煎"])
def test_a_sentence_that_is_longer_than_a_passage_begins_in_the_passage_before(word):
    data = (SENTENCE + word * 5000).encode()
    found = cut(data, "a.txt")
    assert found[0].text.startswith(SENTENCE + word[0])
    assert all(390 < _tokens(each.text) <= 400 for each in found[:-1]) and len(found) > 10
    gap = b" " if word.endswith(" ") else b""
    assert gap.join(data[each.start : each.end] for each in found) == data.strip()


def test_blocks_without_places_have_labels_and_no_bytes():
    blocks = [Block("Title", level=1, label="page 1"), *(Block(SENTENCE * 5, label=f"page {n}") for n in range(1, 20))]
    found = Chunker().cut(Extracted("pdf", blocks))
    assert len(found) > 2
    assert {(each.start, each.end) for each in found} == {(-1, -1)}
    assert found[0].label == "Title (page 1)"
    assert found[1].label.startswith("Title (page ")


def test_other_sizes():
    data = (SENTENCE + "\n\n").encode() * 100
    assert len(cut(data, "a.txt", least=20, most=40)) > 5 * len(cut(data, "a.txt", least=300, most=600))


def test_a_file_of_headings_alone_is_looked_at_once():
    looks = 0

    class Heading(Block):
        @property
        def level(self):
            nonlocal looks
            looks += 1
            return 1

    chunks = Chunker().cut(Extracted("markdown", [Heading(f"h {n}") for n in range(20_000)]))
    assert sum(each.text.count("h ") for each in chunks) == 20_000
    assert looks < 10 * 20_000
