"""The ranking against the slow reference: the same rows in the same order with the same scores, ties by row."""

import io
import random

import numpy as np
import pytest

from tests.core.words_reference import Reference
from vexfs._core.words import WordIndex


def vocabulary(n: int) -> list[str]:
    return [f"w{i}x" for i in range(n)]


def passage(rng: random.Random, words: list[str], longest: int) -> str:
    """Zipf's law, now and then a word very often."""
    n = rng.randint(0, longest)
    drawn = [words[min(int(rng.paretovariate(0.7)) - 1, len(words) - 1)] for _ in range(n)]
    if rng.random() < 0.02:
        drawn += [words[rng.randrange(len(words))]] * rng.randint(1, 300)
    return " ".join(drawn)


class Both:
    """The index and the reference, changed together."""

    def __init__(self):
        self.index, self.reference = WordIndex(), Reference()

    def put(self, rows, texts):
        records = [WordIndex.encode(text) for text in texts]
        self.index.put(np.array(rows), records)
        for row, record in zip(rows, records, strict=True):
            self.reference.put(row, record)

    def remove(self, rows):
        self.index.remove(np.array(rows))
        for row in rows:
            self.reference.remove(row)

    def check(self, rng, words, queries, k=10):
        self.reference.index()
        assert len(self.index) == len(self.reference.passages)
        for _ in range(queries):
            clauses = random_clauses(rng, words)
            text = " ".join(map(spoken, clauses))
            allowed = options = None
            if rng.random() < 0.3:
                all_rows = self.reference.rows
                allowed = all_rows[np.random.default_rng(rng.randrange(9999)).random(len(all_rows)) < 0.2]
                options = rng.choice(["rows", "mask"])
            got = self.index.search(text, k, **restricted(allowed, options))
            want = self.reference.search(clauses, k, allowed)
            np.testing.assert_array_equal(got[0], want[0], text)
            np.testing.assert_array_equal(got[1], want[1], text)


