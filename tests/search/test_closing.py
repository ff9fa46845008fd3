"""A volume that is closed while others search it, or before: they are told that, and nothing else."""

import threading
import time

import numpy as np
import pytest

import vexfs
from tests.waiting import until
from vexfs.errors import IndexClosed, VolumeClosed

Q = np.ones(4, np.float32)


@pytest.fixture
def place(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("docs", embedder="default")
        fs.write_text("docs/a.md", "Light roasts keep acidity.\n")
        assert fs.ingest.wait(120)
        fs.index("v", dim=4).upsert([str(k) for k in range(100)], np.random.default_rng(1).random((100, 4), np.float32))
    return tmp_path / "v.vex"


def test_what_came_of_a_volume_says_afterwards_that_it_was_closed(place):
    with vexfs.open(place) as fs:
        index, hit = fs.index("v"), fs.search("roasts")[0]
    asked = (
        lambda: index.query(Q), lambda: index.query(Q, where={"a": 1}), lambda: index.count(), lambda: index.path,
        lambda: index.get(["1"]), lambda: index.upsert(["1"], [Q]), lambda: index.delete(["1"]), index.describe,
        lambda: hit.text, lambda: hit.lines, lambda: hit.number, lambda: fs.search("roasts"), lambda: fs.indexes(),
    )  # fmt: skip
    for ask in asked:
        with pytest.raises(VolumeClosed, match="has been closed; open it again"):
            ask()


def test_who_is_at_it_hears_that_it_was_closed(place):
    for after_s in (0.03, 0.06, 0.09, 0.12, 0.15):
        fs = vexfs.open(place)
        index, told = fs.index("v"), {}

        def until_closed(name, ask, told=told):
            try:
                while True:
                    ask()
            except Exception as error:
                told[name] = type(error)

        work = {
            "text": lambda fs=fs: fs.search("roasts"), "vector": lambda fs=fs: fs.search(Q),
            "similar": lambda fs=fs: fs.similar("docs/a.md"), "make": lambda fs=fs: fs.index("n", dim=3),
            "query": lambda index=index: index.query(Q), "get": lambda index=index: index.get(["1"]),
            "upsert": lambda index=index: index.upsert(["1"], [Q]),
        }  # fmt: skip
        threads = [threading.Thread(target=until_closed, args=each) for each in work.items()]
        for thread in threads:
            thread.start()
        time.sleep(after_s)
        fs.close()
        for thread in threads:
            thread.join(120)
        assert all(told.pop(name) is VolumeClosed for name in ("text", "vector", "similar", "make")), told
        assert len(told) == 3 and set(told.values()) <= {VolumeClosed, IndexClosed}


def test_indexes_that_come_and_go_keep_nothing_from_being_closed(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("v", dim=4)
        fs.write_text("t/x.md", "coffee")
    for number in range(25):
        fs, told = vexfs.open(tmp_path / "v.vex"), []

        def until_closed(work, told=told):
            try:
                while True:
                    work()
            except Exception as error:
                told.append(repr(error))

        def come_and_go(fs=fs):
            fs.index("t", embedder="default")
            fs.drop_index("t")

        asked = (come_and_go, lambda fs=fs: fs.ingest.status(), lambda fs=fs: fs.write_text("t/y.md", "tea"))
        threads = [threading.Thread(target=until_closed, args=(ask,), daemon=True) for ask in asked for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.01 + number * 0.004)
        fs.close()
        for thread in threads:
            thread.join(120)
        # Left behind for ever it would be, by a mistake.
        until(lambda: "vexfs-ingest" not in {thread.name for thread in threading.enumerate()})
