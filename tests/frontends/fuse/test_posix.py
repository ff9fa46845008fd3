"""What programs expect of a disk, on a real mount."""

import contextlib
import ctypes
import errno
import itertools
import mmap
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from vexfs.frontends.fuse import mountpoint as place

from tests.waiting import until

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as other users")


@contextlib.contextmanager
def fails_with(code):
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno == code, errno.errorcode.get(caught.value.errno or 0)


def drop_kernel_caches(here):
    """What the kernel remembers of that mount: of no other, on which others count requests."""
    if os.geteuid() == 0:
        place.remount(str(here.parent), ["suid", "dev"])


def test_write_then_read(here):
    data = os.urandom(300_001)
    (here / "a").write_bytes(data)
    assert (here / "a").read_bytes() == data
    drop_kernel_caches(here)
    assert (here / "a").read_bytes() == data
    assert (here / "a").stat().st_size == len(data)


def test_overwriting_the_middle(here):
    (here / "a").write_bytes(b"a" * 100_000)
    with open(here / "a", "r+b") as file:
        file.seek(50_000)
        file.write(b"b" * 10)
    drop_kernel_caches(here)
    assert (here / "a").read_bytes() == b"a" * 50_000 + b"b" * 10 + b"a" * 49_990


def test_rename_over_a_file_that_is_open(here):
    (here / "old").write_text("old")
    (here / "new").write_text("new")
    with open(here / "old") as file:
        os.rename(here / "new", here / "old")
        assert file.read() == "old"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert (here / "old").read_text() == "new"
    assert os.listdir(here) == ["old"]


def test_an_unlinked_file_lives_while_it_is_open(here):
    with open(here / "a", "w+b") as file:
        os.unlink(here / "a")
        file.write(b"x" * 100_000)
        file.flush()
        assert os.fstat(file.fileno()).st_nlink == 0
        assert os.fstat(file.fileno()).st_size == 100_000
        assert os.pread(file.fileno(), 5, 99_995) == b"xxxxx"
        assert os.listdir(here) == []


def test_a_removed_directory_that_is_open_answers(here):
    (here / "d").mkdir()
    fd = os.open(here / "d", os.O_RDONLY)
    try:
        os.rmdir(here / "d")
        assert stat.S_ISDIR(os.fstat(fd).st_mode)
        with fails_with(errno.ENOENT):
            os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    finally:
        os.close(fd)


