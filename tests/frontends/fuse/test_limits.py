"""Errnos and limits that need a mount of their own kind: read-only, in use, at the bounds of what a directory takes."""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from vexfs._core.fs import Filesystem
from vexfs.volume import Volume

LINKS = 65_000


def test_a_read_only_mount_refuses_every_change(disk):
    (disk.path / "d").mkdir()
    (disk.path / "d" / "f").write_bytes(b"kept")
    disk.unmount()
    disk.mount("ro")
    top = disk.path
    changes = {
        "create": lambda: os.open(top / "new", os.O_CREAT | os.O_WRONLY),
        "open to write": lambda: os.open(top / "d" / "f", os.O_WRONLY),
        "truncate": lambda: os.truncate(top / "d" / "f", 0),
        "mkdir": lambda: os.mkdir(top / "e"),
        "mkfifo": lambda: os.mkfifo(top / "p"),
        "symlink": lambda: os.symlink("f", top / "s"),
        "link": lambda: os.link(top / "d" / "f", top / "l"),
        "unlink": lambda: os.unlink(top / "d" / "f"),
        "rmdir": lambda: os.rmdir(top / "d"),
        "rename": lambda: os.rename(top / "d" / "f", top / "d" / "g"),
        "chmod": lambda: os.chmod(top / "d" / "f", 0o600),
        "chown": lambda: os.chown(top / "d" / "f", 1, 1),
        "utime": lambda: os.utime(top / "d" / "f"),
        "setxattr": lambda: os.setxattr(top / "d" / "f", "user.a", b"1"),
        "removexattr": lambda: os.removexattr(top / "d" / "f", "user.a"),
    }
    for what, change in changes.items():
        with pytest.raises(OSError) as caught:
            change()
        assert caught.value.errno == errno.EROFS, what
    assert (top / "d" / "f").read_bytes() == b"kept"
    assert os.listdir(top) == ["d"]


def test_a_mountpoint_is_busy(disk):
    for change in (lambda: os.rmdir(disk.path), lambda: os.rename(disk.path, disk.path.with_name("else"))):
        with pytest.raises(OSError) as caught:
            change()
        assert caught.value.errno == errno.EBUSY


def test_a_file_and_a_directory_have_so_many_links_and_no_more(disk):
    """The first 64,990 are made without the mount, which would take minutes."""
    disk.unmount()
    with Volume.load(disk.volume) as volume:
        fs: Filesystem = volume.filesystem
        fs.write_file("/names", b"")
        fs.mkdir("/l")
        fs.mkdir("/d")
        for k in range(LINKS - 11):
            fs.link("/names", f"/l/{k}")
        for k in range(LINKS - 12):
            fs.mkdir(f"/d/{k}")
    disk.mount()
    top: Path = disk.path
    for k in range(10):
        os.link(top / "names", top / f"more{k}")
        os.mkdir(top / "d" / f"more{k}")
    assert os.stat(top / "names").st_nlink == os.stat(top / "d").st_nlink == LINKS
    for change in (lambda: os.link(top / "names", top / "one"), lambda: os.mkdir(top / "d" / "one")):
        with pytest.raises(OSError) as caught:
            change()
        assert caught.value.errno == errno.EMLINK
    os.mkdir(top / "e")
    with pytest.raises(OSError) as caught:
        os.rename(top / "e", top / "d" / "e")  # brings its ".." along
    assert caught.value.errno == errno.EMLINK
    (top / "d" / "file").touch()
    os.unlink(top / "more0")
    os.rmdir(top / "d" / "more0")
    os.link(top / "names", top / "one")
    os.mkdir(top / "d" / "one")


class Entry(ctypes.Structure):
    """``struct dirent``."""

    _fields_ = [
        ("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("size", ctypes.c_ushort), ("kind", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    ]  # fmt: skip


LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.opendir.restype = ctypes.c_void_p
LIBC.readdir.restype = ctypes.POINTER(Entry)
LIBC.telldir.restype = ctypes.c_long
for function in (LIBC.readdir, LIBC.telldir, LIBC.closedir, LIBC.rewinddir):
    function.argtypes = [ctypes.c_void_p]
LIBC.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


def test_telldir_and_seekdir(disk):
    """A remembered place in a listing stays what it is, also when other entries come and go."""
    for k in range(3000):
        (disk.path / f"name-{k:05}").touch()
    stream = LIBC.opendir(os.fsencode(disk.path))
    assert stream
    try:
        places, names = [], []
        while True:
            place = LIBC.telldir(stream)
            entry = LIBC.readdir(stream)
            if not entry:
                break
            places.append(place)
            names.append(entry.contents.name)
        assert len(set(names)) == len(names) == 3002
        for k in (0, 1, 2, 1500, 3001, 77, 2999):
            LIBC.seekdir(stream, places[k])
            assert LIBC.readdir(stream).contents.name == names[k]
        gone = set(names[10:2000:7])
        for name in gone - {b".", b".."}:
            os.unlink(os.fsencode(disk.path) + b"/" + name)
        for k in range(500):
            (disk.path / f"later-{k}").touch()
        LIBC.seekdir(stream, places[1000])
        rest = []
        while entry := LIBC.readdir(stream):
            rest.append(entry.contents.name)
        assert [name for name in rest if name in names] == [name for name in names[1000:] if name not in gone]
        LIBC.rewinddir(stream)
        assert LIBC.readdir(stream).contents.name == names[0]
    finally:
        LIBC.closedir(stream)
