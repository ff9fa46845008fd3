"""An index whose table of rows is damaged: it is told, nothing of it is lost, whatever stands there does no harm."""

import shutil
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vexfs
from vexfs._core.meta import Meta
from vexfs.errors import Damaged, IndexConflict, IndexMissing

HEAD, ROW = 4096, 32
DIM = 8


def made(path):
    """A volume with an index of 12 files, three of them with three vectors each; the bytes of its table."""
    rows = np.random.default_rng(1).standard_normal((12, DIM))
    with vexfs.open(path) as fs:
        index = fs.index("papers", dim=DIM)
        index.upsert([f"f{k}" for k in range(12)], rows)
        for k in range(3):
            index.set_vectors(fs.stat(f"papers/f{k}").st_ino, rows[:3] + k)
    return table_of(path)


def table_of(path, new=None):
    with vexfs.open(path) as fs:
        name = ".vexfs/index-1/rows"
        if new is not None:
            fs.filesystem.write_file(name, new)
        return fs.filesystem.read_file(name)


def test_a_search_above_it_says_what_is_wrong(tmp_path):
    with vexfs.open(tmp_path / "v") as fs:
        fs.index("notes", embedder="default")
    with vexfs.open(tmp_path / "v") as fs:
        fs.filesystem.write_file(".vexfs/index-1/rows", b"nothing of the kind")
    with vexfs.open(tmp_path / "v") as fs:
        with pytest.raises(Damaged, match=r"table of rows is damaged.*vexctl index drop.*notes"):
            fs.search("words")
        with pytest.raises(Damaged, match="notes"):
            fs.search(np.ones(256))
        fs.mkdir("other")
        with pytest.raises(IndexMissing, match="no index of text"):
            fs.search("words", under="other")


def half_damaged(path):
    """A volume with three indexes of text, of which one is damaged, and an index of vectors."""
    with vexfs.open(path) as fs:
        for name in ("good", "bad", "bad/inner"):
            fs.index(name, embedder="default")
            fs.write_text(f"{name}/{name[:3]}.txt", "light roasts keep acidity")
        fs.index("vectors", dim=4).upsert(["v"], np.ones((1, 4)))
        assert fs.ingest.wait(120)
    with vexfs.open(path) as fs:
        fs.filesystem.write_file(".vexfs/index-2/rows", b"nothing of the kind")


def test_a_search_says_what_it_could_not_look_into(tmp_path):
    half_damaged(tmp_path / "half.vex")
    with vexfs.open(tmp_path / "half.vex") as fs:
        for hits in (fs.search("acidity"), fs.search("acidity", mode="keyword"), fs.search(np.ones(256))):
            assert sorted(hits.paths) == ["/bad/inner/bad.txt", "/good/goo.txt"]
            assert hits.missing == (("/bad", "its table of rows is damaged"),)
        again = fs.search("acidity", threshold=0.01, rerank=lambda query, texts: [1.0] * len(texts))
        assert again.missing[0].path == "/bad"
        assert fs.search("acidity", under="good").missing == () == fs.search(np.ones(4)).missing
        assert fs.search("acidity", under="bad/inner").missing == ()
        assert fs.search("acidity", under="bad").missing[0].path == "/bad"
        with pytest.raises(Damaged, match=r"table of rows is damaged.*vexctl index drop"):
            fs.drop_index("bad/inner")
            fs.search("acidity", under="bad")


def test_one_whose_model_cannot_be_had_is_told_too(tmp_path):
    def gone(texts):
        return [[1.0, 2.0, 3.0] for _ in texts]

    with vexfs.open(tmp_path / "v") as fs:
        fs.index("good", embedder="default")
        fs.write_text("good/a.txt", "light roasts keep acidity")
        index = fs.index("odd", embedder=gone)
        fs.write_text("odd/b.txt", "acidity")
        assert fs.ingest.wait(120)
        index.keep(embedder_version="another")
        for mode in ("hybrid", "semantic"):
            hits = fs.search("acidity", mode=mode)
            assert hits.paths == ["/good/a.txt"]
            ((path, reason),) = hits.missing
            assert path == "/odd" and "fs.reembed" in reason
        assert len(fs.search("acidity", mode="keyword")) == 2
        with pytest.raises(IndexConflict, match="reembed"):
            fs.search("acidity", under="odd")


def own_names(fs):
    return {name.decode() for name, _, _ in fs.filesystem.scandir(".vexfs")}


