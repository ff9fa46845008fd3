"""The stack budget: what the tool counts, and that the core keeps to it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "stack_budget.py"

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="call graphs come from GCC")

CHAIN = """
extern void outside(void *);
static __attribute__((noinline)) int leaf(int n) { char room[1000]; outside(room); return room[n]; }
static __attribute__((noinline)) int middle(int n) { char room[500]; outside(room); return leaf(n) + room[n]; }
int vx_fs_demo(int n) { return middle(n) + 1; }
int not_an_operation(int n) { char room[9000]; outside(room); return room[n]; }
"""
POINTER = """
extern void outside(void *);
int (*hook)(int);
int target(int n) { char room[2000]; outside(room); return room[n]; }
int vx_fs_demo(int n) { return hook(n) + 1; }
"""
RECURSIVE = """
extern void outside(void *);
__attribute__((noinline)) int again(int n) { char room[400]; outside(room); return n ? again(n - 1) + room[n] : 0; }
int vx_fs_demo(int n) { return again(n) + 1; }
"""
CYTHON = """
extern void outside(void *);
#define USED static __attribute__((used))
USED int __pyx_f_5vexfs_5_core_2fs_fs_stat(int n) { char room[700]; outside(room); return room[n]; }
"""


@pytest.fixture
def budget(tmp_path):
    """Runs the tool on source text: exit status, operations by name, what it said."""

    def run(source: str, targets: str = "", *options: str) -> tuple[int, dict[str, int], str]:
        (tmp_path / "demo.c").write_text(source)
        (tmp_path / "targets.toml").write_text(targets)
        command = [
            sys.executable,
            TOOL,
            "--json",
            "--targets",
            tmp_path / "targets.toml",
            *options,
            tmp_path / "demo.c",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        rows = json.loads(done.stdout)["operations"] if done.stdout else []
        return done.returncode, {row["operation"]: row["bytes"] for row in rows}, done.stderr

    return run


def test_a_chain_is_the_sum_of_its_frames(budget):
    status, rows, _ = budget(CHAIN)
    assert status == 0
    assert list(rows) == ["fs_demo"]
    assert 1500 < rows["fs_demo"] < 1700


def test_over_the_limit_is_an_error(budget):
    status, rows, said = budget(CHAIN, "", "--limit", "1400")
    assert status == 1
    assert f"fs_demo: {rows['fs_demo']} bytes are over the limit of 1400" in said


def test_pointers_must_be_named(budget):
    status, rows, said = budget(POINTER)
    assert (status, rows) == (1, {})
    assert "vx_fs_demo calls through a pointer" in said
    status, rows, _ = budget(POINTER, '[targets]\nvx_fs_demo = ["target"]\n')
    assert status == 0
    assert rows["fs_demo"] > 2000
    status, rows, _ = budget(POINTER, '[targets]\n"vx_*_demo" = ["targ*"]\n')
    assert (status, rows["fs_demo"] > 2000) == (0, True)
    status, _, said = budget(POINTER, '[targets]\n"vx_*_demo" = ["nobody*"]\n')
    assert status == 1
    assert "nobody*, which is no function of the core" in said
    status, _, said = budget(POINTER, '[targets]\nvx_fs_demo = ["nobody"]\n')
    assert status == 1
    assert "nobody, which is no function of the core" in said


def test_indexes_have_operations_too(budget):
    source = CHAIN.replace("vx_fs_demo", "vx_vindex_search").replace("not_an_operation", "vx_vindex_of_their_own")
    assert set(budget(source)[1]) == {"vindex_search"}


def test_recursion_needs_a_bound(budget):
    status, _, said = budget(RECURSIVE)
    assert status == 1
    assert "recursion without a bound" in said
    status, rows, _ = budget(RECURSIVE, "[recursion]\nagain = 3\n")
    assert status == 0
    assert 1200 < rows["fs_demo"] < 1500


def test_cython_functions_are_operations_too(budget):
    status, rows, _ = budget(CYTHON)
    assert status == 0
    assert 700 < rows["fs_stat (Cython)"] < 800


@pytest.mark.slow
def test_the_core_keeps_to_its_budget():
    done = subprocess.run([sys.executable, TOOL, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {row["operation"]: row["bytes"] for row in json.loads(done.stdout)["operations"]}
    assert {"fs_lookup", "fs_read", "fs_write", "fs_rename", "fs_readdir", "fs_fsync"} <= set(rows)
    assert max(rows.values()) <= 3072
