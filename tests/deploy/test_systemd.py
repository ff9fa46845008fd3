"""The units under a real systemd: process 1 of namespaces of its own, over a copy of this host that goes with it."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.conftest import BIN, program, until

ROOT = Path(__file__).resolve().parents[2]
#: What would reach out of the namespaces: kernel settings, modules, device nodes.
MASKED = ("systemd-sysctl", "systemd-modules-load", "systemd-binfmt", "systemd-tmpfiles-setup-dev", "systemd-udevd")
BOOT = r"""
set -e
top=$1; shift
mount --make-rprivate /
mount -t tmpfs tmpfs "$top"
mkdir "$top/upper" "$top/work" "$top/all"
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" "$top/all"
cd "$top/all"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
for place in "$@"; do
    if ! [ -e ".$place/." ] || [ "$(stat -c %d "$place")" != "$(stat -c %d /)" ]; then
        mkdir -p ".$place" && mount --bind "$place" ".$place"
    fi
done
for unit in $MASKED; do ln -sf /dev/null "etc/systemd/system/$unit.service"; done
ip link set lo up 2>/dev/null || "$PYTHON" -c "$LOOPBACK"
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . "$SYSTEMD" \
    --system --unit=sysinit.target --log-target=journal --show-status=0
"""
#: SIOCSIFFLAGS: up and running.
LOOPBACK = """
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh", b"lo", 0x41))
"""


class Host:
    """A booted host; `run` is a shell command on it."""

    def __init__(self, top):
        top.mkdir()
        systemd = next((p for p in ("/lib/systemd/systemd", "/usr/lib/systemd/systemd") if os.path.exists(p)), None)
        if systemd is None:
            pytest.skip("systemd is not installed (Debian: apt-get install systemd)")
        places = [str(Path(p).resolve()) for p in (ROOT, sys.prefix, sys.base_prefix)]
        words = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup"]
        told = {"SYSTEMD": systemd, "PYTHON": sys.executable, "LOOPBACK": LOOPBACK, "MASKED": " ".join(MASKED)}
        self.process = subprocess.Popen(
            [*words, "sh", "-c", BOOT, "boot", str(top), *places], env=os.environ | told, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.first = None

    def up(self):
        """Whether it boots; what it said where it does not."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")

        def is_systemd():
            if self.process.poll() is None and (found := children.read_text().split()):
                self.first = found[0]
                return Path(f"/proc/{self.first}/comm").read_text() == "systemd\n"
            return self.process.poll() is not None

        until(is_systemd, 20, "systemd is process 1")
        if self.process.poll() is not None:
            return False, self.process.stderr.read().decode()
        said = until(lambda: self.run("systemctl is-system-running --wait").stdout.strip(), 30, "systemd answers")
        return said in ("running", "degraded"), said

    def run(self, command, timeout=60):
        words = ["nsenter", "-t", self.first, "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        path = f"PATH={BIN}:/usr/sbin:/usr/bin:/sbin:/bin"
        return subprocess.run(
            [*words, "env", path, "sh", "-c", command], capture_output=True, text=True, timeout=timeout, check=False
        )

    def told(self, command, timeout=60):
        done = self.run(command, timeout)
        assert done.returncode == 0, (command, done.stdout + done.stderr)
        return done.stdout.strip()

    def show(self, what, unit="vexfs"):
        return self.told(f"systemctl show {unit} -p {what} --value")

    def end(self):
        self.process.kill()
        self.process.communicate(timeout=20)


def is_root_of_a_host():
    return os.geteuid() == 0 and os.path.isdir("/sys/fs/cgroup") and shutil.which("unshare") is not None


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    if not is_root_of_a_host():
        pytest.skip("only root may boot a host of its own")
    program("systemctl", "systemd")
    booted = Host(tmp_path_factory.mktemp("host") / "top")
    try:
        up, said = booted.up()
        if not up:
            pytest.skip(f"systemd does not start in namespaces here: {said}")
        booted.told("vexctl setup install systemd")
        booted.told("mkdir -p /mnt/notes && sed -i 's|^# mountpoint = .*|mountpoint = \"/mnt/notes\"|' "
                    "/etc/vexfs/vexfs-performance.conf")  # fmt: skip
        booted.told("systemctl daemon-reload && systemctl enable --now vexfs vexfs-monitor vexfs-validate.timer")
        yield booted
    finally:
        booted.end()


def served(host):
    return host.show("StatusText").startswith("serving") and host.show("ActiveState") == "active"


def test_the_node_is_ready_when_systemctl_returns(host):
    assert served(host)
    host.told("echo remembered > /mnt/notes/a.txt")
    assert "/mnt/notes fuse.vexfs" in host.told("cat /proc/1/mounts")
    assert '"ok": true' in host.told("vexctl cluster health --json")
    assert host.show("ActiveState", "vexfs-monitor") == "active"
    assert "vexfs-validate.timer" in host.told("systemctl list-timers --no-pager")
    assert "serves /var/lib/vexfs/volume.vex" in host.told("journalctl -u vexfs --no-pager")


def test_reload_takes_what_changed(host):
    before = host.show("MainPID")
    host.told("sed -i 's|^# medium_buffer_count = .*|medium_buffer_count = 96|' /etc/vexfs/vexfs-performance.conf")
    host.told("systemctl reload vexfs")
    status = "vexctl performance memory-pools status --json"
    until(lambda: '"capacity": 96' in host.told(status), 20, "the reload took effect")
    assert host.show("MainPID") == before


def test_what_is_killed_or_hangs_is_started_again_and_has_its_files(host):
    more = "/run/systemd/system/vexfs.service.d"
    host.told(f"mkdir -p {more} && printf '[Service]\\nWatchdogSec=2\\n' > {more}/soon.conf")
    host.told("systemctl daemon-reload && systemctl restart vexfs")
    for number, name in enumerate((signal.SIGKILL, signal.SIGSTOP), 1):
        main = host.show("MainPID")
        host.told(f"sync -f /mnt/notes && kill -{name} {main}")
        until(lambda main=main: host.show("MainPID") not in (main, "0") and served(host), 40, f"a node after {name}")
        assert host.show("NRestarts") == str(number)
        assert host.told("cat /mnt/notes/a.txt") == "remembered"


def test_the_recovery_unit_reaches_the_node(host):
    host.run("systemctl start vexfs-recover", 180)  # whether this host reaches the targets meanwhile is another thing
    said = host.told("journalctl -u vexfs-recover --no-pager")
    for step in ("pools: counters start anew: done", "bridge: restarted: done", "stack: violations forgotten: done"):
        assert step in said, said


def test_a_configuration_that_is_refused_is_told_and_not_tried_again(host):
    host.told("cp /etc/vexfs/vexfs-performance.conf /root/good.conf && systemctl stop vexfs && "
              "printf '[storage]\\ncache_sise = \"1GB\"\\n' > /etc/vexfs/vexfs-performance.conf")  # fmt: skip
    recovered = host.show("ExecMainStartTimestampMonotonic", "vexfs-recover")
    assert host.run("systemctl start vexfs").returncode != 0
    assert host.show("ActiveState") == "failed" and host.show("NRestarts") == "0"
    until(lambda: host.show("ExecMainStartTimestampMonotonic", "vexfs-recover") != recovered, 20, "recovery is called")
    said = host.told("journalctl -u vexfs --no-pager")
    assert "cache_sise" in said and "cache_size" in said and "Traceback" not in said
    host.told("cp /root/good.conf /etc/vexfs/vexfs-performance.conf && systemctl reset-failed vexfs && "
              "systemctl start vexfs")  # fmt: skip
    assert host.told("cat /mnt/notes/a.txt") == "remembered"


def test_stopping_is_clean_and_takes_the_mount_away(host):
    host.told("systemctl stop vexfs")
    assert host.show("ActiveState") == "inactive" and host.show("Result") == "success"
    assert "/mnt/notes" not in host.told("cat /proc/1/mounts")
    assert host.show("ActiveState", "vexfs-monitor") == "inactive"
    host.told("vexctl volume fsck /var/lib/vexfs/volume.vex")
