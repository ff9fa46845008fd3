"""Another model for the same text."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import vexfs
from tests.waiting import until
from vexfs.errors import IndexConflict, IndexMissing, NoSpace, SizeLimitReached, Unreachable, VexfsError
from vexfs.registry import registry
from vexfs.search import embedders, patience, textindex
from vexfs.search.embedders import Function, remember, resolve
from vexfs.search.filling import Filling

WORDS = ["coffee", "passport", "bread", "bicycle"]


def counted(texts):
    return [[text.lower().count(word) + 0.01 for word in WORDS] for text in texts]


def named(call):
    """The word by which that function can be asked for."""
    model = resolve(call)
    remember(model)
    return model.name


@pytest.fixture
def fs(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as made:
        made.index("docs", embedder="default")
        for n in range(200):
            made.write_text(f"docs/{n}.txt", f"{WORDS[n % 4]} number {n}")
        assert made.ingest.wait(120)
        yield made


def test_old_vectors_answer_until_the_new_ones_are_there(fs):
    holding, going = threading.Event(), threading.Event()

    def slow(texts):
        if len(texts) > 1:
            holding.set()
            assert going.wait(120)
        return counted(texts)

    model, done = named(slow), []
    thread = threading.Thread(target=lambda: done.append(fs.reembed("docs", model)))
    thread.start()
    assert holding.wait(120)
    assert fs.search("coffee", k=3)[0].text.startswith("coffee")
    fs.write_text("docs/3.txt", "a passport instead")
    fs.remove("docs/7.txt")
    fs.write_text("docs/new.txt", "bread came meanwhile")
    going.set()
    thread.join(120)
    assert fs.ingest.wait(120)
    (index,) = done
    assert (index.dim, len(index)) == (4, 200)
    assert fs.indexes() == [index]
    assert fs.search("bicycle", k=100, mode="semantic")[0].id != "3.txt"
    assert {hit.id for hit in fs.search("meanwhile", mode="keyword")} == {"new.txt"}
    assert fs.search("passport", k=60, mode="semantic")[0].text.lower().count("passport") == 1


def test_a_newer_version_of_the_model(fs):
    (index,) = fs.indexes()
    index.keep(**{textindex.VERSION: "older"})
    seen = []
    fs.reembed("docs", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (200, 200)
    assert fs.search("coffee", k=1, mode="semantic")[0].text.startswith("coffee")


def test_a_function_of_this_program(fs):
    assert fs.reembed("docs", counted).dim == 4


def test_progress_counts_files(fs):
    seen = []
    index = fs.reembed("docs", named(counted), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (200, 200) and seen == sorted(seen) and index.embedder == named(counted)


def test_ending_it_leaves_everything_as_it_was(fs):
    ended = threading.Event()

    def slow(texts):
        if len(texts) > 1 and ended.wait(1):
            time.sleep(0.3)
        return counted(texts)

    def enough(done, total):
        ended.set()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fs.reembed("docs", named(slow), progress=enough)
    assert fs.indexes()[0].dim == 256 and fs.search("coffee", k=1)
    assert fs.indexes()[0].describe()["reembedding"] is None


class Clock:
    """Time that goes by when a model takes some, and is seen to have gone by whoever waits for it."""

    def __init__(self):
        self.now, self.looks = 0.0, 0

    def monotonic(self):
        self.looks += 1
        return self.now

    def take(self, seconds):
        self._looked_at()  # or it would begin to wait when that has gone by
        self.now += seconds
        self._looked_at()

    def _looked_at(self):
        before = self.looks
        until(lambda: self.looks > before)


def test_a_model_that_hangs_is_given_up_and_one_that_is_slow_is_not(fs, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    going, back, asked = threading.Event(), threading.Event(), []

    def hanging(texts):
        if len(texts) > 1 and (asked.append(len(texts)) or len(asked) > 3):
            while not going.wait(0.05):
                clock.now += 20
            back.set()
        return counted(texts)

    with pytest.raises(Unreachable, match="has not answered for 60 s; the old vectors are as they were"):
        fs.reembed("docs", named(hanging))
    assert not back.is_set() and max(asked) < 64
    assert fs.indexes()[0].dim == 256 and fs.search("coffee", k=1)
    going.set()
    answered = []

    class Late(Function):
        """As one that has to be fetched first."""

        def __init__(self, word):
            clock.take(500)
            super().__init__(counted, "late", 4)

    def slow(texts):
        if len(texts) > 1 and len(answered) < 4:  # of the first 64 passages
            clock.take(40)
            answered.append(len(texts))
        return counted(texts)

    monkeypatch.setitem(registry("embedders")._loaded, "late", Late)
    monkeypatch.setattr(embedders, "_made", dict(embedders._made))
    assert fs.reembed("docs", "late").dim == 4 and clock.now > 500
    assert fs.reembed("docs", named(slow)).dim == 4 and len(fs.indexes()[0]) == 200
    assert answered == [16] * 4


def test_a_service_that_wants_to_be_left_alone_for_a_while_is(fs):
    asked, answered, again_s = [], [], 0.01

    def limited(texts):
        asked.append(len(texts))
        if not len(asked) % 3:
            error = Unreachable("too many requests")
            error.again_s = again_s
            raise error
        answered.extend(texts)
        return counted(texts)

    made = fs.reembed("docs", named(limited))
    assert made.dim == 4 and len(made) == 200 and sorted(set(answered)) == sorted(answered)
    again_s = 3600.0
    with pytest.raises(Unreachable, match="too many"):
        fs.reembed("docs", named(limited))
    assert fs.indexes()[0].embedder == made.embedder and len(fs.search("coffee", under="docs", k=100)) == 100


def versioned(version):
    """A function of always the same name."""

    def model(texts):
        return [[text.lower().count(word) + 0.01 * version for word in WORDS] for text in texts]

    model.version = str(version)
    return model


def test_a_newer_version_of_a_function(fs):
    """The old index goes on with the old one until it is replaced, and when it is not."""

    def answers():
        return fs.search("coffee", k=1, mode="semantic")[0].text.startswith("coffee")

    def enough(done, total):
        assert answers()
        raise KeyboardInterrupt

    fs.reembed("docs", versioned(1))
    with pytest.raises(IndexConflict, match="to embed everything anew"):
        fs.index("docs", embedder=versioned(2))
    assert answers()
    with pytest.raises(KeyboardInterrupt):
        fs.reembed("docs", versioned(2), progress=enough)
    assert answers() and fs.indexes()[0].state[textindex.VERSION] == "1"
    fs.reembed("docs", versioned(2), progress=lambda *_: answers())
    assert answers() and fs.indexes()[0].state[textindex.VERSION] == "2"


def test_one_at_a_time(fs):
    holding, going = threading.Event(), threading.Event()

    def slow(texts):
        if len(texts) > 1:
            holding.set()
            assert going.wait(120)
        return counted(texts)

    model = named(slow)
    thread = threading.Thread(target=fs.reembed, args=("docs", model))
    thread.start()
    assert holding.wait(120)
    with pytest.raises(IndexConflict, match=r"already, by .*: \d+ of 200 files are done; `vexctl index status`"):
        fs.reembed("docs", model)
    going.set()
    thread.join(120)
    assert fs.indexes()[0].dim == 4


def test_a_model_that_does_not_exist(fs):
    with pytest.raises(VexfsError, match="magic"):
        fs.reembed("docs", "magic")
    assert fs.indexes()[0].dim == 256


def test_what_has_no_text_index_is_refused(fs):
    with pytest.raises(IndexMissing):
        fs.reembed("/")
    fs.index("plain", dim=3)
    with pytest.raises(IndexMissing):
        fs.reembed("plain")


def test_a_search_meets_one_of_the_two(fs):
    """The old index and the new one change places between two searches, not within one."""
    failed, over, asked = [], threading.Event(), [0]

    def ask():
        while not over.is_set():
            asked[0] += 1
            for mode in ("hybrid", "keyword"):
                try:
                    for hit in fs.search("coffee", k=3, mode=mode):
                        hit.as_dict()
                except Exception as error:
                    failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    models = [named(counted), "default"]
    for thread in threads:
        thread.start()
    try:
        changes = 0
        while changes < 8 or not (asked[0] > 50 or failed):
            fs.reembed("docs", models[changes % 2])
            changes += 1
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failed == []


def test_every_search_answers_completely(fs):
    """All that matches is found at every moment, from the old index or from the new one."""
    found, failed, over = set(), [], threading.Event()

    def ask():
        while not over.is_set():
            try:
                found.add(len(fs.search("coffee", k=500, mode="keyword")))
                found.add(len(fs.search("coffee", k=500, mode="semantic", where={"$path": "*0.txt"})))
            except Exception as error:
                failed.append(error)

    for n in range(200, 1000):
        fs.write_text(f"docs/{n}.txt", f"{WORDS[n % 4]} number {n}")
    assert fs.ingest.wait(120)
    models = [named(counted), "default"]
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        changes = 0
        while changes < 6 or not (len(found) >= 2 or failed):
            assert len(fs.reembed("docs", models[changes % 2])) == 1000
            changes += 1
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert (found, failed) == ({250, 100}, [])


def test_what_changes_until_the_last_moment(fs):
    """Rows made ready for a file that went or changed since are nobody's, and the others are those of their files."""
    turn, at_work = [0], threading.Event()

    def restless(texts):
        if at_work.is_set():
            turn[0] += 1
            fs.write_text("docs/3.txt", f"hello {turn[0]}")
            fs.remove(f"docs/{100 + turn[0]}.txt")
        return counted(texts)

    for _ in range(2):  # the second time in place of an index with rows that are nobody's
        model, before = named(restless), turn[0]
        at_work.set()
        fs.reembed("docs", model)
        at_work.clear()
        assert turn[0] - before >= 4
        assert fs.ingest.wait(120)
        (index,) = fs.indexes()
        there = {path.name for path in fs.path("docs").iterdir()}
        assert len(index) == len(there)
        for name in sorted(there - {"3.txt"}, key=len)[:20]:
            number = int(name.removesuffix(".txt"))
            best = fs.search(f"+{number} number", k=1, mode="keyword")
            assert [hit.id for hit in best] == [name] and best[0].text == f"{WORDS[number % 4]} number {number}"
        for word in WORDS:
            hits = fs.search(word, k=200, mode="semantic")
            right = [hit for hit in hits if hit.score > 0.9]
            assert right and all(hit.text.startswith(word) for hit in right)
            assert len(right) == sum(WORDS[int(n.removesuffix(".txt")) % 4] == word for n in there - {"3.txt"})


