"""Power cuts and kills while an index is written to: ``python -m vexfs.testing.indexcrash PLAN`` is the child.

The work is drawn from a seed, so the records after each step are known: batches put, replaced, removed, files moved
out of the index and back, attributes changed.  After a cut the volume is opened as it is; files, vectors and
attributes must be those after one of the steps that may have survived, and each vector must be found by searching.
"""

import argparse
import errno
import json
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vexfs
from vexfs._core import io
from vexfs.testing.powercut import POLICIES, Disk, write_image
from vexfs.testing.trace import read_trace

DIM = 16
NAMES = 60
MARK = struct.Struct("<cI")
OPTIONS: dict[str, Any] = {"commit_ops": 20, "commit_delay_ms": 3, "dirty_limit": 512 << 10, "log_limit": 128 << 10}
#: What a name stands for: the vector's seed, and the attribute.
State = dict[str, tuple[int, int]]


def vector(seed: int) -> NDArray[np.float32]:
    """The vector of a seed."""
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


@dataclass
class Plan:
    """What the child is to do, and where."""

    volume: str
    seed: int
    steps: int
    trace: str = ""
    marks: str = ""
    key_file: str | None = None

    def open(self, **options: Any) -> Any:
        """The volume."""
        return vexfs.open(self.volume, key_file=self.key_file, **options)


Step = tuple[str, list[str], int]


def draw(rng: random.Random, state: State, away: State, number: int) -> Step:
    """The next step."""
    names = [f"n{k:02d}" for k in range(NAMES)]
    kinds = ["put"] * 5 + ["sync"]
    kinds += ["remove", "remove", "attribute", "attribute"] if len(state) > 8 else []
    kinds += ["out", "out"] if len(state) > 8 and len(away) < 20 else []
    kinds += ["back"] if away else []
    kind = rng.choice(kinds)
    if kind == "put":
        return kind, rng.sample([n for n in names if n not in away], rng.randrange(1, 30)), number
    if kind in ("remove", "attribute", "out"):
        return kind, [rng.choice(sorted(state))], number
    if kind == "back":
        return kind, [rng.choice(sorted(away))], number
    return kind, [], number


def after(step: Step, state: State, away: State) -> None:
    """What a step makes of the known state."""
    kind, names, number = step
    for k, name in enumerate(names):
        if kind == "put":
            state[name] = (number * 100 + k, number)
        elif kind == "remove":
            del state[name]
        elif kind == "attribute":
            state[name] = (state[name][0], number)
        elif kind == "out":
            away[name] = state.pop(name)
        elif kind == "back":
            state[name] = away.pop(name)


def do(fs: Any, index: Any, step: Step) -> None:
    """A step on the volume."""
    kind, names, number = step
    if kind == "put":
        index.upsert(
            names, np.array([vector(number * 100 + k) for k in range(len(names))]), [{"n": number}] * len(names)
        )
    elif kind == "remove":
        fs.remove(f"i/{names[0]}")
    elif kind == "attribute":
        fs.attributes(f"i/{names[0]}")["n"] = number
    elif kind == "out":
        fs.rename(f"i/{names[0]}", f"out/{names[0]}")
    elif kind == "back":
        fs.rename(f"out/{names[0]}", f"i/{names[0]}")
    else:
        fs.fsync()


def history(plan: Plan) -> Iterator[tuple[Step | None, State]]:
    """Each step and the state after it."""
    rng = random.Random(plan.seed)
    state: State = {}
    away: State = {}
    yield None, dict(state)
    for number in range(plan.steps):
        step = draw(rng, state, away, number)
        after(step, state, away)
        yield step, dict(state)


def found(fs: Any) -> tuple[dict[str, tuple[bytes, Any]], list[str]]:
    """The state that a volume is in, and what is wrong with it in itself."""
    index = next((i for i in fs.indexes() if i.path == "/i"), None)
    if index is None:
        return {}, []
    names = sorted(fs.listdir("i"))
    faults: list[str] = []
    state: dict[str, tuple[bytes, Any]] = {}
    if len(index) != len(names):
        faults.append(f"{len(index)} files in the index, {len(names)} in the directory")
    for name, record in zip(names, index.get(names), strict=True):
        if record is None:
            faults.append(f"{name} has no vector")
            continue
        hit = index.query(record.vector, 1)[0]
        if hit.path != f"/i/{name}" and hit.distance > 1e-5:
            faults.append(f"{name} is not found by its vector; {hit} is")
        state[name] = (record.vector.tobytes(), record.attributes.get("n"))
    return state, faults


