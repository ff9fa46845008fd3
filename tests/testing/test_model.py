"""The model is itself checked against a filesystem that nobody doubts: the host's.

Both get the same random steps; every answer and every errno must agree.  The host answers a process with all rights
as the model does only when the tests run as root.
"""

import ctypes
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from vexfs import errors
from vexfs.testing.model import ModelFilesystem
from vexfs.testing.nodes import SparseBytes
from vexfs.testing.paths import EXCHANGE, NOREPLACE

NAMES = ["a", "b", "c", "a/b", "a/c", "b/a", "a/b/c", "b/a/c", ".", "a/.", "b/..", "a/b/..", "a/", "b/a/", "c/"]
NAMES.append("d" * 256)
PATHS = st.sampled_from(NAMES)
# Never "." or "..": with them "b/.." would leave the sandbox, and steps would change the host's own directories.
TARGETS = st.sampled_from(["a", "b", "a/b", "c", "b/", "a/c", "nowhere"])
FLAGS = st.sampled_from(
    [os.O_RDONLY, os.O_RDWR, os.O_CREAT | os.O_RDWR, os.O_CREAT | os.O_EXCL | os.O_RDWR, os.O_NOFOLLOW,
     os.O_CREAT | os.O_TRUNC | os.O_RDWR, os.O_DIRECTORY, os.O_CREAT | os.O_NOFOLLOW | os.O_RDWR,
     os.O_TRUNC | os.O_RDWR | os.O_NOFOLLOW]
)  # fmt: skip
LIBC = ctypes.CDLL(None, use_errno=True)


