"""Calls of the host that fail: operations say so, lose nothing, and all goes on when the fault is gone."""

import errno
import os
import random
import subprocess
import sys

import pytest

from tests.waiting import until
from vexfs._core import io
from vexfs.testing.session import SMALL, work
from vexfs.testing.workload import SHARED, Workload, differences, read_state

WRITING = ("create", "write", "truncate", "sync", "unlink", "rename", "syncdir")


def stumble(fs, load, kinds, after, err, before=40, during=60, behind=40):
    """Work on both filesystems; for a time the host's calls fail.  The errnos that the volume answered meanwhile."""
    fs.mkdir(SHARED, 0o755)
    failures, seen = [], set()
    actor = work(fs, load, 0, before, lambda _: None, failures)
    io.fault(kinds, after, err)
    for _ in range(during):
        operation = load.draw()
        answer = actor.run(operation)
        if answer[0] == err:
            seen.add(operation.name)
            load.queue.clear()
            continue
        expected = load.advance(operation)
        if operation.name == "hold" and answer[0] != expected[0]:
            load.actor.drop(operation.args[0])
        assert answer[0] == expected[0], operation
    io.clear_fault()
    fs.sync()
    assert differences(read_state(fs), load.state()) == []
    for _ in range(behind):
        operation = load.draw()
        assert actor.run(operation)[0] == load.advance(operation)[0], operation
    actor.drop_all()
    assert failures == []
    return seen


def through(volume, tmp_path, seed, kinds, after, err, **options):
    fs = volume(**{**SMALL, "commit_delay_ms": 20, **options})
    load = Workload(seed)
    seen = stumble(fs, load, kinds, after, err)
    fs.close()
    again = volume(**SMALL)
    assert differences(read_state(again), load.state()) == []
    status = again.status()
    again.close()
    assert status["files"] == len({line[-1] for line in load.state().values()})
    return seen


@pytest.mark.parametrize("err", [errno.EIO, errno.ENOSPC, errno.EDQUOT], ids=lambda e: errno.errorcode[e])
@pytest.mark.parametrize("kinds", [("write",), ("sync",), ("create", "truncate"), WRITING], ids="-".join)
def test_a_host_that_fails_for_a_while(volume, tmp_path, kinds, err):
    rng = random.Random(err)
    through(volume, tmp_path, rng.randrange(1 << 20), kinds, rng.randrange(8), err)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(8))
def test_a_host_that_fails_at_every_call(volume, tmp_path, seed):
    seen = set()
    for after in range(40):
        err = (errno.EIO, errno.ENOSPC)[after % 2]
        kinds = [("write",), ("sync",), ("truncate",), ("create",), ("unlink",), ("syncdir",), WRITING][after % 7]
        where = tmp_path / str(after)
        fs = volume(where, **SMALL)
        load = Workload(seed * 100 + after)
        seen |= stumble(fs, load, kinds, after, err)
        fs.close()
        again = volume(where, **SMALL)
        assert differences(read_state(again), load.state()) == []
        again.close()
    assert "fsync" in seen


def test_a_failed_sync_is_reported_to_fsync_and_made_good_by_the_next(volume):
    fs = volume(commit_delay_ms=60_000)
    fs.write_file("a", os.urandom(300_000))
    io.fault("sync", 0, errno.EIO)
    for _ in range(3):
        with pytest.raises(OSError) as caught:
            fs.fsync()
        assert caught.value.errno == errno.EIO
    assert fs.status()["last_error"]
    io.clear_fault()
    fs.fsync()
    assert not fs.status()["last_error"]
    fs.write_file("b", os.urandom(300_000))
    fs.fsync()
    fs.close()


