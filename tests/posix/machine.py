"""Random operations on a volume and on the model filesystem: every answer, errno, byte and time must agree.

The model's clock ticks once a step, so that each of its times is either one that a step has set or the number of the
step at which it was last changed; the volume's time must then lie between the beginning and the end of that step.
"""

import errno
import os
import random
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from vexfs.testing.model import ModelFilesystem
from vexfs.testing.nodes import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE
from vexfs.testing.paths import EXCHANGE, NOREPLACE
from vexfs.volume import Volume, check

TICK = 1 << 62
CHUNK = 1 << 20

NAMES = ["a", "b", "c", "a/b", "a/c", "b/a", "a/b/c", "b/a/c", "d/e", "d", "a/.", "b/..", "a/b/..", "a/", "b/a/", "c/"]
NAMES += ["/", ".", "..", "n" * 255, "n" * 256, "a/" + "n" * 256 + "/b", "x/" * 2047 + "x", "x/" * 2048, "\udcff"]
PATHS = st.one_of(st.sampled_from(NAMES[:10]), st.sampled_from(NAMES))
TARGETS = st.sampled_from(["a", "b", "a/b", "c", "b/", "a/c", "nowhere", "../a", "/d", "/", ".", "t" * 4095])
FLAGS = [os.O_RDWR, os.O_RDONLY, os.O_CREAT | os.O_RDWR, os.O_CREAT | os.O_EXCL | os.O_RDWR]
FLAGS += [os.O_CREAT | os.O_TRUNC | os.O_RDWR, os.O_DIRECTORY, os.O_CREAT | os.O_NOFOLLOW | os.O_RDWR]
FLAGS += [os.O_TRUNC | os.O_RDWR | os.O_NOFOLLOW, os.O_NOFOLLOW, os.O_WRONLY | os.O_DIRECTORY]
FLAGS += [os.O_TMPFILE | os.O_RDWR, os.O_TMPFILE | os.O_WRONLY | os.O_EXCL, os.O_TMPFILE]
FLAGS += [os.O_TMPFILE | os.O_CREAT | os.O_RDWR]
MODES = st.sampled_from([0o644, 0o600, 0o755, 0o6755, 0o2755, 0o1777, 0o4711, 0o2644, 0, 0o7777])
KINDS = [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFREG, 0, stat.S_IFDIR, 0o130000]
OWNERS = st.sampled_from([-1, 0, 12, (1 << 32) - 2])
OFFSETS = st.one_of(
    st.integers(0, 3 * 4096),
    st.builds(lambda at, by: max(0, at + by), st.sampled_from([4096, CHUNK, 2 * CHUNK, 5 * CHUNK]), st.integers(-9, 9)),
    st.sampled_from([1 << 32, (1 << 43) - 3, 777_777]),
)
SIZES = st.one_of(st.integers(0, 9000), st.sampled_from([4095, 4096, 4097, 65536, 200_000, CHUNK + 1]))
TIMES = st.one_of(st.none(), st.integers(-(1 << 61), (1 << 61)), st.sampled_from([-1, 0, 1 << 32, -(10**9) - 1]))
XATTRS = st.sampled_from(["user.a", "user.b", "trusted.c", "security.d", "user." + "n" * 250, "user." + "n" * 251])
OTHER_XATTRS = st.sampled_from(["nonsense", "system.posix_acl_access", "user"])
VALUES = st.one_of(st.binary(max_size=40), st.sampled_from([b"v" * 65536, b"v" * 65537, b"w" * 5000]))
OF_XATTR_NAMES = frozenset({errno.ERANGE, errno.E2BIG, errno.EOPNOTSUPP})
OF_KINDS = frozenset({errno.EPERM, errno.EINVAL})
#: For dot entries and the root rename(2) leaves a choice; and of two paths either may be looked at first.
OF_RENAMES = frozenset({errno.EBUSY, errno.EINVAL, errno.EEXIST, errno.ENAMETOOLONG})
#: Of a link that leads to itself and a slash either may be told first.
OF_LOOPS = frozenset({errno.ELOOP})
ROOM = [0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE, PUNCH_HOLE, 8, 18, 19]
LIMITS = [
    {"commit_ops": 3, "dirty_limit": 1 << 16, "inode_cache": 256, "cache_size": 1 << 17},
    {"commit_ops": 50, "commit_delay_ms": 1, "prefetch_size": 0},
    {},
]


