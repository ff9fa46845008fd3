"""Power cuts: a recorded run is replayed to many points, and of what was not synced any part may be missing.

A write that no sync covers is kept, dropped, or torn at sectors of 512 bytes, each by itself, so later ones may
survive earlier ones.  Names that no sync of their directory covers are kept up to some point.  What `Meta.sync` had
acknowledged must be there, and the state must be that of one commit, whole.
"""

import os
import random
import struct

import pytest

from tests.core.metastore import KEY, inode_row
from vexfs._core import io
from vexfs._core.meta import Meta
from vexfs.errors import NotFound

HEADER = struct.Struct("<B3xIQQ")
SECTOR = 512


class File:
    """Bytes that are safe, and the changes that are not yet."""

    def __init__(self):
        self.safe, self.pending = bytearray(), []

    def sync(self):
        for change in self.pending:
            apply(self.safe, *change)
        self.pending = []

    def after_cut(self, rng):
        content = bytearray(self.safe)
        for kind, off, data in self.pending:
            fate = rng.choice(("keep", "keep", "drop", "tear"))
            if fate == "keep" or (fate == "tear" and kind == "truncate"):
                apply(content, kind, off, data)
            elif fate == "tear":
                at = 0
                while at < len(data):
                    end = min(len(data), (off + at) // SECTOR * SECTOR + SECTOR - off)
                    if rng.random() < 0.5:
                        apply(content, kind, off + at, data[at:end])
                    at = end
        return content


def apply(content, kind, off, data):
    if kind == "truncate":
        del content[off:]
        content.extend(bytes(off - len(content)))
    else:
        content.extend(bytes(max(0, off + len(data) - len(content))))
        content[off : off + len(data)] = data


class Disk:
    """What a recording did so far."""

    def __init__(self):
        self.open, self.safe_names, self.names, self.pending_names, self.marks = {}, {}, {}, [], []

    def rename(self, names, kind, path):
        if kind == "create":
            names[path[0]] = path[1]
        elif kind == "unlink":
            names.pop(path[0], None)
        else:
            names[path[1]] = names.pop(path[0])

    def step(self, kind, fd, off, data):
        path = os.fsdecode(data)
        if kind == "create":
            self.open[fd] = File()
            self.change_names("create", (path, self.open[fd]))
        elif kind == "open":
            self.open[fd] = self.names[path]
        elif kind in ("write", "truncate"):
            self.open[fd].pending.append((kind, off, data))
        elif kind == "sync":
            self.open[fd].sync()
        elif kind in ("unlink", "rename"):
            self.change_names(kind, path.split("\0"))
        elif kind == "syncdir":
            self.safe_names, self.pending_names = dict(self.names), []
        elif kind == "mark":
            self.marks.append(path)

    def change_names(self, kind, path):
        self.pending_names.append((kind, path))
        self.rename(self.names, kind, path)

    def cut(self, rng, directory):
        """Write what a power cut leaves into an empty directory."""
        names = dict(self.safe_names)
        for kind, path in self.pending_names[: rng.randint(0, len(self.pending_names))]:
            self.rename(names, kind, path)
        for name, file in names.items():
            (directory / name).write_bytes(file.after_cut(rng))


def replay(trace):
    raw, at = trace.read_bytes(), 0
    while at < len(raw):
        kind, fd, off, n = HEADER.unpack_from(raw, at)
        at += HEADER.size
        n = 0 if io.KINDS[kind] in ("sync", "truncate", "close") else n
        yield io.KINDS[kind], fd, off, raw[at : at + n]
        at += n


def work(meta, rng, states):
    """One commit of some random changes; `states[i]` is what commit i leaves."""
    number, state = len(states), dict(states[-1])
    meta.begin()
    meta.put_int("commit", number)
    for _ in range(rng.choice((1, 3, 40, 400))):
        ino = rng.randint(1, 600)
        if rng.random() < 0.2:
            meta.del_inode(ino)
            state.pop(ino, None)
        else:
            meta.put_inode(ino, inode_row(ino, number))
            state[ino] = number
    meta.commit()
    states.append(state)


def record(root, trace, key, seed, commits):
    """A run with commits, syncs, checkpoints and reopenings.  Marks: ``b`` begun, ``s`` acknowledged by sync."""
    rng, states = random.Random(seed), [{}]
    io.record_start(trace, root)
    try:
        meta = Meta(root / "meta.db", key=key, create=True)
        meta.sync()
        io.record_mark(b"s0")
        for _ in range(commits):
            io.record_mark(b"b%d" % len(states))
            work(meta, rng, states)
            act = rng.random()
            if act < 0.4:
                meta.sync()
            elif act < 0.55:
                meta.checkpoint(truncate=act < 0.45)
            elif act < 0.6:
                meta.close()
                meta = Meta(root / "meta.db", key=key)
            if act < 0.4 or (0.55 <= act < 0.6):
                io.record_mark(b"s%d" % (len(states) - 1))
        meta.close()
        io.record_mark(b"s%d" % (len(states) - 1))
    finally:
        io.record_stop()
    return states


def commit_of(meta):
    try:
        return meta.get_int("commit")
    except NotFound:
        return 0


def check(directory, key, states, marks):
    """Open what a cut left, compare, work on, and compare again; gives the commit that was found."""
    begun = max((int(m[1:]) for m in marks if m[0] == "b"), default=0)
    synced = max((int(m[1:]) for m in marks if m[0] == "s"), default=-1)
    path = directory / "meta.db"
    if synced < 0 and not path.exists():
        return -1
    with Meta(path, key=key) as meta:
        commit = commit_of(meta)
        assert synced <= commit <= begun, f"acknowledged {synced}, begun {begun}, found {commit}"
        wanted = {ino: inode_row(ino, number) for ino, number in states[commit].items()}
        assert dict(meta.scan_inodes(-1, 10_000)) == wanted
        meta.begin()
        meta.put_orphan(1)
        meta.commit()
        meta.sync()
    with Meta(path, key=key) as meta:
        assert commit_of(meta) == commit
        assert dict(meta.scan_inodes(-1, 10_000)) == wanted
        assert meta.scan_orphans() == [1]
        assert meta.verify()[1] == [], "pages that the cut tore are whole again"
    return commit


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
@pytest.mark.parametrize(("seed", "commits", "cuts"), [
    (1, 60, 150), *[pytest.param(seed, 150, 1000, marks=pytest.mark.slow) for seed in range(2, 6)]])  # fmt: skip
def test_what_was_synced_survives_a_power_cut(tmp_path, key, seed, commits, cuts):
    root, trace = tmp_path / "volume", tmp_path / "trace"
    root.mkdir()
    states = record(root, trace, key, seed, commits)
    steps = list(replay(trace))
    rng = random.Random(seed)
    points = set(rng.sample(range(len(steps)), min(cuts, len(steps))))
    disk, found = Disk(), []
    for number, step in enumerate(steps):
        disk.step(*step)
        if number not in points:
            continue
        directory = tmp_path / f"cut-{number}"
        directory.mkdir()
        disk.cut(rng, directory)
        found.append(check(directory, key, states, disk.marks))
        for file in directory.iterdir():
            file.unlink()
    assert len(found) >= min(cuts, 100)
    assert len(set(found)) > commits // 3, "the cuts were spread over the run"


def test_the_simulator_catches_a_missing_sync(tmp_path):
    """Without the syncs of the log the same cuts must lose acknowledged commits, or the test above proves nothing."""
    root, trace = tmp_path / "volume", tmp_path / "trace"
    root.mkdir()
    states = record(root, trace, None, 1, 40)
    rng, disk, lost = random.Random(1), Disk(), 0
    logs = set()
    for number, (kind, fd, off, data) in enumerate(replay(trace)):
        if kind in ("create", "open"):
            (logs.add if data.endswith(b"-wal") else logs.discard)(fd)
        if not (kind == "sync" and fd in logs):
            disk.step(kind, fd, off, data)
        if number % 5:
            continue
        directory = tmp_path / f"cut-{number}"
        directory.mkdir()
        disk.cut(rng, directory)
        try:
            check(directory, None, states, disk.marks)
        except (AssertionError, OSError):
            lost += 1
    assert lost > 5
