"""Ctrl-C before a command has begun."""

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vexfs.cli import start

#: Ctrl-C at the moment at which a module begins to be imported.
QUICK = """
import os, signal, sys
class Quick:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Quick())
from vexfs.cli.start import {program}
{program}()
"""


def interrupted(program, module, *words, by=signal.SIG_DFL):
    code = QUICK.format(program=program, module=module)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=240,
        preexec_fn=lambda: signal.signal(signal.SIGINT, by),
    )  # fmt: skip


def test_every_program_begins_there():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    programs = ("vexfs", "vexctl", "mount_vexfs")
    assert set(project["scripts"].values()) == {f"{start.__name__}:{name}" for name in programs}


@pytest.mark.parametrize(
    ("program", "module"),
    [("vexctl", "vexfs.cli.main"), ("vexctl", "dataclasses"), ("vexctl", "vexfs.cli.volume"),
     ("vexfs", "vexfs.cli.mount"), ("mount_vexfs", "vexfs.cli.mount"), ("mount_vexfs", "vexfs.volume")],
)  # fmt: skip
def test_who_is_quick_sees_nothing_of_the_inside(program, module, tmp_path):
    words = {"vexctl": ["volume", "create", tmp_path / "a.vex"], "vexfs": ["mount", tmp_path, tmp_path]}
    done = interrupted(program, module, *words.get(program, [tmp_path, tmp_path]))
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
    assert list(tmp_path.iterdir()) == []


def test_what_a_parent_has_ignored_stays_so(tmp_path):
    done = interrupted("vexctl", "vexfs.cli.volume", "volume", "create", tmp_path / "a.vex", by=signal.SIG_IGN)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("program", "status"), [("vexctl", 130), ("mount_vexfs", 8)])
def test_from_where_a_command_begins_it_is_an_exception(program, status, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "argv", [program, "volume", "info", "x"] if program == "vexctl" else [program, "x", "y"])
    place = "vexfs.cli.volume.info_of" if program == "vexctl" else "vexfs.cli.mount.mount"
    monkeypatch.setattr(place, lambda args: signal.raise_signal(signal.SIGINT))
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(SystemExit) as ended:
            getattr(start, program)()
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == status
    assert capsys.readouterr().err.endswith(": interrupted\n")
