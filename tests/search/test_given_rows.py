"""A row that gets another file between finding and describing stands for neither in the results of that search."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vexfs.search import query, textsearch


@pytest.fixture
def index(fs, vectors):
    made = fs.index("i", dim=32)
    made.upsert([f"a{k}" for k in range(1400)], np.resize(vectors, (1400, 32)), [{"lang": "de"}] * 1400)
    return made


def give(index, vectors):
    """Others are quicker: the records go, and other ones get their rows."""
    index.delete([f"a{k}" for k in range(1400)])
    index.upsert([f"b{k}" for k in range(200)], vectors[:200], [{"lang": "en"}] * 200)


def test_by_vector(index, vectors, monkeypatch):
    def interrupted(*given):
        monkeypatch.undo()
        found = index.vectors.search(given[5], 20)[0][0]
        give(index, vectors)
        others = index.table.rows()["ino"][found] != 0
        assert others.any()  # some of the rows have other files now
        none = np.zeros(20, np.float32)
        return [query.files_of(index.table, given[2], index, found, none, none, 20, given[10], given[3]())], [20]

    monkeypatch.setattr(query, "nearest", interrupted)
    assert index.query(vectors[0], 10) == []
    assert index.query(vectors[0], 1)[0].id == "b0"


def test_a_mask_that_was_made_before(index, vectors, monkeypatch):
    made = query.Reader.allowed

    def interrupted(reader, where, under):
        monkeypatch.undo()
        mask = made(reader, where, under)
        give(index, vectors)
        return mask

    monkeypatch.setattr(query.Reader, "allowed", interrupted)
    assert index.query(vectors[0], 10, where={"lang": "de"}) == []
    assert len(index.query(vectors[0], 10, where={"lang": "en"})) == 10


def test_what_is_new_is_found_at_once(index, vectors):
    """Also while rows are given again all the time."""
    stop = threading.Event()
    seen = []

    def look():
        while not stop.is_set():
            for hit in index.query(vectors[5], 3):
                seen.append((hit.id[0], hit.attributes["lang"], int(hit.id[1:]), hit.score))

    with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as ending:
        looking = pool.submit(look)
        ending.callback(stop.set)
        for turn in range(30):
            index.delete([f"a{k}" for k in range(1400)] if turn % 2 == 0 else [f"c{k}" for k in range(1400)])
            name, lang = ("c", "fr") if turn % 2 == 0 else ("a", "de")
            x = np.resize(vectors if turn % 2 else -vectors, (1400, 32))
            index.upsert([f"{name}{k}" for k in range(1400)], x, [{"lang": lang}] * 1400)
            assert index.query(x[5], 1)[0].id[0] == name
    looking.result()
    assert {(kind, lang) for kind, lang, _, _ in seen} <= {("a", "de"), ("c", "fr")}
    # By its own vector: while the others are being deleted the last ones are found however far they are.
    cosines = np.resize(vectors @ vectors[5], 1400)
    assert [each for each in seen if abs(each[3] - cosines[each[2]] * (1 if each[0] == "a" else -1)) > 1e-4] == []


def embed(texts):
    return np.array([[1.0, len(text) % 7, text.count("e")] for text in texts])


def test_by_words(fs, monkeypatch):
    index = fs.index("t", embedder=embed)
    for k in range(1400):
        fs.write_text(f"t/a{k}.txt", f"apples and pears number {k}")
    assert fs.ingest.wait(120)
    deep = textsearch._deep

    def interrupted(index, *given):
        monkeypatch.undo()
        found = index.words.search("apples", 30)
        for k in range(1400):
            fs.unlink(f"t/a{k}.txt")
        for k in range(300):
            fs.write_text(f"t/b{k}.txt", f"something else {k}")
        assert fs.ingest.wait(120)

        class Words:
            def search(self, *_, **__):
                return found

        with monkeypatch.context() as during:
            during.setattr(index.loading, "words", Words())
            return deep(index, *given)

    monkeypatch.setattr(textsearch, "_deep", interrupted)
    assert [hit.path for hit in fs.search("apples", under="t", mode="keyword", k=10)] == []
    assert len(fs.search("something", under="t", mode="keyword", k=10)) == 10
    assert len(index.table.rows()) < 1800  # rows were given again
