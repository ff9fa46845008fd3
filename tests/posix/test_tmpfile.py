"""Files that begin without a name: they get one whole, or leave nothing."""

import errno
import os

import pytest

from vexfs.volume import Volume, check

NAMELESS = os.O_TMPFILE | os.O_RDWR


@pytest.fixture
def path(tmp_path):
    Volume.create(tmp_path / "v.vex").close()
    return tmp_path / "v.vex"


def orphans(path):
    return [problem for problem in check(path).problems if "removed" in str(problem)]


@pytest.mark.parametrize("synced", [True, False])
def test_it_appears_whole_when_it_is_given_a_name(path, synced):
    with Volume.load(path) as volume:
        fs = volume.filesystem
        fs.mkdir("d")
        ino = fs.open("d", NAMELESS, 0o640)
        fs.write(ino, b"text" * 5000, 0)
        if synced:
            fs.fsync(ino)  # listed as one that goes when the volume is opened
        assert list(fs.scandir("d")) == []
        assert fs.getattr(ino).st_nlink == 0
        fs.link_ino(ino, "d/named")
        assert fs.read_file("d/named") == b"text" * 5000
        assert fs.stat("d/named").st_mode == 0o100640
        assert fs.path_of(ino) == b"/d/named"
        fs.link_ino(ino, "other")
        fs.release(ino)
    assert check(path).sound
    assert not orphans(path)
    with Volume.load(path) as volume:
        fs = volume.filesystem
        assert fs.read_file("d/named") == b"text" * 5000
        assert fs.stat("other").st_nlink == 2
        fs.unlink("other")


@pytest.mark.parametrize("synced", [True, False])
def test_it_goes_when_it_is_closed(path, synced):
    with Volume.load(path) as volume:
        fs = volume.filesystem
        before = fs.status()["files"]
        ino = fs.open("/", NAMELESS)
        fs.write(ino, bytes(100_000), 0)
        if synced:
            fs.fsync(ino)
        fs.release(ino)
        fs.sync()
        assert fs.status()["files"] == before
        with pytest.raises(FileNotFoundError):
            fs.link_ino(ino, "late")
    assert check(path).sound


def test_one_that_had_a_name_or_was_not_to_have_one_gets_none(path):
    with Volume.load(path) as volume:
        fs = volume.filesystem
        private = fs.open("/", NAMELESS | os.O_EXCL)
        removed = fs.open("f", os.O_CREAT | os.O_RDWR)
        fs.unlink("f")
        again = fs.open("/", NAMELESS)
        fs.link_ino(again, "f")
        fs.unlink("f")
        for ino in (private, removed, again):
            with pytest.raises(FileNotFoundError):
                fs.link_ino(ino, "f")
            fs.release(ino)


def test_what_cannot_be_one(path):
    with Volume.load(path) as volume:
        fs = volume.filesystem
        fs.write_file("f", b"")
        for flags, where, code in (
            (os.O_TMPFILE, "/", errno.EINVAL),
            (NAMELESS | os.O_CREAT, "/", errno.EINVAL),
            (NAMELESS, "f", errno.ENOTDIR),
            (NAMELESS, "none", errno.ENOENT),
        ):
            with pytest.raises(OSError) as caught:
                fs.open(where, flags)
            assert caught.value.errno == code
    with Volume.load(path, read_only=True) as volume, pytest.raises(OSError) as caught:
        volume.filesystem.open("/", NAMELESS)
    assert caught.value.errno == errno.EROFS
