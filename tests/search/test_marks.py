"""Opening a volume looks at what changed since ingest last ran, and at nothing else."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

import vexfs
from vexfs._core.meta import Meta
from vexfs.search.backlog import Backlog
from vexfs.search.ingest import Ingest


@pytest.fixture
def walks(monkeypatch):
    """The directories that ingest walks."""
    seen = []
    walk = Ingest._walk
    monkeypatch.setattr(Ingest, "_walk", lambda self, top: (seen.append(top), walk(self, top)))
    return seen


def paths(fs, question):
    assert fs.ingest.wait(120), fs.ingest.status()
    return [hit.path for hit in fs.search(question, k=50, mode="keyword")]


def made(place, count=40):
    with vexfs.open(place) as fs:
        fs.index("docs", embedder="default")
        for n in range(count):
            fs.write_text(f"docs/{n % 4}/{n}.txt", f"coffee number{n}")
        fs.write_bytes("docs/picture.png", b"\x89PNG")
        assert fs.ingest.wait(120)


def test_nothing_is_walked_and_nothing_missed(tmp_path, walks):
    made(tmp_path / "v.vex")
    walks.clear()
    with vexfs.open(tmp_path / "v.vex") as fs:
        assert len(paths(fs, "coffee")) == 40
        assert fs.ingest.status()["files"] == 0 and fs.ingest.status()["without_text"] == 1
        fs.write_text("twice/a.txt", "coffee twice")
        fs.link("twice/a.txt", "twice/a.npy")
        fs.rename("twice", "docs/twice")
        fs.sync()
        assert len(paths(fs, "coffee")) == 40
        walks.clear()
        fs.ingest.close()
        # What others do while nobody follows is in the log.
        fs.write_text("docs/0/new.txt", "coffee newcomer")
        fs.write_text("docs/1/1.txt", "tea instead")
        fs.write_text("plain/deep/a.txt", "coffee from elsewhere")
        fs.rename("plain", "docs/plain")
        fs.write_text("other.txt", "coffee linked")
        fs.link("other.txt", "docs/linked.txt")
        fs.rename("docs/2/2.txt", "docs/3/renamed.txt")
        fs.remove("docs/3/3.txt")
        fs.remove("docs/twice/a.npy")
    with vexfs.open(tmp_path / "v.vex") as fs:
        found = set(paths(fs, "coffee"))
        assert {"/docs/0/new.txt", "/docs/plain/deep/a.txt", "/docs/3/renamed.txt", "/docs/twice/a.txt"} <= found
        assert not found & {"/docs/1/1.txt", "/docs/3/3.txt", "/docs/2/2.txt"}
        assert paths(fs, "tea") == ["/docs/1/1.txt"]
        assert len(walks) == 1 and fs.filesystem.path_of(walks[0]) == b"/docs/plain"


def test_a_mark_that_the_log_no_longer_reaches_is_not_followed(tmp_path, walks):
    made(tmp_path / "v.vex")
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.ingest.close()
        fs.write_text("docs/new.txt", "coffee newcomer")
        for n in range(1100):
            fs.write_text("elsewhere.txt", f"{n}")
            fs.filesystem.sync()
    walks.clear()
    with vexfs.open(tmp_path / "v.vex") as fs:
        assert "/docs/new.txt" in paths(fs, "coffee")
        assert walks


def test_a_mark_behind_which_the_log_was_shortened_for_its_size_is_not_followed(tmp_path, walks):
    made(tmp_path / "v.vex")
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.ingest.close()
        fs.write_text("docs/new.txt", "coffee newcomer")
        fs.filesystem.sync()
        for n in range(10):
            fs.write_text("elsewhere.txt", f"{n}")
            fs.filesystem.sync()
    with contextlib.closing(Meta(tmp_path / "v.vex" / "meta.db")) as meta:
        before = len(meta.scan_oplog())
        meta.begin()
        meta.trim_oplog(0, 200)
        meta.commit()
        meta.refresh()
        assert 0 < len(meta.scan_oplog()) < before - 5
    walks.clear()
    with vexfs.open(tmp_path / "v.vex") as fs:
        assert "/docs/new.txt" in paths(fs, "coffee")
        assert walks


@pytest.mark.parametrize("damage", [b"", b"x", b"-5", b"99999999"])
def test_a_damaged_mark_costs_a_look_at_every_file(tmp_path, walks, damage):
    made(tmp_path / "v.vex")
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.ingest.close()
        fs.write_text("docs/new.txt", "coffee newcomer")
        fs.filesystem.write_file(f"{fs.indexes()[0].home}/ingested", damage)
    walks.clear()
    with vexfs.open(tmp_path / "v.vex") as fs:
        assert "/docs/new.txt" in paths(fs, "coffee")
        assert walks


KILLED = """
import os, sys, vexfs
from vexfs.search import marks
marks._EVERY_S = 0.0
fs = vexfs.open(sys.argv[1])
fs.index("docs", embedder="default")
for n in range(300):
    fs.write_text(f"docs/{n}.txt", f"coffee number{n}")
