"""A write larger than everything that may be dirty waits for commits on its way."""

import os

from vexfs._core.fs import Filesystem


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
