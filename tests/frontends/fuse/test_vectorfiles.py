"""Arrays written to a real mount, by numpy and by the shell, are vectors when the program is done with them."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from vexfs.cli.main import run
from vexfs.volume import Volume

DIM = 16
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
SAVES = """
import sys, numpy as np
x = np.load(sys.argv[1])
for k in range(20):
    np.save(f"{k}.npy", x[k])
    print(k, flush=True)
    input()
np.save("table.npy", x[20:].astype(np.float64))
print("table", flush=True)
assert np.allclose(np.load("table.npy"), x[20:])
"""


@pytest.fixture
def x():
    return np.random.default_rng(7).standard_normal((50, DIM)).astype(np.float32)


@pytest.fixture
def box(inside):
    volume, mnt, _ = inside
    (mnt / "box").mkdir()
    return volume.catalog.create("box", dim=DIM), mnt / "box"


def nearest(index, q):
    hits = index.query(q, 1)
    return (hits[0].path, hits[0].number) if hits and hits[0].score > 0.9999 else None


def shell(line, cwd):
    subprocess.run(["sh", "-ec", line], cwd=cwd, check=True)


def test_what_numpy_saves_is_found_when_save_returns(box, x, tmp_path):
    index, here = box
    np.save(tmp_path / "x.npy", x)
    # A process of its own: numpy writes without letting go of the lock that this one's handlers need.
    told = subprocess.Popen([sys.executable, "-c", SAVES, tmp_path / "x.npy"], cwd=here, text=True, **PIPES)
    for k in range(20):
        assert told.stdout.readline() == f"{k}\n"
        assert nearest(index, x[k]) == (f"/box/{k}.npy", 0)
        told.stdin.write("go on\n")
        told.stdin.flush()
    assert told.stdout.readline() == "table\n"
    assert nearest(index, x[33]) == ("/box/table.npy", 13)
    told.communicate()
    assert told.returncode == 0


def test_the_shell_copies_moves_and_removes(box, x, tmp_path):
    index, here = box
    np.save(tmp_path / "a.npy", x[0])
    (tmp_path / "b.vec").write_text(" ".join(map(str, x[1])) + "\n")
    shell(f"cp {tmp_path}/a.npy {tmp_path}/b.vec .", here)
    assert nearest(index, x[0]) == ("/box/a.npy", 0) and nearest(index, x[1]) == ("/box/b.vec", 0)
    shell("cp -a a.npy c.npy; mv a.npy ..; mv c.npy d.npy; rm b.vec", here)
    assert nearest(index, x[0]) == ("/box/d.npy", 0) and nearest(index, x[1]) is None and len(index) == 1
    shell("mv ../a.npy sub.tmp; mkdir deep; mv sub.tmp deep/e.npy; rm d.npy", here)
    assert nearest(index, x[0]) == ("/box/deep/e.npy", 0) and len(index) == 1
    shell(f"cat {tmp_path}/b.vec > deep/e.npy", here)  # no array
    assert len(index) == 0 and "no array" in index.describe()["aside"][0]["reason"]
    shell("mv deep/e.npy deep/e.vec; echo >> deep/e.vec", here)
    assert nearest(index, x[1]) == ("/box/deep/e.vec", 0) and not index.describe()["aside"]
    shell("rm -r deep", here)
    assert len(index) == 0


def test_a_tree_copied_in_and_moved_out(box, x, tmp_path):
    index, here = box
    for k in range(12):
        (tmp_path / f"tree/{k % 3}").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / f"tree/{k % 3}/{k}.npy", x[k])
    shutil.copytree(tmp_path / "tree", here.parent / "outside")
    assert len(index) == 0
    os.rename(here.parent / "outside", here / "tree")
    assert len(index) == 12 and nearest(index, x[7]) == ("/box/tree/1/7.npy", 0)
    os.rename(here / "tree/1", here.parent / "out")
    assert len(index) == 8 and nearest(index, x[7]) is None


def vexctl(*words):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = run("vexctl", [str(w) for w in words])
    return status, out.getvalue()


def test_neighbours_from_the_shell_and_after_a_crash(disk, x):
    (disk.path / "box").mkdir()
    np.save(disk.path / "box/first.npy", x[:5])
    disk.unmount()
    assert vexctl("index", "create", "/box", "--dim", DIM, "--volume", disk.volume)[0] == 0
    disk.mount()
    mapped = np.lib.format.open_memmap(disk.path / "box/near.npy", "w+", np.float32, (DIM,))
    mapped[:] = x[3] + 0.01
    mapped.flush()
    del mapped
    (disk.path / "box/far.vec").write_text(",".join(map(str, -x[3])))
    (disk.path / "box/bad.npy").write_bytes(b"")
    with open(disk.path / "box/bad.npy", "wb") as bad:
        bad.write(b"\x93NUMPY")
        bad.flush()
        os.fsync(bad.fileno())
    assert os.path.basename(os.listdir(disk.path / "box/.vexfs/similar/near.npy")[0]) == "01-1.00-first.npy"
    disk.kill()
    _, out = vexctl("search", "--like", "/box/near.npy", "--k", 9, "--json", "--volume", disk.volume)
    hits = json.loads(out)["hits"]
    assert [hit["path"] for hit in hits] == ["/box/first.npy", "/box/far.vec"] and hits[0]["number"] == 3
    _, out = vexctl("index", "status", "/box", "--volume", disk.volume)
    assert "not indexed: /box/bad.npy: no array that can be read" in out
    with Volume.load(disk.volume) as volume:
        assert nearest(volume.catalog.at("box"), x[4]) == ("/box/first.npy", 4)