def test_writes_through_a_mapping(here):
    (here / "a").write_bytes(b"\0" * 10_000)
    with open(here / "a", "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[4090:4100] = b"0123456789"
        view.flush()
        assert os.pread(file.fileno(), 10, 4090) == b"0123456789"
        view[9999] = 7
    drop_kernel_caches(here)
    data = (here / "a").read_bytes()
    assert data[4090:4100] == b"0123456789"
    assert data[9999] == 7


def test_a_mapping_outlives_the_close_and_the_name(here):
    with open(here / "a", "w+b") as file:
        file.truncate(8192)
        view = mmap.mmap(file.fileno(), 8192)
    os.unlink(here / "a")
    view[5000:5005] = b"hello"
    view.flush()
    assert view[5000:5005] == b"hello"
    view.close()


def test_truncate_down_and_up_shows_zeros(here):
    (here / "a").write_bytes(b"x" * 9000)
    os.truncate(here / "a", 10)
    os.truncate(here / "a", 9000)
    drop_kernel_caches(here)
    assert (here / "a").read_bytes() == b"x" * 10 + b"\0" * 8990


def test_hard_links(here):
    (here / "a").write_text("1")
    os.link(here / "a", here / "b")
    assert (here / "a").stat().st_nlink == 2
    assert (here / "a").stat().st_ino == (here / "b").stat().st_ino
    (here / "b").write_text("2")
    assert (here / "a").read_text() == "2"
    os.unlink(here / "a")
    assert (here / "b").stat().st_nlink == 1


@pytest.mark.parametrize("length", [1, 255, 4000, 4095])
def test_symlinks(here, length):
    target = "t" * length
    os.symlink(target, here / "l")
    assert os.readlink(here / "l") == target
    assert os.lstat(here / "l").st_size == length


def test_extended_attributes(here):
    (here / "a").touch()
    os.setxattr(here / "a", "user.one", b"1")
    os.setxattr(here / "a", "user.big", b"v" * 65536)
    os.setxattr(here / "a", "user.empty", b"")
    assert sorted(os.listxattr(here / "a")) == ["user.big", "user.empty", "user.one"]
    assert os.getxattr(here / "a", "user.big") == b"v" * 65536
    assert os.getxattr(here / "a", "user.empty") == b""
    with fails_with(errno.EEXIST):
        os.setxattr(here / "a", "user.one", b"2", os.XATTR_CREATE)
    with fails_with(errno.ENODATA):
        os.setxattr(here / "a", "user.two", b"2", os.XATTR_REPLACE)
    os.setxattr(here / "a", "user.one", b"2", os.XATTR_REPLACE)
    os.removexattr(here / "a", "user.big")
    with fails_with(errno.ENODATA):
        os.getxattr(here / "a", "user.big")
    with fails_with(errno.ENODATA):
        os.removexattr(here / "a", "user.big")


@pytest.mark.parametrize("name", ["user.", "trusted.", "security."])
def test_an_attribute_without_a_name_behind_its_space_is_invalid(here, name):
    (here / "a").touch()
    for use in (lambda: os.setxattr(here / "a", name, b""), lambda: os.getxattr(here / "a", name)):
        with fails_with(errno.EINVAL):
            use()


def test_no_more_names_of_attributes_than_can_be_listed(here):
    (here / "a").touch()
    names = [f"user.{k:0220}" for k in range(400)]
    with fails_with(errno.ENOSPC):
        for name in names:
            os.setxattr(here / "a", name, b"")
    listed = os.listxattr(here / "a")
    assert sorted(listed) == names[: len(listed)] and 280 < len(listed) < 300
    os.setxattr(here / "a", listed[0], b"a new value of an old name")
    os.removexattr(here / "a", listed[1])
    os.setxattr(here / "a", names[-1], b"")


def test_a_value_that_does_not_fit_the_callers_buffer(here):
    (here / "a").touch()
    os.setxattr(here / "a", "user.x", b"v" * 1000)
    libc = ctypes.CDLL(None, use_errno=True)
    path = os.fsencode(here / "a")
    assert libc.getxattr(path, b"user.x", None, 0) == 1000
    assert libc.getxattr(path, b"user.x", ctypes.create_string_buffer(10), 10) == -1
    assert ctypes.get_errno() == errno.ERANGE


def test_statvfs(here):
    before = os.statvfs(here)
    assert before.f_namemax == 255
    assert before.f_blocks >= before.f_bfree >= before.f_bavail > 0
    (here / "a").write_bytes(os.urandom(8 << 20))
    os.sync()
    assert os.statvfs(here).f_files >= 2


@pytest.mark.parametrize(
    "name", [b"n" * 255, b"\xff\xfe" * 127, "ü".encode() * 127, b" leading", b"new\nline", b"\\x", b"\x01"]
)
def test_names_of_any_bytes(here, name):
    path = os.fsencode(here) + b"/" + name
    with open(path, "wb") as file:
        file.write(b"x")
    assert os.listdir(os.fsencode(here)) == [name]
    assert os.stat(path).st_size == 1
    os.unlink(path)
    assert os.listdir(here) == []


def test_a_name_that_is_too_long(here):
    with fails_with(errno.ENAMETOOLONG):
        (here / ("n" * 256)).touch()


@pytest.mark.parametrize("seconds", [-(2**31) - 5, -1, 0, 2**31 + 7, 2**33])
def test_times_to_the_nanosecond(here, seconds):
    (here / "a").touch()
    atime, mtime = seconds * 10**9 + 123_456_789, seconds * 10**9 + 987_654_321
    os.utime(here / "a", ns=(atime, mtime))
    for _ in range(2):
        found = os.stat(here / "a")
        assert (found.st_atime_ns, found.st_mtime_ns) == (atime, mtime)
        drop_kernel_caches(here)


@pytest.mark.parametrize(("year", "kept"), [("2500", "2262-04-11"), ("1500", "1677-09-21")])
def test_a_time_that_cannot_be_kept_becomes_the_nearest(here, year, kept):
    """As on every filesystem of the kernel: a program that unpacks an archive does not fail over it."""
    subprocess.run(["touch", "-d", f"{year}-01-01 UTC", here / "a"], check=True)
    for _ in range(2):
        shown = subprocess.run(["stat", "-c", "%y", here / "a"], capture_output=True, text=True, check=True).stdout
        assert shown.startswith(kept)
        drop_kernel_caches(here)


def test_setting_one_time_leaves_the_other(here):
    (here / "a").touch()
    os.utime(here / "a", ns=(1, 2))
    subprocess.run(["touch", "-m", "-d", "@77.5", here / "a"], check=True)
    found = os.stat(here / "a")
    assert (found.st_atime_ns, found.st_mtime_ns) == (1, 77_500_000_000)


def test_a_listing_while_its_entries_go(here):
    names = {f"f{i:05}" for i in range(10_000)}
    for name in names:
        os.close(os.open(here / name, os.O_CREAT | os.O_WRONLY))
    seen = []
    with os.scandir(here) as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.path)
    assert len(seen) == len(set(seen)) == 10_000
    assert set(seen) == names
    assert os.listdir(here) == []


