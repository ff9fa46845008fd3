"""``vexfs import --index`` with services that hang or are away."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vexfs
from tests.search.test_embedders import Service
from vexfs.cli.main import run
from vexfs.registry import registry


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


def test_import_does_not_wait_for_ever_for_a_model_that_hangs(
    tmp_path: Path, service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vexfs.cli.transfer._PATIENCE_S", 1.0)
    monkeypatch.setattr("vexfs.search.underway._LATE_S", 0.2)
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.txt").write_text("coffee")
    (tmp_path / "d/b.txt").write_text("tea")
    service.faults = [200, over := threading.Event()]  # first it is asked how long its vectors are
    target = f"{tmp_path / 'v.vex'}:/d"
    assert run("vexfs", ["import", str(tmp_path / "d"), target, "--index", service.address]) == 1
    shown = capsys.readouterr().out
    assert f"waiting for {service.address}: asked" in shown and "not indexed yet: 2 files" in shown
    assert f"`vexctl index status /d --volume {tmp_path / 'v.vex'}`" in shown
    over.set()
    monkeypatch.setattr("vexfs.cli.transfer._PATIENCE_S", 250.0)
    assert run("vexfs", ["import", str(tmp_path / "d"), target, "--index", service.address, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["unchanged"] == 2 and told["index"]["backlog"] == 0 and told["index"]["without_text"] == 0


def test_import_waits_for_its_own_model_though_another_one_is_away(
    tmp_path: Path, service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vexfs.cli.transfer._PATIENCE_S", 4.0)
    monkeypatch.setattr("vexfs.search.embed_http._TRIES", 1)
    (tmp_path / "d").mkdir()
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("away", embedder=service.address)
        service.faults = [503] * 100
        fs.write_text("away/a.txt", "coffee")
        assert not fs.ingest.wait(1)
    for n in range(2000):
        (tmp_path / f"d/{n}.txt").write_text(f"tea {n}")
    assert run("vexfs", ["import", str(tmp_path / "d"), f"{tmp_path / 'v.vex'}:/d", "--index", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)["index"]
    assert told["files"] == 2000 and told["backlog"] == 1 and list(told["held"]) == [service.address]


def test_files_that_could_not_be_indexed_are_told_and_make_the_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def poison(data: bytes, name: str) -> Any:
        raise RuntimeError("boom")

    registry("extractors").add("poi", poison)
    (tmp_path / "d").mkdir()
    for n in range(12):
        (tmp_path / f"d/{n}.poi").write_text("x")
    try:
        assert run("vexfs", ["import", str(tmp_path / "d"), f"{tmp_path / 'v.vex'}:/d", "--index"]) == 1
    finally:
        registry("extractors")._loaded.pop("poi")
    shown = capsys.readouterr().out
    assert shown.count("not indexed: /d/") == 10 and "extractor poi: RuntimeError: boom" in shown
    assert "not indexed: 2 more; `vexctl index retry` tries them again" in shown
