"""Directories under judgement: a mounted volume and, as a check of the suite itself, one of the host's."""

import os
import shutil
import tempfile

import pytest

from tests.frontends.fuse.conftest import NO_MOUNTS, Disk
from vexfs.testing.posix import Target


def open_the_way(path):
    """The host's temporary directories are their maker's alone; the suite's other users have to pass."""
    while path != os.path.dirname(path) and os.stat(path).st_uid == os.geteuid() and path.startswith("/tmp/"):
        os.chmod(path, os.stat(path).st_mode | 0o755)
        path = os.path.dirname(path)


@pytest.fixture(scope="session")
def mounted_target(tmp_path_factory):
    if NO_MOUNTS:
        pytest.skip(NO_MOUNTS)
    made = Disk(tmp_path_factory.mktemp("posix"), "allow_other,default_permissions" if os.geteuid() == 0 else "")
    try:
        made.mount()
        open_the_way(str(made.path.parent))
        target = Target(str(made.path), step_s=0.012, file_max=1 << 44)
        yield target
        target.close()
        assert made.status()["faults"] == "0", made.log.read_text()
    finally:
        made.end()


@pytest.fixture(scope="session")
def native_target():
    path = tempfile.mkdtemp(prefix="vexfs-native-", dir="/var/tmp")
    os.chmod(path, 0o755)
    target = Target(path, step_s=0.012, lacks=NATIVE_LACKS)
    try:
        yield target
    finally:
        target.close()
        shutil.rmtree(path, ignore_errors=True)


#: What Linux's own disk filesystems do not promise, and VexFS does.
NATIVE_LACKS = {
    "extended.value_of_64_kib": "ext4 keeps attributes in one block",
    "extended.many": "ext4 keeps attributes in one block",
    "xattrs larger than a block": "ext4",
    "times before 1901 or after 2446": "ext4",
    "content.terabytes": "the host's limit on a file's size may be lower",
}
