"""The in-process API: what ``os``, ``shutil``, ``pathlib`` and ``open`` do, on a volume and on the model."""

import copy
import errno
import os
import pathlib
import pickle
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vexfs.frontends.local import Files

import vexfs
from vexfs import errors


def fill(fs: Files) -> None:
    for path in ("a/one.txt", "a/two.md", "a/b/three.txt", "a/b/c/four.txt", "z.txt", ".hidden"):
        fs.write_text(path, path)
    fs.symlink("a", "link")
    fs.symlink("nowhere", "dangling")


# -- whole files and the verbs of os


def test_bytes_and_text_come_back(fs: Files) -> None:
    assert fs.write_bytes("d/e/raw", b"\0\1\2") == 3
    assert fs.read_bytes("d/e/raw") == b"\0\1\2"
    assert fs.write_text("ä/ü.txt", "grün\r\n", encoding="latin-1") == 6
    assert fs.read_bytes("ä/ü.txt") == b"gr\xfcn\r\n"
    assert fs.read_text("ä/ü.txt", "latin-1") == "grün\n"
    fs.write_text("crlf", "a\nb\n", newline="\r\n")
    assert fs.read_bytes("crlf") == b"a\r\nb\r\n"
    fs.write_bytes("d/e/raw", memoryview(b"shorter")[:2])
    assert fs.read_bytes("d/e/raw") == b"sh"


def test_names_of_any_bytes(fs: Files) -> None:
    raw = b"\xff\xfe-\x01"
    fs.write_bytes(raw, b"x")
    assert [os.fsencode(name) for name in fs.listdir()] == [raw]
    assert fs.read_bytes(fs.listdir()[0]) == b"x"


def test_looking(fs: Files) -> None:
    fill(fs)
    assert sorted(fs.listdir()) == [".hidden", "a", "dangling", "link", "z.txt"]
    assert fs.isdir("a") and fs.isdir("link") and fs.islink("link") and fs.isfile("z.txt")
    assert not fs.exists("dangling") and fs.exists("dangling", follow_symlinks=False)
    assert not fs.exists("z.txt/x") and not fs.exists("n" * 300)
    assert fs.readlink("link") == "a"
    found = fs.stat("z.txt")
    assert repr(pickle.loads(pickle.dumps(found))) == repr(found) == repr(copy.copy(found))
    kinds = {e.name: (e.is_dir(), e.is_file(), e.is_symlink()) for e in fs.scandir()}
    assert kinds["link"] == (True, False, True) and kinds["dangling"] == (False, False, True)
    assert kinds["a"] == (True, False, False) and kinds["z.txt"] == (False, True, False)
    entry = next(e for e in fs.scandir("a") if e.name == "one.txt")
    assert (entry.path, entry.inode()) == ("a/one.txt", fs.stat("a/one.txt").st_ino)
    assert entry.stat().st_size == 9


def test_walk_is_that_of_os(fs: Files, tmp_path: Path) -> None:
    fill(fs)
    host = tmp_path / "host"
    (host / "a/b/c").mkdir(parents=True)
    for path in ("a/one.txt", "a/two.md", "a/b/three.txt", "a/b/c/four.txt", "z.txt", ".hidden"):
        (host / path).write_text(path)
    (host / "link").symlink_to("a")
    (host / "dangling").symlink_to("nowhere")
    for topdown in (True, False):
        for follow in (True, False):
            ours = [(d.removeprefix("."), sorted(a), sorted(b)) for d, a, b in fs.walk(".", topdown, None, follow)]
            theirs = [
                (os.path.relpath(d, host).removeprefix("."), sorted(a), sorted(b))
                for d, a, b in os.walk(host, topdown, followlinks=follow)
            ]
            assert sorted(ours) == sorted(theirs)
    seen = []
    assert list(fs.walk("nowhere", onerror=seen.append)) == [] and isinstance(seen[0], FileNotFoundError)