def test_operations_go_on_in_memory_while_nothing_can_be_written(volume):
    fs = volume(commit_delay_ms=60_000, dirty_limit=4 << 20)  # else a name may be committed before its bytes are there
    fs.write_file("before", b"x" * 100_000)
    fs.sync()
    io.fault(WRITING, 0, errno.ENOSPC)
    fs.write_file("meanwhile", b"y" * 100_000)
    with pytest.raises(OSError) as caught:
        fs.fsync()
    assert caught.value.errno == errno.ENOSPC
    assert fs.read_file("meanwhile") == b"y" * 100_000
    assert fs.read_file("before") == b"x" * 100_000
    with pytest.raises(OSError) as caught:  # a bound on what memory takes
        for k in range(200):
            fs.write_file(f"more{k}", b"z" * 100_000)
    assert caught.value.errno == errno.ENOSPC
    fs.unlink("before")
    with pytest.raises(OSError) as caught:  # its bytes still wait for their place
        fs.truncate("meanwhile", 10)
    assert caught.value.errno == errno.ENOSPC
    io.clear_fault()
    fs.sync()
    assert fs.read_file("meanwhile") == b"y" * 100_000
    fs.truncate("meanwhile", 10)
    assert fs.read_file("meanwhile") == b"y" * 10


def test_a_limit_is_kept_to_and_room_comes_back(volume):
    fs = volume(size_limit=2 << 20, commit_delay_ms=5)
    kept = {}
    with pytest.raises(OSError) as caught:
        for k in range(100):
            data = os.urandom(100_000)
            fs.write_file(f"f{k}", data)
            kept[f"f{k}"] = data
    assert caught.value.errno == errno.EDQUOT
    assert 10 <= len(kept) <= 20
    for name, data in kept.items():
        assert fs.read_file(name) == data
    for name in list(kept)[:5]:
        fs.unlink(name)
        del kept[name]
    fs.write_file("again", os.urandom(400_000))
    fs.sync()
    assert all(fs.read_file(name) == data for name, data in kept.items())


FULL = """
import errno, os, sys
from vexfs._core.fs import Filesystem
root = sys.argv[1]
os.mkdir(root + "/segments")
fs = Filesystem(root, create=True, commit_delay_ms=5, segment_size=1 << 20, compression="none", log_limit=1 << 20)
kept = {}
refused = None
for k in range(2000):
    data = os.urandom(50_000)
    try:
        fs.write_file(f"f{k}", data)
        if k % 7 == 0:
            fs.fsync()
    except OSError as error:
        refused = error.errno
        break
    kept[f"f{k}"] = data
assert refused == errno.ENOSPC, refused
assert len(kept) > 50, len(kept)
for name, data in kept.items():
    assert fs.read_file(name) == data, name
for name in list(kept)[::2]:
    fs.unlink(name)
    del kept[name]
for round in range(20):
    fs.sync()
    fs.compact()
for k in range(5):
    kept[f"again{k}"] = os.urandom(100_000)
    fs.write_file(f"again{k}", kept[f"again{k}"])
fs.sync()
fs.close()
fs = Filesystem(root)
assert set(kept) <= {name.decode() for name, _, _ in fs.scandir("/")}
for name, data in kept.items():
    assert fs.read_file(name) == data, name
fs.close()
print("survived")
"""


