"""The lock file: one process owns a volume, and whoever comes second is told who and how to reach it.

The lock itself is ``flock`` on the file, which the kernel drops when the owner dies, however it dies; what is written
in the file only tells about the owner.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

from vexfs.errors import VolumeBusy, from_errno

NAME = "lock"
#: Who asks whether a volume is owned holds its lock for a moment.
_GLANCE_S = 0.02
#: How long a moment is waited for in which nobody owns a volume.
_PATIENCE_S = 2.0
#: Between two looks.
_LOOK_S = 0.0005
#: A ``struct flock`` of the first byte.  Such a lock, of another kind than the volume's own, marks that somebody waits
#: for that moment: those who open the volume again and again leave no gap that a busy machine can be sure to meet.
_MARK = "hhqqi4x"
#: Where nothing can be written: a reader goes on.
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
SOCKET = "control.sock"  # beside it, while a mount without a node has the volume


class Lock:
    """An acquired lock.  ``announce`` adds how the owner can be reached (control socket, mountpoint)."""

    def __init__(self, directory: Path, *, shared: bool = False, when_free: bool = False) -> None:
        self.path = directory / NAME
        self.shared = shared
        self._fd = self._open(directory)
        try:
            if when_free:
                self._take_first()
            else:
                self._let_first()
                self._take(_GLANCE_S)
        except OSError as error:
            os.close(self._fd)
            self._fd = -1
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise from_errno(error.errno or errno.EIO, self.path) from error
            raise VolumeBusy.at(busy_message(directory), directory) from None
        self._info: dict[str, Any] = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "program": os.path.basename(sys.argv[0] or "python"),
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        if not shared:
            self.announce()

    def _take(self, patience_s: float) -> None:
        how = (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        until = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(self._fd, how)
                return
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise
            time.sleep(_LOOK_S)

    def _take_first(self) -> None:
        """Before those who open the volume later; another one who waits has the mark already, and goes before."""
        try:
            self._take(0)  # where both kinds of locks are one, as on NFS, a mark of our own would stand in the way
        except BlockingIOError:
            self._mark(fcntl.F_WRLCK)
            self._take(_PATIENCE_S)
            self._mark(fcntl.F_UNLCK)

    def _mark(self, kind: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, struct.pack(_MARK, kind, os.SEEK_SET, 0, 1, 0))

    def _let_first(self) -> None:
        """Wait for as long as somebody may wait who came before."""
        until = time.monotonic() + _PATIENCE_S
        while self._awaited() and time.monotonic() < until:
            time.sleep(_LOOK_S)

    def _awaited(self) -> bool:
        try:
            found = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, struct.pack(_MARK, fcntl.F_RDLCK, os.SEEK_SET, 0, 1, 0))
        except OSError:
            return False
        return bool(struct.unpack(_MARK, found)[0] != fcntl.F_UNLCK)

    def _open(self, directory: Path) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if not self.shared or error.errno not in READ_ONLY:
                told = f"{os.strerror(errno.EROFS)}; the volume can only be opened for reading (read_only, -o ro)"
                raise from_errno(
                    error.errno or errno.EIO, self.path, message=told if error.errno == errno.EROFS else None
                ) from error
        # A reader of a volume that it may not write to locks what it can open.
        return os.open(self.path if self.path.exists() else directory, os.O_RDONLY | os.O_CLOEXEC)

    def announce(self, **reach: str | None) -> None:
        """Write who owns the volume; `reach` adds or (None) takes away ways to reach the owner."""
        for name, value in reach.items():
            if value is None:
                self._info.pop(name, None)
            else:
                self._info[name] = value
        if not self.shared and self._fd >= 0:
            text = json.dumps(self._info).encode() + b"\n"
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, text, 0)

    @classmethod
    def for_checking(cls, directory: Path) -> "Lock":
        """Against everybody; on media that can only be read, where nobody writes, beside other readers."""
        try:
            return cls(directory)
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise
            return cls(directory, shared=True)

    @classmethod
    def when_free(cls, directory: Path) -> "Lock":
        """Of a volume that others have for moments, one after the other: the first in which nobody has it."""
        return cls(directory, when_free=True)

    @property
    def foreign(self) -> bool:
        """Whether the process that took the lock is another one: this one was forked from it."""
        return bool(self._info["pid"] != os.getpid())

    def forget(self) -> None:
        """In a forked child: close the descriptor; the parent's keeps the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def release(self) -> None:
        """Give the volume up; harmless when it is already given up."""
        if self._fd >= 0:
            if not self.shared:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


def owner(directory: Path) -> dict[str, Any] | None:
    """What the lock file tells about the owner, None when it tells nothing."""
    try:
        told = json.loads((directory / NAME).read_text("utf-8", "replace"))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def socket_of(directory: Path) -> str | None:
    """The control socket of the process that has the volume open for writing; None when there is neither."""
    told = (owner(directory) or {}).get("socket")
    return str(told) if told and owned(directory) else None  # what a process that died has written stays in the file


def owned(directory: Path) -> bool:
    """Whether a process has the volume open for writing."""
    try:
        fd = os.open(directory / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def read_beside(error: OSError, directory: Path) -> bool:
    """Whether a volume that cannot be opened to write can be read: its media only can be, or others only read it."""
    return error.errno in READ_ONLY or (isinstance(error, VolumeBusy) and not owned(directory))


def _mounted(path: str) -> bool:
    """Whether something is mounted there, without asking it: that may be dead."""
    shown = path.translate({ord(c): f"\\{ord(c):03o}" for c in " \t\n\\"})
    with open("/proc/self/mountinfo", errors="surrogateescape") as table:
        return any(line.split(" ", 5)[4] == shown for line in table)


def busy_message(directory: Path) -> str:
    """Who has the volume, and what to do about it."""
    told = owner(directory)
    if told is None or "pid" not in told:
        return "is in use by another process that reads it; wait until that has closed it"
    if told["pid"] == os.getpid() and told.get("host") == socket.gethostname():
        return "is already open in this process; use that Volume, or close it first"
    who = f"is in use by process {told['pid']} ({told.get('program', '?')}) on {told.get('host', '?')}"
    if told.get("since"):
        who += f" since {told['since']}"
    ways = []
    if told.get("mountpoint") and told.get("host") == socket.gethostname() and not _mounted(told["mountpoint"]):
        ways.append(f"its mount at {told['mountpoint']} was detached: it ends when no program has its files open")
    elif told.get("mountpoint"):
        ways.append(f"its files are at {told['mountpoint']}")
    if told.get("socket"):
        ways.append(f"it answers to commands of vexctl with --socket {told['socket']}")
    ways.append("stop that process to open the volume here" if not ways else "or stop it")
    return f"{who}; {', '.join(ways)}"
