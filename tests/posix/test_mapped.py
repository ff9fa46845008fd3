"""Random reads, writes, mappings and truncations of one file on a mount, against a bytearray."""

import contextlib
import mmap
import os
import random
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.frontends.fuse.conftest import NO_MOUNTS, Disk
from vexfs.testing.posix import calls

MOST = 400_000
PLACES = st.one_of(st.integers(0, MOST), st.builds(lambda p, by: max(0, p * 4096 + by), st.integers(0, 90),
                                                   st.integers(-2, 2)))  # fmt: skip
LENGTHS = st.one_of(st.integers(1, 9000), st.integers(1, 140_000))


class Mapped(RuleBasedStateMachine):
    """One open file; the disk outlives the machine's runs, each of which has a file of its own."""

    disk: Disk

    def __init__(self) -> None:
        super().__init__()
        fd, self.path = tempfile.mkstemp(dir=self.disk.path)
        self.fd, self.model = fd, bytearray()

    def teardown(self) -> None:
        self.reopen()
        os.close(self.fd)
        os.unlink(self.path)

    def patch(self, at: int, data: bytes) -> None:
        if len(self.model) < at + len(data):
            self.model.extend(bytes(at + len(data) - len(self.model)))
        self.model[at : at + len(data)] = data

    @rule(at=PLACES, n=LENGTHS, seed=st.integers(0, 999))
    def write(self, at: int, n: int, seed: int) -> None:
        data = random.Random(seed).randbytes(n)
        assert os.pwrite(self.fd, data, at) == n
        self.patch(at, data)

    @rule(at=PLACES, n=LENGTHS)
    def read(self, at: int, n: int) -> None:
        assert os.pread(self.fd, n, at) == self.model[at : at + n]

    @rule(at=PLACES, n=LENGTHS, seed=st.integers(0, 999), flush=st.booleans())
    def write_mapped(self, at: int, n: int, seed: int, flush: bool) -> None:
        n = min(n, len(self.model) - at)
        if n > 0:
            data = random.Random(seed).randbytes(n)
            with mmap.mmap(self.fd, len(self.model)) as mapped:
                assert mapped[at : at + n] == self.model[at : at + n]
                mapped[at : at + n] = data
                if flush:
                    mapped.flush()
            self.patch(at, data)

    @rule(size=PLACES)
    def truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)
        self.model = self.model[:size] + bytes(max(0, size - len(self.model)))

    @rule(at=PLACES, n=LENGTHS)
    def punch(self, at: int, n: int) -> None:
        calls.fallocate(self.fd, calls.KEEP_SIZE | calls.PUNCH_HOLE, at, n)
        self.model[at : at + n] = bytes(max(0, min(n, len(self.model) - at)))

    @rule(at=PLACES, n=LENGTHS, keep=st.booleans(), zero=st.booleans())
    def allocate(self, at: int, n: int, keep: bool, zero: bool) -> None:
        calls.fallocate(self.fd, keep * calls.KEEP_SIZE | zero * calls.ZERO_RANGE, at, n)
        if zero:
            self.model[at : at + n] = bytes(max(0, min(n, len(self.model) - at)))
        if not keep:
            self.model.extend(bytes(max(0, at + n - len(self.model))))

    @rule()
    def sync(self) -> None:
        os.fsync(self.fd)

    @rule()
    def drop_caches(self) -> None:
        os.fsync(self.fd)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        with contextlib.suppress(OSError), open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("1")
        self.whole()

    @rule(remount=st.booleans())
    def reopen(self, remount: bool = False) -> None:
        os.close(self.fd)
        if remount:
            self.disk.unmount()
            self.disk.mount()
        self.fd = os.open(self.path, os.O_RDWR)
        self.whole()

    def whole(self) -> None:
        assert os.pread(self.fd, 2 * MOST, 0) == self.model

    @invariant()
    def size_agrees(self) -> None:
        assert os.fstat(self.fd).st_size == len(self.model)


def play(home: Path, examples: int, steps: int, *, repeatable: bool) -> None:
    Mapped.disk = Disk(home)
    try:
        Mapped.disk.mount()
        run_state_machine_as_test(
            Mapped,
            settings=settings(
                max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=repeatable, database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        Mapped.disk.end()


@pytest.mark.skipif(NO_MOUNTS is not None, reason=NO_MOUNTS or "")
def test_a_mounted_file_holds_what_was_written(tmp_path: Path) -> None:
    play(tmp_path, 5, 30, repeatable=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(NO_MOUNTS is not None, reason=NO_MOUNTS or "")
def test_a_mounted_file_holds_what_was_written_for_long(tmp_path: Path) -> None:
    play(tmp_path, 60, 100, repeatable=False)