def test_a_host_that_is_really_full(tmp_path):
    """On a small tmpfs of its own mount namespace."""
    program = tmp_path / "full.py"
    program.write_text(FULL)
    command = f"mount -t tmpfs -o size=16m none {tmp_path}/disk && exec {sys.executable} {program} {tmp_path}/disk"
    (tmp_path / "disk").mkdir()
    enter = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if subprocess.run([*enter, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    ended = subprocess.run([*enter, "sh", "-c", command], capture_output=True, text=True, timeout=280, check=False)
    assert ended.stdout.strip() == "survived", ended.stderr[-3000:]


ROOM_AGAIN = """
import os, sys, time
from vexfs._core.fs import Filesystem
os.makedirs(sys.argv[1] + "/v/segments")
fs = Filesystem(sys.argv[1] + "/v", create=True, compression="none")
names = []
for round in range(3):
    ino = 0
    try:
        while True:
            names.append(f"f{len(names)}-{round}")
            ino = fs.open(names[-1], os.O_RDWR | os.O_CREAT, 0o644)
            for k in range(40):
                fs.write(ino, os.urandom(1 << 20), k << 20)
            fs.release(ino)
            ino = 0
    except OSError:
        if ino:
            fs.release(ino)
        else:
            names.pop()
    for _ in range(2):  # a part of one segment lives on, and most of the one that is written to is dead
        fs.unlink(names.pop())
    fs.fsync()
    for _ in range(400):
        try:
            fs.write_file("more", os.urandom(8 << 20))
            break
        except OSError:
            time.sleep(0.1)
    else:
        sys.exit(f"stays full: {fs.status()}")
    fs.unlink("more")
fs.close()
print("survived")
"""


@pytest.mark.parametrize("size_mb", [64, 160])
def test_a_host_that_was_full_has_room_again_when_something_is_removed(tmp_path, size_mb):
    (tmp_path / "room.py").write_text(ROOM_AGAIN)
    (tmp_path / "disk").mkdir()
    disk = tmp_path / "disk"
    command = f"mount -t tmpfs -o size={size_mb}m none {disk} && exec {sys.executable} {tmp_path}/room.py {disk}"
    enter = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if subprocess.run([*enter, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    ended = subprocess.run([*enter, "sh", "-c", command], capture_output=True, text=True, timeout=280, check=False)
    assert ended.stdout.strip() == "survived", ended.stderr[-3000:]


REWRITTEN = """
import os, sys
from vexfs._core.fs import Filesystem
os.makedirs(sys.argv[1] + "/v/segments")
fs = Filesystem(sys.argv[1] + "/v", create=True, compression="none", segment_size=4 << 20)
data = os.urandom(500_000)
ino = fs.open("f", os.O_RDWR | os.O_CREAT)
for round in range(40):
    for k in range(40):
        fs.write(ino, data, k * 500_000)
    fs.fsync(ino)
fs.release(ino)
fs.close()
print("survived")
"""


def test_what_is_dead_on_a_full_disk_is_given_back_before_a_write_is_refused(tmp_path):
    (tmp_path / "rewritten.py").write_text(REWRITTEN)
    disk = tmp_path / "disk"
    disk.mkdir()
    command = f"mount -t tmpfs -o size=80m none {disk} && exec {sys.executable} {tmp_path}/rewritten.py {disk}"
    enter = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if subprocess.run([*enter, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    ended = subprocess.run([*enter, "sh", "-c", command], capture_output=True, text=True, timeout=280, check=False)
    assert ended.stdout.strip() == "survived", ended.stderr[-3000:]


LONG_LOG = """
import os, sys, time
from vexfs._core.fs import Filesystem
os.makedirs(sys.argv[1] + "/v/segments")
fs = Filesystem(sys.argv[1] + "/v", create=True, compression="none", commit_delay_ms=5)
names = []
try:
    while True:
        fs.write_file(f"f{len(names)}", os.urandom(120_000))
        names.append(f"f{len(names)}")
        fs.fsync()
except OSError:
    pass
for name in names[1:]:
    fs.unlink(name)
    if len(sys.argv) < 3:
        fs.fsync()
log = os.path.getsize(sys.argv[1] + "/v/meta.db-wal")
deadline = time.monotonic() + (float(sys.argv[2]) if len(sys.argv) > 2 else 60)
while time.monotonic() < deadline:
    try:
        fs.write_file("more", bytes(20 << 20))
        break
    except OSError:
        time.sleep(0.1)
else:
    sys.exit(f"stays full: {log} {os.statvfs(sys.argv[1])} {fs.status()}")
fs.close()
print("survived")
"""


@pytest.mark.parametrize("within_s", ["", "3"], ids=["synced", "not synced"])
def test_on_a_full_host_the_log_takes_no_more_than_is_kept_for_it(tmp_path, within_s):
    """So what is removed makes room, at once also when nobody syncs it: a segment goes when that is durable."""
    (tmp_path / "log.py").write_text(LONG_LOG)
    (tmp_path / "disk").mkdir()
    disk = tmp_path / "disk"
    command = f"mount -t tmpfs -o size=64m none {disk} && exec {sys.executable} {tmp_path}/log.py {disk} {within_s}"
    enter = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if subprocess.run([*enter, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")

    def survived():
        ended = subprocess.run([*enter, "sh", "-c", command], capture_output=True, text=True, timeout=280, check=False)
        assert ended.stdout or "stays full" in ended.stderr, ended.stderr[-3000:]
        return ended.stdout.strip() == "survived"

    until(survived)  # a busy machine is given time again; what waits for a sync never has enough


def test_what_is_removed_leaves_the_disk_without_another_commit(volume):
    fs = volume(segment_size=1 << 20, compression="none")
    fs.write_file("big", os.urandom(8 << 20))
    fs.write_file("small", b"x" * 100_000)
    fs.sync()
    fs.unlink("big")
    fs.sync()
    until(lambda: fs.status()["disk_bytes"] <= 2 << 20)


def test_a_segment_that_could_be_neither_made_nor_removed_is_passed_over(volume, tmp_path):
    fs = volume(commit_delay_ms=60_000)
    data = os.urandom(300_000)
    fs.write_file("a", data)
    io.fault(("write", "unlink"), 0, errno.EIO)
    with pytest.raises(OSError) as caught:
        fs.fsync()
    assert caught.value.errno == errno.EIO
    io.clear_fault()
    fs.fsync()
    fs.drop_caches()
    assert fs.read_file("a") == data
    fs.close()
    again = volume()
    until(lambda: again.status()["segments"] == len(list((tmp_path / "volume" / "segments").iterdir())))
    assert again.read_file("a") == data


def test_what_memory_keeps_is_bounded_also_of_small_files_and_names(volume):
    fs = volume(commit_delay_ms=5, commit_ops=50, dirty_limit=512 << 10)
    fs.mkdir("d")
    fs.sync()
    io.fault(("write", "sync"), 0, errno.EIO)
    kept = {}
    with pytest.raises(OSError, match="Input/output") as caught:
        for k in range(1000):
            fs.write_file(f"d/{k}", b"%d" % k * 1000)
            kept[f"d/{k}"] = b"%d" % k * 1000
    assert caught.value.errno == errno.EIO and kept
    with pytest.raises(OSError, match="Input/output") as caught:
        for k in range(1000):
            fs.mkdir(f"e{k}")
    fs.unlink("d/0")
    del kept["d/0"]
    io.clear_fault()
    fs.sync()
    fs.mkdir("again")
    assert {name: fs.read_file(name) for name in kept} == kept


WITHOUT_MEMORY = """
import errno, os, resource, sys
from vexfs._core.fs import Filesystem

fs = Filesystem(sys.argv[1], create=True, commit_delay_ms=60_000, commit_ops=100_000, dirty_limit=1 << 30)
fs.write_file("before", b"x" * 50_000)
fs.sync()
names = [f"f{k}" for k in range(120)]
for name in names:
    fs.write_file(name, b"")
    for k in range(12):
        fs.setxattr(name, f"user.{k}", os.urandom(65536))
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (24 << 20), hard))
try:
    fs.fsync()
    print("enough memory", flush=True)
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
try:
    fs.fsync()
    print("done", flush=True)
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
os._exit(0)
"""


def test_an_epoch_for_which_memory_ran_out_is_never_committed_in_part(tmp_path, volume):
    (tmp_path / "volume" / "segments").mkdir(parents=True)
    command = [sys.executable, "-c", WITHOUT_MEMORY, str(tmp_path / "volume")]
    first, second = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:2]
    fs = volume()
    names = {name.decode() for name, *_ in fs.scandir("/")}
    if first == "ENOMEM" and second == "ENOMEM":
        assert names == {"before"}
    else:
        assert second == "done" and len(names) == 121
        assert all(len(fs.listxattr(name)) == 12 for name in names - {"before"})
