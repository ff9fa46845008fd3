"""What comes and goes for ever leaves nothing behind, many indexes fit; models that misbehave stop nobody."""

import sys
import threading

import numpy as np
import pytest

import vexfs
from tests.waiting import until
from vexfs.search import reembed, snapshot
from vexfs.search.upkeep import Upkeep


def embed(texts):
    return np.array([[1.0, len(text) % 7, text.count("e")] for text in texts])


def settled(fs):
    assert fs.ingest.wait(120), fs.ingest.status()


def maintained(index):
    while index.maintain(20):
        pass


def test_the_log_of_keyword_records_is_shortened_while_the_volume_is_open(fs, reopen, vectors, monkeypatch):
    monkeypatch.setattr(snapshot, "LOG_BYTES", 2000)
    index = fs.index("t", dim=32)

    def put(fs, turn):
        for k in range(20):
            text = f"turn{turn} file{k} and more words"
            fs.write_text(f"t/{k}", text)
            at = fs.stat(f"t/{k}")
            assert fs.index("t").put_chunks(at.st_ino, at.generation, [(0, 5)], [text], vectors[k : k + 1])

    longest = 0
    for turn in range(40):
        put(fs, turn)
        maintained(index)
        longest = max(longest, fs.filesystem.stat(".vexfs/index-1/words").st_size)
    assert longest < 8000
    second = reopen()
    again = second.index("t")
    assert len(again.words.search("turn39", 50)[0]) == 20 and len(again.words.search("turn38", 50)[0]) == 0
    put(second, 40)
    third = reopen().index("t")
    assert len(third.words.search("turn40", 50)[0]) == 20 and len(third) == 20


def test_files_set_aside_are_not_listed_where_they_are_no_more(fs):
    index = fs.index("t", embedder=embed)
    fs.mkdir("t/in")
    fs.write_bytes("t/in/a.txt", bytes(range(256)) * 4)
    settled(fs)
    assert [each["path"] for each in index.describe()["aside"]] == ["/t/in/a.txt"]
    fs.rename("t/in", "out")
    settled(fs)
    assert index.describe()["aside"] == [] and fs.ingest.status()["without_text"] == 0


def test_files_set_aside_are_forgotten_when_they_go(fs):
    index = fs.index("t", embedder=embed)
    index.aside._looked = 20
    for turn in range(10):
        for k in range(20):
            fs.write_bytes(f"t/{k}.png", b"picture")
        fs.write_bytes("t/stays.png", b"picture")
        settled(fs)
        index.aside.save(now=True)
        if turn < 9:
            for k in range(20):
                fs.unlink(f"t/{k}.png")
    index.aside._looked = 0
    index.aside.put(1 << 30, 1, "a file that never was", fault=False)
    index.aside.save(now=True)
    assert index.aside.counts() == (21, 0)


class Panic(BaseException):
    """As those of compiled extensions, which are no exceptions to most programs."""


def panics(texts):
    raise Panic("at tokenizer.rs:1")


ODD = {
    "panics": panics,
    "is not a number": lambda texts: np.full((len(texts), 3), np.nan),
    "has too few rows": lambda texts: np.ones((len(texts) - 1, 3)),
    "has too many rows": lambda texts: np.ones((len(texts) + 1, 3)),
    "has another dimension": lambda texts: np.ones((len(texts), 4)),
    "answers nothing": lambda texts: None,
    "answers words": lambda texts: ["a"] * len(texts),
    "is ragged": lambda texts: [[1.0], [1.0, 2.0], 3.0],
    "is infinite": lambda texts: np.full((len(texts), 3), np.inf),
}


@pytest.mark.parametrize("how", ODD)
def test_a_model_that(fs, how):
    def model(texts):
        return ODD[how](texts) if any("poison" in text for text in texts) else embed(texts)

    index = fs.index("t", embedder=model)
    for k in range(6):
        fs.write_text(f"t/{k}.txt", "poison" if k == 3 else f"sound text {k}")
    settled(fs)
    assert index.aside.counts() == (0, 1) and len(index) == 5
    fs.write_text("t/3.txt", "sound after all")
    settled(fs)
    assert index.aside.counts() == (0, 0) and len(index) == 6


def test_many_indexes_in_one_volume(fs, reopen):
    """Each takes address space beforehand; not so much that some dozens use it up."""
    x = np.ones((1, 384), np.float32)
    for k in range(80):
        fs.index(f"d{k}", dim=384).upsert(["a"], x)
    assert len(fs.search(x[0], 100)) == 80
    assert len(reopen().search(x[0], 100)) == 80


def test_an_index_that_cannot_be_made_leaves_the_one_before(fs, monkeypatch):
    made = reembed.create_text_index

    def fails_once(*given, **options):
        monkeypatch.undo()
        assert made is reembed.create_text_index
        raise OSError(28, "no space")

    def three(texts):
        return np.ones((len(texts), 3))

    def four(texts):
        return np.ones((len(texts), 4))

    fs.index("t", embedder=three)
    fs.write_text("t/a.txt", "hello words")
    assert fs.ingest.wait(120)
    monkeypatch.setattr(reembed, "create_text_index", fails_once)
    with pytest.raises(OSError, match="no space"):
        fs.reembed("t", four)
    assert fs.ingest.wait(120)
    assert fs.index("t").dim == 3 and [hit.path for hit in fs.search("hello", under="t")] == ["/t/a.txt"]


