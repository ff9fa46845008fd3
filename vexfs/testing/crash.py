"""The power-cut simulator: ``python -m vexfs.testing.crash [--points N] [--kills N] [--seed S] [--encrypted]``.

A child process works on a volume while every change of the disk is recorded, and is killed; another one goes on where
it stopped.  For many points of the recording the disk is rebuilt as a power cut there could have left it
(`vexfs.testing.powercut`), opened without any repair, read whole, and compared with the known history:

- what an fsync acknowledged is there, byte for byte;
- the whole state is the one after some number of operations, no fewer than were acknowledged, no more than had begun
  (with several threads: of each thread, and no operation without those that had returned before it began);
- it can be written to, synced, closed and opened again.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vexfs.store.check import check as fsck
from vexfs.testing.powercut import POLICIES, Disk, write_image
from vexfs.testing.session import KEY, MARK, Plan, make_volume
from vexfs.testing.trace import read_trace
from vexfs.testing.workload import differences, fingerprint, mine, read_state

VARIANTS: tuple[dict[str, Any], ...] = (
    {}, {"compression": "none"}, {"commit_delay_ms": 1, "commit_ops": 1}, {"commit_ops": 200, "commit_delay_ms": 200},
    {"log_limit": 16 << 10}, {"dirty_limit": 64 << 10}, {"direct_io": True},
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """A power cut after which the volume was not what it must be."""

    seed: int
    record: int
    policy: str
    faults: tuple[str, ...]

    def __str__(self) -> str:
        shown = "\n  ".join(fault[:400] for fault in self.faults[:8])
        return f"seed {self.seed}, cut before record {self.record}, policy {self.policy}:\n  {shown}"


class Known:
    """What is known at a moment of a recording: how far each workload was, and how much of it must be durable."""

    def __init__(self, plan: Plan, durable: list[int]) -> None:
        self.plan = plan
        self.durable = durable
        self.loads = plan.workloads()
        self.begun = [load.now for load in self.loads]
        self.returned = list(self.begun)
        self.before: dict[tuple[int, int], list[int]] = {}
        for load in self.loads:
            for _ in range(plan.stop):
                load.advance(load.draw())

    def advance(self, data: bytes) -> None:
        """Take in a mark."""
        what, thread, number = MARK.unpack(data)
        if what == b"S":
            self.begun[thread] = number + 1
            self.before[thread, number] = list(self.returned)
            return
        self.returned[thread] = number + 1
        promise = self.loads[thread].promises.get(number)
        if promise == -1:
            self.durable = [max(a, b) for a, b in zip(self.durable, self.before[thread, number], strict=True)]
        elif promise is not None:
            self.durable[thread] = max(self.durable[thread], promise)

    def faults(self, found: dict[bytes, tuple[Any, ...]]) -> list[str]:
        """What is wrong with a recovered state."""
        chosen: list[int] = []
        candidates: list[list[int]] = []
        for thread, load in enumerate(self.loads):
            own = {path: line for path, line in found.items() if mine(path, load.prefix)}
            digest = fingerprint(own)
            fits = [k for k in range(self.durable[thread], self.begun[thread] + 1) if load.digests[k] == digest]
            if not fits:
                return self._nearest(thread, own, digest)
            candidates.append(fits)
            chosen.append(fits[0])
        return self._one_cut(candidates, chosen)

    def _nearest(self, thread: int, own: dict[bytes, tuple[Any, ...]], digest: bytes) -> list[str]:
        load, low, high = self.loads[thread], self.durable[thread], self.begun[thread]
        other = [k for k, d in enumerate(load.digests) if d == digest]
        text = f"workload {thread}: no state after {low} (acknowledged) to {high} (begun) operations"
        if other:
            return [f"{text}; it is the state after {other[-1]}"]
        history = {load.now: load.state() for load in self.plan.replay(thread, high) if load.now >= low}
        best = min(history, key=lambda k: len(differences(own, history[k])))
        return [f"{text}; against that after {best}:", *differences(own, history[best])]

    def _one_cut(self, candidates: list[list[int]], chosen: list[int]) -> list[str]:
        """No operation is there without all that had returned before it began."""
        moved = True
        while moved:
            moved = False
            for one in range(len(chosen)):
                needed = self.before.get((one, chosen[one] - 1))
                for other in range(len(chosen)):
                    if needed is None or other == one or chosen[other] >= needed[other]:
                        continue
                    later = [k for k in candidates[other] if k >= needed[other]]
                    if not later:
                        text = f"operation {chosen[one] - 1} of workload {one} is there, but of workload {other} only "
                        return [f"{text}{chosen[other]} though {needed[other]} had returned before it began"]
                    chosen[other], moved = later[0], True
        return []


def _child(plan: Plan) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "vexfs.testing.session", plan.dumps()], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise AssertionError(f"seed {plan.seed}: the volume answered wrongly while it was in use:\n"
                             f"{ended.stdout[-4000:]}{ended.stderr[-4000:]}")  # fmt: skip


def survived(plan: Plan, known: Known) -> int:
    """How many operations are in the volume that a killed process left; AssertionError when it is not as it must be."""
    fs = plan.open(read_only=True)
    try:
        found = read_state(fs)
    finally:
        fs.close()
    faults = known.faults(found)
    if faults:
        raise AssertionError(f"seed {plan.seed}: killed, and afterwards:\n" + "\n".join(faults[:8]))
    digest = fingerprint(found)
    return max(k for k in range(known.begun[0] + 1) if known.loads[0].digests[k] == digest)


def check(plan: Plan, known: Known) -> list[str]:
    """Open a recovered volume and hold it against what is known; then use it, close it and open it again.

    What fsck says counts before the first opening, which tidies, and after the last.
    """
    told = sick(plan)
    if told:
        return ["before it was opened:", *told]
    try:
        fs = plan.open()
    except OSError as error:
        return [f"cannot be opened: {error}"]
    try:
        found = read_state(fs)
        faults = known.faults(found)
        if faults:
            return faults
        inodes = {line[-1] for line in found.values()}
        if fs.status()["files"] != len(inodes):
            return [f"{fs.status()['files']} files counted, {len(inodes)} found: unlinked ones were not removed"]
        fs.write_file("/after", b"written after the power cut" * 500)
        fs.fsync()
        expected = read_state(fs)
    except OSError as error:
        return [f"opened, but: {error!r}"]
    finally:
        fs.close()
    fs = plan.open()
    try:
        faults = differences(read_state(fs), expected)
    finally:
        fs.close()
    return faults or sick(plan)


def sick(plan: Plan) -> list[str]:
    """What fsck finds wrong; the volumes of these tests are the core's own and have no ``volume.toml``."""
    report = fsck(Path(plan.volume), KEY if plan.encrypted else None)
    return [f"fsck: {p.kind}: {p.where}: {p.detail}" for p in report.faults if p.where != "volume.toml"]


