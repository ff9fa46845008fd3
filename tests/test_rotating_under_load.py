"""Rotating the key of a volume that others use meanwhile."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import vexfs
from tests.waiting import until
from vexfs import errors
from vexfs.store import lock
from vexfs.volume import rotate_key


@pytest.fixture
def keyed(tmp_path: Path) -> tuple[Path, Path]:
    vexfs.open(tmp_path / "v.vex", key_file=tmp_path / "v.key").close()
    return tmp_path / "v.vex", tmp_path / "v.key"


def test_rotation_finds_its_moment_among_those_who_have_the_volume_for_moments(
    keyed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_PATIENCE_S", 250.0)  # such a moment takes seconds on a machine that is slow enough
    place, key = keyed
    script = "import sys, vexfs\nwhile True:\n with vexfs.open(sys.argv[1], key_file=sys.argv[2]) as fs: fs.touch('f')"
    with subprocess.Popen([sys.executable, "-c", script, place, key], stderr=subprocess.DEVNULL) as other:
        try:
            while not Path(place, "lock").read_bytes():
                time.sleep(0.001)
            rotate_key(place, key, tmp_path / "new.key")
        finally:
            other.kill()
    with vexfs.open(place, key_file=tmp_path / "new.key") as fs:
        assert fs.exists("f")


def test_who_waits_for_a_moment_comes_before_who_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_PATIENCE_S", 250.0)
    holder = lock.Lock(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lock.Lock.when_free, tmp_path)
        until(holder._awaited)
        holder.release()
        with pytest.raises(errors.VolumeBusy):
            lock.Lock(tmp_path).release()
        waiting.result().release()
    lock.Lock(tmp_path).release()


def test_of_two_rotations_at_once_the_second_needs_the_key_of_the_first(
    keyed: tuple[Path, Path], tmp_path: Path
) -> None:
    place, key = keyed
    news = [tmp_path / "new0.key", tmp_path / "new1.key"]
    with ThreadPoolExecutor(2) as pool:
        told = [one.exception() for one in [pool.submit(rotate_key, place, key, new) for new in news]]
    done = told.index(None)
    assert isinstance(told[1 - done], errors.KeyWrong)
    vexfs.open(place, key_file=news[done]).close()
