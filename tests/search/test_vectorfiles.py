"""Files whose content is vectors: each row of them is found while the file is there, below an index, and says so."""

import io
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest

import vexfs
from vexfs.search.settling import Settling

DIM = 8


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def vec(rows):
    return "".join(",".join(repr(float(x)) for x in row) + "\n" for row in rows)


@pytest.fixture
def x(rng):
    return rng.standard_normal((40, DIM)).astype(np.float32)


@pytest.fixture
def box(fs):
    return fs.index("box", dim=DIM)


def nearest(index, q, **options):
    hits = index.query(q, 1, **options)
    return (hits[0].path, hits[0].number) if hits and hits[0].score > 0.9999 else None


def reasons(index):
    return {each["path"]: each["reason"] for each in index.describe()["aside"]}


def test_one_array_is_one_vector(fs, box, x):
    fs.write_bytes("box/a.npy", npy(x[0]))
    assert nearest(box, x[0]) == ("/box/a.npy", 0) and len(box) == 1
    assert np.frombuffer(fs.getxattr("box/a.npy", "user.vexfs.vector"), "<f4") == pytest.approx(x[0])
    assert box.get("a.npy").vector == pytest.approx(x[0])


def test_the_attribute_is_there_before_any_search(fs, box, x):
    fs.write_bytes("box/a.npy", npy(x[0]))
    assert np.frombuffer(fs.getxattr("box/a.npy", "user.vexfs.vector"), "<f4") == pytest.approx(x[0])


def test_each_row_of_a_table_is_a_vector_and_knows_its_place(fs, box, x):
    fs.write_bytes("box/t.npy", npy(x))
    assert len(box) == 1 and box.describe()["rows"]["live"] == 40
    for k in (0, 17, 39):
        (hit,) = box.query(x[k], 5)
        assert hit.number == k and hit.as_dict()["number"] == k
        start, end = hit.span
        assert np.frombuffer(fs.read_bytes("box/t.npy")[start:end], "<f4") == pytest.approx(x[k])


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", ">f8", "i1", "u1", "<i2", ">i4", "<i8", "<u8"])
def test_numbers_of_any_size_and_order_of_bytes(fs, box, dtype, rng):
    rows = rng.integers(0, 100, (3, DIM)).astype(dtype)
    fs.write_bytes("box/a.npy", npy(rows))
    fs.write_bytes("box/f.npy", npy(np.asfortranarray(rows[:2] + rows[1:].dtype.type(1))))
    assert box.query(rows[2].astype(np.float32), 1)[0].score == pytest.approx(1, abs=1e-5)
    hit = box.query((rows[1] + 1).astype(np.float32), 1)[0]
    assert (hit.path, hit.number, hit.span) == ("/box/f.npy", 1, None)


