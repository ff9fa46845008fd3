"""The mounted volume beside a native directory, the least that llfuse allows, and encrypted or networked filesystems.

Needs root (to drop the kernel's caches) and FUSE.  All mounts stand side by side; only one is under load at a time,
turn by turn, and each figure is the median over the turns.
"""

import itertools
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np

import vexfs
from asv_benchmarks.peers.clients import Clients, drop_kernel_caches
from asv_benchmarks.peers.contestants import (
    S3QL,
    Baseline,
    Contestant,
    Gocryptfs,
    JuiceFS,
    VexFS,
    VexFSPlain,
    VexFSSealed,
    mounted,
)
from asv_benchmarks.peers.inprocess import in_process_rows
from asv_benchmarks.peers.table import Report, Row

FILES = 1000
MIXED_TARGETS = {"baseline": 0.75, "gocryptfs": 1.5, "s3ql": 5.0, "juicefs": 8.0}
CPU_TARGETS = {"lookup": 1.3, "getattr": 1.3, "read": 1.3, "create": 2.0, "write": 2.0, "rename": 2.0, "unlink": 2.0}
#: The daemon's background work on a mutation is done within this time.
SETTLE_S = 2.5


@attrs.frozen
class Scale:
    """How much work: a look or a measurement."""

    rounds: int
    mixed_s: float
    cpu_ops: int
    entries: int
    big_mib: int
    sync_ops: int
    volume_files: int


FULL = Scale(rounds=5, mixed_s=2.0, cpu_ops=20_000, entries=100_000, big_mib=1024, sync_ops=200, volume_files=1_000_000)
QUICK = Scale(rounds=3, mixed_s=0.7, cpu_ops=5_000, entries=20_000, big_mib=128, sync_ops=50, volume_files=50_000)


def run(quick: bool) -> Report:
    """Every row of the table."""
    if os.geteuid() != 0:
        raise SystemExit("asv_benchmarks.peers mount: needs root, to drop the kernel's caches between measurements")
    scale = QUICK if quick else FULL
    report = Report("mount")
    with tempfile.TemporaryDirectory(prefix="vexfs-bench-") as name:
        home = Path(name)
        clients = Clients(home)
        _mixed(report, home / "mixed", clients, scale)
        _cpu(report, home / "cpu", clients, scale)
        for size in ("empty", "4 KiB"):
            _listing(report, home / f"listing-{size[0]}", clients, scale, size)
        _big(report, home / "big", clients, scale)
        _syncs(report, home / "syncs", clients, scale)
        _pools(report, home / "pools", clients, scale)
        in_process_rows(report, home / "inside", scale.volume_files)
    return report


def _median_rounds(
    contestants: dict[str, Contestant], rounds: int, measure: Callable[[Contestant, int], float]
) -> dict[str, float]:
    """Turn by turn, so that a noisy moment of the host hits all."""
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds):
        for name, contestant in contestants.items():
            figures[name].append(measure(contestant, turn))
    return {name: statistics.median(values) for name, values in figures.items()}


def _mixed(report: Report, home: Path, clients: Clients, scale: Scale) -> None:
    with mounted(home, VexFS, Baseline, Contestant, Gocryptfs, S3QL, JuiceFS) as (up, missing):
        report.notes += missing
        for contestant in up.values():
            for k in range(4):
                clients.run("prepare", [contestant.directory / f"c{k}"], 0, FILES)
        rates = {n: clients.rate("mixed", [c.directory / "c0"], 300, FILES) for n, c in up.items()}
        for number in (1, 2, 4):

            def measure(contestant: Contestant, turn: int, number: int = number) -> float:
                count = max(100, int(rates[contestant.name] * scale.mixed_s / number))
                directories = [contestant.directory / f"c{k}" for k in range(number)]
                return clients.rate("mixed", directories, count, FILES, turn + 2)

            figures = _median_rounds(up, scale.rounds, measure)
            for name in [n for n in figures if n != "vexfs"]:
                figure = f"mixed small files, {number} client{'s' if number > 1 else ''}, ops/s"
                report.rows.append(Row(figure, figures["vexfs"], name, figures[name], MIXED_TARGETS.get(name)))


def _cpu(report: Report, home: Path, clients: Clients, scale: Scale) -> None:
    with mounted(home, VexFS, Baseline) as (up, _):
        for contestant in up.values():
            clients.run("prepare", [contestant.directory / "cpu"], 0, scale.cpu_ops)
        time.sleep(SETTLE_S)
        spent: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in up} for kind in CPU_TARGETS}
        for _ in range(scale.rounds):
            for kind in CPU_TARGETS:
                changes = kind in ("create", "write", "rename", "unlink")
                for name, contestant in up.items():
                    if kind == "lookup":
                        drop_kernel_caches(2)
                        time.sleep(0.5)  # the kernel's forgets are not lookups
                    used = clients.cpu_us(contestant, kind, scale.cpu_ops, scale.cpu_ops, SETTLE_S if changes else 0)
                    spent[kind][name].append(used)
        for kind, target in CPU_TARGETS.items():
            ours, theirs = (statistics.median(spent[kind][name]) for name in ("vexfs", "baseline"))
            report.rows.append(Row(f"daemon CPU for one {kind}, us", ours, "baseline", theirs, target, lower=True))


