"""An index that another one replaces: whenever the power goes, the directory has one of the two."""

import random
import threading
from pathlib import Path

import vexfs
from vexfs._core import io
from vexfs.testing.powercut import Disk, write_image
from vexfs.testing.trace import read_trace


def counted(texts):
    return [[text.count("a") + 1.0, text.count("e") + 0.5, 1.0] for text in texts]


def sync_until(fs, end):
    while not end.is_set():
        fs.fsync()


def written_and_synced(fs, name):
    """A sync there is, whatever others have synced."""
    fs.write_text(name, name)
    fs.fsync()


def dims_after_cuts(volume, scratch, change):
    """The dimensions of the indexes there are after a cut at each of the writes that a change makes."""
    disk = Disk(Path(volume))
    disk.new_process()
    trace = scratch / "trace"
    io.record_start(str(trace), str(volume))
    try:
        with vexfs.open(volume) as fs:
            changed = threading.Event()
            thread = threading.Thread(target=sync_until, args=(fs, changed))
            written_and_synced(fs, "before")
            thread.start()
            try:
                change(fs)
            finally:
                changed.set()
                thread.join()
            written_and_synced(fs, "after")
    finally:
        io.record_stop()
    records = list(read_trace(trace))
    rng, seen = random.Random(1), []
    for at, record in enumerate(records):
        if record.kind == "sync":
            target = scratch / f"after{at}"
            write_image(disk.image("kept", rng), disk.directories, target)
            with vexfs.open(target) as fs:
                seen.append([index.dim for index in fs.indexes()])
        if record.kind != "mark":
            disk.apply(record)
    return seen


def test_embedding_anew(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("docs", embedder="default")
        for n in range(12):
            fs.write_text(f"docs/{n}.txt", f"coffee number {n}")
        assert fs.ingest.wait(240)
    seen = dims_after_cuts(tmp_path / "v.vex", tmp_path, lambda fs: fs.reembed("docs", counted))
    assert [256] in seen and [3] in seen
    assert all(dims in ([256], [3]) for dims in seen), seen
