import os

import pytest

from vexfs._core import io
from vexfs._core.fs import Filesystem

KEY = bytes(range(32))
MODES = {"plain": {"compression": "none"}, "coded": {"meta_key": KEY, "data_key": KEY, "compression": "lz4"}}


@pytest.fixture(params=MODES)
def options(request):
    """Of a volume: plain, and compressed and encrypted."""
    return MODES[request.param]


@pytest.fixture
def place(tmp_path):
    """The directory of a volume."""
    (tmp_path / "v" / "segments").mkdir(parents=True)
    return tmp_path / "v"


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
