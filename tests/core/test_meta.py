"""The rows of the metadata store, its transactions, and its readers beside a writer."""

import errno
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.core.metastore import KEY, fill, inode_row, wal_of
from vexfs._core.meta import Meta
from vexfs.errors import Busy, Exists, InvalidArgument, NotFound, ReadOnly


@pytest.fixture(params=[None, KEY], ids=["plain", "encrypted"])
def key(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "meta.db"


@pytest.fixture
def meta(path, key):
    with Meta(path, key=key, create=True) as m:
        yield m


def write(meta, *calls):
    meta.begin()
    for name, *args in calls:
        getattr(meta, name)(*args)
    meta.commit()
    meta.refresh()


def test_every_kind_of_row_comes_back(meta, path, key):
    write(
        meta,
        ("put_inode", 5, b"five"), ("put_inode", 6, b""), ("put_map", 5, 0, b"m0"), ("put_map", 5, 9, b"m9"),
        ("put_map", 6, 0, b"other"), ("put_xattr", 5, b"x" * 70_000), ("put_segment", 3, b"s3"), ("put_orphan", 7),
        ("put_oplog", 1, b"one"), ("put_oplog", 2, b"two"), ("put_int", "next", -(2**62)), ("put_blob", "uuid", b"\0u"),
        ("put_dentry", 1, 2**62 - 1, 5, 1, b"\xff\0name"),
    )  # fmt: skip

    def look(m):
        assert (m.get_inode(5), m.get_inode(6)) == (b"five", b"")
        assert (m.get_map(5, 0), m.scan_maps(5), m.scan_maps(5, 1)) == (b"m0", [(0, b"m0"), (9, b"m9")], [(9, b"m9")])
        assert m.get_xattr(5) == b"x" * 70_000
        assert (m.scan_segments(), m.scan_orphans()) == ([(3, b"s3")], [7])
        assert (m.scan_oplog(), m.scan_oplog(1)) == ([(1, b"one"), (2, b"two")], [(2, b"two")])
        assert (m.get_int("next"), m.get_blob("uuid")) == (-(2**62), b"\0u")
        assert m.lookup(1, 2**62 - 2, b"\xff\0name") == (5, 1, 2**62 - 1)

    look(meta)
    meta.close()
    assert not wal_of(path).exists(), "a clean close leaves no log"
    with Meta(path, key=key) as again:
        look(again)
        assert again.verify()[1] == []


def test_missing_rows(meta):
    for call in (
        lambda: meta.get_inode(9), lambda: meta.get_map(9, 0), lambda: meta.get_xattr(9), lambda: meta.get_int("n"),
        lambda: meta.get_blob("n"), lambda: meta.lookup(1, 5, b"n"), lambda: meta.get_inode(2**63),
    ):  # fmt: skip
        with pytest.raises(NotFound, match="no such row"):
            call()
    assert meta.scan(1) == meta.scan_maps(1) == meta.scan_oplog() == []


def test_a_name_is_looked_for_in_four_slots_and_by_its_bytes(meta):
    write(meta, *[("put_dentry", 1, 100 + i, 10 + i, 1, b"n%d" % i) for i in range(5)])
    assert [meta.lookup(1, 100, b"n%d" % i)[0] for i in range(4)] == [10, 11, 12, 13]
    for hash, name in [(100, b"n4"), (101, b"n0"), (100, b"n"), (100, b"n00"), (100, b"")]:
        with pytest.raises(NotFound):
            meta.lookup(1, hash, name)
    with pytest.raises(NotFound):
        meta.lookup(2, 100, b"n0")


def test_a_directory_is_listed_in_pieces(meta):
    write(meta, *[("put_dentry", d, 1 + s * 7, s, 1, b"%d" % s) for s in range(50) for d in (1, 2)])
    seen, after = [], 0
    while rows := meta.scan(2, after, 7):
        assert len(rows) <= 7
        seen += rows
        after = rows[-1][0]
    assert seen == [(1 + s * 7, s, 1, b"%d" % s) for s in range(50)]
    pages = [row for after in (0, 1 + 24 * 7) for row in meta.scan_dentries(1, after, 25)]
    assert pages == [(1, 1 + s * 7, s, 1, b"%d" % s) for s in range(50)]
    assert len(meta.scan_dentries(0, 0, 1000)) == 100


def test_deleting_an_inode_takes_what_belongs_to_it_alone(meta):
    rows = [(call, ino, *more) for ino in (4, 5, 6) for call, *more in (
        ("put_inode", b"i"), ("put_xattr", b"x"), ("put_map", 0, b"m"), ("put_map", 2**24 - 1, b"m"))]  # fmt: skip
    write(meta, *rows)
    write(meta, ("del_inode", 5))
    assert [ino for ino, _ in meta.scan_inodes()] == [ino for ino, _ in meta.scan_xattrs()] == [4, 6]
    assert [at >> 24 for at, _ in meta.scan_all_maps()] == [4, 4, 6, 6]
    write(meta, ("del_maps", 4, 1), ("del_map", 6, 0), ("del_xattr", 6), ("del_inode", 99))
    assert [(at >> 24, at & 0xFFFFFF) for at, _ in meta.scan_all_maps()] == [(4, 0), (6, 2**24 - 1)]


def test_oplog_is_trimmed_from_the_front(meta):
    write(meta, *[("put_oplog", i, b"%d" % i) for i in range(1, 11)])
    write(meta, ("trim_oplog", 6))
    assert [seq for seq, _ in meta.scan_oplog(0, 3)] == [7, 8, 9]
    write(meta, *[("put_oplog", i, bytes(1000)) for i in range(11, 21)])
    write(meta, ("trim_oplog", 0, 4000))
    assert [seq for seq, _ in meta.scan_oplog()] == [17, 18, 19, 20]
    write(meta, ("put_oplog", 25, bytes(100_000)), ("trim_oplog", 0, 4000))
    assert [seq for seq, _ in meta.scan_oplog()] == [25]
    meta.begin()
    assert meta.trim_oplog(24) == 0 and meta.trim_oplog(30) == 25
    meta.commit()


def test_oplog_keeps_to_its_bytes_after_a_transaction_that_came_to_nothing(meta):
    write(meta, *[("put_oplog", i, bytes(1000)) for i in range(1, 11)])
    write(meta, ("trim_oplog", 0, 4000))
    meta.begin()
    meta.put_oplog(11, bytes(1000))
    assert meta.trim_oplog(0, 1000) == 10
    meta.rollback()
    assert [seq for seq, _ in meta.scan_oplog()] == [7, 8, 9, 10]
    write(meta, ("trim_oplog", 0, 2000))
    assert [seq for seq, _ in meta.scan_oplog()] == [9, 10]


@pytest.mark.parametrize("call", [
    ("put_inode", 2**39, b""), ("put_map", 1, 2**24, b""), ("put_map", 2**39, 0, b""), ("del_maps", 1, 2**24),
    ("put_dentry", 1, 2**63, 1, 1, b"n"), ("put_dentry", 2**39, 1, 1, 1, b"n"), ("put_dentry", 1, 1, 2**39, 1, b"n"),
    ("put_orphan", 2**39), ("put_oplog", 2**63, b""), ("put_xattr", 2**39, b""), ("put_dentry", 1, 1, 1, 2**31, b"n"),
])  # fmt: skip
def test_numbers_out_of_range_are_refused(meta, call):
    meta.begin()
    with pytest.raises(InvalidArgument, match="out of range"):
        getattr(meta, call[0])(*call[1:])
    meta.put_inode(1, b"goes on")
    meta.commit()
    meta.refresh()
    assert meta.get_inode(1) == b"goes on"


def test_a_reader_sees_commits_only_and_only_when_refreshed(meta):
    write(meta, ("put_inode", 1, b"old"))
    assert meta.get_inode(1) == b"old"
    meta.begin()
    meta.put_inode(1, b"new")
    meta.refresh()
    assert meta.get_inode(1) == b"old"
    meta.commit()
    assert meta.get_inode(1) == b"old"
    meta.refresh()
    assert meta.get_inode(1) == b"new"


def test_rollback(meta):
    write(meta, ("put_inode", 1, b"old"))
    meta.begin()
    meta.put_inode(1, b"new")
    meta.del_inode(1)
    meta.rollback()
    meta.rollback()
    meta.refresh()
    assert meta.get_inode(1) == b"old"


def test_changes_need_a_transaction_and_there_is_one_at_a_time(meta):
    with pytest.raises(InvalidArgument, match="no transaction"):
        meta.put_inode(1, b"")
    with pytest.raises(InvalidArgument, match="no transaction"):
        meta.commit()
    meta.begin()
    with pytest.raises(OSError) as caught:
        meta.begin()
    assert caught.value.errno == errno.EALREADY
    with pytest.raises(Busy, match="inside a transaction"):
        meta.checkpoint()
    meta.rollback()


def test_an_open_transaction_is_dropped_by_close(meta, path, key):
    write(meta, ("put_inode", 1, b"kept"))
    meta.begin()
    meta.put_inode(2, b"dropped")
    meta.close()
    with Meta(path, key=key) as again:
        assert again.scan_inodes() == [(1, b"kept")]


def test_a_closed_store_says_so(meta):
    meta.close()
    meta.close()
    for call in (meta.begin, meta.sync, meta.refresh, meta.verify, lambda: meta.get_inode(1)):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_create_opens_what_is_there(meta, path, key):
    write(meta, ("put_inode", 1, b"kept"))
    meta.close()
    with Meta(path, key=key, create=True) as again:
        assert again.get_inode(1) == b"kept"


def test_read_only_touches_nothing(meta, path, key, tmp_path):
    fill(meta, 1, 500)
    copies = {}
    for name in (path, wal_of(path)):
        copies[name.name] = (tmp_path / "ro" / name.name, name.read_bytes())
    (tmp_path / "ro").mkdir()
    for copy, content in copies.values():
        copy.write_bytes(content)
        copy.chmod(0o400)
    with Meta(tmp_path / "ro" / "meta.db", key=key, read_only=True) as ro:
        assert ro.get_inode(500) == inode_row(500)
        ro.backup(tmp_path / "from-ro.db")
        for call in (ro.begin, ro.checkpoint):
            with pytest.raises(ReadOnly, match="reading only"):
                call()
    assert sorted(os.listdir(tmp_path / "ro")) == ["meta.db", "meta.db-wal"]
    with Meta(tmp_path / "from-ro.db", key=key) as copy:
        assert len(copy.scan_inodes()) == 500
    assert all(copy.read_bytes() == content for copy, content in copies.values())


def test_read_only_without_a_log(meta, path, key, tmp_path):
    fill(meta, 1, 100)
    meta.close()
    with Meta(path, key=key, read_only=True) as ro:
        assert len(ro.scan_inodes()) == 100
    assert os.listdir(tmp_path) == ["meta.db"]
    with pytest.raises(NotFound):
        Meta(tmp_path / "none.db", read_only=True, create=True)


def test_the_log_shrinks_and_begins_anew(meta, path):
    sizes = []
    for round in range(6):
        for _ in range(5):
            fill(meta, 1, 300, round)
        meta.refresh()
        meta.get_inode(1)  # a reader in the way of the checkpoint
        assert meta.wal_bytes > 0
        meta.checkpoint()
        assert meta.wal_bytes == 0
        meta.get_inode(1)
        sizes.append(wal_of(path).stat().st_size)
    assert len(set(sizes[1:])) == 1, f"the log grew though every commit was copied: {sizes}"
    meta.checkpoint(truncate=True)
    assert wal_of(path).stat().st_size == 0
    assert meta.get_inode(300) == inode_row(300, 5)


def test_readers_beside_writer_syncs_and_checkpoints(meta):
    """Every read sees one whole commit: all its rows carry one generation, and generations only go up."""
    fill(meta, 1, 60, 0)
    meta.refresh()
    stop, failures, reads = threading.Event(), [], [0, 0]

    def read(which):
        last = 0
        try:
            while not stop.is_set():
                rows = meta.scan_inodes(0, 100)
                seen = {int(row.split()[3]) for _, row in rows}
                assert len(rows) == 60
                assert len(seen) == 1, f"a mixture of commits: {seen}"
                assert seen.pop() >= last
                last = int(rows[0][1].split()[3])
                reads[which] += 1
        except BaseException as error:
            failures.append(error)

    def sync():
        try:
            while not stop.is_set():
                meta.sync()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=t) for t in (lambda: read(0), lambda: read(1), sync)]
    for thread in threads:
        thread.start()
    generation = 0
    while not failures and (generation < 80 or min(reads) <= 5):
        generation += 1
        fill(meta, 1, 60, generation)
        meta.refresh()
        if generation % 5 == 0:
            meta.checkpoint(truncate=generation % 10 == 0)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_syncs_that_end_within_a_long_commit_leave_its_frames_alone(meta, key, tmp_path):
    """The mark of a sync never lands on a frame, though a commit is written with several writes."""
    stop, synced = threading.Event(), [0, 0]

    def sync(which):
        while not stop.is_set():
            meta.sync()
            synced[which] += 1

    threads = [threading.Thread(target=sync, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    until, rounds = time.monotonic() + 2.5, 0
    while time.monotonic() < until or not (rounds and all(synced)):
        meta.begin()
        meta.put_int("rounds", rounds)
        meta.commit()
        meta.begin()
        for ino in range(2, 152):
            meta.put_content(ino, os.urandom(4000))
        meta.commit()
        rounds += 1
    stop.set()
    for thread in threads:
        thread.join()
    path = Path(meta.path)
    for name in (path, wal_of(path)):
        shutil.copy(name, tmp_path / name.name.replace(path.name, "copy.db"))
    with Meta(tmp_path / "copy.db", key=key) as copy:
        assert copy.get_int("rounds") == rounds - 1


def test_backup_copies_one_commit_while_others_follow(meta, key, tmp_path):
    fill(meta, 1, 2000, 0)
    meta.checkpoint()
    fill(meta, 1, 100, 1)
    calls = []

    def progress(done, total):
        calls.append((done, total))
        fill(meta, 1, 2000, 2 + len(calls))

    meta.backup(tmp_path / "copy.db", progress)
    assert len(calls) > 1
    assert calls[-1][0] == calls[-1][1] > 0
    assert calls == sorted(calls)
    with Meta(tmp_path / "copy.db", key=key) as copy:
        rows = dict(copy.scan_inodes(-1, 10_000))
        assert rows == {ino: inode_row(ino, 1 if ino <= 100 else 0) for ino in range(1, 2001)}
        assert copy.verify()[1] == []
    assert sorted(os.listdir(tmp_path)) == ["copy.db", "meta.db", "meta.db-wal"]
    meta.checkpoint(truncate=True)


def test_a_checkpoint_during_a_backup_is_put_off(meta, tmp_path):
    fill(meta, 1, 1000)

    def progress(done, total):
        fill(meta, 1, 1000, 1)
        assert meta.wal_bytes > 0
        meta.checkpoint()
        assert meta.wal_bytes == 0, "a caller that waits for 0 would spin until the backup ends"
        with pytest.raises(Busy, match="backup"):
            meta.checkpoint(truncate=True)

    meta.backup(tmp_path / "copy.db", progress)
    assert meta.wal_bytes > 0
    meta.checkpoint(truncate=True)
    assert meta.wal_bytes == 0


def test_backup_refuses_cancels_and_passes_errors_on(meta, tmp_path):
    fill(meta, 1, 2000)
    (tmp_path / "there.db").write_bytes(b"precious")
    with pytest.raises(Exists, match="new file"):
        meta.backup(tmp_path / "there.db")
    assert (tmp_path / "there.db").read_bytes() == b"precious"
    with pytest.raises(OSError, match="cancelled") as caught:
        meta.backup(tmp_path / "copy.db", lambda done, total: True)
    assert caught.value.errno == errno.ECANCELED
    with pytest.raises(ZeroDivisionError):
        meta.backup(tmp_path / "copy.db", lambda done, total: 1 / 0)
    with pytest.raises(NotFound):
        meta.backup(tmp_path / "no" / "such" / "copy.db")
    assert sorted(os.listdir(tmp_path)) == ["meta.db", "meta.db-wal", "there.db"]


class Store(RuleBasedStateMachine):
    """Random changes, commits, rollbacks, checkpoints and reopenings against dictionaries."""

    inos = st.integers(1, 12)
    blobs = st.binary(max_size=9000)

    def __init__(self):
        super().__init__()
        self.meta = None

    @initialize(key=st.sampled_from([None, KEY]), tmp=st.uuids())
    def open(self, key, tmp):
        import tempfile

        self.dir = tempfile.TemporaryDirectory(prefix="vexfs-meta-")
        self.path, self.key = os.path.join(self.dir.name, "meta.db"), key
        self.meta = Meta(self.path, key=key, create=True)
        self.durable, self.now, self.writing = {}, {}, False

    def change(self, key, value):
        if value is None:
            self.now.pop(key, None)
        else:
            self.now[key] = value

    @precondition(lambda self: self.meta and not self.writing)
    @rule()
    def begin(self):
        self.meta.begin()
        self.now, self.writing = dict(self.durable), True

    @precondition(lambda self: self.meta and self.writing)
    @rule(ino=inos, row=blobs)
    def put_inode(self, ino, row):
        self.meta.put_inode(ino, row)
        self.change(("i", ino), row)

    @precondition(lambda self: self.meta and self.writing)
    @rule(ino=inos, region=st.integers(0, 3), data=blobs)
    def put_map(self, ino, region, data):
        self.meta.put_map(ino, region, data)
        self.change(("m", ino << 24 | region), data)

    @precondition(lambda self: self.meta and self.writing)
    @rule(parent=inos, slot=st.integers(1, 20), name=st.binary(min_size=1, max_size=255))
    def put_dentry(self, parent, slot, name):
        self.meta.put_dentry(parent, slot, 3, 1, name)
        self.change(("d", parent, slot), name)

    @precondition(lambda self: self.meta and self.writing)
    @rule(parent=inos, slot=st.integers(1, 20))
    def del_dentry(self, parent, slot):
        self.meta.del_dentry(parent, slot)
        self.change(("d", parent, slot), None)

    @precondition(lambda self: self.meta and self.writing)
    @rule(ino=inos)
    def del_inode(self, ino):
        self.meta.del_inode(ino)
        self.now = {k: v for k, v in self.now.items() if k != ("i", ino) and not (k[0] == "m" and k[1] >> 24 == ino)}

    @precondition(lambda self: self.meta and self.writing)
    @rule(keep=st.booleans())
    def end(self, keep):
        if keep:
            self.meta.commit()
            self.durable = self.now
        else:
            self.meta.rollback()
        self.writing = False

    @precondition(lambda self: self.meta and not self.writing)
    @rule(truncate=st.booleans())
    def checkpoint(self, truncate):
        self.meta.checkpoint(truncate)

    @precondition(lambda self: self.meta and not self.writing)
    @rule()
    def reopen(self):
        self.meta.close()
        self.meta = Meta(self.path, key=self.key)

    @invariant()
    def same(self):
        if not self.meta:
            return
        self.meta.refresh()
        found = {("i", ino): row for ino, row in self.meta.scan_inodes()}
        found |= {("m", at): data for at, data in self.meta.scan_all_maps()}
        found |= {("d", parent, slot): name for parent, slot, _, _, name in self.meta.scan_dentries()}
        assert found == self.durable

    def teardown(self):
        if self.meta:
            self.meta.close()
            self.dir.cleanup()


TestStore = Store.TestCase
TestStore.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
