"""Holes give back what they cover, and room that is not there is refused."""

import errno
import os
import random
import threading

import pytest

from vexfs.testing.nodes import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE
from vexfs.volume import Volume, check

HOLE = PUNCH_HOLE | KEEP_SIZE
MIB = 1 << 20


@pytest.fixture
def volume(tmp_path):
    with Volume.create(tmp_path / "v.vex", compression="none", segment_size=4 * MIB) as volume:
        yield volume


def made(fs, size):
    fs.write_file("/f", random.Random(7).randbytes(size))
    return fs.open("/f", os.O_RDWR)


def live(fs):
    fs.sync()
    return fs.status()["live_bytes"]


@pytest.mark.parametrize("synced", [True, False])
def test_a_hole_gives_its_pages_back(volume, tmp_path, synced):
    fs = volume.filesystem
    ino = made(fs, 8 * MIB)
    if synced:
        fs.sync()
    fs.fallocate(ino, HOLE, MIB + 100, 4 * MIB)
    assert live(fs) == 4 * MIB + 4096  # the pages at both ends stay
    found = fs.getattr(ino)
    assert found.st_size == 8 * MIB
    assert found.st_blocks * 512 == 4 * MIB + 4096
    whole = bytearray(random.Random(7).randbytes(8 * MIB))
    whole[MIB + 100 : 5 * MIB + 100] = bytes(4 * MIB)
    fs.drop_caches()
    assert fs.read(ino, 8 * MIB, 0) == whole
    fs.release(ino)
    path = tmp_path / "v.vex"
    volume.close()
    with Volume.load(path) as again:
        assert again.filesystem.read_file("/f") == whole
    assert check(path).sound


def test_a_hole_to_the_end_and_over_what_has_none(volume):
    fs = volume.filesystem
    ino = made(fs, 3 * MIB + 5)
    fs.sync()
    fs.truncate_ino(ino, 1 << 40)  # the rest is a hole already: looked through at once
    fs.write(ino, b"last", (1 << 40) - 4)
    fs.fallocate(ino, HOLE, 2 * MIB, 1 << 39)
    assert fs.read(ino, 2 * MIB + 4, 0) == random.Random(7).randbytes(2 * MIB) + bytes(4)
    assert fs.read(ino, 4, (1 << 40) - 4) == b"last"
    fs.fallocate(ino, HOLE, 0, 1 << 43)
    assert fs.getattr(ino).st_size == 1 << 40
    assert fs.getattr(ino).st_blocks == 0
    assert live(fs) == 0
    assert fs.data(ino, 0) is None
    fs.write(ino, b"again", 5)
    fs.fsync(ino)
    fs.drop_caches()
    assert fs.read(ino, 12, 0) == bytes(5) + b"again" + bytes(2)
    fs.release(ino)


def test_a_hole_in_the_last_mebibyte_that_a_file_can_have_is_none_of_the_next_file(volume):
    fs = volume.filesystem
    inos = []
    for k in range(4):
        fs.write_file(f"/f{k}", b"%d" % k * 20_000)
        inos.append(fs.open(f"/f{k}", os.O_RDWR))
    for ino in inos:
        fs.truncate_ino(ino, 1 << 44)
        fs.write(ino, b"x" * MIB, (1 << 44) - MIB)
    fs.sync()
    fs.drop_caches()
    for ino in inos:
        fs.fallocate(ino, HOLE, (1 << 44) - MIB + 4096, 4096)
    for k, ino in enumerate(inos):
        assert fs.read(ino, 20_000, 0) == b"%d" % k * 20_000
        assert fs.read(ino, 8193, (1 << 44) - MIB) == b"x" * 4096 + bytes(4096) + b"x"
        fs.release(ino)


def test_data_is_found_whose_map_memory_has_let_go_of_since_the_commit(tmp_path):
    """The maps of 600 stretches, where memory keeps 320; nothing is read between the commit and the look for them."""
    with Volume.create(tmp_path / "v.vex", inode_cache=256, commit_delay_ms=60_000) as volume:
        fs = volume.filesystem
        ino = fs.open("/f", os.O_RDWR | os.O_CREAT)
        fs.write(ino, b"last", 900 * MIB)
        fs.fsync(ino)
        fs.read(ino, 1, 0)  # of a hole: what memory knows of it stays there
        for k in range(1, 601):
            fs.write(ino, b"%04d" % k, k * MIB)
        fs.read(ino, 1, 0)
        fs.fsync(ino)
        for _ in range(8):
            fs.getattr(ino)  # memory is cleared by whatever comes
        assert fs.data(ino, 0) == (MIB, 2 * MIB)
        fs.fallocate(ino, HOLE, 0, 900 * MIB)
        assert fs.data(ino, 0) == (900 * MIB, 900 * MIB + 4)
        assert fs.read(ino, 4, 10 * MIB) == bytes(4)
        fs.release(ino)


