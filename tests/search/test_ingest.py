"""Ingest on real volumes: what lands is found, what goes is not, and nothing is lost on the way."""

import gzip
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import vexfs
from tests.waiting import until
from vexfs.errors import ConfigError, IndexConflict, InvalidArgument, Unreachable
from vexfs.registry import registry
from vexfs.search import embedders, textindex
from vexfs.search import ingest as ingesting
from vexfs.search.embedders import Function
from vexfs.search.turns import Turns

WORDS = [
    "coffee", "tea", "roast", "bean", "water", "grinder", "passport", "visa", "border", "renew", "bread", "flour",
    "yeast", "oven", "bicycle", "chain", "gear",
]  # fmt: skip


@pytest.fixture
def fs(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as made:
        yield made


def counted(texts):
    """A small model of its own: which of the words a text has."""
    return [[text.lower().count(word) + 0.01 for word in WORDS] for text in texts]


def found(fs, question, **options):
    return [hit.path for hit in fs.search(question, k=50, **options)]


def settled(fs, timeout=120):
    assert fs.ingest.wait(timeout), fs.ingest.status()


def test_what_is_there_and_what_comes_is_found(fs):
    fs.write_text("docs/a.md", "# Coffee\n\nRoast the bean.")
    index = fs.index("docs", embedder="default")
    fs.write_text("docs/deep/er/b.txt", "Renew a passport before the visa ends.")
    settled(fs)
    assert found(fs, "travel documents", under="docs")[0] == "/docs/deep/er/b.txt"
    assert found(fs, "passport", mode="keyword") == ["/docs/deep/er/b.txt"]
    assert len(index) == 2
    hit = fs.search("renew passport", k=1)[0]
    assert hit.text == "Renew a passport before the visa ends." and hit.span == (0, 38) and hit.lines == (1, 1)


def test_files_outside_of_an_index_are_left_alone(fs):
    fs.index("docs", embedder="default")
    fs.write_text("other/a.txt", "coffee")
    settled(fs)
    assert fs.ingest.status()["files"] == 0


def test_overwriting_removing_and_renaming_show_at_once(fs, monkeypatch):
    index = fs.index("docs", embedder="default")
    for name, text in [("a.txt", "coffee roast"), ("b.txt", "passport visa"), ("c.txt", "bicycle chain")]:
        fs.write_text(f"docs/{name}", text)
    settled(fs)
    monkeypatch.setattr(Turns, "others_are_busy", lambda self: True)  # nothing is indexed before somebody waits for it
    fs.rename("docs/a.txt", "docs/sub.txt")
    assert found(fs, "coffee")[0] == "/docs/sub.txt"
    fs.remove("docs/b.txt")
    assert "/docs/b.txt" not in found(fs, "passport")
    fs.write_text("docs/c.txt", "bread flour yeast")
    assert "/docs/c.txt" not in found(fs, "bicycle")
    settled(fs)
    assert found(fs, "bread")[0] == "/docs/c.txt"
    assert found(fs, "bicycle", mode="keyword") == []
    assert len(index) == 2


def test_a_file_that_moves_between_indexes(fs):
    one, two = fs.index("one", embedder="default"), fs.index("two", embedder=counted)
    fs.write_text("one/a.txt", "coffee roast")
    fs.write_text("plain/b.txt", "passport visa")
    settled(fs)
    fs.rename("one/a.txt", "two/a.txt")
    fs.rename("plain", "one/plain")
    settled(fs)
    assert found(fs, "coffee", under="two") == ["/two/a.txt"]
    assert found(fs, "passport", under="one") == ["/one/plain/b.txt"]
    assert (len(one), len(two)) == (1, 1)


def test_a_nested_index_has_its_own_model(fs):
    fs.index("docs", embedder="default")
    fs.index("docs/inner", embedder=counted)
    fs.write_text("docs/a.txt", "coffee roast")
    fs.write_text("docs/inner/b.txt", "coffee bean")
    settled(fs)
    assert sorted(found(fs, "coffee", under="docs")) == ["/docs/a.txt", "/docs/inner/b.txt"]
    assert found(fs, "coffee", under="docs/inner") == ["/docs/inner/b.txt"]


@pytest.mark.parametrize("reopened", [False, True])
def test_what_a_nested_index_covered_is_found_by_the_outer_one_when_it_is_dropped(fs, tmp_path, reopened):
    fs.index("docs", embedder="default")
    fs.index("docs/inner", embedder="default")
    fs.index("docs/vectors", dim=2)
    fs.write_text("docs/inner/deep/a.txt", "renew the passport")
    fs.write_text("docs/vectors/b.txt", "passport and visa")
    settled(fs)
    assert found(fs, "passport", mode="keyword") == ["/docs/inner/deep/a.txt"]
    fs.drop_index("docs/inner")
    fs.drop_index("docs/vectors")
    wanted = ["/docs/inner/deep/a.txt", "/docs/vectors/b.txt"]
    if reopened:
        fs.close()
        with vexfs.open(tmp_path / "v.vex") as again:
            settled(again)
            assert sorted(found(again, "passport", mode="keyword")) == wanted
        return
    settled(fs)
    assert sorted(found(fs, "passport", mode="keyword")) == wanted
    fs.mkdir("docs/gone")
    fs.index("docs/gone", embedder="default")
    fs.rmdir("docs/gone")  # an index of a directory that is not there any more has no heir
    settled(fs)
    assert [i.path for i in fs.indexes()] == ["/docs"]


def test_nothing_is_embedded_twice(fs, tmp_path):
    seen = []

    def model(texts):
        seen.extend(texts)
        return counted(texts)

    fs.index("docs", embedder=model)
    seen.clear()
    for n in range(30):
        fs.write_text(f"docs/{n}.txt", f"coffee {n}")
    settled(fs)
    fs.rename("docs/3.txt", "docs/x.txt")
    fs.attributes("docs/4.txt")["year"] = 2020
    fs.index("docs", embedder=model)  # looks through all of them again
    settled(fs)
    assert len([text for text in seen if "coffee" in text]) == 30
    fs.close()
    with vexfs.open(tmp_path / "v.vex") as again:
        embedders.remember(Function(model, fs_name(model), len(WORDS)))
        settled(again)
        assert again.ingest.status()["files"] == 0
        assert len(again.indexes()[0]) == 30
    assert len([text for text in seen if "coffee" in text]) == 30


def fs_name(call):
    return f"python:{call.__module__}.{call.__qualname__}"


def test_what_happens_while_the_volume_is_closed_to_ingest_is_caught_up(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("docs", embedder="default")
        settled(fs)
        fs.ingest.close()
        fs.write_text("docs/a.txt", "coffee roast")
    with vexfs.open(tmp_path / "v.vex") as fs:
        settled(fs)
        assert found(fs, "coffee") == ["/docs/a.txt"]


def test_an_index_of_the_root_leaves_the_files_of_vexfs_alone(tmp_path):
    for _ in range(2):
        with vexfs.open(tmp_path / "v") as fs:
            index = fs.index("/", embedder="static")
            fs.write_text("a.md", "coffee")
            settled(fs)
            assert found(fs, "coffee") == ["/a.md"] and not index.describe()["aside"]


def test_files_without_text_are_set_aside_once_with_the_reason(fs, tmp_path):
    index = fs.index("docs", embedder="default")
    fs.write_bytes("docs/a.bin", os.urandom(5000))
    fs.write_bytes("docs/b.png", b"x")
    fs.write_bytes("docs/empty.txt", b"")
    settled(fs)
    aside = index.describe()["ingest"]["aside"]
    assert {each["path"] for each in aside} == {"/docs/a.bin", "/docs/b.png"}
    assert not any(each["fault"] for each in aside)
    fs.close()
    with vexfs.open(tmp_path / "v.vex") as again:
        settled(again)
        index = again.indexes()[0]
        assert index.describe()["ingest"]["without_text"] == 2
        again.write_text("docs/a.bin", "now it is about coffee")
        settled(again)
        assert found(again, "coffee") == ["/docs/a.bin"]
        assert index.describe()["ingest"]["without_text"] == 1


def test_a_poison_file_stops_nobody(fs):
    def poison(data, name):
        raise RuntimeError("boom")

    registry("extractors").add("poi", poison)
    try:
        index = fs.index("docs", embedder="default")
        fs.write_text("docs/a.poi", "x")
        fs.write_text("docs/b.txt", "coffee")
        settled(fs)
        (aside,) = index.describe()["ingest"]["aside"]
        told = "cannot be read: extractor poi: RuntimeError: boom"
        assert aside == {"path": "/docs/a.poi", "reason": told, "fault": True}
        assert found(fs, "coffee") == ["/docs/b.txt"]
        registry("extractors").add("poi", lambda data, name: [vexfs.search.extract.Block("tea water")])
        assert fs.ingest.retry("docs") == 1
        settled(fs)
        assert found(fs, "tea", mode="keyword") == ["/docs/a.poi"]
    finally:
        registry("extractors")._loaded.pop("poi")


def test_a_file_that_was_set_aside_is_read_under_the_name_that_it_gets(fs):
    index = fs.index("docs", embedder=counted)
    fs.write_bytes("docs/notes.part", gzip.compress(b"coffee roast"))
    fs.write_text("docs/tea.png", "tea water")
    settled(fs)
    assert index.aside.counts() == (2, 0)
    fs.rename("docs/notes.part", "docs/notes.txt.gz")
    fs.rename("docs/tea.png", "docs/tea.txt")
    settled(fs)
    assert found(fs, "roast", mode="keyword") == ["/docs/notes.txt.gz"]
    assert found(fs, "water", mode="keyword") == ["/docs/tea.txt"]
    assert index.aside.counts() == (0, 0)


def test_a_text_on_which_the_model_fails_is_set_aside_alone(fs):
    def model(texts):
        if any("poison" in text for text in texts):
            raise ValueError("cannot embed this")
        return counted(texts)

    index = fs.index("docs", embedder=model)
    for n in range(5):
        fs.write_text(f"docs/{n}.txt", "poison" if n == 2 else f"coffee {n}")
    settled(fs)
    (aside,) = index.describe()["ingest"]["aside"]
    assert aside["path"] == "/docs/2.txt" and "cannot embed this" in aside["reason"] and aside["fault"]
    assert len(index) == 4


def test_a_model_that_does_not_answer_makes_its_files_wait(fs):
    down = threading.Event()

    def model(texts):
        if down.is_set():
            raise Unreachable("nobody there")
        return counted(texts)

    index = fs.index("docs", embedder=model)
    down.set()
    fs.write_text("docs/a.txt", "coffee")
    assert not fs.ingest.wait(1)
    status = until(lambda: (told := index.describe()["ingest"])["state"] == "waiting for a model" and told)
    assert status["backlog"] == 1 and "nobody there" in next(iter(status["held"].values()))
    down.clear()
    settled(fs)
    assert found(fs, "coffee") == ["/docs/a.txt"] and not fs.ingest.status()["held"]


def test_more_changes_than_are_remembered(fs):
    index = fs.index("docs", embedder="default")
    settled(fs)
    # Two kinds of events a file: more than the queue of 4096 holds, unless somebody looks meanwhile.
    for n in range(6000):
        fs.write_bytes(f"docs/{n}", b"coffee %d" % n)
    settled(fs)
    assert len(index) == 6000


def test_vectors_given_by_hand_stay(fs):
    index = fs.index("docs", embedder=counted)
    mine = np.eye(len(WORDS), dtype=np.float32)[3]
    index.upsert(["a.txt"], mine[None], contents=["coffee"])
    settled(fs)
    fs.ingest.look_through(index)
    settled(fs)
    np.testing.assert_allclose(index.get("a.txt").vector, mine, atol=1e-6)


def test_another_model_is_refused_with_the_way_out(fs, monkeypatch):
    index = fs.index("docs", embedder="default")
    with pytest.raises(IndexConflict, match="reembed"):
        fs.index("docs", embedder=counted)
    with pytest.raises(InvalidArgument, match="256 numbers"):
        fs.index("other", embedder="default", dim=100)
    with pytest.raises(ConfigError, match="static"):
        fs.index("other", embedder="nonsense")
    index.keep(**{textindex.VERSION: "older"})
    with pytest.raises(IndexConflict, match="older"):
        fs.search("coffee")
    with pytest.raises(IndexConflict, match="older"):
        fs.index("docs", embedder="default")


def test_ten_thousand_random_operations_leave_neither_orphan_nor_gap(fs):
    rng = random.Random(4)
    index = fs.index("docs", embedder=counted)
    fs.mkdir("docs/d")
    files: dict[str, str] = {}
    for n in range(10_000):
        name = f"docs/{rng.choice(['', 'd/'])}{rng.randrange(60)}"
        what = rng.random()
        if what < 0.6:
            text = " ".join(rng.choice(WORDS) for _ in range(4))
            fs.write_text(name, text)
            files[name] = text
        elif name in files and what < 0.8:
            fs.remove(name)
            del files[name]
        elif name in files:
            goal = f"docs/{rng.randrange(60)}"
            fs.rename(name, goal)
            files[goal] = files.pop(name)
        if n % 1000 == 500:
            time.sleep(0.05)
    settled(fs)
    stat = {fs.stat(name).st_ino: name for name in files}
    assert set(index.files().tolist()) == set(stat)
    for ino, name in stat.items():
        want = np.array(counted([files[name]])[0], np.float32)
        title = name.rpartition("/")[2]
        assert title.isdigit()
        np.testing.assert_allclose(index.vectors_of(ino)[0], want / np.linalg.norm(want), atol=1e-3)


CHILD = """
import sys, vexfs
fs = vexfs.open(sys.argv[1])
fs.index("docs", embedder="default")
n = 0
while True:
    fs.write_text(f"docs/{n % 500}.txt", f"coffee number{n} " * 50)
    if n % 100 == 0:
        fs.sync()
        print("ready", flush=True)
    n += 1
"""


def test_killed_in_the_middle_it_goes_on(tmp_path):
    for wait_s in (0.3, 0.7):
        child = subprocess.Popen([sys.executable, "-c", CHILD, tmp_path / "v.vex"], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        time.sleep(wait_s)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        with vexfs.open(tmp_path / "v.vex") as fs:
            settled(fs)
            index = fs.indexes()[0]
            there = {fs.stat(f"docs/{name}").st_ino for name in fs.listdir("docs") if fs.stat(f"docs/{name}").st_size}
            assert set(index.files().tolist()) == there
            assert fs.search("coffee number7", k=5)


def test_it_gives_way_to_others(fs):
    index = fs.index("docs", embedder="default")
    settled(fs)
    stop = threading.Event()

    def others():
        while not stop.is_set():
            fs.exists("docs")

    thread = threading.Thread(target=others)
    thread.start()
    try:
        for n in range(300):
            fs.write_text(f"docs/{n}.txt", "coffee " * 2000)
        until(lambda: fs.write_text("docs/0.txt", "tea") and fs.ingest.status()["state"] == "waiting for others")
    finally:
        stop.set()
        thread.join()
    settled(fs)
    assert len(index) == 300


def test_without_a_place_among_those_who_look_on(tmp_path, monkeypatch):
    from vexfs.search import ingest

    def full(filesystem):
        raise OSError(24, "as many look on as can")

    monkeypatch.setattr(ingest, "Watch", full)
    monkeypatch.setattr(ingest, "_LOOK_EVERY_S", 0.05)
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("docs", embedder="default")
        fs.write_text("docs/a.txt", "coffee")
        until(lambda: found(fs, "coffee"))
        assert found(fs, "coffee") == ["/docs/a.txt"]


def test_a_dropped_index_takes_its_list_along(fs):
    fs.index("docs", embedder="default")
    fs.write_bytes("docs/a.png", b"x")
    settled(fs)
    assert fs.ingest.status()["without_text"] == 1
    fs.drop_index("docs")
    assert fs.ingest.status()["without_text"] == 0
    fs.write_text("docs/b.txt", "coffee")
    settled(fs)


def test_an_index_that_is_dropped_while_its_files_are_on_their_way(fs, caplog):
    for n in range(600):
        fs.write_text(f"docs/{n % 7}/{n}.txt", f"coffee {n}")
    for _ in range(4):
        fs.index("docs", embedder="default")
        time.sleep(random.random() / 20)
        fs.drop_index("docs")
    fs.index("docs", embedder="default")
    settled(fs)
    assert len(found(fs, "coffee")) == 50 and fs.ingest.status()["backlog"] == 0
    assert "ingest failed" not in caplog.text


def test_an_index_that_is_dropped_while_a_model_works_is_no_failure(fs):
    begun, over = threading.Event(), threading.Event()

    def model(texts):
        if "bean" in texts[0]:
            begun.set()
            over.wait(250)
        return counted(texts)

    fs.index("docs", embedder=model)
    for number in range(5):
        fs.write_text(f"docs/{number}.txt", f"bean {number}")
    assert begun.wait(120)
    fs.drop_index("docs")
    index = fs.index("docs", embedder=model)
    over.set()
    settled(fs)
    assert len(index) == 5 and fs.ingest.status()["failures"] == 0 and not index.describe()["ingest"]["aside"]


def test_a_file_counts_as_waiting_until_it_is_indexed(fs, monkeypatch):
    for number in range(3):
        fs.write_text(f"docs/{number}.txt", f"coffee {number}")
    seen = []
    real = {name: getattr(ingesting.Ingest, name) for name in ("_prepared", "_store")}

    def looked(self, *given):
        status = self.status()
        name = "_prepared" if isinstance(given[0], int) else "_store"
        seen.append((name, status["backlog"], status["settled"]))
        return real[name](self, *given)

    for name in real:
        monkeypatch.setattr(ingesting.Ingest, name, looked)
    fs.index("docs", embedder="default")
    settled(fs)
    until_stored = seen[: [name for name, *_ in seen].index("_store") + 1]
    assert len(until_stored) >= 4
    assert {(backlog, done) for _, backlog, done in until_stored} == {(3, False)}, seen
    assert fs.ingest.status()["settled"] and fs.ingest.status()["backlog"] == 0


def test_directories_and_what_went_are_no_files_that_wait(fs, monkeypatch):
    fs.index("docs", embedder="default")
    settled(fs)
    monkeypatch.setattr(Turns, "others_are_busy", lambda self: True)  # it takes notes only
    for n in range(20):
        fs.mkdir(f"docs/{n}")
        fs.write_text("docs/gone.txt", "coffee")
        fs.remove("docs/gone.txt")
    fs.write_text("docs/a.txt", "coffee")
    until(lambda: fs.ingest.status()["state"] == "waiting for others" and fs.ingest.status()["backlog"])
    status = fs.ingest.status()
    assert not status["settled"] and status["backlog"] <= 21
    settled(fs)
    assert fs.ingest.status()["backlog"] == 0 and found(fs, "coffee") == ["/docs/a.txt"]
