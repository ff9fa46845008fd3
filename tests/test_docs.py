"""What the documentation names is there."""

import ast
import re
from pathlib import Path

import pytest

import vexfs

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
INVARIANT = re.compile(r"^\| (\d+) \| (.+) \| (.+) \|$", re.MULTILINE)


def definitions(path):
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}


def test_every_invariant_names_the_test_that_holds_it():
    rows = INVARIANT.findall((ROOT / "docs/architecture.md").read_text())
    assert [int(number) for number, _, _ in rows] == list(range(1, len(rows) + 1)), "numbered without a gap"
    assert rows
    for number, _, tests in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        assert named, f"invariant {number} names no test"
        for path, name in named:
            assert (ROOT / path).exists(), f"invariant {number}: {path} is not there"
            assert name in definitions(ROOT / path), f"invariant {number}: {path} has no {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_named_files_are_there(page):
    ours = r"`((?:vexfs|frontends|tests|tools|docs|asv_benchmarks)/[\w./-]*(?:\.\w+|/))`"
    for name in re.findall(ours, page.read_text()):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_requests_with_a_body_say_what_it_is(page):
    for line in page.read_text().splitlines():
        if line.startswith("    curl ") and re.search(r" (-d|--data)", line):
            assert "Content-Type" in line, f"{page.name}: the node refuses it with 415; write --json: {line}"


def test_the_format_names_all_that_a_volume_has(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.write_text("a", "x" * 10_000)
        fs.sync()
        there = {path.name for path in (tmp_path / "v.vex").iterdir()}
    table = (ROOT / "docs/format.md").read_text().split("## Inode row")[0]
    missing = {name for name in there if f"`{name}`" not in table and f"`{name}/" not in table}
    assert there >= {"meta.db", "segments"} and not missing
