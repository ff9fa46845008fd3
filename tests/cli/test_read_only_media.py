"""A volume on media that can only be read: a disc, a snapshot, a write-protected stick."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vexfs
from vexfs.cli.main import run

FROZEN = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
UNSHARE = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]

Vexctl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """As a power cut leaves one: the log has what a segment lacks."""
    live, media = tmp_path / "live.vex", tmp_path / "media" / "v.vex"
    media.parent.mkdir()
    with vexfs.open(live, compression="none") as fs:
        fs.write_bytes("big", bytes(range(256)) * 8192)
        fs.sync()
        sizes = {path.name: path.stat().st_size for path in (live / "segments").iterdir()}
        with fs.open("big", "r+b", buffering=0) as file:
            for i in range(3):
                file.seek(i * 300_000)
                file.write(b"small" * 2000)
                file.sync()
        shutil.copytree(live, media, ignore=shutil.ignore_patterns("control.sock"))
    (media / "lock").unlink()
    for name, size in sizes.items():
        os.truncate(media / "segments" / name, size)
    return media


@pytest.fixture
def vexctl(volume: Path) -> Vexctl:
    """Runs ``vexctl`` where the volume's filesystem can only be read."""
    if subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")

    def run(*words: Any) -> subprocess.CompletedProcess[str]:
        program = "import sys; from vexfs.cli.main import run; sys.exit(run('vexctl', sys.argv[1:]))"
        command = [*UNSHARE, "sh", "-c", FROZEN, volume.parent, sys.executable, "-c", program, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    return run


def test_it_is_checked(volume: Path, vexctl: Vexctl) -> None:
    bytes_before = {path: path.read_bytes() for path in volume.rglob("*") if path.is_file()}
    done = vexctl("volume", "fsck", volume, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["sound"]
    assert [problem["detail"] for problem in report["problems"] if problem["where"] == "meta.db"] == [
        "holds what segments lack; the next opening for writing brings it there"
    ]
    assert {path: path.read_bytes() for path in volume.rglob("*") if path.is_file()} == bytes_before


def test_what_is_wrong_is_told(volume: Path, vexctl: Vexctl) -> None:
    segment = max((volume / "segments").iterdir())
    damaged = bytearray(segment.read_bytes())
    damaged[1 << 20] ^= 1
    segment.write_bytes(damaged)
    done = vexctl("volume", "fsck", volume, "--json")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert {(p["kind"], p["where"]) for p in report["problems"] if not p["note"]} == {("damaged-frame", "/big")}


def test_repair_says_why_it_cannot(volume: Path, vexctl: Vexctl) -> None:
    done = vexctl("volume", "fsck", volume, "--repair")
    assert done.returncode == 1
    assert "Read-only file system; the volume can only be opened for reading" in done.stderr


def test_a_backup_on_it_is_restored(volume: Path, vexctl: Vexctl, tmp_path: Path) -> None:
    with vexfs.open(volume) as fs:
        content = fs.read_bytes("big")
    assert content.count(b"small" * 2000) == 3
    done = vexctl("volume", "restore", volume, tmp_path / "new.vex")
    assert done.returncode == 0, done.stderr
    with vexfs.open(tmp_path / "new.vex", read_only=True) as fs:
        assert fs.read_bytes("big") == content


def test_a_backup_of_it_has_everything(volume: Path, vexctl: Vexctl, tmp_path: Path) -> None:
    done = vexctl("volume", "backup", volume, tmp_path / "copy.vex")
    assert done.returncode == 0, done.stderr
    with vexfs.open(volume, read_only=True) as before, vexfs.open(tmp_path / "copy.vex") as after:
        assert after.read_bytes("big") == before.read_bytes("big") and b"small" * 2000 in after.read_bytes("big")


def test_what_only_the_log_has_is_restored(volume: Path, tmp_path: Path) -> None:
    assert run("vexctl", ["volume", "restore", str(volume), str(tmp_path / "again.vex")]) == 0
    with vexfs.open(volume, read_only=True) as before, vexfs.open(tmp_path / "again.vex", read_only=True) as after:
        assert after.read_bytes("big") == before.read_bytes("big")


def test_it_is_searched_and_refuses_what_would_write(tmp_path: Path, volume: Path, vexctl: Vexctl) -> None:
    shutil.rmtree(volume)
    with vexfs.open(volume) as fs:
        fs.write_text("docs/a.txt", "coffee roasting at home")
        fs.index("docs", embedder="static")
        assert fs.ingest.wait(120)
    done = vexctl("search", "--volume", volume, "coffee", "--json")
    assert done.returncode == 0, done.stderr
    assert [hit["path"] for hit in json.loads(done.stdout)["hits"]] == ["/docs/a.txt"]
    assert json.loads(vexctl("index", "list", "--volume", volume, "--json").stdout)
    refused = vexctl("index", "create", "--volume", volume, "other", "--dim", "3")
    why = "Read-only file system; the volume can only be opened for reading (read_only, -o ro)"
    assert (refused.returncode, refused.stderr) == (1, f"vexctl: {volume / 'lock'}: {why}\n")


def test_a_file_that_cannot_be_written_there_is_named(volume: Path, vexctl: Vexctl) -> None:
    file = volume.parent / "node.conf"
    done = vexctl("config", "init", file)
    assert done.returncode == 1 and done.stderr == f"vexctl: {file}: Read-only file system\n"