def renameat2(source: str, target: str, flags: int) -> None:
    if LIBC.renameat2(-100, os.fsencode(source), -100, os.fsencode(target), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class Against(RuleBasedStateMachine):
    """The same steps on the model and on a directory of the host."""

    def __init__(self) -> None:
        super().__init__()
        self.top = tempfile.mkdtemp(prefix="vexfs-model-")
        self.root = os.path.join(self.top, "1", "2", "root")
        os.makedirs(self.root)
        self.umask = os.umask(0o022)
        self.model = ModelFilesystem(umask=0o022)
        self.home = os.getcwd()
        os.chdir(self.root)
        self.open: list[tuple[int, int]] = []

    def teardown(self) -> None:
        for fd, _ in self.open:
            os.close(fd)
        os.chdir(self.home)
        os.umask(self.umask)
        shutil.rmtree(self.top)

    def both(self, host: Callable[[], Any], model: Callable[[], Any]) -> tuple[Any, Any] | None:
        answers: list[Any] = []
        for call in (host, model):
            try:
                answers.append((0, call()))
            except OSError as error:
                answers.append((error.errno, None))
        assert answers[0][0] == answers[1][0], [errno.errorcode.get(code, code) for code, _ in answers]
        return None if answers[0][0] else (answers[0][1], answers[1][1])

    @rule(path=PATHS)
    def mkdir(self, path: str) -> None:
        self.both(lambda: os.mkdir(path), lambda: self.model.mkdir(path))

    @rule(path=PATHS)
    def mkfifo(self, path: str) -> None:
        self.both(lambda: os.mkfifo(path), lambda: self.model.mknod(path, stat.S_IFIFO | 0o666))

    @rule(path=PATHS)
    def unlink(self, path: str) -> None:
        self.both(lambda: os.unlink(path), lambda: self.model.unlink(path))

    @rule(path=PATHS)
    def rmdir(self, path: str) -> None:
        self.both(lambda: os.rmdir(path), lambda: self.model.rmdir(path))

    @rule(source=PATHS, goal=PATHS, flags=st.sampled_from([0, 0, 0, NOREPLACE, EXCHANGE, 3]))
    def rename(self, source: str, goal: str, flags: int) -> None:
        self.both(lambda: renameat2(source, goal, flags), lambda: self.model.rename(source, goal, flags))

    @rule(source=PATHS, goal=PATHS, follow=st.booleans())
    def link(self, source: str, goal: str, follow: bool) -> None:
        at = 0x400 if follow else 0

        def host() -> None:
            if LIBC.linkat(-100, os.fsencode(source), -100, os.fsencode(goal), at):
                raise OSError(ctypes.get_errno(), "linkat")

        self.both(host, lambda: self.model.link(source, goal, follow))

    @rule(to=TARGETS, path=PATHS)
    def symlink(self, to: str, path: str) -> None:
        self.both(lambda: os.symlink(to, path), lambda: self.model.symlink(to, path))

    @rule(path=PATHS)
    def readlink(self, path: str) -> None:
        pair = self.both(lambda: os.readlink(path), lambda: self.model.readlink(path))
        assert pair is None or os.fsencode(pair[0]) == pair[1]

    @rule(path=PATHS, mode=st.sampled_from([0o644, 0o6755, 0o2755, 0o1777, 0o4711, 0o2644]))
    def chmod(self, path: str, mode: int) -> None:
        self.both(lambda: os.chmod(path, mode), lambda: self.model.chmod(path, mode))

    @rule(path=PATHS, uid=st.sampled_from([-1, 0, 12]), gid=st.sampled_from([-1, 0, 34]), follow=st.booleans())
    def chown(self, path: str, uid: int, gid: int, follow: bool) -> None:
        if os.geteuid() == 0:
            self.both(
                lambda: os.chown(path, uid, gid, follow_symlinks=follow),
                lambda: self.model.chown(path, uid, gid, follow),
            )

    @rule(path=PATHS, flags=FLAGS, data=st.binary(max_size=64), offset=st.integers(0, 9000))
    def open_write(self, path: str, flags: int, data: bytes, offset: int) -> None:
        if stat.S_ISFIFO(self.kind(path)):
            return  # opening a FIFO waits for its other end
        pair = self.both(lambda: os.open(path, flags, 0o666), lambda: self.model.open(path, flags))
        if pair is None:
            return
        self.open.append(pair)
        if flags & os.O_RDWR:
            os.pwrite(pair[0], data, offset)
            self.model.write(pair[1], data, offset)

    @rule(
        path=PATHS, name=st.sampled_from(["user.a", "user.b", "user.", "nothing", "", "user." + "n" * 300]),
        value=st.binary(max_size=9), flags=st.sampled_from([0, 1, 2]), follow=st.booleans(),
    )  # fmt: skip
    def setxattr(self, path: str, name: str, value: bytes, flags: int, follow: bool) -> None:
        self.both(
            lambda: os.setxattr(path, name, value, flags, follow_symlinks=follow),
            lambda: self.model.setxattr(path, name, value, flags, follow),
        )

    @rule(path=PATHS, name=st.sampled_from(["user.a", "user.b", "user.", "nothing", ""]), follow=st.booleans())
    def other_xattr_calls(self, path: str, name: str, follow: bool) -> None:
        pair = self.both(
            lambda: os.getxattr(path, name, follow_symlinks=follow), lambda: self.model.getxattr(path, name, follow)
        )
        assert pair is None or pair[0] == pair[1]
        pair = self.both(
            lambda: os.listxattr(path, follow_symlinks=follow), lambda: self.model.listxattr(path, follow)
        )
        assert pair is None or sorted(map(os.fsencode, pair[0])) == pair[1]
        self.both(
            lambda: os.removexattr(path, name, follow_symlinks=follow),
            lambda: self.model.removexattr(path, name, follow),
        )

    @rule(where=st.integers(0, 99), size=st.integers(0, 12000))
    def truncate_open(self, where: int, size: int) -> None:
        if self.open:
            fd, ino = self.open[where % len(self.open)]
            if os.O_RDWR & fcntl.fcntl(fd, 3):
                os.ftruncate(fd, size)
                self.model.truncate_ino(ino, size)

    @rule(where=st.integers(0, 99))
    def close(self, where: int) -> None:
        if self.open:
            fd, ino = self.open.pop(where % len(self.open))
            os.close(fd)
            self.model.release(ino)

    def kind(self, path: str) -> int:
        try:
            return os.stat(path).st_mode
        except OSError:
            return 0

    @invariant()
    def open_files_agree(self) -> None:
        for fd, ino in self.open:
            host, model = os.fstat(fd), self.model.getattr(ino)
            assert host.st_mode == model.st_mode
            assert host.st_nlink == model.st_nlink
            if stat.S_ISREG(host.st_mode):
                assert host.st_size == model.st_size
                if fcntl.fcntl(fd, 3) & os.O_ACCMODE != os.O_WRONLY:
                    assert os.pread(fd, 20000, 0) == self.model.read(ino, 20000, 0)

    @invariant()
    def trees_agree(self) -> None:
        assert self.listing_host(".") == self.listing_model(".")

    def listing_host(self, path: str) -> dict[str, Any]:
        found = {}
        for entry in os.scandir(path):
            s = entry.stat(follow_symlinks=False)
            found[entry.path] = (s.st_mode, s.st_nlink, s.st_uid, s.st_gid)
            if entry.is_dir(follow_symlinks=False):
                found |= self.listing_host(entry.path)
        return found

    def listing_model(self, path: str) -> dict[str, Any]:
        found = {}
        for name, _, kind in self.model.scandir(path):
            at = f"{path}/{name.decode()}"
            s = self.model.stat(at, follow_symlinks=False)
            found[at] = (s.st_mode, s.st_nlink, s.st_uid, s.st_gid)
            if kind == stat.S_IFDIR:
                found |= self.listing_model(at)
        return found


@pytest.mark.skipif(os.geteuid() != 0, reason="the model has all rights; only root has them on the host")
def test_model_answers_as_the_host_does() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Against,
        settings=settings(
            max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_symlink_depth_is_bounded_as_on_the_host(tmp_path: Path) -> None:
    model = ModelFilesystem()
    for fs in ("host", "model"):
        for i in range(45):
            target, path = str(i - 1), str(i)
            if i == 0:
                os.mkdir(tmp_path / "0") if fs == "host" else model.mkdir("0")
            elif fs == "host":
                os.symlink(target, tmp_path / path)
            else:
                model.symlink(target, path)
    for i in range(45):
        try:
            os.stat(tmp_path / str(i))
            expected = 0
        except OSError as error:
            expected = error.errno or 0
        if expected:
            with pytest.raises(errors.SymlinkLoop):
                model.stat(str(i))
        else:
            model.stat(str(i))


def test_unlinked_file_lives_while_it_is_open() -> None:
    model = ModelFilesystem()
    ino = model.open("f", os.O_CREAT | os.O_RDWR)
    model.write(ino, b"still here", 0)
    model.unlink("f")
    assert model.getattr(ino).st_nlink == 0
    assert model.read(ino, 99, 0) == b"still here"
    model.release(ino)
    with pytest.raises(errors.NotFound):
        model.getattr(ino)


def test_setgid_directory_hands_its_group_down() -> None:
    model = ModelFilesystem()
    model.mkdir("d")
    model.chown("d", -1, 77)
    model.chmod("d", 0o2770)
    model.mkdir("d/sub")
    model.write_file("d/f", b"")
    assert (model.stat("d/sub").st_gid, model.stat("d/f").st_gid) == (77, 77)
    assert model.stat("d/sub").st_mode & stat.S_ISGID
    assert not model.stat("d/f").st_mode & stat.S_ISGID


def test_sparse_bytes_read_zeros_where_nothing_was_written() -> None:
    content = SparseBytes()
    content.write(b"x" * 10, 5 << 40)
    assert content.size == (5 << 40) + 10 and len(content.pages) == 1
    assert content.read(4, 1 << 40) == bytes(4)
    content.truncate((5 << 40) + 3)
    content.truncate((5 << 40) + 6)
    assert content.read(99, 5 << 40) == b"xxx\0\0\0"


def test_extended_attributes_follow_the_manual_page() -> None:
    model = ModelFilesystem()
    model.write_file("f", b"")
    model.setxattr("f", "user.a", b"1", os.XATTR_CREATE)
    for flags, name, code in [(os.XATTR_CREATE, "user.a", errno.EEXIST), (os.XATTR_REPLACE, "user.b", errno.ENODATA),
                              (0, "nonsense", errno.EOPNOTSUPP), (0, "", errno.ERANGE)]:  # fmt: skip
        with pytest.raises(OSError) as caught:
            model.setxattr("f", name, b"", flags)
        assert caught.value.errno == code
    assert model.listxattr("f") == [b"user.a"]
    with pytest.raises(OSError, match="File exists"):
        model.mkdir("f")