def test_lines_of_text_are_vectors(fs, box, x):
    fs.write_text("box/a.vec", "# made by hand\n\n" + vec(x[:3]))
    fs.write_text("box/b.vec", " ".join(map(str, x[3])))  # no newline, blanks
    fs.write_text("box/c.vec", str([round(float(v), 6) for v in x[4]]) + "\r\n")  # as a list is printed
    for k, (name, number) in enumerate([("a", 0), ("a", 1), ("a", 2), ("b", 0), ("c", 0)]):
        assert nearest(box, x[k]) == (f"/box/{name}.vec", number)
    start, end = box.query(x[1], 1)[0].span
    assert fs.read_bytes("box/a.vec")[start:end].decode() == vec(x[1:2]).strip()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (npy(np.ones(DIM + 1)), "an array of shape 9; 8 numbers, or rows of 8, are wanted"),
        (npy(np.ones((2, 2, DIM))), "2x2x8"),
        (npy(np.float32(1)), "shape ()"),
        (npy(np.empty((0, DIM), np.float32)), "0 vectors"),
        (npy(np.full(DIM, np.nan)), "nan at place 0"),
        (npy(np.full(DIM, 1e39)), "inf at place 0"),
        (npy(np.zeros(DIM)), "all zeros"),
        (npy(np.ones(DIM, complex)), "complex128"),
        (npy(np.ones(DIM, bool)), "bool"),
        (npy(np.array([{}] * DIM, object)), "object"),
        (npy(np.array(["1"] * DIM)), "<U1"),
        (npy(np.ones((70_000, DIM), np.int8)), "70000 vectors; 1 to 65536"),
        (npy(np.ones((9, DIM)))[:-1], "ends early: 576 bytes of numbers are announced, 575 are there"),
        (npy(np.ones(DIM))[:20], "no array that can be read"),
        (b"\x93NUMPY\x01\x00\x10\x00{'shape': (8,),(\n", "no array that can be read"),
        (b"nothing of the kind", "no array that can be read"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_no_vector_stays_a_file_and_says_why(fs, box, x, content, told):
    fs.write_bytes("box/a.npy", npy(x[0]))
    assert len(box) == 1
    fs.write_bytes("box/a.npy", content)
    assert len(box) == 0 and not box.query(x[0], 1)  # the old vector went, too
    assert fs.read_bytes("box/a.npy") == content
    assert told in reasons(box)["/box/a.npy"]
    assert nearest(box, x[0]) is None and box.describe()["rows"]["stale"] == 0
    fs.write_bytes("box/a.npy", npy(x[1]))
    assert nearest(box, x[1]) == ("/box/a.npy", 0) and not reasons(box)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("1 2 3\n", "the first line has 3 words; 8 numbers a line are wanted"),
        ("1 2 3 4 5 6 7 8\n1 2\n", "8 numbers a line are wanted"),
        ("1 2 3 4 5 6 7 acht\n", "acht"),
        ("1 2 3 4 5 6 7 nan\n", "nan at place 7"),
        ("1 2 3 4 5 6 7 \xe9\n", "8 numbers a line are wanted"),
        ("# nothing\n", "0 vectors"),
    ],
)
def test_text_that_is_no_vector_says_why(fs, box, content, told):
    fs.write_text("box/a.vec", content)
    assert len(box) == 0 and told in reasons(box)["/box/a.vec"]


def test_what_an_index_of_smaller_numbers_cannot_hold(fs, x):
    index = fs.index("half", dim=DIM, metric="l2", dtype="f16")
    fs.write_bytes("half/a.npy", npy(x[0] * 1e6))
    assert len(index) == 0 and "f16" in reasons(index)["/half/a.npy"]


def test_rewritten_in_place_and_appended_to(fs, box, x):
    fs.write_text("box/a.vec", vec(x[:2]))
    assert nearest(box, x[1]) == ("/box/a.vec", 1)
    with fs.open("box/a.vec", "a") as file:
        file.write(vec(x[2:3]))
    assert nearest(box, x[2]) == ("/box/a.vec", 2)
    fs.truncate("box/a.vec", 0)
    assert len(box) == 0 and not reasons(box)


def test_searched_while_it_is_written(fs, box, x):
    content = npy(np.repeat(x, 50, axis=0))
    with fs.open("box/a.npy", "wb") as file:
        for at in range(0, len(content), 10_000):
            file.write(content[at : at + 10_000])
            file.flush()
            assert nearest(box, x[0]) is None or at + 10_000 >= len(content)
    assert nearest(box, x[39])[0] == "/box/a.npy" and not reasons(box)


def test_the_first_search_finds_it_in_rows_that_were_of_others(fs, box, rng):
    box.upsert([f"{i}" for i in range(2000)], rng.standard_normal((2000, DIM)))
    box.delete([f"{i}" for i in range(1500)])  # so many are used again
    fs.write_bytes("box/a.npy", npy(np.ones(DIM)))
    assert box.query(np.ones(DIM), 3).paths[0] == "/box/a.npy"
    fs.rename("box/a.npy", "box/b.npy")
    fs.makedirs("plain")
    fs.rename("box/1999", "plain/x")
    fs.index("other", dim=DIM).upsert(["y"], [np.full(DIM, -1.0)])
    fs.rename("other/y", "box/y")
    assert [len(box.query(q, 9)) for q in (np.ones(DIM), -np.ones(DIM))] == [9, 9]
    assert box.query(-np.ones(DIM), 1).paths == ["/box/y"]


