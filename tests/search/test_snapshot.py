"""A snapshot that is written while rows come and go is never wrong, only more or less useful."""

import numpy as np
import pytest

import vexfs
from vexfs.errors import SizeLimitReached
from vexfs.search.snapshot import save_snapshot


class Between:
    """An index that does something between the look at its rows and the writing of its lists."""

    def __init__(self, index, what):
        self._index, self._what = index, what

    @property
    def table(self):
        return self

    def versions(self):
        found = self._index.table.versions()
        self._what()
        return found

    def __getattr__(self, name):
        return getattr(self._index, name)


@pytest.mark.parametrize("rows_in", ["memory", "disk"])
def test_a_file_that_is_away_for_a_moment(fs, reopen, vectors, rows_in):
    index = fs.index("i", dim=32, rows_in=rows_in)
    index.upsert([f"f{k}" for k in range(500)], vectors[:500])

    def leave():
        fs.rename("i/f7", "outside")
        fs.index("i").count()

    save_snapshot(Between(index, leave))
    fs.rename("outside", "i/f7")
    assert index.query(vectors[7], 1)[0].id == "f7"
    index.writer.changed = 0  # so few changes that closing keeps the snapshot that there is
    again = reopen().index("i")
    assert len(again) == 500 and again.query(vectors[7], 1)[0].id == "f7"
    assert all(again.query(vectors[k], 1, exact=True)[0].id == f"f{k}" for k in range(0, 500, 50))


def test_rows_that_come_go_and_are_replaced(fs, reopen, vectors):
    index = fs.index("i", dim=32)
    index.upsert([f"f{k}" for k in range(400)], vectors[:400])

    def change():
        index.delete([f"f{k}" for k in range(50)])
        index.upsert([f"f{k}" for k in range(100, 200)], vectors[500:600])
        index.upsert([f"g{k}" for k in range(50)], vectors[400:450])

    save_snapshot(Between(index, change))
    index.writer.changed = 0
    again = reopen().index("i")
    now = {**{f"f{k}": vectors[k] for k in range(50, 400)}, **{f"g{k}": vectors[400 + k] for k in range(50)}}
    now.update({f"f{k}": vectors[400 + k] for k in range(100, 200)})
    assert len(again) == len(now)
    x = np.stack(list(now.values()))
    for k in range(0, 600, 37):
        assert again.query(vectors[k], 1)[0].distance == pytest.approx((1 - x @ vectors[k]).min(), abs=1e-5)


def test_one_of_an_older_version_is_told_and_made_anew(fs, reopen, vectors, caplog):
    index = fs.index("i", dim=32)
    index.upsert([f"f{k}" for k in range(400)], vectors[:400])
    save_snapshot(index)
    index.writer.changed = 0
    place = f"{index.home}/snapshot"
    old = bytearray(fs.filesystem.read_file(place))
    at = 24 + 4 * int.from_bytes(old[16:24], "little") + 8
    old[at : at + 4] = (2).to_bytes(4, "little")
    fs.filesystem.write_file(place, bytes(old))
    again = reopen().index("i")
    assert again.query(vectors[7], 1)[0].id == "f7" and len(again) == 400
    assert "made by another version of VexFS" in caplog.text


def test_a_full_volume_is_closed_without_it(tmp_path, vectors):
    noise = np.random.default_rng(3)
    with vexfs.open(tmp_path / "v.vex", size_limit=8 << 20) as fs:
        index = fs.index("i", dim=32)
        for k in range(0, 10_000, 1000):
            index.upsert([f"f{k + n}" for n in range(1000)], noise.normal(size=(1000, 32)))
        with pytest.raises(SizeLimitReached), fs.open("filler", "wb") as file:
            while True:
                file.write(noise.bytes(4096))
                file.flush()
    with vexfs.open(tmp_path / "v.vex") as fs:
        assert len(fs.index("i")) == 10_000
        assert not [name for name, _, _ in fs.filesystem.scandir(".vexfs/index-1") if name.endswith(b".new")]
