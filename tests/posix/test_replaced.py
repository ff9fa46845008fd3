"""A name that others rename over all the time leads to a file at every moment."""

import os
import threading

import pytest

import vexfs

REPLACEMENTS = 20_000
OPERATIONS = {
    "open": lambda fs: fs.release(fs.open("name", os.O_RDONLY)),
    "read_file": lambda fs: fs.read_file("name"),
    "chmod": lambda fs: fs.chmod("name", 0o600),
    "utimens": lambda fs: fs.utimens("name", 1, 2),
    "truncate": lambda fs: fs.truncate("name", 10),
    "setxattr": lambda fs: fs.setxattr("name", "user.a", b"b"),
    "getxattr": lambda fs: fs.getxattr("name", "user.own"),
    "listxattr": lambda fs: fs.listxattr("name"),
    "readlink": lambda fs: fs.readlink("link"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_by_path_meets_the_old_file_or_the_new_one(tmp_path, name):
    with vexfs.open(tmp_path / "v") as volume:
        fs, over, failed = volume.filesystem, threading.Event(), []

        def replace():
            if name == "readlink":
                fs.symlink("to", "new")
                fs.rename("new", "link")
            else:
                fs.write_file("new", b"content")
                fs.setxattr("new", "user.own", b"x")
                fs.rename("new", "name")

        def operate():
            while not over.is_set():
                try:
                    OPERATIONS[name](fs)
                except OSError as error:
                    failed.append(error)

        replace()
        threads = [threading.Thread(target=operate) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(REPLACEMENTS):
                replace()
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert not failed
        fs.unlink("link" if name == "readlink" else "name")
        with pytest.raises(FileNotFoundError):
            OPERATIONS[name](fs)