def test_it_is_told_and_kept_until_it_is_dropped(tmp_path):
    path = tmp_path / "v"
    table = made(path)
    table_of(path, b"x" + table[1:])
    with vexfs.open(path) as fs:
        with pytest.raises(Damaged, match=r"table of rows is damaged.*vexctl index drop.*papers"):
            fs.index("papers", dim=DIM)
        with pytest.raises(Damaged, match="table of rows is damaged"):
            fs.catalog.at("papers/f3")
        assert [(where, d.number) for where, d, _ in fs.catalog.unopened()] == [("/papers", 1)]
        fs.index("others", dim=4).upsert(["a"], np.ones((1, 4)))  # writes the list of indexes
        assert fs.exists("papers/f3") and fs.indexes()[0].path == "/others"
    table_of(path, table)
    with vexfs.open(path) as fs:
        assert len(fs.index("papers")) == 12 and not fs.catalog.unopened()
    table_of(path, table[:-1])
    with vexfs.open(path) as fs:
        fs.drop_index("papers")
        assert len(fs.index("papers", dim=3)) == 0 and "index-1" not in own_names(fs)


def test_a_table_of_more_rows_than_there_are_numbers(tmp_path):
    with vexfs.open(tmp_path / "v") as fs:
        fs.index("papers", dim=DIM).upsert(["one"], np.ones((1, DIM)))
    with vexfs.open(tmp_path / "v") as fs:
        fs.filesystem.truncate(".vexfs/index-1/rows", HEAD + ROW * (2**32 - 2))
    with vexfs.open(tmp_path / "v") as fs:
        assert fs.read_bytes("papers/one") == b""
        with pytest.raises(Damaged, match="papers"):
            fs.search(np.ones(DIM))


def test_rows_that_cannot_be_written_keep_no_others_from_their_commit(tmp_path):
    """The map of the second MiB of a table is damaged, which nobody meets before the table is that long."""
    with vexfs.open(tmp_path / "v") as fs:
        for name in ("bad", "good"):
            fs.index(name, dim=1).upsert(["first"], np.ones((1, 1)))
        ino = fs.filesystem.stat(".vexfs/index-1/rows").st_ino
    meta = Meta(tmp_path / "v" / "meta.db")
    meta.begin()
    meta.put_map(ino, 1, b"no map")
    meta.commit()
    meta.close()
    with vexfs.open(tmp_path / "v") as fs:
        bad, good = fs.index("bad"), fs.index("good")
        bad.upsert([f"f{k}" for k in range(33_000)], np.ones((33_000, 1)))
        good.upsert(["second"], np.ones((1, 1)))
        fs.sync()
        assert fs.filesystem.status()["commit_errors"] > 0
        shutil.copytree(tmp_path / "v", tmp_path / "copy")  # as a crash leaves it
    with vexfs.open(tmp_path / "copy") as fs:
        assert len(fs.index("good").query([1.0], k=5)) == 2


def test_two_chains_do_not_share_a_row(tmp_path):
    path = tmp_path / "v"
    table = bytearray(made(path))
    linked = [k for k in range((len(table) - HEAD) // ROW)
              if struct.unpack_from("<I", table, HEAD + ROW * k + 28)[0] != 0xFFFFFFFF]  # fmt: skip
    follower = struct.unpack_from("<I", table, HEAD + ROW * linked[0] + 28)[0]
    struct.pack_into("<I", table, HEAD + ROW * linked[1] + 28, follower + 1)
    struct.pack_into("<I", table, HEAD + ROW * linked[0] + 28, follower + 1)
    table_of(path, bytes(table))
    with vexfs.open(path) as fs, pytest.raises(Damaged):
        fs.index("papers", dim=DIM)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "v"
    return path, made(path)


FIELDS = st.tuples(st.integers(0, 20), st.sampled_from([(0, "<Q"), (8, "<Q"), (16, "<I"), (20, "<I"), (24, "<I"),
                                                         (28, "<I")]),
                   st.integers(0, 40) | st.integers(0, (1 << 32) - 1))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(changes=st.lists(FIELDS, min_size=1, max_size=4), end=st.none() | st.integers(0, 1000))
def test_no_table_does_harm(sound, changes, end):
    """It is refused, or worked with: searches, removals, moves and new records, and opened again."""
    path, table = sound
    damaged = bytearray(table)
    for row, (at, kind), value in changes:
        place = HEAD + ROW * row + at
        if place + ROW <= len(damaged):
            struct.pack_into(kind, damaged, place, value)
    table_of(path, bytes(damaged[: None if end is None else HEAD + end]))
    for _ in range(2):
        with vexfs.open(path) as fs:
            try:
                index = fs.index("papers", dim=DIM)
            except Damaged:
                break
            index.query(np.ones(DIM), 5)
            index.query(np.ones((2, DIM)), 5, where={"year": 1})
            index.upsert(["new", "f1"], np.ones((2, DIM)))
            fs.rename("papers/new", "away") if not fs.exists("away") else fs.remove("away")
            assert len(index) >= 0 and fs.exists("papers/f1")
