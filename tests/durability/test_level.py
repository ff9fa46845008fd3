"""Work leaves nothing behind: memory, descriptors and files stay level."""

import ctypes
import gc
import os
import random

import pytest

from tests.waiting import until
from vexfs.testing.session import SMALL
from vexfs.testing.workload import SHARED, Actor, Workload


def resident():
    """Bytes that the process holds, without what its allocator keeps of freed blocks: that varies by megabytes."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def threads():
    return len(os.listdir("/proc/self/task"))


def a_round(fs, seed, count):
    """Some work in a directory of its own, which is removed at its end."""
    load = Workload(seed)
    operations = []
    for _ in range(count):
        operations.append(load.draw())
        load.advance(operations[-1])
    return operations, load


def clear(fs, path):
    for name, _, kind in list(fs.scandir(path)):
        inner = path.rstrip(b"/") + b"/" + name
        if kind == 0o040000:
            clear(fs, inner)
            fs.rmdir(inner)
        else:
            fs.unlink(inner)


def cycle(fs, operations):
    fs.mkdir(SHARED, 0o755)
    actor = Actor(fs)
    for operation in operations:
        actor.run(operation)
    actor.drop_all()
    clear(fs, b"/")
    fs.sync()


@pytest.mark.parametrize(
    ("rounds", "count"), [(12, 120), pytest.param(150, 1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_work_leaves_nothing_behind(volume, tmp_path, rounds, count):
    fs = volume(**SMALL)
    made = [a_round(fs, seed, count)[0] for seed in range(4)]
    for k in range(len(made) * 2):
        cycle(fs, made[k % len(made)])
    fs.drop_caches()
    before = resident(), descriptors()
    for _ in range(rounds):
        cycle(fs, random.choice(made))
    fs.drop_caches()
    grown = resident() - before[0]
    assert grown < (4 << 20) + rounds * 20_000, f"{grown} bytes more after {rounds} rounds"
    assert descriptors() <= before[1] + 8  # of segments: an idle one is closed in time
    for _ in range(6):
        fs.sync()
        fs.compact()
    status = fs.status()
    assert status["files"] == 1
    assert status["used_bytes"] == 0
    assert status["dirty_bytes"] == status["frozen_bytes"] == 0
    fs.close()
    fs = volume(**SMALL)
    assert fs.status()["live_bytes"] == 0
    until(lambda: fs.status()["segments"] <= 1)  # what was emptied last goes after opening, in the background
    names = {path.name for path in (tmp_path / "volume").iterdir()}
    assert names <= {"meta.db", "meta.db-wal", "segments"}


def test_opening_and_closing_leaves_no_descriptor_and_no_thread(volume, tmp_path):
    volume().close()
    gc.collect()  # what earlier tests left open closes now, not between the two counts
    before = descriptors(), threads()
    for _ in range(20):
        fs = volume()
        fs.write_file("a", os.urandom(50_000))
        fs.close()
    assert descriptors() <= before[0]
    until(lambda: threads() <= before[1])  # whoever joined one is told a moment before it is gone