def restricted(allowed, how):
    if how is None:
        return {}
    if how == "rows":
        return {"rows": allowed[::-1].copy()}
    bits = np.zeros((int(allowed.max(initial=0)) // 64 + 1) * 64, np.uint8)
    bits[allowed] = 1
    return {"mask": np.packbits(bits, bitorder="little").view(np.uint64)}


def random_clauses(rng, words):
    clauses, seen = [], set()
    for _ in range(rng.randint(1, 8)):
        sign = rng.choice("     +-")
        kind = rng.choice(["term"] * 6 + ["prefix", "phrase"])
        n = 2 if kind == "phrase" else 1
        drawn = [words[min(int(rng.paretovariate(0.4)) - 1, len(words) - 1)] for _ in range(n)]
        if kind == "prefix":
            drawn = [drawn[0][: rng.randint(2, 4)].rstrip("x")]
        key = (kind, *drawn)
        if key not in seen:  # a word said twice counts twice: another test
            seen.add(key)
            clauses.append((sign, kind, drawn))
    return clauses


def spoken(clause):
    sign, kind, words = clause
    body = {"term": words[0], "prefix": words[0] + "*", "phrase": f'"{" ".join(words)}"'}[kind]
    return sign.strip() + body


@pytest.mark.parametrize("seed", range(30))
def test_small_corpora(seed):
    rng = random.Random(seed)
    words = vocabulary(rng.choice([3, 30, 300]))
    both = Both()
    rows = rng.sample(range(500), 120)
    both.put(rows, [passage(rng, words, 40) for _ in rows])
    both.check(rng, words, 20, k=rng.choice([1, 5, 200]))
    both.remove(rng.sample(range(500), 200))
    both.check(rng, words, 10)
    again = rng.sample(range(500), 60)
    both.put(again, [passage(rng, words, 10) for _ in again])
    both.check(rng, words, 10)


def english(n: int) -> list[str]:
    """Words in several forms each, and some that only look so."""
    roots = ["install", "run", "copy", "make", "add", "sing", "red", "connect", "pass", "control", "play", "on", "by"]
    endings = ["", "", "ing", "ed", "ion", "ation", "ly", "e", "y"]
    made = [root + ending for root in roots for ending in endings]
    return [*made[:n], "running", "copied", "controlling", "ing", "ed"]


@pytest.mark.parametrize("seed", range(30))
def test_other_forms(seed):
    rng = random.Random(300 + seed)
    words = english(rng.choice([9, 40, 200]))
    rng.shuffle(words)
    both = Both()
    rows = rng.sample(range(500), 150)
    both.put(rows, [passage(rng, words, 30) for _ in rows])
    both.check(rng, words, 20, k=rng.choice([1, 5, 200]))
    both.remove(rng.sample(range(500), 300))
    both.check(rng, [*words, "runner", "installer", "connective"], 20)


@pytest.mark.parametrize("seed", range(3))
def test_more_than_a_window(seed):
    """Lists of every shape: in place, one block, windows sorted and dense; several windows, changed while they grow."""
    rng = random.Random(100 + seed)
    words = vocabulary(2000)
    both = Both()
    both.put(list(range(9000)), [passage(rng, words, 25) for _ in range(9000)])
    both.check(rng, words, 25, k=rng.choice([1, 10, 100]))
    gone = rng.sample(range(9000), 2500)
    both.remove(gone)
    both.check(rng, words, 10)
    both.put(gone[:1000], [passage(rng, words, 60) for _ in range(1000)])
    both.check(rng, words, 15)


def test_more_than_a_part():
    """Beyond 65,536 documents, with replacement and the background's work in between."""
    rng = random.Random(7)
    words = vocabulary(50)
    both = Both()
    for _ in range(7):
        rows = list(range(10_000))
        both.put(rows, [passage(rng, words, 3) for _ in rows])
    assert both.index.stats()["parts"] == 2
    both.check(rng, words, 8)
    while both.index.maintain(1):
        pass
    assert both.index.stats()["parts"] == 1
    both.check(rng, words, 8)


def test_a_word_said_twice_counts_twice():
    index = WordIndex()
    index.put([0, 1], [WordIndex.encode("light"), WordIndex.encode("dark")])
    once, twice = index.search("light")[1], index.search("light light")[1]
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)


def test_scores_are_bm25():
    """Against the formula in double precision, written down once more."""
    texts = ["a b b c", "b d", "c c c c c d e f g", "e"]
    index = WordIndex()
    index.put(range(4), [WordIndex.encode(t) for t in texts])
    rows, scores = index.search("b c")
    lengths = np.array([4, 2, 9, 1])
    norm = 1.2 * (0.25 + 0.75 * lengths / lengths.mean())
    idf = np.log1p((4 - 2 + 0.5) / (2 + 0.5))
    want = sum(idf * 2.2 * tf / (tf + norm) for tf in (np.array([2, 1, 0, 0]), np.array([1, 0, 5, 0])))
    order = np.argsort(-want)[:3]
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_allclose(scores, want[order], rtol=1e-5)


def test_the_kernels_agree():
    rng, words = random.Random(5), vocabulary(500)
    plain, wide = WordIndex(simd=False), WordIndex()
    records = [WordIndex.encode(passage(rng, words, 20)) for _ in range(6000)]
    plain.put(range(6000), records)
    wide.put(range(6000), records)
    for _ in range(50):
        query = " ".join(rng.sample(words[:60], 5))
        for got, want in zip(wide.search(query, 50), plain.search(query, 50), strict=True):
            np.testing.assert_array_equal(got, want)


def test_words_that_are_said_no_more_are_forgotten():
    """New words for ever, in few passages: neither the dictionary nor the numbers of parts run out."""
    rng = random.Random(11)
    words = vocabulary(30)
    both = Both()
    for turn in range(60):
        rows = list(range(500))
        both.put(rows, [f"{passage(rng, words, 3)} new{turn}x{row} also{turn}y{row}" for row in rows])
        while both.index.maintain(1):
            pass
        if turn % 20 == 19:
            both.check(rng, [*words, f"new{turn}x7", f"new{turn - 1}x7", "new", "also"], 6)
    stats = both.index.stats()
    assert stats["parts"] == 1 and stats["terms"] < 20_000
    data = bytearray()
    both.index.dump(data.extend)
    again = WordIndex()
    again.restore(io.BytesIO(data).read)
    for asked in ("new59x7", "new58x7", words[0], "also59*"):
        np.testing.assert_array_equal(again.search(asked, 20)[0], both.index.search(asked, 20)[0])
