"""``vexfs import`` and ``vexfs export``: everything that POSIX knows of a tree goes in and comes out."""

import json
import os
import random
import signal
import socket
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vexfs
from vexfs.cli.main import run
from vexfs.cli.transfer import place_of
from vexfs.errors import NoSpace, UsageError
from vexfs.sides import HostSide, VolumeSide
from vexfs.testing.model import ModelFilesystem
from vexfs.transfer import Transfer, measure

ROOT = os.geteuid() == 0


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with one of everything that a host filesystem can hold."""
    top = tmp_path / "tree"
    (top / "sub/deep").mkdir(parents=True)
    (top / "empty").mkdir(mode=0o750)
    (top / "text").write_text("text\n" * 1000)
    (top / "big").write_bytes(os.urandom((3 << 20) + 17))
    (top / "none").touch()
    os.link(top / "big", top / "sub/hard")
    os.link(top / "big", top / "sub/deep/hard too")
    os.symlink("../text", top / "sub/link")
    os.symlink("/nowhere/" + "x" * 900, top / "dangling")
    (top / os.fsdecode(b"\xff\xfename\n")).write_text("odd")
    with open(top / "sparse", "wb") as file:
        file.seek(5 << 30)
        file.write(b"in the middle")
        file.truncate(6 << 30)
    os.mkfifo(top / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as unix:
        here = os.getcwd()
        os.chdir(top)
        unix.bind("socket")
        os.chdir(here)
    os.setxattr(top / "text", "user.note", b"a note\0\xff")
    os.setxattr(top / "sub", "user.dir", b"")
    os.chmod(top / "text", 0o4754)
    os.chmod(top / "sub", 0o2570)
    if ROOT:
        os.chown(top / "text", 12, 34)
        os.chown(top / "sub/link", 56, 78, follow_symlinks=False)
        os.chmod(top / "text", 0o4754)
        os.mknod(top / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    times = iter(range(1, 1000))
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, ns=(10**18 + next(times), -(10**15) + next(times)), follow_symlinks=False)
    os.utime(top, ns=(1, 2))
    return top


def facts(side: Any, owners: bool = True) -> dict[bytes, Any]:
    """Everything about every entry, but for inode numbers, which are told as groups of names."""
    found: dict[bytes, Any] = {}
    same: dict[int, list[bytes]] = {}
    todo = [b""]
    while todo:
        path = todo.pop()
        s = side.lstat(path)
        kind = stat.S_IFMT(s.st_mode)
        content: Any = None
        if kind == stat.S_IFREG:
            handle = side.open_read(path)
            content = (s.st_size, side.read(handle, 4 << 20, 0), side.read(handle, 1 << 20, 5 << 30))
            side.close(handle)
            same.setdefault(s.st_ino, []).append(path)
        elif kind == stat.S_IFLNK:
            content = side.readlink(path)
        elif kind == stat.S_IFDIR:
            content = side.entries(path)
            todo += [os.path.join(path, name) for name in content]
        else:
            content = s.st_rdev
        who = (s.st_uid, s.st_gid) if owners else None
        xattrs = {name: value for name, value in side.xattrs(path).items() if name.startswith(b"user.")}
        found[path] = (s.st_mode, s.st_nlink, who, s.st_mtime_ns, content, xattrs)
    found[b"//same"] = sorted(sorted(names) for names in same.values())
    return found


def allocated(path: Path) -> int:
    return sum({p.lstat().st_ino: p.lstat().st_blocks for p in path.rglob("*")}.values()) * 512


def vexfs_run(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, Any]:
    status = run("vexfs", [*map(str, words), "--json"])
    out = capsys.readouterr().out
    return status, json.loads(out) if out else None


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    vexfs.open(tmp_path / "v.vex").close()
    return tmp_path / "v.vex"


def test_everything_goes_in_and_comes_out(
    tree: Path, volume: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = facts(HostSide(tree))
    status, told = vexfs_run(capsys, "import", tree, f"{volume}:/in/side")
    assert status == 0 and told["errors"] == [] and told["skipped"] == []
    assert (told["files"], told["hard_links"], told["symlinks"]) == (5, 2, 2)
    assert told["special"] == (3 if ROOT else 2) and told["directories"] == 4
    with vexfs.open(volume) as fs:
        assert facts(VolumeSide(fs.filesystem, "in/side")) == before
        assert fs.stat("in/side/text").st_atime_ns >= 10**18
        assert fs.info()["status"]["used_bytes"] < 8 << 20, "the hole was filled"
    status, told = vexfs_run(capsys, "export", f"{volume}:/in/side", tmp_path / "new" / "out")
    assert status == 0 and told["errors"] == []
    assert facts(HostSide(tmp_path / "new" / "out"), ROOT) == facts(HostSide(tree), ROOT)
    assert allocated(tmp_path / "new" / "out") < 8 << 20, "the hole was filled"


def test_holes_are_not_read(tmp_path: Path, volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Terabytes of nothing take no time in either direction."""
    data = {3 << 40: b"here", (9 << 40) + 12345: b"and there"}
    (tmp_path / "a").mkdir()
    with vexfs.open(volume) as fs, fs.open("x", "wb") as file:
        for at, piece in data.items():
            file.seek(at)
            file.write(piece)
        file.truncate(10 << 40)
    status, told = vexfs_run(capsys, "export", f"{volume}:/x", tmp_path / "a/x")
    assert (status, told["errors"]) == (0, []) and told["bytes"] <= 8192
    status, told = vexfs_run(capsys, "import", tmp_path / "a", f"{volume}:/again")
    assert (status, told["errors"]) == (0, []) and told["bytes"] <= 1 << 20
    with vexfs.open(volume) as fs:
        assert fs.stat("again/x").st_size == os.path.getsize(tmp_path / "a/x") == 10 << 40
        with fs.open("again/x", "rb") as file, open(tmp_path / "a/x", "rb") as out:
            for at, piece in data.items():
                for one in (file, out):
                    one.seek(at - 5)
                    assert one.read(len(piece) + 10) == bytes(5) + piece + bytes(5)


