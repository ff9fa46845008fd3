"""``vexfs mount`` and ``vexfs umount`` as people and as mount(8) call them."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from vexfs.frontends.fuse import mountpoint as place

from tests.frontends.fuse.conftest import NO_MOUNTS
from tests.waiting import until
from vexfs.store import lock
from vexfs.volume import Volume

VEXFS = [sys.executable, "-c", "from vexfs.cli.main import vexfs; vexfs()"]
HELPER = [sys.executable, "-c", "from vexfs.cli.mount import mount_vexfs; mount_vexfs()"]

pytestmark = pytest.mark.skipif(bool(NO_MOUNTS), reason=NO_MOUNTS or "")


def run(*command, timeout=240, cwd=None):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout, cwd=cwd)


@pytest.fixture
def home(tmp_path):
    Volume.create(tmp_path / "v.vex").close()
    (tmp_path / "mnt").mkdir()
    yield tmp_path
    while place.find(str(tmp_path / "mnt")):
        place.unmount(str(tmp_path / "mnt"), lazy=True)


def test_in_the_background(home):
    done = run(*VEXFS, "mount", home / "v.vex", home / "mnt", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["volume"] == str(home / "v.vex")
    assert told["mountpoint"] == str(home / "mnt")
    assert os.path.ismount(home / "mnt")  # ready when the command has returned
    (home / "mnt" / "a").write_text("kept")
    assert f"pid: {told['pid']}\n" in (home / "mnt" / ".vexfs" / "status").read_text()

    done = run(*VEXFS, "umount", home / "mnt", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["closed"] is True
    assert not os.path.ismount(home / "mnt")
    with Volume.load(home / "v.vex") as volume:  # closed when the command has returned
        assert volume.filesystem.read_file("/a") == b"kept"


@pytest.mark.parametrize(
    ("number", "busy"),
    [(signal.SIGTERM, False), (signal.SIGINT, False), (signal.SIGHUP, False), (signal.SIGTERM, True)],
)
def test_signals_unmount_cleanly(home, number, busy):
    daemon = subprocess.Popen(
        [*VEXFS, "mount", "-f", home / "v.vex", home / "mnt"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert "Ctrl-C" in daemon.stdout.readline()
    (home / "mnt" / "a").write_text("kept")
    fd = os.open(home / "mnt" / "a", os.O_RDONLY) if busy else None
    daemon.send_signal(number)
    out, err = daemon.communicate(timeout=240)
    assert (daemon.returncode, out, err) == (0, "", "")
    assert not os.path.ismount(home / "mnt")
    if fd is not None:
        with contextlib.suppress(OSError):
            os.close(fd)
    with Volume.load(home / "v.vex") as volume:
        assert volume.filesystem.read_file("/a") == b"kept"


SIGNALLED_WHILE_MOUNTING = """
import os, signal, sys
from vexfs.cli import main, mount

real = mount.fuse.mount

def signalled(*args, **options):
    mounted = real(*args, **options)
    os.kill(os.getpid(), signal.SIGTERM)
    return mounted

