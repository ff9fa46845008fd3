"""A write larger than everything that may be dirty waits for commits on its way."""

import os
import random

from vexfs._core import io
from vexfs._core.fs import Filesystem
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
