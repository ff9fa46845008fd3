"""Bytes that changed on disk: never a crash, never wrong bytes, a clear error, and the rest stays readable."""

import errno
import hashlib
import os
import random
import shutil

import numpy as np
import pytest

import vexfs
from vexfs._core.fs import Filesystem
from vexfs._core.meta import Meta
from vexfs.testing.workload import read_state

KEY = bytes(range(32))
CLEAR = {errno.EIO, errno.EBADMSG, errno.ENOTSUP, errno.EKEYREJECTED, errno.ENOKEY}


def make(directory, key):
    """A closed volume, the same with two more commits in its log; the states that each may be found in."""
    (directory / "base" / "segments").mkdir(parents=True)
    options = {"meta_key": key, "data_key": key, "segment_size": 256 << 10, "commit_delay_ms": 60_000}
    fs = Filesystem(directory / "base", create=True, **options)
    rng = random.Random(5)
    fs.mkdir("d")
    for k in range(40):
        fs.write_file(f"d/small{k}", rng.randbytes(k * 60))
    for k in range(12):
        fs.write_file(f"large{k}", rng.randbytes(60_000) + bytes(30_000))
    fs.setxattr("d", "user.x", rng.randbytes(5000))
    fs.symlink("large0", "link")
    fs.close()
    fs = Filesystem(directory / "base", atime="noatime", **options)
    states = [read_state(fs)]
    for k in range(3):
        fs.write_file(f"d/small{k * 7}", rng.randbytes(3000))
        fs.write_file(f"large{k}", rng.randbytes(50_000))
        fs.rename(f"d/small{20 + k}", f"d/moved{k}")
        fs.sync()
        states.append(read_state(fs))
    shutil.copytree(directory / "base", directory / "logged")
    fs.close()
    shutil.copytree(directory / "base", directory / "closed")
    return states


@pytest.fixture(scope="module", params=[None, KEY], ids=["plain", "encrypted"])
def made(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("damage")
    return directory, make(directory, request.param), request.param


def read_what_can_be(fs, states):
    """The paths that cannot be read; those that can hold what some state held there."""
    lost = []
    for path in sorted(set().union(*states)):
        try:
            for name in fs.listxattr(path, False):
                fs.getxattr(path, name, False)
            if path in (b"/", b"/d"):
                list(fs.scandir(path))
            else:
                kind = fs.stat(path, follow_symlinks=False).st_mode & 0o170000
                data = fs.readlink(path) if kind == 0o120000 else fs.read_file(path)
                digest = hashlib.blake2b(data, digest_size=12).hexdigest()
                assert digest in {state[path][5] for state in states if path in state}, path
        except FileNotFoundError:
            assert any(path not in state for state in states) or lost_directory(fs), path
        except OSError as error:
            assert error.errno in CLEAR, (path, error)
            lost.append(path)
    try:
        found = read_state(fs)
    except OSError as error:
        assert error.errno in CLEAR, error
        assert lost
        return lost
    assert found in states
    return lost


def lost_directory(fs):
    """Whether a listing says that names are lost: then a name may be missed."""
    try:
        for path in (b"/", b"/d"):
            list(fs.scandir(path))
    except OSError:
        return True
    return False


def damaged(made, name, change, tmp_path):
    """What a changed file does: the error of opening, or the paths that are lost."""
    directory, states, key = made
    volume = tmp_path / "volume"
    shutil.rmtree(volume, ignore_errors=True)
    shutil.copytree(directory / ("logged" if name == "meta.db-wal" else "closed"), volume)
    path = sorted(volume.rglob(name))[0] if "*" in name else volume / name
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    try:
        fs = Filesystem(volume, meta_key=key, data_key=key, segment_size=256 << 10, atime="noatime")
    except OSError as error:
        assert error.errno in CLEAR, error
        assert str(volume) in str(error)
        return error
    try:
        return read_what_can_be(fs, states)
    finally:
        try:
            fs.close()
        except OSError as error:
            assert error.errno in CLEAR, error


def flip(position):
    def change(data):
        data[position % len(data)] ^= 1 << position % 8

    return change


def cut(share):
    def change(data):
        del data[int(len(data) * share) :]

    return change


def zero(position, count):
    def change(data):
        at = position % len(data)
        data[at : at + count] = bytes(len(data[at : at + count]))

    return change


FILES = ("meta.db", "meta.db-wal", "*.seg")
FEW = [flip(n * 104_729 + n) for n in range(8)] + [cut(0.0), cut(0.3), cut(0.9), zero(5000, 4096), zero(0, 100)]


@pytest.mark.parametrize("name", FILES)
def test_damage_is_told_and_no_wrong_byte_read(made, name, tmp_path):
    told = [damaged(made, name, change, tmp_path) for change in FEW]
    assert any(isinstance(answer, OSError) or answer for answer in told)
    if name == "*.seg":
        assert all(isinstance(answer, list) and len(answer) <= 12 for answer in told)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FILES)
def test_damage_anywhere(made, name, tmp_path):
    rng = random.Random(name)
    for _ in range(400):
        way = rng.randrange(4)
        change = flip(rng.randrange(1 << 40)) if way else rng.choice(
            (cut(rng.random()), zero(rng.randrange(1 << 40), rng.choice((1, 512, 4096, 40_000)))))  # fmt: skip
        damaged(made, name, change, tmp_path)


