"""The vector index over time: snapshots, rows that stay on disk, threads at once."""

import errno
import io
import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from vexfs._core.codec import crc32c
from vexfs._core.vindex import METRICS, VectorIndex


def clustered(n, dim, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, dim))
    return (centres[rng.integers(0, 40, n)] + 1.2 * rng.normal(size=(n, dim))).astype(np.float32)


def filled(x, metric="cosine", dtype="f32"):
    index = VectorIndex(x.shape[1], metric, dtype)
    index.put(np.arange(len(x)), index.encode(x))
    while index.maintain(200):
        pass
    return index


def dumped(index):
    out = io.BytesIO()
    index.dump(out.write)
    return out.getvalue()


@pytest.mark.parametrize("metric", METRICS)
def test_a_snapshot_comes_back(metric):
    x, q = clustered(6000, 64), clustered(20, 64, 1)
    index = filled(x, metric, "f16")
    index.remove(np.arange(100))
    stored = index.encode(x)
    snapshot = dumped(index)
    again = VectorIndex.restore(64, metric, "f16", read=io.BytesIO(snapshot).read)
    asked = []

    def read_rows(first, n):
        asked.append((first, n))
        return stored[first : first + n].tobytes()

    again.source(read_rows)
    assert len(again) == 5900 and again.stats()["lists"] == index.stats()["lists"]
    expected = index.search(q, 10)
    work = {}
    found = again.search(q, 10, work=work)
    assert np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1])
    assert work["fetched"] == len(asked) > 0
    again.load(0, 3000)
    again.load(3000)
    assert again.stats()["resident"] == 5900
    asked.clear()
    assert np.array_equal(again.search(q, 10)[0], expected[0]) and not asked
    again.put([0, 6000], again.encode(q[:2]))
    assert again.search(q[:2], 1)[0][:, 0].tolist() == [0, 6000]
    assert dumped(VectorIndex.restore(64, metric, "f16", read=io.BytesIO(snapshot).read)) == snapshot


def test_what_was_learnt_of_queries_is_kept_beside_a_snapshot():
    x, rows = clustered(20_000, 64), clustered(100, 64, 7)
    index, work = filled(x), {}
    between = x[np.random.default_rng(9).integers(0, len(x), (256, 3))].mean(axis=1)

    def lists(index):
        index.search(rows, 10, recall=0.95, work=work)
        return work["lists"]

    stored = index.encode(x)

    def restored(learned):
        again = VectorIndex.restore(64, "cosine", "f32", read=io.BytesIO(before).read)
        again.source(lambda first, n: stored[first : first + n].tobytes())
        again.teach(learned)
        return again

    at_first, before = lists(index), dumped(index)
    assert index.learned() == b""
    for one in between:
        index.search(one[None], 10, recall=0.95)
    while index.maintain(200):
        pass
    learned = index.learned()
    assert lists(restored(learned)) == lists(index) > 1.2 * at_first
    damaged = learned[:40] + bytes([learned[40] ^ 1]) + learned[41:]
    for wrong in (b"", learned[:-1], damaged, bytes(len(learned))):
        with pytest.raises(OSError, match=r".") as caught:
            restored(wrong)
        assert caught.value.errno == errno.EBADMSG
    with pytest.raises(OSError, match=r".") as caught:
        filled(x[::-1]).teach(learned)
    assert caught.value.errno == errno.ESTALE
    dumped(index)
    assert index.learned() == b""  # it is in there


HUGE_PAGES = """
import io, sys
from pathlib import Path
from vexfs._core.vindex import VectorIndex

def asked_for():
    size, asked = 0, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.startswith("Size:"):
            size = int(line.split()[1]) << 10
        elif line.startswith("VmFlags:") and " hg" in line:
            asked += size
    return asked

snapshot = Path(sys.argv[1]).read_bytes()
before = asked_for()
index = VectorIndex.restore(256, read=io.BytesIO(snapshot).read)
print(len(index), asked_for() - before)
"""


