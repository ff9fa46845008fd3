"""Tails when the host fails: while segments are synced, while a volume is opened; and damaged rows of them."""

import errno
import os
import re
import shutil

import pytest

from tests.durability.conftest import MODES
from tests.durability.test_tails import Writer, opened, spoil, tails
from tests.waiting import until
from vexfs._core import io
from vexfs._core.meta import Meta
from vexfs.store.check import check
from vexfs.testing.trace import read_trace


def left(fs, place, to):
    """What a process that is killed now leaves."""
    shutil.copytree(place, to)
    fs.close()
    return to


def written(trace, place):
    """The places in segments that were written, and synced after that."""
    names, pending, done = {}, set(), set()
    for record in read_trace(trace):
        if record.kind in ("open", "create"):
            names[record.file] = record.name
        elif record.kind == "write" and names[record.file].startswith("segments/"):
            pending.add((int(names[record.file][9:17], 16) << 32 | record.offset, record.file, bytes(record.data)))
        elif record.kind == "sync":
            done |= {(at, data) for at, file, data in pending if file == record.file}
    return done


def test_what_a_failed_sync_left_in_memory_alone_is_written_again(place, options, tmp_path):
    """A host calls pages clean that it could not write: they look right, and another sync does nothing for them."""
    fs = opened(place, options, create=True)
    writer = Writer(fs)
    writer.pieces(20)
    kept = tails(place, options)
    killed = tmp_path / "killed"
    io.record_start(tmp_path / "going-on", place)
    io.fault("sync", 0, errno.EIO)
    try:
        fs.write_file("/large", os.urandom(300_000))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            fs.sync()
        shutil.copytree(place, killed)
    finally:
        io.clear_fault()
    fs.sync()
    io.record_stop()
    assert set(kept) <= written(tmp_path / "going-on", place)
    fs.close()
    io.record_start(tmp_path / "opened", killed)
    opened(killed, options).close()
    io.record_stop()
    assert len(kept) == 20 and set(kept) <= written(tmp_path / "opened", killed)


def test_what_opening_cannot_bring_to_its_place_is_told_and_tried_again_without_a_commit(place, options, tmp_path):
    fs = opened(place, options, create=True)
    writer = Writer(fs)
    writer.pieces(20)
    after = left(fs, place, tmp_path / "after")
    spoil(after, options)
    io.fault("write", 0, errno.ENOSPC)
    try:
        fs = opened(after, options)
        assert re.search(r"No space .*some files cannot be read.*make room, in .*segments", fs.status()["last_error"])
    finally:
        io.clear_fault()
    until(lambda: fs.status()["last_error"] is None)
    assert fs.read_file("/f") == bytes(writer.content)
    fs.close()


def test_a_segment_goes_with_its_tails(tmp_path):
    with Meta(tmp_path / "meta.db", create=True) as meta:
        meta.begin()
        for seg in (1, 2, 3):
            meta.put_segment(seg, bytes(32))
            meta.put_tail(seg, 4096, b"first")
            meta.put_tail(seg, 0xFFFFFFC0, b"last")
        meta.del_segment(2)
        meta.commit()
        meta.refresh()
        assert [at >> 32 for at, _ in meta.scan_tails()] == [1, 1, 3, 3]


def test_what_cannot_be_brought_to_its_place_keeps_nothing_else_from_its_own(place, options, tmp_path):
    fs = opened(place, options, create=True)
    writer = Writer(fs)
    writer.pieces(20)
    kept = tails(place, options)
    after = left(fs, place, tmp_path / "after")
    spoil(after, options)
    with Meta(after / "meta.db", key=options.get("meta_key")) as meta:
        meta.begin()
        meta.put_tail(0, 17, b"of no segment at all")
        meta.put_tail(kept[3][0] >> 32, 17, b"within the head of the segment")
        meta.commit()
        with pytest.raises(OSError, match="cannot be"):
            meta.settle_tails(after / "segments")
    report = check(after, options.get("meta_key"), repair=True)
    assert report.sound and "tail" in {p.kind for p in report.problems}
    assert not tails(after, options)
    fs = opened(after, options)
    assert fs.read_file("/f") == bytes(writer.content)
    fs.close()


def test_a_damaged_tail_costs_no_other(place, tmp_path):
    options = MODES["plain"]
    fs = opened(place, options, create=True)
    Writer(fs).pieces(20)
    kept = tails(place, options)
    after = left(fs, place, tmp_path / "after")
    spoil(after, options)
    with Meta(after / "meta.db") as meta:
        meta.checkpoint(truncate=True)
    pages = (after / "meta.db").read_bytes()
    with open(after / "meta.db", "r+b") as file:
        file.seek(pages.find(kept[7][1][2000:2400]))
        file.write(bytes(8))
    report = check(after, repair=True)
    assert "metadata-page" in {p.kind for p in report.problems}
    whole = 0
    for at, data in kept:
        segment = (after / "segments" / f"{at >> 32:08x}.seg").read_bytes()
        whole += segment[at & 0xFFFFFFFF :].startswith(data)
    assert whole == 19
