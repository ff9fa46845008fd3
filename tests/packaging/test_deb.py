"""The Debian package: built, installed below a directory, used, removed, purged; with dpkg itself."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.deploy.booted import Booted

ROOT = Path(__file__).resolve().parents[2]
PYTHON = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: dpkg installs as nobody else"),
    pytest.mark.skipif(not shutil.which("dpkg-shlibdeps"), reason="needs dpkg-dev (Debian: apt-get install dpkg-dev)"),
    pytest.mark.skipif(not os.path.exists(PYTHON), reason=f"the package is for the host's own Python, {PYTHON}"),
]


def told(*words, **more):
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=1500, **more)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    out = tmp_path_factory.mktemp("deb")
    return told("sh", ROOT / "tools/deb.sh", sys.executable, out).strip()


class Host:
    """A directory that dpkg takes for a host, whose programs run here."""

    def __init__(self, root):
        self.root = root
        (root / "var/lib/dpkg/info").mkdir(parents=True)
        (root / "var/lib/dpkg/updates").mkdir()
        (root / "var/lib/dpkg/status").touch()

    def dpkg(self, *words):
        own = (f"--instdir={self.root}", f"--admindir={self.root}/var/lib/dpkg", f"--log={self.root}/var/lib/dpkg/log")
        return told("dpkg", "--force-script-chrootless", "--force-depends", *own, *words)

    def files(self):
        return sorted(
            str(p.relative_to(self.root)) for p in self.root.rglob("*")
            if not p.is_dir() and "var/lib/dpkg" not in str(p)
        )  # fmt: skip


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path / "host")


def test_what_it_says_of_itself(package):
    fields = told("dpkg-deb", "--field", package)
    release = f"python3 (>= {sys.version_info[0]}.{sys.version_info[1]})"
    for wanted in ("Package: vexfs", "libsqlite3-0", "liblz4-1", "libssl3", "libfuse2", release):
        assert wanted in fields
    assert "/etc/vexfs/vexfs-performance.conf" in told("dpkg-deb", "--info", package, "conffiles")
    listed = told("dpkg-deb", "--contents", package)
    assert "__pycache__" not in listed and str(ROOT) not in listed
    for place in ("./lib/systemd/system/vexfs.service", "./sbin/mount.vexfs", "./usr/share/man/man1/vexctl.1.gz"):
        assert place in listed
    assert "./sbin/mount.fuse.vexfs -> mount.vexfs" in listed


def test_installed_used_removed_purged(package, host, tmp_path):
    host.dpkg("--install", package)
    unit = (host.root / "lib/systemd/system/vexfs.service").read_text()
    assert "ExecStart=/usr/bin/vexfs serve --config /etc/vexfs/vexfs-performance.conf" in unit
    for script in (host.root / "usr/lib/vexfs-scripts").iterdir():
        told("sh", "-n", script)
        assert str(sys.prefix) not in script.read_text()
    vexctl = host.root / "usr/bin/vexctl"
    configuration = host.root / "etc/vexfs/vexfs-performance.conf"
    told(vexctl, "config", "check", configuration)
    socket = tmp_path / "c.sock"
    ports = ("api.rest_bind", "api.websocket_bind", "monitoring.metrics_bind", "monitoring.health_check_bind")
    sets = [f"general.data_dir={host.root}/var/lib/vexfs", f"general.control_socket={socket}"]
    words = [word for each in [*sets, *(f"{port}=127.0.0.1:0" for port in ports)] for word in ("--set", each)]
    clean = {"PATH": "/usr/bin:/bin"}
    node = subprocess.Popen([host.root / "usr/bin/vexfs", "serve", "--config", configuration, *words],
                            env=clean, cwd="/", stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not socket.exists():
            assert node.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1)
        status = json.loads(told(vexctl, "node", "status", "--json", "--socket", socket, env=clean, cwd="/"))
        assert {"rest", "websocket", "metrics", "health"} <= set(status["services"])
    finally:
        node.send_signal(signal.SIGTERM)
        assert node.wait(60) == 0
    host.dpkg("--remove", "vexfs")
    left = host.files()
    assert [name for name in left if not name.startswith("var/lib/vexfs/")] == [
        "etc/vexfs/monitor.env", "etc/vexfs/vexfs-performance.conf"
    ]  # fmt: skip
    assert "is kept" in host.dpkg("--purge", "vexfs")
    assert all(name.startswith("var/lib/vexfs/volume.vex/") or "tokens" in name for name in host.files())
    assert (host.root / "var/lib/vexfs/volume.vex/volume.toml").exists()


def test_on_a_host_with_systemd(package, tmp_path):
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    with Booted(tmp_path / "top") as booted:

        def on(command):
            return booted.told(command, path=path, timeout=300)

        copy = f"{booted.root}/root/vexfs.deb"
        shutil.copy(package, copy)
        on("dpkg --force-depends -i /root/vexfs.deb")
        assert on("systemctl is-active vexfs || true") == "inactive"  # not before somebody has configured it
        on("systemctl enable --now vexfs vexfs-monitor vexfs-validate.timer")
        assert on("vexctl cluster health --json | grep -c '\"ok\": true'")
        before = booted.show("MainPID")
        on("dpkg --force-depends -i /root/vexfs.deb")
        assert booted.show("MainPID") not in (before, "0") and on("systemctl is-active vexfs vexfs-monitor")
        on("dpkg -r vexfs")
        assert on("systemctl is-active vexfs vexfs-monitor || true").split() == ["inactive"] * 2
        on("dpkg -P vexfs")
        assert on("find /etc/systemd/system /etc/vexfs -name '*vexfs*' 2>/dev/null || true") == ""
        assert on("ls /var/lib/vexfs") == "volume.vex"
