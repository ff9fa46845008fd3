"""Which level is taken, what a demand that cannot be met says, the counters, and what a wrong argument is told."""

import sys
import threading
import time

import numpy as np
import pytest

from vexfs._core import simd as module
from vexfs._core.simd import LevelNotBuilt, LevelNotSupported, LevelUnknown, Simd, capabilities, levels
from vexfs.errors import ConfigError

READY = [name for name, word in levels().items() if word == "ready"]
FOREIGN = [name for name, word in levels().items() if word == "not built"]
X = np.ones((10, 8), np.float32)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv(module.ENVIRONMENT, raising=False)


def flags_of_kernel():
    """The processor's flags as the kernel lists them, an independent witness of what was detected."""
    try:
        with open("/proc/cpuinfo") as lines:
            line = next(line for line in lines if line.startswith("flags"))
    except (OSError, StopIteration):
        pytest.skip("no flags in /proc/cpuinfo on this machine")
    return set(line.split(":")[1].split())


def test_detection_agrees_with_the_kernel():
    flags, found = flags_of_kernel(), capabilities()
    names = (
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512_vnni",
        "avx512_bf16",
        "avx512_vpopcntdq",
        "popcnt",
    )
    assert {name: found[name] for name in names} == {name: name in flags for name in names}
    assert found["os_avx"] == ("avx" in flags)


def test_best_level_by_default():
    best = [name for name in ("scalar", "neon", "avx2", "avx512", "avx512x") if name in READY][-1]
    assert Simd().level == best


@pytest.mark.parametrize("name", READY)
def test_demand_is_met(name, monkeypatch):
    assert Simd(name).level == name
    monkeypatch.setenv(module.ENVIRONMENT, name)
    assert Simd().level == name
    assert Simd("scalar", force_avx2="avx2" in READY).level == name, "the environment comes first"


def test_unknown_level(monkeypatch):
    with pytest.raises(LevelUnknown, match=r"level: no SIMD level is named 'sse9'.*avx2"):
        Simd("sse9")
    monkeypatch.setenv(module.ENVIRONMENT, "turbo")
    with pytest.raises(LevelUnknown, match=r"VEXFS_SIMD.*'turbo'"):
        Simd()


@pytest.mark.skipif(not FOREIGN, reason="every level is built here")
def test_level_of_another_architecture(monkeypatch):
    monkeypatch.setenv(module.ENVIRONMENT, FOREIGN[0])
    with pytest.raises(LevelNotBuilt, match="not built for this architecture; ready here: scalar"):
        Simd()


def test_level_that_the_machine_lacks():
    lacking = [name for name, word in levels().items() if word == "not supported"]
    if not lacking:
        pytest.skip("this machine has every level that is built")
    with pytest.raises(LevelNotSupported, match="not supported here"):
        Simd(lacking[0])


def test_three_errors_are_three():
    kinds = {LevelUnknown, LevelNotBuilt, LevelNotSupported}
    assert len(kinds) == 3 and all(issubclass(kind, ConfigError) for kind in kinds)


def test_switches():
    assert Simd(auto_detect=False).level == "scalar"
    below = [name for name in ("scalar", "neon", "avx2") if name in READY][-1]
    assert Simd(enable_avx512=False).level == below
    if "avx2" in READY:
        assert Simd(force_avx2=True).level == "avx2"
        assert Simd(auto_detect=False, force_avx2=True).level == "avx2"


def test_configure_while_running():
    s = Simd()
    best = s.level
    s.configure(auto_detect=False)
    assert s.level == "scalar" and not s.auto_detect
    s.configure(auto_detect=True)
    assert s.level == best
    s.configure(level="scalar", batch_size=3)
    assert (s.level, s.batch_size) == ("scalar", 3)
    s.configure(level="auto")
    assert s.level == best
    with pytest.raises(LevelUnknown):
        s.configure(level="sse9", batch_size=5)
    with pytest.raises(ValueError, match="batch_size"):
        s.configure(auto_detect=False, batch_size=0)
    assert (s.level, s.batch_size, s.demand, s.auto_detect) == (best, 3, None, True), "a failure changes nothing"


def test_batch_size_bounds_a_call():
    s = Simd(batch_size=4)
    ids = np.arange(10)
    for work in (
        lambda: s.one_to_many(X[0], X, "dot"),
        lambda: s.gather(X[0], X, ids, "dot"),
        lambda: s.many_to_many(X[:1], X, "dot"),
    ):
        s.reset_counters()
        whole = Simd().one_to_many(X[0], X, "dot")
        assert np.array_equal(np.ravel(work()), whole)
        assert s.counters() == {"calls": 3, "vectors": 10}


