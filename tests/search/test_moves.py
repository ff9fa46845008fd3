"""Files that move, get names and lose them: their vectors go with them, and results show only what an index covers."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import vexfs


def ids(hits):
    return sorted(hit.id for hit in hits)

@pytest.fixture
def box(fs, vectors):
    """Two indexes side by side, one nested in the first, and files a0..a9 with vectors in the first."""
    one = fs.index("one", dim=32)
    one.upsert([f"a{k}" for k in range(10)], vectors[:10], [{"n": k} for k in range(10)])
    return one, fs.index("two", dim=32), fs.index("one/nested", dim=32)


def test_out_and_back(fs, box, vectors):
    one, _, _ = box
    fs.mkdir("plain")
    fs.rename("one/a3", "plain/a3")
    assert len(one) == 9 and "a3" not in ids(one.query(vectors[3], 10))
    # It still has its vector; it is only not covered.
    assert np.frombuffer(fs.getxattr("plain/a3", "user.vexfs.vector"), "<f4") == pytest.approx(vectors[3])
    fs.rename("plain/a3", "one/back")
    assert len(one) == 10 and one.query(vectors[3], 1)[0].path == "/one/back"


def test_attributes_that_changed_meanwhile_are_filtered_by(fs, box):
    one, _, _ = box
    assert one.count({"n": 3}) == 1
    fs.rename("one/a3", "away")
    fs.attributes("away")["n"] = 30
    assert one.count({"n": 3}) == 0
    fs.rename("away", "one/a3")
    assert one.count({"n": 30}) == 1 and one.count({"n": 3}) == 0


def test_into_another_index(fs, box, vectors):
    one, two, nested = box
    fs.rename("one/a1", "two/a1")
    fs.rename("one/a2", "one/nested/a2")
    assert (len(one), len(two), len(nested)) == (8, 1, 1)
    assert two.query(vectors[1], 1)[0].path == "/two/a1" and nested.query(vectors[2], 1)[0].path == "/one/nested/a2"
    assert ids(fs.search(vectors[2], 20, under="one")) == sorted(f"a{k}" for k in range(10) if k != 1)


def test_directories_take_their_files_along(fs, box, vectors):
    one, two, _ = box
    fs.makedirs("one/d/e")
    fs.rename("one/a1", "one/d/a1")
    fs.rename("one/a2", "one/d/e/a2")
    assert len(one) == 10
    fs.rename("one/d", "two/d")
    assert (len(one), len(two)) == (8, 2) and two.query(vectors[2], 1)[0].path == "/two/d/e/a2"
    fs.rename("two/d", "outside")
    assert (len(one), len(two)) == (8, 0)
    fs.rename("outside", "one/again")
    assert len(one) == 10 and one.query(vectors[2], 1)[0].path == "/one/again/e/a2"


def test_an_index_moves_with_its_directory(fs, box, vectors):
    one, two, _ = box
    fs.rename("one", "two/one")
    assert len(one) == 10 and len(two) == 0
    assert one.query(vectors[4], 1)[0].path == "/two/one/a4"


def test_an_index_that_comes_between_and_goes(fs, vectors):
    outer = fs.index("outer", dim=32)
    outer.upsert(["in/a", "in/b", "c"], vectors[:3])
    inner = fs.index("outer/in", dim=32)
    assert len(outer) == 1 and ids(inner.query(vectors[0], 5)) == ["a", "b"]
    fs.drop_index("outer/in")
    assert len(outer) == 1, "a dropped index takes its vectors along"
    other = fs.index("outer/in", dim=7)
    assert len(other) == 0


def test_vectors_stay_when_a_nested_index_of_another_kind_goes(fs, vectors):
    outer = fs.index("outer", dim=32)
    outer.upsert(["in/a", "c"], vectors[:2])
    fs.index("outer/in", dim=7)
    assert len(outer) == 1
    fs.drop_index("outer/in")
    assert len(outer) == 2 and outer.query(vectors[0], 1)[0].path == "/outer/in/a"


@pytest.mark.usefixtures("box")
def test_a_removed_directory_takes_its_index(fs, reopen):
    fs.rmdir("two")
    assert [i.path for i in fs.indexes()] == ["/one", "/one/nested"]
    assert [i.path for i in reopen().indexes()] == ["/one", "/one/nested"]


GONE = """
import os, sys, vexfs
fs = vexfs.open(sys.argv[1])
fs.index("d", dim=2).upsert(["e/a"], [[1, 2]])
fs.index("d/e", dim=2)
fs.fsync()
fs.remove("d/e/a")
fs.rmdir("d/e")
fs.fsync()
os._exit(0)
"""


def test_a_directory_that_went_just_before_a_crash_takes_its_index(tmp_path):
    subprocess.run([sys.executable, "-c", GONE, str(tmp_path / "v")], check=True)
    with vexfs.open(tmp_path / "v", read_only=True) as fs:
        assert [index.path for index in fs.indexes()] == ["/d"]
        assert not fs.indexes()[0].query([1, 2])
    for _ in range(2):
        with vexfs.open(tmp_path / "v") as fs:
            assert [index.path for index in fs.indexes()] == ["/d"]
            with pytest.raises(FileNotFoundError):
                fs.filesystem.stat(".vexfs/index-2")


def test_replaced_by_rename(fs, box, vectors):
    one, _, _ = box
    fs.write_text("one/new", "no vector")
    fs.rename("one/new", "one/a5")
    assert len(one) == 9 and "a5" not in ids(one.query(vectors[5], 10))
    fs.rename("one/a6", "one/a7")
    assert len(one) == 8 and one.query(vectors[6], 1)[0].id == "a7"


def test_an_exchange(fs, box, vectors):
    one, two, _ = box
    fs.write_text("two/x", "")
    fs.filesystem.rename("one/a8", "two/x", 2)
    assert (len(one), len(two)) == (9, 1) and two.query(vectors[8], 1)[0].id == "x"


def test_several_names(fs, box, vectors):
    one, _, _ = box
    fs.mkdir("plain")
    fs.link("one/a9", "one/second")
    fs.link("one/a9", "plain/third")
    assert len(one) == 10
    fs.remove("one/a9")
    fs.remove("one/second")
    fs.stat("plain/third")
    assert len(one) == 9
    fs.remove("plain/third")
    assert len(one) == 9


def test_removed_while_open(fs, box, vectors):
    one, _, _ = box
    with fs.open("one/a0", "rb"):
        fs.remove("one/a0")
        assert len(one) == 9


def test_copies_carry_given_vectors(fs, box, vectors):
    _, two, _ = box
    fs.copy("one/a4", "two/copy")
    assert two.query(vectors[4], 1)[0].id == "copy" and two.get("copy").attributes == {"n": 4}


def test_the_attribute(fs, box, vectors):
    one, _, _ = box
    name = "user.vexfs.vector"
    fs.write_text("one/file", "x")
    assert name not in fs.listxattr("one/file")
    with pytest.raises(OSError, match="No data"):
        fs.getxattr("one/file", name)
    fs.setxattr("one/file", name, ",".join(map(str, vectors[20].tolist())).encode())
    assert name in fs.listxattr("one/file") and one.query(vectors[20], 1)[0].id == "file"
    with pytest.raises(FileExistsError):
        fs.setxattr("one/file", name, vectors[21].tobytes(), os.XATTR_CREATE)
    fs.setxattr("one/file", name, vectors[21].tobytes(), os.XATTR_REPLACE)
    assert one.query(vectors[21], 1)[0].id == "file"
    for bad in (b"", b"1,2", np.full(32, np.nan, np.float32).tobytes(), bytes(128)):
        with pytest.raises(ValueError):
            fs.setxattr("one/file", name, bad)
    assert one.query(vectors[21], 1)[0].id == "file"
    fs.removexattr("one/file", name)
    assert len(one) == 10
    with pytest.raises(OSError, match="No data"):
        fs.removexattr("one/file", name)
    fs.mkdir("plain")
    fs.write_text("plain/file", "x")
    with pytest.raises(OSError, match="not supported"):
        fs.setxattr("plain/file", name, vectors[0].tobytes())
    assert fs.getxattr("one/a1", name) == vectors[1].tobytes()


def test_what_was_away_at_closing_comes_home_later(fs, reopen, box, vectors):
    fs.mkdir("plain")
    fs.rename("one/a3", "plain/a3")
    again = reopen()
    assert len(again.index("one")) == 9
    again.rename("plain/a3", "one/a3")
    assert again.index("one").query(vectors[3], 1)[0].id == "a3"
    again.rename("one/a4", "two/a4")
    third = reopen()
    assert (len(third.index("one")), len(third.index("two"))) == (9, 1)
    assert third.index("two").query(vectors[4], 1)[0].id == "a4"


def test_rows_are_used_again(fs, vectors):
    index = fs.index("i", dim=32)
    names = [f"f{k}" for k in range(600)]
    for _ in range(12):
        index.upsert(names, vectors)
    assert len(index) == 600 and index.table.stats()["rows"] <= 600 + 1024 + 600
    for k in (0, 300, 599):
        assert index.query(vectors[k], 1)[0].id == names[k]
        assert index.get(names[k]).vector == pytest.approx(vectors[k])


def test_dropped_and_closed_while_others_ask(fs, reopen, vectors):
    for _ in range(6):
        index = fs.index("busy", dim=32)
        index.upsert([f"b{k}" for k in range(200)], vectors[:200], [{"n": k} for k in range(200)])
        stop = threading.Event()

        def ask(index=index, stop=stop):
            while not stop.is_set():
                try:
                    index.query(vectors[:4], 50, where={"n": {"$lt": 150}})
                    index.count(under="busy")
                except (LookupError, OSError):  # it is closed
                    return

        with ThreadPoolExecutor(3) as pool:
            asking = [pool.submit(ask) for _ in range(3)]
            try:
                fs.drop_index("busy")
            finally:
                stop.set()
            for each in asking:
                each.result()
    fs.index("busy", dim=32).upsert(["x"], vectors[:1])
    assert len(reopen().index("busy")) == 1


def test_a_vector_that_is_put_while_a_file_is_brought_home_stays(fs, vectors, monkeypatch):
    """It was taken from the index that the file came from, and then put over the new one."""
    home, other = fs.index("home", dim=32), fs.index("other", dim=32)
    other.upsert(["a"], vectors[:1])
    fs.rename("other/a", "home/a")
    putting = threading.Thread(target=lambda: home.upsert(["a"], vectors[1:2]))
    stored = other.stored

    def slow(rows):
        found = stored(rows)
        putting.start()
        putting.join(0.5)
        return found

    monkeypatch.setattr(other, "stored", slow)
    home.count()
    putting.join()
    assert home.query(vectors[1], 1, exact=True)[0].score == pytest.approx(1) and home.count() == 1


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("left", ["outside", "other"])
def test_a_file_leaves_an_index_with_the_name_it_has_there(fs, text, left):
    options = {"embedder": "default"} if text else {"dim": 2}
    index, other = fs.index("docs", **options), fs.index("other", **options)
    if left == "outside":
        fs.mkdir("outside")
    fs.write_text(f"{left}/a.txt", "volcano")
    assert fs.ingest.wait(120)
    fs.filesystem.link(f"{left}/a.txt".encode(), b"docs/b.txt")
    assert fs.ingest.wait(120)
    if not text:
        index.upsert("b.txt", [1, 2])
    assert len(index) == 1
    fs.remove("docs/b.txt")
    assert index.query(np.ones(index.dim), 3) == [] and len(index) == 0  # at any moment
    assert fs.ingest.wait(120)
    assert len(index) == 0 and len(other) == (left == "other")


def test_text_that_was_a_file_of_vectors_by_another_name_is_found(fs):
    fs.index("docs", embedder="default")
    fs.write_text("plain/a.txt", "volcano")
    fs.link("plain/a.txt", "plain/a.npy")
    fs.rename("plain", "docs/plain")
    assert fs.ingest.wait(120) and fs.search("volcano") == []
    fs.remove("docs/plain/a.npy")
    fs.search("volcano")  # what moved is looked at
    assert fs.ingest.wait(120)
    assert [hit.path for hit in fs.search("volcano", mode="keyword")] == ["/docs/plain/a.txt"]
