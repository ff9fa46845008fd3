"""A volume as a whole: made, opened, refused, backed up, restored, rekeyed; every bad input gives one clear error."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vexfs
from vexfs import errors
from vexfs.store import host, lock, volumefile
from vexfs.volume import Volume, check, opened, restore, rotate_key


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "v.vex"


def run_python(script: str, **more: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, **more)


# -- making and opening


def test_what_is_written_is_there_when_it_is_opened_again(place: Path) -> None:
    with vexfs.open(place) as fs:
        assert not fs.closed and fs.filesystem is not None
        fs.write_text("coffee/roasts.md", "Light roasts keep acidity")
        identity = fs.about.uuid
    assert fs.closed and "closed" in repr(fs)
    with vexfs.open(str(place)) as fs:
        assert fs.read_text("coffee/roasts.md") == "Light roasts keep acidity"
        assert fs.about.uuid == identity


def test_a_closed_volume_says_so(place: Path) -> None:
    fs = vexfs.open(place)
    file = fs.open("f", "w")
    file.write("buffered")
    fs.close()
    fs.close()
    assert file.closed, "closing the volume flushes and closes its files"
    for use in (lambda: fs.read_bytes("f"), fs.info, lambda: fs.filesystem, fs.sync):
        with pytest.raises(errors.VolumeClosed, match=r"v\.vex.*closed|closed.*v\.vex"):
            use()
    with vexfs.open(place) as again:
        assert again.read_text("f") == "buffered"


def test_a_forgotten_volume_is_closed_and_told(place: Path) -> None:
    fs = Volume.create(place)
    fs.filesystem.write_file("f", b"1")
    with pytest.warns(ResourceWarning, match="was not closed"):
        del fs
    with vexfs.open(place) as again:
        assert again.read_bytes("f") == b"1"


def test_create_and_not_create(place: Path) -> None:
    with pytest.raises(errors.VolumeNotFound, match="vexctl volume create"):
        vexfs.open(place, create=False)
    assert not place.exists()
    with pytest.raises(errors.VolumeNotFound):
        vexfs.open(place, read_only=True)
    place.mkdir()
    vexfs.open(place).close()
    with pytest.raises(errors.VolumeExists, match="is a volume already"):
        Volume.create(place)
    (place.parent / "full").mkdir()
    (place.parent / "full" / "x").touch()
    with pytest.raises(errors.VolumeExists, match="files in it"):
        Volume.create(place.parent / "full")
    with pytest.raises(errors.FormatUnknown, match="not a volume"):
        vexfs.open(place.parent / "full")
    (place.parent / "file").touch()
    with pytest.raises(errors.VolumeExists, match="is a file"):
        Volume.create(place.parent / "file")
    with pytest.raises(errors.FormatUnknown, match="is a file"):
        vexfs.open(place.parent / "file")


@pytest.mark.parametrize(
    ("option", "match"),
    [({"segment_size": 999}, "1 MiB to 1 GiB"), ({"size_limit": 5}, "at least 1 MiB"), ({"compression": "zip"}, "lz4")],
)
def test_geometry_out_of_range_is_refused(place: Path, option: dict[str, Any], match: str) -> None:
    with pytest.raises(errors.UsageError, match=match):
        Volume.create(place, **option)
    assert not place.exists()


def test_a_failed_creation_leaves_nothing(place: Path, tmp_path: Path) -> None:
    key = tmp_path / "bad.key"
    key.write_text("no key")
    key.chmod(0o600)
    with pytest.raises(errors.KeyFileDamaged):
        Volume.create(place, key_file=key)
    assert not place.exists()
    with pytest.raises(TypeError):
        Volume.create(place, cash_size=5)  # type: ignore[call-arg]
    assert not place.exists()


def test_geometry_is_kept_and_honoured(place: Path) -> None:
    with Volume.create(place, size_limit=4 << 20, segment_size=1 << 20, compression="none") as volume:
        info = volume.info()
        assert (info["size_limit"], info["segment_size"], info["compression"]) == (4 << 20, 1 << 20, "none")
    with vexfs.open(place) as fs:
        fs.write_bytes("a", os.urandom(3 << 20))
        fs.sync()
        assert len(list((place / "segments").iterdir())) >= 3
        with pytest.raises(OSError) as caught:
            fs.write_bytes("b", os.urandom(3 << 20))
        assert caught.value.errno in (28, 122)
        fs.remove("b")
        fs.remove("a")
        fs.sync()
        fs.write_bytes("c", os.urandom(3 << 20))
        assert fs.info()["total_bytes"] == 4 << 20


def test_read_only_changes_nothing_and_may_be_shared(place: Path) -> None:
    with vexfs.open(place) as fs:
        fs.write_bytes("f", b"1")
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    with vexfs.open(place, read_only=True) as one, vexfs.open(place, read_only=True) as two:
        assert one.read_bytes("f") == two.read_bytes("f") == b"1"
        for change in (lambda: one.write_bytes("g", b""), lambda: one.remove("f"), lambda: one.chmod("f", 0)):
            with pytest.raises(errors.ReadOnly):
                change()
        with pytest.raises(errors.VolumeBusy, match="reads it"):
            vexfs.open(place)
    after = {p: p.read_bytes() for p in place.rglob("*") if p.is_file() and p.name != "lock"}
    assert after == {p: data for p, data in before.items() if p.name != "lock"}


# -- one owner


def test_the_second_opener_is_told_who_has_it(place: Path) -> None:
    script = (
        f"import vexfs, time\nfs = vexfs.open({str(place)!r})\nfs.announce(mountpoint='/mnt/notes')\n"
        "print('open', flush=True)\ntime.sleep(60)"
    )
    with run_python(script) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == "open\n"
        for open_it in (lambda: vexfs.open(place), lambda: vexfs.open(place, read_only=True), lambda: check(place)):
            with pytest.raises(errors.VolumeBusy) as caught:
                open_it()
            assert f"process {owner.pid}" in str(caught.value) and "/mnt/notes" in str(caught.value)
            assert errors.row_of(caught.value).exit_code == 3
        assert lock.owner(place) is not None
        owner.kill()
        owner.wait()
    with vexfs.open(place) as fs:  # the kernel gave the lock back
        fs.write_bytes("f", b"")


def test_the_same_process_is_told_so_and_can_find_its_volume(place: Path) -> None:
    with vexfs.open(place) as fs:
        with pytest.raises(errors.VolumeBusy, match="already open in this process"):
            vexfs.open(place)
        assert opened(place) is fs and opened(place.parent / "none") is None
    assert opened(place) is None


def test_a_forked_child_leaves_the_volume_alone(place: Path) -> None:
    with vexfs.open(place) as fs:
        fs.write_bytes("f", b"1")
        child = os.fork()
        if not child:
            status = 1
            try:
                fs.read_bytes("f")
            except errors.VolumeClosed as error:
                status = 0 if "forked" in str(error) else 2
            fs.close()
            del fs
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with pytest.raises(errors.VolumeBusy):
            vexfs.open(place)
        fs.write_bytes("g", b"2")
    script = f"import os, sys, vexfs\nfs = vexfs.open({str(place)!r})\nfs.write_bytes('h', b'3')\n"
    script += "child = os.fork()\nif child: os.waitpid(child, 0); fs.write_bytes('i', b'4')"
    with run_python(script) as process:
        assert process.wait(120) == 0
    with vexfs.open(place) as fs:
        assert [fs.read_bytes(name) for name in "fghi"] == [b"1", b"2", b"3", b"4"]
    assert check(place).sound


# -- formats and damage


def set_format(place: Path, text: str) -> None:
    path = place / "volume.toml"
    body = path.read_text().partition("\n[checksum]\n")[0].replace("format = 1", text)
    path.write_text(f"{body}\n[checksum]\ncrc32c = {volumefile.crc32c(body.encode())}\n")


def test_a_newer_format_is_refused(place: Path) -> None:
    vexfs.open(place).close()
    set_format(place, "format = 7")
    with pytest.raises(errors.FormatUnknown, match=r"format 7.*up to 1.*newer VexFS") as caught:
        vexfs.open(place)
    assert caught.value.filename == str(place / "volume.toml")


@pytest.mark.parametrize("text", ["", 'format = "1"', "format = 0", "format = true"])
def test_a_strange_format_is_refused(place: Path, text: str) -> None:
    vexfs.open(place).close()
    set_format(place, text)
    with pytest.raises((errors.FormatUnknown, errors.VolumeDamaged)):
        vexfs.open(place)


def test_every_flipped_bit_of_the_volume_file_is_noticed(place: Path) -> None:
    vexfs.open(place, key_file=place.parent / "k").close()
    path = place / "volume.toml"
    good = path.read_bytes()
    for at in range(0, len(good), 3):
        bad = bytearray(good)
        bad[at] ^= 1 << at % 8
        path.write_bytes(bad)
        try:
            found = volumefile.load(place)
        except errors.VolumeDamaged as error:
            assert "spare copy is sound" in str(error) and error.filename == str(path)
        except errors.FormatUnknown:
            assert b"format" in good[max(0, at - 12) : at + 1], "only the version itself may read as another version"
        else:
            assert found == volumefile.parse(good, path), f"a flipped bit at {at} was believed"


@pytest.mark.parametrize("keep", [0, 10, 100, -1])
def test_a_truncated_volume_file_is_noticed(place: Path, keep: int) -> None:
    vexfs.open(place).close()
    path = place / "volume.toml"
    path.write_bytes(path.read_bytes()[:keep])
    if keep == -1:
        vexfs.open(place).close()  # the last line's end is no loss
        return
    with pytest.raises(errors.VolumeDamaged, match="spare copy is sound"):
        vexfs.open(place)
    (place / "volume.spare.toml").unlink()
    with pytest.raises(errors.VolumeDamaged, match="from a backup"):
        vexfs.open(place)


@pytest.mark.parametrize("part", ["volume.toml", "meta.db", "segments"])
def test_a_missing_part_is_named(place: Path, part: str) -> None:
    with vexfs.open(place) as fs:
        fs.write_bytes("f", bytes(100_000))
    path = place / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(errors.VolumeDamaged) as caught:
        vexfs.open(place)
    assert caught.value.filename == str(path)
    assert "backup" in str(caught.value) or "spare" in str(caught.value)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_a_damaged_database_is_named(place: Path, damage: str) -> None:
    with vexfs.open(place) as fs:
        for i in range(500):
            fs.write_bytes(f"f{i}", b"x")
    path = place / "meta.db"
    raw = bytearray(path.read_bytes())
    if damage == "flipped":
        raw[200] ^= 4
    others = {"truncated": raw[: len(raw) // 2], "empty": b"", "foreign": os.urandom(len(raw))}
    path.write_bytes(others.get(damage, raw))
    with pytest.raises(OSError) as caught:
        with vexfs.open(place) as fs:
            for i in range(500):
                fs.read_bytes(f"f{i}")
    assert isinstance(caught.value, errors.VexfsError) and "meta.db" in str(caught.value)


# -- the host


def test_network_filesystems_and_fuse_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vexfs.open(place).close()
    for magic, name in host.UNSUITABLE.items():
        monkeypatch.setattr(host, "filesystem_type", lambda _, magic=magic: magic)
        for use in (lambda: vexfs.open(place), lambda: Volume.create(place.parent / "w.vex")):
            with pytest.raises(errors.HostUnsuitable, match=f"{name} filesystem"):
                use()
    assert not (place.parent / "w.vex").exists()


def test_the_host_filesystem_is_told_apart(tmp_path: Path) -> None:
    assert host.filesystem_type("/proc") == 0x9FA0
    assert host.filesystem_type(tmp_path) != 0x9FA0
    with pytest.raises(FileNotFoundError):
        host.filesystem_type(tmp_path / "none")


# -- keys


@pytest.fixture
def keyed(place: Path, tmp_path: Path) -> tuple[Path, Path]:
    key = tmp_path / "a.key"
    with vexfs.open(place, key_file=key) as fs:
        fs.write_text("secret/plan.txt", "attack at dawn " * 500)
        fs.attributes("secret/plan.txt")["codename"] = "overlord-attribute"
    return place, key


def test_an_encrypted_volume_shows_nothing(keyed: tuple[Path, Path]) -> None:
    place, key = keyed
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    stored = b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())
    for planted in (b"attack at dawn", b"plan.txt", b"secret", b"overlord", b"codename"):
        assert planted not in stored
    with vexfs.open(place, key_file=key) as fs:
        assert fs.encrypted and fs.read_text("secret/plan.txt").startswith("attack at dawn")


def test_every_wrong_key_is_told_apart(keyed: tuple[Path, Path], tmp_path: Path) -> None:
    place, key = keyed
    with pytest.raises(errors.KeyMissing, match=r"is encrypted; give its key file \(--key-file"):
        vexfs.open(place)
    with pytest.raises(errors.KeyMissing, match="no such key file"):
        vexfs.open(place, key_file=tmp_path / "none")
    vexfs.open(tmp_path / "other.vex", key_file=tmp_path / "b.key").close()
    with pytest.raises(errors.KeyWrong, match="opens with key") as caught:
        vexfs.open(place, key_file=tmp_path / "b.key")
    assert caught.value.filename == str(tmp_path / "b.key")
    (tmp_path / "cut.key").write_text(key.read_text()[:-20])
    (tmp_path / "cut.key").chmod(0o600)
    with pytest.raises(errors.KeyFileDamaged) as damaged:
        vexfs.open(place, key_file=tmp_path / "cut.key")
    assert damaged.value.filename == str(tmp_path / "cut.key")
    vexfs.open(tmp_path / "plain.vex").close()
    with pytest.raises(errors.UsageError, match="not encrypted"):
        vexfs.open(tmp_path / "plain.vex", key_file=key)
    for name in ("volume.toml", "volume.spare.toml"):
        shutil.copy(tmp_path / "other.vex" / name, place / name)
    with pytest.raises(errors.KeyWrong):
        vexfs.open(place, key_file=key)


def test_rotation_opens_with_the_new_key_alone(keyed: tuple[Path, Path], tmp_path: Path) -> None:
    place, key = keyed
    new = tmp_path / "new.key"
    with vexfs.open(place, key_file=key), pytest.raises(errors.VolumeBusy):
        rotate_key(place, key, new)
    names = ("volume.toml", "volume.spare.toml", "lock")
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file() and p.name not in names}
    rotate_key(place, key, new)
    assert before == {p: p.read_bytes() for p in place.rglob("*") if p.is_file() and p.name not in names}
    with pytest.raises(errors.KeyWrong):
        vexfs.open(place, key_file=key)
    with vexfs.open(place, key_file=new) as fs:
        assert fs.exists("secret/plan.txt")
    with pytest.raises(errors.KeyWrong):
        rotate_key(place, key, tmp_path / "third.key")
    assert not (tmp_path / "third.key").exists()
    vexfs.open(tmp_path / "plain.vex").close()
    with pytest.raises(errors.UsageError, match="not encrypted"):
        rotate_key(tmp_path / "plain.vex", key, new)


# -- backup


def test_backup_of_a_working_volume_is_consistent(place: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    with vexfs.open(place) as fs:
        for i in range(100):
            fs.write_bytes(f"stable/{i}", os.urandom(20_000))
        content = {f"stable/{i}": fs.read_bytes(f"stable/{i}") for i in range(100)}

        def churn() -> None:
            i = 0
            while not stop.is_set():
                fs.write_bytes(f"churn/{i % 20}", os.urandom(50_000))
                fs.rename(f"churn/{i % 20}", f"churn/r{i % 20}")
                i += 1

        worker = threading.Thread(target=churn)
        worker.start()
        steps: list[tuple[int, int]] = []
        try:
            for i in range(3):
                fs.backup(tmp_path / f"b{i}", lambda done, total: steps.append((done, total)))
                time.sleep(0.05)
        finally:
            stop.set()
            worker.join()
    assert steps and steps[-1][0] == steps[-1][1]
    for i in range(3):
        report = check(tmp_path / f"b{i}")
        assert report.sound, report.problems
        with vexfs.open(tmp_path / f"b{i}") as copy:
            assert {name: copy.read_bytes(name) for name in content} == content
            assert copy.about.uuid == fs.about.uuid


def test_backup_overwrites_nothing_and_leaves_nothing(place: Path, tmp_path: Path) -> None:
    with vexfs.open(place) as fs:
        fs.write_bytes("f", bytes(range(256)) * 1000)
        (tmp_path / "there").mkdir()
        with pytest.raises(errors.VolumeExists, match="overwrites nothing"):
            fs.backup(tmp_path / "there")
        with pytest.raises(errors.UsageError, match="inside the volume"):
            fs.backup(place / "copy")

        def interrupt(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fs.backup(tmp_path / "half", interrupt)
        assert not (tmp_path / "half").exists()
        fs.backup(tmp_path / "whole")
    assert check(place).sound


def test_restore_checks_and_overwrites_nothing(keyed: tuple[Path, Path], tmp_path: Path) -> None:
    place, key = keyed
    with vexfs.open(place, key_file=key) as fs:
        fs.write_bytes("big", os.urandom(1 << 20))
        fs.backup(tmp_path / "b")
    with pytest.raises(errors.VolumeExists):
        restore(tmp_path / "b", place, key_file=key)
    with pytest.raises(errors.VolumeNotFound):
        restore(tmp_path / "none", tmp_path / "r", key_file=key)
    assert restore(tmp_path / "b", tmp_path / "r", key_file=key).sound
    with vexfs.open(place, key_file=key) as one, vexfs.open(tmp_path / "r", key_file=key) as two:
        assert one.read_bytes("big") == two.read_bytes("big")
    segment = max((tmp_path / "b" / "segments").iterdir(), key=lambda path: path.stat().st_size)
    raw = bytearray(segment.read_bytes())
    raw[len(raw) // 2] ^= 1
    segment.write_bytes(raw)
    with pytest.raises(errors.VolumeDamaged, match=r"the backup has 1 faults?, the first: /big"):
        restore(tmp_path / "b", tmp_path / "r2", key_file=key)
    assert not (tmp_path / "r2").exists()


def test_info_and_compact(place: Path) -> None:
    with vexfs.open(place) as fs:
        for i in range(40):
            fs.write_bytes(f"f{i}", os.urandom(100_000))
        fs.sync()
        for i in range(0, 40, 2):
            fs.remove(f"f{i}")
        fs.sync()
        info = json.loads(json.dumps(fs.info()))
        assert info["path"] == str(place) and info["status"]["files"] == 21 and info["status"]["dead_bytes"] > 1 << 20
        gained = fs.compact()
        fs.sync()
        assert gained["disk_bytes_after"] <= gained["disk_bytes_before"]
        assert all(len(fs.read_bytes(f"f{i}")) == 100_000 for i in range(1, 40, 2))
    assert check(place).sound


def test_importing_the_package_is_cheap() -> None:
    script = "import sys, vexfs; vexfs.__version__; print([m for m in sys.modules if m.startswith('vexfs._core')])"
    with run_python(script) as process:
        assert process.stdout is not None and process.stdout.read() == "[]\n"
    with pytest.raises(AttributeError):
        vexfs.nothing  # noqa: B018
    with warnings.catch_warnings():
        assert vexfs.Volume.__name__ == "LocalVolume"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cache_size": "1GB"}, "cache_size='1GB': a whole number from 0"),
        ({"dirty_limit": 1.5}, "dirty_limit=1.5: "),
        ({"commit_ops": 2**40}, "commit_ops=1099511627776: "),
        ({"io_queue_depth": 0}, "io_queue_depth=0: a whole number from 1"),
    ],
)
def test_options_that_cannot_be_are_named(tmp_path, options, told):
    with pytest.raises(errors.UsageError, match=re.escape(told)):
        vexfs.open(tmp_path / "v", **options)
    assert not (tmp_path / "v").exists()
    vexfs.open(tmp_path / "v", cache_size=np.int64(1 << 20), commit_ops=np.uint32(10)).close()
    with pytest.raises(errors.UsageError, match=re.escape(told)):
        vexfs.open(tmp_path / "v", **options)
    with pytest.raises(TypeError, match="no option is called 'cachesize'; cache_size, "):
        vexfs.open(tmp_path / "v", cachesize=1)