def test_small_files_have_holes_and_grow(volume):
    fs = volume.filesystem
    fs.write_file("/f", b"small content")
    ino = fs.open("/f", os.O_RDWR)
    fs.fallocate(ino, HOLE, 2, 3)
    fs.fallocate(ino, ZERO_RANGE, 10, 10)
    assert fs.read(ino, 99, 0) == b"sm\0\0\0 cont" + bytes(10)
    fs.fallocate(ino, 0, 0, 30_000)
    fs.fsync(ino)
    fs.drop_caches()
    assert fs.read(ino, 40_000, 0) == b"sm\0\0\0 cont" + bytes(29_990)
    fs.release(ino)


def test_room_that_is_not_there_is_refused_and_nothing_changes(tmp_path):
    with Volume.create(tmp_path / "v.vex", size_limit=8 * MIB) as volume:
        fs = volume.filesystem
        ino = made(fs, 4 * MIB)
        before = fs.getattr(ino)
        for mode, offset, length, code in ((0, 0, 9 * MIB, errno.EDQUOT), (KEEP_SIZE, 4 * MIB, 5 * MIB, errno.EDQUOT),
                                           (0, 0, (1 << 44) + 1, errno.EFBIG)):  # fmt: skip
            with pytest.raises(OSError) as caught:
                fs.fallocate(ino, mode, offset, length)
            assert caught.value.errno == code
        found = fs.getattr(ino)
        assert (found.st_size, found.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        fs.fallocate(ino, 0, 0, 7 * MIB)  # 4 of them are there
        assert fs.getattr(ino).st_size == 7 * MIB
        fs.write(ino, bytes(3 * MIB), 4 * MIB)
        fs.sync()
        with pytest.raises(OSError) as caught:
            made_more(fs)
        assert caught.value.errno == errno.EDQUOT
        fs.fallocate(ino, HOLE, 0, 6 * MIB)  # on a full volume
        made_more(fs)
        fs.release(ino)


def made_more(fs):
    fs.write_file("/g", random.Random(1).randbytes(4 * MIB))


def test_what_is_no_regular_file_has_no_room(volume):
    fs = volume.filesystem
    fs.mkdir("/d")
    fs.mknod("/p", 0o010644, 0)
    for path, code in (("/d", errno.EISDIR), ("/p", errno.ENODEV)):
        with pytest.raises(OSError) as caught:
            fs.fallocate(fs.resolve(path), 0, 0, 1)
        assert caught.value.errno == code


def test_a_hole_in_the_middle_of_a_commit(tmp_path):
    with Volume.create(tmp_path / "v.vex", compression="none", commit_ops=3, commit_delay_ms=1) as volume:
        fs = volume.filesystem
        ino = made(fs, 2 * MIB)
        stop = threading.Event()

        def keep_busy():
            rng = random.Random(3)
            while not stop.is_set():
                fs.write(ino, b"w" * 4096, 2 * MIB + 4096 * rng.randrange(64))
                fs.fsync(ino)

        busy = threading.Thread(target=keep_busy)
        busy.start()
        try:
            rng, model = random.Random(5), bytearray(random.Random(7).randbytes(2 * MIB))
            for _ in range(300):
                at, n = rng.randrange(4096, 2 * MIB - 80_000), rng.randrange(1, 70_000)
                if rng.random() < 0.5:
                    data = rng.randbytes(n)
                    fs.write(ino, data, at)
                    model[at : at + n] = data
                else:
                    fs.fallocate(ino, HOLE, at, n)
                    model[at : at + n] = bytes(n)
                assert fs.read(ino, n + 8192, at - 4096) == model[at - 4096 : at + n + 4096]
        finally:
            stop.set()
            busy.join()
        assert fs.read(ino, 2 * MIB, 0) == model
        fs.drop_caches()
        assert fs.read(ino, 2 * MIB, 0) == model
        fs.release(ino)
    assert check(tmp_path / "v.vex").sound


def test_a_hole_is_there_as_a_whole_or_not_at_all(volume):
    """Its ends are written, what is between them goes, all in one epoch, though reading the ends lets others work."""
    fs = volume.filesystem
    inos = []
    for k in range(40):
        fs.write_file(f"/f{k}", bytes([255]) * 400_000)
        inos.append(fs.open(f"/f{k}", os.O_RDWR))
    fs.sync()
    fs.drop_caches()
    halves, over = [], threading.Event()

    def look():
        for ino in inos:
            while fs.read(ino, 1, 200) != bytes(1) and not over.is_set():
                pass
            halves.append(fs.read(ino, 1, 200_000))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for ino in inos:
            fs.fallocate(ino, HOLE, 100, 350_000)
    finally:
        over.set()
        watcher.join()
    assert set(halves) == {bytes(1)}
    for ino in inos:
        assert fs.read(ino, 400_000, 0) == bytes([255]) * 100 + bytes(350_000) + bytes([255]) * 49_900
        fs.release(ino)