@pytest.mark.parametrize(
    "pattern", ["*", "*.txt", "a/*", "**/*.txt", "**", "a/**", "*/*.md", "**/c/*", "[!.]*", "?.txt", "a/b/three.txt",
                "no*", "**/b", "link/*", "*/", "**/"]
)  # fmt: skip
def test_glob_is_that_of_pathlib(fs: Files, tmp_path: Path, pattern: str) -> None:
    fill(fs)
    host = tmp_path / "host"
    (host / "a/b/c").mkdir(parents=True)
    for path in ("a/one.txt", "a/two.md", "a/b/three.txt", "a/b/c/four.txt", "z.txt", ".hidden"):
        (host / path).write_text(path)
    (host / "link").symlink_to("a")
    (host / "dangling").symlink_to("nowhere")
    theirs = {str(p.relative_to(host)) for p in host.glob(pattern)}
    if pattern == "*/":  # before 3.13 pathlib ignores the slash that asks for directories alone
        theirs = {p for p in theirs if (host / p).is_dir()}
    assert set(map(str, fs.path().glob(pattern))) == theirs


def test_makedirs_rename_remove(fs: Files) -> None:
    fs.makedirs("x/y/z")
    with pytest.raises(FileExistsError):
        fs.makedirs("x/y")
    fs.makedirs("x/y", exist_ok=True)
    fs.write_bytes("f", b"1")
    with pytest.raises(FileExistsError):
        fs.makedirs("f", exist_ok=True)
    with pytest.raises(NotADirectoryError):
        fs.makedirs("f/g")
    fs.write_bytes("g", b"2")
    fs.rename("f", "g")
    assert fs.read_bytes("g") == b"1" and not fs.exists("f")
    with pytest.raises(errors.NotEmpty) as caught:
        fs.rmdir("x")
    assert caught.value.filename is not None
    with pytest.raises(IsADirectoryError):
        fs.remove("x")
    fs.rmdir("x/y/z")
    fs.remove("g")
    with pytest.raises(FileNotFoundError) as missing:
        fs.remove("g")
    assert os.fsdecode(missing.value.filename).strip("/") == "g"


def test_rmtree_removes_links_and_not_what_they_lead_to(fs: Files) -> None:
    fill(fs)
    fs.symlink("../../z.txt", "a/b/up")
    with pytest.raises(NotADirectoryError):
        fs.rmtree("link")
    fs.rmtree("a")
    assert not fs.exists("a") and fs.exists("z.txt") and fs.islink("link")
    with pytest.raises(FileNotFoundError):
        fs.rmtree("a")
    fs.rmtree("a", ignore_errors=True)


def test_trees_deeper_than_pythons_recursion_limit(fs: Files) -> None:
    deep = "/".join(["d"] * 1020)
    fs.makedirs(deep)
    fs.write_text(f"{deep}/file", "x")
    fs.copytree("d", "copy")
    assert fs.read_text(f"copy{deep[1:]}/file") == "x"
    fs.path("p", deep).mkdir(parents=True)
    for top in ("d", "copy", "p"):
        fs.rmtree(top)
    assert fs.listdir() == []


def test_copy_carries_mode_times_and_attributes(fs: Files) -> None:
    fs.write_bytes("a", bytes(3 << 20) + b"end")
    fs.chmod("a", 0o641)
    fs.utime("a", ns=(1_000_000_001, -2_000_000_003))
    fs.attributes("a")["year"] = 2020
    fs.mkdir("d")
    assert fs.copy("a", "d") == "d/a"
    assert fs.read_bytes("d/a") == fs.read_bytes("a")
    copied, original = fs.stat("d/a"), fs.stat("a")
    assert (copied.st_mode, copied.st_mtime_ns) == (original.st_mode, -2_000_000_003)
    assert copied.st_blocks * 512 < 1 << 20, "zeros were not kept as a hole"
    assert dict(fs.attributes("d/a")) == {"year": 2020}
    with pytest.raises(ValueError, match="same file"):
        fs.copy("a", "a")
    assert fs.stat("a").st_size == (3 << 20) + 3, "a copy onto itself must not empty the file"
    fs.write_bytes("d/a", b"short")
    fs.copy("d/a", "a")
    assert fs.read_bytes("a") == b"short"