def _listing(report: Report, home: Path, clients: Clients, scale: Scale, size: str) -> None:
    with mounted(home, VexFS, Baseline) as (up, _):
        for contestant in up.values():
            (contestant.directory / "many").mkdir()
            if size == "empty":
                clients.run("create", [contestant.directory / "many"], scale.entries, 0)
            else:
                clients.run("prepare", [contestant.directory / "many"], 0, scale.entries)
        first: dict[str, list[float]] = {name: [] for name in up}

        def measure(contestant: Contestant, _turn: int) -> float:
            if contestant.name == "vexfs":  # the baseline has nothing to forget: it is its memory
                contestant.unmount()
                contestant.mount()
            drop_kernel_caches(3)
            seconds, first_s = clients.run("list", [contestant.directory / "many"], 0, scale.entries)
            first[contestant.name].append(first_s * 1000)
            return scale.entries / seconds

        rates = _median_rounds(up, min(3, scale.rounds), measure)
        figure = f"listing {scale.entries:,} {size} files with attributes, cold, entries/s"
        report.rows.append(Row(figure, rates["vexfs"], "baseline", rates["baseline"], 0.8))
        report.rows.append(
            Row("first entry of that, ms", statistics.median(first["vexfs"]), "limit", 50, 1, lower=True)
        )


def _big(report: Report, home: Path, clients: Clients, scale: Scale) -> None:
    with mounted(home, Contestant, VexFSPlain, VexFSSealed, Baseline, Gocryptfs, JuiceFS) as (up, missing):
        report.notes += [note for note in missing if note not in report.notes]

        def write(contestant: Contestant, turn: int) -> float:
            (contestant.directory / "big000000").unlink(missing_ok=True)
            os.sync()
            return scale.big_mib / clients.run("write_big", [contestant.directory], scale.big_mib, 0, turn)[0]

        def read(contestant: Contestant, _turn: int) -> float:
            drop_kernel_caches(3)
            return scale.big_mib / clients.run("read_big", [contestant.directory], scale.big_mib, 0)[0]

        for verb, measure in (("write", write), ("read", read)):
            rates = _median_rounds(up, min(3, scale.rounds), measure)
            for ours, target in (("vexfs plain", 0.7), ("vexfs lz4+AES-GCM", 0.35)):
                figure = f"sequential {verb}, {scale.big_mib} MiB, {ours.removeprefix('vexfs ')}, MiB/s"
                # The baseline keeps what it is given in memory: no more than what FUSE through llfuse leaves.
                targets = {"native": target, "baseline": None}
                for peer in [n for n in rates if not n.startswith("vexfs")]:
                    report.rows.append(Row(figure, rates[ours], peer, rates[peer], targets.get(peer, 1.0)))


def _syncs(report: Report, home: Path, clients: Clients, scale: Scale) -> None:
    with mounted(home, VexFS, Contestant) as (up, _):
        blocks = 16 * 1024
        for contestant in up.values():
            with open(contestant.directory / "s000000", "wb") as file:
                file.write(os.urandom(4096) * blocks)
                os.fsync(file.fileno())

        def random_writes(contestant: Contestant, turn: int) -> float:
            return clients.rate("sync_random", [contestant.directory], scale.sync_ops, blocks, turn)

        def files(contestant: Contestant, turn: int, number: int) -> float:
            directories = [contestant.directory / f"t{turn}n{number}k{k}" for k in range(number)]
            for directory in directories:
                directory.mkdir()
            return clients.rate("sync_files", directories, 64 // number, 0)

        rates = _median_rounds(up, scale.rounds, random_writes)
        report.rows.append(
            Row("random 4 KiB write, each synced, ops/s", rates["vexfs"], "native", rates["native"], 0.5)
        )
        ours = {"vexfs": up["vexfs"]}
        one: list[float] = []
        eight: list[float] = []
        for turn in range(scale.rounds):
            one.append(_median_rounds(ours, 1, lambda c, _t, turn=turn: files(c, turn, 1))["vexfs"])
            eight.append(_median_rounds(ours, 1, lambda c, _t, turn=turn: files(c, turn, 8))["vexfs"])
        figure = "64 files synced by 8 clients, files/s"
        report.rows.append(Row(figure, statistics.median(eight), "one client", statistics.median(one), 3.0))


def _pools(report: Report, home: Path, clients: Clients, scale: Scale) -> None:
    """The share of buffers that the pools had ready, with files and searches at once and the configured counts."""
    volume = VexFS(home)
    rows = np.random.default_rng(1).standard_normal((scale.volume_files // 200, 384), np.float32)
    with vexfs.open(volume.home / "volume.vex", create=True) as fs:
        fs.index("/notes", dim=384).upsert([f"n{k}" for k in range(len(rows))], rows)
    volume.mount()
    try:
        work = volume.directory / "work"
        clients.run("prepare", [work], 0, FILES)
        done = threading.Event()

        def search() -> None:
            for k in itertools.cycle(range(len(rows))):
                os.listdir(volume.directory / "notes" / ".vexfs" / "similar" / f"n{k}")
                if done.is_set():
                    return

        searching = threading.Thread(target=search)
        searching.start()
        clients.run("mixed", [work], int(10_000 * scale.mixed_s), FILES)
        done.set()
        searching.join()
        told = dict(line.split(": ", 1) for line in (volume.directory / ".vexfs" / "status").read_text().splitlines())
        rate = float(told["pools"].split()[0].removeprefix("hit_rate="))
        report.rows.append(Row("pool hit rate, mixed files and searches", rate, "limit", 1.0, 0.95))
    finally:
        volume.unmount()
