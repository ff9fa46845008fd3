"""A volume of a limited size, filled: what adds nothing goes on, and what is removed counts at once."""

import errno
import mmap
import os
import threading

import pytest

from tests.frontends.fuse.conftest import NO_MOUNTS
from tests.waiting import until
from vexfs.volume import Volume

LIMIT = 4 << 20
LATE = {"commit_delay_ms": 3_600_000, "commit_ops": 1 << 30}


def filled(fs, name="f"):
    """An open file that takes all the room there is."""
    ino = fs.open(name, os.O_RDWR | os.O_CREAT)
    at = 0
    for piece in (65536, 4096, 512, 1):
        with pytest.raises(OSError) as caught:
            while True:
                at += fs.write(ino, os.urandom(piece), at)
        assert caught.value.errno == errno.EDQUOT
    return ino, at


@pytest.fixture
def volume(tmp_path):
    with Volume.create(tmp_path / "v.vex", size_limit=LIMIT, compression="none", **LATE) as made:
        yield made


@pytest.mark.parametrize("synced", [True, False])
def test_a_full_volume_takes_what_is_written_over(volume, synced):
    fs = volume.filesystem
    ino, size = filled(fs)
    content = bytearray(fs.read(ino, size, 0))
    for k in range(300):
        at = k * 37_123 % (size - 70_000)
        data = os.urandom(4096 + k * 200)
        assert fs.write(ino, data, at) == len(data)
        content[at : at + len(data)] = data
        if synced and k % 50 == 0:
            fs.fsync(ino)
            fs.drop_caches()
    with pytest.raises(OSError) as caught:
        fs.write(ino, b"x" * 5000, size - 100)
    assert caught.value.errno == errno.EDQUOT
    fs.fsync(ino)
    fs.drop_caches()
    assert fs.read(ino, size + 1, 0) == content
    fs.release(ino)
    assert volume.filesystem.status()["used_bytes"] <= LIMIT


def test_holes_of_a_full_volume_take_nothing(volume):
    fs = volume.filesystem
    fs.write_file("small", b"1234567890")
    fs.write_file("holes", os.urandom(10_000))
    fs.truncate("holes", 1 << 30)
    filled(fs)
    small, holes = fs.open("small", os.O_RDWR), fs.open("holes", os.O_RDWR)
    assert fs.write(small, b"abc", 7) == 3
    assert fs.write(holes, b"abc" * 1000, 7000) == 3000
    for ino, at in ((small, 8), (holes, 9_000), (holes, 100_000), (holes, (1 << 30) - 5000)):
        with pytest.raises(OSError) as caught:
            fs.write(ino, b"x" * 5000, at)
        assert caught.value.errno == errno.EDQUOT
    assert fs.read_file("small") == b"1234567abc"


def test_many_writers_keep_within_the_limit(volume):
    fs = volume.filesystem
    ino, size = filled(fs)
    fs.fsync(ino)
    wrong = []

    def over(seed):
        for k in range(20):
            try:
                fs.write(ino, bytes([seed]) * 9000, (seed * 77_777 + k * 9999) % (size - 9000))
            except OSError as error:
                wrong.append(error)

    def more(seed):
        try:
            while True:
                fs.write_file(f"more{seed}", bytes(5000))
        except OSError as error:
            if error.errno != errno.EDQUOT:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4) for work in (over, more)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fs.fsync(ino)
    assert wrong == []
    assert fs.status()["used_bytes"] <= LIMIT


def test_what_is_removed_counts_before_it_is_committed(volume):
    fs = volume.filesystem
    ino, size = filled(fs)
    fs.fsync(ino)
    fs.release(ino)
    commits = fs.status()["commits"]
    fs.unlink("f")
    assert fs.status()["used_bytes"] == 0
    fs.write_file("g", bytes(size - 100_000))
    assert fs.status()["commits"] == commits
    fs.sync()
    assert size - 100_000 <= fs.status()["used_bytes"] <= LIMIT


@pytest.mark.skipif(bool(NO_MOUNTS), reason=str(NO_MOUNTS))
def test_a_full_disk_takes_mappings_and_tells_of_room_at_once(volume, tmp_path):
    top = tmp_path / "mnt"
    top.mkdir()
    with volume.mount(top):
        ino, size = filled(volume.filesystem)
        volume.filesystem.release(ino)
        size = size // 4096 * 4096
        with open(top / "f", "r+b") as file, mmap.mmap(file.fileno(), size) as mapped:
            for at in range(0, size, 4096):
                mapped[at] = 7
            mapped.flush()
        assert (top / "f").read_bytes()[:size:4096] == bytes([7]) * (size // 4096)
        assert os.statvfs(top).f_bavail * os.statvfs(top).f_frsize < 65536
        (top / "f").unlink()
        until(lambda: os.statvfs(top).f_bavail * os.statvfs(top).f_frsize >= size)
        assert os.statvfs(top).f_blocks * os.statvfs(top).f_frsize == LIMIT
