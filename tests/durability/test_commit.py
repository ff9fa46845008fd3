"""What one commit holds: everything up to it and nothing of what came later."""

import errno
import itertools
import os
import shutil
import threading

import pytest

from tests.waiting import until
from vexfs._core import io
from vexfs.testing.trace import read_trace

CALM = {"commit_delay_ms": 60_000, "compression": "none", "segment_size": 256 << 10}


def opened(fs, path):
    return fs.open(path, os.O_RDWR | os.O_CREAT, 0o644)


def between_two_commits(volume, where):
    """A copy of the volume after an epoch, when the next one has cut off bytes; None when that was committed too."""
    fs = volume(where, **CALM)
    content = os.urandom(131_072)
    fs.write_file("kept", content)
    fs.sync()
    held = opened(fs, "other")
    fs.write(held, os.urandom(400_000), 0)
    io.fault("write", 0, errno.ENOSPC)
    with pytest.raises(OSError):
        fs.fsync(held)  # this epoch is frozen and waits for room
    failed = fs.status()["commit_errors"]
    fs.truncate("kept", 0)  # in the next one
    until(lambda: fs.status()["commit_errors"] > failed)  # now it is tried again in a second: till then by fsync alone
    io.clear_fault()
    fs.fsync(held)
    copy = where.with_suffix(".copy")
    shutil.copytree(where, copy)
    fs.release(held)
    return (copy, content) if fs.status()["dirty_operations"] else None


def test_a_commit_counts_no_bytes_as_dead_that_a_later_one_frees(volume, tmp_path):
    """Else a crash between the two leaves a segment that is called empty and deleted, with a file in it."""
    trials = itertools.count()
    copy, content = until(lambda: between_two_commits(volume, tmp_path / str(next(trials))))
    after = volume(copy, **CALM)
    for _ in range(4):
        after.compact()
    after.drop_caches()
    assert after.read_file("kept") == content


def test_what_a_killed_process_committed_is_synced_before_it_is_called_durable(volume, tmp_path):
    fs = volume(commit_delay_ms=1)
    fs.sync()
    fs.write_file("a", b"content")
    until(lambda: fs.status()["committed_epoch"] >= fs.status()["epoch"] - 1 and not fs.status()["dirty_operations"])
    shutil.copytree(tmp_path / "volume", tmp_path / "copy")  # as the page cache has it: the log is not synced
    io.record_start(tmp_path / "trace", tmp_path / "copy")
    try:
        after = volume(tmp_path / "copy")
        after.fsync(after.resolve("a"))
        assert after.read_file("a") == b"content"
    finally:
        io.record_stop()
    records = list(read_trace(tmp_path / "trace"))
    logs = {record.file for record in records if record.kind in ("open", "create") and record.name == "meta.db-wal"}
    assert any(record.kind == "sync" and record.file in logs for record in records)


@pytest.mark.parametrize("trial", range(3))
def test_appends_of_many_threads_never_meet(volume, trial):
    fs = volume(commit_delay_ms=1, commit_ops=8, dirty_limit=128 << 10, cache_size=1 << 20)
    ino = opened(fs, "log")
    sizes = (37, 901, 5000)

    def append(name):
        for k in range(120):
            fs.write(ino, bytes([name]) * sizes[k % 3], -1)
            if k % 10 == name:
                fs.write(ino, bytes([name]), name)  # a dirty byte at the start of the page: later writes leave a gap
                fs.drop_caches()

    threads = [threading.Thread(target=append, args=(65 + n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = fs.read_file("log")
    fs.release(ino)
    assert len(data) == 4 * 40 * sum(sizes)
    for name in range(65, 69):
        assert data.count(name) >= 40 * sum(sizes) - 480


def test_a_file_whose_first_name_is_gone_is_found_by_another(volume):
    fs = volume()
    fs.mkdir("d")
    fs.write_file("d/first", b"x")
    fs.link("d/first", "second")
    fs.link("d/first", "d/third")
    ino = fs.resolve("second")
    fs.unlink("d/third")
    fs.resolve("second")
    assert fs.path_of(ino) == b"/second"
    fs.write_file("other", b"y")
    fs.rename("other", "second")
    fs.sync()
    fs.drop_caches()
    assert fs.read_file("d/first") == b"x"
    assert fs.path_of(ino) == b"/d/first"


@pytest.mark.parametrize("where", ["memory", "disk", "both"])
def test_a_file_whose_remembered_name_went_is_searched_for(volume, where):
    """Its other names were not looked up since; some of those on the disk have gone, or lead elsewhere, by now."""
    fs = volume()
    fs.mkdir("d")
    fs.write_file("d/first", b"x")
    for k in range(6000):
        fs.write_file(f"d/{k}", b"")
    for name in ("second", "third", "d/fourth"):
        fs.link("d/first", name)
    ino = fs.resolve("d/first")
    if where != "memory":
        fs.sync()
    for name in ("d/fourth", "second", "d/first"):  # the last link is the one that is remembered
        fs.unlink(name)
    fs.write_file("second", b"another one's")
    if where == "disk":
        fs.sync()
        fs.drop_caches()
    assert fs.path_of(ino) == b"/third"
    fs.unlink("third")
    with pytest.raises(FileNotFoundError):
        fs.path_of(ino)


def test_truncations_at_the_largest_size(volume):
    """A region that cannot be does not come into a commit, which would fail for ever."""
    most = 1 << 44
    fs = volume()
    for name, data in (("empty", b""), ("inline", b"x" * 100), ("large", b"x" * 200_000)):
        fs.write_file(name, data)
        fs.fsync()
        for size in (most, most - 5, most, most - (1 << 20), most - (1 << 20) - 1, most, most - 1, len(data)):
            fs.truncate(name, size)
            fs.fsync()
            assert fs.stat(name).st_size == size
        assert fs.read_file(name) == data
    ino = fs.resolve("large")
    fs.truncate("large", most)
    assert fs.write(ino, b"end", most - 3) == 3
    with pytest.raises(OSError, match="large"):
        fs.write(ino, b"more", most - 3)
    fs.fsync()
    fs.truncate("large", most - 1)
    fs.close()
    fs = volume()
    assert fs.read(ino, 10, most - 3) == b"en" and fs.stat("large").st_size == most - 1


def anonymous_bytes():
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))


def test_large_attributes_are_held_back_like_large_writes(volume, tmp_path):
    """A commit holds as many bytes of them as of others, and the log of changes none: together they outgrew a row."""
    fs = volume(tmp_path / "v", commit_delay_ms=60_000)
    value = os.urandom(60_000)
    for i in range(50):
        fs.write_file(f"f{i}", b"")
    fs.sync()
    before, most = anonymous_bytes(), 0
    for i in range(20_000):
        fs.setxattr(f"f{i % 50}", "user.large", value[i % 1000 :])
        if i % 1000 == 0:
            most = max(most, anonymous_bytes() - before)
    fs.sync()
    assert most < 400 << 20
    assert fs.getxattr("f49", "user.large") == value[999:]
    assert sum(f.stat().st_size for f in (tmp_path / "v").glob("meta.db*")) < 100 << 20


def test_the_room_of_an_open_file_without_a_name_comes_back_when_it_is_closed(volume, tmp_path):
    """Though nothing else is changed then."""
    fs = volume(tmp_path / "volume", commit_delay_ms=10, compression="none")
    held = opened(fs, "f")
    fs.write(held, os.urandom(400_000), 0)
    fs.unlink("f")
    fs.sync()
    assert fs.status()["live_bytes"] == 400_000
    fs.release(held)
    until(lambda: fs.status()["live_bytes"] == 0)
