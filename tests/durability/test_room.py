"""What is removed from a full disk comes free, wherever it lay; and nothing takes the room that this needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILLED = """
import errno, os, sys
from tests.waiting import until
from vexfs._core.fs import Filesystem
os.makedirs(sys.argv[1] + "/v/segments")
fs = Filesystem(sys.argv[1] + "/v", create=True, compression="none")
names = []
def fill():
    try:
        while True:
            fs.write_file(f"f{len(names)}", os.urandom(400_000))
            names.append(f"f{len(names)}")
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
fill()
assert fs.statvfs()[2] * 4096 < 2 << 20, fs.statvfs()  # what df calls available is what can be written
"""

SPREAD = """
for name in names[::4]:
    fs.unlink(name)
freed = len(names[::4]) * 400_000
until(lambda: fs.statvfs()[2] * 4096 > freed // 2)  # nobody syncs, nobody writes
fs.write_file("more", os.urandom(freed // 2))
assert all(len(fs.read_file(name)) == 400_000 for name in set(names) - set(names[::4]))
fs.close()
print("survived")
"""

OTHERS = """
for name in names[::4]:
    fs.unlink(name)
others = os.open(sys.argv[1] + "/others", os.O_RDWR | os.O_CREAT)
host = os.statvfs(sys.argv[1])
taken = host.f_bavail * host.f_frsize - (1 << 20)
if taken > 0:
    os.posix_fallocate(others, 0, taken)  # others fill the disk: there is no room to copy anything
told = fs.compact()
left = os.statvfs(sys.argv[1])
assert told["segments_left"], told
assert left.f_bavail * left.f_frsize >= 512 << 10, left  # it did not take the rest of it
os.close(others)
os.unlink(sys.argv[1] + "/others")
told = fs.compact()
assert not told["segments_left"] and told["disk_bytes_after"] < told["disk_bytes_before"], told
fs.close()
print("survived")
"""


#: Preloaded: to remove a large file takes as long as on a disk.
SLOW_UNLINK = """
#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int unlink(const char *path)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}
"""

AMID_REMOVAL = """
for name in names[:10]:
    fs.unlink(name)
until(lambda: fs.status()["reclaimed_segments"])  # all that can come free is on its way
fs.write_file("more", os.urandom(400_000))
fs.close()
print("survived")
"""


def _on_a_small_disk(program, tmp_path, size_mb, **environment):
    (tmp_path / "program.py").write_text(program)
    disk = tmp_path / "disk"
    disk.mkdir()
    command = f"mount -t tmpfs -o size={size_mb}m none {disk} && exec {sys.executable} {tmp_path}/program.py {disk}"
    enter = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if subprocess.run([*enter, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    ended = subprocess.run([*enter, "sh", "-c", command], env=here, capture_output=True, text=True, timeout=280,
                           check=False)  # fmt: skip
    assert ended.stdout.strip() == "survived", ended.stderr[-3000:]


@pytest.mark.parametrize("size_mb", [64, 100, 300])
def test_what_is_removed_all_over_a_full_disk_comes_free(tmp_path, size_mb):
    _on_a_small_disk(FILLED + SPREAD, tmp_path, size_mb)


def test_compacting_takes_no_room_that_is_not_there_and_says_so(tmp_path):
    _on_a_small_disk(FILLED + OTHERS, tmp_path, 100)


def test_a_write_waits_for_a_segment_that_is_being_removed(tmp_path):
    (tmp_path / "slow.c").write_text(SLOW_UNLINK)
    slow = tmp_path / "slow.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", slow, tmp_path / "slow.c"], check=True)
    preloaded = [*os.environ.get("LD_PRELOAD", "").split(":"), str(slow)]  # a sanitizer comes first
    _on_a_small_disk(FILLED + AMID_REMOVAL, tmp_path, 64, LD_PRELOAD=":".join(filter(None, preloaded)))
