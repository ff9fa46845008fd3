"""``vexctl search``, ``vexctl similar``, ``vexfs import --index``, as a user runs them."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vexfs
from tests.search.test_damaged_table import half_damaged
from vexfs.cli.main import run
from vexfs.cli.search import shown

TEXTS = {
    "coffee/roasts.md": "# Roasts\n\nLight roasts keep acidity; dark roasts are bitter.",
    "coffee/water.md": "# Water\n\nFilter hard water for espresso.",
    "travel/passport.txt": "How to renew a passport: bring a photo.",
    "noise.bin": os.urandom(4000),
}


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("search")
    for name, text in TEXTS.items():
        (home / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "docs" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with vexfs.open(home / "v.vex"):
        pass
    assert run("vexfs", ["import", str(home / "docs"), f"{home / 'v.vex'}:/docs", "--index"]) == 0
    with vexfs.open(home / "v.vex") as fs:
        fs.attributes("docs/coffee/water.md")["year"] = 2021
    return home / "v.vex"


def vexctl(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = run("vexctl", [str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def test_search(volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = vexctl(capsys, "search", "renew my passport", "--volume", volume)
    lines = out.splitlines()
    assert status == 0 and lines[0].startswith("  1  1.000  /docs/travel/passport.txt:1")
    assert "How to renew a passport" in lines[1] and "files in" in lines[-1] and "\x1b" not in out
    status, out, _ = vexctl(capsys, "search", "water", "--mode", "keyword", "--volume", volume, "--json")
    told = json.loads(out)
    assert [hit["path"] for hit in told["hits"]] == ["/docs/coffee/water.md"] and told["complete"]
    hit = told["hits"][0]
    assert {"score", "distance", "lines", "span", "text", "snippet", "marks", "attributes", "id"} <= set(hit)
    assert hit["attributes"] == {"year": 2021}


def test_what_could_not_be_searched_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half_damaged(tmp_path / "half.vex")
    status, out, err = vexctl(capsys, "search", "acidity", "--volume", tmp_path / "half.vex")
    assert (status, err) == (0, "vexctl: not searched: /bad: its table of rows is damaged\n") and "/good/goo.txt" in out
    told = json.loads(vexctl(capsys, "search", "acidity", "--volume", tmp_path / "half.vex", "--json")[1])
    assert told["missing"] == [{"path": "/bad", "reason": "its table of rows is damaged"}]
    vector = ",".join(["1"] * 256)
    assert "/bad: its table" in vexctl(capsys, "search", "--vector", vector, "--volume", tmp_path / "half.vex")[2]


def test_options(volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def paths(*words: object) -> list[str]:
        told = json.loads(vexctl(capsys, "search", *words, "--volume", volume, "--json")[1])
        return [hit["id"] for hit in told["hits"]]

    assert paths("water", "--k", 1) == ["water.md"]
    assert set(paths("water", "--under", "/docs/coffee")) == {"water.md", "roasts.md"}
    assert paths("roasts", "--where", "year>=2020") == ["water.md"]
    assert paths("roasts", "--where", "year>=2020", "--where", "year<2021") == []
    assert vexctl(capsys, "search", "x", "--where", "year>9999", "--volume", volume)[0] == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [(["search", " "], "empty"), (["search", "x", "--where", ">3"], "no condition"),
     (["search", "x", "--under", "/none"], "No such"), (["similar", "/none"], "No such")],
)  # fmt: skip
def test_refusals(volume: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    status, out, err = vexctl(capsys, *words, "--volume", volume)
    assert status in (1, 2) and not out and told.lower() in err.lower() and err.count("\n") == 1


def test_similar(volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = vexctl(capsys, "similar", "/docs/coffee/roasts.md", "--under", "/docs/coffee",
                            "--volume", volume, "--json")  # fmt: skip
    (hit,) = json.loads(out)["hits"]
    assert status == 0 and hit["path"] == "/docs/coffee/water.md"


def test_import_tells_what_was_indexed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.txt").write_text("coffee")
    (tmp_path / "d/b.png").write_bytes(b"x")
    with vexfs.open(tmp_path / "v.vex"):
        pass
    assert run("vexfs", ["import", str(tmp_path / "d"), f"{tmp_path / 'v.vex'}:/d", "--index", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["index"]
    assert (told["embedder"], told["files"], told["without_text"], told["path"]) == ("static", 1, 1, "/d")
    assert run("vexfs", ["import", str(tmp_path / "d/a.txt"), f"{tmp_path / 'v.vex'}:/a", "--index"]) == 2


def test_colour_on_a_terminal_only(volume: Path) -> None:
    program = "from vexfs.cli.main import vexctl; vexctl()"
    command = [sys.executable, "-c", program, "search", "passport", "--volume", volume]
    for environment, painted in [({}, True), ({"NO_COLOR": "1"}, False)]:
        master, slave = pty.openpty()
        child = subprocess.Popen(command, stdout=slave, env={**os.environ, **environment})
        os.close(slave)
        shown = b""
        while True:
            try:
                shown += os.read(master, 65536)
            except OSError:
                break
        os.close(master)
        assert child.wait(60) == 0
        assert (b"\x1b[" in shown) is painted and b"passport.txt" in shown


def test_watch_tells_of_what_comes(tmp_path: Path) -> None:
    from vexfs.node.verbs import search

    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("docs", embedder="default")

        class Node:
            volume = fs

        steps = search.watch(Node(), "passport", threshold=0.2)  # type: ignore[arg-type]  # all that a verb needs
        assert next(steps) == {"watching": "passport"}
        fs.write_text("docs/a.txt", "Renew a passport")
        assert fs.ingest.wait(120)
        told = next(steps)
        assert told["hit"]["path"] == "/docs/a.txt" and "passport" in told["hit"]["snippet"]
        steps.close()
        fs.index("points", dim=2)
        steps = search.watch(Node(), [1.0, 0.0])  # type: ignore[arg-type]  # all that a verb needs
        next(steps)
        fs.index("points").upsert(["near", "far"], [[1, 0.1], [0, 1]])
        told = next(steps)
        assert told["hit"]["path"] == "/points/near" and told["hit"]["snippet"] == ""
        steps.close()
        assert not fs.catalog.standing


@pytest.mark.parametrize(
    ("told", "note"),
    [
        ({"backlog": 1, "complete": False}, "; 1 file is not indexed yet (--wait S waits for that)"),
        ({"backlog": 1200, "complete": False}, "; 1,200 files are not indexed yet (--wait S waits for that)"),
        ({"backlog": 0, "complete": False}, "; what changed is still being looked through (--wait S waits for that)"),
        ({"backlog": 0, "complete": True}, ""),
    ],
)
def test_what_is_not_indexed_yet_is_told(told: dict[str, Any], note: str) -> None:
    assert shown({"hits": [], "seconds": 0.5, "explanation": None, **told}) == f"nothing was found in 500 ms{note}"


def test_one_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.md").write_text("Light roasts keep acidity.\n")
    assert run("vexfs", ["import", str(tmp_path / "tree"), f"{tmp_path / 'v.vex'}:/docs", "--index"]) == 0
    out = capsys.readouterr().out
    assert "1 file, 1 directory; " in out and "indexed 1 file in 1 passage by " in out
