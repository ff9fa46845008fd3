"""The kernels built apart from Python: under sanitizers here, for AArch64, and on a processor without AVX."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "vexfs" / "_core"
#: What is checked: a program, and the kernels beside those of `simd` that it takes.
PROGRAMS = {
    "simd_levels.c": (),
    "vindex_levels.c": ("vindex_scalar.c", "vindex_avx2.c", "vindex_avx512.c", "vindex_avx512x.c", "vindex_neon.c"),
}
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror"]
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-fno-strict-aliasing", *WARNINGS, "-I", str(CORE / "include"),
         "-I", str(CORE / "src")]  # fmt: skip


def needs(program, package):
    return pytest.mark.skipif(not shutil.which(program), reason=f"needs {program} (Debian: apt-get install {package})")


def build(compiler, program, skip, target, *flags):
    sources = [*sorted(CORE.glob("src/simd_*.c")), CORE / "src" / "cpu.c"]
    sources += [CORE / "src" / name for name in PROGRAMS[program]]
    sources = [str(path) for path in sources if not any(word in path.stem for word in skip)]
    own = str(Path(__file__).with_name(program))
    command = [compiler, *FLAGS, *flags, *sources, own, "-lpthread", "-lm", "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def checked(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert ", 0 failed" in done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs("gcc", "gcc")
@pytest.mark.parametrize("source", PROGRAMS)
def test_under_sanitizers(tmp_path, source):
    program = tmp_path / "levels"
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    build("gcc", source, ("neon",), program, "-O1", "-g", *sanitizers)
    assert "scalar: checked" in checked(str(program))


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
@needs("qemu-aarch64", "qemu-user")
@pytest.mark.parametrize("source", PROGRAMS)
def test_on_aarch64(tmp_path, source):
    program = tmp_path / "levels"
    build("aarch64-linux-gnu-gcc", source, ("avx",), program, "-O3", "-static")
    out = checked("qemu-aarch64", str(program))
    assert "neon: checked" in out and "scalar: checked" in out


@needs("qemu-x86_64", "qemu-user")
@pytest.mark.skipif("VEXFS_SANITIZED" in os.environ, reason="a sanitizer's memory does not fit under qemu")
def test_without_avx():
    """On a Nehalem: detection says so, a demand for AVX2 is refused, and the scalar kernels meet no foreign opcode."""
    code = """
import numpy as np
from vexfs._core.simd import DTYPES, LevelNotSupported, Simd, levels
assert levels()["avx2"] == levels()["avx512"] == "not supported", levels()
s = Simd()
assert s.level == "scalar"
x = np.random.default_rng(0).normal(size=(9, 77)).astype(np.float32)
for dtype in DTYPES:
    codes, _ = s.quantise(x, dtype)
    s.dequantise(codes, dtype, dim=77)
    for metric in ("dot", "cosine", "l2sq", "l2"):
        s.many_to_many(codes, codes, metric, dtype=dtype, dim=77)
try:
    Simd("avx2")
except LevelNotSupported as error:
    print("refused:", error)
"""
    command = ["qemu-x86_64", "-cpu", "Nehalem", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"OPENBLAS_CORETYPE": "Nehalem"})
    if "x86-64-v2" in done.stderr or "NumPy" in done.stderr:
        pytest.skip("this numpy asks for a newer processor than a Nehalem")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "refused: level: SIMD level 'avx2' is not supported here" in done.stdout
