"""Small commits wait for the log alone: it holds what they appended to segments until a sync there covers it."""

import errno
import os
import random
import subprocess
import sys

import pytest

from vexfs._core import io
from vexfs._core.fs import Filesystem
from vexfs._core.meta import Meta
from vexfs.testing.powercut import Disk, write_image
from vexfs.testing.trace import read_trace

SIZE, PIECE = 1 << 20, 4096


def opened(place, options, **more):
    return Filesystem(str(place), **options, **more)


def tails(place, options):
    with Meta(place / "meta.db", key=options.get("meta_key"), read_only=True) as meta:
        return meta.scan_tails()


class Writer:
    """A file of a MiB that is overwritten in small pieces, each synced."""

    def __init__(self, fs, path="/f"):
        self.fs, self.rng = fs, random.Random(5)
        self.content = bytearray(self.rng.randbytes(SIZE))
        fs.write_file(path, bytes(self.content))
        fs.sync()
        self.ino = fs.open(path, os.O_RDWR)

    def pieces(self, count, size=PIECE):
        for _ in range(count):
            at = self.rng.randrange((SIZE - size) // PIECE) * PIECE
            self.content[at : at + size] = piece = self.rng.randbytes(size)
            self.fs.write(self.ino, piece, at)
            self.fs.fsync(self.ino)


def syncs(records):
    """How often each file was synced."""
    names, found = {}, {}
    for record in records:
        if record.kind in ("open", "create"):
            names[record.file] = record.name
        elif record.kind == "sync":
            name = names[record.file].partition("/")[0]
            found[name] = found.get(name, 0) + 1
    return found


@pytest.fixture
def worked(place, options, tmp_path):
    """What was on the disk before, the calls of twenty small synced writes and no end, and what the file then held."""
    fs = opened(place, options, create=True)
    writer = Writer(fs)
    before = Disk(place)
    io.record_start(tmp_path / "trace", place)
    writer.pieces(20)
    io.record_stop()
    records = list(read_trace(tmp_path / "trace"))
    fs.close()
    return before, records, bytes(writer.content)


def test_a_small_synced_write_waits_for_one_sync(worked):
    _, records, _ = worked
    assert syncs(records) == {"meta.db-wal": 20}


def cut(before, records, policy, seed=0):
    for record in records:
        before.apply(record)
    return before.image(policy, random.Random(seed))


@pytest.mark.parametrize("policy", ["lost", "kept", "scattered"])
def test_a_power_cut_takes_nothing(worked, options, tmp_path, policy):
    before, records, content = worked
    write_image(cut(before, records, policy), before.directories, tmp_path / "after")
    assert len(tails(tmp_path / "after", options)) == 20
    segments = {p: p.read_bytes() for p in (tmp_path / "after" / "segments").iterdir()}
    with_tails = opened(tmp_path / "after", options, read_only=True)
    assert with_tails.read_file("/f") == content
    with_tails.close()
    assert {p: p.read_bytes() for p in segments} == segments  # who may only read has nothing written
    for _ in range(2):
        fs = opened(tmp_path / "after", options)
        assert fs.read_file("/f") == content
        fs.close()
        assert not tails(tmp_path / "after", options)


def test_media_that_can_only_be_read(worked, options, tmp_path):
    before, records, content = worked
    write_image(cut(before, records, "lost"), before.directories, tmp_path / "after")
    program = tmp_path / "read.py"
    program.write_text(
        "import os, sys\n"
        "from vexfs._core.fs import Filesystem\n"
        f"fs = Filesystem(sys.argv[1], read_only=True, **{options!r})\n"
        "sys.stdout.buffer.write(fs.read_file('/f'))\n"
        "assert not os.access(sys.argv[1], os.W_OK), 'it could be written to'\n"
    )
    frozen = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$1" "$2" "$0"'
    enter = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if subprocess.run([*enter, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    ended = subprocess.run([*enter, "sh", "-c", frozen, str(tmp_path / "after"), sys.executable, str(program)],
                           capture_output=True, timeout=280, check=False)  # fmt: skip
    assert ended.stdout == content, ended.stderr.decode()[-3000:]


def test_a_power_cut_while_it_is_opened_takes_nothing_either(worked, options, tmp_path):
    before, records, content = worked
    image = cut(before, records, "lost")
    write_image(image, before.directories, tmp_path / "after")
    disk = Disk(tmp_path / "after")
    io.record_start(tmp_path / "opening", tmp_path / "after")
    fs = opened(tmp_path / "after", options)
    fs.close()
    io.record_stop()
    steps = list(read_trace(tmp_path / "opening"))
    assert any(step.kind == "write" for step in steps)
    for number in range(0, len(steps), 3):
        directory = tmp_path / f"cut{number}"
        write_image(image, before.directories, directory)
        again = Disk(directory)
        for step in steps[:number]:
            again.apply(step)
        second = tmp_path / f"second{number}"
        write_image(again.image("scattered", random.Random(number)), disk.directories, second)
        fs = opened(second, options)
        assert fs.read_file("/f") == content, number
        fs.close()


def test_they_are_few_and_gone_when_segments_are_synced(place, options):
    fs = opened(place, options, create=True)
    writer = Writer(fs)
    writer.pieces(600)
    before = fs.status()
    fs.write_file("/large", os.urandom(200_000))
    fs.sync()
    assert fs.status()["syncs"] - before["syncs"] == 2
    assert before["syncs"] < 660
    kept = sum(len(data) for _, data in tails(place, options))
    assert kept == 0
    writer.pieces(3)
    assert len(tails(place, options)) == 3
    fs.drop_caches()
    assert fs.read_file("/f") == bytes(writer.content)
    fs.close()
    assert not tails(place, options)


def spoil(place, options):
    """What the host does that drops the pages which it could not write: zeros where the tails stood."""
    for at, data in tails(place, options):
        with open(place / "segments" / f"{at >> 32:08x}.seg", "r+b") as file:
            file.seek(at & 0xFFFFFFFF)
            file.write(bytes(len(data)))


def test_what_a_failed_sync_of_segments_lost_is_brought_again(place, options):
    fs = opened(place, options, create=True)
    writer = Writer(fs)
    writer.pieces(20)
    large = os.urandom(300_000)
    fs.write_file("/large", large)
    io.fault("sync", 0, errno.EIO)
    try:
        with pytest.raises(OSError) as caught:
            fs.sync()
        assert caught.value.errno == errno.EIO
    finally:
        io.clear_fault()
    spoil(place, options)
    fs.sync()
    fs.drop_caches()
    assert fs.read_file("/f") == bytes(writer.content) and fs.read_file("/large") == large
    writer.pieces(5)
    fs.close()
    fs = opened(place, options)
    assert fs.read_file("/f") == bytes(writer.content)
    fs.close()


def test_a_segment_that_is_gone_is_not_missed(place, options, tmp_path):
    fs = opened(place, options, create=True, segment_size=1 << 20)
    writer = Writer(fs)
    writer.pieces(10)
    named = {at >> 32 for at, _ in tails(place, options)}
    fs.unlink("/f")
    fs.release(writer.ino)
    fs.sync()
    assert named
    fs.close()
    assert not tails(place, options)
    fs = opened(place, options)
    assert fs.status()["last_error"] is None
    fs.close()


def test_rows_that_cannot_be_are_told_and_keep_nobody_out(place, options):
    fs = opened(place, options, create=True)
    Writer(fs)
    fs.close()
    with Meta(place / "meta.db", key=options.get("meta_key")) as meta:
        meta.begin()
        meta.put_tail(1, 17, b"within the head of the segment")
        meta.commit()
        with pytest.raises(OSError, match=r"a tail of segment 1 at byte 17 cannot be.*fsck --repair"):
            meta.settle_tails(place / "segments")
    fs = opened(place, options)
    assert len(fs.read_file("/f")) == SIZE
    fs.close()
