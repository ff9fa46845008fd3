"""Damaged, foreign and newer files: one clear error that names the file, and everything else stays readable."""

import errno
import os
import random
import re
import sqlite3

import pytest

from tests.core.metastore import FRAME, KEY, PAGE, crash_copy, fill, flip, frame_offset, frames, inode_row, wal_of
from vexfs._core.meta import Meta
from vexfs.errors import Damaged, FormatUnknown, InvalidArgument, KeyMissing, KeyWrong, NotFound

COUNT = 400


@pytest.fixture(params=[None, KEY], ids=["plain", "encrypted"])
def key(request):
    return request.param


@pytest.fixture
def closed(tmp_path, key):
    """A store that was closed: everything is in meta.db."""
    path = tmp_path / "meta.db"
    with Meta(path, key=key, create=True) as meta:
        fill(meta, 1, COUNT)
    return path


@pytest.fixture
def killed(tmp_path, key):
    """A store whose process was killed: meta.db with generation 0, three synced commits and one unsynced in the log."""
    with Meta(tmp_path / "meta.db", key=key, create=True) as meta:
        fill(meta, 1, COUNT)
        meta.checkpoint(truncate=True)
        for generation in (1, 2, 3):
            fill(meta, 1, 30, generation)
            meta.sync()
        return crash_copy(tmp_path / "meta.db", tmp_path / "killed")


def readable(meta):
    """How many rows come back; those that do must be right."""
    right = 0
    for ino in range(1, COUNT + 1):
        try:
            assert meta.get_inode(ino) == inode_row(ino)
            right += 1
        except Damaged as error:
            assert error.errno == errno.EBADMSG
            assert re.search(r"meta.db: page \d+ is|meta.db-wal: frame \d+ is", str(error))
            assert "vexctl volume fsck" in str(error)
    return right


