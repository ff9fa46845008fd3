import os

import pytest

from vexfs._core import io
from vexfs._core.fs import Filesystem


@pytest.fixture(autouse=True)
def no_fault_stays():
    yield
    io.clear_fault()


@pytest.fixture
def volume(tmp_path):
    """A maker of filesystems: made when absent, all on one directory, closed at the end."""
    opened = []

    def open_volume(path=None, **options):
        where = path or tmp_path / "volume"
        fresh = not (where / "meta.db").exists()
        (where / "segments").mkdir(parents=True, exist_ok=True)
        fs = Filesystem(where, create=fresh, owner=(os.geteuid(), os.getegid()), **options)
        opened.append(fs)
        return fs

    yield open_volume
    io.clear_fault()
    for fs in opened:
        fs.close()
