"""A volume without room while text is indexed: files wait for it, and none is given up."""

import threading

import pytest

import vexfs
from tests.waiting import until
from vexfs.errors import SizeLimitReached


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
        with pytest.raises(SizeLimitReached), fs.open("filler", "wb", buffering=0) as filler:
            while True:
                filler.write(bytes(1024))
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