def test_a_search_waits_for_whoever_settles_what_it_is_to_find(fs, box, x, monkeypatch):
    """Another thread takes the notes of what changed just when a search has looked whether somebody is at it."""
    look_at, pending = Settling._look_at, Settling.pending.fget
    taken = threading.Event()

    def slowly(self, ino):
        taken.set()
        time.sleep(0.3)
        look_at(self, ino)

    def looked(self):
        found = pending(self)
        if not other.ident:
            other.start()
            assert taken.wait(120)
        return found

    box.upsert(["far"], -x[:1])
    assert len(box) == 1  # nothing is left to settle
    fs.write_bytes("box/a.npy", npy(x[0]))
    other = threading.Thread(target=fs.catalog.settle)
    monkeypatch.setattr(Settling, "_look_at", slowly)
    monkeypatch.setattr(Settling, "pending", property(looked))
    assert box.query(x[0], 1).paths == ["/box/a.npy"]
    if other.ident:
        other.join()


def test_names_decide(fs, box, x):
    fs.write_bytes("box/a.tmp", npy(x[0]))
    fs.write_bytes("box/.npy", npy(x[1]))
    assert len(box) == 0
    fs.rename("box/a.tmp", "box/a.npy")  # as programs write that want no half files
    assert nearest(box, x[0]) == ("/box/a.npy", 0)
    fs.rename("box/a.npy", "box/b.npy")
    assert nearest(box, x[0]) == ("/box/b.npy", 0) and len(box) == 1
    fs.rename("box/b.npy", "box/b.bin")
    assert len(box) == 0
    fs.link("box/b.bin", "box/c.npy")
    assert nearest(box, x[0]) == ("/box/c.npy", 0)
    fs.remove("box/c.npy")
    assert len(box) == 0
    fs.rename("box/b.bin", "box/bad.vec")
    assert len(box) == 0 and list(reasons(box)) == ["/box/bad.vec"]
    fs.rename("box/bad.vec", "box/bad.bin")
    assert not reasons(box)
    fs.write_bytes("box/d.npy", npy(x[2]))
    fs.rename("box/bad.bin", "box/d.npy")  # over one that was there
    assert nearest(box, x[0]) == ("/box/d.npy", 0) and len(box) == 1
    fs.remove("box/d.npy")
    assert len(box) == 0


def test_a_name_says_which_of_the_two_kinds_a_file_is(fs, box, x):
    fs.write_bytes("box/a.npy", npy(x[0]))
    fs.write_text("box/b.vec", vec(x[1:2]))
    assert len(box) == 2
    fs.filesystem.rename("box/a.npy", "box/b.vec", 2)  # an exchange
    assert len(box) == 0 and set(reasons(box)) == {"/box/a.npy", "/box/b.vec"}
    fs.rename("box/a.npy", "box/c.vec")  # set aside as it was, under the right name it is read
    assert nearest(box, x[1]) == ("/box/c.vec", 0)
    fs.rename("box/b.vec", "box/c.npy")
    assert nearest(box, x[0]) == ("/box/c.npy", 0) and not reasons(box)


def test_across_the_edges_of_indexes(fs, box, x):
    other, small = fs.index("other", dim=DIM, metric="l2"), fs.index("box/small", dim=DIM - 1)
    fs.makedirs("plain/deep")
    fs.write_bytes("plain/deep/a.npy", npy(x[:4]))
    fs.rename("plain/deep", "box/deep")  # a directory of files that no index knew
    assert nearest(box, x[2]) == ("/box/deep/a.npy", 2)
    fs.rename("box/deep/a.npy", "other/a.npy")
    assert len(box) == 0 and other.query(x[2], 1)[0].number == 2
    fs.rename("other/a.npy", "box/small/a.npy")
    assert len(other) == len(small) == 0 and "rows of 7" in reasons(small)["/box/small/a.npy"]
    fs.rename("box/small/a.npy", "box/a.npy")
    assert nearest(box, x[3]) == ("/box/a.npy", 3) and not reasons(small)
    fs.rename("box/a.npy", "plain/a.npy")
    assert len(box) == 0
    fs.rename("plain/a.npy", "box/a.npy")
    assert nearest(box, x[1]) == ("/box/a.npy", 1)


