"""``vexctl volume``: what it does, prints and answers, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vexfs
from vexfs.cli.main import run
from vexfs.cli.volume import size


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "v.vex"
    with vexfs.open(path) as fs:
        for i in range(20):
            fs.write_bytes(f"d/{i}", os.urandom(200_000))
    return path


def vexctl(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, Any, str]:
    """Exit status, parsed JSON and standard error of one run with --json."""
    status = run("vexctl", ["volume", *map(str, words), "--json"])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else None, err


def test_create_and_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, key = tmp_path / "n.vex", tmp_path / "n.key"
    status, made, _ = vexctl(capsys, "create", path, "--key-file", key, "--size-limit", "64M", "--segment-size", "2MiB")
    assert status == 0 and set(made) == {"path", "uuid", "encrypted", "key_file", "key_file_made"}
    assert made["encrypted"] and made["key_file_made"] and key.exists()
    status, info, _ = vexctl(capsys, "info", path, "--key-file", key)
    assert status == 0 and info["uuid"] == made["uuid"] and info["size_limit"] == 64 << 20
    assert {"format", "created", "status", "segment_size", "compression", "available_bytes"} <= set(info)
    assert run("vexctl", ["volume", "info", str(path), "--key-file", str(key)]) == 0
    shown = capsys.readouterr().out
    assert "size limit" in shown and "64.0 MiB" in shown and "encrypted" in shown
    assert run("vexctl", ["volume", "create", str(tmp_path / "p.vex"), "--key-file", str(tmp_path / "p.key")]) == 0
    assert "keep a copy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["info", "none.vex"], 3, "no such volume"),
        (["create", "v.vex"], 1, "is a volume already"),
        (["info", "file"], 1, "is a file"),
        (["backup", "v.vex", "file"], 1, "overwrites nothing"),
        (["restore", "v.vex", "v.vex"], 1, "exists"),
        (["rotate-key", "v.vex", "--key-file", "a", "--new-key-file", "a"], 2, "same file"),
        (["rotate-key", "v.vex", "--key-file", "a", "--new-key-file", "b"], 2, "not encrypted"),
        (["info", "v.vex", "--key-file", "a"], 2, "not encrypted"),
    ],
)
def test_refusals(
    volume: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], status: int,
    told: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(volume.parent)
    Path("file").touch()
    assert run("vexctl", ["volume", *words]) == status
    out, err = capsys.readouterr()
    assert not out and told in err and err.count("\n") == 1 and err.startswith("vexctl: ")


@pytest.mark.parametrize(
    "words",
    [[], ["create"], ["info"], ["fsck", "x", "--mend"], ["create", "x", "--size-limit", "5Q"],
     ["create", "x", "--compression", "zip"], ["rotate-key", "x"]],
)  # fmt: skip
def test_wrong_usage_is_told_with_status_2(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("vexctl", ["volume", *words])
    assert ended.value.code == 2 and "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["create", "info", "fsck", "compact", "backup", "restore", "rotate-key"])
def test_every_action_explains_itself_with_an_example(capsys: pytest.CaptureFixture[str], action: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run("vexctl", ["volume", action, "--help"])
    told = capsys.readouterr().out
    assert ended.value.code == 0 and f"Example: vexctl volume {action}" in told and "--json" in told


@pytest.mark.parametrize(
    ("word", "value"),
    [("0", 0), ("4096", 4096), ("64K", 65536), ("64kb", 65536), ("1.5G", 3 << 29), ("9 MB", 9 << 20)],
)
def test_sizes(word: str, value: int) -> None:
    assert size(word) == value


@pytest.mark.parametrize("word", ["", "x", "-1", "5Q", "1.5", "G", "nan", "inf", "1e999"])
def test_what_is_no_size(word: str) -> None:
    import argparse

    with pytest.raises(argparse.ArgumentTypeError):
        size(word)


def test_fsck_answers_0_for_sound_and_1_for_faults(volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, report, _ = vexctl(capsys, "fsck", volume)
    assert status == 0 and report["sound"] and report["problems"] == [] and report["inodes"] == 22
    assert {"path", "seconds", "entries", "extents", "frames", "segments", "bytes_checked"} <= set(report)
    segment = next((volume / "segments").iterdir())
    with open(segment, "r+b") as file:
        file.seek(1 << 20)
        file.write(bytes(64))
    status, report, _ = vexctl(capsys, "fsck", volume)
    assert status == 1 and not report["sound"]
    problem = report["problems"][0]
    assert set(problem) == {"kind", "where", "detail", "note", "remedy", "repaired"}
    assert problem["where"].startswith("/d/")
    assert run("vexctl", ["volume", "fsck", str(volume)]) == 1
    shown = capsys.readouterr().out
    assert "FAULT" in shown and "restore the file from a backup" in shown and "1 fault:" in shown
    assert vexctl(capsys, "fsck", volume, "--quick")[0] == 0


def test_fsck_repairs(volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (volume / "volume.toml").write_text("damaged")
    assert vexctl(capsys, "fsck", volume)[0] == 1
    status, report, _ = vexctl(capsys, "fsck", volume, "--repair")
    assert status == 0 and report["problems"][0]["repaired"]
    assert vexctl(capsys, "info", volume)[0] == 0


def test_backup_restore_and_compact(volume: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, made, _ = vexctl(capsys, "backup", volume, tmp_path / "b")
    assert status == 0 and made["path"] == str(tmp_path / "b") and made["bytes"] > 4_000_000
    assert vexctl(capsys, "restore", tmp_path / "b", tmp_path / "r")[0] == 0
    with vexfs.open(volume) as one, vexfs.open(tmp_path / "r") as two:
        assert all(one.read_bytes(f"d/{i}") == two.read_bytes(f"d/{i}") for i in range(20))
        for i in range(0, 20, 2):
            one.remove(f"d/{i}")
    status, gained, _ = vexctl(capsys, "compact", volume)
    assert status == 0 and gained["freed_bytes"] == gained["disk_bytes_before"] - gained["disk_bytes_after"]


def test_rotate_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, old, new = tmp_path / "v.vex", tmp_path / "old", tmp_path / "new"
    vexctl(capsys, "create", path, "--key-file", old)
    status, told, _ = vexctl(capsys, "rotate-key", path, "--key-file", old, "--new-key-file", new)
    assert status == 0 and told["key_file_made"]
    assert vexctl(capsys, "info", path, "--key-file", old)[0] == 1
    assert vexctl(capsys, "info", path, "--key-file", new)[0] == 0


def test_a_busy_volume_names_its_owner_with_status_3(volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with vexfs.open(volume):
        status, _, err = vexctl(capsys, "fsck", volume)
    assert status == 3 and "already open" in err


def test_ctrl_c_ends_a_backup_and_leaves_nothing(volume: Path, tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom vexfs.cli import progress\nfrom vexfs.cli.main import run\n"
        "def slow(self, done, total=None):\n    print('copying', flush=True)\n    time.sleep(100)\n"
        f"progress.Progress.__call__ = slow\nsys.exit(run('vexctl', ['volume', 'backup', {str(volume)!r}, 'b']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "copying\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        assert "interrupted" in process.stderr.read()
    assert not (tmp_path / "b").exists()
    vexfs.open(volume).close()


def test_a_backup_that_is_not_there_is_no_reason_to_make_a_volume(tmp_path, capsys):
    assert run("vexctl", ["volume", "restore", str(tmp_path / "none.vex"), str(tmp_path / "new.vex")]) == 3
    told = capsys.readouterr().err
    assert "none.vex: no such backup; the directory that `vexctl volume backup` wrote is wanted" in told


def test_a_change_of_key_that_was_cut_short_is_completed_by_the_next_opening(tmp_path, capsys):
    path, old, new = tmp_path / "v.vex", tmp_path / "old.key", tmp_path / "new.key"
    assert run("vexctl", ["volume", "create", str(path), "--key-file", str(old)]) == 0
    before = (path / "volume.spare.toml").read_bytes()
    assert run("vexctl", ["volume", "rotate-key", str(path), "--key-file", str(old), "--new-key-file", str(new)]) == 0
    (path / "volume.spare.toml").write_bytes(before)  # killed before it came to the spare
    with vexfs.open(path, key_file=new, read_only=True):
        assert (path / "volume.spare.toml").read_bytes() == before
    with vexfs.open(path, key_file=new):
        pass
    assert (path / "volume.spare.toml").read_bytes() == (path / "volume.toml").read_bytes() != before
    (path / "volume.spare.toml").write_bytes(b"damaged")
    with vexfs.open(path, key_file=new):
        pass
    assert (path / "volume.spare.toml").read_bytes() == b"damaged"  # for fsck to tell of
