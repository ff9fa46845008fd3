"""Static embeddings against a plain implementation of the same thing."""

import itertools
import random
import threading

import numpy as np
import pytest

from vexfs._core.pooled import Pooled

MARK = "\u2581"
LETTERS = "abcé你"


def vocabulary(seed: int, merges: int = 60):
    """A small random byte-pair vocabulary: tokens, merges as triples of numbers, and their vectors."""
    rng = random.Random(seed)
    words = [f"<{b}>" for b in range(256)] + [MARK, *LETTERS]
    pairs = []
    while len(pairs) < merges:
        left, right = rng.choice(words[256:]), rng.choice(words[256:])
        if MARK in right or left + right in words or len(left + right) > 12:
            continue
        pairs.append((words.index(left), words.index(right), len(words)))
        words.append(left + right)
    rows = np.random.default_rng(seed).normal(size=(len(words), 19)).astype(np.float32)
    return words, np.array(pairs, np.uint32), rows


def lines(words, pairs) -> list[str]:
    return [f"{words[left]} {words[right]}" for left, right, _ in pairs]


def pooled_of(words, pairs, rows) -> Pooled:
    return Pooled([word.encode() for word in words], lines(words, pairs), rows, 0)


def slowly(words, pairs, text: str) -> list[int]:
    ranks = {(a, b): (rank, into) for rank, (a, b, into) in enumerate(pairs.tolist())}
    out: list[int] = []
    for word in text.split():
        ids: list[int] = []
        for char in MARK + word:
            ids += [words.index(char)] if char in words else list(char.encode())
        while True:
            found = [(ranks[pair], i) for i, pair in enumerate(itertools.pairwise(ids)) if pair in ranks]
            if not found:
                break
            (_, into), at = min(found)
            ids[at : at + 2] = [into]
        out += ids
    return out


@pytest.mark.parametrize("seed", range(8))
def test_tokens_are_those_of_plain_merging(seed):
    words, pairs, rows = vocabulary(seed)
    pooled = pooled_of(words, pairs, rows)
    rng = random.Random(seed)
    for _ in range(200):
        text = "".join(rng.choice(LETTERS * 3 + " x\n\u3000\u00a0\u0085ßz") for _ in range(rng.randrange(60)))
        assert pooled.tokens(text).tolist() == slowly(words, pairs, text), repr(text)


def test_vectors_are_means_at_length_one():
    words, pairs, rows = vocabulary(3)
    pooled = pooled_of(words, pairs, rows)
    texts = ["abc cab", "你é" * 20, "", "  \n", "zebra " * 300]
    found = pooled.embed(texts)
    assert found.dtype == np.float32 and found.shape == (5, 19)
    for text, row in zip(texts, found, strict=True):
        tokens = pooled.tokens(text)
        want = rows[tokens].sum(axis=0) if len(tokens) else np.zeros(19, np.float32)
        if len(tokens):
            want /= np.linalg.norm(want)
        np.testing.assert_allclose(row, want, atol=2e-5)


def test_white_space_is_what_python_calls_so():
    words, pairs, rows = vocabulary(0)
    pooled = pooled_of(words, pairs, rows)
    for code in [*range(0x3100), 0xFEFF, 0x1F600]:
        if not 0xD800 <= code < 0xE000:
            text = f"a{chr(code)}b"
            count = len(pooled.tokens(text).tolist()) - len(slowly(words, pairs, text))
            assert count == 0, hex(code)


def test_a_long_word_is_cut_between_characters():
    words, pairs, rows = vocabulary(1)
    pooled = pooled_of(words, pairs, rows)
    for n in range(85, 110):
        tokens = pooled.tokens("x" * n + "你" * 40)
        assert b"".join(words[t].encode() if t >= 256 else bytes([t]) for t in tokens).decode() == (
            MARK + "x" * n + "你" * 40
        )


def test_lone_surrogates_and_nulls_are_text():
    words, pairs, rows = vocabulary(1)
    pooled = pooled_of(words, pairs, rows)
    assert pooled.tokens("a\udc80\0b").tolist() == slowly(words, pairs, "a?\0b")


def test_what_does_not_fit_is_refused():
    words, pairs, rows = vocabulary(1)
    tokens, merges = [word.encode() for word in words], lines(words, pairs)
    with pytest.raises(ValueError, match="rows"):
        Pooled(tokens, merges, rows[:-1], 0)
    for odd in ("a b c", "a", "a ", " a", "", "a zebra", f"{words[-1]} {words[-1]}", "a\nb"):
        with pytest.raises(ValueError, match="outside"):
            Pooled(tokens, [odd, *merges], rows, 0)
    with pytest.raises(ValueError, match="outside"):
        Pooled(tokens, merges, rows, len(tokens) - 10)
    pooled = Pooled(tokens, merges, rows.astype(np.float16), 0)
    with pytest.raises(TypeError):
        pooled.embed([b"bytes"])
    assert pooled.embed([]).shape == (0, 19)


def test_many_threads_get_the_same():
    words, pairs, rows = vocabulary(5)
    pooled = pooled_of(words, pairs, rows)
    texts = [f"abc {n} cab 你你" * 50 for n in range(50)]
    want, wrong = pooled.embed(texts), []

    def work():
        wrong.extend(1 for _ in range(20) if not np.array_equal(pooled.embed(texts), want))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_words_met_before_have_the_same_tokens():
    """More words than are remembered, short and long, of one token and of many; by more threads than memories."""
    words, pairs, rows = vocabulary(5)
    pooled = pooled_of(words, pairs, rows)
    rng = random.Random(5)
    texts = [
        " ".join("".join(rng.choice(LETTERS + "xß") for _ in range(rng.randrange(1, 14))) for _ in range(2000))
        for _ in range(15)
    ]
    wanted = [slowly(words, pairs, text) for text in texts]
    found: list[bool] = []

    def look(first: int) -> None:
        for turn in range(3):
            for k in range(len(texts)):
                at = (first + k * (turn + 1)) % len(texts)
                found.append(pooled.tokens(texts[at]).tolist() == wanted[at])

    threads = [threading.Thread(target=look, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 450 and all(found)