def judge(plan: Plan, durable: int, begun: int) -> list[str]:
    """Open a volume after a cut; what is not as it must be."""
    try:
        fs = plan.open(create=False)
    except OSError as error:
        return [f"cannot be opened: {error}"]
    with fs:
        state, faults = found(fs)
        if faults:
            return faults
        known = [{n: (vector(s).tobytes(), a) for n, (s, a) in state.items()} for _, state in history(plan)]
        fits = [k for k in range(durable, begun + 1) if known[k] == state]
        if not fits:
            other = [k for k in range(len(known)) if known[k] == state]
            return [f"no state after {durable} (acknowledged) to {begun} (begun) steps; after {other or 'none'}"]
        index = fs.index("i", dim=DIM)
        index.upsert(["after"], vector(10**9)[None])
        if index.query(vector(10**9), 1)[0].id != "after":
            return ["what is put after the cut is not found"]
    return []


def live(plan: Plan) -> None:
    """The child's work: recorded, or told in a file until it is killed."""
    mark: Callable[[bytes], object] = io.record_mark
    if plan.marks:
        told = os.open(plan.marks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        mark = lambda data: os.write(told, data)  # noqa: E731
    else:
        io.record_start(plan.trace, plan.volume)
    fs = plan.open(**OPTIONS)
    index = fs.index("i", dim=DIM)
    for number, (step, _) in enumerate(history(plan)):
        if step is not None:
            mark(MARK.pack(b"S", number))
            do(fs, index, step)
            mark(MARK.pack(b"F" if step[0] == "sync" else b"D", number))
    if not plan.marks:
        io.fault([kind for kind in io.KINDS if kind not in ("read", "close", "mark")], 0, errno.EIO)
        io.record_stop()
    os._exit(0)


def make(plan: Plan) -> None:
    """The volume with its index, on stable storage."""
    with plan.open() as fs:
        fs.index("i", dim=DIM)
        fs.mkdir("out")


def _child(plan: Plan) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "vexfs.testing.indexcrash", json.dumps(asdict(plan))], stderr=subprocess.PIPE
    )


def power_cuts(plan: Plan, points: int, scratch: Path) -> Iterator[list[str]]:
    """What is wrong after each of some power cuts; an empty list where nothing is."""
    plan.trace = str(scratch / "trace")
    make(plan)
    disk = Disk(Path(plan.volume))
    disk.new_process()
    child = _child(plan)
    _, told = child.communicate()
    if child.returncode:
        raise AssertionError(told.decode()[-3000:])
    rng = random.Random(plan.seed)
    records = list(read_trace(Path(plan.trace)))
    cuts = sorted(rng.randrange(len(records)) for _ in range(points))
    durable = begun = 0
    for at, record in enumerate(records):
        for _ in range(cuts.count(at)):
            after_cut = scratch / "after"
            subprocess.run(["rm", "-rf", after_cut], check=True)
            policy = rng.choice(POLICIES)
            write_image(disk.image(policy, rng), disk.directories, after_cut)
            faults = judge(Plan(str(after_cut), plan.seed, plan.steps, key_file=plan.key_file), durable, begun)
            yield [f"seed {plan.seed}, cut before record {at}, policy {policy}: {f}" for f in faults]
        if record.kind == "mark":
            what, number = MARK.unpack(record.data)
            begun = number if what == b"S" else begun
            durable = number if what == b"F" else durable
        else:
            disk.apply(record)


def killed(plan: Plan, scratch: Path) -> list[str]:
    """Kill the child at some moment; what is wrong with what it left."""
    plan.marks = str(scratch / f"marks{plan.seed}")
    make(plan)
    child = _child(plan)
    while child.poll() is None and not Path(plan.marks).exists():
        time.sleep(0.01)
    time.sleep(random.Random(plan.seed).random() * 0.6)
    child.kill()
    child.communicate()
    durable = begun = 0
    raw = Path(plan.marks).read_bytes()
    for at in range(0, len(raw) - MARK.size + 1, MARK.size):
        what, number = MARK.unpack(raw[at : at + MARK.size])
        begun = number if what == b"S" else begun
        durable = number if what == b"F" else durable
    return judge(plan, durable, begun)


def main() -> None:
    """The child."""
    parser = argparse.ArgumentParser(prog="python -m vexfs.testing.indexcrash")
    parser.add_argument("plan")
    live(Plan(**json.loads(parser.parse_args().plan)))


if __name__ == "__main__":
    main()
