"""What is stored of the keyword index: records and snapshots.  Damage is refused, and never a crash."""

import errno
import io
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.core.words_reference import tokens
from vexfs._core.words import WordIndex


@given(st.text(max_size=300) | st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_text_has_a_record_that_is_accepted(text):
    record = WordIndex.encode(text)
    index = WordIndex()
    index.put([3], [record])
    for term, _ in tokens(record):
        assert 1 <= len(term.encode()) <= 64
    assert index.stats()["tokens"] == sum(not same for _, same in tokens(record))
    assert record == WordIndex.encode(text)


@given(st.binary(max_size=60).map(lambda b: b"\x01" + b))
@settings(max_examples=500, deadline=None)
@example(b"\x01\xff\xff\xff\xff\x0f\xff\xff\xff\xff\x0f")
@example(b"\x01\x01\x01\x01a\x01")  # the first token stands at no position
@example(b"\x01\x01\x01\x41" + b"a" * 65 + b"\x00")
@example(b"\x01\x80\x00\x00")  # a number not in its shortest form
def test_garbage_is_refused_or_understood(data):
    index = WordIndex()
    try:
        index.put([0], [data])
    except OSError as error:
        assert error.errno in (errno.EBADMSG, errno.EINVAL)
        assert len(index) == 0
    else:
        assert len(index) == 1
        index.search("a b*")


def test_every_cut_and_every_changed_byte_of_a_record():
    record = WordIndex.encode("some text of HTTPServer, os.path and more words, twice: more words")
    index = WordIndex()
    for n in range(len(record)):
        with pytest.raises(OSError):
            index.put([0], [record[:n]])
    with pytest.raises(OSError):
        index.put([0], [record + b"\0"])
    for i in range(len(record)):
        for value in (0, 1, 0x7F, 0x80, 0xFF, record[i] ^ 2):
            changed = record[:i] + bytes([value]) + record[i + 1 :]
            try:
                index.put([0], [changed])
            except OSError as error:
                assert error.errno in (errno.EBADMSG, errno.EINVAL)
    index.search('text "more words" t*')


def filled(n: int = 3000) -> WordIndex:
    rng = random.Random(3)
    index = WordIndex()
    texts = [" ".join(f"w{min(int(rng.paretovariate(0.6)), 800)}" for _ in range(rng.randrange(30))) for _ in range(n)]
    index.put(np.arange(n), [WordIndex.encode(text) for text in texts])
    index.put(np.arange(0, n, 9), [WordIndex.encode("replaced w1")] * len(range(0, n, 9)))
    index.remove(np.arange(0, n, 5))
    return index


def snapshot(index: WordIndex) -> bytes:
    out = io.BytesIO()
    index.dump(out.write)
    return out.getvalue()


def restored(data: bytes) -> WordIndex:
    index = WordIndex()
    index.restore(io.BytesIO(data).read)
    return index


def test_a_snapshot_answers_as_the_index_did():
    index = filled()
    again = restored(snapshot(index))
    assert len(again) == len(index)
    assert dict(again.terms()) == dict(index.terms())
    for query in ("w1 w2", "replaced", "w1*", '"w1 w2"', "+w3 -w4", "w700 w2 w1"):
        for got, want in zip(again.search(query, 50), index.search(query, 50), strict=True):
            np.testing.assert_array_equal(got, want)
    assert snapshot(again) == snapshot(restored(snapshot(again)))


def test_a_snapshot_of_more_than_is_posted_at_once():
    """Documents of two parts, more tokens than are sorted together, and one text that alone is longer than that."""
    rng = np.random.default_rng(7)
    words = [f"w{i}" for i in range(5000)]
    texts = [" ".join(words[i] for i in row) for row in np.minimum(rng.zipf(1.3, (66_000, 16)), 4999).tolist()]
    texts[100] = " ".join(words) + " often" * 1_100_000
    index = WordIndex()
    index.put(np.arange(len(texts)), WordIndex.encode_all(texts))
    again = restored(snapshot(index))
    assert again.stats()["parts"] == 2

    def same():
        assert (len(again), dict(again.terms())) == (len(index), dict(index.terms()))
        assert again.stats()["average_length"] == index.stats()["average_length"]
        for query in ("often", "w1 w2", '"w1 w2"', "+w30 -w4", "w12* w700"):
            for got, want in zip(again.search(query, 200), index.search(query, 200), strict=True):
                np.testing.assert_array_equal(got, want)

    same()
    for each in (index, again):
        each.remove(np.arange(0, len(texts), 3))
        each.put([1, 100], WordIndex.encode_all(["w1 another", "w2 other"]))
    same()


def test_an_empty_snapshot():
    assert len(restored(snapshot(WordIndex()))) == 0


def test_damage_of_a_snapshot_is_refused():
    """Every byte of a small one, flipped or missing; afterwards the index is empty and of use."""
    data = snapshot(filled(20))
    for i in range(len(data)):
        for bad in (data[:i], data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1 :]):
            index = WordIndex()
            with pytest.raises(OSError) as caught:
                index.restore(io.BytesIO(bad).read)
            assert caught.value.errno == errno.EBADMSG
            assert len(index) == 0
            assert not list(index.terms())
    index.put([1], [WordIndex.encode("of use")])
    assert index.search("use")[0].tolist() == [1]


def test_restore_wants_an_empty_index_and_passes_exceptions_on():
    index = filled(10)
    with pytest.raises(OSError) as caught:
        index.restore(io.BytesIO(snapshot(index)).read)
    assert caught.value.errno == errno.EEXIST
    with pytest.raises(ZeroDivisionError):
        index.dump(lambda data: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        WordIndex().restore(lambda n: 1 / 0)
    assert index.search("replaced")[0].size


SHORT_OF_MEMORY = """
import errno, resource
from vexfs._core.words import WordIndex

index = WordIndex()
index.put(range(100), [WordIndex.encode(f"small {k}") for k in range(100)])
large = WordIndex.encode(" ".join(f"t{k}" for k in range(300_000)))
room, hard = 0, resource.getrlimit(resource.RLIMIT_AS)[1]
while True:  # more and more, so that it ends at every place that takes much
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + room, hard))
    try:
        index.put([500], [large])
        break
    except OSError as error:
        assert error.errno == errno.ENOMEM and 500 not in index, error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    index.remove([room >> 20])
    assert index.search("small", 1000)[0].tolist() == list(range((room >> 20) + 1, 100)), room
    room += 1 << 20
print(room >> 20, len(index.search("t7 t299999")[0]))
"""


@pytest.mark.skipif("VEXFS_SANITIZED" in os.environ, reason="a sanitizer takes more address space than any limit")
def test_a_passage_for_which_memory_runs_out_leaves_the_others():
    command = [sys.executable, "-c", SHORT_OF_MEMORY]
    room, found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert 8 < int(room) < 99 and found == "1"
