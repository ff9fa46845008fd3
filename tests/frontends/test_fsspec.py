"""fsspec's own suite on a volume, and what is beyond it: transactions, chained URLs, sharing."""

import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests import abstract
from vexfs.frontends.fsspec import UNCOMMITTED, VexFileSystem

import vexfs
from vexfs.errors import UsageError, VolumeClosed, VolumeNotFound


@pytest.fixture(scope="class")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VexFileSystem]:
    with vexfs.open(tmp_path_factory.mktemp("fsspec") / "v.vex") as volume:
        yield VexFileSystem(volume=volume, skip_instance_cache=True)


class Fixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, shared: VexFileSystem) -> VexFileSystem:
        return shared

    @pytest.fixture
    def fs_path(self) -> str:
        return "base"

    @pytest.fixture
    def fs_sanitize_path(self) -> Callable[[str], str]:
        return lambda path: path


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Any]:
    with vexfs.open(tmp_path / "v.vex") as volume:
        yield volume


@pytest.fixture
def fs(volume: Any) -> VexFileSystem:
    return VexFileSystem(volume=volume, skip_instance_cache=True)


def test_it_is_registered_and_finds_its_volume_by_path(tmp_path: Path) -> None:
    where = tmp_path / "v.vex"
    vexfs.open(where).close()
    assert fsspec.get_filesystem_class("vexfs") is VexFileSystem
    fs = fsspec.filesystem("vexfs", volume=str(where), skip_instance_cache=True)
    with fsspec.open("vexfs://a/b.txt", "w", volume=fs.volume, skip_instance_cache=True) as file:
        pass_through = file
        fs.makedirs("a", exist_ok=True)
        pass_through.write("text")
    assert fs.cat("vexfs://a/b.txt") == b"text"
    fs.close()
    with fsspec.open(f"vexfs://a/b.txt::{where}", "r") as file:
        assert file.read() == "text"


def test_a_volume_that_is_open_already_is_shared(volume: Any) -> None:
    fs = fsspec.filesystem("vexfs", volume=str(volume.directory), skip_instance_cache=True)
    assert fs.volume is volume
    fs.pipe("x", b"1")
    fs.close()
    assert volume.read_bytes("x") == b"1", "closing must leave the shared volume open"


def test_a_volume_that_was_closed_is_opened_anew(tmp_path: Path) -> None:
    place = str(tmp_path / "v.vex")
    with vexfs.open(place) as volume:
        volume.write_text("f", "1")
        assert fsspec.filesystem("vexfs", volume=place).cat("f") == b"1"
    again = fsspec.filesystem("vexfs", volume=place)  # fsspec gives out the one that it has made before
    for _ in range(2):
        assert again.cat("f") == b"1"
        again.close()
    with vexfs.open(place) as volume:
        given = VexFileSystem(volume)
    with pytest.raises(VolumeClosed):
        given.cat("f")


def test_what_is_no_volume_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no volume given"):
        VexFileSystem(skip_instance_cache=True)
    with pytest.raises(VolumeNotFound):
        VexFileSystem(volume=str(tmp_path / "none"), skip_instance_cache=True)
    assert not (tmp_path / "none").exists()
    with pytest.raises(UsageError, match="not of s3"):
        VexFileSystem(fo="bucket/x", target_protocol="s3", skip_instance_cache=True)


def test_listing_and_facts(fs: VexFileSystem, volume: Any) -> None:
    fs.pipe({"d/a": b"1", "d/e/b": b"22"})
    volume.symlink("a", "d/link")
    volume.symlink("nowhere", "d/dangling")
    assert fs.ls("d", detail=False) == ["d/a", "d/dangling", "d/e", "d/link"]
    facts = {one["name"]: (one["type"], one["size"]) for one in fs.ls("/d/")}
    assert facts == {"d/a": ("file", 1), "d/e": ("directory", 0), "d/link": ("file", 1), "d/dangling": ("link", 0)}
    assert fs.ls("d/a", detail=False) == ["d/a"] and fs.du("d") >= 3
    assert fs.exists("d/e") and not fs.exists("d/f") and fs.lexists("d/dangling")
    assert sorted(fs.find("")) == ["d/a", "d/dangling", "d/e/b", "d/link"]
    assert fs.glob("**/b") == ["d/e/b"] and fs.isdir("") and fs.isfile("d/e/b")
    key, time = fs.ukey("d/a"), fs.modified("d/a")
    fs.pipe("d/a", b"3")
    assert fs.ukey("d/a") != key and fs.modified("d/a") >= time >= fs.created("d/a")
    with pytest.raises(FileNotFoundError):
        fs.ls("nothing")


def test_listing_while_files_come_and_go(fs: VexFileSystem) -> None:
    fs.pipe("d/stays", b"1")
    ended = threading.Event()

    def change() -> None:
        number = 0
        while not ended.is_set():
            for name in (names := [f"d/{number + each}" for each in range(50)]):
                fs.pipe(name, b"2")
            fs.rm(names)
            number += 50

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for _ in range(300):
            assert "d/stays" in fs.ls("d", detail=False)
    finally:
        ended.set()
        changing.join()


