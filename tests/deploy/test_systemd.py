"""The units under a real systemd."""

import signal

import pytest

from tests.deploy.booted import Booted
from tests.deploy.conftest import until


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with Booted(tmp_path_factory.mktemp("host") / "top") as booted:
        booted.told("vexctl setup install systemd")
        booted.told("mkdir -p /mnt/notes && sed -i 's|^# mountpoint = .*|mountpoint = \"/mnt/notes\"|' "
                    "/etc/vexfs/vexfs-performance.conf")  # fmt: skip
        booted.told("systemctl daemon-reload && systemctl enable --now vexfs vexfs-monitor vexfs-validate.timer")
        booted.told("echo remembered > /mnt/notes/a.txt")
        yield booted


def served(host):
    return host.show("StatusText").startswith("serving") and host.show("ActiveState") == "active"


def test_the_node_is_ready_when_systemctl_returns(host):
    assert served(host)
    assert host.told("cat /mnt/notes/a.txt") == "remembered"
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
    until(lambda: '"capacity": 96' in host.told(status), "the reload took effect")
    assert host.show("MainPID") == before


def test_what_is_killed_or_hangs_is_started_again_and_has_its_files(host):
    more = "/run/systemd/system/vexfs.service.d"
    host.told(f"mkdir -p {more} && printf '[Service]\\nWatchdogSec=10\\n' > {more}/soon.conf")
    host.told("systemctl daemon-reload && systemctl restart vexfs")
    for number, name in enumerate((signal.SIGKILL, signal.SIGSTOP), 1):
        main = host.show("MainPID")
        host.told(f"sync -f /mnt/notes && kill -{name} {main}")
        until(lambda main=main: host.show("MainPID") not in (main, "0") and served(host), f"a node after {name}")
        assert host.show("NRestarts") == str(number)
        assert host.told("cat /mnt/notes/a.txt") == "remembered"


def test_an_automount_comes_when_it_is_used_and_goes_when_it_is_idle(host):
    host.told("mkdir -p /mnt/auto && vexctl volume create /srv/auto.vex")
    for link in ("mount.vexfs", "mount.fuse.vexfs"):
        host.told(f"ln -sf $(command -v mount.vexfs) /sbin/{link}")
    options = "allow_other,noauto,x-systemd.automount,x-systemd.idle-timeout=2s,x-systemd.mount-timeout=200s"
    host.told(f"echo '/srv/auto.vex /mnt/auto fuse.vexfs {options} 0 0' >> /etc/fstab")
    host.told("systemctl daemon-reload && systemctl start mnt-auto.automount")
    used = "exec 3> /mnt/auto/a.txt; echo remembered >&3; systemctl show mnt-auto.mount -p ActiveState --value"
    assert host.told(used) == "active"
    until(lambda: host.show("ActiveState", "mnt-auto.mount") == "inactive", "the idle mount goes")
    assert host.told("cat /mnt/auto/a.txt") == "remembered"
    host.told("systemctl stop mnt-auto.automount")


def test_the_recovery_unit_reaches_the_node(host):
    host.run("systemctl start vexfs-recover", 280)  # whether this host reaches the targets meanwhile is another thing
    said = host.told("journalctl -u vexfs-recover --no-pager")
    for step in ("pools: counters start anew: done", "bridge: restarted: done", "stack: violations forgotten: done"):
        assert step in said, said


def test_a_configuration_that_is_refused_is_told_and_not_tried_again(host):
    host.told("cp /etc/vexfs/vexfs-performance.conf /root/good.conf && systemctl stop vexfs && "
              "printf '[storage]\\ncache_sise = \"1GB\"\\n' > /etc/vexfs/vexfs-performance.conf")  # fmt: skip
    recovered = host.show("ExecMainStartTimestampMonotonic", "vexfs-recover")
    assert host.run("systemctl start vexfs").returncode != 0
    assert host.show("ActiveState") == "failed" and host.show("NRestarts") == "0"
    until(lambda: host.show("ExecMainStartTimestampMonotonic", "vexfs-recover") != recovered, "recovery is called")
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
