"""The house rules that a linter does not know: sizes, names, no traces of a machine, docstrings on what is public."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE = 500
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
CODE = {".py", ".pyx", ".pxd", ".pyi", ".c", ".h", ".sh"}
MACHINE_PATHS = re.compile(r"/(?:home|Users|work|root)/[a-z0-9._-]+/", re.IGNORECASE)


def tracked() -> list[Path]:
    """The project's own files: what git tracks or would; everything beside build output when there is no git."""
    try:
        out = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True,
        ).stdout.decode()  # fmt: skip
        names = [name for name in out.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        skip = {"build", "dist", ".git", ".venv"}
        names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if not skip & set(p.relative_to(ROOT).parts)]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


FILES = tracked()
SOURCES = [path for path in FILES if path.suffix in CODE]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_walk_finds_the_project():
    names = {named(path) for path in SOURCES}
    assert {"setup.py", "vexfs/errors.py", "vexfs/_core/include/vexfs/meta.h"} <= names


def test_files_are_short():
    long = {named(p): n for p in SOURCES if (n := len(p.read_text().splitlines())) > LONGEST_FILE}
    assert not long, f"longer than {LONGEST_FILE} lines; split them: {long}"


def test_modules_are_nouns():
    bad = [named(p) for p in SOURCES if p.stem.lower() in FORBIDDEN_NAMES]
    assert not bad, f"names that say nothing: {bad}"


def test_no_include_files_of_cython():
    assert not [named(p) for p in FILES if p.suffix == ".pxi"]


def test_every_extension_module_that_python_imports_is_typed():
    python = "\n".join(p.read_text() for p in SOURCES if p.suffix == ".py")
    for source in [p for p in SOURCES if p.suffix == ".pyx" and p.is_relative_to(ROOT / "vexfs" / "_core")]:
        if re.search(rf"(?:from|import) vexfs\._core\.{source.stem}\b|vexfs\._core import .*\b{source.stem}\b", python):
            assert source.with_suffix(".pyi").exists(), f"{named(source)} has no stub beside it"


def test_no_path_of_a_machine():
    hits = [
        f"{named(path)}:{number}"
        for path in FILES
        if path.suffix in CODE | {".toml", ".md", ".cfg", ".json", ".yml", ".yaml", ".mk", ""}
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if MACHINE_PATHS.search(line)
    ]
    assert not hits, f"absolute paths of somebody's machine: {hits}"


def public_definitions(path: Path) -> list[tuple[str, ast.AST]]:
    """The module, its public classes and functions, and the public methods of these."""
    source = path.read_text()
    tree = ast.parse(source)
    methods_elsewhere = "# ruff: noqa: D102" in source  # documented by the interface that the file names
    found: list[tuple[str, ast.AST]] = [(named(path), tree)]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            found.append((f"{named(path)}:{node.lineno} {node.name}", node))
            if isinstance(node, ast.ClassDef) and not methods_elsewhere:
                found += [
                    (f"{named(path)}:{child.lineno} {node.name}.{child.name}", child)
                    for child in node.body
                    if isinstance(child, kinds) and not child.name.startswith("_") and not overrides(child)
                ]
    return found


def overrides(node: ast.AST) -> bool:
    """A property's setter and a declared override are documented where they were first defined."""
    names = {ast.unparse(d).rsplit(".", 1)[-1] for d in getattr(node, "decorator_list", [])}
    return bool(names & {"setter", "deleter", "override", "overload"})


def speaks(name: str, node: ast.AST) -> bool:
    if ast.get_docstring(node):
        return True
    if isinstance(node, ast.Module):
        return not node.body
    # An error class whose name says it all has an ellipsis for a body.
    return isinstance(node, ast.ClassDef) and len(node.body) == 1 and ast.unparse(node.body[0]) == "..."


PYTHON = [p for p in SOURCES if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in ("vexfs", "frontends")]


@pytest.mark.parametrize("path", PYTHON, ids=named)
def test_public_things_have_docstrings(path):
    silent = [name for name, node in public_definitions(path) if not speaks(name, node)]
    assert not silent, "no docstring:\n" + "\n".join(silent)
