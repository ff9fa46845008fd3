"""What sync promises: order on disk, shared syncs, failures that stay failures, and failed appends that harm
nothing."""

import errno
import random
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from vexfs._core import io
from vexfs._core.segment import SegmentStore

HEADER = struct.Struct("<B3xIQQ")


@pytest.fixture(autouse=True)
def no_fault_left():
    yield
    io.clear_fault()


MODES = {"plain": {}, "coded": {"compression": "lz4", "key": bytes(32)}, "direct": {"direct_io": True}}


@pytest.fixture(params=MODES.values(), ids=MODES)
def store(request, tmp_path):
    directory = tmp_path / "segments"
    directory.mkdir()
    with SegmentStore(directory, segment_bytes=256 << 10, **request.param) as s:
        yield s


def noise(n: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(n)


BIG = noise(100_000)


def records(trace):
    raw, at = trace.read_bytes(), 0
    while at < len(raw):
        kind, fd, off, n = HEADER.unpack_from(raw, at)
        yield io.KINDS[kind], fd, off, raw[at + HEADER.size : at + HEADER.size + n]
        at += HEADER.size + n


def test_everything_is_synced_before_sync_returns(store, tmp_path):
    """Of every file written, also sealed ones, a sync follows the last write; a syncdir follows the last create."""
    io.record_start(tmp_path / "trace", store.directory)
    for i in range(5):
        store.append([(1, j, BIG) for j in range(7)])
        store.sync()
        io.record_mark(b"%d" % i)
    io.record_stop()
    unsynced, unnamed, marks, names = set(), set(), 0, {}
    for kind, fd, _, data in records(tmp_path / "trace"):
        if kind == "create":
            unnamed.add(fd)
            names[fd] = data
        elif kind == "write":
            unsynced.add(fd)
        elif kind == "sync":
            unsynced.discard(fd)
        elif kind == "syncdir":
            assert data == b"."
            unnamed.clear()
        elif kind == "mark":
            assert not unsynced
            assert not unnamed
            marks += 1
    assert marks == 5
    assert len(names) == len(store.segments()) > 5


def test_sync_without_new_data_costs_nothing(store):
    store.sync()
    store.append([(1, 0, b"x")])
    store.sync()
    store.sync()
    assert store.stats()["syncs"] == 1


def test_concurrent_syncs_are_shared(tmp_path):
    """Eight threads, each append followed by a sync: each call is covered; those who all have appended need one."""
    calls, threads_n = 20, 8
    io.record_start(tmp_path / "trace", tmp_path)  # serialises system calls: while one syncs, the others gather
    with SegmentStore(tmp_path) as s:

        def work(seed: int, first: int, gather: Callable[[], object]) -> None:
            for i in range(first, first + calls):
                s.append([(seed, i, b"%d %d" % (seed, i))])
                gather()
                s.sync()
                io.record_mark(b"%d %d" % (seed, i))
                gather()

        def syncs(first: int, gather: Callable[[], object]) -> int:
            before = s.stats()["syncs"]
            with ThreadPoolExecutor(threads_n) as pool:
                for done in [pool.submit(work, seed, first, gather) for seed in range(threads_n)]:
                    done.result()
            return s.stats()["syncs"] - before

        assert syncs(0, lambda: None) <= calls * threads_n
        assert syncs(calls, threading.Barrier(threads_n, timeout=120).wait) == calls
        io.record_stop()
    written, durable = set(), set()
    for kind, _, off, data in records(tmp_path / "trace"):
        if kind == "write" and off >= 4096:
            (stored,) = struct.unpack_from("<I", data, 8)
            written.add(data[64:stored])
        elif kind == "sync":
            durable |= written
        elif kind == "mark":
            assert data in durable, "sync returned before this frame was durable"


@pytest.mark.parametrize("kind", ["sync", "syncdir"])
def test_failed_sync_is_never_forgotten(store, kind):
    (old,) = store.append([(1, 0, b"old")])
    if kind == "sync":
        store.sync()
    io.fault(kind, err=errno.EIO)
    (frame,) = store.append([(1, 3, b"lost?")])
    with pytest.raises(OSError) as caught:
        store.sync()
    assert caught.value.errno == errno.EIO
    io.clear_fault()
    for _ in range(3):  # the kernel would call the pages clean now
        with pytest.raises(OSError):
            store.sync()
    (again,) = store.append([(1, 3, b"lost?")])
    assert again.seg != frame.seg  # nothing more goes into the doubtful file
    with pytest.raises(OSError):
        store.sync()
    assert store.read_many([old, frame, again]) == [b"old", b"lost?", b"lost?"]
    moved = store.append([(1, 0, b"old")])
    store.delete(frame.seg)  # all that was in it stands elsewhere now: the doubt is gone with it
    store.sync()
    assert store.read_many([*moved, again]) == [b"old", b"lost?"]


def test_waiters_of_a_failed_sync_fail_too(tmp_path):
    with SegmentStore(tmp_path) as s:
        s.append([(1, 0, b"x")])
        io.fault("sync", err=errno.EIO)
        failed = []

        def work() -> None:
            try:
                s.append([(1, 0, b"y")])
                s.sync()
            except OSError as err:
                failed.append(err.errno)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert failed == [errno.EIO] * 6


@pytest.mark.parametrize("after", range(6))
@pytest.mark.parametrize("kind", ["write", "create"])
def test_failed_append_harms_nothing(store, kind, after):
    kept = store.append([(1, j, noise(50_000, j)) for j in range(4)])
    want = [noise(50_000, j) for j in range(4)]
    io.fault(kind, after=after, err=errno.ENOSPC)
    with pytest.raises(OSError) as caught:
        for _ in range(10):
            store.append([(2, j, BIG) for j in range(9)])
    assert caught.value.errno == errno.ENOSPC
    io.clear_fault()
    store.drop_cache()
    assert store.read_many(kept) == want
    kept += store.append([(3, 0, BIG)])
    store.sync()
    store.drop_cache()
    assert store.read_many(kept) == [*want, BIG]
    for seg in store.segments():
        assert not [f for f in store.scan(seg) if f.err]


def test_full_disk_leaves_no_litter(tmp_path):
    """Appends that fail again and again neither fill the directory nor use up numbers for empty files."""
    with SegmentStore(tmp_path) as s:
        s.append([(1, 0, b"x")])
        io.fault("write", err=errno.ENOSPC)
        for _ in range(50):
            with pytest.raises(OSError):
                s.append([(1, 0, b"y")])
        io.clear_fault()
        assert len(list(tmp_path.iterdir())) == 1
        for _ in range(3):
            io.fault("write", after=1, err=errno.ENOSPC)  # the first block of a new file still fits
            with pytest.raises(OSError):
                s.append([(1, 0, b"y")])
        io.clear_fault()
        assert len(list(tmp_path.iterdir())) == 1
        (frame,) = s.append([(1, 0, b"z")])
        assert s.segments() == {0: 4096 + 128, frame.seg: 4096 + 128}


def test_half_a_batch_is_cut_off(tmp_path):
    """A write that stops in the middle leaves nothing of itself behind."""
    script = f"""
import errno, resource, signal
from vexfs._core.segment import SegmentStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
with SegmentStore({str(tmp_path)!r}) as s:
    (frame,) = s.append([(1, 0, b"kept")])
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        s.append([(2, 0, bytes(5000)), (2, 5000, bytes(50_000))])
    except OSError as err:
        assert err.errno == errno.EFBIG, err
    else:
        raise SystemExit("no error")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    s.append([(3, 0, b"later")])
    assert s.read(frame) == b"kept"
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    sizes = {p.name: p.stat().st_size for p in tmp_path.iterdir()}
    assert sizes == {"00000000.seg": 4096 + 128, "00000001.seg": 4096 + 128}


def test_truncate_after_a_failed_write_may_fail_too(store):
    (a,) = store.append([(1, 0, b"a" * 100)])
    io.fault(["write", "truncate"], err=errno.EIO)
    with pytest.raises(OSError):
        store.append([(1, 0, b"b" * 100)])
    io.clear_fault()
    (c,) = store.append([(1, 0, b"c" * 100)])
    store.sync()
    assert store.read_many([a, c]) == [b"a" * 100, b"c" * 100]


def test_read_error_is_an_io_error_and_passes(store):
    (frame,) = store.append([(1, 0, b"a" * 100)])
    io.fault("read", err=errno.EIO)
    with pytest.raises(OSError) as caught:
        store.read(frame)
    assert caught.value.errno == errno.EIO
    io.clear_fault()
    assert store.read(frame) == b"a" * 100  # a failed load leaves nothing in the cache


def test_failing_unlink_is_reported(store, tmp_path):
    (frame,) = store.append([(1, 0, b"a")])
    io.fault("unlink", err=errno.EIO)
    with pytest.raises(OSError) as caught:
        store.delete(frame.seg)
    assert caught.value.errno == errno.EIO
    io.clear_fault()
    with SegmentStore(store.directory, read_only=True) as again:
        assert again.segments().keys() == {frame.seg}
