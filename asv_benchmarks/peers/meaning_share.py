"""What ingest leaves of a mount's speed to those who use it meanwhile, and how long opening takes.

A process of its own holds the volume and its mount; this one is the foreground: it makes, reads and removes small files
on the mount, turn by turn with ingest at work on another directory and without.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import vexfs
from asv_benchmarks.peers.environment import ROOT
from asv_benchmarks.peers.meaning_data import Judged
from asv_benchmarks.peers.table import Report, Row

HOLDER = """
import sys, vexfs
with vexfs.open(sys.argv[1]) as fs, fs.mount(sys.argv[2]):
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "on\\n":
            fs.index("text", embedder="default")
        else:
            print(fs.ingest.status()["passages"], flush=True)
            fs.drop_index("text")
            fs.ingest.wait(60)
        print("done", flush=True)
"""


def operations(place: Path, seconds: float) -> float:
    """Small files made, read and removed, a second."""
    data, done, began = bytes(4096), 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for k in range(20):
            (place / f"{k}").write_bytes(data)
        for k in range(20):
            (place / f"{k}").read_bytes()
            (place / f"{k}").stat()
        for k in range(20):
            (place / f"{k}").unlink()
        done += 20
    return done / (time.perf_counter() - began)


def share_rows(report: Report, each: Judged, quick: bool) -> None:
    """Rows: the foreground's speed with ingest at work beside without it; opening a volume whose text is indexed."""
    seconds, rounds = (2.0, 3) if quick else (4.0, 5)
    with tempfile.TemporaryDirectory() as home:
        volume, place = Path(home) / "v.vex", Path(home) / "mnt"
        place.mkdir()
        with vexfs.open(volume) as fs:
            for at, text in enumerate(each.documents):
                fs.write_text(f"text/{at // 500}/{at}.txt", text)
        command = [sys.executable, "-c", HOLDER, str(volume), str(place)]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert holder.stdin is not None and holder.stdout is not None
        try:
            if holder.stdout.readline() != "ready\n":
                report.notes.append("the volume could not be mounted: no figure of the foreground's share")
                return
            (place / "work").mkdir()
            operations(place / "work", 1.0)
            alone, beside, passages = [], [], 0
            for _ in range(rounds):
                alone.append(operations(place / "work", seconds))
                print("on", file=holder.stdin, flush=True)
                assert holder.stdout.readline() == "done\n"
                beside.append(operations(place / "work", seconds))
                print("off", file=holder.stdin, flush=True)
                passages = int(holder.stdout.readline())
                assert holder.stdout.readline() == "done\n"
        finally:
            holder.stdin.close()
            holder.wait(60)
            holder.stdout.close()
        report.rows.append(Row("small files a second on a mount while ingest has work", statistics.median(beside),
                               "without ingest", statistics.median(alone), 0.8))  # fmt: skip
        report.notes.append(f"while the foreground was busy ingest indexed {passages} passages in {rounds} rounds")
        opening_row(report, volume, len(each.documents))


def opening_row(report: Report, volume: Path, count: int) -> None:
    """Opening with everything indexed, until a search can begin."""
    with vexfs.open(volume) as fs:
        fs.index("text", embedder="default")
        assert fs.ingest.wait(600)
    took = []
    for _ in range(3):
        began = time.process_time()
        with vexfs.open(volume) as fs:
            fs.search("a question", under="text")
            assert fs.ingest.wait(600)
            took.append(time.process_time() - began)
            assert fs.ingest.status()["files"] == 0
    name = f"opening with {count:,} indexed files, CPU ms"
    report.rows.append(Row(name, 1000 * statistics.median(took), "limit", 1000.0, 1.0, lower=True))
