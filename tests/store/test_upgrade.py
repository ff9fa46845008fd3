"""Volumes of older schemas go on under this one: 1, with small files whole in their inodes' rows; 2, without tails."""

import tarfile
from pathlib import Path

import pytest

import vexfs
from vexfs._core.meta import Meta
from vexfs.errors import FormatUnknown
from vexfs.store.rows import APART, InodeRow
from vexfs.volume import check

TINY, MEDIUM, LARGE = b"tiny", b"0123456789" * 300, bytes(range(256)) * 64


@pytest.fixture(params=[1, 2])
def schema(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def volume(tmp_path: Path, schema: int) -> Path:
    """A volume as it was written by an older version."""
    with tarfile.open(Path(__file__).with_name(f"schema-{schema}.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / f"v{schema}.vex"


def test_everything_is_there_and_stays(volume: Path) -> None:
    for _ in range(2):
        with vexfs.open(volume) as fs:
            assert fs.read_bytes("small") == TINY and fs.read_bytes("medium") == MEDIUM
            assert fs.read_bytes("large") == LARGE and fs.readlink("link") == "s" * 400
            assert fs.attributes("medium")["year"] == 2020
        report = check(volume)
        assert report.sound, report.problems


def test_a_row_that_is_written_anew_gives_up_its_content(volume: Path) -> None:
    with vexfs.open(volume) as fs:
        ino = fs.stat("medium").st_ino
        fs.chmod("medium", 0o600)
        fs.symlink("t" * 300, "other")
    with Meta(volume / "meta.db", read_only=True) as meta:
        row = InodeRow.unpack(meta.get_inode(ino))
        assert row.flags & APART and row.apart_n == len(MEDIUM) and not row.inline
        assert meta.get_content(ino) == MEDIUM
    with vexfs.open(volume) as fs:
        assert fs.read_bytes("medium") == MEDIUM and fs.readlink("other") == "t" * 300
        fs.remove("medium")
    assert check(volume).sound
    with Meta(volume / "meta.db", read_only=True) as meta:
        assert ino not in dict(meta.scan_contents())


def test_read_only_says_what_is_to_be_done(volume: Path, schema: int) -> None:
    with pytest.raises(FormatUnknown, match=rf"older VexFS .schema {schema}.*open the volume once for writing"):
        vexfs.open(volume, read_only=True)
