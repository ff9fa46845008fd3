"""What listings bring along: names alone for who wants no more, attributes for who looks the names up afterwards."""

import os
import re
import subprocess

import pytest

FILES = 1500


@pytest.fixture
def full(disk):
    """Some directories of many files, of which the kernel knows nothing."""
    for directory in ("a", "b", "c"):
        (disk.path / directory).mkdir()
        for k in range(FILES):
            (disk.path / directory / f"file {k}").write_bytes(b"x" * k)
    disk.unmount()
    disk.mount("")
    return disk


def lookups(disk) -> tuple[int, int]:
    """Names that the kernel has asked about, and names of which the attributes were fetched, so far."""
    figures = (disk.path / ".vexfs" / "metrics").read_text()
    asked = re.search(r'^vexfs_fuse_requests_total{operation="lookup"} (\d+)', figures, re.M)
    fetched = re.search(r'^vexfs_fs_operations_total{operation="lookup"} (\d+)', figures, re.M)
    return int(asked[1]) if asked else 0, int(fetched[1]) if fetched else 0


def test_who_only_wants_names_is_given_few_attributes(full):
    before = lookups(full)
    done = subprocess.run(["find", full.path, "-name", "file 1*"], capture_output=True, text=True, check=True)
    asked, fetched = (now - then for now, then in zip(lookups(full), before, strict=True))
    assert len(done.stdout.splitlines()) == 3 * 611
    assert asked < 50 and fetched < 3 * FILES / 2


def test_who_looks_up_what_it_listed_is_given_attributes_along(full):
    subprocess.run(["du", "-s", full.path / "a"], capture_output=True, check=True)
    before = lookups(full)
    done = subprocess.run(["du", "-s", "--apparent-size", "-B1", full.path], capture_output=True, text=True, check=True)
    asked, fetched = (now - then for now, then in zip(lookups(full), before, strict=True))
    assert int(done.stdout.split()[0]) >= 3 * FILES * (FILES - 1) // 2
    # Of b, which it lists first or second, all that the first answer did not bring; of the other nothing.
    assert asked < FILES + 50 and fetched >= 2 * FILES


def test_listings_in_pieces_hold_every_name_and_true_attributes(full):
    done = subprocess.run(
        ["find", full.path, "-type", "f", "-printf", "%P %s %i\n"], capture_output=True, text=True, check=True
    )
    names = {}
    for line in done.stdout.splitlines():
        name, size, ino = line.rsplit(" ", 2)
        names[name] = int(size)
        assert (full.path / name).stat().st_ino == int(ino)
    assert names == {f"{directory}/file {k}": k for directory in ("a", "b", "c") for k in range(FILES)}


def test_ls_is_told_once_that_files_have_no_labels(full):
    before = asked_for(full)
    subprocess.run(["ls", "-l", full.path / "a"], capture_output=True, check=True)
    assert asked_for(full) - before < 20
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(full.path / "a" / "file 1", "user.none")
    if os.geteuid() == 0:
        os.setxattr(full.path / "a" / "file 1", "security.selinux", b"label")
        assert os.getxattr(full.path / "a" / "file 1", "security.selinux") == b"label"


def asked_for(disk) -> int:
    """Attributes that were asked for so far."""
    figures = (disk.path / ".vexfs" / "metrics").read_text()
    found = re.search(r'^vexfs_fuse_requests_total{operation="getxattr"} (\d+)', figures, re.M)
    return int(found[1]) if found else 0