@dataclass
class Run:
    """Some lives of one volume under one seed, and the power cuts in them; `lies` as of `Disk`."""

    seed: int
    points: int = 100
    lives: int = 2
    stop: int = 250
    threads: int = 1
    encrypted: bool = False
    scratch: str | None = None
    lies: tuple[str, ...] = ()

    def findings(self) -> Iterator[Finding | None]:
        """One answer for each power cut: None when all was well."""
        with tempfile.TemporaryDirectory(dir=self.scratch or _memory()) as name:
            yield from self._findings(Path(name))

    def _findings(self, scratch: Path) -> Iterator[Finding | None]:
        rng = random.Random(self.seed)
        plan = Plan(str(scratch / "volume"), "", self.seed * 100, self.stop, threads=self.threads,
                    encrypted=self.encrypted, options=rng.choice(VARIANTS))  # fmt: skip
        make_volume(plan)
        disk = Disk(Path(plan.volume), self.lies)
        durable = [0] * self.threads
        for life in range(self.lives):
            plan = replace(plan, trace=str(scratch / f"trace{life}"), ending=rng.choice(("exit", "exit", "close")))
            _child(plan)
            known = Known(plan, durable)
            yield from self._cuts(plan, disk, known, rng, scratch)
            if life + 1 < self.lives:
                past = [*plan.past, (plan.seed, survived(plan, known))]
                plan = replace(plan, past=past, seed=plan.seed + 1)
                durable = known.durable

    def _cuts(
        self, plan: Plan, disk: Disk, known: Known, rng: random.Random, scratch: Path
    ) -> Iterator[Finding | None]:
        records = list(read_trace(Path(plan.trace)))
        disk.new_process()
        cuts = [rng.randrange(len(records) + 1) for _ in range(max(1, self.points // self.lives))]
        for at, record in enumerate([*records, None]):
            for _ in range(cuts.count(at)):
                yield self._cut(plan, disk, known, rng, scratch, at)
            if record is None:
                return
            if record.kind == "mark":
                known.advance(record.data)
            else:
                disk.apply(record)

    def _cut(self, plan: Plan, disk: Disk, known: Known, rng: random.Random, scratch: Path, at: int) -> Finding | None:
        policy = rng.choice(POLICIES)
        volume = scratch / "after"
        shutil.rmtree(volume, ignore_errors=True)
        write_image(disk.image(policy, rng), disk.directories, volume)
        faults = check(replace(plan, volume=str(volume), options={**plan.options, "direct_io": False}), known)
        return Finding(self.seed, at, policy, tuple(faults)) if faults else None


def killed(seed: int, lives: int = 3, threads: int = 3, encrypted: bool = False, stop: int = 1500) -> list[str]:
    """Kill a process at work with SIGKILL at some moment, again and again; what was wrong with what it left."""
    with tempfile.TemporaryDirectory(dir=_memory()) as name:
        scratch, rng = Path(name), random.Random(seed)
        for life in range(lives):
            plan = Plan(str(scratch / f"volume{life}"), "", seed * 100 + life, stop, threads=threads,
                        encrypted=encrypted, options=rng.choice(VARIANTS),
                        progress=str(scratch / f"marks{life}"))  # fmt: skip
            make_volume(plan)
            known = Known(plan, [0] * threads)
            faults = _kill(plan, rng)
            raw = Path(plan.progress).read_bytes()
            for at in range(0, len(raw) - MARK.size + 1, MARK.size):
                known.advance(raw[at : at + MARK.size])
            faults = faults or check(plan, known)
            if faults:
                return [f"seed {seed}, life {life}:", *faults]
    return []


def _kill(plan: Plan, rng: random.Random) -> list[str]:
    child = subprocess.Popen([sys.executable, "-m", "vexfs.testing.session", plan.dumps()], stdout=subprocess.PIPE)
    marks = Path(plan.progress)
    while child.poll() is None and not marks.exists():
        time.sleep(0.01)
    time.sleep(rng.random() ** 2 * 1.5)
    child.kill()
    told = child.communicate()[0].decode(errors="replace")
    return told.splitlines() if child.returncode == 1 else []


def _memory() -> str | None:
    """A directory in memory, where the many syncs cost nothing."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main(argv: list[str] | None = None) -> int:
    """Run the simulator; 0 when the volume survived every power cut."""
    parser = argparse.ArgumentParser(prog="python -m vexfs.testing.crash", description="Cut the power, look, tell.")
    parser.add_argument("--points", type=int, default=500, help="power cuts altogether (default 500)")
    parser.add_argument("--seed", type=int, default=1, help="where to begin (default 1); each seed is other work")
    parser.add_argument("--encrypted", action="store_true", help="on an encrypted volume")
    parser.add_argument("--threads", type=int, default=0, help="threads that work (default: 1 and 3 in turn)")
    parser.add_argument("--each", type=int, default=50, help="power cuts for each seed (default 50)")
    parser.add_argument("--kills", type=int, default=10, help="processes killed at work, besides (default 10)")
    parser.add_argument("--operations", type=int, default=250, help="operations in each life (default 250)")
    options = parser.parse_args(argv)
    os.umask(0o022)
    done = bad = 0
    for seed in range(options.seed, options.seed + -(-options.points // options.each)):
        threads = options.threads or (1, 3)[seed % 2]
        run = Run(seed, options.each, 3 if threads == 1 else 1, options.operations, threads, options.encrypted)
        try:
            for finding in run.findings():
                done += 1
                if finding:
                    bad += 1
                    print(finding, flush=True)
        except AssertionError as error:
            bad += 1
            print(error, flush=True)
        if sys.stderr.isatty():
            print(f"\r{done} power cuts, {bad} findings", end="", file=sys.stderr, flush=True)
    for seed in range(options.seed, options.seed + options.kills):
        faults = killed(seed, 1, options.threads or 1 + seed % 4, options.encrypted)
        bad += bool(faults)
        print("".join(f"{fault[:400]}\n" for fault in faults[:8]), end="", flush=True)
    print(f"{done} power cuts, {options.kills} kills, {bad} findings")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
