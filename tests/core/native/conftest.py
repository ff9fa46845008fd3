"""Builds the C programs of this directory against the core's own sources, plain or under a sanitizer."""

import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CORE = ROOT / "vexfs" / "_core"
SOURCES = ("local", "pool", "pool_tier", "pool_spill", "pool_stats", "pool_guard", "pool_fault", "frame", "bridge",
           "bridge_queue", "bridge_worker")  # fmt: skip
FLAGS = {
    "plain": ["-O2"],
    "thread": ["-O1", "-fsanitize=thread"],
    "address": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}
BASE = ["-std=c11", "-D_GNU_SOURCE", "-g", "-pthread", "-Wall", "-Wextra", f"-I{CORE / 'include'}", f"-I{CORE / 'src'}"]


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CC", "cc"))


def newer(made: Path, *sources: Path) -> bool:
    return made.exists() and made.stat().st_mtime > max(s.stat().st_mtime for s in sources)


@pytest.fixture(scope="session")
def placed():
    """What programs are started with: addresses drawn at random now and then lie where a sanitizer wants its own."""
    command = ["setarch", platform.machine(), "--addr-no-randomize"]
    if shutil.which("setarch") and not subprocess.run([*command, "true"], capture_output=True).returncode:
        return command
    return []


@pytest.fixture(scope="session")
def offered(tmp_path_factory, placed):
    """Whether the compiler links programs under a sanitizer that run, each time."""
    known: dict[str, bool] = {}

    def ask(sanitizer: str) -> bool:
        if sanitizer not in known:
            here = tmp_path_factory.mktemp("probe")
            (here / "probe.c").write_text("int main(void) { return 0; }\n")
            command = [*compiler(), *FLAGS[sanitizer], "probe.c", "-o", "probe"]
            clean = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
            built = subprocess.run(command, cwd=here, capture_output=True, env=clean)
            known[sanitizer] = not built.returncode and not any(
                subprocess.run([*placed, here / "probe"], capture_output=True, env=clean).returncode for _ in range(20)
            )
        return known[sanitizer]

    return ask


@pytest.fixture(scope="session")
def build(offered):
    """``build(name, sanitizer)``: the program `name`.c, made when it is not there or older than what it is made of."""

    def make(name: str, sanitizer: str = "plain") -> Path:
        if not offered(sanitizer):
            pytest.skip(f"the compiler has no {sanitizer} sanitizer")
        out = ROOT / "build" / "native" / sanitizer
        out.mkdir(parents=True, exist_ok=True)
        headers = [*(CORE / "include/vexfs").glob("*.h"), *(CORE / "src").glob("*.h")]
        objects = []
        for source in [*(CORE / "src" / f"{s}.c" for s in SOURCES), HERE / f"{name}.c"]:
            made = out / f"{source.stem}.o"
            if not newer(made, source, *headers):
                subprocess.run([*compiler(), *BASE, *FLAGS[sanitizer], "-c", source, "-o", made], check=True)
            objects.append(made)
        program = out / name
        if not newer(program, *objects):
            subprocess.run([*compiler(), *FLAGS[sanitizer], *objects, "-o", program, "-lpthread", "-lm"], check=True)
        return program

    return make


@pytest.fixture(scope="session")
def run(placed):
    """Runs a program that says what is wrong on stderr; a sanitizer's report fails it."""

    def go(program: Path, *arguments: str) -> str:
        env = {
            **{k: v for k, v in os.environ.items() if k != "LD_PRELOAD"},
            "TSAN_OPTIONS": "halt_on_error=1 exitcode=66 second_deadlock_stack=1",
            "ASAN_OPTIONS": "detect_leaks=1",
        }
        command = [*placed, program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=280)
        assert done.returncode == 0, f"{program.name} {arguments}: status {done.returncode}\n{done.stderr[-6000:]}"
        return done.stdout

    return go