def test_indexes_that_come_and_go_over_files(fs, x):
    fs.makedirs("a/b")
    fs.write_bytes("a/b/x.npy", npy(x[0]))
    outer = fs.index("a", dim=DIM)
    assert nearest(outer, x[0]) == ("/a/b/x.npy", 0)
    inner = fs.index("a/b", dim=DIM)
    assert len(outer) == 0 and nearest(inner, x[0]) == ("/a/b/x.npy", 0)
    fs.drop_index("a/b")
    assert nearest(outer, x[0]) == ("/a/b/x.npy", 0)


def test_a_vector_given_by_hand_stays(fs, box, x):
    box.upsert(["a.npy"], x[:1], contents=[npy(x[1])])
    fs.write_bytes("box/a.npy", npy(x[2]))
    assert nearest(box, x[0]) == ("/box/a.npy", 0) and len(box) == 1
    fs.removexattr("box/a.npy", "user.vexfs.vector")
    fs.write_bytes("box/a.npy", npy(x[2]))
    assert nearest(box, x[2]) == ("/box/a.npy", 0)


def test_a_copy_has_vectors_of_its_own(fs, box, x):
    fs.write_bytes("box/a.npy", npy(x[:2]))
    assert "user.vexfs.vector" not in fs.listxattr("box/a.npy")  # it would be given by hand to the copy
    fs.write_bytes("box/b.npy", fs.read_bytes("box/a.npy"))
    assert sorted(hit.path for hit in box.query(x[1], 9)) == ["/box/a.npy", "/box/b.npy"]


def test_as_many_files_as_asked_for_though_one_has_all_the_nearest_rows(fs, box, x, rng):
    near = x[0] + 0.01 * rng.standard_normal((500, DIM)).astype(np.float32)
    fs.write_bytes("box/near.npy", npy(near))
    box.upsert(["p", "q", "r"], -near[:3] + x[1:4])
    hits = box.query(x[0], 4)
    assert hits.paths[0] == "/box/near.npy" and sorted(hits.paths[1:]) == ["/box/p", "/box/q", "/box/r"]


def test_below_an_index_of_text_arrays_are_vectors_and_not_text(fs, x, rng):
    index = fs.index("notes", embedder="static")
    fs.write_text("notes/a.txt", "bright and sour beans")
    wide = rng.standard_normal((2, index.dim)).astype(np.float32)
    fs.write_bytes("notes/w.npy", npy(wide))
    fs.write_text("notes/w.vec", vec(wide[:1]))
    assert fs.catalog.ingesting().wait(120)
    assert index.query(wide[1], 1)[0].path == "/notes/w.npy" and len(index) == 3
    told = index.describe()["ingest"]
    assert told["aside"] == [] and told["backlog"] == 0


def test_closed_and_opened_again(fs, box, x, reopen):
    fs.write_bytes("box/a.npy", npy(x[:3]))
    fs.write_bytes("box/bad.npy", b"")
    fs.write_bytes("box/bad.npy", b"?")
    fs = reopen()
    index = fs.index("box")
    assert nearest(index, x[2]) == ("/box/a.npy", 2) and list(reasons(index)) == ["/box/bad.npy"]
    assert not fs.catalog.settling.pending


CHILD = """
import sys, numpy as np, vexfs
fs = vexfs.open(sys.argv[1])
x = np.load(sys.argv[2])
fs.index("box", dim=x.shape[1])
fs.write_bytes("box/old.npy", open(sys.argv[2], "rb").read())
assert len(fs.index("box")) == 1
fs.catalog.upkeep._look = lambda: None  # nobody looks, as when the kill comes at once
import io
def npy(a):
    out = io.BytesIO(); np.save(out, a); return out.getvalue()
fs.write_bytes("box/new.npy", npy(x[:2] + 5))
fs.write_bytes("box/old.npy", npy(x[1:2] - 5))
fs.fsync()
print("ready", flush=True)
import time; time.sleep(60)
"""


