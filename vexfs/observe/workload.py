"""Real work on the live volume, measured: files through its mount, vectors through an index, searches by text.

Each load works in a directory of its own at the root of the volume, ``.vexfs-load-...``, and removes it in any case.
"""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from vexfs.errors import VexfsError, describe
from vexfs.observe import mountload
from vexfs.observe.history import read
from vexfs.observe.parts import Parts

DIM = 384
ROWS = 512
PREFIX = ".vexfs-load-"
TEXTS = (
    "Light roasts keep acidity and the taste of the origin.",
    "Dark roasts are bitter, heavy, and low in acid.",
    "The committer writes what changed since the last epoch.",
    "A bridge carries mutations to the store in batches.",
    "Rain falls on the northern slopes from October to May.",
    "The train to the coast leaves twice a day.",
    "Vectors of a directory are searched with their files.",
    "Sour beans were picked before they were ripe.",
    "An invoice is due within thirty days of its date.",
    "The patient showed no reaction to the treatment.",
    "Bake the bread at a high heat until the crust is dark.",
    "Memory comes from pools of three sizes.",
)
QUERIES = ("bright acidic coffee", "when does the train leave", "how are changes stored", "payment terms", "baking")


@attrs.frozen
class Measured:
    """One load: operations, seconds, and why there are none when there could not be any.

    ``fuse`` counts the client's operations; what the mount counted meanwhile stands in `detail`.
    """

    kind: str
    operations: int = 0
    seconds: float = 0.0
    reason: str = ""
    detail: dict[str, Any] = attrs.field(factory=dict)

    @property
    def per_s(self) -> float:
        """Operations a second; 0 when there were none."""
        return self.operations / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "per_s": self.per_s,
            "operations": self.operations,
            "seconds": self.seconds,
            "reason": self.reason,
            **self.detail,
        }


@contextlib.contextmanager
def mounted(parts: Parts) -> Iterator[str]:
    """Where the volume is mounted; when it is not, it is mounted for as long as it takes.

    Raises
    ------
    VexfsError
        It cannot be mounted here.
    """
    if parts.mount is not None:
        yield parts.mount.mountpoint
        return
    place = tempfile.mkdtemp(prefix="vexfs-load-")
    try:
        with parts.volume.mount(place):
            yield place
    finally:
        parts.volume.mounted = None
        with contextlib.suppress(OSError):
            os.rmdir(place)


@contextlib.contextmanager
def directory(parts: Parts) -> Iterator[str]:
    """The name of a fresh directory at the root of the volume, removed with all that is in it."""
    fs, name = parts.filesystem, f"{PREFIX}{secrets.token_hex(6)}"
    stretch = [read(parts)]
    parts.driven.append(stretch)
    fs.mkdir(name, 0o700)
    try:
        yield name
    finally:
        try:
            remove(parts, name)
        finally:
            stretch.append(read(parts))


def remove(parts: Parts, path: str) -> None:
    """Remove a directory with everything below it."""
    fs = parts.filesystem
    for name, _, kind in list(fs.scandir(path)):
        below = f"{path}/{os.fsdecode(name)}"
        if kind == 0o040000:
            remove(parts, below)
        else:
            fs.unlink(below)
    fs.rmdir(path)


def fuse(parts: Parts, seconds: float, clients: int = 1) -> Measured:
    """Files through the mount, by clients in processes of their own."""
    try:
        with mounted(parts) as place, directory(parts) as name:
            before = parts.mount.requests()
            found = _clients(Path(place) / name, seconds, clients)
            after = parts.mount.requests()
    except (VexfsError, OSError) as error:
        return Measured("fuse", reason=f"the mount could not be worked on: {describe(error)}")
    requests = {kind: after[kind] - before[kind] for kind in after if after[kind] > before[kind]}
    took = max(each["seconds"] for each in found)
    counts: dict[str, int] = {}
    spent: dict[str, float] = {}
    for each in found:
        for what, n in each["counts"].items():
            counts[what] = counts.get(what, 0) + n
            spent[what] = spent.get(what, 0.0) + each["spent_s"][what]
    detail = {
        "clients": clients,
        "mean_us": {what: spent[what] / n * 1e6 for what, n in counts.items()},
        "client_user_s": sum(each["user_s"] for each in found),
        "requests": sum(requests.values()),
        "requests_per_s": sum(requests.values()) / took,
    }
    return Measured("fuse", sum(counts.values()), took, detail=detail)


