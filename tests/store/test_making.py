"""What a killed creation, backup or restore leaves is told from anybody's files, and doing it again begins anew."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import vexfs
from vexfs import errors
from vexfs._core import io
from vexfs.store import making
from vexfs.volume import Volume, check, restore

KILLED = """
import os, signal, sys
import vexfs
from vexfs.store import volumefile
from vexfs.volume import restore

what, source, target = sys.argv[1:]
if what == "late":  # everything is there but the last file
    volumefile.VolumeFile.save = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
stop = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if source == "none":
    vexfs.open(target)
elif what == "restore":
    restore(source, target, progress=stop)
else:
    vexfs.open(source).backup(target, None if what == "late" else stop)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.write_bytes("f", os.urandom(100_000))
    return tmp_path / "v.vex"


def kill(what: str, source: object, target: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, what, str(source), str(target)], timeout=280)
    assert done.returncode == -signal.SIGKILL
    assert target.is_dir()


@pytest.mark.parametrize("what", ["backup", "late", "restore"])
def test_a_killed_copy(source: Path, tmp_path: Path, what: str) -> None:
    target = tmp_path / "copy"
    kill(what, source, target)
    with pytest.raises(errors.FormatUnknown, match="did not come to its end"):
        Volume.load(target)
    if what == "restore":
        restore(source, target)
    else:
        with vexfs.open(source) as fs:
            fs.backup(target)
    assert check(target).sound
    assert not (target / "unfinished").exists()
    with vexfs.open(target) as copy, vexfs.open(source) as fs:
        assert copy.read_bytes("f") == fs.read_bytes("f")
    with vexfs.open(source) as fs, pytest.raises(errors.VolumeExists, match="overwrites nothing"):
        fs.backup(target)


def test_a_killed_creation(tmp_path: Path) -> None:
    kill("late", "none", tmp_path / "v.vex")
    assert (tmp_path / "v.vex" / "meta.db").exists()
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.write_text("a", "b")
    assert check(tmp_path / "v.vex").sound


def test_files_of_others_are_never_cleared_away(source: Path, tmp_path: Path) -> None:
    kill("backup", source, tmp_path / "copy")
    (tmp_path / "copy" / "notes.txt").write_text("mine")
    with vexfs.open(source) as fs, pytest.raises(errors.VolumeExists):
        fs.backup(tmp_path / "copy")
    with pytest.raises(errors.VexfsError):
        vexfs.open(tmp_path / "copy")
    assert (tmp_path / "copy" / "notes.txt").read_text() == "mine"


def test_work_that_is_under_way_is_left_alone(source: Path, tmp_path: Path) -> None:
    kill("backup", source, tmp_path / "copy")
    before = sorted(p.name for p in (tmp_path / "copy").iterdir())
    with open(tmp_path / "copy" / "unfinished", "r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with vexfs.open(source) as fs, pytest.raises(errors.VolumeBusy, match="another process is making"):
            fs.backup(tmp_path / "copy")
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == before


@pytest.mark.parametrize("gone", [["volume.spare.toml"], []])
def test_a_creation_that_was_killed_at_its_end_is_finished_by_opening(source: Path, gone: list[str]) -> None:
    (source / "unfinished").touch()
    for name in gone:
        (source / name).unlink()
    with open(source / "unfinished", "r+") as held:  # not while somebody is at it
        fcntl.flock(held, fcntl.LOCK_EX)
        Volume.load(source).close()
        assert (source / "unfinished").exists()
    Volume.load(source).close()
    assert check(source).problems == []


def test_a_finished_volume_is_not_unfinished(source: Path) -> None:
    (source / "unfinished").touch()  # killed between the last file and the mark
    assert not making.unfinished(source)
    with vexfs.open(source) as fs:
        assert len(fs.read_bytes("f")) == 100_000
    with pytest.raises(errors.VolumeExists):
        Volume.create(source)


def test_a_backup_that_finds_no_room_says_where_and_leaves_nothing(tmp_path: Path) -> None:
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.write_text("a", "b")
        fs.fsync()
        io.fault("write", 0, errno.ENOSPC)
        try:
            with pytest.raises(errors.NoSpace, match="make room on the disk of the copy") as caught:
                fs.backup(tmp_path / "copy.vex")
        finally:
            io.clear_fault()
        assert caught.value.filename == str(tmp_path / "copy.vex") and not (tmp_path / "copy.vex").exists()
