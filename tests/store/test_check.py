"""The check finds every inconsistency planted here, repairs what can be, and leaves a volume that works."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vexfs
from tests.store.planted import REPAIRABLE, Edit, overlapping_extents
from vexfs._core import segment
from vexfs.errors import VolumeBusy
from vexfs.store.check import Report
from vexfs.store.rows import SegmentRow
from vexfs.volume import check

BIG = os.urandom(3 << 20)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume with one of everything, closed."""
    path = tmp_path_factory.mktemp("check") / "v.vex"
    with vexfs.open(path) as fs:
        fs.write_bytes("d/big", BIG)
        fs.write_bytes("d/other", BIG[::-1])
        fs.write_bytes("d/small", b"inline")
        fs.write_bytes("d/medium", b"medium" * 200)
        fs.makedirs("d/sub/deep")
        fs.write_bytes("d/sub/f", b"f" * 9000)
        fs.link("d/small", "hard")
        fs.symlink("d/small", "soft")
        fs.attributes("d/small")["year"] = 2020
    return path


@pytest.fixture
def volume(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "v.vex"))


def kinds(report: Report) -> set[str]:
    return {problem.kind for problem in report.problems if not problem.note}


def test_a_sound_volume_is_found_sound(volume: Path) -> None:
    report = check(volume)
    assert report.sound and not kinds(report)
    assert (report.inodes, report.entries) == (10, 10)
    assert report.frames >= 48 and report.bytes_checked > 6 << 20


@pytest.mark.parametrize("name", REPAIRABLE)
def test_planted_fault_is_found_and_repaired(volume: Path, name: str) -> None:
    kind, function = REPAIRABLE[name]
    edit = Edit(volume)
    function(edit)
    edit.done()
    before = (volume / "meta.db").read_bytes()
    report = check(volume)
    assert kind in kinds(report), report.problems
    assert not report.sound
    assert (volume / "meta.db").read_bytes() == before, "a check without repair changed the volume"
    repaired = check(volume, repair=True)
    assert repaired.sound, repaired.faults
    assert kind in {problem.kind for problem in repaired.problems if problem.repaired}
    again = check(volume)
    assert again.sound and not kinds(again), again.problems
    with vexfs.open(volume) as fs:
        seen = {path: fs.read_bytes(path) for path in all_files(fs)}
        fs.write_bytes("new/file", b"the volume works")
    if not name.startswith(("nameless", "overlap", "map_row", "no_root", "inode_row", "inode_of", "inode_too")):
        assert BIG in seen.values()
    assert check(volume).sound


def all_files(fs: vexfs.Volume) -> list[str]:
    return [f"{top}/{name}" for top, _, names in fs.walk("/") for name in names if fs.isfile(f"{top}/{name}")]


def test_what_has_no_name_is_found_in_lost_and_found(volume: Path) -> None:
    edit = Edit(volume)
    edit.remove("d", b"big")
    edit.remove("d", b"sub")
    edit.done()
    assert check(volume, repair=True).sound
    with vexfs.open(volume) as fs:
        assert fs.read_bytes(f"lost+found/#{edit.ino['d/big']}") == BIG
        assert fs.read_bytes(f"lost+found/#{edit.ino['d/sub']}/f") == b"f" * 9000
        assert stat.S_IMODE(fs.stat("lost+found").st_mode) == 0o700


def test_overlapping_extents_lose_no_more_than_the_overlap(volume: Path) -> None:
    edit = Edit(volume)
    overlapping_extents(edit)
    edit.done()
    assert check(volume, repair=True).sound
    with vexfs.open(volume) as fs:
        content = fs.read_bytes("d/big")
        assert len(content) == len(BIG) and content[1 << 20 :] == BIG[1 << 20 :]
        assert content[: 128 << 10] == BIG[: 128 << 10]


def segment_file(volume: Path) -> Path:
    return next((volume / "segments").iterdir())


