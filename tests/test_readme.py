"""The README, typed by a machine: every block is run as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.frontends.fuse.conftest import NO_MOUNTS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()


def block(heading):
    """The first code block under a heading."""
    section = TEXT.split(f"### {heading}\n", 1)[1]
    return re.search(r"```\w*\n(.*?)```", section, re.DOTALL).group(1)


@pytest.fixture
def shell(tmp_path):
    """Runs a block in an empty directory with our commands on the path and some papers at home."""
    papers = tmp_path / "home" / "papers"
    papers.mkdir(parents=True)
    (papers / "one.txt").write_text("A licence to test.\n")
    work = tmp_path / "work"
    work.mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(script):
        return subprocess.run(
            ["bash", "-euc", script], cwd=work, env={**os.environ, "PATH": path, "HOME": str(tmp_path / "home")},
            capture_output=True, text=True, timeout=280,
        )  # fmt: skip

    run.work = work
    return run


def expect_success(result):
    assert result.returncode == 0, result.stdout + result.stderr
    assert not result.stderr


def test_the_two_commands_are_targets():
    targets = (ROOT / "Makefile").read_text()
    for command in re.findall(r"^make ([\w-]+)", TEXT, re.MULTILINE):
        assert f"\n{command}: " in targets, command


def test_python(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", block("From Python")], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    expect_success(result)
    assert sorted(result.stdout.splitlines()) == ["coffee/log.csv 23", "coffee/roasts.md 27"]


def test_by_meaning(tmp_path):
    (tmp_path / "made").mkdir()
    result = subprocess.run(
        [sys.executable, "-c", block("By meaning")], cwd=tmp_path, capture_output=True, text=True, timeout=280
    )
    expect_success(result)
    assert result.stdout.splitlines() == ["/coffee/roasts.md", "/papers/b {'year': 2023}"]


needs_docs = pytest.mark.skipif(not Path("/usr/share/doc/make").is_dir(), reason="needs Debian's /usr/share/doc/make")


@needs_docs
def test_shell(shell):
    expect_success(shell(block("From the shell")))
    expect_success(shell("diff -r /usr/share/doc/make make-doc"))
    assert (shell.work / "papers-backup.vex" / "volume.toml").exists()


@needs_docs
def test_shell_by_meaning(shell):
    result = shell(block("From the shell, by meaning"))
    expect_success(result)
    assert "/docs/" in result.stdout and "static" in result.stdout


@needs_docs
@pytest.mark.skipif(bool(NO_MOUNTS), reason=NO_MOUNTS or "")
def test_disk(shell):
    expect_success(shell("vexctl volume create papers.vex; vexfs import /usr/share/doc/make papers.vex:/doc/make"))
    try:
        result = shell(block("As a disk"))
    finally:
        if os.path.ismount(shell.work / "mnt"):
            shell("vexfs umount mnt")
    expect_success(result)
    assert "mnt/doc/make/" in result.stdout


def test_encrypted(shell):
    expect_success(shell(block("Encrypted")))
    told = shell("vexfs export secret.vex:/papers out --key-file newer.key && cat out/one.txt")
    assert "A licence to test." in told.stdout
    assert shell("vexfs export secret.vex:/papers out2 --key-file secret.key").returncode == 1
