"""What ``vexctl setup`` prints and installs, and what the units, scripts and settings are worth."""

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.deploy.conftest import program, until
from vexfs.cli.main import run
from vexfs.cli.setup import PIECES, text_of
from vexfs.observe import host

ROOT = Path(__file__).resolve().parents[2]


def test_every_file_of_deploy_ships(capsys):
    there = {str(p.relative_to(ROOT / "deploy")) for p in (ROOT / "deploy").rglob("*") if p.is_file()}
    there = {name for name in there if "__pycache__" not in name and name != "__init__.py"}
    assert there == {piece.source for piece in PIECES}
    assert run("vexctl", ["setup", "list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["pieces"]) == len(PIECES)


def test_show_names_this_installation(capsys):
    assert run("vexctl", ["setup", "show", "vexfs.service"]) == 0
    text = capsys.readouterr().out
    assert "@BIN@" not in text and "/vexfs serve --config" in text
    assert run("vexctl", ["setup", "show", "nonsense"]) == 2


def test_what_was_changed_is_kept_unless_forced(tmp_path, capsys):
    words = ["setup", "install", "haproxy", "sysctl", "--root", str(tmp_path), "--json"]
    assert run("vexctl", words) == 0
    capsys.readouterr()
    mine = tmp_path / "etc/haproxy/haproxy.cfg"
    mine.write_text("mine\n")
    (tmp_path / "etc/sysctl.d/60-vexfs.conf").write_text("old\n")
    assert run("vexctl", words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kept"] == [str(mine)] and mine.read_text() == "mine\n"
    assert "old" not in (tmp_path / "etc/sysctl.d/60-vexfs.conf").read_text()
    assert run("vexctl", [*words, "--force"]) == 0
    assert mine.read_text() != "mine\n"
    assert run("vexctl", ["setup", "install", "nonsense"]) == 2


def test_dry_run_writes_nothing(tmp_path, capsys):
    assert run("vexctl", ["setup", "install", "--dry-run", "--root", str(tmp_path)]) == 0
    assert not list(tmp_path.iterdir())
    told = capsys.readouterr().out
    assert "to write   " in told and "written" not in told


def test_a_file_of_other_bytes_is_no_fault(tmp_path, capsys):
    mine = tmp_path / "etc/vexfs/vexfs-performance.conf"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"# caf\xe9\n")
    assert run("vexctl", ["--json", "setup", "install", "systemd", "--root", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == [str(mine)] and mine.read_bytes() == b"# caf\xe9\n"


def test_systemd_takes_every_unit(installed):
    verify = program("systemd-analyze", "systemd")
    units = sorted((installed / "etc/systemd/system").iterdir())
    assert len(units) == 5
    done = subprocess.run([verify, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    # The host's own units are loaded as well: only what is said of ours counts.
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "vexfs" in line]
    assert not ours, ours
    weekly = subprocess.run([verify, "calendar", "Sun *-*-* 03:00:00"], capture_output=True, text=True, check=False)
    assert weekly.returncode == 0


@pytest.mark.parametrize("name", ["monitor", "recover", "validate"])
def test_what_stands_around_the_node_may_do_little(installed, name):
    security = [program("systemd-analyze", "systemd"), "security", "--offline=true", "--threshold=50"]
    unit = installed / f"etc/systemd/system/vexfs-{name}.service"
    done = subprocess.run([*security, unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_manual_pages_come_with_the_units_that_name_them(tmp_path, capsys):
    assert run("vexctl", ["setup", "install", "systemd", "--root", str(tmp_path)]) == 0
    named = {n for unit in tmp_path.rglob("*.service") for n in re.findall(r"man:(\w+)\(1\)", unit.read_text())}
    assert named == {"vexfs", "vexctl"} == {page.stem for page in tmp_path.rglob("*.1")}


def test_the_unit_s_command_starts_reloads_and_stops_a_node(serve, tmp_path):
    """As systemd does it: Type=notify, ExecReload, SIGTERM."""
    unit = text_of(next(p for p in PIECES if p.source.endswith("vexfs.service")))
    assert "Type=notify" in unit and "ExecReload=/bin/kill -HUP $MAINPID" in unit
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(120)
    node = serve("n1", NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="600000")
    said = [listener.recv(4096).decode() for _ in range(3)]
    assert any("READY=1" in each for each in said) and any("WATCHDOG=1" in each for each in said)
    node.file.write_text("[performance_optimizations]\nmedium_buffer_count = 96\n")
    node.process.send_signal(signal.SIGHUP)
    until(lambda: node.vexctl("performance memory-pools status")[1]["tiers"]["medium"]["capacity"] == 96, "reload")
    node.process.terminate()
    assert node.process.wait(120) == 0


def test_the_mount_of_the_unit_is_seen_by_the_host():
    """No option of the unit may give the node a mount namespace of its own."""
    unit = text_of(next(p for p in PIECES if p.source.endswith("vexfs.service")))
    private = (
        r"^(Private\w+|Protect\w+|ReadOnlyPaths|ReadWritePaths|InaccessiblePaths|DynamicUser|TemporaryFileSystem)="
    )
    assert not re.findall(private, unit, re.MULTILINE)


def test_sysctl_settings_exist_and_are_what_check_wants():
    text = text_of(next(p for p in PIECES if p.source.startswith("sysctl")))
    set_here = dict(re.findall(r"^([\w.-]+) = (\w+)$", text, re.MULTILINE))
    wanted = {s.sysctl: s for s in host.settings() if s.sysctl}
    assert set(set_here) == set(wanted)
    for name, value in set_here.items():
        assert Path("/proc/sys", *name.split(".")).exists(), name
        assert wanted[name].good(value), name


@pytest.mark.parametrize("name", ["vexfs-monitor", "vexfs-recover", "vexfs-validate"])
def test_scripts_are_plain_shell(installed, name):
    script = installed / "lib" / name
    assert os.access(script, os.X_OK)
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
