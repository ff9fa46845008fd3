"""The files under the metadata store: which calls are made, what a failed one costs, and what the bytes give away."""

import errno
import gc
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.core.metastore import (
    FRAME,
    KEY,
    WAL_HEADER,
    crash_copy,
    fill,
    flip,
    frame_offset,
    frames,
    inode_row,
    wal_of,
)
from tests.core.test_meta_powercut import replay
from vexfs._core import io
from vexfs._core.meta import Meta
from vexfs.errors import Damaged, IoFailed, NoSpace, SizeLimitReached


@pytest.fixture(params=[None, KEY], ids=["plain", "encrypted"])
def key(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume" / "meta.db"


@pytest.fixture
def meta(path, key):
    with Meta(path, key=key, create=True) as m:
        yield m
        io.clear_fault()


@pytest.fixture(autouse=True)
def no_fault_left():
    yield
    io.clear_fault()


class Recording:
    def __init__(self, path):
        self.trace, self.root = path.parent.parent / "trace", path.parent

    def __enter__(self):
        io.record_start(self.trace, self.root)
        return self

    def __exit__(self, *exc):
        io.record_stop()
        self.calls = list(replay(self.trace))

    def count(self, kind):
        return sum(call[0] == kind for call in self.calls)


# -- what is written, and when it is synced ---------------------------------------------------------------------------


def test_a_commit_syncs_nothing_and_is_one_write(meta, path):
    fill(meta, 1, 5)
    with Recording(path) as recording:
        for generation in range(10):
            fill(meta, 1, 5, generation)
    assert recording.count("sync") == 0
    assert recording.count("write") == 10


def test_a_sync_is_one_sync_and_the_next_none(meta, path):
    fill(meta, 1, 5)
    meta.sync()
    with Recording(path) as recording:
        fill(meta, 1, 5, 1)
        meta.sync()
        meta.sync()
        meta.begin()
        meta.commit()
        meta.sync()
    assert recording.count("sync") == 1


def small_syncs(meta, count, first=1):
    for k in range(count):
        fill(meta, first, 3, k)
        meta.sync()


def test_small_syncs_find_room_that_is_there_already(meta, path):
    """A sync of a longer file costs the host a journal commit: where they follow each other the log grows ahead."""
    small_syncs(meta, 8)
    ahead = wal_of(path).stat().st_size
    small_syncs(meta, 20)
    assert wal_of(path).stat().st_size == ahead > WAL_HEADER + len(frames(path)) * FRAME
    assert not any(wal_of(path).read_bytes()[WAL_HEADER + (len(frames(path)) + 1) * FRAME :])


def test_room_ahead_is_no_end_and_no_damage(meta, path, key):
    """What a killed process leaves in front of the zeros is there, and goes on; damage before them is told."""
    small_syncs(meta, 30)
    fill(meta, 100, 5)
    copy = crash_copy(path, path.parent / "copy")
    log = wal_of(copy).read_bytes()
    synced = len(frames(path)) - 1
    with Meta(copy, key=key) as again:
        assert (again.get_inode(2), again.get_inode(104)) == (inode_row(2, 29), inode_row(104))
        small_syncs(again, 10, 200)
        second = crash_copy(copy, path.parent / "second")
    with Meta(second, key=key) as again:
        assert (again.get_inode(104), again.get_inode(202)) == (inode_row(104), inode_row(202, 9))
    wal_of(copy).write_bytes(log)
    flip(wal_of(copy), frame_offset(synced // 2) + 500)
    with pytest.raises(Damaged, match="frame"):
        Meta(copy, key=key)


def test_no_room_ahead_fails_no_commit(meta, path):
    small_syncs(meta, 1)
    for k in range(12):
        io.fault("write", 1, errno.ENOSPC)  # the frames pass, zeros behind them do not
        fill(meta, 1, 3, k)
        io.clear_fault()
        meta.sync()
    assert meta.get_inode(2) == inode_row(2, 11)
    assert wal_of(path).stat().st_size <= WAL_HEADER + (len(frames(path)) + 1) * FRAME


def test_callers_at_the_same_time_share_syncs(meta, path):
    """Eight threads that have all committed and then all ask for a sync need one, whoever comes first."""
    turn, committed, rounds = threading.Lock(), threading.Barrier(8, timeout=120), 12
    small_syncs(meta, 1)

    def work(which):
        for i in range(rounds):
            with turn:
                fill(meta, which * 10 + 1, 2, i)
            committed.wait()
            meta.sync()
            committed.wait()

    with Recording(path) as recording, ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, i) for i in range(8)]:
            done.result()
    assert recording.count("sync") == rounds


def test_the_name_of_a_new_log_is_synced_with_it(path, key):
    with Meta(path, key=key, create=True):
        pass
    with Recording(path) as recording:
        with Meta(path, key=key) as meta:
            fill(meta, 1, 5)
            meta.sync()
            io.record_mark(b"acknowledged")
    kinds = [call[0] for call in recording.calls]
    assert "syncdir" in kinds[kinds.index("create") : kinds.index("mark")]


def test_no_file_but_the_database_and_its_log(path, key):
    with Recording(path) as recording:
        with Meta(path, key=key, create=True, cache_bytes=1) as meta:
            fill(meta, 1, 3000)
            meta.checkpoint()
            meta.scan_dentries(0, 0, 10_000)
            meta.backup(path.with_name("copy.db"))
    made = {os.fsdecode(call[3]) for call in recording.calls if call[0] in ("create", "open")}
    assert made == {"meta.db-new", "meta.db-new-wal", "meta.db", "meta.db-wal", "copy.db-new"}
    assert sorted(os.listdir(path.parent)) == ["copy.db", "meta.db"]
    assert all(stat.S_IMODE(os.stat(path.with_name(n)).st_mode) == 0o600 for n in ("meta.db", "copy.db"))


def test_two_volumes_in_one_process_share_nothing(tmp_path, key):
    with Meta(tmp_path / "a.db", key=key, create=True) as a, Meta(tmp_path / "b.db", create=True) as b:
        fill(a, 1, 10, 1)
        fill(b, 1, 10, 2)
        a.begin()
        b.begin()
        a.rollback()
        b.rollback()
        a.refresh()
        b.refresh()
        assert (a.get_inode(3), b.get_inode(3)) == (inode_row(3, 1), inode_row(3, 2))


# -- secrecy ----------------------------------------------------------------------------------------------------------


def test_nothing_of_the_content_is_found_in_an_encrypted_store(path, tmp_path):
    secrets = [b"very secret name", b"attribute of a kind", b"inode row content", b"CREATE TABLE", b"SQLite format"]
    with Meta(path, key=KEY, create=True) as meta:
        meta.begin()
        for ino in range(1, 500):
            meta.put_inode(ino, secrets[2] * 10)
            meta.put_dentry(1, ino, ino, 1, secrets[0])
            meta.put_xattr(ino, secrets[1] * 200)
        meta.commit()
        copy = crash_copy(path, tmp_path / "copy")
        assert len(frames(copy)) > 100
        meta.backup(tmp_path / "backup.db")
    for file in (path, copy, wal_of(copy), tmp_path / "backup.db"):
        raw = file.read_bytes()
        assert len(raw) > 4096 or file == copy
        assert [s for s in secrets if s in raw] == [], file


def test_equal_pages_look_different(path, tmp_path):
    """Neither the page nor SQLite's checksum of it in the frame's header tells that content was written twice."""
    with Meta(path, key=KEY, create=True) as meta:
        for _ in range(20):
            meta.begin()
            meta.put_xattr(1, b"the same " * 5000)
            meta.commit()
        raw = wal_of(path).read_bytes()
    starts = range(WAL_HEADER, len(raw) - FRAME + 1, FRAME)
    assert len(starts) > 100
    for a, b in ((16, 24), (24, 24 + 64), (24 + 4056 + 8, 24 + 4056 + 20)):
        seen = [raw[at + a : at + b] for at in starts]
        assert len(set(seen)) == len(seen), f"bytes {a} to {b} of two frames are equal"


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("err", "error"), [(errno.ENOSPC, NoSpace), (errno.EDQUOT, SizeLimitReached)])
def test_a_full_disk_costs_the_transaction_and_nothing_else(meta, path, key, err, error, tmp_path):
    """Whichever write of a commit fails: the rows are as before, the batch can be done again, and is durable then."""
    fill(meta, 1, 1500, 0)
    failures = 0
    for after in range(50):
        io.fault("write", after, err)
        try:
            fill(meta, 1, 1500, 1 + after)
            break
        except error as failure:
            failures += 1
            assert "meta.db: " in str(failure)
            assert "free space and try again" in str(failure)
        finally:
            io.clear_fault()
        meta.refresh()
        assert meta.get_inode(300) == inode_row(300, 0)
        with Meta(crash_copy(path, tmp_path / "copy"), key=key) as copy:
            assert copy.get_inode(300) == inode_row(300, 0)
    assert failures >= 2, "the batch is larger than one write"
    assert after < 49
    fill(meta, 1, 1500, 99)
    meta.sync()
    meta.refresh()
    assert meta.get_inode(300) == inode_row(300, 99)
    with Meta(crash_copy(path, tmp_path / "copy"), key=key) as copy:
        assert copy.get_inode(300) == inode_row(300, 99)


