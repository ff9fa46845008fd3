"""The reference and the manual pages: every command is in them, described, and roff has nothing to say."""

import re
import shutil
import subprocess

import pytest

from vexfs.cli.main import build_parser
from vexfs.cli.main import run as main
from vexfs.cli.reference import PROGRAMS, leaves, manual, markdown, options_of


def test_every_command_is_in_the_page_with_its_options():
    page = markdown()
    for program in PROGRAMS:
        for leaf in leaves(build_parser(program)):
            _, _, section = page.partition(f"### {leaf.prog}\n")
            section = section.partition("\n### ")[0]
            assert section.strip(), f"{leaf.prog} is not in the reference"
            text = section.strip().splitlines()[0]
            assert not text.startswith(("|", "    ")), f"{leaf.prog} has no description"
            for name, _ in options_of(leaf):
                assert f"`{name}`" in section


@pytest.mark.skipif(not shutil.which("man"), reason="man is not installed (Debian: apt-get install man-db)")
@pytest.mark.parametrize("program", PROGRAMS)
def test_roff_takes_the_manual_pages(tmp_path, program):
    page = tmp_path / f"{program}.1"
    page.write_text(manual(program))
    done = subprocess.run(
        ["man", "--warnings", "-l", "-Tutf8", page], capture_output=True, text=True, check=False,
        env={"LC_ALL": "C.UTF-8", "MANWIDTH": "200", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr[:2000]
    shown = re.sub(".\b", "", done.stdout)  # bold is a letter struck twice
    for leaf in leaves(build_parser(program)):
        assert leaf.prog in shown


def test_manual_pages_are_installed(tmp_path, capsys):
    assert main("vexctl", ["setup", "install", "man", "--root", str(tmp_path)]) == 0
    capsys.readouterr()
    assert {p.name for p in (tmp_path / "usr/local/share/man/man1").iterdir()} == {"vexfs.1", "vexctl.1"}