def test_copytree(fs: Files) -> None:
    fill(fs)
    fs.symlink("one.txt", "a/also")
    fs.copytree("a", "copy/of/a")
    assert fs.readlink("copy/of/a/also") == "one.txt"
    assert fs.read_text("copy/of/a/b/c/four.txt") == "a/b/c/four.txt"
    with pytest.raises(FileExistsError):
        fs.copytree("a", "copy/of/a")
    fs.chmod("a/b/c", 0o500)
    fs.utime("a/b", (1.5, 2.5))
    fs.copytree("a/b", "a/b/c/d/e")
    assert stat.S_IMODE(fs.stat("a/b/c/d/e/c").st_mode) == 0o500 and fs.stat("a/b/c/d/e").st_mtime == 2.5
    assert fs.listdir("a/b/c/d/e/c/d") == [], "a copy within what is copied has no copy of itself"


def test_touch_truncate_link_chown(fs: Files) -> None:
    fs.touch("t", 0o600)
    with pytest.raises(OSError, match="0 bytes or more"):
        fs.truncate("t", -1)
    fs.utime("t", (1.5, 2.5))
    assert (fs.stat("t").st_mtime_ns, stat.S_IMODE(fs.stat("t").st_mode) & 0o077) == (2_500_000_000, 0)
    fs.touch("t")
    assert fs.stat("t").st_mtime > 1e9
    with pytest.raises(FileExistsError):
        fs.touch("t", exist_ok=False)
    with pytest.raises(ValueError, match="not both"):
        fs.utime("t", (1, 1), ns=(1, 1))
    with pytest.raises(OSError, match="2262"):
        fs.utime("t", ns=(10**19, 0))
    fs.truncate("t", 1 << 40)
    assert fs.stat("t").st_size == 1 << 40
    fs.link("t", "u")
    assert fs.stat("u").st_ino == fs.stat("t").st_ino and fs.stat("t").st_nlink == 2
    fs.chown("t", 5, 6)
    assert (fs.stat("u").st_uid, fs.stat("u").st_gid) == (5, 6)


def test_what_is_made_respects_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        fs = vexfs.open(tmp_path / "v.vex")
    finally:
        os.umask(before)
    with fs:
        fs.write_bytes("d/whole", b"")
        fs.open("opened", "w").close()
        fs.touch("touched", 0o777)
        fs.path("by_path").write_bytes(b"")
        modes = {name: stat.S_IMODE(fs.stat(name).st_mode) for name in ("d", "d/whole", "opened", "touched", "by_path")}
    assert modes == {"d": 0o750, "d/whole": 0o640, "opened": 0o640, "touched": 0o750, "by_path": 0o640}


