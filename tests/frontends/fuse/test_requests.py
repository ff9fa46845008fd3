"""The mount counts the requests of the kernel, each once."""

import ctypes
import errno
import os
import stat
import subprocess
import sys

import pytest

from tests.frontends.fuse.conftest import NO_MOUNTS


def test_every_request_is_counted_once(inside):
    _, path, mount = inside
    before = mount.requests()
    for _ in range(500):
        os.statvfs(path)
    for i in range(40):
        (path / f"d{i}").mkdir()
    for i in range(40):
        (path / f"d{i}").rmdir()
    after = mount.requests()
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert (grown["statfs"], grown["mkdir"], grown["rmdir"]) == (500, 40, 40)
    assert "write" not in grown


WRITES_AND_READS = """
import os, sys
with open(sys.argv[1], "wb", buffering=0) as file:
    for _ in range(1024):
        file.write(b"x" * 4096)
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
with open(sys.argv[1], "rb", buffering=0) as file:
    while file.read(1 << 20):
        pass
"""


def test_a_write_is_one_request_and_reads_are_long(inside):
    _, path, mount = inside
    before = mount.requests()
    subprocess.run([sys.executable, "-c", WRITES_AND_READS, path / "f"], check=True)
    after = mount.requests()
    assert after["write"] - before["write"] == 1024
    assert after["getxattr"] - before["getxattr"] < 10, "the kernel asks for security.capability before every write"
    # Only root may have the kernel read further ahead than 128 KiB, where the host's settings are no others' alone.
    ahead = f"/sys/class/bdi/0:{os.minor(os.stat(path).st_dev)}/read_ahead_kb"
    assert after["read"] - before["read"] <= (10 if os.access(ahead, os.W_OK) else 40)


def test_the_volume_knows_what_it_works_with(inside):
    volume, _, mount = inside
    assert volume.mounted is mount
    pool, frames, bridge = volume.filesystem.equipment
    assert pool.counts and frames.monitoring and bridge.running


LONG_WRITES = """
import os, subprocess, sys
if sys.argv[3] == "llfuse first":
    import llfuse
import vexfs
write = '''
import os, sys
data = bytes(range(256)) * 4096
with open(sys.argv[1], "wb", buffering=0) as file:
    for k in range(8):
        assert file.write(data[k:] + data[:k]) == 1 << 20
'''
data = bytes(range(256)) * 4096
with vexfs.open(sys.argv[1]) as volume, volume.mount(sys.argv[2]) as mount:
    subprocess.run([sys.executable, "-c", write, sys.argv[2] + "/f"], check=True)
    assert volume.read_bytes("f") == b"".join(data[k:] + data[:k] for k in range(8))
    print(mount.requests()["write"])
"""


@pytest.mark.skipif(NO_MOUNTS is not None, reason=str(NO_MOUNTS))
@pytest.mark.parametrize(("order", "requests"), [("llfuse later", 8), ("llfuse first", 64)])
def test_a_write_brings_a_mebibyte_where_there_is_room_for_it(tmp_path, order, requests):
    """A program that has imported llfuse before has mounts with the buffers of libfuse."""
    (tmp_path / "mnt").mkdir()
    ended = subprocess.run([sys.executable, "-c", LONG_WRITES, tmp_path / "v.vex", tmp_path / "mnt", order],
                           capture_output=True, text=True, timeout=240, check=False)  # fmt: skip
    assert (ended.stdout.strip(), ended.returncode) == (str(requests), 0), ended.stderr


WITHOUT_INTERPRETER = """
import os, sys
top = sys.argv[1]
print("ready", flush=True)
sys.stdin.readline()
for i in range(20):
    fd = os.open(f"{top}/f{i}", os.O_RDWR | os.O_CREAT)
    assert os.write(fd, b"x" * 200_000) == 200_000
    os.fsync(fd)
    os.close(fd)
    os.rename(f"{top}/f{i}", f"{top}/g{i}")
    fd = os.open(f"{top}/g{i}", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(fd, 1000, 150_000) == b"x" * 1000
    assert os.fstat(fd).st_size == 200_000
    os.close(fd)
    assert not os.path.exists(f"{top}/f{i}")
    os.unlink(f"{top}/g{i}")
    os.mkdir(f"{top}/d")
    os.symlink("where", f"{top}/d/s")
    assert os.readlink(f"{top}/d/s") == "where"
    os.link(f"{top}/d/s", f"{top}/d/t", follow_symlinks=False)
    os.mkfifo(f"{top}/d/p")
    assert sorted(os.listdir(f"{top}/d")) == ["p", "s", "t"]
    for name in "pst":
        os.unlink(f"{top}/d/{name}")
    os.rmdir(f"{top}/d")
os.write(1, b"done\\n")
"""


LOCK_HELD = """
import ctypes, subprocess, sys
import vexfs
with vexfs.open(sys.argv[1]) as volume, volume.mount(sys.argv[2]) as mount:
    before = mount.requests()
    command = [sys.executable, "-c", sys.argv[3], sys.argv[2]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "ready\\n"
        program.stdin.write("go\\n")
        program.stdin.flush()
        said = ctypes.create_string_buffer(9)
        ctypes.PyDLL(None).read(program.stdout.fileno(), said, 9)  # keeps the interpreter's lock until it is done
    assert said.value == b"done\\n", said.value
    after = mount.requests()
    grown = {name: after[name] - before[name] for name in ("create", "write", "fsync", "rename", "open", "unlink")}
    assert grown == {"create": 20, "write": 20, "fsync": 20, "rename": 20, "open": 20, "unlink": 80}, grown
"""

