"""Reading ahead of sequential readers: as far as was asked, of everything once, whatever the cache holds."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import vexfs
from tests.waiting import until

FRAME, MB = 128 << 10, 1 << 20
SIZE = 8 * MB


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("read_ahead") / "volume"
    with vexfs.open(path, create=True) as volume:
        for number in range(16):
            volume.write_bytes(f"/{number}", os.urandom(SIZE))
    return path


def claimed(volume):
    """How many frames readers loaded, and how many were loaded ahead of them."""
    told = volume.filesystem.status()
    return told["data_misses"], told["prefetches"]


@pytest.mark.parametrize("window", [2 * MB, 4 * MB, 16 * MB])
def test_a_window_is_read_whole(path, window):
    """From the second read on half a window is ahead of the reader, of which nothing is loaded twice."""
    half = window // 2
    with vexfs.open(path, cache_size=64 * MB, prefetch_size=window) as volume:
        with volume.open("/0", "rb", buffering=0) as file:
            file.read(FRAME)
            while file.read(FRAME):
                asked = min((file.tell() // half + 2) * half, SIZE)
                until(lambda asked=asked: volume.filesystem.status()["cached_bytes"] >= asked)
        missed, prefetched = claimed(volume)
        assert missed <= 4 and missed + prefetched <= SIZE // FRAME + 4


def at_rest(volume):
    """Waits until nothing more is loaded."""
    before, same = None, 0
    while same < 4:
        time.sleep(0.005)
        now = claimed(volume)
        before, same = now, same + 1 if now == before else 0


@pytest.mark.parametrize(("readers", "cache"), [(1, 1 * MB), (4, 16 * MB), (16, 16 * MB), (16, 64 * MB)])
def test_what_is_read_ahead_is_there_when_it_is_wanted(path, readers, cache):
    with vexfs.open(path, cache_size=cache, prefetch_size=4 * MB) as volume:
        gather = threading.Barrier(readers, action=lambda: at_rest(volume), timeout=120)

        def read(number):
            with volume.open(f"/{number}", "rb", buffering=0) as file:
                while file.read(FRAME):
                    gather.wait()

        with ThreadPoolExecutor(readers) as pool:
            for done in [pool.submit(read, number) for number in range(readers)]:
                done.result()
        assert sum(claimed(volume)) / (readers * SIZE / FRAME) <= 1.6
