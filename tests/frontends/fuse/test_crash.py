"""The process behind a mount is killed at any moment; what was synced is there afterwards, and the rest is sound."""

import contextlib
import hashlib
import os
import random
import signal
import threading
import time

import pytest
from vexfs.frontends.fuse import mountpoint as place

from tests.waiting import until
from vexfs.volume import Volume, check


def body(name: str, generation: int) -> bytes:
    """What a file of that name and generation holds."""
    return hashlib.sha256(f"{name} {generation}".encode()).digest() * (50 + generation % 400)


class Load(threading.Thread):
    """Writes and syncs new generations of files, by rename, until the mount dies under it."""

    def __init__(self, top, k, first):
        super().__init__()
        self.top, self.k, self.first = top, k, first
        self.synced: dict[str, int] = {}  # acknowledged
        self.tried: dict[str, int] = {}

    def run(self):
        chance = random.Random(self.k)
        try:
            for generation in range(self.first, self.first + 100_000):
                name = f"f{self.k}.{chance.randrange(10)}"
                self.tried[name] = generation
                fd = os.open(self.top / f"{name}.new", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
                try:
                    os.write(fd, body(name, generation))
                    os.fsync(fd)
                    os.rename(self.top / f"{name}.new", self.top / name)
                    os.fsync(fd)
                finally:
                    os.close(fd)
                self.synced[name] = generation
        except OSError:
            return


def test_a_file_without_a_name_leaves_nothing_when_the_process_is_killed(disk):
    kept, lost = (os.open(disk.path, os.O_TMPFILE | os.O_RDWR) for _ in range(2))
    for fd in (kept, lost):
        os.write(fd, b"x" * 200_000)
        os.fsync(fd)
    os.link(f"/proc/self/fd/{kept}", disk.path / "kept", src_dir_fd=0, follow_symlinks=True)
    os.fsync(kept)
    disk.kill()
    for fd in (kept, lost):
        with contextlib.suppress(OSError):
            os.close(fd)
    disk.mount()
    assert (disk.path / "kept").read_bytes() == b"x" * 200_000
    disk.unmount()
    with Volume.load(disk.volume) as volume:
        assert volume.filesystem.status()["files"] == 2  # the root, and the one that has a name
    assert check(disk.volume).sound


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_killed_under_load(disk, seed):
    chance = random.Random(seed)
    known: dict[str, tuple[int, int]] = {}
    for turn in range(3):
        loads = [Load(disk.path, k, turn * 100_000) for k in range(3)]
        for load in loads:
            load.start()
        time.sleep(chance.uniform(0.2, 0.8))
        until(lambda loads=loads: all(load.synced for load in loads))
        assert disk.process is not None
        disk.process.kill()
        disk.process.wait()
        for load in loads:
            load.join(120)
            assert not load.is_alive()
            for name, tried in load.tried.items():
                known[name] = (load.synced.get(name, known.get(name, (-1, -1))[0]), tried)
        place.unmount(str(disk.path), lazy=True)
        disk.mount()
        assert any(synced >= 0 for synced, _ in known.values())
        found: dict[str, int] = {}
        for name, (synced, tried) in known.items():
            try:
                data = (disk.path / name).read_bytes()
            except FileNotFoundError:
                assert synced < 0, f"{name}: generation {synced} was synced and is gone"
                continue
            # The name leads to the synced generation or to one that was renamed there later, whole.
            found[name] = next((g for g in range(max(synced, 0), tried + 1) if data == body(name, g)), -1)
            assert found[name] >= 0, f"{name}: neither generation {synced} nor a later one up to {tried}"
        known = {name: (generation, generation) for name, generation in found.items()}
        for name in os.listdir(disk.path):
            (disk.path / name).read_bytes()  # nothing unreadable
        break_off = {name for name in os.listdir(disk.path) if name.endswith(".new")}
        for name in break_off:
            os.unlink(disk.path / name)


def test_unlinked_files_that_were_open_do_not_stay(disk):
    held = [os.open(disk.path / f"f{i}", os.O_CREAT | os.O_RDWR) for i in range(20)]
    for i, fd in enumerate(held):
        os.write(fd, b"x" * 50_000)
        os.unlink(disk.path / f"f{i}")
    os.fsync(held[0])
    files = int(disk.status()["files"])
    assert files >= 21
    disk.kill()
    disk.mount()
    for fd in held:
        with pytest.raises(OSError):
            os.fstat(fd) if os.pread(fd, 1, 0) else None
    for fd in held:
        try:
            os.close(fd)
        except OSError:
            pass
    assert int(disk.status()["files"]) == 1
    assert os.listdir(disk.path) == []


def test_ended_by_a_signal_while_all_its_workers_wait_for_the_disk(disk):
    def use(file):
        with contextlib.suppress(OSError), file:
            while True:
                file.write(bytes(100_000))
                os.fsync(file.fileno())

    disk.unmount()
    for _ in range(3):
        disk.mount("workers=2")
        files = [(disk.path / f"f{k}").open("wb", buffering=0) for k in range(8)]
        programs = [threading.Thread(target=use, args=(file,)) for file in files]
        for program in programs:
            program.start()
        time.sleep(0.3)
        disk.process.send_signal(signal.SIGTERM)
        assert disk.process.wait(120) == 0, disk.log.read_text()
        for program in programs:
            program.join(120)
            assert not program.is_alive()