def test_xattrs(fs: Files) -> None:
    fs.touch("f")
    fs.setxattr("f", "user.a", b"1", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        fs.setxattr("f", "user.a", b"1", os.XATTR_CREATE)
    assert fs.listxattr("f") == ["user.a"] and fs.getxattr("f", "user.a") == b"1"
    fs.removexattr("f", "user.a")
    with pytest.raises(errors.NoAttribute):
        fs.getxattr("f", "user.a")


# -- attributes


@pytest.mark.parametrize(
    "value", [0, -3, 2.5, 1e300, True, False, None, "", "text", "12", "true", "null", '"quoted"', "[1]", '{"a": 1}',
              "ünï", "NaN", "1e5", " 7", "\udcff"]
)  # fmt: skip
def test_attributes_keep_their_type(fs: Files, value: Any) -> None:
    fs.touch("f")
    fs.attributes("f")["x"] = value
    back = fs.attributes("f")["x"]
    assert back == value and type(back) is type(value)


def test_attributes_are_the_user_xattrs(fs: Files) -> None:
    fs.touch("f")
    fs.setxattr("f", "user.year", b"2020")
    fs.setxattr("f", "user.title", b"On Coffee")
    fs.setxattr("f", "user.tags", b'["a", "b"]')
    found = fs.attributes("f")
    assert dict(found) == {"year": 2020, "title": "On Coffee", "tags": '["a", "b"]'} and len(found) == 3
    found["n"] = np.int64(7)
    assert fs.getxattr("f", "user.n") == b"7"
    del found["n"]
    with pytest.raises(KeyError):
        del found["n"]
    with pytest.raises(KeyError):
        found["nothing"]
    with pytest.raises(KeyError, match="VexFS's own"):
        found["vexfs.vector"] = 1
    for bad, kind in (([1], TypeError), ({}, TypeError), (float("nan"), ValueError), (b"x", TypeError)):
        with pytest.raises(kind):
            found["x"] = bad
    assert "x" not in found
    with pytest.raises(FileNotFoundError):
        fs.attributes("nowhere")


# -- path objects


def test_paths_behave_as_those_of_pathlib(fs: Files) -> None:
    path = fs.path("a") / "b" / "c.tar.gz"
    pure = pathlib.PurePosixPath("a/b/c.tar.gz")
    for each in ("name", "stem", "suffix", "suffixes", "parts", "parent", "parents", "anchor"):
        ours, theirs = getattr(path, each), getattr(pure, each)
        assert str(ours) == str(theirs) or list(map(str, ours)) == list(map(str, theirs))
    for derived in (path.parent, path.with_name("x"), path.with_suffix(".y"), path / "z", "q" / path, *path.parents):
        assert type(derived) is type(path)
    path.parent.mkdir(parents=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pytest.raises(FileExistsError):
        path.parent.mkdir()
    assert path.write_text("höhö") == 4 and path.read_text() == "höhö"
    assert path.write_bytes(b"12") == 2 and path.read_bytes() == b"12"
    with pytest.raises(FileNotFoundError):
        fs.path("no/such").write_text("x")
    assert path.is_file() and path.exists() and path.parent.is_dir() and not path.is_symlink()
    assert path.stat().st_size == 2 and [p.name for p in fs.path("a/b").iterdir()] == ["c.tar.gz"]
    moved = path.rename(fs.path("a/moved"))
    assert str(moved) == "a/moved" and moved.read_bytes() == b"12" and not path.exists()
    moved.chmod(0o600)
    moved.attributes["n"] = 1
    assert stat.S_IMODE(moved.stat().st_mode) == 0o600 and dict(moved.attributes) == {"n": 1}
    fs.path("s").symlink_to("a/../a/moved")
    fs.path("h").hardlink_to(moved)
    assert fs.path("s").resolve() == fs.path("/a/moved") and fs.path("s").readlink() == fs.path("a/../a/moved")
    assert fs.path("h").samefile("s") and fs.path("/").is_mount() and not fs.path("a").is_mount()
    with pytest.raises(FileNotFoundError):
        fs.path("x/y").resolve(strict=True)
    fs.path("loop").symlink_to("loop")
    with pytest.raises(errors.SymlinkLoop):
        fs.path("loop").resolve()
    with moved.open("a") as file:
        file.write("3")
    assert moved.read_text() == "123"
    moved.unlink()
    fs.path("s").touch()
    assert moved.exists(), "touching a dangling symlink makes what it leads to"
    moved.unlink()
    moved.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        moved.unlink()
    assert next(iter(fs.path().walk()))[0] == fs.path()
    assert [str(p) for p in fs.path().rglob("mov*")] == []


def test_nothing_moves_to_the_path_of_another_volume(fs: Files, other_files: Files) -> None:
    fs.write_text("a", "1")
    fs.mkdir("d")
    there = other_files.path("b")
    moves: list[Any] = [
        lambda: fs.path("a").rename(there), lambda: fs.path("a").replace(there), lambda: fs.rename("a", there),
        lambda: fs.copy("a", there), lambda: fs.copytree("d", there), lambda: fs.path("c").hardlink_to(there),
    ]  # fmt: skip
    for move in moves:
        with pytest.raises(OSError, match="another volume") as caught:
            move()
        assert caught.value.errno == errno.EXDEV
    assert sorted(fs.listdir()) == ["a", "d"] and other_files.listdir() == []
    other_files.write_text("a", "1")
    assert not fs.path("a").samefile(other_files.path("a")) and fs.path("a").samefile("a")


def test_a_tree_deeper_than_the_recursion_limit_is_walked(fs: Files) -> None:
    path = "d"
    for _ in range(1200):
        fs.mkdir(path)
        path += "/d"
    down = [directory for directory, _, _ in fs.walk("d")]
    assert len(down) == 1200 and [directory for directory, _, _ in fs.walk("d", topdown=False)] == down[::-1]
    fs.rmtree("d")


def test_paths_longer_than_the_kernel_takes_lead_somewhere(fs: Files) -> None:
    path = "d"
    fs.mkdir(path)
    while len(path) <= 9000:
        path += "/" + "d" * 250
        fs.mkdir(path)
    fs.write_text(f"{path}/z", "z")
    assert [(directory, names) for directory, _, names in fs.walk("d")][-1] == (path, ["z"])
    assert fs.glob("d/**/z") == [f"{path}/z"] and fs.read_text(f"{path}/z") == "z"
    with pytest.raises(OSError) as caught:
        fs.stat("d/" * (1 << 19))
    assert caught.value.errno == errno.ENAMETOOLONG
    fs.rmtree("d")
    assert not fs.exists("d")


def test_special_files_of_a_tree_are_copied_as_such(fs: Files) -> None:
    fs.makedirs("t/d")
    fs.filesystem.mknod("t/fifo", stat.S_IFIFO | 0o640)
    fs.write_text("t/z", "z")
    fs.copytree("t", "u")
    assert sorted(fs.listdir("u")) == ["d", "fifo", "z"] and fs.lstat("u/fifo").st_mode == stat.S_IFIFO | 0o640
    with pytest.raises(OSError, match="no content to copy"):
        fs.copy("t/fifo", "v")
    assert not fs.exists("v")


def test_every_open_file_is_closed_though_one_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, vexfs.open(tmp_path / "v.vex") as volume:
        kept = [volume.open(name, "wb") for name in "abcdef"]
        for file in kept:
            file.seek(1 << 62 if file.name == "c" else 0)  # further than a file can be long: its flush fails
            file.write(file.name.encode())
    assert caught.value.errno == errno.EFBIG and all(file.closed for file in kept) and volume.closed
    with vexfs.open(tmp_path / "v.vex") as volume:
        assert [volume.read_text(name) for name in "abdef"] == list("abdef")


def test_a_path_stays_in_its_volume(fs: Files, other_files: Files) -> None:
    other = other_files
    assert fs.path("a") == fs.path("a") and fs.path("a") != other.path("a")
    assert len({fs.path("a"), fs.path("a"), other.path("a")}) == 2
    for host in (open, os.stat, os.listdir, os.fspath):
        with pytest.raises(TypeError, match="not on the host"):
            host(fs.path("a"))  # type: ignore[operator]
    with pytest.raises(OSError, match="vexfs://"):
        fs.path("/a").as_uri()
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(fs.path("a"))
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="an open volume cannot be copied"):
            way(fs)
    assert sorted([fs.path("b"), fs.path("a")])[0].name == "a" and bytes(fs.path("b")) == b"b"


def test_symlinks_lead_nobody_to_what_is_the_volumes_own(tmp_path: Path) -> None:
    """Made on a mount, or imported: there they lead to a search, here to nothing."""
    fs = vexfs.open(tmp_path / "v.vex")
    fs.index("d", dim=2).upsert(["a"], [[1, 0]])
    for target, name in ((".vexfs", "in"), ("/.vexfs/indexes.json", "list"), ("d/../.vexfs/", "around"), ("in", "two")):
        fs.filesystem.symlink(target, name)
    for path in ("list", "in", "in/indexes.json", "two/indexes.json", "around/indexes.json"):
        assert not fs.exists(path)
        with pytest.raises(FileNotFoundError):
            fs.stat(path)
    for work in (
        lambda: fs.remove("in/indexes.json"),
        lambda: fs.write_bytes("list", b"x"),
        lambda: fs.path("in/mine").write_bytes(b"x"),
        lambda: fs.rename("d/a", "in/a"),
        lambda: fs.listdir("two"),
    ):
        with pytest.raises(FileNotFoundError):
            work()
    assert fs.readlink("in") == ".vexfs"
    fs.filesystem.symlink("a.vexfs/b", "near")
    fs.makedirs("a.vexfs")
    fs.write_bytes("near", b"x")
    assert fs.read_bytes("a.vexfs/b") == b"x"
    assert [i.path for i in fs.indexes()] == ["/d"]
    fs.close()


def test_a_fifo_has_no_content_here(tmp_path: Path) -> None:
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.filesystem.mknod("pipe", stat.S_IFIFO | 0o600)
        for mode in ("rb", "wb", "a", "r+"):
            with pytest.raises(OSError, match="is a FIFO.*open it on a mount.*'pipe'"):
                fs.open("pipe", mode)
        for work in (lambda: fs.read_bytes("pipe"), lambda: fs.write_bytes("pipe", b"x")):
            with pytest.raises(OSError, match="'pipe'"):
                work()
