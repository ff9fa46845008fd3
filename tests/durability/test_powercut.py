"""Simulated power cuts: the short form of ``python -m vexfs.testing.crash``, and that it sees what it must see."""

import random
from pathlib import Path

import pytest

from vexfs.testing.crash import Run
from vexfs.testing.powercut import Disk, write_image
from vexfs.testing.trace import Record


def told(run):
    return [str(finding) for finding in run.findings() if finding]


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_power_cut_leaves_a_state_that_was(threads, encrypted):
    lives = 3 if threads == 1 else 1
    assert told(Run(7 + threads, 24, lives, stop=120, threads=threads, encrypted=encrypted)) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(100, 116))
def test_many_power_cuts(seed):
    assert told(Run(seed, 60, 3, stop=300, encrypted=seed % 4 == 0)) == []
    assert told(Run(seed, 60, 1, stop=300, threads=3, encrypted=seed % 4 == 1)) == []


@pytest.mark.parametrize("lie", ["segments", "meta.db-wal"])
def test_a_disk_that_does_not_sync_is_found_out(lie):
    for seed in range(30, 60):
        if told(Run(seed, 24, 1, stop=150, lies=(lie,))):
            return
    pytest.fail(f"syncs of {lie} are not carried out, and no power cut shows it")


# -- the disk itself


def record(kind, file=0, offset=0, data=b""):
    return Record(kind, file, offset, data)


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "old").write_bytes(b"o" * 2048)
    return Disk(tmp_path)


def images(disk, policy, count=60):
    return [disk.image(policy, random.Random(seed)) for seed in range(count)]


def test_unsynced_bytes_may_go_and_synced_ones_stay(disk):
    for step in (record("open", 1, data=b"old"), record("write", 1, 0, b"n" * 2048)):
        disk.apply(step)
    assert disk.image("lost", random.Random(0)) == {"old": b"o" * 2048}
    assert disk.image("kept", random.Random(0)) == {"old": b"n" * 2048}
    found = {image["old"] for image in images(disk, "scattered")}
    assert len(found) > 8
    assert {data[k : k + 512] for data in found for k in range(0, 2048, 512)} == {b"o" * 512, b"n" * 512}
    disk.apply(record("sync", 1))
    assert {image["old"] for policy in ("lost", "cut", "scattered") for image in images(disk, policy)} == {b"n" * 2048}


def test_a_torn_write_ends_at_a_sector(disk):
    disk.apply(record("open", 1, data=b"old"))
    disk.apply(record("write", 1, 0, b"n" * 2048))
    counts = {image["old"].count(b"n") for image in images(disk, "cut")}
    assert counts == {0, 512, 1024, 1536, 2048}


def test_names_are_certain_only_after_a_sync_of_the_directory(disk):
    disk.apply(record("create", 2, data=b"new"))
    disk.apply(record("write", 2, 0, b"x"))
    disk.apply(record("sync", 2))
    disk.apply(record("rename", data=b"old\0older"))
    assert {tuple(sorted(image)) for image in images(disk, "scattered")} == {
        ("old",), ("older",), ("new", "old"), ("new", "older"),
    }  # fmt: skip
    disk.apply(record("syncdir", data=b"."))
    assert disk.image("lost", random.Random(0)) == {"new": b"x", "older": b"o" * 2048}


def test_a_truncation_may_be_lost(disk, tmp_path):
    disk.apply(record("open", 1, data=b"old"))
    disk.apply(record("truncate", 1, 100))
    assert {len(image["old"]) for image in images(disk, "scattered")} == {100, 2048}
    write_image(disk.image("kept", random.Random(0)), disk.directories, tmp_path / "made")
    assert (Path(tmp_path) / "made" / "old").read_bytes() == b"o" * 100
