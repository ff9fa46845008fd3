"""The bootstrap script, on machines that lack things: their PATH holds only what the test puts there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "bootstrap.sh"
ALWAYS = ("sh", "env", "id", "cat", "touch")


@pytest.fixture
def machine(tmp_path):
    """A directory that is the whole PATH; answers a function that runs the script there."""
    for name in ALWAYS:
        (tmp_path / name).symlink_to(shutil.which(name))
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "python3").chmod(0o755)

    def run(python="python3", *words):
        return subprocess.run(
            ["sh", SCRIPT, python, *words], env={"PATH": str(tmp_path)}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True,
        )  # fmt: skip

    run.path = tmp_path
    return run


def program(machine, name, text):
    path = machine.path / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def complete(machine):
    for name in ("cc", "make", "fusermount"):
        program(machine, name, "exit 0")
    program(machine, "pkg-config", "exit 0")


def test_a_complete_machine_is_left_alone(machine):
    complete(machine)
    program(machine, "apt-get", f"touch {machine.path}/called")
    result = machine()
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not (machine.path / "called").exists()


def test_without_apt_it_names_what_is_missing_and_how_to_get_it(machine):
    result = machine()
    assert result.returncode == 1
    for package in ("build-essential", "pkg-config", "libsqlite3-dev", "liblz4-dev", "libssl-dev"):
        assert f" {package}" in result.stderr
    assert "apt-get install" in result.stderr


def test_only_what_is_missing_is_named(machine):
    complete(machine)
    program(machine, "pkg-config", 'test "$2" != liblz4')
    result = machine()
    assert result.returncode == 1
    assert "missing: liblz4-dev\n" in result.stderr


def test_a_missing_mount_does_not_stop_the_rest(machine):
    complete(machine)
    program(machine, "pkg-config", 'test "$2" != fuse')
    result = machine()
    assert result.returncode == 0
    assert "without the mount" in result.stderr
    assert "libfuse-dev" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="installs by itself only as root or with sudo")
def test_as_root_it_installs_what_is_missing(machine):
    complete(machine)
    os.remove(machine.path / "cc")
    compiler = machine.path / "cc"
    program(machine, "apt-get", f'echo "$@" >> {machine.path}/log; cat > {compiler} </dev/null; chmod 755 {compiler}')
    (machine.path / "chmod").symlink_to(shutil.which("chmod"))
    result = machine()
    assert result.returncode == 0, result.stderr
    calls = (machine.path / "log").read_text().splitlines()
    assert len(calls) == 1
    assert calls[0].split()[0:1] != ["update"], "lists are fetched only when the first try fails"
    assert calls[0].endswith("build-essential")


@pytest.mark.skipif(os.geteuid() != 0, reason="installs by itself only as root or with sudo")
def test_an_installation_that_fails_is_tried_with_fresh_lists_and_then_told(machine):
    complete(machine)
    os.remove(machine.path / "cc")
    program(machine, "apt-get", f'echo "$1" >> {machine.path}/log; exit 100')
    result = machine()
    assert result.returncode == 1
    assert (machine.path / "log").read_text().split() == ["install", "update"]
    assert "missing: build-essential" in result.stderr


def test_an_old_python_is_refused(machine):
    complete(machine)
    program(machine, "python3.9", 'case "$*" in *version_info*) exit 1;; *-V*) echo Python 3.9.2;; esac')
    result = machine("python3.9")
    assert result.returncode == 1
    assert "3.11 or newer; python3.9 is Python 3.9.2" in result.stderr


def test_a_python_that_is_not_there_is_named(machine):
    complete(machine)
    result = machine("python3.99")
    assert result.returncode == 1
    assert "python3.99" in result.stderr


def test_programs_of_tests_are_named_and_nothing_fails_without_them(machine):
    complete(machine)
    program(machine, "rsync", "exit 0")
    result = machine("python3", "tests")
    assert result.returncode == 0
    if os.geteuid() != 0:  # root has /usr/sbin, whatever PATH says
        assert " chromium" in result.stderr
    assert " zsh" in result.stderr and " rsync" not in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="installs by itself only as root")
def test_a_program_of_tests_that_cannot_be_had_keeps_no_other_away(machine):
    kept = os.path.exists("/usr/sbin/policy-rc.d")
    complete(machine)
    for name in ("timeout", "chmod", "rm"):
        (machine.path / name).symlink_to(shutil.which(name))
    script = f'''echo "$@" >> {machine.path}/log
case "$*" in *chromium*) exit 100;; *zsh*) echo > {machine.path}/zsh; chmod 755 {machine.path}/zsh;; esac'''
    program(machine, "apt-get", script)
    result = machine("python3", "tests")
    assert result.returncode == 0 and " chromium" in result.stderr and " zsh" not in result.stderr
    calls = (machine.path / "log").read_text().splitlines()
    assert "chromium" in calls[0] and "zsh" in calls[0] and calls[1].startswith("update")
    assert calls[-1].endswith(" zsh")
    assert os.path.exists("/usr/sbin/policy-rc.d") == kept