def test_what_left_meanwhile_is_found_where_it_is(fs):
    """A file that was embedded for the new index and then moved is not in it."""
    fs.index("other", embedder="default")
    fs.mkdir("outside")

    def leave(done, total):
        if done == total and fs.exists("docs/0.txt"):
            fs.rename("docs/0.txt", "other/0.txt")
            fs.rename("docs/1.txt", "outside/1.txt")
            fs.rename("docs/2.txt", "docs/2.vec")
            assert fs.ingest.wait(120)

    def found(under):
        return {hit.path for hit in fs.search("+number", k=300, under=under, mode="keyword")}

    fs.reembed("docs", counted, progress=leave)
    for _ in range(2):
        assert found("other") == {"/other/0.txt"}
        assert found("docs") == {f"/docs/{n}.txt" for n in range(3, 200)}
        assert fs.ingest.wait(120)


def test_rows_that_come_free_in_that_moment(fs, monkeypatch):
    """Vectors and words were made ready each for its row: that is not the row of a file that went."""
    put = Filling._put

    def slowly(self, index, portion):
        put(self, index, portion)
        if len(index.table) > 1700 and fs.exists("docs/30.txt"):
            for n in range(1600):
                fs.remove(f"docs/{n}.txt")

    monkeypatch.setattr(Filling, "_put", slowly)
    for n in range(200, 2200):
        fs.write_text(f"docs/{n}.txt", f"{WORDS[n % 4]} number {n}")
    assert fs.ingest.wait(120)
    fs.reembed("docs", named(counted))
    assert fs.ingest.wait(120)
    for at, word in enumerate(WORDS):
        right = {hit.id for hit in fs.search(word, k=600, mode="semantic") if hit.score > 0.9}
        assert right == {f"{n}.txt" for n in range(1600 + at, 2200, 4)}


