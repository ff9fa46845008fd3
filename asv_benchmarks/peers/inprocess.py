"""The volume inside a program beside the host's own filesystem calls."""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from asv_benchmarks.peers.table import Report, Row
from vexfs.volume import Volume

OPEN = """
import os, sys, time
from vexfs.volume import Volume
start = time.perf_counter()
volume = Volume.load(sys.argv[1])
opened = time.perf_counter() - start
volume.filesystem.stat("/")
time.sleep(0.5)
print(opened, int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
volume.close()
"""


def _each_us(call: Callable[[int], object], count: int) -> float:
    start = time.perf_counter()
    for i in range(count):
        call(i)
    return (time.perf_counter() - start) / count * 1e6


def in_process_rows(report: Report, home: Path, files: int) -> None:
    """Cached calls, creates, and a volume of many files opened.

    Parameters
    ----------
    home
        On the disk that volumes are measured on.
    files
        How many files the large volume has.
    """
    home.mkdir(parents=True)
    memory = Path("/dev/shm") / f"vexfs-bench-{os.getpid()}"
    memory.mkdir()
    try:
        with Volume.create(home / "v.vex") as volume:
            _calls(report, volume, memory)
        _many(report, home / "many.vex", files)
    finally:
        shutil.rmtree(memory)


def _calls(report: Report, volume: Volume, memory: Path) -> None:
    fs = volume.filesystem
    fs.mkdir("/d")
    fs.write_file("/d/file", b"x" * 65536)
    (memory / "d").mkdir()
    (memory / "d" / "file").write_bytes(b"x" * 65536)
    ino = fs.open("/d/file", os.O_RDONLY)
    path = str(memory / "d" / "file")
    fd = os.open(path, os.O_RDONLY)
    pairs: dict[str, tuple[Callable[[int], object], Callable[[int], object]]] = {
        "stat(path)": (lambda _: fs.stat("/d/file"), lambda _: os.stat(path)),
        "read of 4 KiB": (lambda i: fs.read(ino, 4096, i % 16 * 4096), lambda i: os.pread(fd, 4096, i % 16 * 4096)),
    }
    for name, (ours, theirs) in pairs.items():
        times = [(_each_us(ours, 20_000), _each_us(theirs, 20_000)) for _ in range(7)]
        one, other = (statistics.median(column) for column in zip(*times, strict=True))
        report.rows.append(Row(f"in process, cached: {name}, us", one, "os", other, 2.0, lower=True))
    times = []
    for turn in range(7):

        def make_ours(i: int, turn: int = turn) -> None:
            fs.release(fs.open(f"/d/{turn}.{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))

        def make_theirs(i: int, turn: int = turn) -> None:
            os.close(os.open(f"{memory}/d/{turn}.{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))

        times.append((_each_us(make_ours, 3000), _each_us(make_theirs, 3000)))
    one, other = (statistics.median(column) for column in zip(*times, strict=True))
    report.rows.append(Row("in process: create, us", one, "tmpfs", other, 2.0, lower=True))
    fs.release(ino)
    os.close(fd)


def _many(report: Report, path: Path, files: int) -> None:
    with Volume.create(path) as volume:
        fs = volume.filesystem
        start = time.perf_counter()
        for i in range(files):
            if i % 1000 == 0:
                fs.mkdir(f"/d{i // 1000}")
            fs.release(fs.open(f"/d{i // 1000}/file {i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        fs.sync()
        rate = files / (time.perf_counter() - start)
    report.rows.append(Row("in process: durable creates in batches, files/s", rate, "limit", 50_000, 1.0))
    opened = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", OPEN, path], capture_output=True, text=True, check=True)
        opened.append([float(word) for word in done.stdout.split()])
    seconds, resident = (statistics.median(column) for column in zip(*opened, strict=True))
    report.rows.append(Row(f"opening a volume of {files:,} files, s", seconds, "limit", 0.3, 1.0, lower=True))
    report.rows.append(Row("memory while it is open and idle, MB", resident / 1e6, "limit", 150, 1.0, lower=True))
