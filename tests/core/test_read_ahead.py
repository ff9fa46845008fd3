"""Reading ahead of sequential readers: as far as was asked, of everything once, whatever the cache holds."""

import os
import threading
import time

import pytest

import vexfs

FRAME, MB = 128 << 10, 1 << 20
SIZE = 8 * MB


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("read_ahead") / "volume"
    with vexfs.open(path, create=True) as volume:
        for number in range(16):
            volume.write_bytes(f"/{number}", os.urandom(SIZE))
    return path


def frames_of(path, readers, **options):
    """How often each frame was loaded by its reader, and ahead of him, on average."""
    with vexfs.open(path, **options) as volume:

        def read(number):
            with volume.open(f"/{number}", "rb", buffering=0) as file:
                while file.read(FRAME):
                    time.sleep(0.003)

        threads = [threading.Thread(target=read, args=(number,)) for number in range(readers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told = volume.filesystem.status()
    return told["data_misses"] / (readers * SIZE / FRAME), told["prefetches"] / (readers * SIZE / FRAME)


@pytest.mark.parametrize("window", [2 * MB, 4 * MB, 16 * MB])
def test_a_window_is_read_whole(path, window):
    assert frames_of(path, 1, cache_size=64 * MB, prefetch_size=window)[1] >= 0.75


@pytest.mark.parametrize(("readers", "cache"), [(1, 1 * MB), (4, 16 * MB), (16, 16 * MB), (16, 64 * MB)])
def test_what_is_read_ahead_is_there_when_it_is_wanted(path, readers, cache):
    missed, ahead = frames_of(path, readers, cache_size=cache, prefetch_size=4 * MB)
    assert missed + ahead <= 1.6
