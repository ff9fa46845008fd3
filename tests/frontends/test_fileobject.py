"""File objects of a volume: the modes of ``open``, and consumers in the standard library and beyond."""

import array
import csv
import errno
import io
import json
import os
import pickle
import shutil
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vexfs.frontends.local import Files, RawFile


def test_modes_are_those_of_open(fs: Files, tmp_path: Path) -> None:
    def attempt(opener: Any, path: Any, mode: str) -> Any:
        try:
            with opener(path, mode) as file:
                shape = (file.readable(), file.writable(), file.seekable(), file.tell())
                if file.writable():
                    file.write(b"new" if "b" in mode else "new")
                    file.flush()
                shape += (file.tell(),)
                if file.readable():
                    file.seek(0)
                    shape += (file.read(),)
                return shape
        except (OSError, ValueError) as error:
            return type(error) if type(error) is ValueError else error.errno  # type: ignore[union-attr]

    for mode in ("r", "w", "a", "x", "r+", "w+", "a+", "x+", "rb", "wb", "ab", "xb", "rb+", "wb+", "ab+", "xb+",
                 "", "rw", "bt", "rbt", "rr", "q", "b", "r+b"):  # fmt: skip
        for there in (True, False):
            name = f"f{there}"
            (tmp_path / name).unlink(missing_ok=True)
            fs.path(name).unlink(missing_ok=True)
            if there:
                (tmp_path / name).write_bytes(b"original")
                fs.write_bytes(name, b"original")
            assert attempt(fs.open, name, mode) == attempt(open, tmp_path / name, mode), (mode, there)
    with pytest.raises(IsADirectoryError):
        fs.open(".")
    with pytest.raises(ValueError, match="encoding"):
        fs.open("fTrue", "rb", encoding="utf-8")
    with pytest.raises(ValueError, match="unbuffered text"):
        fs.open("fTrue", "r", 0)


def test_raw_file_positions(fs: Files) -> None:
    with fs.open("f", "wb+", buffering=0) as raw:
        assert isinstance(raw, RawFile)
        assert raw.write(b"0123456789") == 10
        assert raw.seek(-3, os.SEEK_END) == 7 and raw.read(99) == b"789" and raw.read(1) == b""
        assert raw.seek(20) == 20 and raw.write(array.array("H", [1, 2])) == 4
        raw.seek(0)
        assert raw.readall() == b"0123456789" + bytes(10) + b"\1\0\2\0"
        raw.seek(5)
        assert raw.truncate() == 5 and raw.tell() == 5
        with pytest.raises(ValueError, match="negative"):
            raw.seek(-1)
        with pytest.raises(ValueError, match="whence"):
            raw.seek(0, 9)
        with pytest.raises(OSError):
            raw.fileno()
        assert "name='f'" in repr(raw)
    with pytest.raises(ValueError, match="closed"):
        raw.read(1)
    raw.close()
    with fs.open("f", "rb", 0) as raw, pytest.raises(io.UnsupportedOperation):
        raw.write(b"x")
    with fs.open("f", "ab", 0) as raw, pytest.raises(io.UnsupportedOperation):
        raw.read(1)


@pytest.mark.parametrize("buffering", [-1, 0])
def test_sizes_that_are_none_are_refused_as_for_a_file_of_the_host(fs: Files, tmp_path: Path, buffering: int) -> None:
    for opener in (fs.open, open):
        with opener("f" if opener == fs.open else tmp_path / "f", "w+b", buffering) as file:  # type: ignore[operator]
            file.write(b"abc")
            with pytest.raises(OSError) as caught:
                file.truncate(-1)
            assert caught.value.errno == errno.EINVAL
            with pytest.raises(TypeError):
                file.truncate(1.0)  # type: ignore[arg-type]
            assert file.seek(0) == 0 and file.read() == b"abc"