def _clients(place: Path, seconds: float, clients: int) -> list[dict[str, Any]]:
    running: list[subprocess.Popen[str]] = []
    found, faults = [], []
    try:
        for i in range(clients):
            (place / str(i)).mkdir()
            command = [sys.executable, "-I", mountload.__file__, str(place / str(i)), str(seconds), str(i)]
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        for each in running:
            try:
                out, err = each.communicate(timeout=seconds + 60)
            except subprocess.TimeoutExpired:
                faults.append("a client hangs: the mount does not answer")
                continue
            told = json.loads(out) if out.strip() else {"error": (err.strip().splitlines() or ["it said nothing"])[-1]}
            if "error" in told:
                faults.append(told["error"])
            else:
                found.append(told)
    finally:  # after Ctrl-C, too: what they work on is about to be removed
        for each in running:
            with each:
                each.kill()
    if faults:
        raise OSError(5, f"a client failed: {faults[0]}")
    return found


def vector(parts: Parts, seconds: float) -> Measured:
    """Rows written to an index and queries answered by it, three queries a row."""
    if not hasattr(parts.volume, "index"):
        return Measured("vector", reason="the volume was opened without its indexes")
    rng = np.random.default_rng(6)
    rows = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    try:
        with directory(parts) as name:
            index = parts.volume.index(name, dim=DIM)
            index.upsert([f"r{i}" for i in range(ROWS)], rows)
            done, began = 0, time.perf_counter()
            until = began + seconds
            while time.perf_counter() < until:
                at = done % ROWS
                index.upsert([f"r{at}"], rows[at : at + 1])
                for i in range(3):
                    hits = index.query(rows[(at + i) % ROWS], k=10)
                    if not len(hits):
                        raise VexfsError("a query over an index with rows found nothing")
                done += 4
            took = time.perf_counter() - began
            parts.volume.drop_index(name)
    except (VexfsError, OSError) as error:
        return Measured("vector", reason=f"the index could not be worked on: {describe(error)}")
    return Measured("vector", done, took, detail={"rows": ROWS, "dim": DIM})


def semantic(parts: Parts, seconds: float) -> Measured:
    """Searches by text over texts that the default embedder has read."""
    if not hasattr(parts.volume, "search"):
        return Measured("semantic", reason="the volume was opened without its search")
    try:
        with directory(parts) as name:
            parts.volume.index(name, embedder="default")
            for i in range(96):
                parts.volume.write_text(f"{name}/t{i}.md", f"{TEXTS[i % len(TEXTS)]} {i}")
            _settle(parts, name)
            done, began = 0, time.perf_counter()
            until = began + seconds
            while time.perf_counter() < until:
                if not len(parts.volume.search(QUERIES[done % len(QUERIES)], k=5, under=name)):
                    raise VexfsError("a search over texts found nothing")
                done += 1
            took = time.perf_counter() - began
            parts.volume.drop_index(name)
    except (VexfsError, OSError) as error:
        return Measured("semantic", reason=f"nothing could be searched: {describe(error)}")
    return Measured("semantic", done, took, detail={"texts": 96})


def _settle(parts: Parts, name: str, patience_s: float = 20.0) -> None:
    """Wait until what was written can be found: indexing runs behind the writer."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if len(parts.volume.search(QUERIES[0], k=1, under=name)):
            return
        time.sleep(0.05)


def run(parts: Parts, kind: str, seconds: float) -> Measured:
    """One load by name."""
    return {"fuse": fuse, "vector": vector, "semantic": semantic}[kind](parts, seconds)


def leftovers(parts: Parts) -> list[str]:
    """Directories of loads that were cut off; harmless, and to be removed."""
    names = (os.fsdecode(name) for name, _, _ in parts.filesystem.scandir("/"))
    return sorted(name for name in names if name.startswith(PREFIX))
