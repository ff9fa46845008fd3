"""A volume that others have open for reading alone, as a mount with `-o ro` has it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vexfs

Vexctl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.write_text("docs/a.txt", "coffee roasting at home")
        fs.index("docs", embedder="static")
        assert fs.ingest.wait(120)
    with vexfs.open(tmp_path / "v.vex", read_only=True):
        yield tmp_path / "v.vex"


def vexctl(*words: Any) -> subprocess.CompletedProcess[str]:
    program = "import sys; from vexfs.cli.main import run; sys.exit(run('vexctl', sys.argv[1:]))"
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_it_is_searched(volume: Path) -> None:
    done = vexctl("search", "--volume", volume, "coffee", "--json")
    assert done.returncode == 0, done.stderr
    assert [hit["path"] for hit in json.loads(done.stdout)["hits"]] == ["/docs/a.txt"]
    assert json.loads(vexctl("index", "list", "--volume", volume, "--json").stdout)


def test_it_is_backed_up(volume: Path, tmp_path: Path) -> None:
    done = vexctl("volume", "backup", volume, tmp_path / "copy.vex")
    assert done.returncode == 0, done.stderr
    with vexfs.open(tmp_path / "copy.vex") as copy:
        assert copy.read_text("docs/a.txt") == "coffee roasting at home"


@pytest.mark.parametrize("words", [["index", "create", "other", "--dim", "3", "--volume"], ["volume", "compact"],
                                   ["index", "drop", "docs", "--volume"], ["volume", "fsck"]])  # fmt: skip
def test_what_would_write_says_that_it_is_in_use(volume: Path, words: list[str]) -> None:
    done = vexctl(*words, volume)
    assert done.returncode == 3
    assert done.stderr.startswith(f"vexctl: {volume}: is in use by another process that reads it; wait until")