def test_a_full_disk_in_a_checkpoint_and_in_closing(meta, path, key):
    fill(meta, 1, 600)
    failures = 0
    for after in range(0, 1000, 7):
        io.fault(("write", "truncate", "sync"), after, errno.ENOSPC)
        try:
            meta.checkpoint()
            break
        except NoSpace:
            failures += 1
            assert meta.wal_bytes > 0
    assert failures > 3
    assert meta.wal_bytes == 0
    io.clear_fault()
    fill(meta, 1, 600, 1)
    meta.sync()
    io.fault(("write", "truncate", "sync"), 10, errno.ENOSPC)
    meta.close()
    io.clear_fault()
    with Meta(path, key=key) as again:
        assert again.verify()[1] == []
        assert dict(again.scan_inodes()) == {ino: inode_row(ino, 1) for ino in range(1, 601)}


def test_a_failed_read_names_the_file_and_passes(meta, path):
    fill(meta, 1, 600)
    meta.close()
    with Meta(path, key=None if b"SQLite" in path.read_bytes()[:16] else KEY, cache_bytes=1) as again:
        assert again.get_inode(1) == inode_row(1)
        io.fault("read", 0, errno.EIO)
        with pytest.raises(IoFailed, match=r"meta.db"):
            again.get_inode(500)
        io.clear_fault()
        assert again.get_inode(500) == inode_row(500)