def test_a_damaged_frame_is_told_with_file_and_bytes_and_stays(volume: Path) -> None:
    edit = Edit(volume)
    extent = edit.extents("d/big")[1]
    edit.meta.rollback()
    edit.meta.close()
    with open(segment_file(volume), "r+b") as file:
        file.seek(extent.position + extent.stored // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    for repair in (False, True):
        report = check(volume, repair=repair)
        fault = next(p for p in report.problems if p.kind == "damaged-frame")
        assert fault.where == "/d/big" and f"{extent.off}..{extent.off + extent.length}" in fault.detail
        assert "backup" in fault.remedy and not fault.repaired and not report.sound
    assert check(volume, read_data=False).sound, "only headers are read without data"
    with vexfs.open(volume) as fs:
        assert fs.read_bytes("d/other") == BIG[::-1]
        with pytest.raises(OSError, match="big|checksum|damaged|Bad message"):
            fs.read_bytes("d/big")
        with fs.open("d/big", "rb", buffering=0) as file:
            assert file.read(extent.off) == BIG[: extent.off]


def test_a_damaged_frame_of_an_index_is_told_with_what_its_owner_can_do(tmp_path: Path) -> None:
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("papers", dim=4)
        fs.filesystem.write_file(".vexfs/index-1/rows", os.urandom(50_000))
    with open(segment_file(tmp_path / "v.vex"), "r+b") as file:
        file.seek(20_000)
        file.write(bytes(8))
    done = subprocess.run(
        [sys.executable, "-c", "from vexfs.cli.main import vexctl; vexctl()", "volume", "fsck", tmp_path / "v.vex"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "/.vexfs/index-1/rows: cannot be read" in done.stdout
    assert "index drop" in done.stdout and "--repair" not in done.stdout  # which would do nothing


def test_extents_to_missing_and_foreign_frames_are_told(volume: Path) -> None:
    edit = Edit(volume)
    mine, other = edit.extents("d/big"), edit.extents("d/other")
    edit.put_extents("d/big", [mine[0]._replace(position=mine[0].position + 1), *mine[1:]])
    edit.put_extents("d/other", [other[0]._replace(position=mine[2].position, stored=mine[2].stored), *other[1:]])
    edit.done()
    report = check(volume, repair=True)
    assert {(p.kind, p.where) for p in report.faults} == {("missing-frame", "/d/big"), ("foreign-frame", "/d/other")}


def test_a_truncated_segment_is_told_with_the_files_in_it(volume: Path) -> None:
    path = segment_file(volume)
    os.truncate(path, 2 << 20)
    report = check(volume, repair=True)
    told = {(p.kind, p.where) for p in report.faults}
    assert ("truncated-segment", f"segments/{path.name}") in told and ("missing-frame", "/d/other") in told
    with vexfs.open(volume) as fs:
        assert fs.read_bytes("d/small") == b"inline"


def test_a_missing_segment_is_told_with_the_files_in_it(volume: Path) -> None:
    path = segment_file(volume)
    path.unlink()
    report = check(volume)
    told = [p for p in report.faults if p.kind == "missing-segment"]
    assert {p.where for p in told} >= {"/d/big", "/d/other"} and all(path.name in p.detail for p in told)


def test_leftovers_are_notes(volume: Path) -> None:
    (volume / "segments" / "000000aa.seg").write_bytes(segment_file(volume).read_bytes()[:4096])
    with open(segment_file(volume), "ab") as file:
        file.write(b"tail" * 100)
    (volume / "volume.toml.new").write_text("half")
    edit = Edit(volume)
    edit.meta.put_segment(0x77, SegmentRow(100, 0, 100).pack())
    edit.done()
    (volume / "notes.txt").write_text("mine")
    report = check(volume)
    notes = {p.kind for p in report.problems if p.note}
    assert {"leftover-segment", "segment-without-file", "leftover", "stranger"} <= notes and report.sound
    check(volume, repair=True)
    assert "segment-without-file" not in {p.kind for p in check(volume).problems}
    assert not (volume / "volume.toml.new").exists() and (volume / "notes.txt").exists()
    with vexfs.open(volume) as fs:
        assert fs.read_bytes("d/big") == BIG
    assert not (volume / "segments" / "000000aa.seg").exists()


def test_damaged_pages_are_rebuilt_around(volume: Path) -> None:
    with vexfs.open(volume) as fs:
        for i in range(3000):
            fs.write_bytes(f"many/{i:04}", b"%d" % i)
    path = volume / "meta.db"
    damaged = bytearray(path.read_bytes())
    page = 4096 * (len(damaged) // 4096 * 2 // 3)
    damaged[page + 100 : page + 200] = bytes(100)
    path.write_bytes(damaged)
    report = check(volume)
    assert "metadata-page" in kinds(report) and not report.sound
    repaired = check(volume, repair=True)
    assert repaired.sound, repaired.faults
    assert (volume / "meta.db.damaged").exists()
    with vexfs.open(volume) as fs:
        names = [name for top, _, names in fs.walk("/") for name in names]
        assert len(names) > 2500, "more was lost than a page of rows"
        for i in range(0, 3000, 7):
            if fs.exists(f"many/{i:04}"):
                assert fs.read_bytes(f"many/{i:04}") == b"%d" % i


def test_metadata_that_were_cut_short_are_rebuilt_from_what_is_there(volume: Path) -> None:
    with vexfs.open(volume) as fs:
        for k in range(2000):
            fs.write_text(f"n{k:04}", "x" * 50)
    path = volume / "meta.db"
    size = path.stat().st_size // 2 // 4096 * 4096
    os.truncate(path, size)
    assert kinds(check(volume)) == {"metadata-log", "metadata"}
    assert check(volume, repair=True).sound
    assert (volume / "meta.db.damaged").stat().st_size == size
    with vexfs.open(volume) as fs:
        names = all_files(fs)
        assert 500 < len(names) < 2000  # some by number, in lost+found
        assert sum(fs.read_bytes(name) == b"x" * 50 for name in names) > 200


def test_metadata_of_which_nothing_is_left_are_told_with_the_remedy(volume: Path) -> None:
    path = volume / "meta.db"
    path.write_bytes(os.urandom(8192))
    report = check(volume, repair=True)
    assert not report.sound and "restore the volume from a backup" in {problem.remedy for problem in report.problems}
    assert path.stat().st_size == 8192


def test_the_volume_file_is_mended_from_its_spare(volume: Path) -> None:
    good = (volume / "volume.toml").read_text()
    (volume / "volume.toml").write_text(good.replace("lz4", "none"))
    assert "volume-file" in kinds(check(volume))
    assert check(volume, repair=True).sound and (volume / "volume.toml").read_text() == good
    (volume / "volume.spare.toml").unlink()
    assert "volume-spare" in kinds(check(volume))
    assert check(volume, repair=True).sound and (volume / "volume.spare.toml").read_text() == good


def test_a_repair_that_is_interrupted_repairs_nothing(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with vexfs.open(volume) as fs:
        before = {name: fs.read_bytes(name) for name in all_files(fs)}

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(segment, "ScannedFrame", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check(volume, repair=True)
    monkeypatch.undo()
    assert check(volume).sound
    with vexfs.open(volume) as fs:
        assert {name: fs.read_bytes(name) for name in all_files(fs)} == before


def test_an_open_volume_is_not_checked(volume: Path) -> None:
    with vexfs.open(volume), pytest.raises(VolumeBusy, match="already open in this process"):
        check(volume)


def test_many_faults_at_once(volume: Path) -> None:
    edit = Edit(volume)
    for name in ("wrong_link_count", "wrong_entry_count", "wrong_allocation", "entry_to_nowhere", "map_of_nothing",
                 "orphan_of_nothing", "attributes_that_are_not_there", "nameless_file",
                 "wrong_live_bytes"):  # fmt: skip
        REPAIRABLE[name][1](edit)
    edit.done()
    report = check(volume, repair=True)
    assert report.sound, report.faults
    assert len([p for p in report.problems if p.repaired]) >= 9


def test_emptied_segments_take_their_accounts_along(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with vexfs.Volume.create(path, segment_size=1 << 20) as fs:
        for k in range(3):
            fs.write_bytes(f"f{k}", os.urandom(2 << 20))
        fs.sync()
        for k in range(3):
            fs.unlink(f"f{k}")
    assert not check(path).problems
    with vexfs.open(path):
        pass  # nothing changes but what is reclaimed
    assert not check(path).problems
    assert len(list((path / "segments").iterdir())) <= 1
