"""Text, tables and JSON as commands print them."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vexfs.cli import output
from vexfs.cli.progress import Progress


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1 << 20, "1.0 MiB"),
        ((1 << 20) - 1, "1.0 MiB"), (5 << 40, "5.0 TiB"), (1 << 70, "1024.0 EiB"), (-2048, "-2.0 KiB"),
    ],
)  # fmt: skip
def test_size(n, text):
    assert output.size(n) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 us"), (0.00034, "340 us"), (0.0123, "12.3 ms"), (4.56, "4.56 s"), (59.99, "1 min 00 s"),
        (200, "3 min 20 s"), (7500, "2 h 05 min"), (0.9999, "1 s"),
    ],
)  # fmt: skip
def test_duration(seconds, text):
    assert output.duration(seconds) == text


def test_table_aligns_numbers_right_and_words_left():
    text = output.table(["name", "size"], [["a", 5], ["longer", 12345]])
    assert text.splitlines() == ["name      size", "a            5", "longer  12,345"]


def test_table_without_rows_is_its_headers():
    assert output.table(["name", "size"], []) == "name  size"


def test_table_is_cut_to_the_terminal():
    assert output.table(["name"], [["x" * 30]], width=10).splitlines()[1] == "x" * 9 + "…"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain.txt", "plain.txt"),
        ("größe 木", "größe 木"),
        (b"caf\xe9", "caf\\xe9"),
        ("a\x1b[31mred\n", "a\\x1b[31mred\\n"),
        ("left\u202eright", "left\\u202eright"),
    ],
)
def test_names_cannot_write_to_the_terminal(name, shown):
    assert output.printable(name) == shown


def test_fields_nest():
    text = output.fields({"path": "a", "live_bytes": 1234, "ok": True, "cache": {"hits": 1, "ratio": 0.5}})
    lines = ["path        a", "live bytes  1,234", "ok          yes", "cache", "  hits   1", "  ratio  0.5"]
    assert text.splitlines() == lines


def test_emit_json_takes_what_commands_have(capsys):
    data = {"name": b"caf\xe9", "path": Path("/a"), "n": np.int64(3), "row": np.arange(2), "set": (1, 2)}
    output.emit(SimpleNamespace(json=True), data, "never shown")
    assert json.loads(capsys.readouterr().out) == {
        "name": "caf\udce9", "path": "/a", "n": 3, "row": [0, 1], "set": [1, 2],
    }  # fmt: skip


def test_emit_text_is_made_only_when_wanted(capsys):
    output.emit(SimpleNamespace(json=True), {}, lambda: pytest.fail("made for nothing"))
    capsys.readouterr()
    output.emit(SimpleNamespace(json=False), {"a": 1}, lambda: "for people")
    assert capsys.readouterr().out == "for people\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_says_nothing_to_a_file():
    stream = io.StringIO()
    with Progress("importing", 10, stream=stream) as progress:
        progress._drawn = 0
        progress(5)
    assert stream.getvalue() == ""


def test_progress_draws_and_cleans_up(monkeypatch):
    stream, now = Terminal(), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with Progress("importing", 4 << 20, stream=stream) as progress:
        progress._drawn = 0
        progress(1 << 20)
        assert "25%" in stream.getvalue()
        before = stream.getvalue()
        progress(2 << 20)  # at once after the last: not drawn again
        assert stream.getvalue() == before
    assert stream.getvalue().endswith("\r\x1b[K")


def test_progress_line():
    progress = Progress("checking", 200, unit="files", stream=io.StringIO())
    progress(50)
    assert progress.line(10) == "checking  [######..................]  25%  50 files of 200 files  5 files/s  30 s left"
    progress(50)
    progress.note = "waiting for a model"
    assert progress.line(2) == "checking  50 files of 200 files  waiting for a model"
    assert Progress("x", stream=io.StringIO()).line(1) == "x  0 B  0 B/s"


def test_progress_advances_over_items():
    progress = Progress("x", 120, unit="s", stream=io.StringIO())
    progress(30)
    assert progress.line(30).endswith("30 s of 2 min 00 s  1 min 30 s left")  # not "1 s/s"
    progress = Progress("x", 3, unit="files", stream=io.StringIO())
    assert list(progress.over("abc")) == ["a", "b", "c"]
    assert progress.done == 3


def test_a_file_that_finds_no_room_keeps_what_it_was(tmp_path):
    program = (
        "import resource, signal\nfrom vexfs.cli.output import write_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "write_file('report.json', 'new' * 10_000)"
    )
    (tmp_path / "report.json").write_text("old")
    (tmp_path / "report.json").chmod(0o640)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "FileTooLarge" in done.stderr and "report.json" in done.stderr
    assert os.listdir(tmp_path) == ["report.json"] and (tmp_path / "report.json").read_text() == "old"
    (tmp_path / "link").symlink_to("report.json")
    output.write_file(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "report.json").read_text() == "new"
    assert (tmp_path / "report.json").stat().st_mode & 0o777 == 0o640
    reader, writer = os.pipe()
    output.write_file(f"/dev/fd/{writer}", "piped")
    assert os.read(reader, 100) == b"piped"
    os.close(reader)
    os.close(writer)