def test_a_listing_knows_types(here):
    (here / "d").mkdir()
    (here / "f").touch()
    os.symlink("f", here / "l")
    os.mkfifo(here / "p")
    kinds = {e.name: (e.is_dir(follow_symlinks=False), e.is_symlink(), e.is_file(follow_symlinks=False))
             for e in os.scandir(here)}  # fmt: skip
    assert kinds == {"d": (True, False, False), "f": (False, False, True), "l": (False, True, False),
                     "p": (False, False, False)}  # fmt: skip


def test_rewinding_a_listing_shows_what_is_new(here):
    fd = os.open(here, os.O_RDONLY)
    try:
        assert os.listdir(fd) == []
        (here / "a").touch()
        assert os.listdir(fd) == ["a"]
    finally:
        os.close(fd)


def test_sparse_files(here):
    with open(here / "a", "wb") as file:
        file.seek(5 << 30)
        file.write(b"end")
    assert (here / "a").stat().st_size == (5 << 30) + 3
    assert (here / "a").stat().st_blocks * 512 < 1 << 20
    with open(here / "a", "rb") as file:
        file.seek((5 << 30) - 4096)
        assert file.read() == b"\0" * 4096 + b"end"


def test_special_files(here):
    os.mkfifo(here / "p", 0o640)
    assert stat.S_ISFIFO((here / "p").stat().st_mode)
    assert stat.S_IMODE((here / "p").stat().st_mode) == 0o640
    if os.geteuid() == 0:
        os.mknod(here / "c", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        assert (here / "c").stat().st_rdev == os.makedev(1, 3)
        with open(here / "c", "rb") as null:
            assert null.read() == b""


def test_the_umask_is_the_callers(here):
    before = os.umask(0o027)
    try:
        os.close(os.open(here / "f", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(here / "d", 0o777)
    finally:
        os.umask(before)
    assert stat.S_IMODE((here / "f").stat().st_mode) == 0o640
    assert stat.S_IMODE((here / "d").stat().st_mode) == 0o750


def test_errors_by_name(here):
    (here / "d").mkdir()
    (here / "d" / "f").touch()
    with fails_with(errno.ENOENT):
        os.stat(here / "nothing")
    with fails_with(errno.EEXIST):
        os.mkdir(here / "d")
    with fails_with(errno.ENOTEMPTY):
        os.rmdir(here / "d")
    with fails_with(errno.ENOTDIR):
        os.stat(here / "d" / "f" / "x")
    with fails_with(errno.EISDIR):
        os.open(here / "d", os.O_WRONLY)
    with fails_with(errno.EISDIR):
        os.unlink(here / "d")
    with fails_with(errno.EINVAL):
        os.rename(here / "d", here / "d" / "below")
    with fails_with(errno.EXDEV):
        os.link("/proc/self/exe", here / "x", follow_symlinks=True)


def test_a_missing_name_may_be_made_after_the_kernel_remembered_that_it_is_missing(here):
    for _ in range(3):
        with fails_with(errno.ENOENT):
            os.stat(here / "a")
        (here / "a").touch()
        os.stat(here / "a")
        os.unlink(here / "a")


def test_locks(here):
    import fcntl

    (here / "a").touch()
    with open(here / "a", "r+b") as one, open(here / "a", "r+b") as two:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_parallel_appenders_lose_nothing(here):
    script = "import os,sys\nfd=os.open(sys.argv[1],os.O_WRONLY|os.O_APPEND|os.O_CREAT)\n"
    script += "for i in range(500): os.write(fd, b'%s %04d\\n' % (sys.argv[2].encode(), i))"
    workers = [subprocess.Popen([sys.executable, "-c", script, here / "log", str(k)]) for k in range(4)]
    assert [w.wait(120) for w in workers] == [0] * 4
    lines = (here / "log").read_text().splitlines()
    assert sorted(lines) == sorted(f"{k} {i:04}" for k in range(4) for i in range(500))


def test_a_reader_never_misses_a_file_that_is_replaced(here):
    (here / "a").write_text("0")
    stop, seen = threading.Event(), []

    def read():
        while not stop.is_set():
            seen.append((here / "a").read_text())

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        try:
            for i in range(300):
                (here / "b").write_text(str(i))
                os.replace(here / "b", here / "a")
            until(lambda: seen or reader.done())
        finally:
            stop.set()
        reader.result()
    assert all(seen)


def test_many_wait_for_the_disk_at_once_and_workers_are_added(shared_disk, here):
    """Sooner or later: the disk may be so quick that hardly anybody is seen to wait."""
    enough = threading.Event()

    def work(k):
        for i in itertools.count():
            if i >= 10 and enough.is_set():
                return
            fd = os.open(here / f"{k}.{i % 10}", os.O_CREAT | os.O_WRONLY)
            os.write(fd, b"x" * 4096)
            os.fsync(fd)
            os.close(fd)

    with ThreadPoolExecutor(6) as pool:
        working = [pool.submit(work, k) for k in range(6)]
        try:
            until(lambda: int(shared_disk.status()["workers"]) > 1)
        finally:
            enough.set()
        for each in working:
            each.result()
    assert shared_disk.status()["last_error"] == "none"
    assert len(os.listdir(here)) == 60
    for _ in range(200):
        assert os.statvfs(here).f_namemax == 255
    assert (here / "0.0").read_bytes() == b"x" * 4096


def as_user(uid, top, *command):
    """That command of that user, begun in a directory: those above it may be closed to the user."""
    as_such = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return subprocess.run([*as_such, *command], cwd=top, capture_output=True, text=True)


@pytest.fixture
def open_to_all(here):
    """The directory, open to every user."""
    os.chmod(here, 0o1777)
    return here


@root_only
def test_two_users(open_to_all):
    here = open_to_all
    assert as_user(1234, here, "touch", "mine").returncode == 0
    assert os.stat(here / "mine").st_uid == 1234
    os.chmod(here / "mine", 0o600)
    assert as_user(1235, here, "cat", "mine").returncode != 0
    assert "Permission denied" in as_user(1235, here, "cat", "mine").stderr
    assert as_user(1235, here, "rm", "-f", "mine").returncode != 0  # sticky
    assert as_user(1235, here, "chmod", "666", "mine").returncode != 0
    assert as_user(1234, here, "chmod", "644", "mine").returncode == 0
    assert as_user(1235, here, "cat", "mine").returncode == 0
    assert as_user(1234, here, "chown", "1235", "mine").returncode != 0
    assert as_user(1234, here, "rm", "-f", "mine").returncode == 0


@root_only
def test_setgid_directories_and_setuid_bits(here):
    os.chown(here, 0, 4321)
    os.chmod(here, 0o2777)
    (here / "f").touch()
    (here / "d").mkdir()
    assert (here / "f").stat().st_gid == 4321
    assert (here / "d").stat().st_mode & stat.S_ISGID


CHANGES = {
    "append": "echo more >> {}",
    "overwrite": "echo other 1<> {}",
    "truncate": "truncate -s 3 {}",
    "empty": ": > {}",
    "shorter than before, then a write": "truncate -s 3 {}; echo more >> {}",
}


@root_only
@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize(("mode", "left"), [(0o6777, 0o777), (0o4766, 0o766), (0o2767, 0o2767)])
def test_who_may_not_keep_setuid_bits_takes_them_away_by_changing_the_file(open_to_all, how, mode, left):
    path = open_to_all / "f"
    path.write_text("some words\n")
    os.chmod(path, mode)
    done = as_user(1234, open_to_all, "sh", "-c", CHANGES[how].format("f", "f"))
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(os.stat(path).st_mode) == left


@root_only
def test_root_keeps_setuid_bits_while_it_writes_and_every_new_owner_loses_them(here):
    path = here / "f"
    path.touch()
    os.chmod(path, 0o6777)
    with open(path, "ab") as file:
        file.write(b"more")
    assert stat.S_IMODE(path.stat().st_mode) == 0o6777
    os.chown(path, -1, -1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o777
    os.chmod(path, 0o6777)
    os.chown(path, 1, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o777


@root_only
def test_a_write_takes_away_what_a_program_may(here):
    path = here / "f"
    path.write_bytes(b"program")
    os.setxattr(path, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    assert "security.capability" in os.listxattr(path)
    with open(path, "ab") as file:
        for _ in range(3):
            file.write(b"more")
            file.flush()
    assert os.listxattr(path) == []
