"""The cache of decoded frames: bounded, shared by concurrent readers, filled ahead, and never wrong."""

import errno
import os
import random
import threading
import time

import pytest

from tests.waiting import until
from vexfs._core import io
from vexfs._core.segment import FRAME_MAX, SegmentStore

FRAME_COST = FRAME_MAX + 1024  # data and what the cache needs beside it


@pytest.fixture(autouse=True)
def no_fault_left():
    yield
    io.clear_fault()


def together(work, n):
    """Run `work(0)` to `work(n - 1)` in threads at once; errors come out."""
    errors, gate = [], threading.Barrier(n)

    def run(i):
        try:
            gate.wait()
            work(i)
        except BaseException as err:
            errors.append(err)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20, 8 << 20])
@pytest.mark.parametrize("compression", ["none", "lz4"])
def test_bound_holds(tmp_path, cache_bytes, compression):
    with SegmentStore(tmp_path, cache_bytes=cache_bytes, compression=compression) as s:
        blobs = [bytes([i]) * FRAME_MAX for i in range(120)]
        frames = s.append([(1, i, b) for i, b in enumerate(blobs)])
        for _ in range(2):
            for frame, data in zip(frames, blobs, strict=True):
                assert s.read(frame) == data
                assert s.stats()["cache_bytes"] <= cache_bytes
        assert s.stats()["evictions"] >= 240 - 2 * (cache_bytes // FRAME_MAX)
        kept = s.stats()["cache_bytes"] // FRAME_COST
        assert kept >= cache_bytes // FRAME_COST - 2  # and it is used


def test_small_frames_count_with_their_overhead(tmp_path):
    with SegmentStore(tmp_path, cache_bytes=100_000) as s:
        frames = s.append([(1, i, b"x") for i in range(5000)])
        s.read_many(frames)
        assert 0 < s.stats()["cache_bytes"] <= 100_000
        assert s.stats()["evictions"] > 4000


def test_hits_and_misses_are_counted(tmp_path):
    with SegmentStore(tmp_path) as s:
        frames = s.append([(1, i, b"%d" % i) for i in range(10)])
        s.read_many(frames)
        s.read_many(frames)
        s.read(frames[0])
        st = s.stats()
        assert (st["cache_misses"], st["cache_hits"], st["frames_read"]) == (10, 11, 10)
        s.drop_cache()
        assert s.stats()["cache_bytes"] == 0
        s.read(frames[0])
        assert s.stats()["cache_misses"] == 11


def test_frequent_frames_survive_a_scan(tmp_path):
    """CLOCK: what is read between the frames of a long sequential read stays."""
    with SegmentStore(tmp_path, cache_bytes=3 << 20) as s:
        frames = s.append([(1, i, os.urandom(FRAME_MAX)) for i in range(100)])
        hot = frames[:4]
        s.read_many(hot)
        s.read_many(hot)
        before = s.stats()["cache_misses"]
        for frame in frames[4:]:
            s.read(frame)
            s.read_many(hot, length=16)
        assert s.stats()["cache_misses"] - before <= len(frames) - 4 + 8


def test_shrinking_while_running(tmp_path):
    with SegmentStore(tmp_path, cache_bytes=16 << 20) as s:
        frames = s.append([(1, i, os.urandom(FRAME_MAX)) for i in range(64)])
        s.read_many(frames)
        assert s.stats()["cache_bytes"] > 7 << 20
        s.configure(2 << 20, "none")
        assert s.stats()["cache_bytes"] <= 2 << 20
        s.configure(16 << 20, "none")
        s.read_many(frames)
        assert s.stats()["cache_bytes"] > 7 << 20


def test_one_load_for_all_who_want_it(tmp_path):
    with SegmentStore(tmp_path, key=bytes(32), compression="lz4") as s:
        data = random.Random(0).randbytes(FRAME_MAX // 2) + bytes(FRAME_MAX // 2)
        frames = s.append([(1, i, data) for i in range(30)])
        for frame in frames:

            def read(_, frame=frame):
                assert s.read(frame) == data

            together(read, 8)
        assert s.stats()["frames_read"] == 30


def test_one_call_may_name_a_frame_twice(tmp_path):
    with SegmentStore(tmp_path) as s:
        (a, b) = s.append([(1, 0, b"a" * 5000), (1, 5000, b"b" * 5000)])
        assert s.read_many([a, b, a, a, b]) == [b"a" * 5000, b"b" * 5000, b"a" * 5000, b"a" * 5000, b"b" * 5000]
        assert s.stats()["frames_read"] == 2


def test_waiters_get_the_error_and_the_next_reader_tries_again(tmp_path):
    with SegmentStore(tmp_path) as s:
        (frame,) = s.append([(1, 0, b"a" * 5000)])
        s.read(frame)
        s.drop_cache()
        io.fault("read", err=errno.EIO)

        def read(_):
            with pytest.raises(OSError) as caught:
                s.read(frame)
            assert caught.value.errno == errno.EIO

        together(read, 8)
        with pytest.raises(OSError):
            s.read_many([frame, frame])
        io.clear_fault()
        assert s.read(frame) == b"a" * 5000


def test_prefetch_loads_and_reads_then_hit(tmp_path):
    with SegmentStore(tmp_path) as s:
        frames = s.append([(1, i, os.urandom(5000)) for i in range(50)])
        s.prefetch(frames)
        until(lambda: s.stats()["prefetches"] == 50 and s.stats()["frames_read"] == 50)
        s.prefetch(frames)  # already there: nothing is read again
        s.read_many(frames)
        st = s.stats()
        assert (st["frames_read"], st["cache_misses"], st["cache_hits"]) == (50, 0, 50)


def test_prefetch_of_nonsense_is_harmless(tmp_path):
    with SegmentStore(tmp_path) as s:
        (frame,) = s.append([(1, 0, b"x")])
        s.prefetch([frame._replace(seg=77), frame._replace(pos=12345), frame._replace(stored=2**32 - 1)])
        s.prefetch([frame] * 1000)  # more than the queue holds: hints are dropped, nothing waits
        until(lambda: s.stats()["prefetches"] >= 1)
        assert s.read(frame) == b"x"


def test_close_with_prefetches_pending(tmp_path):
    for _ in range(20):
        with SegmentStore(tmp_path, key=bytes(32), io_depth=2) as s:
            frames = s.append([(1, i, os.urandom(50_000)) for i in range(40)])
            s.prefetch(frames)


@pytest.mark.parametrize(
    "mode",
    [{}, {"key": bytes(32), "compression": "lz4"}, {"direct_io": True}],
    ids=["plain", "coded", "direct"],
)
def test_everything_at_once(tmp_path, mode):
    """Appenders, readers, syncs, drops, deletions under pins: no wrong byte, no error that is not expected."""
    with SegmentStore(tmp_path, segment_bytes=512 << 10, cache_bytes=2 << 20, **mode) as s:
        lock, known, dead, stop = threading.Lock(), {}, set(), threading.Event()

        def append(seed):
            rng = random.Random(seed)
            try:
                for _ in range(25):
                    data = [rng.randbytes(rng.randrange(1, 60_000)) for _ in range(rng.randrange(1, 12))]
                    frames = s.append([(seed, i, d) for i, d in enumerate(data)])
                    with lock:
                        known.update((f, d) for f, d in zip(frames, data, strict=True) if f.seg not in dead)
                    if rng.random() < 0.3:
                        s.sync()
            finally:
                stop.set()

        def read(seed):
            rng = random.Random(seed)
            while not stop.is_set():
                with lock:
                    items = rng.sample(sorted(known.items()), min(len(known), 40))
                held = []
                for frame, data in items:
                    try:
                        s.pin(frame.seg)
                    except FileNotFoundError:
                        continue
                    held.append((frame, data))
                if rng.random() < 0.3:
                    s.prefetch([f for f, _ in held])
                assert s.read_many([f for f, _ in held]) == [d for _, d in held]
                for frame, _ in held:
                    s.unpin(frame.seg)

        def disturb(seed):
            rng = random.Random(seed)
            while not stop.is_set():
                s.drop_cache()
                time.sleep(0.01)
                segs = list(s.segments())[:-2]
                if len(segs) > 3:
                    victim = rng.choice(segs)
                    with lock:
                        dead.add(victim)
                        for frame in [f for f in known if f.seg == victim]:
                            del known[frame]
                    s.delete(victim)

        together(lambda i: (append, append, read, read, read, disturb)[i](i), 6)
        s.drop_cache()
        assert s.read_many(list(known)) == list(known.values())
        assert s.stats()["checksum_errors"] == 0
        s.seal()
        on_disk = {int(p.name[:8], 16): p.stat().st_size for p in tmp_path.iterdir()}
        assert on_disk == s.segments()
        assert s.stats()["disk_bytes"] == sum(on_disk.values())