def test_killed_before_anybody_looked(tmp_path, x):
    import vexfs

    np.save(tmp_path / "x.npy", x)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "w"), str(tmp_path / "x.npy")], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with vexfs.open(tmp_path / "w") as fs:
        index = fs.index("box")
        assert nearest(index, x[1] + 5) == ("/box/new.npy", 1)
        assert nearest(index, x[1] - 5) == ("/box/old.npy", 0) and nearest(index, x[3]) is None
        assert index.describe()["rows"]["live"] == 3


def test_headers_of_any_bytes_fail_no_write_and_no_search(fs, box, x, rng):
    whole = bytearray(npy(x[0]))
    for at in range(128):
        bent = bytearray(whole)
        bent[at] = rng.integers(0, 256)
        fs.write_bytes(f"box/{at}.npy", bytes(bent))
    assert len(box) + len(reasons(box)) >= 100  # a list shows a hundred
    fs.write_bytes("box/good.npy", npy(x[5]))
    assert nearest(box, x[5]) == ("/box/good.npy", 0)


def test_a_file_of_more_rows_than_are_looked_at_hides_no_other(fs, rng):
    index = fs.index("i", dim=16)
    middle = np.ones(16, np.float32)
    for name in ("one.npy", "two.npy"):
        fs.write_bytes(f"i/{name}", npy((middle + 0.01 * rng.standard_normal((12_000, 16))).astype(np.float32)))
    index.upsert(
        [f"f{k}" for k in range(20)], (middle + 0.5 * rng.standard_normal((20, 16))).astype(np.float32),
        [{"odd": k % 2} for k in range(20)],
    )  # fmt: skip
    for exact in (True, None):
        hits = index.query(middle, 10, exact=exact)
        assert {hit.id for hit in hits[:2]} == {"one.npy", "two.npy"} and len({hit.id for hit in hits}) == 10
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len(index.query(middle, 22)) == len(index.query(middle, 100)) == 22
    assert len(index.query(middle, 12, where={"odd": {"$ne": 1}})) == 12


def test_as_many_files_as_asked_for_where_that_is_thousands(fs):
    """Four rows a file wanted are more than one look takes."""
    index = fs.index("far", dim=4, metric="l2")
    fs.write_bytes("far/many.npy", npy(np.zeros((12_000, 4), np.float32)))
    index.upsert([f"{i:04}" for i in range(3000)], np.ones((3000, 4)) + np.arange(3000)[:, None])
    for exact in (True, None):
        found = [hit.id for hit in index.query(np.zeros(4), 2800, exact=exact)]
        assert found == ["many.npy", *(f"{i:04}" for i in range(2799))]


def test_a_large_array_is_read_in_pieces(tmp_path):
    """Memory is what is stored, and not the array as float32 beside it; numbers are those of the file."""
    rows = np.random.default_rng(1).integers(1, 100, (2048, 16384), dtype=np.int8)
    with vexfs.open(tmp_path / "v.vex") as fs:
        index = fs.index("p", dim=16384, dtype="i8", rows_in="disk")
        with fs.open("p/a.npy", "wb") as file:
            np.save(file, rows)
        tracemalloc.start()
        fs.catalog.settle()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(index.vectors) == 2048
        assert peak < 3 * rows.nbytes
        hit = index.query(rows[1999].astype(np.float32), 1)[0]
        assert (hit.number, hit.span[0]) == (1999, 128 + 1999 * 16384)
        rows[2047] = 0
        with fs.open("p/a.npy", "wb") as file:
            np.save(file, rows)
        assert len(index) == 0
        assert "vector 2047 is all zeros" in index.describe()["aside"][0]["reason"]
