"""Filters see attributes as they are: of files with many rows, and after a look at them that failed."""

import numpy as np
import pytest
from vexfs.frontends.local import LocalVolume

from vexfs.search import query


@pytest.mark.parametrize("passages", [300, 3000])
def test_all_rows_of_a_file_change_with_its_attributes(fs, rng, passages):
    index = fs.index("texts", dim=8)
    index.upsert(["short"], rng.standard_normal((1, 8)), [{"lang": "en"}])
    fs.write_text("texts/long", "x")
    index.set_vectors(fs.stat("texts/long").st_ino, rng.standard_normal((passages, 8)))
    assert index.count({"lang": "de"}) == 0
    for lang in ("de", "fr", "de"):
        fs.attributes("texts/long")["lang"] = lang
        assert index.mask({"lang": lang})[1] == passages
    fs.attributes("texts/long")["lang"] = "en"
    assert index.mask({"lang": "en"})[1] == passages + 1 and index.mask({"lang": "de"})[1] == 0


def test_rows_that_could_not_be_looked_at_are_looked_at_again(fs, papers, monkeypatch):
    assert papers.count({"lang": "en"}) == 333
    for k in range(3):
        fs.attributes(f"papers/p{k:03d}")["lang"] = "fr"
    with monkeypatch.context() as patch:

        def unreadable(*_):
            raise OSError(5, "Input/output error")

        patch.setattr(query, "rows_described", unreadable)
        with pytest.raises(OSError, match="Input/output"):
            papers.count({"lang": "fr"})
    assert papers.count({"lang": "fr"}) == 3


def test_rows_that_get_other_files_between_two_looks(fs, vectors):
    index = fs.index("i", dim=32)
    index.upsert([f"a{k}" for k in range(1300)], np.resize(vectors, (1300, 32)), [{"lang": "de"}] * 1300)
    assert index.count({"lang": "de"}) == 1300

    class Interrupted(query.Reader):
        @property
        def _base(self):
            """Looked at between the version of the table and its rows."""
            self.__class__ = query.Reader
            self._base = None
            index.delete([f"a{k}" for k in range(1300)])
            index.upsert([f"b{k}" for k in range(100)], vectors[:100], [{"lang": "en"}] * 100)

    reader = query.Reader(index)
    assert reader.count({"lang": "de"}, None) == 1300
    fs.attributes("i/a0")["lang"] = "fr"
    assert reader.count({"lang": "de"}, None) == 1299
    del reader._base
    reader.__class__ = Interrupted
    assert reader.count({"lang": "fr"}, None) == 0 == reader.count({"lang": "de"}, None)
    assert reader.count({"lang": "en"}, None) == 100


def test_rows_whose_files_leave_while_they_are_looked_at(fs, vectors):
    index = fs.index("i", dim=32)
    index.upsert([f"a{k}" for k in range(1300)], np.resize(vectors, (1300, 32)), [{"lang": "de"}] * 1300)
    reader = query.Reader(index)
    assert reader.count({"lang": "de"}, None) == 1300
    index.delete([f"a{k}" for k in range(1300)])
    index.upsert([f"b{k}" for k in range(100)], vectors[:100], [{"lang": "en"}] * 100)

    class Interrupted(query.Reader):
        def _refresh(self, rows):
            """Between the look at the rows and that at their attributes."""
            self.__class__ = query.Reader
            for k in range(100):
                fs.rename(f"i/b{k}", f"b{k}")
            return self._refresh(rows)

    reader.__class__ = Interrupted
    assert reader.count({"lang": "de"}, None) == 0 == reader.count({"lang": {"$ne": "de"}}, None)
    for k in range(100):
        fs.rename(f"b{k}", f"i/b{k}")
    assert reader.count({"lang": "en"}, None) == 100 == reader.count({"lang": {"$ne": "de"}}, None)


def test_a_row_that_gets_another_file_is_not_deleted_for_the_one_before(fs, vectors):
    index = fs.index("i", dim=32)
    index.upsert([f"a{k}" for k in range(1300)], np.resize(vectors, (1300, 32)), [{"lang": "de"}] * 1300)

    class Interrupted(query.Reader):
        def mask(self, where, under=None):
            """Others are quicker: the records go, and other ones get their rows."""
            found = super().mask(where, under)
            self.__class__ = query.Reader
            index.delete([f"a{k}" for k in range(1300)])
            index.upsert([f"b{k}" for k in range(100)], vectors[:100], [{"lang": "en"}] * 100)
            return found

    index._reader.__class__ = Interrupted
    assert index.delete(where={"lang": "de"}) == 0
    assert sorted(fs.listdir("i")) == sorted(f"b{k}" for k in range(100)) and len(index) == 100
    assert index.delete(where={"lang": "en"}) == 100 and fs.listdir("i") == []


def test_a_volume_that_is_nearly_full_takes_all_of_a_batch_or_nothing(tmp_path, rng):
    limit, dim, n = 64 << 20, 1025, 1000
    with LocalVolume.create(tmp_path / "full", size_limit=limit, compression="none") as fs:
        index = fs.index("i", dim=dim)
        x = rng.standard_normal((4200, dim)).astype(np.float32)
        index.upsert([f"a{k}" for k in range(4200)], x)
        index.delete([f"a{k}" for k in range(0, 4200, 2)])  # a row takes two pages when it takes one of these places
        fs.sync()
        batch = n * (4096 + 4 * dim + 32)
        fs.write_bytes("fill", rng.bytes(limit - fs.filesystem.status()["used_bytes"] - batch - 100_000))
        fs.sync()
        try:
            index.upsert([f"b{k}" for k in range(n)], x[:n])
        except OSError:
            n = 0
        assert len([name for name in fs.listdir("i") if name[0] == "b"]) == n and len(index) == 2100 + n