def test_what_many_records_bring_into_memory_goes_again(tmp_path):
    """One call puts or describes thousands of files; it evicts in proportion, as others do one by one."""
    with vexfs.open(tmp_path / "v", inode_cache=1000) as fs:
        index = fs.index("t", dim=4)
        for turn in range(20):
            ids = [f"{turn}-{i}" for i in range(2000)]
            index.upsert(ids, np.ones((2000, 4)), attributes=[{"n": i} for i in range(2000)])
            fs.sync()
        assert fs.filesystem.status()["inodes_cached"] < 20_000
        assert fs.filesystem.status()["dentries_cached"] < 22_000
        for n in range(20):
            assert len(index.query(np.ones(4), 5, where={"n": {"$lt": 1999 - n}})) == 5
        assert fs.filesystem.status()["inodes_cached"] < 20_000


def test_large_attributes_are_not_kept_for_every_file_in_memory(tmp_path):
    value = bytes(range(250)) * 240
    with vexfs.open(tmp_path / "v") as fs:
        for i in range(3000):
            fs.touch(f"{i}")
            fs.setxattr(f"{i}", "user.large", value)
        for _ in range(2):
            for i in range(3000):
                assert len(fs.getxattr(f"{i}", "user.large")) == 60_000
        assert fs.filesystem.status()["inodes_cached"] < 2000
        assert fs.getxattr("7", "user.large") == value


def test_strings_and_names_of_attributes_that_nobody_has_any_more_are_forgotten(fs, vectors):
    index = fs.index("t", dim=32)
    ids = [f"{i}" for i in range(20)]
    for turn in range(300):
        rows = [{"at": f"{turn}-{i}", f"name{turn}": i, "same": "x"} for i in range(20)]
        index.delete(ids)
        index.upsert(ids, vectors[:20], attributes=rows)
        found = index.query(vectors[0], 20, where={"at": f"{turn}-7", f"name{turn}": 7, "same": "x"})
        assert [hit.id for hit in found] == ["7"]
        assert len(index.query(vectors[0], 20, where={"at": {"$ne": f"{turn - 1}-7"}})) == 20
    columns = index._reader.columns
    assert len(columns.get("at").strings) < 3000
    assert len(columns.columns) < 100
    assert columns.memory() < 2 << 20
    assert [hit.id for hit in index.query(vectors[0], 20, where={"at": {"$gte": "299-8"}})] != []


def test_dropping_an_index_that_is_worked_on_is_no_failure(tmp_path, caplog):
    """The upkeep in the background meets indexes that are dropped at that moment."""
    over, before = threading.Event(), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    with vexfs.open(tmp_path / "v.vex") as fs:
        kept = fs.index("kept", dim=8)

        def hint():
            while not over.is_set():
                fs.catalog.upkeep.hint(kept)

        threads = [threading.Thread(target=hint) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(300):
                fs.index("x", dim=8).upsert(["a"], np.ones((1, 8)))
                fs.drop_index("x")
        finally:
            over.set()
            for thread in threads:
                thread.join()
            sys.setswitchinterval(before)
    assert [record.message for record in caplog.records if "upkeep" in record.message] == []


def _met(index, q, k, recall):
    """The share of the true neighbours that is found."""
    found = [{hit.id for hit in index.query(one, k, recall=recall)} for one in q]
    true = [{hit.id for hit in index.query(one, k, exact=True)} for one in q]
    return np.mean([len(a & b) / k for a, b in zip(found, true, strict=True)])


def names_in(index):
    return {name for name, _, _ in index.filesystem.scandir(index.home)}


def test_recall_is_learnt_from_queries_in_quiet_moments_and_kept(fs, reopen, monkeypatch):
    quiet, look = threading.Event(), Upkeep._look
    monkeypatch.setattr(Upkeep, "_look", lambda self: quiet.is_set() and look(self))
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(40, 32))[rng.integers(0, 40, 12_000)] + 0.5 * rng.normal(size=(12_000, 32))
    index = fs.index("many", dim=32)
    index.upsert([f"r{k}" for k in range(len(rows))], rows)
    fs.catalog.upkeep.wait()
    index = reopen().index("many")
    assert b"learned" not in names_in(index)
    q = rows[rng.integers(0, len(rows), (160, 3))].mean(axis=1)
    assert _met(index, q[:60], 10, 0.9) < 0.85
    for one in q[60:]:
        index.query(one, 10)
    quiet.set()
    until(lambda: _met(index, q[:60], 10, 0.9) >= 0.88)
    quiet.clear()
    index = reopen().index("many")  # without another snapshot: nothing was put
    assert b"learned" in names_in(index)
    assert _met(index, q[:60], 10, 0.9) >= 0.88
