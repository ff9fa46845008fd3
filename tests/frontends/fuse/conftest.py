"""Real mounts: of a daemon that the command started, and inside the process of the test."""

import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from vexfs.frontends.fuse import mountpoint as place

from tests.capabilities import SYS_ADMIN, may
from tests.waiting import until
from vexfs.volume import Volume

VEXFS = [sys.executable, "-c", "from vexfs.cli.main import vexfs; vexfs()"]


def why_no_mounts() -> str | None:
    if find_spec("llfuse") is None:  # not imported: that is left to the mount, which has something to do before
        return "llfuse is not installed"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse cannot be opened: {error.strerror}"
    if not may(SYS_ADMIN, "CapBnd"):
        return "nothing may be mounted in this container"
    return None if os.geteuid() == 0 or shutil.which("fusermount") else "fusermount is not installed"


NO_MOUNTS = why_no_mounts()


def pytest_collection_modifyitems(items):
    if NO_MOUNTS:
        for item in items:
            if {"disk", "shared_disk", "inside"} & set(item.fixturenames):
                item.add_marker(pytest.mark.skip(reason=NO_MOUNTS))


class Disk:
    """A volume mounted by ``vexfs mount`` in the foreground of a process of its own."""

    def __init__(self, home: Path, options: str = "") -> None:
        self.volume = home / "volume.vex"
        self.path = home / "mnt"
        self.log = home / "log"
        self.options = options
        self.path.mkdir()
        Volume.create(self.volume).close()
        self.process: subprocess.Popen[bytes] | None = None

    def mount(self, options: str | None = None) -> None:
        """Returns when the mount answers."""
        words = self.options if options is None else options
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*VEXFS, "mount", "-f", self.volume, self.path, *(["-o", words] if words else [])],
                stdout=log,
                stderr=log,
            )
        program = self.process
        until(lambda: os.path.ismount(self.path) or program.poll() is not None)
        assert program.poll() is None, f"did not mount:\n{self.log.read_text()}"

    def unmount(self) -> None:
        """Waits until the volume is closed."""
        place.unmount(str(self.path))
        assert self.process is not None
        assert self.process.wait(120) == 0, self.log.read_text()

    def kill(self) -> None:
        """As a crash would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(120)
        place.unmount(str(self.path), lazy=True)

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if place.find(str(self.path)):
            place.unmount(str(self.path), lazy=True)

    def status(self) -> dict[str, str]:
        """What ``.vexfs/status`` tells."""
        lines = (self.path / ".vexfs" / "status").read_text().splitlines()
        return dict(line.split(": ", 1) for line in lines if ": " in line)


@pytest.fixture
def disk(tmp_path):
    """A fresh volume, mounted by a process of its own."""
    made = Disk(tmp_path)
    try:
        made.mount()
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def shared_disk(tmp_path_factory):
    """One mounted volume for all tests of a module."""
    made = Disk(tmp_path_factory.mktemp("disk"), "allow_other" if os.geteuid() == 0 else "")
    try:
        made.mount()
        yield made
        assert made.status()["faults"] == "0", made.log.read_text()
    finally:
        made.end()


@pytest.fixture
def here(shared_disk, request):
    """A directory of the test's own on the shared mount."""
    path = shared_disk.path / f"t{abs(hash(request.node.nodeid)):x}"
    path.mkdir()
    return path


@pytest.fixture
def inside(tmp_path):
    """A volume mounted by this very process: the open volume, the mountpoint, the mount."""
    (tmp_path / "mnt").mkdir()
    with Volume.create(tmp_path / "volume.vex") as volume:
        with volume.mount(tmp_path / "mnt") as mount:
            yield volume, tmp_path / "mnt", mount
