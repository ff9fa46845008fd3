"""The place in the host's tree where a volume is mounted: fit to be one, mounted now, used by whom, unmounted.

The kernel names a mounted volume's type ``fuse.vexfs`` and its source the volume's path; that is how a mount is found
again from another process.
"""

import contextlib
import ctypes
import errno
import os
import re
import shutil
import stat
import subprocess
import time
import tomllib
from collections.abc import Iterable, Iterator

import attrs

from vexfs.errors import (
    Busy,
    FileError,
    InvalidArgument,
    NotADirectory,
    NotEmpty,
    NotFound,
    NotPermitted,
    NotSupported,
    from_errno,
)

FS_TYPE = "fuse.vexfs"
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
#: How long a mount may be busy with nobody seen to use it.
_PASSING_S = 1.0
_ESCAPE = re.compile(r"\\([0-7]{3})")


@attrs.frozen
class Mounted:
    """One line of the kernel's table of mounts."""

    path: str
    fs_type: str
    source: str
    device: str


def _plain(field: str) -> str:
    raw = _ESCAPE.sub(lambda m: chr(int(m[1], 8)), field)
    return os.fsdecode(raw.encode("latin-1", "surrogateescape"))


def mounts() -> Iterator[Mounted]:
    """All mounts that this process sees, in the order in which they were made."""
    with open("/proc/self/mountinfo", encoding="latin-1") as table:
        for line in table:
            left, _, right = line.rstrip("\n").partition(" - ")
            fs_type, source, *_ = right.split(" ")
            fields = left.split(" ")
            yield Mounted(_plain(fields[4]), fs_type, _plain(source), fields[2])


def find(path: str) -> Mounted | None:
    """The topmost mount exactly at `path`, or None.  Does not touch the filesystem that is mounted there."""
    wanted = resolve(path)
    return next((m for m in reversed(list(mounts())) if m.path == wanted), None)


def resolve(path: str) -> str:
    """The absolute path without symlinks, not asking what is mounted at its end: that may be dead."""
    parent, name = os.path.split(os.path.abspath(path))
    if not name:
        return parent
    joined = os.path.join(os.path.realpath(parent), name)
    return joined if any(m.path == joined for m in mounts()) else os.path.realpath(joined)


def is_stale(path: str) -> bool:
    """Whether a FUSE mount is there whose daemon is gone."""
    try:
        os.statvfs(path)  # never answered from a cache, as a stat is
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def check(path: str, *, nonempty: bool) -> str:
    """Answer the resolved path of a directory that a volume can be mounted on.

    Raises
    ------
    NotFound, NotADirectory, Busy, NotEmpty, NotPermitted, NotSupported
        What is in the way, and the remedy.
    """
    path = resolve(path)
    here = find(path)
    if here is not None:
        if is_stale(path):
            remedy = f"vexfs umount {path}" if here.fs_type == FS_TYPE else f"umount -l {path}"
            raise Busy.at(f"a stale mount of {here.source} is still there, its daemon is gone; first: {remedy}", path)
        if here.fs_type == FS_TYPE:
            raise Busy.at(f"volume {here.source} is mounted there already; first: vexfs umount {path}", path)
        # A foreign filesystem's root is a fine mountpoint.
    try:
        info = os.stat(path)
    except FileNotFoundError:
        raise NotFound.at(f"no such directory to mount on; create it: mkdir -p {path}", path) from None
    except OSError as error:
        raise from_errno(error.errno or errno.EIO, path) from None
    if not stat.S_ISDIR(info.st_mode):
        raise NotADirectory.at("is not a directory; a volume is mounted on a directory", path)
    if not nonempty and _has_entries(path):
        raise NotEmpty.at("has files in it, which the mount would hide; empty it or add -o nonempty", path)
    _check_device()
    return path


def check_apart(path: str, volume: str) -> None:
    """Refuse to mount a volume where it would hide its own files: its process would then wait for itself, for ever.

    Raises
    ------
    InvalidArgument
    """
    place, own = resolve(path), os.path.realpath(volume)
    if os.path.commonpath((place, own)) in (place, own):
        raise InvalidArgument.at(f"the mount would hide the volume's own files, at {own}; mount it elsewhere", place)


def check_allow_other(words: frozenset[str]) -> None:
    """Refuse ``allow_other`` and ``allow_root`` where ``fusermount`` would, saying where it is allowed."""
    word = next(iter(words & {"allow_other", "allow_root"}), None)
    if word is None or os.geteuid() == 0:
        return
    try:
        with open("/etc/fuse.conf", encoding="utf-8", errors="replace") as conf:
            allowed = any(line.strip() == "user_allow_other" for line in conf)
    except OSError:
        allowed = False
    if not allowed:
        raise NotPermitted.at(f"option {word} is for root only, unless user_allow_other is set here", "/etc/fuse.conf")


def _has_entries(path: str) -> bool:
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    except PermissionError:
        raise NotPermitted.at("may not be read by you; mount as its owner", path) from None


def _check_device() -> None:
    device = "/dev/fuse"
    if not os.path.exists(device):
        raise NotSupported.at("is missing; load the module (modprobe fuse), or give the container the device", device)
    if os.geteuid() == 0:
        return
    if shutil.which("fusermount") is None:
        raise NotSupported.at("mounting without root needs it; install it (Debian: apt-get install fuse)", "fusermount")


def _detach(path: str, lazy: bool) -> int:
    code = _umount2(path, (_MNT_DETACH if lazy else 0) | _UMOUNT_NOFOLLOW)
    return _fusermount(path, lazy) if code == errno.EPERM else code


