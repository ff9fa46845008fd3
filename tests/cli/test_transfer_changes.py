"""Imports and exports onto what is there already, of sources that fail or change meanwhile, killed at any moment."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import vexfs
from vexfs.cli.main import run
from vexfs.sides import HostSide, VolumeSide
from vexfs.testing.model import ModelFilesystem
from vexfs.transfer import UNFINISHED, Summary, Transfer


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "a/d").mkdir(parents=True)
    for name in ("1", "2", "d/3"):
        (tmp_path / "a" / name).write_text(name)
    return tmp_path / "a"


def copied(source: HostSide, model: ModelFilesystem) -> Summary:
    return Transfer(source, VolumeSide(model, "/t")).run()  # type: ignore[arg-type]


class Meanwhile(HostSide):
    """A tree that is changed as it is read: by `change`, once, when the file `at` is read or the directory listed."""

    def __init__(self, root: Path, at: bytes, change: Any) -> None:
        super().__init__(root)
        self.at, self.change = at, change
        self.opened: dict[int, bytes] = {}

    def open_read(self, path: bytes) -> int:
        handle = super().open_read(path)
        self.opened[handle] = path
        return handle

    def read(self, handle: int, size: int, offset: int) -> bytes:
        if self.opened[handle] == self.at and self.change is not None:
            change, self.change = self.change, None
            change()
        return super().read(handle, size, offset)


def broken() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_what_cannot_be_read_any_more_leaves_the_earlier_copy(source: Path) -> None:
    model = ModelFilesystem()
    copied(HostSide(source), model)
    (source / "1").write_text("newer")
    told = copied(Meanwhile(source, b"1", broken), model)
    assert len(told.errors) == 1 and model.read_file("t/1") == b"1"
    assert sorted(name for name, _, _ in model.scandir("t")) == [b"1", b"2", b"d"]
    assert copied(HostSide(source), model).files == 1 and model.read_file("t/1") == b"newer"


def test_half_a_file_is_not_left(source: Path) -> None:
    model = ModelFilesystem()
    (source / "1").write_bytes(b"x" * (3 << 20))
    side = Meanwhile(source, b"1", lambda: setattr(side, "change", broken))
    assert len(copied(side, model).errors) == 1
    assert sorted(name for name, _, _ in model.scandir("t")) == [b"2", b"d"]


@pytest.mark.parametrize("content", ["", "longer than it was", "?"])
def test_a_file_that_changes_while_it_is_read_is_told(source: Path, content: str) -> None:
    model = ModelFilesystem()
    told = copied(Meanwhile(source, b"2", lambda: (source / "2").write_text(content)), model)
    assert ["changed while it was read" in one["error"] for one in told.errors] == [True]
    assert copied(HostSide(source), model).errors == [] and model.read_file("t/2") == content.encode()


def test_names_that_go_while_their_directory_is_listed_cost_no_others(source: Path) -> None:
    for i in range(20_000):
        (source / f"d/n{i}").touch()
    code = "import os, sys\nfor i in range(19_999, -1, -1): os.unlink(f'{sys.argv[1]}/d/n{i}')"
    remover = subprocess.Popen([sys.executable, "-c", code, str(source)])
    while remover.poll() is None:
        assert b"3" in HostSide(source).entries(b"d")
    assert remover.returncode == 0 and HostSide(source).entries(b"d") == [b"3"]


def test_vectors_survive_another_import(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "v.vex"
    assert run("vexfs", ["import", str(source), f"{place}:/x"]) == 0
    with vexfs.open(place) as fs:
        fs.index("x", dim=2).upsert(["1"], [[1.0, 2.0]])
    assert run("vexfs", ["import", str(source), f"{place}:/x"]) == 0
    with vexfs.open(place) as fs:
        assert [hit.id for hit in fs.index("x").query([1.0, 2.0], 1)] == ["1"]
    (source / "1").write_text("other content, whose vector that is not")
    assert run("vexfs", ["import", str(source), f"{place}:/x"]) == 0
    with vexfs.open(place) as fs:
        assert fs.index("x").query([1.0, 2.0], 1) == []


def test_attributes_that_a_file_got_where_it_is_can_be_kept(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "v.vex"
    os.setxattr(source / "1", "user.from", b"host")
    assert run("vexfs", ["import", str(source), f"{place}:/x"]) == 0
    with vexfs.open(place) as fs:
        for name in ("x/1", "x/2", "x/d"):
            fs.attributes(name)["tag"] = name
        fs.attributes("x/1")["from"] = "the volume"
    (source / "2").write_text("new content")
    assert run("vexfs", ["import", "--keep-attributes", str(source), f"{place}:/x"]) == 0
    with vexfs.open(place) as fs:
        assert {name: dict(fs.attributes(name)) for name in ("x/1", "x/2", "x/d")} == {
            "x/1": {"from": "host", "tag": "x/1"}, "x/2": {"tag": "x/2"}, "x/d": {"tag": "x/d"}
        }  # fmt: skip
        assert fs.read_text("x/2") == "new content"
    assert run("vexfs", ["import", str(source), f"{place}:/x"]) == 0
    with vexfs.open(place) as fs:
        assert dict(fs.attributes("x/1")) == {"from": "host"} and not fs.attributes("x/d")


def test_an_attribute_that_only_the_host_may_set_keeps_no_file_from_being_replaced(tmp_path: Path) -> None:
    class Guarded(HostSide):
        """A host that sets attributes of its own, as labels of security are, and lets nobody else set them."""

        def set_xattr(self, path: bytes, name: bytes, value: bytes) -> None:
            if name == b"user.label":
                raise OSError(errno.EPERM, os.strerror(errno.EPERM), self.full(path))
            super().set_xattr(path, name, value)

    there = tmp_path / "there"
    there.mkdir()
    (there / "1").write_text("old")
    os.setxattr(there / "1", "user.label", b"host")
    os.setxattr(there / "1", "user.mine", b"m")
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.write_text("1", "new content")
        side = VolumeSide(fs.filesystem, "/")
        summary = Transfer(side, Guarded(there), keep_attributes=True).run()
    assert (there / "1").read_text() == "new content" and os.getxattr(there / "1", "user.mine") == b"m"
    assert not summary.errors and [each["path"] for each in summary.skipped] == ["/1"]


def test_an_attribute_that_the_host_has_no_room_for_is_left_out(source: Path, tmp_path: Path) -> None:
    class Small(HostSide):
        def set_xattr(self, path: bytes, name: bytes, value: bytes) -> None:
            if len(value) > 4000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.full(path))
            super().set_xattr(path, name, value)

    with vexfs.open(tmp_path / "v.vex") as fs:
        for name in ("1", "2"):
            fs.write_text(name, name)
        fs.setxattr("1", "user.large", bytes(5000))
        fs.setxattr("1", "user.small", b"x")
        told = Transfer(VolumeSide(fs.filesystem, "/"), Small(tmp_path / "out")).run()
    assert (told.files, told.errors) == (2, []) and "user.large" in told.skipped[0]["why"]
    assert os.getxattr(tmp_path / "out/1", "user.small") == b"x" and (tmp_path / "out/2").read_text() == "2"


def test_a_directory_that_may_not_be_written_to_takes_what_is_new(source: Path, tmp_path: Path) -> None:
    class Strict(HostSide):  # for those who are not root
        def open_write(self, path: bytes) -> int:
            if not os.lstat(os.path.dirname(self.full(path))).st_mode & 0o200:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self.full(path))
            return super().open_write(path)

    (source / "d").chmod(0o555)
    for name in ("d/4", "d/5"):
        (source / "d").chmod(0o755)
        (source / name).write_text(name)
        (source / "d").chmod(0o555)
        assert Transfer(HostSide(source), Strict(tmp_path / "out")).run().errors == []
        assert (tmp_path / "out" / name).read_text() == name
        assert (tmp_path / "out/d").stat().st_mode & 0o777 == 0o555


def test_a_symlink_to_the_tree_is_the_tree(source: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "out").mkdir()
    (tmp_path / "out-link").symlink_to("out")
    assert run("vexfs", ["import", str(tmp_path / "link"), f"{tmp_path}/v.vex:/x"]) == 0
    assert run("vexfs", ["export", f"{tmp_path}/v.vex:/x", str(tmp_path / "out-link")]) == 0
    assert (tmp_path / "out/d/3").read_text() == "d/3" and (tmp_path / "out-link").is_symlink()


def test_killed_at_random_it_goes_on(tmp_path: Path) -> None:
    tree, dice = tmp_path / "tree", random.Random(7)
    for number in range(300):
        path = tree / f"d{number % 7}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(dice.choice((10, 5000, 300_000))))
        if number % 9 == 0:
            os.link(path, tree / f"link{number}")
    code = "import sys; from vexfs.cli.main import run; sys.exit(run('vexfs', sys.argv[1:]))"
    for words in (("import", tree, f"{tmp_path}/v.vex:/x"), ("export", f"{tmp_path}/v.vex:/x", tmp_path / "out")):
        for _ in range(6):
            process = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stdout=subprocess.DEVNULL)
            time.sleep(dice.uniform(0.3, 0.9))
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert run("vexfs", [str(word) for word in words]) == 0
    assert not subprocess.run(["diff", "-r", tree, tmp_path / "out"], capture_output=True).stdout
    for number in range(0, 300, 9):
        assert (tmp_path / f"out/link{number}").samefile(tmp_path / f"out/d{number % 7}/f{number}")
    assert not list((tmp_path / "out").rglob(os.fsdecode(UNFINISHED)))


def test_what_a_killed_run_left_unfinished_goes(source: Path) -> None:
    model = ModelFilesystem()
    copied(HostSide(source), model)
    model.write_file(b"t/d/" + UNFINISHED, b"half")
    assert copied(HostSide(source), model).errors == []
    assert [name for name, _, _ in model.scandir("t/d")] == [b"3"]
