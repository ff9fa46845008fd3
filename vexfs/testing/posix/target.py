"""Where a case runs: a directory, the users that act there, and the checks."""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from vexfs.testing.posix import calls
from vexfs.testing.posix.actor import Actor

OWNER, STRANGER, MEMBER = 65531, 65532, 65533
GROUP = 65530
_COARSE = 5  # CLOCK_REALTIME_COARSE, to which `time` gives no name


@dataclass
class Target:
    """A directory under judgement.

    Attributes
    ----------
    root
        An empty, writable directory.
    lacks
        Name of a case: the reason why it does not hold here.  Such a case is skipped.
    step_s
        Time after which a change gets a later timestamp.
    link_max, file_max
        The limits of hard links and of a file's size, where they are to be reached; None: out of reach.
    """

    root: str
    lacks: dict[str, str] = field(default_factory=dict)
    step_s: float = 0.001
    file_max: int | None = None

    def __post_init__(self) -> None:
        self.actors: dict[tuple[int, int, tuple[int, ...]], Actor] = {}

    def actor(self, uid: int, gid: int, groups: tuple[int, ...] = ()) -> Actor:
        """A process of that user; it is kept for the next case."""
        key = (uid, gid, groups)
        if key not in self.actors:
            self.actors[key] = Actor(uid, gid, groups)
        return self.actors[key]

    def close(self) -> None:
        """End the users' processes."""
        for actor in self.actors.values():
            actor.close()
        self.actors.clear()


class Failed(AssertionError):
    """A check did not hold."""


class Stage:
    """One case's directory, users and checks."""

    def __init__(self, target: Target, name: str) -> None:
        self.target, self.checks = target, 0
        self.here = os.path.join(target.root, name)
        os.mkdir(self.here)
        os.chmod(self.here, 0o755)

    # -- things to act on

    def at(self, *names: str) -> str:
        """A path in the case's directory."""
        return os.path.join(self.here, *names)

    def file(self, name: str, content: bytes = b"", mode: int = 0o644, uid: int = -1, gid: int = -1) -> str:
        """A new file with content, mode and owner."""
        path = self.at(name)
        calls.create(path, mode, content)
        os.chown(path, uid, gid)
        os.chmod(path, mode)
        return path

    def directory(self, name: str, mode: int = 0o755, uid: int = -1, gid: int = -1) -> str:
        """A new directory with mode and owner."""
        path = self.at(name)
        os.mkdir(path)
        os.chown(path, uid, gid)
        os.chmod(path, mode)
        return path

    def thing(self, kind: str, name: str) -> str:
        """Something of a kind in :data:`KINDS`."""
        path = self.at(name)
        KINDS[kind](path)
        return path

    @property
    def privileged(self) -> bool:
        """Whether other users can be acted as."""
        return os.geteuid() == 0

    def user(self, uid: int = OWNER, gid: int | None = None, groups: tuple[int, ...] = ()) -> Actor:
        """A process of another user."""
        return self.target.actor(uid, uid if gid is None else gid, groups)

    # -- checks

    def same(self, got: Any, wanted: Any, what: str = "") -> None:
        """The two are equal."""
        self.checks += 1
        if got != wanted:
            raise Failed(f"{what or 'value'} is {got!r}, where {wanted!r} is right")

    def true(self, holds: object, what: str) -> None:
        """`holds` holds."""
        self.checks += 1
        if not holds:
            raise Failed(what)

    def refuses(self, code: int | tuple[int, ...], call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """The call fails with the errno, or with one of several that the manual page allows."""
        self.checks += 1
        codes = code if isinstance(code, tuple) else (code,)
        wanted = " or ".join(errno.errorcode[c] for c in codes)
        label = f"{getattr(call, '__name__', call)}{tuple(short(a) for a in args)}"
        try:
            call(*args, **kwargs)
        except OSError as error:
            if error.errno not in codes:
                got = errno.errorcode.get(error.errno or 0, str(error.errno))
                raise Failed(f"{label}: {got}, where {wanted} is right") from error
            return
        raise Failed(f"{label} succeeded, where {wanted} is right")

    def later(self) -> None:
        """Let time pass until a change is seen in a timestamp: the clock of files goes in steps of the kernel's."""
        before = time.clock_gettime_ns(_COARSE)
        time.sleep(self.target.step_s)
        while time.clock_gettime_ns(_COARSE) <= before:
            time.sleep(self.target.step_s)

    @contextlib.contextmanager
    def touches(self, path: str, *fields: str) -> Iterator[None]:
        """Of the times of `path`, exactly `fields` (of atime, mtime, ctime) move in the block, and to now.

        Where atime is not among them it is not looked at: mounts differ in when reading moves it.
        """
        before = os.lstat(path)
        self.later()
        yield
        after = os.lstat(path)
        for name in ("atime", "mtime", "ctime"):
            old, new = getattr(before, f"st_{name}_ns"), getattr(after, f"st_{name}_ns")
            if name in fields:
                self.true(new > old, f"{name} of {short(path)} did not move")
            elif name != "atime":
                self.true(new == old, f"{name} of {short(path)} moved")


KINDS: dict[str, Callable[[str], Any]] = {
    "file": calls.create,
    "dir": os.mkdir,
    "fifo": os.mkfifo,
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o644),
    "symlink": lambda path: os.symlink("nowhere", path),
}
"""Each kind of file that any user may make, and how."""


def short(value: Any) -> Any:
    """A long path is told by its end."""
    return f"...{value[-30:]}" if isinstance(value, str) and len(value) > 40 else value