def wide(texts):
    """Vectors that take much room."""
    noise = np.random.default_rng(len(texts)).normal(scale=1e-3, size=(len(texts), 1024))
    noise[:, :4] += counted(texts)
    return noise


@pytest.fixture
def small(tmp_path):
    with vexfs.open(tmp_path / "small.vex", size_limit=6 << 20) as made:
        made.index("docs", embedder="default")
        for n in range(1000):
            made.write_text(f"docs/{n}.txt", f"{WORDS[n % 4]} number {n}")
        assert made.ingest.wait(120)
        yield made


def test_without_room_for_the_new_index_the_old_one_stays(small):
    small.write_bytes("filler", np.random.default_rng(1).bytes(2 << 20))
    with pytest.raises(NoSpace, match=r"the new index wants \d+ bytes, and there is room for \d+"):
        small.reembed("docs", wide)
    (index,) = small.indexes()
    assert (index.dim, len(index)) == (256, 1000) and small.search("bread", k=1)[0].text.startswith("bread")


def test_a_volume_that_becomes_full_in_that_moment(small, monkeypatch):
    """What could not be put is told, is in no result, and comes by ingest when there is room."""
    put = Filling._put

    def slowly(self, index, portion):
        put(self, index, portion)
        if not small.exists("filler"):
            small.write_bytes("filler", np.random.default_rng(1).bytes(4 << 20))

    monkeypatch.setattr(Filling, "_put", slowly)
    with pytest.raises(SizeLimitReached):
        small.reembed("docs", wide)
    (index,) = small.indexes()
    assert index.dim == 1024 and 0 < len(index) == len(index.vectors) < 1000
    small.ingest.wait(120)
    small.remove("filler")
    small.ingest.retry(index)
    assert small.ingest.wait(120) and len(index) == 1000
    for word in WORDS:
        hits = small.search(word, k=250, mode="semantic")
        assert len(hits) == 250 and all(hit.text.startswith(word) for hit in hits)


