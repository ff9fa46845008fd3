"""The compiled filesystem against the model: random steps on both, with remounts and dropped caches in between."""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from vexfs._core.fs import Filesystem
from vexfs.testing.model import EXCHANGE, NOREPLACE, ModelFilesystem

NAMES = [
    "a", "b", "c", "a/b", "a/c", "b/a", "a/b/c", "b/a/c", ".", "..", "/", "a/.", "b/..", "a/b/..", "../a", "a/", "b/a/",
    "c/", "//a", "a//b", "n" * 255, "n" * 256, "a/" + "n" * 256, "x\0y", "p/" * 2100,
]  # fmt: skip
PATHS = st.sampled_from(NAMES)
TARGETS = st.sampled_from(["a", "b", "a/b", "../a", "c", ".", "..", "/", "b/", "/a/b", "nowhere", "a/../b", "t" * 4095])
FLAGS = st.sampled_from(
    [os.O_RDONLY, os.O_RDWR, os.O_CREAT | os.O_RDWR, os.O_CREAT | os.O_EXCL | os.O_RDWR, os.O_NOFOLLOW,
     os.O_CREAT | os.O_TRUNC | os.O_RDWR, os.O_DIRECTORY, os.O_CREAT | os.O_NOFOLLOW | os.O_RDWR,
     os.O_TRUNC | os.O_RDWR | os.O_NOFOLLOW]
)  # fmt: skip
MODES = st.sampled_from([0o644, 0o6755, 0o2755, 0o1777, 0o4711, 0o2644, 0])
OFFSETS = st.one_of(
    st.integers(0, 10_000), st.sampled_from([4095, 4096, 131072, 1 << 20, (1 << 20) - 1, (5 << 20) + 7, 1 << 33])
)
DATA = st.one_of(st.binary(max_size=40), st.integers(1, 300_000).map(lambda n: bytes(range(1, 252)) * (n // 251 + 1)))
SIZES = st.one_of(st.integers(0, 20_000), st.sampled_from([4096, 4097, 1 << 20, (2 << 20) + 1, 1 << 34]))
XATTRS = st.sampled_from(["user.a", "user.b", "trusted.x", "nothing", "", "user." + "n" * 300])
TIMES = st.integers(-(10**18), 4 * 10**18)
VALUES = st.binary(max_size=300)
OPTIONS = {"cache_size": 1 << 20, "dirty_limit": 1 << 20, "inode_cache": 16}


class Against(RuleBasedStateMachine):
    """The same steps on both; every answer and every errno must agree."""

    def __init__(self) -> None:
        super().__init__()
        self.top = tempfile.mkdtemp(prefix="vexfs-against-")
        self.model = ModelFilesystem()
        os.mkdir(f"{self.top}/segments")
        self.fs = Filesystem(self.top, create=True, **OPTIONS)
        self.open: list[tuple[int, int]] = []

    def teardown(self) -> None:
        self.fs.close()
        shutil.rmtree(self.top)

    def both(self, call: Callable[[Any], Any]) -> tuple[Any, Any] | None:
        answers: list[Any] = []
        for fs in (self.fs, self.model):
            try:
                answers.append((0, call(fs)))
            except OSError as error:
                answers.append((error.errno, None))
        assert answers[0][0] == answers[1][0], [errno.errorcode.get(code, code) for code, _ in answers]
        return None if answers[0][0] else (answers[0][1], answers[1][1])

    @rule(path=PATHS, mode=MODES)
    def mkdir(self, path: str, mode: int) -> None:
        self.both(lambda fs: fs.mkdir(path, mode))

    @rule(path=PATHS, mode=MODES, kind=st.sampled_from([0, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFREG]))
    def mknod(self, path: str, mode: int, kind: int) -> None:
        self.both(lambda fs: fs.mknod(path, kind | mode, os.makedev(4, 7)))

    @rule(path=PATHS)
    def unlink(self, path: str) -> None:
        self.both(lambda fs: fs.unlink(path))

    @rule(path=PATHS)
    def rmdir(self, path: str) -> None:
        self.both(lambda fs: fs.rmdir(path))

    @rule(source=PATHS, goal=PATHS, flags=st.sampled_from([0, 0, 0, NOREPLACE, EXCHANGE, 3, 8]))
    def rename(self, source: str, goal: str, flags: int) -> None:
        self.both(lambda fs: fs.rename(source, goal, flags))

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

    @rule(path=PATHS, mode=MODES, follow=st.booleans())
    def chmod(self, path: str, mode: int, follow: bool) -> None:
        self.both(lambda fs: fs.chmod(path, mode, follow))

    @rule(path=PATHS, uid=st.sampled_from([-1, 0, 12]), gid=st.sampled_from([-1, 0, 34]), follow=st.booleans())
    def chown(self, path: str, uid: int, gid: int, follow: bool) -> None:
        self.both(lambda fs: fs.chown(path, uid, gid, follow))

    @rule(path=PATHS, atime=st.one_of(st.none(), TIMES), mtime=TIMES)
    def utimens(self, path: str, atime: int | None, mtime: int) -> None:
        self.both(lambda fs: fs.utimens(path, atime, mtime))
        pair = self.both(lambda fs: fs.stat(path).st_mtime_ns)
        assert pair is None or pair[0] == pair[1]

    @rule(path=PATHS, name=XATTRS, value=VALUES, flags=st.sampled_from([0, 0, 1, 2]), follow=st.booleans())
    def setxattr(self, path: str, name: str, value: bytes, flags: int, follow: bool) -> None:
        self.both(lambda fs: fs.setxattr(path, name, value, flags, follow))

    @rule(path=PATHS, name=XATTRS)
    def getxattr(self, path: str, name: str) -> None:
        pair = self.both(lambda fs: fs.getxattr(path, name))
        assert pair is None or pair[0] == pair[1]

    @rule(path=PATHS, name=XATTRS)
    def removexattr(self, path: str, name: str) -> None:
        self.both(lambda fs: fs.removexattr(path, name))

    @rule(path=PATHS, size=SIZES)
    def truncate(self, path: str, size: int) -> None:
        self.both(lambda fs: fs.truncate(path, size))

    @rule(path=PATHS, data=DATA)
    def write_file(self, path: str, data: bytes) -> None:
        self.both(lambda fs: fs.write_file(path, data))

    @rule(path=PATHS, flags=FLAGS, data=DATA, offset=st.one_of(OFFSETS, st.just(-1)))
    def open_write(self, path: str, flags: int, data: bytes, offset: int) -> None:
        pair = self.both(lambda fs: fs.open(path, flags))
        if pair is None:
            return
        self.open.append(pair)
        inos = iter(pair)
        if flags & os.O_RDWR and stat.S_ISREG(self.model.getattr(pair[1]).st_mode):
            self.both(lambda fs: fs.write(next(inos), data, offset))

    @rule(where=st.integers(0, 99), size=SIZES)
    def truncate_open(self, where: int, size: int) -> None:
        if self.open:
            inos = iter(self.open[where % len(self.open)])
            self.both(lambda fs: fs.truncate_ino(next(inos), size))

    @rule(where=st.integers(0, 99), size=st.integers(0, 200_000), offset=OFFSETS)
    def read_open(self, where: int, size: int, offset: int) -> None:
        if self.open:
            inos = iter(self.open[where % len(self.open)])
            pair = self.both(lambda fs: fs.read(next(inos), size, offset))
            assert pair is None or pair[0] == pair[1]

    @rule(where=st.integers(0, 99))
    def close(self, where: int) -> None:
        if self.open:
            mine, model = self.open.pop(where % len(self.open))
            self.fs.release(mine)
            self.model.release(model)

    @rule(sync=st.booleans())
    def forget(self, sync: bool) -> None:
        if sync:
            self.fs.sync()
        self.fs.drop_caches()

    @rule()
    def reopen(self) -> None:
        while self.open:
            self.close(0)
        self.fs.close()
        self.fs = Filesystem(self.top, **OPTIONS)

    @invariant()
    def open_files_agree(self) -> None:
        for mine, model in self.open:
            assert self.facts(self.fs.getattr(mine)) == self.facts(self.model.getattr(model))

    @invariant()
    def trees_agree(self) -> None:
        mine, model = self.listing(self.fs, "/"), self.listing(self.model, "/")
        assert mine == model

    def facts(self, s: Any) -> tuple[Any, ...]:
        size = 0 if stat.S_ISDIR(s.st_mode) else s.st_size
        return s.st_mode, s.st_nlink, s.st_uid, s.st_gid, size, s.st_rdev

    def listing(self, fs: Any, path: str) -> dict[str, Any]:
        found = {path: (self.facts(fs.stat(path)), sorted(fs.listxattr(path)))}
        for name, ino, kind in fs.scandir(path):
            at = os.path.join(path, os.fsdecode(name))
            s = fs.stat(at, follow_symlinks=False)
            assert s.st_ino == ino and stat.S_IFMT(s.st_mode) == kind
            if kind == stat.S_IFDIR:
                found |= self.listing(fs, at)
            else:
                content = None
                if kind == stat.S_IFREG:
                    content = fs.read_file(at) if s.st_size < 1 << 22 else fs.read(ino, 1 << 16, s.st_size - (1 << 16))
                found[at] = (self.facts(s), content, fs.readlink(at) if kind == stat.S_IFLNK else None)
        return found


def compare(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Against,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_the_filesystem_answers_as_the_model_does() -> None:
    compare(40, 40)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_filesystem_answers_as_the_model_does_for_long() -> None:
    compare(600, 120)
