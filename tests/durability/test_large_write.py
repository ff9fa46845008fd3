"""A write larger than everything that may be dirty waits for commits on its way."""

import os
import random

import numpy as np
import pytest

import vexfs
from vexfs._core import io
from vexfs._core.fs import Filesystem
from vexfs.errors import SizeLimitReached
from vexfs.testing.powercut import POLICIES, Disk, write_image
from vexfs.testing.trace import read_trace


def test_one_huge_write_keeps_within_the_dirty_limit(tmp_path):
    (tmp_path / "segments").mkdir()
    limit = 8 << 20
    fs = Filesystem(str(tmp_path), create=True, dirty_limit=limit)
    data = os.urandom(1 << 20) * 48
    fs.write_file("/huge", data)
    status = fs.status()
    assert status["commits"] >= 3
    assert status["dirty_bytes"] + status["frozen_bytes"] <= limit + (4 << 20)
    assert fs.read_file("/huge") == data
    fs.close()


def test_a_power_cut_within_large_writes(place, options, tmp_path):
    """Room that was made ahead of writes is no content, wherever the power goes; what was synced is there."""
    first, second = (random.Random(seed).randbytes(9 << 20) for seed in (1, 2))
    fs = Filesystem(str(place), create=True, **options)
    fs.sync()
    disk = Disk(place)
    io.record_start(tmp_path / "trace", place)
    for path, data in (("/first", first), ("/second", second)):
        fs.write_file(path, data)
        fs.sync()
        io.record_mark(path.encode())
    io.record_stop()
    fs.close()
    records, rng, synced = list(read_trace(tmp_path / "trace")), random.Random(7), []
    cuts = set(rng.sample(range(len(records)), 12))
    for at, record in enumerate(records):
        if at in cuts:
            after = tmp_path / f"after{at}"
            write_image(disk.image(rng.choice(POLICIES), rng), disk.directories, after)
            fs = Filesystem(str(after), **options)
            for path, data in (("/first", first), ("/second", second)):
                if path in synced:
                    assert fs.read_file(path) == data
            fs.write_file("/after", second)
            fs.close()
            fs = Filesystem(str(after), **options)
            assert fs.read_file("/after") == second
            fs.close()
        if record.kind == "mark":
            synced.append(record.data.decode())
        else:
            disk.apply(record)
    assert synced == ["/first", "/second"]


DATA = random.Random(3).randbytes(21 << 20)


@pytest.fixture
def small(tmp_path):
    with vexfs.open(tmp_path / "small.vex", size_limit=10 << 20) as made:
        yield made


def test_a_large_write_that_finds_no_room_is_an_error_however_much_of_it_had_some(small):
    for write in (small.write_bytes, lambda name, data: small.write_text(name, data.hex())):
        with pytest.raises(SizeLimitReached):
            write("a", DATA)
        small.unlink("a")
    index = small.index("records", dim=2)
    with pytest.raises(SizeLimitReached):
        index.upsert(["a"], np.eye(2)[:1], contents=[DATA])
    ino = small.filesystem.open("b", os.O_RDWR | os.O_CREAT)
    for offset in (0, -1):
        with pytest.raises(SizeLimitReached):
            small.filesystem.write(ino, DATA, offset)
    small.filesystem.release(ino)


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_a_file_object_writes_no_byte_twice_and_says_that_some_are_missing(small, mode):
    with pytest.raises(SizeLimitReached), small.open("a", mode) as file:
        file.write(DATA)
    assert (there := small.read_bytes("a")) and there == DATA[: len(there)]
    small.unlink("a")
    with small.open("a", mode, buffering=0) as file:
        n = file.write(DATA)
        assert 0 < n < len(DATA) and file.tell() == n
        with pytest.raises(SizeLimitReached):
            file.write(DATA[n:])
    assert small.read_bytes("a") == DATA[:n]


def test_a_file_that_cannot_be_replaced_for_want_of_room_stays_what_it_was(small):
    for name, content in (("large", DATA[: 3 << 20]), ("small", b"old")):
        small.write_bytes(name, content)
    for _ in range(2):
        small.sync()  # operations under way count until then
        with pytest.raises(SizeLimitReached), small.open("filler", "ab", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
    for name, content in (("large", DATA[: 3 << 20]), ("small", b"old")):
        with pytest.raises(SizeLimitReached):
            small.write_bytes(name, DATA[: 4 << 20])
        assert small.read_bytes(name) == content
    small.write_bytes("large", b"new")
    assert small.read_bytes("large") == b"new"
    small.write_bytes("large", b"")
    assert small.stat("large").st_size == 0
