"""A volume that its own process uses while it is mounted: each side sees what the other does, and faults stay small."""

import contextlib
import errno
import gc
import os
import subprocess
import sys
import threading
import time

import pytest
from vexfs.frontends import fuse
from vexfs.frontends.fuse import device, handler, operations, session
from vexfs.frontends.fuse.virtual import Directory, Link, Text, VirtualTree

from tests.frontends.fuse.conftest import NO_MOUNTS
from tests.waiting import until
from vexfs.errors import Busy, ConfigError
from vexfs.volume import Volume


def soon(call, wanted, timeout_s=120.0):
    """Changes reach the kernel from a thread: at once, but not before the call that made them returns."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            found = call()
        except OSError as error:
            found = error.errno
        if found == wanted or time.monotonic() > end:
            return found == wanted or pytest.fail(f"still {found!r}, not {wanted!r}")
        time.sleep(0.002)


def test_new_content_is_seen(inside):
    volume, disk, _ = inside
    volume.filesystem.write_file("/a", b"one")
    assert (disk / "a").read_bytes() == b"one"
    volume.filesystem.write_file("/a", b"three")
    soon((disk / "a").read_bytes, b"three")
    assert (disk / "a").stat().st_size == 5


def test_new_content_is_seen_through_a_file_that_is_open(inside):
    volume, disk, _ = inside
    volume.filesystem.write_file("/a", b"one")
    with open(disk / "a", "rb", buffering=0) as file:
        assert os.pread(file.fileno(), 10, 0) == b"one"
        volume.filesystem.write_file("/a", b"TWO")
        soon(lambda: os.pread(file.fileno(), 10, 0), b"TWO")


def test_new_attributes_are_seen(inside):
    volume, disk, _ = inside
    volume.filesystem.write_file("/a", b"")
    os.stat(disk / "a")
    volume.filesystem.chmod("/a", 0o600)
    soon(lambda: os.stat(disk / "a").st_mode & 0o777, 0o600)
    volume.filesystem.utimens("/a", 5, 6)
    soon(lambda: os.stat(disk / "a").st_mtime_ns, 6)
    volume.filesystem.truncate("/a", 12345)
    soon(lambda: os.stat(disk / "a").st_size, 12345)


def test_names_that_come_and_go_are_seen(inside):
    volume, disk, _ = inside
    fs = volume.filesystem
    with pytest.raises(FileNotFoundError):
        os.stat(disk / "a")  # the kernel remembers that there is none
    fs.write_file("/a", b"x")
    soon(lambda: os.stat(disk / "a").st_size, 1)
    fs.rename("/a", "/b")
    soon(lambda: os.stat(disk / "a").st_size, errno.ENOENT)
    assert os.listdir(disk) == ["b"]
    fs.unlink("/b")
    soon(lambda: os.stat(disk / "b").st_size, errno.ENOENT)
    fs.mkdir("/d")
    fs.write_file("/d/x", b"y")
    assert (disk / "d" / "x").read_bytes() == b"y"
    fs.unlink("/d/x")
    fs.rmdir("/d")
    soon(lambda: os.stat(disk / "d").st_size, errno.ENOENT)


def test_the_other_way_round(inside):
    volume, disk, _ = inside
    fs = volume.filesystem
    (disk / "a").write_bytes(b"one")
    assert fs.read_file("/a") == b"one"
    os.rename(disk / "a", disk / "b")
    assert [name for name, _, _ in fs.scandir("/")] == [b"b"]
    with open(disk / "b", "ab") as file:
        file.write(b" two")
    assert fs.read_file("/b") == b"one two"
    os.unlink(disk / "b")
    with pytest.raises(FileNotFoundError):
        fs.stat("/b")


def test_more_changes_than_the_queue_holds(inside):
    """When changes were lost on the way, everything that the kernel remembers is asked for again."""
    volume, disk, _ = inside
    fs = volume.filesystem
    fs.mkdir("/d")
    names = [f"f{i}" for i in range(6000)]
    for name in names:
        with pytest.raises(FileNotFoundError):
            os.stat(disk / "d" / name)
    for name in names:
        fs.write_file(f"/d/{name}", b"")
    soon(lambda: sum((disk / "d" / name).exists() for name in names), len(names))


def test_both_sides_at_once(inside):
    volume, disk, _ = inside
    fs = volume.filesystem

    def in_process():
        for i in range(500):
            fs.write_file(f"/p{i}", b"%d" % i)

    thread = threading.Thread(target=in_process)
    thread.start()
    for i in range(500):
        (disk / f"m{i}").write_bytes(b"%d" % i)
    thread.join()
    assert len(os.listdir(disk)) == 1000
    assert all(fs.read_file(f"/m{i}") == b"%d" % i for i in range(500))
    assert all((disk / f"p{i}").read_bytes() == b"%d" % i for i in range(500))


def test_an_unlinked_file_that_is_open_lives_on_in_the_mount(inside):
    volume, disk, _ = inside
    (disk / "a").write_bytes(b"x" * 10_000)
    with open(disk / "a", "rb") as file:
        volume.filesystem.unlink("/a")
        soon(lambda: os.path.exists(disk / "a"), False)
        assert os.pread(file.fileno(), 10_001, 0) == b"x" * 10_000


# -- one mount a process


def test_a_second_mount_in_one_process_is_refused(inside, tmp_path):
    volume, disk, mount = inside
    (tmp_path / "other").mkdir()
    with pytest.raises(Busy, match="has a mount already") as caught:
        volume.mount(tmp_path / "other")
    assert str(disk) in str(caught.value)
    mount.unmount()
    with volume.mount(tmp_path / "other"):
        volume.filesystem.write_file("/a", b"1")
        assert (tmp_path / "other" / "a").read_bytes() == b"1"
    assert os.listdir(tmp_path / "other") == []


def test_closing_the_volume_unmounts_it(inside):
    volume, disk, mount = inside
    (disk / "a").write_bytes(b"kept")
    volume.close()
    assert mount.ended.is_set()
    assert not os.path.ismount(disk)
    with Volume.load(volume.directory) as again:
        assert again.filesystem.read_file("/a") == b"kept"


def test_unmounting_while_a_program_uses_it(inside):
    volume, disk, mount = inside
    fd = os.open(disk / "a", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"kept")
    with pytest.raises(Busy, match=f"pid {os.getpid()}"):
        mount.unmount()
    mount.unmount(force=True)
    for use in (lambda: os.write(fd, b"lost"), lambda: os.close(fd)):
        with pytest.raises(OSError) as caught:
            use()
        assert caught.value.errno == errno.ENOTCONN
    assert not os.path.ismount(disk)
    assert volume.filesystem.read_file("/a") == b"kept"


def test_mounting_and_unmounting_again_and_again(inside):
    volume, disk, mount = inside
    mount.unmount()
    gc.collect()  # what earlier tests left open closes now, not between the two counts
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for i in range(10):
        with volume.mount(disk):
            (disk / f"f{i}").touch()
    assert len(list(volume.filesystem.scandir("/"))) == 10
    until(lambda: threading.active_count() <= threads)
    until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


def test_bad_options_mount_nothing(inside, tmp_path):
    volume, disk, mount = inside
    mount.unmount()
    with pytest.raises(ConfigError):
        volume.mount(disk, "nosuchoption")
    assert not os.path.ismount(disk)
    with volume.mount(disk, "ro"):
        with pytest.raises(OSError) as caught:
            (disk / "x").touch()
        assert caught.value.errno == errno.EROFS


def test_shown_owner_and_mode(inside):
    volume, disk, mount = inside
    mount.unmount()
    volume.filesystem.write_file("/a", b"", 0o777)
    with volume.mount(disk, "uid=1234,gid=4321,umask=027"):
        found = os.stat(disk / "a")
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1234, 4321, 0o750)
        with pytest.raises(PermissionError):
            os.chown(disk / "a", 7, -1)
        os.chown(disk / "a", 1234, 4321)
        with pytest.raises(PermissionError):
            os.chmod(disk / "a", 0o700)
    assert volume.filesystem.stat("/a").st_uid != 1234
    assert volume.filesystem.stat("/a").st_mode & 0o777 == 0o777


def test_bits_above_the_shown_permissions_can_be_changed(inside):
    volume, disk, mount = inside
    mount.unmount()
    volume.filesystem.write_file("/a", b"", 0o777)
    with volume.mount(disk, "uid=1234,gid=4321,umask=027"):
        for bits in (0o4750, 0o750, 0o6750):
            os.chmod(disk / "a", bits)
            assert os.stat(disk / "a").st_mode & 0o7777 == bits
            assert volume.filesystem.stat("/a").st_mode & 0o7777 == bits | 0o027
        os.chown(disk / "a", 1234, 4321)  # confirms what is shown, and takes set-user-id away as any chown does
        assert volume.filesystem.stat("/a").st_mode & 0o7777 == 0o777
        os.chmod(disk / "a", 0o4750)
        os.chown(disk / "a", -1, -1)
        assert volume.filesystem.stat("/a").st_mode & 0o7777 == 0o777


# -- the virtual tree, mounted


def test_the_virtual_tree_is_there_and_hidden(inside):
    _, disk, _ = inside
    assert os.listdir(disk) == []
    assert {"status", "version"} <= set(os.listdir(disk / ".vexfs"))
    status = (disk / ".vexfs" / "status").read_text()
    assert f"pid: {os.getpid()}\n" in status
    (disk / "a").touch()
    assert "files: 2" in (disk / ".vexfs" / "status").read_text()
    assert os.stat(disk / ".vexfs" / "status").st_size > 100


def test_the_virtual_tree_cannot_be_changed(inside):
    _, disk, _ = inside
    (disk / "a").touch()
    for change in (
        lambda: os.mkdir(disk / ".vexfs" / "d"),
        lambda: os.unlink(disk / ".vexfs" / "status"),
        lambda: os.rename(disk / "a", disk / ".vexfs" / "a"),
        lambda: os.rename(disk / ".vexfs", disk / "gone"),
        lambda: os.rmdir(disk / ".vexfs"),
        lambda: os.link(disk / ".vexfs" / "status", disk / "b"),
        lambda: os.symlink("x", disk / ".vexfs" / "l"),
        lambda: os.chmod(disk / ".vexfs" / "status", 0o777),
        lambda: os.truncate(disk / ".vexfs" / "status", 0),
        lambda: os.setxattr(disk / ".vexfs" / "status", "user.a", b"1"),
        lambda: os.open(disk / ".vexfs" / "status", os.O_WRONLY),
    ):
        with pytest.raises(OSError) as caught:
            change()
        assert caught.value.errno in (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP), caught.value
    (disk / "d").mkdir()
    for change in (lambda: os.mkdir(disk / "d" / ".vexfs"), lambda: (disk / "d" / ".vexfs").touch()):
        with pytest.raises((FileExistsError, IsADirectoryError)):  # searches stand there
            change()


def test_links_and_directories_in_the_virtual_tree(inside):
    volume, disk, mount = inside
    mount.unmount()
    tree = VirtualTree()
    tree.register(b"best", lambda ino: Directory({b"01": Link(b"../../a")}), everywhere=True)
    volume.filesystem.write_file("/a", b"found")
    volume.filesystem.mkdir("/d")
    volume.filesystem.write_file("/d/a", b"below")
    with fuse.mount(volume, disk, tree=tree):
        assert (disk / ".vexfs" / "best" / "01").read_bytes() == b"found"
        assert (disk / "d" / ".vexfs" / "best" / "01").read_bytes() == b"below"
        assert os.listdir(disk / "d") == ["a"]


# -- faults


class Broken:
    mode = 0o100444

    def __init__(self, error):
        self.error = error

    def render(self):
        raise self.error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("planted"), errno.EIO),
        (KeyError("planted"), errno.EIO),
        (MemoryError(), errno.ENOMEM),
        (OSError(errno.EHOSTDOWN, "planted"), errno.EHOSTDOWN),
        (KeyboardInterrupt(), errno.EIO),
        (SystemExit(), errno.EIO),
    ],
    ids=repr,
)
def test_a_failing_handler_is_an_answer_and_not_the_end(inside, caplog, error, code):
    volume, disk, mount = inside
    mount.unmount()

    def fail():
        raise error

    tree = VirtualTree()
    tree.register(b"broken", lambda _: Text(fail))
    with fuse.mount(volume, disk, tree=tree) as again:
        for _ in range(3):
            with pytest.raises(OSError) as caught:
                (disk / ".vexfs" / "broken").read_bytes()
            assert caught.value.errno == code
        (disk / "a").write_bytes(b"alive")
        assert (disk / "a").read_bytes() == b"alive"
        faults = 3 if code == errno.EIO else 0
        assert again.status()["faults"] == faults
    assert len([r for r in caplog.records if r.name == "vexfs.fuse" and r.levelname == "ERROR"]) == faults


@pytest.mark.parametrize(
    "use",
    [lambda d: os.stat(d / "a"), lambda d: os.listdir(d), lambda d: (d / "new").touch(), lambda d: os.mkdir(d / "d")],
)
def test_a_fault_in_a_compiled_handler_too(inside, monkeypatch, use):
    """Where all requests go through llfuse."""
    volume, disk, before = inside
    before.unmount()
    monkeypatch.setattr(device, "take_requests", lambda taker, context: None)

    def fail():
        raise RuntimeError("planted")

    with fuse.mount(volume, disk) as mount:
        volume.filesystem.write_file("/a", b"")
        with monkeypatch.context() as patch:
            for module in (handler, operations):
                patch.setattr(module, "EntryAttributes", fail)
            with pytest.raises(OSError) as caught:
                use(disk)
            assert caught.value.errno == errno.EIO
        assert mount.status()["faults"] >= 1
        (disk / "b").write_bytes(b"alive")
        assert (disk / "b").read_bytes() == b"alive"


AS_ANOTHER = """
import os, sys
top = int(sys.argv[1])
os.setgroups([])
os.setgid(1000)
os.setuid(1000)
assert not os.path.exists(f"/proc/self/fd/{top}/a")
print("ready", flush=True)
sys.stdin.readline()
try:
    os.open("a", os.O_RDWR | os.O_CREAT | os.O_TRUNC, dir_fd=top)
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.skipif(NO_MOUNTS is not None or os.geteuid() != 0, reason=NO_MOUNTS or "only root can become another")
def test_a_file_that_the_kernel_has_not_heard_of_yet_is_opened_by_whom_it_lets(tmp_path, monkeypatch):
    (tmp_path / "mnt").mkdir()
    with Volume.create(tmp_path / "v.vex") as volume, volume.mount(tmp_path / "mnt", "allow_other"):
        monkeypatch.setattr(session.llfuse, "invalidate_entry", lambda *_: None)
        os.chmod(tmp_path / "mnt", 0o777)
        top = os.open(tmp_path / "mnt", os.O_RDONLY)
        command = [sys.executable, "-c", AS_ANOTHER, str(top)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, pass_fds=[top], stdin=pipe, stdout=pipe, text=True) as program:
            assert program.stdout.readline() == "ready\n"
            volume.filesystem.write_file("/a", b"secret")
            volume.filesystem.chmod("/a", 0o600)
            assert program.communicate("go\n", timeout=240)[0] == "Permission denied\n"
        os.close(top)
        assert volume.filesystem.read_file("/a") == b"secret"
        with open(tmp_path / "mnt" / "a", "a+b") as file:
            assert file.seek(0) == 0 and file.read() == b"secret"


OPENING = """
import os, sys
for _ in range(20_000):
    os.close(os.open(sys.argv[1], os.O_CREAT | os.O_RDWR, 0o644))
"""


def test_a_file_that_others_make_and_remove_can_be_opened_or_made_all_the_while(inside):
    """The kernel looks again after ESTALE, but only once."""
    volume, disk, _ = inside
    fs = volume.filesystem
    with subprocess.Popen([sys.executable, "-c", OPENING, disk / "x"], stderr=subprocess.PIPE, text=True) as program:
        while program.poll() is None:
            for _ in range(200):
                for change in (fs.unlink, fs.mknod):
                    with contextlib.suppress(OSError):
                        change("x")
        assert program.stderr.read() == ""
