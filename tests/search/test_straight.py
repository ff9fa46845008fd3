import numpy as np
import pytest

from vexfs.errors import InvalidArgument


@pytest.fixture
def linked(fs):
    """An index on one directory, and a link in it that leads to another."""
    fs.mkdir("other")
    fs.write_text("other/file", "as it was")
    index = fs.index("own", dim=2)
    fs.makedirs("own/sub")
    fs.symlink("../../other", "own/sub/link")
    return index


def test_ids_name_files_below_the_directory_itself(fs, linked):
    for name in ("sub/link/file", "sub/link/new", "sub/link/a/b"):
        with pytest.raises(InvalidArgument, match="symbolic link.*sub/link"):
            linked.upsert([name], np.ones((1, 2)), contents=["evil"])
        with pytest.raises(InvalidArgument, match="symbolic link"):
            linked.get([name])
        with pytest.raises(InvalidArgument, match="symbolic link"):
            linked.delete([name])
    assert fs.listdir("other") == ["file"] and fs.read_text("other/file") == "as it was"


def test_directories_in_ids_are_made_and_found(linked):
    linked.upsert(["sub/a/x", "sub/y", "z"], np.eye(3, 2) + 1)
    assert [found.id for found in linked.get(["sub/a/x", "sub/y", "z"])] == ["sub/a/x", "sub/y", "z"]
    assert linked.get("sub/none/x") is None and linked.delete(["sub/a/x", "none/x"]) == 1
