"""A sync that failed proves nothing about what it covered: the data is written again elsewhere and then it counts."""

import errno
import os

import pytest

from vexfs._core import io
from vexfs._core.fs import Filesystem


@pytest.mark.parametrize("after", [0, 1, 2])
def test_data_is_written_again_after_a_failed_sync(tmp_path, after):
    (tmp_path / "segments").mkdir()
    keep, new = os.urandom(100_000), os.urandom(300_000)
    fs = Filesystem(str(tmp_path), create=True)
    fs.write_file("/keep", keep)
    fs.sync()
    fs.write_file("/new", new)
    io.fault("sync", after, errno.EIO)
    try:
        with pytest.raises(OSError) as caught:
            for _ in range(4):
                fs.sync()
                fs.write_file("/new", new)
        assert caught.value.errno == errno.EIO
    finally:
        io.clear_fault()
    fs.sync()
    assert fs.status()["last_error"] is None
    assert fs.read_file("/new") == new
    fs.close()
    fs = Filesystem(str(tmp_path))
    assert fs.read_file("/keep") == keep
    assert fs.read_file("/new") == new
    fs.close()
