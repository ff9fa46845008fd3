"""What diagnosis says of a volume whose disk has let it down."""

import os

import numpy as np
import pytest

import vexfs
from vexfs._core.frame import Frames
from vexfs._core.pool import Pool
from vexfs._core.simd import Simd
from vexfs.errors import Damaged
from vexfs.observe.diagnosis import findings
from vexfs.observe.history import History
from vexfs.observe.parts import Parts
from vexfs.volume import Volume


def errors_of(volume):
    return [row for row in findings(History(Parts(volume, Simd()))) if row["severity"] == "error"]


def test_damaged_bytes_are_told_once_somebody_met_them(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.write_bytes("/large", os.urandom(100_000))
    segment = next((tmp_path / "v.vex/segments").iterdir())
    with open(segment, "r+b") as file:
        file.seek(50_000)
        byte = file.read(1)
        file.seek(50_000)
        file.write(bytes([byte[0] ^ 1]))
    with Volume.load(tmp_path / "v.vex", pool=Pool(), frames=Frames()) as volume:
        assert not errors_of(volume)
        with pytest.raises(Damaged):
            volume.filesystem.read_file("/large")
        with pytest.raises(FileNotFoundError):
            volume.filesystem.read_file("/none")
        (row,) = errors_of(volume)
        assert row["message"] == "1 operations met damaged bytes on the disk" and "fsck" in row["remedy"]


def test_an_index_that_cannot_be_opened_is_told(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("papers", dim=4).upsert(["a"], np.ones((1, 4)))
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.filesystem.write_file(".vexfs/index-1/rows", b"nothing of the kind")
    with Volume.load(tmp_path / "v.vex", pool=Pool(), frames=Frames()) as volume:
        (row,) = errors_of(volume)
        assert "/papers cannot be opened" in row["message"] and row["remedy"].startswith("vexctl index drop /papers")


def test_all_directories_of_measurements_that_were_cut_off_are_named(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.mkdir(".vexfs-load-1")
        fs.mkdir(".vexfs-load-2")
        rows = findings(History(Parts(fs)))
    assert [row["remedy"] for row in rows if row["part"] == "volume"] == ["remove /.vexfs-load-1 /.vexfs-load-2"]
