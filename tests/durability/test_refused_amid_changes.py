"""A write that a full disk has no room for is refused, however much others change what needs no room."""

import os
import subprocess
import sys

import pytest

#: Preloaded: a sync takes as long as on a disk, so that others change something during each.
SLOW_SYNC = """
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int fdatasync(int fd)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    return (int)syscall(SYS_fdatasync, fd);
}
"""

FILLED = """
import errno, os, sys, threading, time
from vexfs._core.fs import Filesystem
os.makedirs(sys.argv[1] + "/v/segments")
fs = Filesystem(sys.argv[1] + "/v", create=True, compression="none", segment_size=4 << 20, commit_delay_ms=3_600_000,
                commit_ops=1 << 30)  # who counts commits counts those of the writes alone
fs.write_file("other", b"")
ino, at = fs.open("f", os.O_RDWR | os.O_CREAT), 0
def refused():
    global at
    try:
        while True:
            at += fs.write(ino, bytes(500_000), at)
    except OSError as error:
        return error.errno == errno.ENOSPC
assert refused()
before, ended = fs.status()["commits"], threading.Event()
def most():
    return fs.status()["commits"] - before < 20
def touch():
    while not ended.is_set() and most():
        fs.utimens("other", None, time.time_ns())
threads = [threading.Thread(target=touch) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(8):
    while not fs.status()["dirty_operations"]:
        time.sleep(0.001)
    assert refused() and most(), "it went on as long as others did"
ended.set()
for thread in threads:
    thread.join()
fs.release(ino)
fs.unlink("f")
fs.close()
print("refused")
"""


def test_a_write_is_refused_while_others_go_on(tmp_path):
    (tmp_path / "filled.py").write_text(FILLED)
    (tmp_path / "slow.c").write_text(SLOW_SYNC)
    (tmp_path / "disk").mkdir()
    slow = tmp_path / "slow.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", slow, tmp_path / "slow.c"], check=True)
    preloaded = [*os.environ.get("LD_PRELOAD", "").split(":"), str(slow)]  # a sanitizer comes first
    environment = {**os.environ, "LD_PRELOAD": ":".join(filter(None, preloaded))}
    disk = tmp_path / "disk"
    command = f"mount -t tmpfs -o size=80m none {disk} && exec {sys.executable} {tmp_path}/filled.py {disk}"
    enter = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if subprocess.run([*enter, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    ended = subprocess.run([*enter, "sh", "-c", command], capture_output=True, text=True, timeout=280, check=False,
                           env=environment)  # fmt: skip
    assert ended.stdout.strip() == "refused", ended.stderr[-3000:]
