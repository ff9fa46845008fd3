"""The sdist and the wheel: built in an isolated environment, complete, and installable where nothing else is."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def run(*command, **options):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert result.returncode == 0, f"{command}:\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The tracked files alone, as a fresh clone has them."""
    target = tmp_path_factory.mktemp("source")
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    return target


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    """The sdist, and the wheel built from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, source)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def test_the_sdist_has_what_a_build_needs(built):
    with tarfile.open(built[0]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    needed = {"setup.py", "pyproject.toml", "README.md", "LICENSE"}
    for pattern in ("vexfs/_core/**/*.[ch]", "vexfs/_core/*.p[yx]*", "vexfs/_core/*.pxd", "frontends/**/*.p*"):
        needed |= {str(p.relative_to(ROOT)) for p in ROOT.glob(pattern) if "__pycache__" not in p.parts}
    generated = {str(p.with_suffix(".c").relative_to(ROOT)) for p in ROOT.glob("vexfs/_core/*.pyx")}
    assert needed - generated <= names


def test_the_wheel_has_what_users_need(built):
    with zipfile.ZipFile(built[1]) as archive:
        names = set(archive.namelist())
    modules = [p.relative_to(ROOT) for p in ROOT.glob("vexfs/_core/*.pyx")]
    modules += [Path("vexfs") / p.relative_to(ROOT) for p in ROOT.glob("frontends/**/*.pyx")]
    for module in modules:
        stem = str(module.with_suffix(""))
        assert any(name.startswith(f"{stem}.") and name.endswith(".so") for name in names), f"{stem} is not compiled"
    for pattern in ("*.pyi", "*.pxd", "include/vexfs/*.h"):
        assert {str(p.relative_to(ROOT)) for p in ROOT.glob(f"vexfs/_core/{pattern}")} <= names
    packages = {p.parent.relative_to(ROOT) for p in ROOT.glob("vexfs/**/*.py")}
    packages |= {Path("vexfs") / p.parent.relative_to(ROOT) for p in ROOT.glob("frontends/**/*.py")}
    assert {str(p / "__init__.py") for p in packages} <= names
    assert "vexfs/py.typed" in names
    assert any(name.endswith("LICENSE") for name in names)
    assert not [name for name in names if name.endswith(".c")]


@pytest.fixture(scope="module")
def empty_environment(tmp_path_factory):
    home = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", home)
    return home / "bin"


WORKS = """
import sys, vexfs
with vexfs.open(sys.argv[1]) as fs:
    fs.write_text("a.txt", "kept")
with vexfs.open(sys.argv[1]) as fs:
    print(fs.read_text("a.txt"))
"""


def check_installed(bin_dir, tmp_path):
    assert run(bin_dir / "vexctl", "--version").startswith("vexctl ")
    assert run(bin_dir / "python", "-c", WORKS, tmp_path / "v", cwd=tmp_path) == "kept\n"


def test_the_wheel_works_alone(built, empty_environment, tmp_path):
    run(empty_environment / "python", "-m", "pip", "install", "-q", built[1])
    check_installed(empty_environment, tmp_path)


def test_an_editable_install_works(source, empty_environment, tmp_path):
    run(empty_environment / "python", "-m", "pip", "install", "-q", "--force-reinstall", "--no-deps", "-e", source)
    check_installed(empty_environment, tmp_path)
    where = run(empty_environment / "python", "-c", "import vexfs; print(vexfs.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(source)


def test_extensions_declare_themselves_free_threading_compatible(source, empty_environment):
    """Each says so to a free-threaded interpreter, which would otherwise switch its lock back on for all."""
    generated = list((source / "build/cython").rglob("*.c"))
    assert generated
    told = "#define __Pyx_FREETHREADING_COMPATIBLE Py_MOD_GIL_NOT_USED"
    for path in generated:
        assert told in path.read_text(errors="replace"), path.name
