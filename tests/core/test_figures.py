"""What the filesystem counts about itself: errors, waiting, where commits spend their time."""

import threading
import time

import pytest

import vexfs
from tests.waiting import until


@pytest.fixture
def fs(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as volume:
        yield volume


def test_errors_are_counted_by_errno(fs):
    core = fs.filesystem
    before = core.status()["errors"].get("ENOENT", 0)
    for _ in range(7):
        with pytest.raises(FileNotFoundError):
            core.unlink("absent")
    with pytest.raises(OSError):
        core.getxattr("/", "user.absent")
    errors = core.status()["errors"]
    assert errors["ENOENT"] == before + 7
    assert errors["ENODATA"] == 1


def test_commits_say_where_their_time_went(fs):
    fs.sync()
    before, began = fs.filesystem.status()["time_ns"], time.perf_counter_ns()
    fs.write_bytes("a", b"x" * 1_000_000)
    fs.sync()
    took = time.perf_counter_ns() - began
    spent = {what: ns - before[what] for what, ns in fs.filesystem.status()["time_ns"].items()}
    assert spent["place"] > 0 and spent["apply"] > 0 and spent["sync"] > 0
    assert spent["place"] + spent["apply"] <= took


def test_waiting_for_the_lock_is_counted(fs):
    core = fs.filesystem
    fs.write_bytes("a", b"x")
    ino, over, large = core.resolve("a"), threading.Event(), bytes(16 << 20)

    def hold():
        while not over.is_set():
            core.write(ino, large, 0)

    def ask():
        while not over.is_set():
            core.getattr(ino)

    threads = [threading.Thread(target=work) for work in (hold, ask, ask)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: core.status()["lock_waits"])
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert core.status()["time_ns"]["lock_wait"] > 0
