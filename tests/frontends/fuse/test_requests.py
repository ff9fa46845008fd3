"""The mount counts the requests of the kernel, each once."""

import os
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
    # Only root may have the kernel read further ahead than 128 KiB.
    assert after["read"] - before["read"] <= (10 if os.geteuid() == 0 else 40)


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
                           capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert (ended.stdout.strip(), ended.returncode) == (str(requests), 0), ended.stderr