def test_after_a_failed_sync_the_frames_are_written_again(meta, path, key, tmp_path):
    """A second fdatasync would succeed and mean nothing: the kernel has dropped the error with the dirty pages."""
    fill(meta, 1, 50)
    meta.sync()
    fill(meta, 1, 50, 1)
    io.fault("sync", 0, errno.EIO)
    for _ in range(3):
        with pytest.raises(IoFailed, match=r"meta.db-wal: .* while syncing"):
            meta.sync()
    io.clear_fault()
    log = wal_of(path).read_bytes()
    with Recording(path) as recording:
        meta.sync()
    written = {off for kind, _, off, data in recording.calls if kind == "write" and len(data) == FRAME}
    first = next(i for i, (_, commit) in enumerate(frames(path)) if commit) + 1
    end = WAL_HEADER + len(frames(path)) * FRAME
    assert written == set(range(WAL_HEADER + first * FRAME, end, FRAME)), "the second commit's frames, no others"
    assert recording.count("sync") == 1
    assert wal_of(path).read_bytes()[:end] == log[:end]
    with Recording(path) as recording:
        meta.sync()
    assert recording.calls == []


def test_a_store_that_cannot_be_made_leaves_nothing(path, key):
    for kind in ("write", "sync", "create", "rename", "syncdir"):
        io.fault(kind, 0, errno.ENOSPC)
        with pytest.raises(OSError) as caught:
            Meta(path, key=key, create=True)
        assert caught.value.errno == errno.ENOSPC, kind
        assert "meta.db" in str(caught.value)
        io.clear_fault()
        if kind != "syncdir":
            assert os.listdir(path.parent) == [], kind
    with Meta(path, key=key, create=True) as meta:
        fill(meta, 1, 10)


def test_open_and_close_leave_no_descriptor(path, key):
    def rounds(n):
        for _ in range(n):
            with Meta(path, key=key, create=True) as meta:
                fill(meta, 1, 10)
                meta.refresh()
                meta.get_inode(1)
        return len(os.listdir("/proc/self/fd"))

    gc.collect()  # what earlier tests left open closes now, not between the two counts
    assert rounds(2) == rounds(30)
