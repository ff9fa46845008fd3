"""Files that begin without a name, on a real mount."""

import errno
import os

from tests.frontends.fuse.test_posix import fails_with


def link_open(fd, path):
    """linkat(2) of the file that is open."""
    os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=0, follow_symlinks=True)


def test_a_file_without_a_name_is_given_one(here):
    fd = os.open(here, os.O_TMPFILE | os.O_RDWR, 0o640)
    try:
        os.write(fd, b"x" * 100_000)
        assert os.fstat(fd).st_nlink == 0
        assert os.listdir(here) == []
        link_open(fd, here / "a")
        assert (here / "a").read_bytes() == b"x" * 100_000
        assert (os.fstat(fd).st_nlink, os.fstat(fd).st_mode) == (1, 0o100640)
        with fails_with(errno.EEXIST):
            link_open(fd, here / "a")
        os.unlink(here / "a")
        with fails_with(errno.ENOENT):
            link_open(fd, here / "a")
    finally:
        os.close(fd)
    fd = os.open(here, os.O_TMPFILE | os.O_RDWR | os.O_EXCL)
    with fails_with(errno.ENOENT):
        link_open(fd, here / "a")
    os.close(fd)
    assert os.listdir(here) == []
