"""Imports only go down: headers, ``_core``, then store/search/observe/config, then the volume, then frontends and CLI.

The foundation (errors, version, plugin registry) may be used by every layer and uses none.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Rooms by layer, from the bottom.  A room may import rooms of its own layer and below, but for those in APART.
LAYERS = (
    {"vexfs.errors", "vexfs.version", "vexfs.registry"},
    {"vexfs._core"},
    {"vexfs.config", "vexfs.store", "vexfs.search", "vexfs.observe"},
    {"vexfs.volume", "vexfs.testing"},
    {"vexfs.cli", "vexfs.frontends", "vexfs.remote"},
)
# The package itself is the public face: it may name anything up to the volume.
FACE = "vexfs"


def layer_of(module: str) -> int | None:
    """The layer a dotted module name stands in; None for what is not ours."""
    if module == FACE:
        return 3
    parts = module.split(".")
    if parts[0] != "vexfs":
        return None
    room = ".".join(parts[:2])
    for level, rooms in enumerate(LAYERS):
        if room in rooms:
            return level
    # A module directly in the package that is not named above composes the volume (as `vexfs.path` does).
    return 3


def frontend_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[2] if parts[:2] == ["vexfs", "frontends"] and len(parts) > 2 else None


def module_of(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "frontends":
        parts.insert(0, "vexfs")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, module: str, package: bool) -> list[tuple[int, str]]:
    """Every module that Python source imports, anywhere in it, with the line; relative names made absolute."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = module.split(".")
                up = up[: len(up) - node.level + package]
                base = ".".join([*up, base] if base else up)
            if base in ("vexfs", "vexfs.frontends"):
                found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, base))
    return found


CIMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+(?:c?import)\b|c?import\s+([\w.]+))")


def cython_imports_of(source: str) -> list[tuple[int, str]]:
    """The same for Cython, which Python's parser does not read: by line."""
    found = []
    for number, line in enumerate(source.splitlines(), 1):
        if match := CIMPORT.match(line):
            found.append((number, match.group(1) or match.group(2)))
    return found


def faults(importer: str, imported: list[tuple[int, str]]) -> list[str]:
    mine = layer_of(importer)
    wrong = []
    for line, name in imported:
        theirs = layer_of(name)
        if theirs is None or mine is None or importer == FACE:
            continue
        if name.startswith("vexfs.__"):  # a dunder of the face, as in `from vexfs import __version__`
            continue
        apart = frontend_of(importer) and frontend_of(name) and frontend_of(importer) != frontend_of(name)
        if theirs > mine or apart:
            wrong.append(f"{importer}:{line} imports {name}")
    return wrong


SOURCES = sorted(
    path
    for top in ("vexfs", "frontends")
    for path in (ROOT / top).rglob("*")
    if path.suffix in (".py", ".pyx", ".pxd") and "build" not in path.parts
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    module, source = module_of(path), path.read_text()
    if path.suffix == ".py":
        imported = imports_of(source, module, path.stem == "__init__")
    else:
        imported = cython_imports_of(source)
    assert not faults(module, imported)


def test_the_core_knows_no_configuration_logging_or_metrics():
    foreign = {"logging", "prometheus_client", "attrs", "tomllib"}
    for path in SOURCES:
        if path.is_relative_to(ROOT / "vexfs" / "_core"):
            source = path.read_text()
            names = imports_of(source, "x", False) if path.suffix == ".py" else cython_imports_of(source)
            assert not foreign & {name.split(".")[0] for _, name in names}, path


def test_headers_do_not_know_python():
    for header in (ROOT / "vexfs" / "_core" / "include").rglob("*.h"):
        assert "Python.h" not in header.read_text(), f"{header.name}: the mechanisms are plain C"


@pytest.mark.parametrize(
    ("importer", "source", "fault"),
    [
        ("vexfs._core.x", "import vexfs.volume", True),
        ("vexfs._core.x", "from vexfs.store import codec", True),
        ("vexfs.store.x", "def f():\n    from vexfs.cli import output", True),
        ("vexfs.store.x", "from ..volume import Volume", True),
        ("vexfs.store.x", "from vexfs import volume", True),
        ("vexfs.frontends.fuse.x", "from vexfs.frontends import local", True),
        ("vexfs.frontends.fuse.x", "from ..local import files", True),
        ("vexfs.frontends.fuse.x", "from . import options\nfrom vexfs.volume import Volume", False),
        ("vexfs.cli.x", "import vexfs\nfrom vexfs.frontends.fuse import mount", False),
        ("vexfs.volume", "from vexfs.store import fsck\nfrom vexfs.errors import Busy", False),
        ("vexfs.errors", "from vexfs import _core", True),
    ],
)
def test_the_check_itself_catches_faults(importer, source, fault):
    assert bool(faults(importer, imports_of(source, importer, package=False))) is fault


def test_the_check_reads_cython():
    source = "cimport cython\nfrom vexfs.store cimport codec\n    import vexfs.cli\nx = 'import this'"
    found = cython_imports_of(source)
    assert [name for _, name in found] == ["cython", "vexfs.store", "vexfs.cli"]
    wrong = ["vexfs._core.fs:2 imports vexfs.store", "vexfs._core.fs:3 imports vexfs.cli"]
    assert faults("vexfs._core.fs", found) == wrong