@pytest.mark.skipif(not os.path.exists("/sys/kernel/mm/transparent_hugepage"), reason="the kernel has no huge pages")
def test_what_grows_at_once_is_in_huge_pages(tmp_path):
    (tmp_path / "snapshot").write_bytes(dumped(filled(clustered(40_000, 256))))
    command = [sys.executable, "-c", HUGE_PAGES, tmp_path / "snapshot"]
    plain = {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"}
    ended = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    rows, grown = map(int, ended.stdout.split())
    codes = rows * (256 // 2 + 8)
    assert rows == 40_000 and grown > codes


def test_a_damaged_snapshot_is_refused():
    snapshot = dumped(filled(clustered(300, 16)))
    rng = np.random.default_rng(1)
    for at in [0, 9, *rng.integers(0, len(snapshot), 60).tolist()]:
        damaged = bytearray(snapshot)
        damaged[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(OSError) as error:
            VectorIndex.restore(16, read=io.BytesIO(damaged).read)
        assert error.value.errno in (errno.EBADMSG, errno.EINVAL)
    for version in (0, 1, 2, 3, 5):
        older = snapshot[:8] + version.to_bytes(4, "little") + snapshot[12:]
        with pytest.raises(OSError) as error:
            VectorIndex.restore(16, read=io.BytesIO(older).read)
        assert error.value.errno == errno.EBADMSG
    for size in (0, 10, 500, len(snapshot) - 1):
        with pytest.raises(OSError) as error:
            VectorIndex.restore(16, read=io.BytesIO(snapshot[:size]).read)
        assert error.value.errno == errno.EBADMSG
    for other in ((17, "cosine", "f32"), (16, "l2", "f32"), (16, "cosine", "f16")):
        with pytest.raises(OSError) as error:
            VectorIndex.restore(*other, read=io.BytesIO(snapshot).read)
        assert error.value.errno == errno.EINVAL
    with pytest.raises(ZeroDivisionError):
        VectorIndex.restore(16, read=lambda n: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        filled(clustered(10, 16)).dump(lambda data: 1 // 0)


def test_a_snapshot_with_places_that_there_are_not_is_refused():
    index = filled(clustered(6000, 16))
    snapshot, stats = dumped(index), index.stats()
    rows = 72 + (stats["end"] + 63) // 64 * 8 + stats["end"] * 4  # the head, bits and norms: see vindex_snapshot.c
    places = rows + 64 * 4 * (1 + stats["lists"]) + 4 * stats["lists"] + 8 * 24
    found = np.frombuffer(snapshot, np.uint32, 2 * stats["end"], places)
    assert 1 <= found.reshape(-1, 2)[:, 0].min() <= found.max() <= stats["lists"]
    for at in (0, 1, 2 * stats["end"] - 1):
        damaged = bytearray(snapshot)
        damaged[places + 4 * at : places + 4 * at + 4] = (stats["lists"] + 1).to_bytes(4, "little")
        damaged[-4:] = crc32c(damaged[:-4]).to_bytes(4, "little")
        with pytest.raises(OSError) as error:
            VectorIndex.restore(16, read=io.BytesIO(damaged).read)
        assert error.value.errno == errno.EBADMSG


def test_a_snapshot_is_sound_though_rows_are_removed_meanwhile():
    index = VectorIndex(4)
    index.put(np.arange(50_000), index.encode(clustered(50_000, 4)))
    slowly = np.repeat(np.arange(50_000, dtype=np.uint32), 100)
    removing = threading.Thread(target=index.remove, args=(slowly,))
    removing.start()
    snapshots = [dumped(index)]
    while removing.is_alive():
        snapshots.append(dumped(index))
    for each in snapshots:
        VectorIndex.restore(4, read=io.BytesIO(each).read)


def test_rows_on_disk_for_good():
    x, q = clustered(6000, 64), clustered(20, 64, 1)
    index, disk = VectorIndex(64), np.zeros((7000, 256), np.uint8)
    index.source(lambda first, n: disk[first : first + n].tobytes(), keep=False)
    stored = index.encode(x)
    disk[:6000] = stored
    index.put(np.arange(6000), stored)
    while index.maintain(200):
        pass
    assert index.memory()["rows"] == 0 and index.stats()["resident"] == 0
    expected = filled(x).search(q, 10, recall=0.99)[0]
    assert np.mean(index.search(q, 10, recall=0.99)[0] == expected) > 0.95
    assert np.array_equal(index.search(q, 10, exact=True)[0], filled(x).search(q, 10, exact=True)[0])
    index.source(lambda first, n: 1 // 0, keep=False)
    with pytest.raises(ZeroDivisionError):
        index.search(q, 10)
    index.source(lambda first, n: b"short", keep=False)
    with pytest.raises(ValueError, match="read_rows answered 5"):
        index.search(q, 10)
    index.source(None, keep=False)
    with pytest.raises(OSError) as error:
        index.search(q, 10)
    assert error.value.errno == errno.EIO


def test_rows_that_come_behind_new_lists_in_the_middle_of_a_search():
    dim, steps = 2048, []
    index, disk = VectorIndex(dim, "cosine", "i8"), np.zeros((5000, dim + 4), np.uint8)

    def read_rows(first, n):
        if not steps:
            steps.append("other lists, then more rows than the ones that are searched have memory for")
            while index.maintain(1000):
                pass
            index.put(np.arange(4000, 5000), disk[4000:])
        return disk[first : first + n].tobytes()

    index.source(lambda first, n: disk[first : first + n].tobytes(), keep=False)
    disk[:] = index.encode(clustered(5000, dim))
    index.put(np.arange(4000), disk[:4000])
    allowed = np.zeros(79, np.uint64)
    allowed[:4] = allowed[62:] = 2**64 - 1
    queries, work = clustered(3, dim, 1), {}
    index.source(read_rows, keep=False)
    rows, _, filled = index.search(queries, 10, recall=0.9, mask=allowed, work=work)
    assert steps and work["plan"] == "sift" and index.stats()["lists"] > 1 and filled.tolist() == [10] * 3
    assert ((rows < 256) | (rows >= 62 * 64)).all()
    assert 4999 in index.search(index.decode(disk[4999:]), 1, mask=allowed)[0]


MEANWHILE = """
import threading, time
import numpy as np
from vexfs._core.vindex import VectorIndex

index, went, calls = VectorIndex(16), threading.Event(), []
index.put(np.arange(5000), index.encode(np.random.default_rng(0).standard_normal((5000, 16))))
while index.maintain(500):
    pass

def ask():
    went.set()
    assert index.learned() == b""
    index.source(None)

def write(data):
    calls.append(len(data))
    if len(calls) == 1:
        asking.start()
        went.wait()
    time.sleep(0)  # the other thread has its turn

asking = threading.Thread(target=ask)
index.dump(write)
asking.join()
print(len(calls))
"""


def test_who_waits_for_a_snapshot_lets_it_go_on():
    done = subprocess.run([sys.executable, "-c", MEANWHILE], capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) > 100


def test_threads_share_the_queries():
    x, q = clustered(6000, 64), clustered(101, 64, 1)
    index = filled(x)
    alone, shared = index.search(q, 10), index.search(q, 10, threads=3)
    assert all(np.array_equal(a, b) for a, b in zip(alone, shared, strict=True))


def test_readers_while_rows_come_go_and_move():
    """Each row's vector tells its number, so an answer that mixes two rows, or an old row's, is seen."""
    dim, rows = 64, 12000
    first = clustered(rows, dim)
    index = VectorIndex(dim, "l2")
    stored = index.encode(first)
    index.put(np.arange(3000), stored[:3000])
    stop, faults, searches = threading.Event(), [], 0

    def read(seed):
        nonlocal searches
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            some = rng.integers(0, 3000, 20)
            found, distance, n = index.search(first[some], 5, recall=0.99)
            if np.any(n < 5) or np.any(distance[:, 0] > 1e-2) or not np.array_equal(found[:, 0], some):
                faults.append((some, found[:, 0], distance[:, 0]))
            if any(len(set(row.tolist())) < 5 for row in found):
                faults.append(found)
            searches += 1

    def keep_up():
        while not stop.is_set():
            index.maintain(5)

    threads = [threading.Thread(target=read, args=(1,)), threading.Thread(target=keep_up)]
    for thread in threads:
        thread.start()
    rng = np.random.default_rng(2)
    try:
        for at in range(3000, rows, 300):
            index.put(np.arange(at, at + 300), stored[at : at + 300])
            index.remove(rng.integers(3000, at + 300, 100))
        for turn in itertools.count():
            if turn >= 10 and (searches > 5 or not threads[0].is_alive()):
                break
            some = rng.integers(3000, rows, 300)
            index.put(some, index.encode(first[some] + 0.1))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not faults, faults[:3]
    assert searches > 5
    while index.maintain(200):
        pass
    assert index.stats()["lists"] > 50 and index.stats()["generation"] >= 1


def test_an_index_that_goes_leaves_no_addresses_behind():
    def mapped():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * 4096

    one = VectorIndex(8).encode(np.ones((1, 8), np.float32))
    before = 0
    for turn in range(110):
        if turn == 10:
            before = mapped()
        VectorIndex(8).put([0], one)
    assert mapped() - before < 64 << 20


def test_memory_is_told():
    x = clustered(20000, 384)
    index = filled(x)
    memory = index.memory()
    assert memory["rows"] == 20000 * 1536
    beyond = (memory["lists"] + memory["maps"] + memory["model"]) / 20000
    assert 240 < beyond < 400
    assert memory["codes"] <= memory["lists"]


def test_lists_that_have_grown_leave_few_gaps():
    """What lists take from memory, gaps between them included, beside the codes that are in use."""
    x = clustered(12_000, 128)
    index, told = VectorIndex(128), []
    for at in range(0, len(x), 500):
        index.put(np.arange(at, at + 500), index.encode(x[at : at + 500]))
        while index.maintain(100):
            pass
        if index.stats()["lists"] > 1:
            told.append(index.memory()["lists"] / index.memory()["codes"])
    assert max(told) < 1.8
    index.put(np.arange(len(x)), index.encode(x))
    index.put(np.arange(len(x)), index.encode(x))  # most rows are others now: lists are trained anew
    while index.maintain(100):
        pass
    assert index.memory()["lists"] / index.memory()["codes"] < 1.25


def test_an_index_goes_in_the_middle_of_its_growth():
    x = clustered(6000, 32)

    def grown(most):
        index, steps = VectorIndex(32), 0
        index.put(np.arange(len(x)), index.encode(x))
        while steps < most and index.maintain(0):
            steps += 1
        return steps

    whole = grown(1 << 20)
    assert whole > 20
    for k in range(1, 20):
        assert grown(whole * k // 20) == whole * k // 20  # and the index goes
