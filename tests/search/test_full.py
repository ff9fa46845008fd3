"""A volume without room while text is indexed: files wait for it, and none is given up."""

import threading

import pytest

import vexfs
from tests.waiting import until
from vexfs.errors import SizeLimitReached
from vexfs.search import snapshot


def fill(fs):
    for _ in range(2):
        fs.sync()  # what was written over is counted until then
        with pytest.raises(SizeLimitReached), fs.open("filler", "ab", buffering=0) as filler:
            while True:
                filler.write(bytes(1024))


def test_files_wait_for_room_and_are_indexed_when_there_is_some(tmp_path):
    gate = threading.Event()
    gate.set()

    def model(texts):
        gate.wait(60)
        return [[len(text), 1.0, text.count("coffee")] for text in texts]

    with vexfs.open(tmp_path / "v.vex", size_limit=4 << 20, compression="none") as fs:
        index = fs.index("docs", embedder=model)
        gate.clear()
        for n in range(300):
            fs.write_text(f"docs/{n}.txt", f"coffee number {n} " * 20)
        fill(fs)
        gate.set()
        status = until(lambda: (told := index.describe()["ingest"])["held"] and told)
        assert "limit" in next(iter(status["held"].values()))
        tries = fs.ingest.status()["failures"]
        until(lambda: fs.ingest.status()["failures"] >= tries + 2)  # a file was given up after three
        assert not index.describe()["ingest"]["aside"]
        fs.unlink("filler")
        assert fs.ingest.wait(120)
        status = index.describe()["ingest"]
        assert not status["aside"] and not status["held"] and status["backlog"] == 0
        assert len(fs.search("coffee number 299", k=300, under="docs")) == 300


def test_a_log_of_keywords_that_there_is_no_room_to_rewrite_stays(tmp_path, monkeypatch):
    with vexfs.open(tmp_path / "v.vex", size_limit=4 << 20, compression="none") as fs:
        index = fs.index("docs", embedder="default")
        for round in range(3):
            for n in range(100):
                fs.write_text(f"docs/{n}.txt", f"coffee{n} round{round} " * 10)
            assert fs.ingest.wait(120)
        fill(fs)
        monkeypatch.setattr(snapshot, "LOG_BYTES", 0)
        words = index.filesystem.stat(f"{index.home}/words").st_size
        assert snapshot.shorten_words(index, 0) == words
        until(lambda: not [name for name, _, _ in fs.filesystem.scandir(index.home) if name.endswith(b".new")])
        assert [hit.path for hit in fs.search("coffee7", mode="keyword")] == ["/docs/7.txt"]
        fs.unlink("filler")
        assert snapshot.shorten_words(index, 0) < words / 2
        assert [hit.path for hit in fs.search("coffee7", mode="keyword")] == ["/docs/7.txt"]