mount.fuse.mount = signalled
sys.exit(main.run("vexfs", ["mount", "-f", *sys.argv[1:]]))
"""


def test_a_signal_while_the_mount_comes_up_unmounts_it(home):
    done = run(sys.executable, "-c", SIGNALLED_WHILE_MOUNTING, home / "v.vex", home / "mnt", timeout=240)
    assert done.returncode == 0, done.stderr
    assert not os.path.ismount(home / "mnt")
    Volume.load(home / "v.vex").close()


def test_unmounting_by_other_means_ends_the_process(home):
    daemon = subprocess.Popen([*VEXFS, "mount", "-f", home / "v.vex", home / "mnt"], stdout=subprocess.PIPE)
    daemon.stdout.readline()
    run("umount" if os.geteuid() == 0 else "fusermount", *([] if os.geteuid() == 0 else ["-u"]), home / "mnt")
    assert daemon.wait(120) == 0


def test_the_owner_is_named(home):
    assert run(*VEXFS, "mount", home / "v.vex", home / "mnt").returncode == 0
    (home / "other").mkdir()
    done = run(*VEXFS, "mount", home / "v.vex", home / "other")
    assert done.returncode == 3
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert f"its files are at {home / 'mnt'}" in done.stderr
    assert run(*VEXFS, "umount", home / "mnt").returncode == 0


@pytest.mark.parametrize(
    ("prepare", "status", "says"),
    [
        (lambda h: (h / "mnt").rmdir(), 1, "mkdir -p"),
        (lambda h: ((h / "mnt").rmdir(), (h / "mnt").touch()), 1, "not a directory"),
        (lambda h: (h / "mnt" / "x").touch(), 1, "nonempty"),
        (lambda h: shutil.rmtree(h / "v.vex"), 3, "v.vex"),
        (lambda h: (h / "v.vex" / "volume.toml").write_text("nonsense"), 1, "volume.toml"),
        (lambda h: (h / "v.vex" / "meta.db").unlink(), 1, "meta.db"),
    ],
    ids=["missing", "file", "not empty", "no volume", "damaged", "no metadata"],
)
def test_what_is_wrong_is_said_in_one_line(home, request, prepare, status, says):
    prepare(home)
    foreground = ["-f"] if request.node.callspec.id in ("missing", "no volume") else []
    done = run(*VEXFS, "mount", *foreground, home / "v.vex", home / "mnt")
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("vexfs: ")
    assert says in done.stderr
    assert not os.path.ismount(home / "mnt")


def test_bad_options_are_usage_errors(home):
    done = run(*VEXFS, "mount", home / "v.vex", home / "mnt", "-o", "ro,cashe_size=1")
    assert done.returncode == 2
    assert "did you mean cache_size?" in done.stderr


def test_nonempty(home):
    (home / "mnt" / "x").touch()
    assert run(*VEXFS, "mount", home / "v.vex", home / "mnt", "-o", "nonempty").returncode == 0
    assert os.listdir(home / "mnt") == []
    assert run(*VEXFS, "umount", home / "mnt").returncode == 0
    assert os.listdir(home / "mnt") == ["x"]


def test_read_only(home):
    with Volume.load(home / "v.vex") as volume:
        volume.filesystem.write_file("/a", b"1")
    assert run(*VEXFS, "mount", home / "v.vex", home / "mnt", "-o", "ro").returncode == 0
    assert (home / "mnt" / "a").read_bytes() == b"1"
    with pytest.raises(OSError, match="Read-only"):
        (home / "mnt" / "b").touch()
    assert run(*VEXFS, "umount", home / "mnt").returncode == 0


def test_after_a_crash_the_message_names_a_remedy_that_works(home):
    told = json.loads(run(*VEXFS, "mount", home / "v.vex", home / "mnt", "--json").stdout)
    (home / "mnt" / "a").write_text("kept")
    fd = os.open(home / "mnt" / "a", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    os.kill(told["pid"], signal.SIGKILL)
    until(lambda: place.is_stale(str(home / "mnt")) and not lock.owned(home / "v.vex"))
    done = run(*VEXFS, "mount", home / "v.vex", home / "mnt")
    assert done.returncode == 1
    assert "stale" in done.stderr
    assert f"vexfs umount {home / 'mnt'}" in done.stderr
    done = run(*VEXFS, "umount", home / "mnt")
    assert done.returncode == 0, done.stderr
    assert "stale" in done.stdout
    assert run(*VEXFS, "mount", home / "v.vex", home / "mnt").returncode == 0
    assert (home / "mnt" / "a").read_text() == "kept"
    assert run(*VEXFS, "umount", home / "mnt").returncode == 0


def test_unmounting_what_is_busy_names_who_uses_it(home):
    assert run(*VEXFS, "mount", home / "v.vex", home / "mnt").returncode == 0
    user = subprocess.Popen(["sleep", "60"], cwd=home / "mnt")
    try:
        done = run(*VEXFS, "umount", home / "mnt")
        assert done.returncode == 1
        assert f"sleep (pid {user.pid})" in done.stderr
        assert "--lazy" in done.stderr
        assert run(*VEXFS, "umount", "--lazy", home / "mnt").returncode == 0
        assert not os.path.ismount(home / "mnt")
        again = run(*VEXFS, "mount", home / "v.vex", home / "mnt")
        assert again.returncode == 3 and "was detached" in again.stderr and "its files are at" not in again.stderr
    finally:
        user.kill()
        user.wait()
    until(lambda: can_be_opened(home / "v.vex"))  # the last user has gone: the process behind the mount goes, too


def can_be_opened(path):
    try:
        Volume.load(path).close()
    except OSError:
        return False
    return True


def test_unmounting_what_is_not_mounted(home):
    done = run(*VEXFS, "umount", home / "mnt")
    assert done.returncode == 2
    assert "nothing is mounted there" in done.stderr
    done = run(*VEXFS, "umount", "/proc")
    assert done.returncode == 2
    assert "proc" in done.stderr


def test_the_helper_of_mount_8(home):
    words = ["-n", "-s", "-o", "rw,noauto,nofail,x-systemd.idle-timeout=9", "-t", "vexfs"]
    done = run(*HELPER, home / "v.vex", home / "mnt", *words)
    assert done.returncode == 0, done.stderr
    found = place.find(str(home / "mnt"))
    assert found is not None
    assert (found.fs_type, found.source) == ("fuse.vexfs", str(home / "v.vex"))
    assert run(*VEXFS, "umount", home / "mnt").returncode == 0
    assert run(*HELPER, "-f", home / "v.vex", home / "mnt").returncode == 0
    assert not os.path.ismount(home / "mnt")
    assert run(*HELPER, home / "v.vex", home / "nowhere").returncode == 32
    assert run(*HELPER, home / "v.vex", home / "mnt", "-o", "nosuchthing").returncode == 1


def test_names_that_the_table_of_mounts_escapes(tmp_path):
    odd = tmp_path / "with space, comma\tand\\back"
    odd.mkdir()
    Volume.create(odd / "v.vex").close()
    (odd / "mnt").mkdir()
    try:
        done = run(*VEXFS, "mount", odd / "v.vex", odd / "mnt")
        assert done.returncode == 0, done.stderr
        found = place.find(str(odd / "mnt"))
        assert found is not None
        assert found.source == str(odd / "v.vex")
        (odd / "mnt" / "a").touch()
    finally:
        done = run(*VEXFS, "umount", odd / "mnt")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to write /etc/fstab for a moment")
def test_a_line_of_fstab(home):
    program = shutil.which("mount.vexfs", path=os.path.dirname(sys.executable))
    if not (program and shutil.which("mount.fuse", path="/sbin:/usr/sbin")):
        pytest.skip("mount.vexfs or mount.fuse is not installed")
    (home / "keys,old").mkdir()
    Volume.load(home / "locked.vex", create=True, key_file=home / "keys,old" / "key").close()
    line = f"{program}#{home}/locked.vex {home}/mnt fuse noauto,allow_other,key_file={home}/keys\\,old/key 0 0"
    (home / "fstab").write_text(line + "\n")
    done = run("mount", "-T", home / "fstab", home / "mnt")
    assert done.returncode == 0, done.stderr
    for wanted in ("ro", "rw"):
        done = run("mount", "-T", home / "fstab", "-o", f"remount,{wanted}", home / "mnt")
        assert done.returncode == 0 and wanted in flags(home / "mnt"), done.stderr
    (home / "mnt" / "a").touch()
    done = run("umount", home / "mnt")
    assert done.returncode == 0, done.stderr


def test_as_mount_fuse_calls_it_for_the_type_fuse_vexfs(home):
    done = run(*VEXFS, home / "v.vex", home / "mnt", "-o", "rw,nodev,suid,_netdev")
    assert done.returncode == 0, done.stderr
    assert os.path.ismount(home / "mnt")
    assert run(*VEXFS, "umount", home / "mnt").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a mount namespace")
def test_unmounting_tells_of_another_namespace_that_has_it_still(home):
    assert run(*VEXFS, "mount", home / "v.vex", home / "mnt").returncode == 0
    with subprocess.Popen(["unshare", "-m", "sleep", "60"]) as holder:
        try:
            while os.readlink(f"/proc/{holder.pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
                time.sleep(0.01)
            with subprocess.Popen([*VEXFS, "umount", home / "mnt"], stderr=subprocess.PIPE, text=True) as umount:
                told = umount.stderr.readline()
                assert f"those of process {holder.pid};" in told and umount.poll() is None
                holder.kill()
                assert umount.wait(120) == 0
        finally:
            holder.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_waits_for_the_close_of_a_mount_that_it_may_not_look_into(home):
    assert run(*VEXFS, "mount", home / "v.vex", home / "mnt").returncode == 0
    other = "import os; os.setresuid(0, 0, 1); from vexfs.cli.main import vexfs; vexfs()"  # for FUSE not who mounted it
    done = run(sys.executable, "-c", other, "umount", home / "mnt", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["closed"] is True


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to bind")
def test_unmounting_one_of_two_places_tells_of_the_other_and_does_not_wait(home):
    mnt, other = home / "mnt", home / "other"
    other.mkdir()
    for first, second in ((mnt, other), (other, mnt)):
        assert run(*VEXFS, "mount", home / "v.vex", mnt).returncode == 0
        assert run("mount", "--bind", mnt, other).returncode == 0
        done = run(*VEXFS, "umount", first, "--json")
        assert done.returncode == 0 and f"mounted at {second} still" in done.stderr
        assert json.loads(done.stdout)["closed"] is False
        (second / "a").touch()
        done = run(*VEXFS, "umount", second)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a tmpfs")
def test_what_is_mounted_below_is_named(home):
    assert run(*VEXFS, "mount", home / "v.vex", home / "mnt").returncode == 0
    (home / "mnt" / "in").mkdir()
    assert run("mount", "-t", "tmpfs", "none", home / "mnt" / "in").returncode == 0
    done = run(*VEXFS, "umount", home / "mnt")
    assert done.returncode == 1 and f"by what is mounted at {home}/mnt/in;" in done.stderr
    assert run("umount", home / "mnt" / "in").returncode == 0
    assert run(*VEXFS, "umount", home / "mnt").returncode == 0


@pytest.mark.parametrize("where", ["v.vex", "v.vex/segments", ".", "link/v.vex"])
def test_a_mount_that_would_hide_its_own_volume_is_refused(home, where):
    (home / "link").symlink_to(home)
    done = run(*VEXFS, "mount", home / "v.vex", home / where, "-o", "nonempty")
    assert done.returncode != 0 and not place.find(str(home / where))
    assert f"would hide the volume's own files, at {home / 'v.vex'};" in done.stderr


def flags(directory):
    return run("findmnt", "-n", "-o", "OPTIONS", directory).stdout.strip().split(",")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to change the flags of a mount")
def test_remount(home):
    mnt = home / "mnt"
    assert run(*HELPER, home / "v.vex", mnt, "-o", "rw,allow_other,cache_size=64MB").returncode == 0
    (mnt / "a").write_text("kept")
    done = run(*HELPER, home / "v.vex", mnt, "-o", "ro,noexec,remount,allow_other,cache_size=64MB,nofail")
    assert (done.returncode, done.stderr) == (0, "")
    assert {"ro", "noexec"} <= set(flags(mnt))
    with pytest.raises(OSError, match="Read-only"):
        (mnt / "b").touch()
    assert run(*VEXFS, "mount", home / "v.vex", mnt, "-o", "remount,rw").returncode == 0
    assert "rw" in flags(mnt)
    (mnt / "b").touch()
    done = run(*HELPER, home / "another.vex", mnt, "-o", "remount,ro")
    assert done.returncode == 1
    assert "v.vex mounted, not" in done.stderr
    assert run(*VEXFS, "umount", mnt).returncode == 0
    done = run(*HELPER, home / "v.vex", mnt, "-o", "remount,ro")
    assert "no volume is mounted there" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to change the flags of a mount")
def test_remount_cannot_make_a_volume_writable(home):
    assert run(*HELPER, home / "v.vex", home / "mnt", "-o", "ro").returncode == 0
    done = run(*HELPER, home / "v.vex", home / "mnt", "-o", "remount,rw")
    assert done.returncode == 32
    assert "opened for reading alone" in done.stderr
    assert "umount" in done.stderr
    assert "ro" in flags(home / "mnt")


def vexctl(*words, status=0):
    done = run(sys.executable, "-c", "from vexfs.cli.main import vexctl; vexctl()", *words)
    assert done.returncode == status, (words, done.stdout, done.stderr)
    return done.stdout or done.stderr


def test_vexctl_asks_the_mount_that_has_a_volume(home):
    """Searches, indexes and backups of a volume that is mounted without a node."""
    volume, copy = home / "v.vex", home / "copy.vex"
    assert run(*VEXFS, "mount", volume, home / "mnt").returncode == 0
    vexctl("index", "create", "/notes", "--embedder", "default", "--volume", volume)
    (home / "mnt/notes/roasts.md").write_text("Light roasts keep acidity.\n")
    found = json.loads(vexctl("search", "sour coffee", "--wait", 200, "--volume", volume, "--json"))
    assert [hit["path"] for hit in found["hits"]] == ["/notes/roasts.md"]
    assert json.loads(vexctl("volume", "info", volume, "--json"))["status"]["files"] >= 1
    vexctl("volume", "backup", volume, copy)
    assert "freed" in vexctl("volume", "compact", volume)
    with Volume.load(copy) as copied:
        assert copied.filesystem.read_file("/notes/roasts.md").startswith(b"Light")
    assert "check the copy" in vexctl("volume", "fsck", volume, status=3)
    assert "vexfs serve" in vexctl("token", "list", "--volume", volume, status=1)
    assert (volume / "control.sock").stat().st_mode & 0o777 == 0o600
    assert run(*VEXFS, "umount", home / "mnt").returncode == 0
    assert not (volume / "control.sock").exists()
    assert vexctl("search", "sour coffee", "--volume", volume).startswith("  1")


def test_a_socket_that_a_killed_mount_left_is_nobody(home):
    volume = home / "v.vex"
    told = json.loads(run(*VEXFS, "mount", volume, home / "mnt", "--json").stdout)
    os.kill(told["pid"], signal.SIGKILL)
    until(lambda: not lock.owned(volume))
    run("umount", "-l", home / "mnt")
    assert (volume / "control.sock").exists()
    assert "uuid" in vexctl("volume", "info", volume)
    assert vexctl("volume", "fsck", volume).startswith("sound")
    assert run(*VEXFS, "mount", volume, home / "mnt").returncode == 0  # and takes its place
    assert "uuid" in vexctl("volume", "info", volume)


def test_a_mount_whose_socket_cannot_be_made_does_without(home):
    deep = home / ("d" * 100)
    deep.mkdir()
    Volume.create(deep / "v.vex").close()
    done = run(*VEXFS, "mount", deep / "v.vex", home / "mnt", "--log", home / "log")
    assert done.returncode == 0 and os.path.ismount(home / "mnt")
    assert "107 bytes" in (home / "log").read_text()
    assert f"{home / 'mnt'}" in vexctl("volume", "backup", deep / "v.vex", home / "copy", status=3)


def test_a_backup_that_unmounting_ends_leaves_nothing(home):
    volume, copy = home / "v.vex", home / "copy.vex"
    with Volume.load(volume) as opened:
        opened.filesystem.write_file("/big", os.urandom(64 << 20))
    assert run(*VEXFS, "mount", volume, home / "mnt").returncode == 0
    words = [sys.executable, "-c", "from vexfs.cli.main import vexctl; vexctl()", "volume", "backup", volume, copy]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as backup:
        while not copy.exists() and not list(home.glob("copy*")):
            time.sleep(0.001)
        assert run(*VEXFS, "umount", home / "mnt").returncode == 0
        _, said = backup.communicate()
    assert (backup.returncode == 0 and copy.exists()) or (backup.returncode != 0 and not list(home.glob("copy*"))), said


@pytest.fixture
def small_disk(tmp_path):
    place_ = tmp_path / "disk"
    place_.mkdir()
    if run("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place_).returncode:
        pytest.skip("cannot mount a small disk")
    yield place_
    run("umount", "-l", place_)


def test_unmounting_on_a_full_disk_loses_nothing_unless_told_to(home, small_disk):
    volume, filler = small_disk / "v.vex", small_disk / "filler"
    Volume.create(volume).close()
    assert run(*VEXFS, "mount", volume, home / "mnt", "--log", home / "log").returncode == 0
    (home / "mnt/a").write_text("kept")
    (home / "mnt/b").write_text("removed")
    for name in "ab":
        with open(home / "mnt" / name, "rb") as file:
            os.fsync(file.fileno())
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    (home / "mnt/b").unlink()
    done = run(*VEXFS, "umount", home / "mnt")
    assert done.returncode == 1 and "still mounted" in done.stderr and "--lazy" in done.stderr
    assert os.listdir(home / "mnt") == ["a"]
    until(lambda: "no space left" in (home / "log").read_text().lower())
    assert (home / "log").read_text().lower().count("no space left on device (") == 1
    said = vexctl("volume", "create", small_disk / "other.vex", status=1)
    assert "make room" in said
    filler.unlink()
    assert run(*VEXFS, "umount", home / "mnt").returncode == 0
    with Volume.load(volume) as opened:
        assert opened.filesystem.read_file("/a") == b"kept"
        with pytest.raises(FileNotFoundError):
            opened.filesystem.read_file("/b")


def test_who_stands_in_the_mount_may_unmount_it(home):
    Volume.create(home / "in.vex").close()
    assert run(*VEXFS, "mount", home / "in.vex", home / "mnt").returncode == 0
    with subprocess.Popen(["sleep", "60"], cwd=home / "mnt") as sleeper:
        done = run(*VEXFS, "umount", ".", cwd=home / "mnt")
        assert done.returncode == 1 and f"is in use by sleep (pid {sleeper.pid}); end that" in done.stderr
        sleeper.kill()
    assert run(*VEXFS, "umount", ".", cwd=home / "mnt").returncode == 0


def test_a_warning_is_one_line_for_people(home):
    vexctl("volume", "create", home / "e.vex", "--key-file", home / "key")
    (home / "key").chmod(0o644)
    done = run(sys.executable, "-c", "from vexfs.cli.main import vexctl; vexctl()", "volume", "info", home / "e.vex",
               "--key-file", home / "key")  # fmt: skip
    assert done.returncode == 0
    assert done.stderr.startswith("vexctl: warning: ") and done.stderr.count("\n") == 1