def test_parts_of_files(fs: VexFileSystem) -> None:
    fs.pipe("f", b"0123456789")
    assert fs.cat_file("f", 2, 5) == b"234" and fs.cat_file("f", -3) == b"789" and fs.cat_file("f", 8, 99) == b"89"
    assert fs.head("f", 3) == b"012" and fs.tail("f", 3) == b"789"
    assert fs.cat_ranges(["f", "f"], [0, 5], [2, 7]) == [b"01", b"56"]
    with fs.open("f", "ab") as file:
        file.write(b"A")
    with fs.open("f", "rb", block_size=3) as file:
        file.seek(9)
        assert file.read() == b"9A"


def test_removing_and_moving(fs: VexFileSystem) -> None:
    fs.pipe({"a/b/c": b"1", "a/d": b"2"})
    with pytest.raises(IsADirectoryError):
        fs.rm("a")
    fs.mv("a/b", "x/y")
    assert fs.cat("x/y/c") == b"1" and not fs.exists("a/b")
    fs.mv("a/d", "x")
    assert fs.cat("x/d") == b"2"
    with pytest.raises(FileExistsError):
        fs.mkdir("x")
    fs.rm("x", recursive=True)
    assert fs.ls("", detail=False) == ["a"]
    fs.rm("", recursive=True)
    assert fs.ls("") == []
    fs.touch("t")
    fs.touch("t", truncate=False)
    assert fs.info("t")["size"] == 0


def test_transactions_commit_all_or_nothing(fs: VexFileSystem) -> None:
    fs.pipe("keep", b"old")
    with fs.transaction:
        with fs.open("keep", "wb") as file:
            file.write(b"new")
        with fs.open("made", "wb") as file:
            file.write(b"made")
        assert fs.cat("keep") == b"old" and not fs.exists("made")
    assert fs.cat("keep") == b"new" and fs.cat("made") == b"made"
    with pytest.raises(RuntimeError), fs.transaction:
        with fs.open("keep", "wb") as file:
            file.write(b"lost")
        raise RuntimeError
    assert fs.cat("keep") == b"new"
    assert not [name for name in fs.ls("", detail=False) if name.startswith(UNCOMMITTED)]


def test_trees_go_in_and_out(fs: VexFileSystem, tmp_path: Path) -> None:
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "in/sub/f").write_bytes(os.urandom(300_000))
    fs.put(str(tmp_path / "in"), "tree", recursive=True)
    fs.get("tree", str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out/sub/f").read_bytes() == (tmp_path / "in/sub/f").read_bytes()
    assert LocalFileSystem().exists(str(tmp_path / "out"))


def test_a_program_that_does_not_close_loses_nothing(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = "import fsspec; fsspec.filesystem('vexfs', volume='v.vex', create=True).pipe('f', b'written')"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    with vexfs.open(tmp_path / "v.vex") as fs:
        assert fs.read_bytes("f") == b"written"


@pytest.mark.parametrize("cache", ["blockcache", "filecache", "simplecache"])
def test_caches_of_fsspec_hold_what_was_read(volume: Any, tmp_path: Path, cache: str) -> None:
    content = os.urandom(1 << 20)
    volume.write_bytes("f", content)
    options: Any = {cache: {"cache_storage": str(tmp_path / "c")}, "vexfs": {"volume": str(volume.directory)}}
    for _ in range(2):
        with fsspec.open(f"{cache}::vexfs://f", block_size=1 << 16, **options) as file:
            assert file.seek(500_000) == 500_000 and file.read(100_000) == content[500_000:600_000]
    held = [path.read_bytes() for path in (tmp_path / "c").iterdir() if path.name != "cache"]
    assert any(content[500_000:600_000] in one for one in held), "a cache that caches nothing"


@pytest.mark.parametrize("kind", ["none", "mmap", "bytes", "readahead", "blockcache", "first", "all", "background"])
def test_files_behind_a_cache(fs: VexFileSystem, kind: str) -> None:
    content = os.urandom(300_000)
    fs.pipe("f", content)
    with fs.open("f", cache_type=kind, block_size=1 << 14) as file:
        fs.mv("f", "g")  # an open file is what it was
        assert file.size == len(content) and file.read(10) == content[:10]
        file.seek(-70_000, 2)
        assert file.read() == content[-70_000:]
        with pytest.raises(FileNotFoundError):
            fs.open("f", cache_type=kind)


@pytest.mark.parametrize("kind", [None, "readahead"])
def test_open_files_know_their_size_and_are_pickled(tmp_path: Path, kind: str | None) -> None:
    fs = fsspec.filesystem("vexfs", volume=str(tmp_path / "v.vex"), create=True, skip_instance_cache=True)
    fs.pipe("d/lines", b"first\nsecond\nthird\n")
    assert fs.read_block("d/lines", 3, 6, b"\n") == b"second\n"
    with fs.open("d/lines", cache_type=kind) as file:
        assert file.readline() == b"first\n" and file.size == 19
        with pickle.loads(pickle.dumps(file)) as same:
            assert same.read() == b"second\nthird\n"
    fs.close()