def test_where_data_is(tmp_path: Path) -> None:
    """Against a copy in memory, with changes in memory, committed, and read from the disk."""
    drawn, size = random.Random(5), 40 << 20
    whole = bytearray(size)
    for turn in range(6):
        with vexfs.open(tmp_path / "v.vex") as fs:
            if not turn:
                fs.write_bytes("x", b"")
            for _ in range(4):
                at, n = drawn.randrange(size), drawn.choice([1, 5000, 3 << 20])
                with fs.open("x", "r+b") as file:
                    if drawn.random() < 0.3:
                        file.truncate(at)
                        whole[at:] = bytes(size - at)
                    else:
                        piece = drawn.randbytes(min(n, size - at))
                        file.seek(at)
                        file.write(piece)
                        whole[at : at + len(piece)] = piece
                    file.truncate(size)
                if drawn.random() < 0.5:
                    fs.sync()
                side = VolumeSide(fs.filesystem, "/")
                handle = side.open_read(b"x")
                found, before = bytearray(size), 0
                for begin, end in side.stretches(handle, size):
                    assert before <= begin < end <= size
                    found[begin:end] = side.read(handle, end - begin, begin)
                    before = end
                side.close(handle)
                assert found == whole


def test_a_second_run_finds_nothing_to_do(tree: Path, volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vexfs_run(capsys, "import", tree, f"{volume}:/x")
    status, told = vexfs_run(capsys, "import", tree, f"{volume}:/x")
    assert status == 0 and told["bytes"] == told["files"] == told["hard_links"] == 0
    assert told["unchanged"] == (12 if ROOT else 11)
    (tree / "text").write_text("changed")
    (tree / "dangling").unlink()
    (tree / "dangling").symlink_to("elsewhere")
    os.setxattr(tree / "none", "user.late", b"1")
    os.removexattr(tree / "sub", "user.dir")
    status, told = vexfs_run(capsys, "import", tree, f"{volume}:/x")
    assert status == 0 and (told["files"], told["symlinks"]) == (1, 1)
    with vexfs.open(volume) as fs:
        assert facts(VolumeSide(fs.filesystem, "x")) == facts(HostSide(tree))


@pytest.mark.skipif(not ROOT, reason="needs root, to give files away")
def test_rights_of_an_owner_do_not_pass_to_another(
    tmp_path: Path, volume: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for name, owner in (("theirs", 12), ("ours", 0)):
        program = tmp_path / "in" / name
        program.write_text("#!/bin/sh")
        os.chown(program, owner, owner)
        program.chmod(0o6755)
    vexfs_run(capsys, "import", tmp_path / "in", f"{volume}:/in")
    for copied in (2, 0):
        status, told = vexfs_run(capsys, "export", "--no-owners", f"{volume}:/in", tmp_path / "out")
        assert status == 0 and (told["files"], told["unchanged"]) == (copied, 2 - copied)
    modes = [oct((tmp_path / "out" / name).stat().st_mode & 0o7777) for name in ("theirs", "ours")]
    assert modes == ["0o755", "0o6755"]


def test_an_access_list_gives_the_group_no_more_than_it_had(
    tmp_path: Path, volume: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    shared = tmp_path / "in" / "shared"
    shared.write_text("1")
    entries = ((1, 6, -1), (2, 6, 1234), (4, 4, -1), (16, 6, -1), (32, 0, -1))  # user:1234:rw-, group::r--, mask::rw-
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(shared, "system.posix_acl_access", listed)
    except OSError:
        pytest.skip("this filesystem has no access lists")
    assert shared.stat().st_mode & 0o777 == 0o660
    for copied in (1, 0):
        status, told = vexfs_run(capsys, "import", tmp_path / "in", f"{volume}:/in")
        assert status == 0 and (told["files"], told["unchanged"]) == (copied, 1 - copied)
        assert "posix_acl_access" in told["skipped"][0]["why"]
    with vexfs.open(volume) as fs:
        assert fs.stat("in/shared").st_mode & 0o777 == 0o640


def test_times_that_a_volume_has_no_number_for(
    tmp_path: Path, volume: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    far = tmp_path / "in" / "far"
    far.write_text("1")
    os.utime(far, ns=(0, 10**19))  # in the year 2286
    if far.stat().st_mtime_ns != 10**19:
        pytest.skip("this filesystem keeps no such time")
    for copied in (1, 0):
        status, told = vexfs_run(capsys, "import", tmp_path / "in", f"{volume}:/in")
        assert status == 0 and (told["files"], told["unchanged"], told["errors"]) == (copied, 1 - copied, [])
    with vexfs.open(volume) as fs:
        assert fs.stat("in/far").st_mtime_ns == 2**63 - 1


def test_a_changed_file_replaces_and_does_not_write_through_links(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/f").write_text("one")
    model = ModelFilesystem()
    target = VolumeSide(model, "/t")  # type: ignore[arg-type]
    Transfer(HostSide(tmp_path / "a"), target).run()
    model.link("t/f", "t/other")
    (tmp_path / "a/f").write_text("two two")
    Transfer(HostSide(tmp_path / "a"), target).run()
    assert model.read_file("t/f") == b"two two" and model.read_file("t/other") == b"one"


def test_an_interrupted_import_goes_on(tree: Path, volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(50):
        (tree / f"n{i}").write_bytes(os.urandom(10_000))
    script = (
        "import os, signal, sys\nfrom vexfs import transfer\nfrom vexfs.cli.main import run\nseen = []\n"
        "one = transfer.Transfer._file\n"
        "def file(self, path, found):\n    one(self, path, found)\n    seen.append(path)\n"
        "    if len(seen) == 25:\n        os.kill(os.getpid(), signal.SIGINT)\n"
        f"transfer.Transfer._file = file\nsys.exit(run('vexfs', ['import', {str(tree)!r}, {str(volume)!r} + ':/x']))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240)
    assert ended.returncode == 128 + signal.SIGINT
    assert "goes on from there" in ended.stderr and "Traceback" not in ended.stderr
    status, told = vexfs_run(capsys, "import", tree, f"{volume}:/x")
    assert status == 0 and told["unchanged"] >= 20
    with vexfs.open(volume) as fs:
        assert facts(VolumeSide(fs.filesystem, "x")) == facts(HostSide(tree))


def test_single_files(tree: Path, volume: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vexfs_run(capsys, "import", tree / "text", f"{volume}:/one/text")[1]["files"] == 1
    assert vexfs_run(capsys, "export", f"{volume}:/one/text", tmp_path / "back")[1]["files"] == 1
    assert (tmp_path / "back").read_bytes() == (tree / "text").read_bytes()


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a/d").mkdir(parents=True)
    for name in ("a/1", "a/d/2", "a/3"):
        (tmp_path / name).write_text(name)

    class Failing(HostSide):
        def open_read(self, path: bytes) -> int:
            if path == b"d/2":
                raise PermissionError(13, "Permission denied", self.full(path))
            return super().open_read(path)

    model = ModelFilesystem()
    model.mkdir("t")
    model.mkdir("t/3")
    summary = Transfer(Failing(tmp_path / "a"), VolumeSide(model, "/t")).run()  # type: ignore[arg-type]
    assert summary.files == 1 and model.read_file("t/1") == b"a/1"
    told = {os.path.basename(one["path"]): one["error"] for one in summary.errors}
    assert set(told) == {"2", "3"} and "Permission denied" in told["2"] and "is a directory there" in told["3"]


def test_a_full_target_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for i in range(5):
        (tmp_path / f"a/{i}").write_text("x")

    class Full(VolumeSide):
        def write(self, handle: int, data: bytes, offset: int) -> None:
            raise NoSpace(28, "No space left on device")

    transfer = Transfer(HostSide(tmp_path / "a"), Full(ModelFilesystem(), "/t"))  # type: ignore[arg-type]
    with pytest.raises(NoSpace, match="No space left on device: b?'/t/[0-4]'"):
        transfer.run()
    assert transfer.summary.files == 0 and transfer.summary.errors == []


def test_the_volume_is_not_imported_into_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "f").write_text("1")
    vexfs.open(home / "v.vex").close()
    status, told = vexfs_run(capsys, "import", home, f"{home / 'v.vex'}:/")
    assert status == 0 and [one["why"] for one in told["skipped"]] == ["is the volume itself"]
    with vexfs.open(home / "v.vex") as fs:
        assert fs.listdir() == ["f"]


def test_progress_adds_up_to_what_was_measured(tree: Path) -> None:
    steps: list[int] = []
    source, model = HostSide(tree), ModelFilesystem()
    for _ in range(2):
        steps.clear()
        Transfer(source, VolumeSide(model, "/t"), progress=steps.append).run()  # type: ignore[arg-type]
        linked = 2 * (tree / "big").stat().st_size
        assert sum(steps) == measure(source) - linked and min(steps) >= 0


@pytest.mark.parametrize(
    ("word", "place"), [("v.vex:/a/b", ("v.vex", "/a/b")), ("v.vex:", ("v.vex", "/")), ("a:b:/c", ("a:b", "/c")),
                       ("v.vex:/at/10:30", ("v.vex", "/at/10:30")), ("v.vex:/a:/b", ("v.vex", "/a:/b"))]
)  # fmt: skip
def test_places(word: str, place: tuple[str, str]) -> None:
    assert place_of(word) == place


@pytest.mark.parametrize("word", ["v.vex", ":/a", "v.vex:a", "", "http://node:8080:/a"])
def test_what_is_no_place(word: str) -> None:
    with pytest.raises(UsageError, match="VOLUME:/PATH"):
        place_of(word)


@pytest.mark.parametrize("where", ["", "new/deep", "segments", "../link"])
def test_an_export_never_writes_over_its_volume(
    volume: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    with vexfs.open(volume) as fs:
        fs.write_text("meta.db", "mine")
    (tmp_path / "link").symlink_to(volume)
    before = sorted(os.listdir(volume))
    assert run("vexfs", ["export", f"{volume}:/", f"{volume}/{where}"]) == 2
    assert "lies inside the volume" in capsys.readouterr().err
    assert sorted(os.listdir(volume)) == before
    with vexfs.open(volume) as fs:
        assert fs.read_text("meta.db") == "mine"


def test_missing_sources_are_told(volume: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["import", str(tmp_path / "none"), f"{volume}:/x"], "no such file or directory on the host"),
        (["export", f"{volume}:/none", str(tmp_path / "out")], "No such file"),
        (["export", f"{tmp_path / 'none.vex'}:/", str(tmp_path / "out")], "no such volume"),
    ):
        assert run("vexfs", words) in (1, 3)
        out, err = capsys.readouterr()
        assert told in err and not out
    assert not (tmp_path / "out").exists()