def test_vectors_that_were_given_are_not_lost(fs):
    """No model makes them again: so nothing begins, and what was begun ends, with the old index as it was."""
    (index,) = fs.indexes()
    given = np.ones(256, np.float32) / 16

    def give(done, total):
        index.upsert(["given"], given[None])

    for progress in (give, None):
        with pytest.raises(IndexConflict, match=r"1 vectors were given to files and would be lost"):
            fs.reembed("docs", counted, progress=progress)
        assert fs.indexes() == [index] and np.allclose(index.get("given").vector, given, atol=1e-3)
    index.delete(["given"])
    assert fs.reembed("docs", counted).dim == 4


KILLED = """
import os, signal, sys, vexfs
from vexfs.search.filling import Filling
put = Filling._put
def and_die(self, index, portion):
    put(self, index, portion)
    index.filesystem.fsync(0)
    os.kill(os.getpid(), signal.SIGKILL)
Filling._put = and_die
vexfs.open(sys.argv[1]).reembed("docs", "default")
"""


def test_killed_in_the_moment_of_the_change_searches_tell_that_not_all_is_there_until_it_is(tmp_path):
    path = tmp_path / "v.vex"
    with vexfs.open(path) as fs:
        fs.index("docs", embedder="default")
        for n in range(200):
            fs.write_text(f"docs/{n}.txt", f"coffee number {n}")
        assert fs.ingest.wait(120)
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == -9
    with vexfs.open(path, read_only=True) as fs:
        for query in ("coffee", np.ones(256)):
            hits = fs.search(query, k=1000)
            assert 0 < len(hits) < 200
            ((where, why),) = hits.missing
            assert where == "/docs" and why.startswith("in part only")
        assert fs.indexes()[0].state["embedder_version"] == resolve("default").version
    for _ in range(2):
        with vexfs.open(path) as fs:
            assert fs.ingest.wait(120)
            hits = fs.search("coffee", k=1000)
            assert len(hits) == 200 and hits.missing == ()