def test_a_flipped_bit_in_a_segment_loses_one_file_at_most(made, tmp_path):
    losses = [damaged(made, "*.seg", flip(8192 + n * 3001), tmp_path) for n in range(20)]
    assert all(isinstance(lost, list) and len(lost) <= 1 for lost in losses)
    assert any(losses)


def test_random_bytes_in_the_place_of_any_file(made, tmp_path):
    for name in FILES:
        def change(data):
            data[:] = os.urandom(len(data))

        damaged(made, name, change, tmp_path)


def readable(meta, ino, region):
    try:
        return meta.get_map(ino, region) is not None
    except OSError:
        return False


def damage_map(volume, ino, region):
    """Flip a bit of the metadata so that this map of the file cannot be read, but the first one can."""
    path = volume / "meta.db"
    whole = path.read_bytes()
    for page in range(len(whole) // 4096 - 1, 1, -1):
        flipped = bytearray(whole)
        flipped[page * 4096 + 2000] ^= 1
        path.write_bytes(flipped)
        try:
            meta = Meta(path)
        except OSError:
            continue
        found = readable(meta, ino, 0) and not readable(meta, ino, region)
        meta.close()
        if found:
            return
    raise AssertionError("no such page")


def test_a_truncation_that_cannot_be_counts_no_byte_as_dead(tmp_path):
    where, regions = tmp_path / "v", 600
    (where / "segments").mkdir(parents=True)
    fs = Filesystem(where, create=True, commit_delay_ms=60_000)
    fs.write_file("beside", os.urandom(2_000_000))
    ino = fs.open("pieces", os.O_CREAT | os.O_RDWR)
    for k in range(regions):
        fs.write(ino, b"%4d" % k * 1024, k << 20)
    fs.release(ino)
    fs.close()
    damage_map(where, ino, regions - 1)
    fs = Filesystem(where, commit_delay_ms=60_000)
    before = fs.status()
    for size in (100, 5, 1 << 20):
        with pytest.raises(OSError, match="Bad message"):
            fs.truncate("pieces", size)
    after = fs.status()
    assert {k: after[k] for k in ("live_bytes", "used_bytes")} == {k: before[k] for k in ("live_bytes", "used_bytes")}
    assert fs.read(ino, 4096, 0) == b"   0" * 1024 and fs.stat("pieces").st_size == ((regions - 1) << 20) + 4096
    fs.compact()
    assert len(fs.read_file("beside")) == 2_000_000
    fs.close()


@pytest.mark.parametrize("name", [b"n" * 3000, b"a/b", b"..", b"a\0b"], ids=["long", "slash", "dots", "zero"])
def test_a_row_whose_name_is_none_is_damage(tmp_path, name):
    with vexfs.open(tmp_path / "v") as fs:
        index = fs.index("d", dim=4)
        fs.makedirs("d/sub")
        fs.write_text("d/file", "x")
        fs.write_text("d/sub/below", "x")
        fs.write_text("other", "y")
        inos = {path: fs.stat(path).st_ino for path in ("d", "d/file", "d/sub", "d/sub/below")}
        for path in ("d/file", "d/sub/below"):
            index.set_vectors(inos[path], np.ones((1, 4), np.float32))
    meta = Meta(tmp_path / "v" / "meta.db")
    meta.begin()
    for path in ("d/file", "d/sub"):
        slot, ino, kind, _ = next(entry for entry in meta.scan(inos["d"]) if entry[1] == inos[path])
        meta.put_dentry(inos["d"], slot, ino, kind, name)
    meta.commit()
    meta.sync()
    meta.close()
    with vexfs.open(tmp_path / "v") as fs:
        with pytest.raises(OSError, match="Bad message"):
            fs.listdir("d")
        with pytest.raises(OSError, match="Bad message"):
            fs.filesystem.path_of(inos["d/sub/below"])
        fs.index("d").query(np.ones(4), 5)
        fs.filesystem.write(inos["d/file"], b"z", 0)
        assert fs.read_text("other") == "y"


@pytest.mark.parametrize("size", [300_000, 3_000_000])
def test_damage_is_never_taken_for_the_end_of_a_file(tmp_path, size):
    (tmp_path / "v" / "segments").mkdir(parents=True)
    fs = Filesystem(tmp_path / "v", create=True, compression="none")
    data = random.Random(1).randbytes(size)
    fs.write_file("f", data)
    fs.close()
    (segment,) = (tmp_path / "v" / "segments").iterdir()
    bad = segment.read_bytes().find(data[size - 1000 :][:64])
    with open(segment, "r+b") as file:
        file.seek(bad)
        file.write(bytes(8))
    fs = Filesystem(tmp_path / "v")
    with pytest.raises(OSError) as caught:
        fs.read_file("f")
    assert caught.value.errno == errno.EBADMSG and caught.value.filename == "f"
    ino = fs.open("f", os.O_RDONLY)
    with pytest.raises(OSError, match=os.strerror(errno.EBADMSG)):
        fs.readinto(ino, bytearray(size), 0)
    assert fs.read(ino, 100_000, 0) == data[:100_000]
    fs.release(ino)
    fs.close()