assert fs.ingest.wait(120)
for n in range(300, 900):
    fs.write_text(f"docs/{n}.txt", f"coffee number{n}")
    if n % 7 == 0:
        fs.remove(f"docs/{n - 290}.txt")
    if n % 100 == 0:
        fs.filesystem.sync()
fs.filesystem.sync()
print("ready", flush=True)
fs.ingest.wait(120)
"""


def test_killed_while_it_worked(tmp_path, walks):
    place = tmp_path / "v.vex"
    program = subprocess.Popen([sys.executable, "-c", KILLED, place], stdout=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "ready\n"
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    program.stdout.close()
    with vexfs.open(place) as fs:
        there = {"/" + str(path) for path in fs.glob("docs/*.txt")}
        assert fs.ingest.wait(120)
        found = {hit.path for hit in fs.search("coffee", k=2000, mode="keyword")}
        assert found == there and len(there) > 700
        assert not walks



def test_names_that_came_and_are_indexed_do_not_wait(tmp_path, monkeypatch):
    """Moves behind the mark are looked at when the volume is opened: what is up to date is not said to wait."""
    with vexfs.open(tmp_path / "v") as fs:
        fs.index("docs", embedder="default")
        fs.write_text("docs/a.txt", "how to descale a kettle")
        assert fs.ingest.wait(120)
    child = f"""
import os, vexfs
fs = vexfs.open({str(tmp_path / "v")!r})
fs.ingest.wait(120)
fs.mkdir("docs/d")
fs.rename("docs/a.txt", "docs/d/a.txt")
fs.sync()
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", child], check=True)
    monkeypatch.setattr(Ingest, "_run", lambda self: None)  # nothing is worked off
    with vexfs.open(tmp_path / "v") as fs:
        assert fs.ingest.status()["backlog"] == 0
        assert [hit.path for hit in fs.search("kettle", k=1)] == ["/docs/d/a.txt"]


def test_an_index_that_came_is_finished_by_the_next_opening(tmp_path):
    """Files that were there before it are in no log: closing before they are indexed leaves no mark behind."""
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("docs", embedder="default")
        fs.write_text("docs/one.txt", "coffee one")
        for n in range(1500):
            fs.write_text(f"other/{n}.txt", f"tea number{n}")
        fs.sync()
        assert fs.ingest.wait(120)
        fs.index("other", embedder="default")
    with vexfs.open(tmp_path / "v.vex") as fs:
        assert fs.ingest.wait(120) and len(fs.index("other")) == 1500


def test_what_is_tried_again_is_tried_by_the_next_opening(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        index = fs.index("docs", embedder="default")
        for n in range(300):
            fs.write_bytes(f"docs/{n}.png", b"\x89PNG")
        fs.sync()
        assert fs.ingest.wait(120) and fs.ingest.status()["without_text"] == 300
    with vexfs.open(tmp_path / "v.vex") as fs:
        index = fs.index("docs")
        assert fs.ingest.wait(120) and fs.ingest.retry(index) == 300
    with vexfs.open(tmp_path / "v.vex") as fs:
        assert fs.ingest.wait(120) and fs.ingest.status()["without_text"] == 300


def test_killed_after_a_name_went(tmp_path):
    """Another name of the file has to be looked for; the volume does not know of it when it is opened."""
    program = (
        "import os, sys, vexfs\n"
        "fs = vexfs.open(sys.argv[1]); fs.index('docs', embedder='default')\n"
        "fs.write_text('plain/a.txt', 'volcano'); fs.link('plain/a.txt', 'plain/a.npy')\n"
        "fs.rename('plain', 'docs/plain'); fs.sync(); assert fs.ingest.wait(120)\n"
        "fs.ingest.close(); fs.remove('docs/plain/a.npy'); fs.sync(); os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "v.vex")], check=True, timeout=240)
    with vexfs.open(tmp_path / "v.vex") as fs:
        assert paths(fs, "volcano") == ["/docs/plain/a.txt"]


def test_what_the_volume_writes_for_itself_is_not_looked_at(fs, monkeypatch):
    filesystem = fs.index("/", embedder="default").filesystem
    assert fs.ingest.wait(120)
    seen, changed = set(), Backlog.changed
    monkeypatch.setattr(Backlog, "changed", lambda self, inos: (seen.update(inos), changed(self, inos)))
    own = filesystem.resolve("/.vexfs/indexes.json")
    filesystem.write(own, filesystem.read(own, 1 << 20, 0), 0)
    fs.write_text("a.txt", "coffee")
    assert paths(fs, "coffee") == ["/a.txt"]
    assert seen == {filesystem.resolve("/a.txt")}
