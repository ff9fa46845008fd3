"""Random filesystem work whose every intermediate state is known.

A `Workload` draws operations from a seed and carries them out on the model filesystem, so that two processes with one
seed know the same history: the state after each operation, as a digest, and what each fsync promised.  Several
workloads run side by side when each keeps to names with its own prefix.
"""

# ruff: noqa: D102 - an operation of `Actor` is what its name says

import errno
import hashlib
import os
import random
import stat
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from vexfs.testing.model import ModelFilesystem
from vexfs.testing.nodes import KEEP_SIZE, PUNCH_HOLE, Node

SHARED = b"/shared"
NOW = 1_500_000_000_000_000_000  # times that the workload sets are before it, those of the clock behind it
SIZES = (0, 1, 100, 700, 3000, 4095, 4096, 4097, 9000, 20_000, 70_000, 131_072, 140_000, 400_000)
WEIGHTS = {
    "create": 10, "write": 18, "append": 10, "truncate": 6, "rename": 8, "exchange": 1, "link": 4, "symlink": 2,
    "unlink": 6, "rmdir": 2, "mkdir": 4, "mkfifo": 1, "chmod": 2, "chown": 1, "utimens": 2, "setxattr": 4,
    "removexattr": 1, "hold": 3, "htmpfile": 2, "hlink": 2, "hwrite": 5, "htruncate": 1, "hpunch": 2, "drop": 2,
    "read": 5, "fsync": 5, "hfsync": 1, "sync": 1, "save": 4, "compact": 0.5, "drop_caches": 0.7,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """One step: a method of `Actor` and its arguments."""

    name: str
    args: tuple[Any, ...] = ()


@cache
def content(seed: int, size: int) -> bytes:
    """The bytes that a write of this seed puts: every third compresses well."""
    rng = random.Random(seed)
    if seed % 3 == 0:
        return (rng.randbytes(29) * (size // 29 + 1))[:size]
    return rng.randbytes(size)


class Actor:
    """Carries operations out on a filesystem: the compiled one or the model, which answer alike."""

    def __init__(self, fs: Any) -> None:
        self.fs = fs
        self.slots: dict[int, int] = {}

    def run(self, operation: Operation) -> tuple[int, Any]:
        """The errno (0: none) and the answer."""
        try:
            return 0, getattr(self, operation.name)(*operation.args)
        except OSError as error:
            return error.errno or errno.EIO, None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self.fs, name)  # type: ignore[no-any-return]

    def create(self, path: bytes) -> None:
        self.fs.release(self.fs.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))

    def _regular(self, path: bytes) -> None:
        """Content is that of regular files: what a fifo does is up to whoever opens it."""
        kind = stat.S_IFMT(self.fs.stat(path, follow_symlinks=False).st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            raise OSError(errno.EINVAL, "not a regular file")

    def write(self, path: bytes, offset: int, seed: int, size: int) -> None:
        self._regular(path)
        ino = self.fs.open(path, os.O_WRONLY | os.O_NOFOLLOW)
        try:
            self.fs.write(ino, content(seed, size), offset)
        finally:
            self.fs.release(ino)

    def read(self, path: bytes, offset: int, size: int) -> bytes:
        self._regular(path)
        ino = self.fs.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return self.fs.read(ino, size, offset)  # type: ignore[no-any-return]
        finally:
            self.fs.release(ino)

    def fsync(self, path: bytes) -> None:
        self.fs.fsync(self.fs.resolve(path, follow_symlinks=False))

    def hold(self, slot: int, path: bytes) -> None:
        self._regular(path)
        ino = self.fs.open(path, os.O_RDWR | os.O_NOFOLLOW)
        self.drop(slot)
        self.slots[slot] = ino

    def htmpfile(self, slot: int, directory: bytes) -> None:
        ino = self.fs.open(directory, os.O_TMPFILE | os.O_RDWR, 0o644)
        self.drop(slot)
        self.slots[slot] = ino

    def hlink(self, slot: int, path: bytes) -> None:
        if slot in self.slots:
            self.fs.link_ino(self.slots[slot], path)

    def hwrite(self, slot: int, offset: int, seed: int, size: int) -> None:
        if slot in self.slots:
            self.fs.write(self.slots[slot], content(seed, size), offset)

    def htruncate(self, slot: int, size: int) -> None:
        if slot in self.slots:
            self.fs.truncate_ino(self.slots[slot], size)

    def hpunch(self, slot: int, offset: int, size: int) -> None:
        if slot in self.slots:
            self.fs.fallocate(self.slots[slot], PUNCH_HOLE | KEEP_SIZE, offset, size)

    def hfsync(self, slot: int) -> None:
        if slot in self.slots:
            self.fs.fsync(self.slots[slot])

    def drop(self, slot: int) -> None:
        if slot in self.slots:
            self.fs.release(self.slots.pop(slot))

    def drop_all(self) -> None:
        for slot in list(self.slots):
            self.drop(slot)

    def compact(self) -> None:
        if hasattr(self.fs, "compact"):
            self.fs.compact()


class Workload:
    """A seeded sequence of operations under a name prefix, on a model of its own.

    ``digests[k]`` is the state after `k` operations; ``promises[k]`` is set when operation `k` (from 0) synced: so many
    operations are durable when it returns, and -1 stands for all of every workload that returned before it began.
    """

    def __init__(self, seed: int, thread: int = 0, alone: bool = True) -> None:
        self.prefix = b"" if alone else b"t%d-" % thread
        self.now = 0
        self.model = ModelFilesystem(clock=lambda: self.now)
        self.actor = Actor(self.model)
        self.rng = random.Random(seed * 1000 + thread)
        self.queue: deque[Operation] = deque()
        self.lines: dict[tuple[int, int], tuple[Any, ...]] = {}
        self.model.mkdir(SHARED, 0o755)
        self.digests = [self.digest()]
        self.promises: dict[int, int] = {}

    def reseed(self, seed: int) -> None:
        """Go on with other operations, every file closed: a new process on the recovered volume."""
        self.actor.drop_all()
        self.rng = random.Random(seed)
        self.queue.clear()

    # -- history

    def advance(self, operation: Operation) -> tuple[int, Any]:
        """Carry it out on the model and note the state after it."""
        self.now += 1
        answer = self.actor.run(operation)
        if answer[0] == 0 and operation.name in ("fsync", "hfsync", "sync", "compact"):
            self.promises[self.now - 1] = self._promise(operation)
        self.digests.append(self.digest())
        return answer

    def _promise(self, operation: Operation) -> int:
        if operation.name in ("sync", "compact"):
            return -1
        if operation.name == "hfsync":
            ino = self.actor.slots.get(operation.args[0])
            return 0 if ino is None else self.model._table.by_ino(ino).ctime
        return self.model.stat(operation.args[0], follow_symlinks=False).st_ctime_ns

    def state(self) -> dict[bytes, tuple[Any, ...]]:
        """Each path of this workload and what is to be found there."""
        first: dict[int, bytes] = {}
        out = {}
        for path, node in sorted(self.model._table.named(), key=lambda entry: entry[0]):
            if mine(path, self.prefix):
                key = node.ino, node.ctime
                if key not in self.lines:
                    self.lines[key] = _model_line(node)
                out[path] = (*self.lines[key], first.setdefault(node.ino, path))
        return out

    def digest(self) -> bytes:
        """A fingerprint of `state`."""
        return fingerprint(self.state())

    # -- drawing

    def draw(self) -> Operation:
        """The next operation; it may be one that fails."""
        if self.queue:
            return self.queue.popleft()
        name = self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if name in ("create", "mkdir") and len(self.model._table.nodes) > 70:
            name = "unlink"
        made = getattr(self, f"_draw_{name}", None)
        return made() if made else Operation(name)

    def _paths(self, *kinds: Callable[[int], bool]) -> list[bytes]:
        return [
            path
            for path, node in self.model._table.named()
            if path not in (b"/", SHARED)
            and mine(path, self.prefix)
            and (not kinds or any(kind(node.mode) for kind in kinds))
        ]

    def _some(self, *kinds: Callable[[int], bool]) -> bytes:
        paths = self._paths(*kinds)
        return self.rng.choice(sorted(paths)) if paths else self._new()

    def _file(self) -> bytes:
        return self._some(stat.S_ISREG)

    def _new(self) -> bytes:
        """A place for a name: often taken already."""
        bases = [b"", SHARED, *(path for path in sorted(self._paths(stat.S_ISDIR)) if path.count(b"/") < 4)]
        base, number = self.rng.choice(bases), self.rng.randrange(30)
        name = b"n%02d" % number if number < 27 else bytes([0x80 + number]) * (255 - len(self.prefix))
        return base + b"/" + self.prefix + name

    def _data(self) -> tuple[int, int]:
        size = self.rng.choice(SIZES) if self.rng.random() < 0.6 else self.rng.randrange(12_000)
        return self.rng.randrange(1 << 30), size

    def _offset(self, size: int) -> int:
        way = self.rng.random()
        if way < 0.4:
            return self.rng.randrange(size + 1)
        if way < 0.6:
            return self.rng.randrange(size // 4096 + 2) * 4096
        return 0 if way < 0.8 else size + self.rng.choice((0, 1, 5000, 1_100_000) if way > 0.97 else (0, 1, 5000))

    def _size_of(self, path: bytes) -> int:
        try:
            return self.model.stat(path, follow_symlinks=False).st_size
        except OSError:
            return 0

    def _draw_create(self) -> Operation:
        return Operation("create", (self._new(),))

    def _draw_write(self) -> Operation:
        path = self._file()
        return Operation("write", (path, self._offset(self._size_of(path)), *self._data()))

    def _draw_append(self) -> Operation:
        return Operation("write", (self._file(), -1, *self._data()))

    def _draw_truncate(self) -> Operation:
        path = self._file()
        return Operation("truncate", (path, self.rng.choice((0, self._offset(self._size_of(path))))))

    def _draw_rename(self) -> Operation:
        return Operation("rename", (self._some(), self._new() if self.rng.random() < 0.5 else self._file()))

    def _draw_exchange(self) -> Operation:
        return Operation("rename", (self._some(), self._some(), 2))

    def _draw_link(self) -> Operation:
        return Operation("link", (self._file(), self._new()))

    def _draw_symlink(self) -> Operation:
        return Operation("symlink", (self._new(), self._new()))

    def _draw_unlink(self) -> Operation:
        return Operation("unlink", (self._some(stat.S_ISREG, stat.S_ISLNK, stat.S_ISFIFO),))

    def _draw_rmdir(self) -> Operation:
        return Operation("rmdir", (self._some(stat.S_ISDIR),))

    def _draw_mkdir(self) -> Operation:
        return Operation("mkdir", (self._new(), 0o755))

    def _draw_mkfifo(self) -> Operation:
        return Operation("mknod", (self._new(), stat.S_IFIFO | 0o600))

    def _draw_chmod(self) -> Operation:
        return Operation("chmod", (self._some(stat.S_ISREG, stat.S_ISDIR), self.rng.choice((0o600, 0o755, 0o4755))))

    def _draw_chown(self) -> Operation:
        return Operation("chown", (self._some(), self.rng.randrange(3), self.rng.randrange(3), False))

    def _draw_utimens(self) -> Operation:
        times = self.rng.randrange(NOW), self.rng.randrange(NOW)
        return Operation("utimens", (self._some(), *times, False))

    def _draw_setxattr(self) -> Operation:
        seed, size = self._data()
        name = b"user.x%d" % self.rng.randrange(4)
        return Operation("setxattr", (self._some(), name, content(seed, min(size, 9000)), 0, False))

    def _draw_removexattr(self) -> Operation:
        return Operation("removexattr", (self._some(), b"user.x%d" % self.rng.randrange(4), False))

    def _draw_hold(self) -> Operation:
        return Operation("hold", (self.rng.randrange(4), self._file()))

    def _draw_htmpfile(self) -> Operation:
        return Operation("htmpfile", (self.rng.randrange(4), self._some(stat.S_ISDIR)))

    def _draw_hlink(self) -> Operation:
        return Operation("hlink", (self.rng.randrange(4), self._new()))

    def _draw_hwrite(self) -> Operation:
        offset = self.rng.choice((-1, 0, self.rng.randrange(50_000)))
        return Operation("hwrite", (self.rng.randrange(4), offset, *self._data()))

    def _draw_htruncate(self) -> Operation:
        return Operation("htruncate", (self.rng.randrange(4), self.rng.choice((0, self.rng.randrange(50_000)))))

    def _draw_hpunch(self) -> Operation:
        offset = self.rng.choice((0, 4096 * self.rng.randrange(20), self.rng.randrange(50_000)))
        return Operation("hpunch", (self.rng.randrange(4), offset, self.rng.choice((4096, 40_960, 70_001))))

    def _draw_hfsync(self) -> Operation:
        return Operation("hfsync", (self.rng.randrange(4),))

    def _draw_drop(self) -> Operation:
        return Operation("drop", (self.rng.randrange(4),))

    def _draw_read(self) -> Operation:
        path = self._file()
        return Operation("read", (path, self._offset(self._size_of(path)), self.rng.randrange(200_000)))

    def _draw_fsync(self) -> Operation:
        return Operation("fsync", (self._some(stat.S_ISREG, stat.S_ISDIR),))

    def _draw_save(self) -> Operation:
        """The way that programs replace a file: write another one, sync it, rename it over the first."""
        target, fresh = self._file(), self._new()
        self.queue.append(Operation("write", (fresh, 0, *self._data())))
        if self.rng.random() < 0.7:
            self.queue.append(Operation("fsync", (fresh,)))
        self.queue.append(Operation("rename", (fresh, target)))
        if self.rng.random() < 0.5:
            self.queue.append(Operation("fsync", (target,)))
        return Operation("create", (fresh,))


def mine(path: bytes, prefix: bytes) -> bool:
    """Whether a path belongs to the workload with this prefix: all do when it is alone."""
    if not prefix:
        return True
    parts = path.split(b"/")
    own = parts[2] if parts[1] == SHARED[1:] and len(parts) > 2 else parts[1]
    return own.startswith(prefix)


def fingerprint(state: dict[bytes, tuple[Any, ...]]) -> bytes:
    """A digest of what `Workload.state` or `read_state` answers."""
    return hashlib.blake2b(repr(sorted(state.items())).encode(), digest_size=12).digest()


def _model_line(node: Node) -> tuple[Any, ...]:
    data = b"" if node.is_dir else node.target if node.is_link else node.content.read(node.size, 0)
    times = tuple("now" if t < 1_000_000_000 else t for t in (node.atime, node.mtime))
    return _line(node.mode, node.uid, node.gid, node.nlink, node.size, data, sorted(node.xattrs.items()), times)


def _line(
    mode: int, uid: int, gid: int, nlink: int, size: int, data: bytes, xattrs: Any, times: tuple[Any, ...]
) -> tuple[Any, ...]:
    length = 0 if stat.S_ISDIR(mode) else size
    kept = [(name, hashlib.blake2b(value, digest_size=8).hexdigest()) for name, value in xattrs]
    return oct(mode), uid, gid, nlink, length, hashlib.blake2b(data, digest_size=12).hexdigest(), kept, times


def read_state(fs: Any) -> dict[bytes, tuple[Any, ...]]:
    """Each path of a volume and what is found there, every byte read, in the form of `Workload.state`.

    Raises
    ------
    OSError
        Something cannot be read.
    """
    lines: dict[bytes, tuple[int, tuple[Any, ...]]] = {}
    todo = [b"/"]
    while todo:
        path = todo.pop()
        found = fs.stat(path, follow_symlinks=False)
        mode, data = found.st_mode, b""
        if stat.S_ISDIR(mode):
            todo += [path.rstrip(b"/") + b"/" + name for name, _, _ in fs.scandir(path)]
        elif stat.S_ISLNK(mode):
            data = fs.readlink(path)
        elif stat.S_ISREG(mode):
            data = fs.read_file(path)
        xattrs = sorted((name, fs.getxattr(path, name, False)) for name in fs.listxattr(path, False))
        times = tuple("now" if t >= NOW else t for t in (found.st_atime_ns, found.st_mtime_ns))
        line = _line(mode, found.st_uid, found.st_gid, found.st_nlink, found.st_size, data, xattrs, times)
        lines[path] = found.st_ino, line
    first: dict[int, bytes] = {}
    return {path: (*line, first.setdefault(ino, path)) for path, (ino, line) in sorted(lines.items())}


def differences(found: dict[bytes, tuple[Any, ...]], expected: dict[bytes, tuple[Any, ...]]) -> list[str]:
    """What stands against what was expected, a line for each path that is not alike."""
    out = []
    for path in sorted(found.keys() | expected.keys()):
        if found.get(path) != expected.get(path):
            name = path if len(path) < 80 else path[:77] + b"..."
            out.append(f"{name!r}: found {found.get(path)}, expected {expected.get(path)}")
    return out