class AgainstModel(RuleBasedStateMachine):
    """The same steps on both; the volume is besides reopened, compacted, synced and made to forget."""

    def __init__(self) -> None:
        super().__init__()
        self.top = tempfile.mkdtemp(prefix="vexfs-posix-")
        self.volume: Volume | None = None
        self.windows: list[tuple[int, int]] = []
        self.open: list[tuple[int, int]] = []
        self.offsets: dict[int, set[int]] = {}

    @initialize(options=st.sampled_from(LIMITS), compression=st.sampled_from(["lz4", "none"]))
    def begin(self, options: dict[str, Any], compression: str) -> None:
        self.options = {"atime": "noatime", **options}
        self.volume = Volume.create(
            os.path.join(self.top, "v"), segment_size=1 << 20, compression=compression, **self.options
        )
        self.fs = self.volume.filesystem
        self.model = ModelFilesystem(umask=0, clock=lambda: TICK + len(self.windows))
        self.both(lambda fs: fs.chmod("/", 0o755))
        self.both(lambda fs: fs.utimens("/", 0, 0))

    def teardown(self) -> None:
        try:
            if self.volume is not None:
                self.everything_agrees()
                self.volume.close()
                report = check(os.path.join(self.top, "v"))
                assert report.sound, report.problems
        finally:
            shutil.rmtree(self.top, ignore_errors=True)

    def both(self, call: Callable[[Any], Any], unordered: frozenset[int] = frozenset()) -> tuple[Any, Any] | None:
        """What both answer, or None when both refuse with one errno.

        Where two things are wrong at once, either errno will do if one of them is in `unordered`.
        """
        answers: list[tuple[int | None, Any]] = []
        for fs in (self.model, self.fs):
            before = time.time_ns()
            try:
                answers.append((0, call(fs)))
            except OSError as error:
                answers.append((error.errno, None))
            after = time.time_ns()
        self.windows.append((before, after))
        (code, wanted), (got_code, got) = answers
        if code and got_code and {code, got_code} & unordered:
            return None
        assert got_code == code, f"{errno.errorcode.get(got_code or 0)} where {errno.errorcode.get(code or 0)} is right"
        return None if code else (got, wanted)

    # -- names

    @rule(path=PATHS, mode=MODES)
    def mkdir(self, path: str, mode: int) -> None:
        self.both(lambda fs: fs.mkdir(path, mode))

    @rule(path=PATHS, mode=MODES, kind=st.sampled_from(KINDS), device=st.sampled_from([0, 259, 1 << 20]))
    def mknod(self, path: str, mode: int, kind: int, device: int) -> None:
        self.both(lambda fs: fs.mknod(path, kind | mode, device), OF_KINDS)

    @rule(path=PATHS)
    def unlink(self, path: str) -> None:
        self.both(lambda fs: fs.unlink(path))

    @rule(path=PATHS)
    def rmdir(self, path: str) -> None:
        self.both(lambda fs: fs.rmdir(path))

    @rule(source=PATHS, goal=PATHS, flags=st.sampled_from([0, 0, 0, NOREPLACE, EXCHANGE, 3, 4]))
    def rename(self, source: str, goal: str, flags: int) -> None:
        slashes = {errno.ENOTDIR} if flags & EXCHANGE and (source + goal).count("/") else set()
        self.both(lambda fs: fs.rename(source, goal, flags), OF_RENAMES | slashes)

    @rule(source=PATHS, goal=PATHS, follow=st.booleans())
    def link(self, source: str, goal: str, follow: bool) -> None:
        self.both(lambda fs: fs.link(source, goal, follow))

    @rule(to=TARGETS, path=PATHS)
    def symlink(self, to: str, path: str) -> None:
        self.both(lambda fs: fs.symlink(to, path))

    @rule(path=PATHS)
    def readlink(self, path: str) -> None:
        pair = self.both(lambda fs: fs.readlink(path))
        assert pair is None or pair[0] == pair[1]

    @rule(path=PATHS)
    def scandir(self, path: str) -> None:
        pair = self.both(lambda fs: sorted((name, kind) for name, _, kind in fs.scandir(path)))
        assert pair is None or pair[0] == pair[1]

    # -- attributes

    @rule(path=PATHS, mode=MODES, follow=st.booleans())
    def chmod(self, path: str, mode: int, follow: bool) -> None:
        self.both(lambda fs: fs.chmod(path, mode, follow))

    @rule(path=PATHS, uid=OWNERS, gid=OWNERS, follow=st.booleans())
    def chown(self, path: str, uid: int, gid: int, follow: bool) -> None:
        self.both(lambda fs: fs.chown(path, uid, gid, follow))

    @rule(path=PATHS, atime=TIMES, mtime=TIMES, follow=st.booleans())
    def utimens(self, path: str, atime: int | None, mtime: int | None, follow: bool) -> None:
        self.both(lambda fs: fs.utimens(path, atime, mtime, follow))

    @rule(path=PATHS, name=XATTRS, value=VALUES, flags=st.sampled_from([0, 0, 1, 2]), follow=st.booleans())
    def setxattr(self, path: str, name: str, value: bytes, flags: int, follow: bool) -> None:
        self.both(lambda fs: fs.setxattr(path, name, value, flags, follow), OF_XATTR_NAMES)

    @rule(path=PATHS, name=st.one_of(XATTRS, OTHER_XATTRS), follow=st.booleans())
    def getxattr(self, path: str, name: str, follow: bool) -> None:
        pair = self.both(lambda fs: fs.getxattr(path, name, follow), OF_XATTR_NAMES)
        assert pair is None or pair[0] == pair[1]

    @rule(path=PATHS, name=XATTRS, follow=st.booleans())
    def removexattr(self, path: str, name: str, follow: bool) -> None:
        self.both(lambda fs: fs.removexattr(path, name, follow), OF_XATTR_NAMES)

    # -- content

    def special(self, path: str) -> bool:
        """Whether it leads to a device, FIFO or socket: these have their content in the kernel, not here."""
        try:
            return stat.S_IFMT(self.model.stat(path).st_mode) not in (stat.S_IFREG, stat.S_IFDIR)
        except OSError:
            return False

    @rule(path=PATHS, flags=st.sampled_from(FLAGS), mode=MODES)
    def open_file(self, path: str, flags: int, mode: int) -> None:
        if self.special(path):
            return
        pair = self.both(lambda fs: fs.open(path, flags, mode), OF_LOOPS)
        if pair is not None:
            self.open.append(pair)

    @rule(where=st.integers(0, 99), path=PATHS)
    def link_open(self, where: int, path: str) -> None:
        if self.open:
            ino, model_ino = self.open[where % len(self.open)]
            self.both(lambda fs: fs.link_ino(ino if fs is self.fs else model_ino, path))

    @rule(where=st.integers(0, 99), seed=st.integers(0, 255), size=SIZES, offset=st.one_of(OFFSETS, st.just(-1)))
    def write(self, where: int, seed: int, size: int, offset: int) -> None:
        if self.open:
            ino, model_ino = self.open[where % len(self.open)]
            start = self.model.getattr(model_ino).st_size if offset < 0 else offset
            if start + size > 1 << 44:
                return
            data = (bytes([seed]) * size) if seed % 2 else random.Random(seed).randbytes(size)
            self.both(lambda fs: fs.write(ino if fs is self.fs else model_ino, data, offset))
            self.offsets.setdefault(model_ino, set()).update((start, start + size))

    @rule(path=PATHS, size=OFFSETS)
    def truncate(self, path: str, size: int) -> None:
        self.both(lambda fs: fs.truncate(path, size))

    @rule(where=st.integers(0, 99), size=OFFSETS)
    def truncate_open(self, where: int, size: int) -> None:
        if self.open:
            ino, model_ino = self.open[where % len(self.open)]
            self.both(lambda fs: fs.truncate_ino(ino if fs is self.fs else model_ino, size))

    @rule(where=st.integers(0, 99), mode=st.sampled_from(ROOM), offset=OFFSETS, length=SIZES)
    def fallocate(self, where: int, mode: int, offset: int, length: int) -> None:
        if self.open:
            ino, model_ino = self.open[where % len(self.open)]
            self.both(lambda fs: fs.fallocate(ino if fs is self.fs else model_ino, mode, offset, length))
            self.offsets.setdefault(model_ino, set()).update((offset, offset + length))

    @rule(where=st.integers(0, 99), offset=OFFSETS, end=OFFSETS)
    def punch(self, where: int, offset: int, end: int) -> None:
        if self.open and offset < end:
            ino, model_ino = self.open[where % len(self.open)]
            hole = PUNCH_HOLE | KEEP_SIZE
            self.both(lambda fs: fs.fallocate(ino if fs is self.fs else model_ino, hole, offset, end - offset))
            self.offsets.setdefault(model_ino, set()).update((offset, end))

    @rule(path=PATHS, size=SIZES, seed=st.integers(0, 255))
    def write_file(self, path: str, size: int, seed: int) -> None:
        if not self.special(path):
            data = random.Random(seed).randbytes(size)
            self.both(lambda fs: fs.write_file(path, data), OF_LOOPS)

    @rule(where=st.integers(0, 99), size=SIZES, offset=OFFSETS)
    def read(self, where: int, size: int, offset: int) -> None:
        if self.open:
            ino, model_ino = self.open[where % len(self.open)]
            pair = self.both(lambda fs: fs.read(ino if fs is self.fs else model_ino, size, offset))
            assert pair is None or pair[0] == pair[1]

    @rule(where=st.integers(0, 99))
    def release(self, where: int) -> None:
        if self.open:
            ino, model_ino = self.open.pop(where % len(self.open))
            self.fs.release(ino)
            self.model.release(model_ino)

    # -- the volume

    @rule(where=st.integers(0, 99), datasync=st.booleans())
    def fsync(self, where: int, datasync: bool) -> None:
        if self.open:
            self.fs.fsync(self.open[where % len(self.open)][0], datasync)

    @rule(forget=st.booleans(), sync=st.booleans(), compact=st.booleans())
    def rest(self, forget: bool, sync: bool, compact: bool) -> None:
        if sync:
            self.fs.sync()
        if compact:
            self.fs.compact()
        if forget:
            self.fs.drop_caches()
        self.everything_agrees()

    @rule()
    def reopen(self) -> None:
        """Files that are open end with the volume; what had no name is gone."""
        assert self.volume is not None
        self.volume.close()
        for _, model_ino in self.open:
            self.model.release(model_ino)
        self.open.clear()
        self.volume = Volume.load(os.path.join(self.top, "v"), **self.options)
        self.fs = self.volume.filesystem
        self.everything_agrees()

    # -- comparing

    def same_time(self, got: int, wanted: int, what: str) -> None:
        if wanted < TICK:
            assert got == wanted, what
        else:
            low, high = self.windows[wanted - TICK]
            assert low <= got <= high, f"{what}: {got}, where a step from {low} to {high} has last changed it"

    def same_attributes(self, got: Any, wanted: Any, what: str) -> None:
        for name in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev"):
            assert getattr(got, name) == getattr(wanted, name), f"{what}: {name}"
        if not stat.S_ISDIR(got.st_mode):
            assert got.st_size == wanted.st_size, what
        for name in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns"):
            self.same_time(getattr(got, name), getattr(wanted, name), f"{what}: {name}")

    def same_content(self, ino: int, model_ino: int, size: int) -> None:
        spots = {0, size, *self.offsets.get(model_ino, ())} if size > 4 * CHUNK else {0}
        length = 2048 if size > 4 * CHUNK else size
        for at in spots:
            at = max(0, at - length // 2)
            assert self.fs.read(ino, length, at) == self.model.read(model_ino, length, at), f"inode {ino} at {at}"

    @invariant()
    def open_files_agree(self) -> None:
        for ino, model_ino in self.open:
            self.same_attributes(self.fs.getattr(ino), self.model.getattr(model_ino), f"inode {ino}")

    @invariant()
    def trees_agree(self) -> None:
        if self.volume is not None:
            self.walk("", content=False)

    def everything_agrees(self) -> None:
        self.walk("", content=True)
        for ino, model_ino in self.open:
            got = self.model.getattr(model_ino)
            if stat.S_ISREG(got.st_mode):
                self.same_content(ino, model_ino, got.st_size)

    def walk(self, path: str, content: bool) -> None:
        entries = {name: (ino, kind) for name, ino, kind in self.fs.scandir(path or "/")}
        wanted = {name: (ino, kind) for name, ino, kind in self.model.scandir(path or "/")}
        assert {n: kind for n, (_, kind) in entries.items()} == {n: kind for n, (_, kind) in wanted.items()}, path
        self.same_attributes(self.fs.stat(path or "/"), self.model.stat(path or "/"), path or "/")
        for name, (ino, kind) in entries.items():
            at = f"{path}/{os.fsdecode(name)}"
            if kind == stat.S_IFDIR:
                self.walk(at, content)
                continue
            got, should = self.fs.stat(at, False), self.model.stat(at, False)
            assert got.st_ino == ino, at
            self.same_attributes(got, should, at)
            if content:
                self.same_rest(at, ino, wanted[name][0], kind)

    def same_rest(self, at: str, ino: int, model_ino: int, kind: int) -> None:
        if kind == stat.S_IFREG:
            self.same_content(ino, model_ino, self.model.getattr(model_ino).st_size)
        elif kind == stat.S_IFLNK:
            assert self.fs.readlink(at) == self.model.readlink(at), at
        names = sorted(self.fs.listxattr(at, False))
        assert names == sorted(self.model.listxattr(at, False)), at
        for name in names:
            assert self.fs.getxattr(at, name, False) == self.model.getxattr(at, name, False), at
        assert self.fs.resolve(self.fs.path_of(ino), False) == ino, at