def test_a_flipped_bit_costs_the_rows_of_its_page_and_no_other(closed, key):
    whole = closed.read_bytes()
    rng, hurt = random.Random(7), 0
    for page in range(1, len(whole) // PAGE + 1):
        closed.write_bytes(whole)
        flip(closed, (page - 1) * PAGE + rng.randrange(PAGE), rng.randrange(8))
        try:
            meta = Meta(closed, key=key, read_only=True)
        except Damaged as error:
            assert page < 25, "only the schema's and the root pages may keep a store shut"
            assert str(closed) in str(error)
            continue
        with meta:
            assert meta.verify() == (len(whole) // PAGE, [(page, errno.EBADMSG)])
            hurt += readable(meta) < COUNT
    assert hurt > 10


def test_every_byte_of_a_page_is_covered(closed, key):
    whole = closed.read_bytes()
    page = len(whole) // PAGE // 2
    with Meta(closed, key=key) as meta:
        for at in range(0, PAGE, 7):
            flip(closed, (page - 1) * PAGE + at, at % 8)
            assert meta.verify()[1] == [(page, errno.EBADMSG)], f"byte {at} of page {page}"
            flip(closed, (page - 1) * PAGE + at, at % 8)
        assert meta.verify()[1] == []


def test_a_page_in_anothers_place_is_noticed(closed, key):
    whole = bytearray(closed.read_bytes())
    whole[24 * PAGE : 26 * PAGE] = whole[25 * PAGE : 26 * PAGE] + whole[24 * PAGE : 25 * PAGE]
    closed.write_bytes(whole)
    with Meta(closed, key=key) as meta:
        assert [page for page, _ in meta.verify()[1]] == [25, 26]
        assert readable(meta) < COUNT


def test_a_zeroed_page_is_noticed(closed, key):
    whole = bytearray(closed.read_bytes())
    whole[20 * PAGE : 21 * PAGE] = bytes(PAGE)
    closed.write_bytes(whole)
    with Meta(closed, key=key) as meta:
        assert meta.verify()[1] == [(21, errno.EBADMSG)]


def test_writing_next_to_damage(closed, key):
    """A change that needs a damaged page fails with the page's error; the transaction is refused, never half done."""
    whole = closed.read_bytes()
    with Meta(closed, key=key, read_only=True) as meta:
        hurt = []
        for page in range(len(whole) // PAGE, 12, -1):
            flip(closed, (page - 1) * PAGE + 100)
            hurt.append(page)
        lost = [ino for ino in range(1, COUNT + 1) if not survives(meta, ino)]
    assert lost
    with Meta(closed, key=key) as meta:
        meta.begin()
        meta.put_int("before", 1)
        with pytest.raises(Damaged, match="page"):
            for ino in lost:
                meta.put_inode(ino, b"new")
        try:
            meta.commit()
            doomed = False
        except Damaged:
            doomed = True
        meta.refresh()
        if doomed:
            with pytest.raises(NotFound):
                meta.get_int("before")
        meta.begin()
        meta.put_int("after", 1)
        meta.commit()
        meta.refresh()
        assert meta.get_int("after") == 1


def survives(meta, ino):
    try:
        meta.get_inode(ino)
    except Damaged:
        return False
    return True


@pytest.mark.parametrize("size", [0, 1, 16, 100, PAGE - 1])
def test_truncated_inside_the_first_page(closed, key, size):
    os.truncate(closed, size)
    with pytest.raises(Damaged, match=r"meta.db: (does not begin|truncated)"):
        Meta(closed, key=key)


@pytest.mark.parametrize("pages", [1, 10])
def test_truncated_further_on(closed, key, pages):
    os.truncate(closed, pages * PAGE)
    with pytest.raises(Damaged, match=r"meta.db: truncated or inconsistent.*restore a backup"):
        Meta(closed, key=key)


def test_a_cut_last_page_is_never_read_as_zeros(closed, key):
    pages = closed.stat().st_size // PAGE
    os.truncate(closed, closed.stat().st_size - 100)
    with Meta(closed, key=key) as meta:
        assert meta.verify() == (pages, [(pages, errno.EBADMSG)])
        assert readable(meta) == COUNT - 1


def test_garbage(tmp_path, key):
    path = tmp_path / "meta.db"
    for content in (b"#!/bin/sh\n" * 1000, bytes(10_000), random.Random(1).randbytes(50_000)):
        path.write_bytes(content)
        with pytest.raises(Damaged, match="does not begin as a VexFS metadata file"):
            Meta(path, key=key, create=True)
        assert path.read_bytes() == content


def test_another_programs_database(tmp_path):
    path = tmp_path / "meta.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t(x)")
    db.close()
    with pytest.raises(Damaged):
        Meta(path)


@pytest.mark.parametrize(("made_with", "opened_with", "error", "match"), [
    (KEY, None, KeyMissing, "give the volume's key file"),
    (KEY, KEY[::-1], KeyWrong, "the key does not open it"),
    (None, KEY, InvalidArgument, "not encrypted"),
])  # fmt: skip
@pytest.mark.parametrize("in_log", [False, True])
def test_a_wrong_key_is_called_one(tmp_path, made_with, opened_with, error, match, in_log):
    path = tmp_path / "meta.db"
    with Meta(path, key=made_with, create=True) as meta:
        fill(meta, 1, 50)
        path = crash_copy(path, tmp_path / "copy") if in_log else path
    before = {p: p.read_bytes() for p in path.parent.iterdir() if p.is_file()}
    with pytest.raises(error, match=match):
        Meta(path, key=opened_with)
    assert {p: p.read_bytes() for p in path.parent.iterdir() if p.is_file()} == before
    with Meta(path, key=made_with) as meta:
        assert meta.get_inode(50) == inode_row(50)


def test_newer_formats(tmp_path):
    path = tmp_path / "meta.db"
    with Meta(path, key=KEY, create=True):
        pass
    raw = bytearray(path.read_bytes())
    raw[15:16] = b"2"
    path.write_bytes(raw)
    with pytest.raises(FormatUnknown, match=r"newer VexFS \(page format '2'"):
        Meta(path, key=KEY)


def test_a_missing_database_beside_its_log_is_not_made_anew(killed, key):
    killed.unlink()
    with pytest.raises(Damaged, match="missing, though its log"):
        Meta(killed, key=key, create=True)
    assert wal_of(killed).exists()


# -- the log ----------------------------------------------------------------------------------------------------------


def test_a_killed_process_loses_nothing(killed, key):
    with Meta(killed, key=key) as meta:
        assert meta.get_inode(30) == inode_row(30, 3)


def test_every_flip_in_the_synced_log_keeps_the_store_shut_with_a_reason(killed, key):
    log = wal_of(killed)
    whole = log.read_bytes()
    rng = random.Random(3)
    for number in range(1, len(frames(killed)) + 1):
        log.write_bytes(whole)
        flip(log, frame_offset(number) + rng.randrange(FRAME), rng.randrange(8))
        with pytest.raises(Damaged, match=rf"meta.db-wal: frame {number} of \d+ is damaged.*fsck --repair"):
            Meta(killed, key=key)
    for at in range(32):
        log.write_bytes(whole)
        flip(log, at, at % 8)
        with pytest.raises(Damaged, match=r"meta.db-wal: its header is damaged"):
            Meta(killed, key=key)


def test_salvage_opens_with_the_commits_before_the_damage(killed, key):
    log = wal_of(killed)
    commits = [i for i, (_, commit) in enumerate(frames(killed), 1) if commit]
    flip(log, frame_offset(commits[1]) + 500)
    with pytest.raises(Damaged):
        Meta(killed, key=key)
    with Meta(killed, key=key, salvage=True) as meta:
        assert meta.get_inode(30) == inode_row(30, 1)
        fill(meta, 1, 30, 9)
    with Meta(killed, key=key) as meta:
        assert meta.get_inode(30) == inode_row(30, 9)
        assert meta.verify()[1] == []


def test_a_torn_end_that_was_never_synced_is_no_damage(tmp_path, key):
    with Meta(tmp_path / "meta.db", key=key, create=True) as meta:
        fill(meta, 1, COUNT)
        meta.sync()
        synced = len(frames(tmp_path / "meta.db"))
        fill(meta, 1, 30, 1)
        copy = crash_copy(tmp_path / "meta.db", tmp_path / "copy")
    whole = wal_of(copy).read_bytes()
    for number in range(synced + 1, len(frames(copy)) + 1):
        wal_of(copy).write_bytes(whole)
        flip(wal_of(copy), frame_offset(number) + 999)
        with Meta(copy, key=key, read_only=True) as meta:
            assert meta.get_inode(30) == inode_row(30, 0)


def test_damage_in_the_log_of_an_open_store(tmp_path, key):
    path = tmp_path / "meta.db"
    with Meta(path, key=key, create=True, cache_bytes=1) as meta:
        fill(meta, 1, COUNT)
        meta.refresh()
        lost = []
        for number in range(1, len(frames(path)) + 1, 3):
            flip(wal_of(path), frame_offset(number) + 1000)
            lost.append(sum(not survives(meta, ino) for ino in range(1, COUNT + 1, 2)))
            flip(wal_of(path), frame_offset(number) + 1000)
        assert sum(0 < n < COUNT // 4 for n in lost) >= 4
        assert readable(meta) == COUNT


def test_random_bytes_never_crash_the_opening(killed, key):
    """Fuzz: any damage anywhere gives an error or the right rows."""
    database, log = killed.read_bytes(), wal_of(killed).read_bytes()
    rng = random.Random(11)
    for _ in range(150):
        parts = {killed: bytearray(database), wal_of(killed): bytearray(log)}
        for path, raw in parts.items():
            for _ in range(rng.choice((0, 0, 1, 3))):
                at, n = rng.randrange(len(raw)), rng.choice((1, 8, 600))
                raw[at : at + n] = rng.randbytes(len(raw[at : at + n]))
            if rng.random() < 0.1:
                del raw[rng.randrange(len(raw)) :]
            path.write_bytes(raw)
        try:
            with Meta(killed, key=key, salvage=rng.random() < 0.5, read_only=True) as meta:
                for ino in range(1, COUNT + 1, 9):
                    wanted = {inode_row(ino, generation) for generation in range(4)}
                    assert not survives(meta, ino) or meta.get_inode(ino) in wanted
        except Damaged as error:
            assert "meta.db" in str(error)