def unmount(path: str, *, lazy: bool = False) -> None:
    """Unmount `path`; `lazy` detaches it at once and lets those who use it finish.

    Raises
    ------
    InvalidArgument
        Nothing is mounted there.
    Busy
        It is in use; the message names the processes.
    NotPermitted
        Somebody else mounted it.
    """
    path = resolve(path)
    if find(path) is None:
        raise InvalidArgument.at("nothing is mounted there", path)
    code = _detach(path, lazy)
    until = time.monotonic() + _PASSING_S
    while code == errno.EBUSY and time.monotonic() < until and not users(path):
        time.sleep(0.02)  # nobody holds it: somebody was passing through, as whoever resolves a path below it does
        code = _detach(path, lazy)
    if code == errno.EBUSY:
        raise Busy.at(f"is in use{_named(users(path)) or _below(path)}; end that, or add --lazy to detach it now", path)
    if code == errno.EPERM:
        raise NotPermitted.at("was mounted by somebody else; unmount it as that user or as root", path)
    if code:
        raise from_errno(code, path)


def remount(path: str, words: Iterable[str]) -> None:
    """Change the flags of the volume that is mounted at `path` to `words`, those of ``mount -o remount,...``.

    The kernel keeps them; what the mount was told when it began stays.

    Raises
    ------
    InvalidArgument
        No volume is mounted there.
    NotSupported
        ``rw``, and the volume is open for reading alone.
    NotPermitted
        The caller is not root.
    """
    path = resolve(path)
    here = find(path)
    if here is None or here.fs_type != FS_TYPE:
        raise InvalidArgument.at("no volume is mounted there; a remount wants one", path)
    flags = frozenset(words)
    if "ro" not in flags and _opened_read_only(path):
        why = "the volume was opened for reading alone, which a remount cannot change"
        raise NotSupported.at(f"{why}; vexfs umount {path}, then mount it without ro", path)
    program = shutil.which("mount", path="/bin:/usr/bin:/sbin:/usr/sbin")
    if program is None:
        raise NotSupported.at("is missing, which changes the flags of a mount (Debian: apt-get install mount)", "mount")
    if os.geteuid() != 0:
        raise NotPermitted.at("only root may change the flags of a mount", path)
    # With source and directory mount(8) asks no fstab, and with -i no helper: that would be us again.
    options = ",".join(["remount", *sorted(flags)])
    command = [program, "-i", "-n", "-t", FS_TYPE, "-o", options, "--", here.source, path]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise FileError(errno.EIO, f"the kernel did not remount it: {' '.join(done.stderr.split())}", path)


def _opened_read_only(path: str) -> bool:
    try:
        with open(os.path.join(path, ".vexfs", "config.toml"), "rb") as told:
            return bool(tomllib.load(told).get("mount", {}).get("read_only"))
    except (OSError, ValueError):
        return False


def _umount2(path: str, flags: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.umount2(os.fsencode(path), flags) else 0


def _fusermount(path: str, lazy: bool) -> int:
    program = shutil.which("fusermount") or shutil.which("fusermount3")
    if program is None:
        return errno.EPERM
    done = subprocess.run([program, "-u", *(["-z"] if lazy else []), "--", path], capture_output=True, text=True)
    if done.returncode == 0:
        return 0
    if "busy" in done.stderr.lower():
        return errno.EBUSY
    if "not permitted" in done.stderr.lower() or "not found" in done.stderr.lower():
        return errno.EPERM
    raise FileError(errno.EIO, done.stderr.strip() or "fusermount failed", path)


def also_at(device: str) -> list[str]:
    """Where the filesystem of this device, of :class:`Mounted`, is mounted: with ``mount --bind`` at several places."""
    return [m.path for m in mounts() if m.device == device]


def elsewhere(device: str) -> list[int]:
    """A process of each other mount namespace that has the filesystem of this device mounted."""
    found: dict[str, int] = {}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        with contextlib.suppress(OSError):
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace not in found and namespace != os.readlink("/proc/self/ns/mnt"):
                with open(f"/proc/{pid}/mountinfo", encoding="latin-1") as table:
                    if any(line.split(" ", 3)[2] == device for line in table):
                        found[namespace] = pid
    return list(found.values())


def users(path: str) -> list[tuple[int, str]]:
    """Processes with an open file, a mapping or their working directory below `path`: pid and name.

    Only those that this user may look into; reads names from ``/proc`` and never asks the mounted filesystem.
    """
    prefix = path.rstrip("/") + "/"
    found = []
    for pid in (int(p) for p in os.listdir("/proc") if p.isdigit()):
        if any(link == path or link.startswith(prefix) for link in _links(pid)):
            found.append((pid, _process_name(pid)))
    return found


def _links(pid: int) -> Iterator[str]:
    base = f"/proc/{pid}"
    names = [f"{base}/cwd", f"{base}/root", f"{base}/exe"]
    for folder in ("fd", "map_files"):
        try:
            names += [f"{base}/{folder}/{n}" for n in os.listdir(f"{base}/{folder}")]
        except OSError:
            continue
    for name in names:
        try:
            yield os.readlink(name)
        except OSError:
            continue


def _process_name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
            return comm.read().strip()
    except OSError:
        return "?"


def _below(path: str) -> str:
    inner = [m.path for m in mounts() if m.path.startswith(path.rstrip("/") + "/")]
    return f" by what is mounted at {inner[-1]}" if inner else ""


def _named(processes: list[tuple[int, str]]) -> str:
    if not processes:
        return ""
    more = f" and {len(processes) - 5} more" if len(processes) > 5 else ""
    return " by " + ", ".join(f"{name} (pid {pid})" for pid, name in processes[:5]) + more
