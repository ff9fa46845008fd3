"""Opening a volume waits for no index; what happens before it is loaded is seen by searches all the same."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import vexfs
from tests.waiting import until
from vexfs.errors import Damaged, IndexClosed
from vexfs.search import index as module
from vexfs.search import loading, snapshot

TEXTS = {f"docs/{k}.txt": f"tea number{k}" for k in range(8)}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A volume with an index of vectors and one of text, both with snapshots."""
    monkeypatch.setattr(module, "CLOSING_ROWS", 1)
    with vexfs.open(tmp_path / "v") as fs:
        fs.index("points", dim=2).upsert([f"p{k}" for k in range(8)], [[np.cos(k), np.sin(k)] for k in range(8)])
        fs.index("docs", embedder="default")
        for path, text in TEXTS.items():
            fs.write_text(path, text)
        assert fs.ingest.wait(120)
    return tmp_path / "v"


@pytest.fixture
def gate(monkeypatch):
    """Nothing of a snapshot is read until it is set."""
    gate, real = threading.Event(), snapshot._Reader.some

    def some(self, n):
        assert gate.wait(120)
        return real(self, n)

    monkeypatch.setattr(snapshot._Reader, "some", some)
    yield gate
    gate.set()


def nearest(fs, k):
    return [hit.id for hit in fs.index("points").query([np.cos(k), np.sin(k)], 8)]


def test_files_are_worked_with_before_anything_is_loaded(place, gate):
    with vexfs.open(place) as fs:
        assert sorted(fs.listdir("points")) == [f"p{k}" for k in range(8)]
        fs.remove("points/p1")
        fs.rename("points/p2", "away")
        fs.rename("points/p3", "points/moved")
        fs.remove("docs/5.txt")
        fs.rename("docs/6.txt", "away.txt")
        assert fs.index("points").loading.vectors is None is fs.index("docs").loading.words
        gate.set()
        assert set(nearest(fs, 1)) == {"p0", "moved", "p4", "p5", "p6", "p7"}
        assert nearest(fs, 3)[0] == "moved"
        found = {hit.path for hit in fs.search("tea", mode="keyword", k=20)}
        assert found == {f"/{path}" for path in TEXTS} - {"/docs/5.txt", "/docs/6.txt"}


def test_what_goes_while_it_is_loaded_is_not_found(place, monkeypatch):
    """The rows were looked at, and nobody is told yet that one of them went."""
    real = loading.load_vectors, loading.load_words

    def vectors(index, now):
        found = real[0](index, now)
        if index.path == "/points":
            index.filesystem.unlink("points/p1")
        return found

    def words(index, now):
        found = real[1](index, now)
        if index.path == "/docs":
            index.filesystem.unlink("docs/5.txt")
        return found

    monkeypatch.setattr(loading, "load_vectors", vectors)
    monkeypatch.setattr(loading, "load_words", words)
    with vexfs.open(place) as fs:
        points, docs = fs.index("points"), fs.index("docs")
        assert "p1" not in nearest(fs, 1) and len(points.vectors) == 7
        assert len(docs.words) == 7 and not fs.search("number5", mode="keyword")


def test_writers_wait_and_other_files_do_not(place, gate):
    with vexfs.open(place) as fs, ThreadPoolExecutor(2) as pool:
        putting = pool.submit(fs.index("points").upsert, ["new"], [[np.cos(9), np.sin(9)]])
        asking = pool.submit(nearest, fs, 9)
        fs.write_text("elsewhere", "at once")
        assert fs.read_text("elsewhere") == "at once" and not putting.done() and not asking.done()
        gate.set()
        assert putting.result() == 1 and len(asking.result()) >= 8 and nearest(fs, 9)[0] == "new"


def test_closing_does_not_wait_until_all_is_loaded(place, gate):
    fs = vexfs.open(place)
    points, catalog = fs.index("points"), fs.catalog
    with ThreadPoolExecutor(2) as pool:
        asking = pool.submit(points.query, [1, 0])
        closing = pool.submit(fs.close)
        until(lambda: catalog.ending)
        gate.set()
        closing.result()
        with pytest.raises(IndexClosed):
            asking.result()
    assert points.loading.vectors is None
    with vexfs.open(place) as again:
        assert nearest(again, 3)[0] == "p3"


def test_vectors_that_cannot_be_read_are_told_and_the_others_answer(place, monkeypatch):
    with vexfs.open(place) as fs:
        fs.index("others", dim=2).upsert(["o"], [[1, 0]])
        fs.filesystem.write_file(".vexfs/index-1/vectors", b"few")
        fs.filesystem.unlink(".vexfs/index-1/snapshot")
        fs.index("points").writer.changed = 0
    known, real = threading.Event(), loading.load_vectors
    monkeypatch.setattr(loading, "load_vectors", lambda *given: known.wait(120) and real(*given))
    with vexfs.open(place) as fs:
        points = fs.index("points")
        known.set()
        for _ in range(2):
            with pytest.raises(Damaged, match=r"what it stores is damaged.*vexctl index drop.*points"):
                points.query([1, 0])
        assert [where for where, _, _ in fs.catalog.unopened()] == ["/points"]
        hits = fs.search([1, 0])
        assert hits.paths == ["/others/o"] and hits.missing == (("/points", "what it stores is damaged"),)
        fs.drop_index("points")
        assert fs.search([1, 0]).missing == () and len(fs.listdir("points")) == 8


def test_a_volume_of_vectors_is_opened_without_what_reads_text(tmp_path):
    with vexfs.open(tmp_path / "v") as fs:
        fs.index("points", dim=2)
    script = (
        f"import sys, vexfs; vexfs.open({str(tmp_path / 'v')!r}).close()\n"
        "print({'vexfs.search.index', 'vexfs.search.chunk', 'vexfs.search.extract', 'vexfs.search.ingest'}\n"
        "      & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout == "{'vexfs.search.index'}\n", done.stderr
