"""Directories under judgement: a mounted volume and, as a check of the suite itself, one of the host's."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from tests.frontends.fuse.conftest import NO_MOUNTS, Disk
from vexfs.testing.posix import Target, calls


@pytest.fixture(scope="session")
def home():
    """A directory that others can pass: those of pytest are closed to them by every run that begins."""
    with tempfile.TemporaryDirectory(prefix="vexfs-posix-", dir="/var/tmp", ignore_cleanup_errors=True) as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture(scope="session")
def mounted_target(home):
    if NO_MOUNTS:
        pytest.skip(NO_MOUNTS)
    made = Disk(home, "allow_other,default_permissions" if os.geteuid() == 0 else "")
    try:
        made.mount()
        target = Target(str(made.path), step_s=0.012, file_max=1 << 44)
        yield target
        target.close()
        assert made.status()["faults"] == "0", made.log.read_text()
    finally:
        made.end()


@pytest.fixture(scope="session")
def native_target(home):
    path = home / "native"
    path.mkdir()
    target = Target(str(path), step_s=0.012, lacks=NATIVE_LACKS | lacks_of_the_host(home))
    try:
        yield target
    finally:
        target.close()


def lacks_of_the_host(home: Path) -> dict[str, str]:
    """What the host's filesystem refuses and some of Linux's own allow."""
    with open(home / "probe", "wb") as probe:
        calls_of_a_case = {
            "content.fallocate": lambda: calls.fallocate(probe.fileno(), calls.ZERO_RANGE, 0, 1),  # tmpfs
            "names.symlinks": lambda: os.symlink("t" * 4095, home / "long"),  # XFS
            "attributes.devices": lambda: os.mknod(home / "dev", stat.S_IFCHR, os.makedev(4095, 65535)),  # XFS
        }
        lacks = {}
        for case, call in calls_of_a_case.items():
            try:
                call()
            except OSError as error:
                lacks[case] = f"the host's filesystem: {error.strerror}"
    return lacks


#: What Linux's own disk filesystems do not promise, and VexFS does.
NATIVE_LACKS = {
    "extended.value_of_64_kib": "ext4 keeps attributes in one block",
    "extended.many": "ext4 keeps attributes in one block",
    "xattrs larger than a block": "ext4",
    "times before 1901 or after 2446": "ext4",
    "content.terabytes": "the host's limit on a file's size may be lower",
}
