"""A host of its own for a test: a real systemd as process 1 of namespaces, over a copy of this host."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.conftest import BIN, program, until

ROOT = Path(__file__).resolve().parents[2]
#: What would reach out of the namespaces: kernel settings, modules, device nodes.
MASKED = (
    "systemd-binfmt", "systemd-modules-load", "systemd-remount-fs", "systemd-sysctl", "systemd-tmpfiles-setup-dev",
    "systemd-udevd",
)  # fmt: skip
BOOT = r"""
set -e
top=$1; shift
mount --make-rprivate /
# Mounts of others would not end with what they have here.
grep ' fuse.vexfs ' /proc/self/mounts | while read -r _ at _; do umount -l "$(printf %b "$at")" || :; done
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


class Booted:
    """A booted host; `run` is a shell command on it.  Skips the test where none can be had."""

    def __init__(self, top):
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            pytest.skip("only root may boot a host of its own")
        program("systemctl", "systemd")
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

    @property
    def root(self):
        """Its directories, as this host sees them."""
        return Path(f"/proc/{self.first}/root")

    def __enter__(self):
        try:
            self._boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate(timeout=240)

    def _boot(self):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")

        def is_systemd():
            if self.process.poll() is None and (found := children.read_text().split()):
                self.first = found[0]
                return Path(f"/proc/{self.first}/comm").read_text() == "systemd\n"
            return self.process.poll() is not None

        until(is_systemd, "systemd is process 1")
        if self.process.poll() is not None:
            pytest.skip(f"systemd does not start in namespaces here: {self.process.stderr.read().decode()}")
        said = until(lambda: self.run("systemctl is-system-running --wait").stdout.strip(), "systemd answers")
        if said not in ("running", "degraded"):
            pytest.skip(f"systemd does not come up in namespaces here: {said}")

    def run(self, command, timeout=240, path=f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin"):
        words = ["nsenter", "-t", self.first, "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        return subprocess.run(
            [*words, "env", f"PATH={path}", "sh", "-c", command], capture_output=True, text=True, timeout=timeout,
            check=False,
        )  # fmt: skip

    def told(self, command, **more):
        done = self.run(command, **more)
        assert done.returncode == 0, (command, done.stdout + done.stderr)
        return done.stdout.strip()

    def show(self, what, unit="vexfs"):
        return self.told(f"systemctl show {unit} -p {what} --value")
