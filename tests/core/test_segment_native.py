"""The segment store in C under the sanitizers and the fuzzer; slow, for it compiles the core each time."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "vexfs" / "_core"
PARTS = ["seg*", "framecache", "workers", "io*", "aead", "crc32c", "lz4codec", "pool*", "local*"]
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", f"-I{CORE / 'include'}", f"-I{CORE / 'src'}"]
LIBS = ["-lcrypto", "-llz4", "-lpthread", "-lm"]

pytestmark = pytest.mark.slow


def built(compiler: str, sanitizers: str, main: Path, out: Path) -> Path:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    sources = [str(path) for part in PARTS for path in (CORE / "src").glob(f"{part}.c")]
    command = [compiler, *FLAGS, f"-fsanitize={sanitizers}", "-fno-sanitize-recover=undefined", str(main), *sources]
    done = subprocess.run([*command, "-o", str(out), *LIBS], capture_output=True, text=True, check=False)
    if done.returncode and "cannot find" in done.stderr:
        pytest.skip(f"{compiler} has no library for -fsanitize={sanitizers}")
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_stress(tmp_path, sanitizers):
    program = built("gcc", sanitizers, Path(__file__).parent / "native" / "segment_stress.c", tmp_path / "stress")
    for mode in range(8):
        directory = tmp_path / f"mode{mode}"
        directory.mkdir()
        done = subprocess.run(
            [program, directory, "40", str(mode)], capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, done.stderr[-5000:]


def test_fuzz(tmp_path):
    """Twenty seconds of libFuzzer; run the program by hand for longer."""
    program = built("clang", "fuzzer,address,undefined", ROOT / "tests" / "fuzz" / "fuzz_segment.c", tmp_path / "fuzz")
    done = subprocess.run(
        [program, "-max_total_time=20", "-max_len=20000", "-print_final_stats=1"],
        cwd=tmp_path,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    runs = [line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    assert int(runs[0]) > 500