OWN_FILES = """
import os, sys
import numpy as np
import vexfs
path = sys.argv[2] + "/a"
from vexfs.frontends.fuse import device
with vexfs.open(sys.argv[1]) as volume, volume.mount(sys.argv[2]):
    assert device.ahead_of_llfuse()  # or what follows would wait for itself for ever
    want = np.arange(300_000, dtype=np.float32)
    volume.write_bytes("a", want.tobytes())
    assert np.array_equal(np.fromfile(path, np.float32), want)
    mapped = np.memmap(path, np.float32, "r+")
    mapped[5] = -1
    assert mapped[299_999] == 299_999
    mapped.flush()
    del mapped
    assert np.frombuffer(volume.read_bytes("a"), np.float32)[5] == -1
"""


@pytest.mark.skipif(NO_MOUNTS is not None, reason=str(NO_MOUNTS))
@pytest.mark.parametrize("program", [LOCK_HELD, OWN_FILES], ids=["of others", "of its own"])
def test_what_is_asked_most_needs_no_interpreter(tmp_path, program):
    """Compiled code that keeps the interpreter's lock does not hold the mount up: it would for ever, for itself."""
    (tmp_path / "mnt").mkdir()
    command = [sys.executable, "-c", program, tmp_path / "v.vex", tmp_path / "mnt", WITHOUT_INTERPRETER]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr


NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4


def renameat2(old, new, flags):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        return errno.errorcode[ctypes.get_errno()]
    return None


def test_renaming_with_flags(inside):
    volume, path, _ = inside
    (path / "a").write_text("a")
    (path / "d").mkdir()
    (path / "d" / "b").write_text("b")
    assert renameat2(path / "a", path / "d" / "b", NOREPLACE) == "EEXIST"
    assert renameat2(path / "a", path / "d" / "c", NOREPLACE) is None
    assert renameat2(path / "d" / "c", path / "d" / "b", EXCHANGE) is None
    assert (path / "d" / "b").read_text() == "a"
    assert volume.filesystem.read_file("/d/b") == b"a"
    assert (path / "d" / "c").read_text() == "b"
    assert renameat2(path / "d", path / "none", EXCHANGE) == "ENOENT"
    assert renameat2(path / "d", path / "e", NOREPLACE | EXCHANGE) == "EINVAL"
    assert renameat2(path / "d" / "b", path / ".vexfs" / "b", NOREPLACE) == "EINVAL"
    assert (path / "d" / "b").read_text() == "a"


def test_a_rename_leaves_a_whiteout_for_an_overlay(inside):
    _, path, _ = inside
    (path / "d").mkdir()
    for name in ("a", "b", "d/e"):
        (path / name).write_text(name)
    assert renameat2(path / "a", path / "b", NOREPLACE | WHITEOUT) == "EEXIST"
    assert renameat2(path / "a", path / "b", EXCHANGE | WHITEOUT) == "EINVAL"
    assert renameat2(path / "a", path / "d" / "e", WHITEOUT) is None
    assert renameat2(path / "d", path / "f", WHITEOUT) is None
    assert (path / "f" / "e").read_text() == "a"
    for name in ("a", "d"):
        left = (path / name).lstat()
        assert (stat.S_ISCHR(left.st_mode), left.st_rdev, left.st_uid) == (True, 0, os.geteuid())
    assert sorted(os.listdir(path)) == ["a", "b", "d", "f"]
    os.unlink(path / "a")
    assert path.lstat().st_nlink == 3


SIGNALLED = """
import os, signal, sys
hits = []
signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
rounds = 0
while rounds < 200 or len(hits) <= 50:
    rounds += 1
    fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x" * 300_000)
    os.fsync(fd)
    os.close(fd)
    assert os.stat(sys.argv[1]).st_size == 300_000
    os.unlink(sys.argv[1])
    os.statvfs(os.path.dirname(sys.argv[1]))
signal.setitimer(signal.ITIMER_REAL, 0)
print("done")
"""


def test_a_program_that_is_signalled_all_the_time_works_on(inside):
    _, path, _ = inside
    command = [sys.executable, "-c", SIGNALLED, path / "f"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


def birth(path):
    """Of the file, in whole seconds; 0: not known."""
    told = subprocess.run(["stat", "-c", "%W", path], capture_output=True, text=True, check=True)
    return int(told.stdout)


@pytest.mark.skipif(
    tuple(map(int, os.uname().release.split(".")[:2])) < (6, 6), reason="the kernel does not ask when a file was made"
)
def test_when_a_file_was_made_is_told(inside):
    volume, path, mount = inside
    (path / "a").write_text("a")
    os.utime(path / "a", (5, 5))
    made = int(volume.filesystem.stat("a").st_birthtime)
    assert birth(path / "a") == made
    assert birth(path / ".vexfs" / "status") > 0  # refused once, it would be asked for no more
    if os.geteuid() == 0:
        os.mknod(path / "b", 0o20644, os.makedev(5, 300))
        assert birth(path / "b") >= made
        assert os.stat(path / "b").st_rdev == os.makedev(5, 300)
    assert os.stat(path / "a").st_mtime == 5
    before = mount.requests()["getattr"]
    for _ in range(10):
        birth(path / "a")
    assert mount.requests()["getattr"] <= before + 1