def test_standard_library_takes_the_files(fs: Files, tmp_path: Path) -> None:
    with fs.open("z.zip", "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in/side.txt", "zipped" * 1000)
    with fs.open("z.zip", "rb") as file, zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None and archive.read("in/side.txt") == b"zipped" * 1000
    with fs.open("z.zip", "r+b") as file, zipfile.ZipFile(file, "a") as archive:
        archive.writestr("more", "x")
    with fs.open("z.zip", "rb") as file:
        assert zipfile.ZipFile(file).namelist() == ["in/side.txt", "more"]

    with fs.open("t.csv", "w", newline="") as file:
        csv.writer(file).writerows([["a", "b"], ["1", "x\ny"]])
    with fs.open("t.csv", newline="") as file:
        assert list(csv.reader(file)) == [["a", "b"], ["1", "x\ny"]]

    with fs.open("j.json", "w") as file:
        json.dump({"ä": [1, None]}, file)
    with fs.open("j.json") as file:
        assert json.load(file) == {"ä": [1, None]}

    with fs.open("p", "wb") as file:
        pickle.dump({"k": list(range(1000))}, file)
    with fs.open("p", "rb") as file:
        assert pickle.load(file) == {"k": list(range(1000))}

    with fs.open("a.tar.gz", "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
        info = tarfile.TarInfo("n")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"tared"))
    with fs.open("a.tar.gz", "rb") as file, tarfile.open(fileobj=file) as tar:
        assert tar.extractfile("n").read() == b"tared"  # type: ignore[union-attr]

    big = os.urandom(1 << 20)
    (tmp_path / "big").write_bytes(big)
    with open(tmp_path / "big", "rb") as source, fs.open("big", "wb") as target:
        shutil.copyfileobj(source, target)
    with fs.open("big", "rb") as source, open(tmp_path / "back", "wb") as target:
        shutil.copyfileobj(source, target)
    assert (tmp_path / "back").read_bytes() == big


def test_numpy_takes_the_files(fs: Files) -> None:
    matrix = np.arange(100_000, dtype=np.float32).reshape(100, 1000)
    with fs.open("m.npy", "wb") as file:
        np.save(file, matrix)
    with fs.open("m.npz", "wb") as file:
        np.savez(file, a=matrix, b=matrix[0])
    with fs.open("m.npy", "rb") as file:
        assert np.array_equal(np.load(file), matrix)
    with fs.open("m.npz", "rb") as file:
        assert np.array_equal(np.load(file)["b"], matrix[0])


def test_table_readers_take_the_files(fs: Files) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [1, 2, 3], "y": ["a", "b", "c"]})
    with fs.open("t.csv", "w") as file:
        frame.to_csv(file, index=False)
    with fs.open("t.csv") as file:
        assert pandas.read_csv(file).equals(frame)
    pytest.importorskip("pyarrow")
    with fs.open("t.parquet", "wb") as file:
        frame.to_parquet(file)
    with fs.open("t.parquet", "rb") as file:
        assert pandas.read_parquet(file).equals(frame)


def test_fsync_reaches_through_the_layers(fs: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []

    class Watching:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def fsync(self, ino: int) -> None:
            synced.append(real.read(ino, 99, 0))

    for mode, data in (("w", "text"), ("wb", b"text"), ("wb+", b"text")):
        real = fs.filesystem
        with fs.open("f", mode) as file:
            raw: Any = file
            while not isinstance(raw, RawFile):
                raw = raw.buffer if hasattr(raw, "buffer") else raw.raw
            raw._filesystem = Watching()
            file.write(data)
            fs.fsync(file)
    assert synced == [b"text"] * 3


def test_an_open_file_outlives_its_name(fs: Files) -> None:
    fs.write_bytes("f", b"content")
    with fs.open("f", "rb") as file:
        fs.remove("f")
        fs.write_bytes("f", b"another")
        assert file.read() == b"content"


def test_threads_share_a_file_and_a_tree(fs: Files) -> None:
    fs.makedirs("t")
    failed: list[BaseException] = []

    def guard(work: Any) -> Any:
        def run(*args: Any) -> None:
            try:
                work(*args)
            except BaseException as error:
                failed.append(error)

        return run

    @guard
    def append(n: int) -> None:
        with fs.open("log", "ab", 0) as file:
            for i in range(100):
                file.write(b"%d:%03d;" % (n, i))

    @guard
    def churn(n: int) -> None:
        for i in range(50):
            fs.write_text(f"t/{n}-{i}", f"{n}-{i}")
            fs.rename(f"t/{n}-{i}", f"t/moved-{n}-{i}")
            assert fs.read_text(f"t/moved-{n}-{i}") == f"{n}-{i}"

    shared = fs.open("shared", "wb+")

    @guard
    def write_shared(n: int) -> None:
        for _ in range(200):
            shared.write(b"%d" % n * 10)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4) for work in (append, churn, write_shared)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shared.close()
    assert not failed
    entries = fs.read_bytes("log").split(b";")[:-1]
    assert sorted(entries) == sorted(b"%d:%03d" % (n, i) for n in range(4) for i in range(100))
    assert all(mine == sorted(mine) for n in range(4) for mine in [[e for e in entries if e[:1] == b"%d" % n]])
    assert len(fs.listdir("t")) == 200
    content = fs.read_bytes("shared")
    assert sorted(content[i : i + 10] for i in range(0, len(content), 10)) == sorted(
        b"%d" % n * 10 for n in range(4) for _ in range(200)
    )