def test_counters_lose_nothing_between_threads():
    s = Simd(batch_size=1)
    threads = [threading.Thread(target=lambda: [s.one_to_many(X[0], X, "dot") for _ in range(300)]) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert s.counters() == {"calls": 4 * 300 * 10, "vectors": 4 * 300 * 10}


def test_gil_is_released():
    """Another thread gets on while one calls a kernel, who lets it in nowhere else."""
    s = Simd("scalar", batch_size=1 << 30)
    a, b = np.ones((300, 1024), np.float32), np.ones((2000, 1024), np.float32)
    turns, done, interval = 0, threading.Event(), sys.getswitchinterval()

    def count():
        nonlocal turns
        while not done.is_set():
            turns += 1
            done.wait(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    sys.setswitchinterval(1000)
    try:
        before, ends = turns, time.monotonic() + 120
        while turns - before <= 5 and time.monotonic() < ends:
            s.many_to_many(a, b, "l2sq")
        during = turns - before
    finally:
        sys.setswitchinterval(interval)
        done.set()
    thread.join()
    assert during > 5


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda s: s.one_to_many(X[0], X, "manhattan"), ValueError, "metric: no metric is named 'manhattan'"),
        (lambda s: s.one_to_many(X[0], X, "hamming"), ValueError, "hamming is for b1 vectors"),
        (lambda s: s.one_to_many(X[0, :7], X, "dot"), ValueError, "q has dim 7 but rows has dim 8"),
        (lambda s: s.one_to_many(X, X, "dot"), ValueError, "q: expected 1 dimension, got shape"),
        (lambda s: s.one_to_many(X[0], X[0], "dot"), ValueError, "rows: expected 2 dimensions"),
        (lambda s: s.one_to_many(X[0].astype("f8"), X, "dot"), TypeError, "q: say dtype= for an array of float64"),
        (lambda s: s.one_to_many(X[0].astype(">f4"), X, "dot"), TypeError, "q: say dtype="),
        (lambda s: s.one_to_many(X[0].astype("f2"), X, "dot"), TypeError, "q is f16 but rows is f32"),
        (lambda s: s.one_to_many(X[0], X, "dot", dtype="f8"), ValueError, "no dtype is named 'f8'"),
        (lambda s: s.one_to_many(X[0], X, "dot", dtype="i8"), TypeError, "i8 is kept in int8, got float32"),
        (lambda s: s.one_to_many(X[:, 0], X.T, "dot"), ValueError, "must be contiguous"),
        (lambda s: s.one_to_many(X[0], X[::-1], "dot"), ValueError, "rows: rows must go forward"),
        (lambda s: s.one_to_many(X[0, :0], X[:, :0], "dot"), ValueError, "dim must be 1 to 65536"),
        (lambda s: s.one_to_many(X[0], X, "dot", dim=9), ValueError, "of dim 9 do not have 8 columns"),
        (lambda s: s.one_to_many(X[0], X, "dot", out=np.empty(9, "f4")), ValueError, r"out: .*\(10,\)"),
        (lambda s: s.one_to_many(X[0], X, "dot", out=np.empty(10)), ValueError, "out: expected a float32"),
        (lambda s: s.gather(X[0], X, [0, 10], "dot"), IndexError, "0 to 9 for 10 rows, got 0 to 10"),
        (lambda s: s.gather(X[0], X, [-1], "dot"), IndexError, "ids: must be 0 to 9"),
        (lambda s: s.gather(X[0], X, [0.5], "dot"), ValueError, "ids: expected integers"),
        (lambda s: s.quantise(X, "i3"), ValueError, "no dtype is named 'i3'"),
        (lambda s: s.quantise(X, "i8", scale=0.0), ValueError, "scale: must be positive"),
    ],
)
def test_wrong_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call(Simd())


def test_no_rows_is_no_error():
    s = Simd()
    assert s.one_to_many(X[0], X[:0], "dot").shape == (0,)
    assert s.gather(X[0], X, np.array([], np.int64), "l2").shape == (0,)
    assert s.many_to_many(X, X[:0], "cosine").shape == (10, 0)
    assert s.quantise(X[:0], "i8")[0].shape == (0, 8)
