"""The real host, and one that a test makes up."""

import os
import subprocess
from pathlib import Path

import pytest

from vexfs.cli import main
from vexfs.observe import host


def test_the_real_host_is_read():
    rows = {row["name"]: row for row in host.report()}
    assert {"processor", "memory", "FUSE", "swappiness", "descriptors of a process"} <= set(rows)
    assert rows["swappiness"]["value"] == Path("/proc/sys/vm/swappiness").read_text().strip()
    assert str(os.cpu_count()) in rows["processor"]["value"]
    for row in rows.values():
        assert row["ok"] or row["remedy"], row["name"]


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    swap, pages = tmp_path / "swappiness", tmp_path / "enabled"
    swap.write_text("60\n")
    pages.write_text("always madvise [never]\n")
    settings = [
        host.Setting("swap", str(swap), "10", lambda v: int(v) <= 30, "why"),
        host.Setting("pages", str(pages), "madvise", lambda v: v != "never", "why"),
        host.Setting("absent", str(tmp_path / "absent"), "1", lambda v: v == "1", "why"),
    ]
    monkeypatch.setattr(host, "settings", lambda: settings)
    return tmp_path


def test_tuning_sets_what_differs_and_the_script_sets_it_back(made_up):
    wanted = host.changes()
    assert [(c.name, c.before, c.after) for c in wanted] == [("swap", "60", "10"), ("pages", "never", "madvise")]
    done, failed = host.apply(wanted, made_up / "deep" / "undo.sh")
    assert len(done) == 2 and not failed
    assert (made_up / "swappiness").read_text().strip() == "10"
    subprocess.run(["sh", made_up / "deep" / "undo.sh"], check=True)
    assert (made_up / "swappiness").read_text().strip() == "60"
    assert (made_up / "enabled").read_text().strip() == "never"
    again, _ = host.apply(host.changes(), made_up / "deep" / "undo.sh")  # the script has made room for the next one
    assert len(again) == 2
    (made_up / "enabled").unlink()
    (made_up / "enabled").mkdir()
    assert subprocess.run(["sh", made_up / "deep" / "undo.sh"], stderr=subprocess.DEVNULL).returncode == 1
    assert (made_up / "swappiness").read_text().strip() == "60" and (made_up / "deep" / "undo.sh").exists()


def test_what_cannot_be_set_is_told_and_the_rest_is_set(made_up):
    wanted = host.changes()
    (made_up / "enabled").unlink()
    (made_up / "enabled").mkdir()
    done, failed = host.apply(wanted, made_up / "undo.sh")
    assert [c.name for c in done] == ["swap"] and [c.name for c, _ in failed] == ["pages"]


def test_a_setting_names_its_sysctl():
    swap = next(s for s in host.settings() if s.name == "swappiness")
    assert swap.command == "sysctl -w vm.swappiness=10"


def test_an_undo_script_is_never_written_through_a_link(made_up):
    (made_up / "kept").write_text("kept")
    (made_up / "undo.sh").symlink_to(made_up / "kept")
    with pytest.raises(FileExistsError):
        host.apply(host.changes(), made_up / "undo.sh")
    assert (made_up / "kept").read_text() == "kept" and (made_up / "swappiness").read_text() == "60\n"


def test_who_may_not_tune_is_told_who_may(made_up, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert main.run("vexctl", ["system", "tune", "--apply", "--undo-file", str(made_up / "undo.sh")]) == 1
    told = capsys.readouterr().err
    assert "swappiness" in told and "sudo vexctl system tune --apply" in told
    monkeypatch.undo()


def test_where_no_undo_script_can_be_nothing_is_set(made_up, capsys):
    (made_up / "file").write_text("")
    assert main.run("vexctl", ["system", "tune", "--apply", "--undo-file", str(made_up / "file/undo.sh")]) == 1
    assert "--undo-file" in capsys.readouterr().err and (made_up / "swappiness").read_text() == "60\n"
