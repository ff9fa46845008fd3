"""The instruction sets stay apart in the library that is shipped: its kernels are disassembled and looked at.

A prototype first seen inside a target region, an inline function that was not inlined, or a flag gone astray puts an
instruction where a lesser processor will meet it.
"""

import platform
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from vexfs._core import simd, vindex

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or not shutil.which("objdump") or not shutil.which("nm"),
    reason="needs x86-64 and binutils (Debian: apt-get install binutils)",
)

PACKED = r"\b(add|mul|sub|div|min|max)p[sd]\b|\bpmadd|\bpmul|\bpadd[bwdq]\b|\bpsadbw\b"
YMM, ZMM, MASKS, HIGH = r"%ymm", r"%zmm", r"%k[0-7]\b", r"%[xy]mm(1[6-9]|2\d|3[01])\b"
VEX = r"^v(?!er[rw]\b)"  # verr and verw are no vector instructions
EXTENSIONS = r"\bvpdp(busd|wssd)|\bvdpbf16ps|\bvpopcnt[dq]|\bvpermb\b|\bvcvtneps2bf16"

#: Of each source file: what must never occur in it, and what must (or nothing would be tested).
RULES = {
    "simd_scalar.c": ((YMM, ZMM, MASKS, VEX, PACKED), (r"\bmulss\b", r"\baddss\b", r"\bimul")),
    "simd_scalar_codes.c": ((YMM, ZMM, MASKS, VEX, PACKED), (r"\bmulss\b",)),
    "simd_exact.c": ((YMM, ZMM, MASKS, VEX), (r"\bmulsd\b",)),
    "simd_table.c": ((YMM, ZMM, MASKS, VEX), (r"\bcall",)),
    "cpu.c": ((YMM, ZMM, MASKS, VEX), (r"\bcpuid\b", r"\bxgetbv\b")),
    "simd_avx2.c": ((ZMM, MASKS, HIGH, EXTENSIONS), (YMM, r"\bvfmadd\d+ps\b", r"\bvcvtph2ps\b", r"\bvpmaddwd\b")),
    "simd_avx2_codes.c": ((ZMM, MASKS, HIGH, EXTENSIONS), (YMM, r"\bvcvtps2ph\b")),
    "simd_avx512.c": ((EXTENSIONS,), (ZMM, MASKS, r"\bvfmadd\d+ps\b")),
    "simd_avx512_cross.c": ((EXTENSIONS,), (ZMM, r"\bvbroadcastss\b|\{1to16\}")),
    "simd_avx512_codes.c": ((EXTENSIONS,), (ZMM, MASKS)),
    "simd_avx512x.c": ((), (r"\bvpdpbusd\b", r"\bvdpbf16ps\b", r"\bvpopcntq\b", ZMM)),
    "vindex_scalar.c": ((YMM, ZMM, MASKS, VEX), (r"\bmulss\b",)),
    "vindex_avx2.c": ((ZMM, MASKS, HIGH, EXTENSIONS), (YMM, r"\bvpshufb\b", r"\bvpmaddubsw\b")),
    "vindex_avx512.c": ((EXTENSIONS,), (ZMM, MASKS, r"\bvpshufb\b.*%zmm", r"\bvpcompressd\b")),
    "vindex_avx512x.c": ((), (r"\bvpdpbusd\b", ZMM)),
}


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def sources_of(library):
    """Which source file the function at each address came from, by the line table; names repeat between files."""
    found = {}
    for line in run("nm", "-l", "-f", "posix", str(library)).splitlines():
        match = re.match(r"\S+ [tT] ([0-9a-f]+) .*/(\w+\.c):\d+$", line)
        if match:
            found[int(match[1], 16)] = match[2]
    return found


def instructions_of(library, sources):
    """The instructions of each source file, and the function each stands in."""
    found, name, source = defaultdict(list), "", None
    text = run("objdump", "-d", "--no-show-raw-insn", "-M", "att", str(library))
    for line in text.splitlines():
        if head := re.match(r"([0-9a-f]+) <(\S+)>:", line):
            name, source = head[2], sources.get(int(head[1], 16))
        elif "\t" in line and source:
            found[source].append((name, line.split("\t", 1)[1].strip()))
    return found


def strays(instructions, banned):
    pattern = re.compile("|".join(banned)) if banned else None
    return [f"{name}: {text}" for name, text in instructions if pattern and pattern.search(text)]


@pytest.fixture(scope="module")
def shipped():
    """Of the two libraries with kernels in them: between them they carry every file that the rules name."""
    found = {}
    for module in (simd, vindex):
        library = Path(module.__file__)
        sources = sources_of(library)
        if not sources:
            pytest.skip("the library was stripped of its line table")
        found.update(instructions_of(library, sources))
    return found


@pytest.mark.parametrize("source", RULES)
def test_instruction_sets_stay_apart(shipped, source):
    banned, wanted = RULES[source]
    assert shipped[source], f"no code of {source} in the library"
    assert not strays(shipped[source], banned)[:5]
    for pattern in wanted:
        assert any(re.search(pattern, text) for _, text in shipped[source]), f"{source}: no {pattern}"


def test_the_rest_is_baseline(shipped):
    """No file of the core but the SIMD levels holds a register wider than the baseline's."""
    levels = {name for name in RULES if "avx" in name}
    for source, instructions in shipped.items():
        if source not in levels:
            assert not strays(instructions, (YMM, ZMM))[:5], source


BITS = "void f(long *a) { for (int i = 0; i < 1024; i++) a[i] = __builtin_popcountl(a[i]); }"
WIDE = "void f(float *a) { for (int i = 0; i < 1024; i++) a[i] *= 3; }"
TARGET = '__attribute__((target("%s,prefer-vector-width=512"))) '


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("simd_scalar.c", WIDE),
        ("simd_exact.c", '__attribute__((target("avx2"))) ' + WIDE),
        ("simd_avx2.c", TARGET % "avx512f" + WIDE),
        ("simd_avx512.c", TARGET % "avx512f,avx512vpopcntdq" + BITS),
    ],
)
def test_a_planted_stray_is_found(tmp_path, source, code):
    """The rules see what they are for: each is given code that breaks it."""
    if not shutil.which("gcc"):
        pytest.skip("needs gcc (Debian: apt-get install gcc)")
    (tmp_path / "planted.c").write_text(code)
    built = tmp_path / "planted.o"
    run("gcc", "-O3", "-g1", "-c", str(tmp_path / "planted.c"), "-o", str(built))
    planted = instructions_of(built, sources_of(built))["planted.c"]
    assert strays(planted, RULES[source][0])
