"""A disk that may lose power: what of a recorded sequence of calls is there afterwards.

The rules are those of POSIX and no kinder ones.  A file's bytes and size are certain only up to its last sync; a name
only up to the last sync of its directory.  Of everything later any part may have reached the disk, in any order, in
sectors of 512 bytes.  A sector that a file grew by and whose bytes were lost reads as zeros or as what lay there
before.
"""

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from vexfs.testing.trace import Record

SECTOR = 512
POLICIES = ("lost", "kept", "cut", "mixed", "scattered")


@dataclass(eq=False)
class DiskFile:
    """A file's bytes as of its last sync, and what was done since: ``(sequence, offset, data)``, data None: resized."""

    name: str = ""
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, int, bytes | None]] = field(default_factory=list)

    def settle(self) -> None:
        """A sync: what was pending is certain."""
        for _, offset, data in self.pending:
            _put(self.durable, offset, data)
        self.pending.clear()


@dataclass(frozen=True, slots=True)
class _NameChange:
    sequence: int
    kind: str
    name: str
    target: str
    file: DiskFile | None


class Disk:
    """The disk under one volume directory, driven by `Record` after `Record`.

    `lies` names files and directories (``"segments"``, ``"meta.db-wal"``) whose syncs this disk answers and does not
    carry out: with one of them the simulator must find something.
    """

    def __init__(self, root: Path, lies: tuple[str, ...] = ()) -> None:
        self.lies = lies
        self.current: dict[str, DiskFile] = {}
        self.directories = {"."}
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            if path.is_dir():
                self.directories.add(name)
            else:
                self.current[name] = DiskFile(name, bytearray(path.read_bytes()))
        self.certain = dict(self.current)
        self.changes: list[_NameChange] = []
        self.handles: dict[int, DiskFile] = {}
        self.sequence = 0

    def new_process(self) -> None:
        """A new recording begins: its file numbers are its own; what was not synced stays so."""
        self.handles.clear()

    def apply(self, record: Record) -> None:
        """Carry out one recorded call."""
        self.sequence += 1
        match record.kind:
            case "create" | "open":
                self._open(record)
            case "write":
                self.handles[record.file].pending.append((self.sequence, record.offset, record.data))
            case "truncate":
                self.handles[record.file].pending.append((self.sequence, record.offset, None))
            case "sync":
                if not self._lies_about(self.handles[record.file].name):
                    self.handles[record.file].settle()
            case "unlink":
                self.current.pop(record.name, None)
                self.changes.append(_NameChange(self.sequence, "unlink", record.name, "", None))
            case "rename":
                old, new = record.names
                self.current[new] = self.current.pop(old)
                self.changes.append(_NameChange(self.sequence, "rename", old, new, None))
            case "syncdir":
                if not self._lies_about(record.name):
                    self._sync_names(record.name)

    def _lies_about(self, name: str) -> bool:
        return any(name == lie or name.startswith(lie + "/") for lie in self.lies)

    def _open(self, record: Record) -> None:
        file = self.current.get(record.name)
        if file is None:
            file = self.current[record.name] = DiskFile(record.name)
            self.changes.append(_NameChange(self.sequence, "create", record.name, "", file))
        self.handles[record.file] = file

    def _sync_names(self, directory: str) -> None:
        later = []
        for change in self.changes:
            if directory in (_parent(change.name), _parent(change.target or change.name)):
                _rename(self.certain, change)
            else:
                later.append(change)
        self.changes = later

    def image(self, policy: str, rng: random.Random) -> dict[str, bytes]:
        """The files that are there after a power cut now, by name.

        Parameters
        ----------
        policy : str
            ``lost``: nothing unsynced; ``kept``: everything (as when only the process was killed); ``cut``: a prefix in
            time, the last write torn; ``mixed``: any sectors, the share chosen for each file; ``scattered``: any.
        """
        last = self.sequence if policy == "kept" else 0
        if policy == "cut":  # a point among what is pending, not among what is certain anyway
            writes = {n for file in self.current.values() for n, _, _ in file.pending}
            times = sorted(writes | {change.sequence for change in self.changes})
            last = rng.choice(times) if times else 0
        by_chance = policy in ("mixed", "scattered")
        names = dict(self.certain)
        share = rng.choice((0.0, 0.5, 1.0)) if policy == "mixed" else 0.5
        for change in self.changes:
            if rng.random() < share if by_chance else change.sequence <= last:
                _rename(names, change)
        return {name: _survivor(file, policy, last, rng) for name, file in names.items()}


def write_image(image: dict[str, bytes], directories: set[str], target: Path) -> None:
    """Lay an image out as files below `target`, which is made."""
    for name in sorted(directories):
        (target / name).mkdir(parents=True, exist_ok=True)
    for name, data in image.items():
        (target / name).write_bytes(data)


def _parent(name: str) -> str:
    return os.path.dirname(name) or "."


def _rename(names: dict[str, DiskFile], change: _NameChange) -> None:
    if change.kind == "create" and change.file is not None:
        names.setdefault(change.name, change.file)
    elif change.kind == "unlink":
        names.pop(change.name, None)
    elif change.name in names:
        names[change.target] = names.pop(change.name)


def _put(data: bytearray, offset: int, piece: bytes | None) -> None:
    end = offset + len(piece or b"")
    if len(data) < end:
        data.extend(bytes(end - len(data)))
    if piece is None:
        del data[offset:]
    else:
        data[offset:end] = piece


def _survivor(file: DiskFile, policy: str, last: int, rng: random.Random) -> bytes:
    if policy == "lost" or not file.pending:
        return bytes(file.durable)
    data = bytearray(file.durable)
    if policy in ("kept", "cut"):
        for sequence, offset, piece in file.pending:
            if sequence > last:
                break
            torn = piece is not None and policy == "cut" and sequence == last
            _put(data, offset, piece[: rng.randrange(len(piece) // SECTOR + 1) * SECTOR] if torn and piece else piece)
        return bytes(data)
    share = rng.choice((0.0, 0.2, 0.5, 0.8, 1.0)) if policy == "mixed" else 0.5
    stale = rng.random() < 0.3
    for _, offset, piece in file.pending:
        if piece is None:
            if rng.random() < share:
                _put(data, offset, None)
            continue
        _put_some(data, offset, piece, share, stale, rng)
    return bytes(data)


def _put_some(data: bytearray, offset: int, piece: bytes, share: float, stale: bool, rng: random.Random) -> None:
    """Some sectors of a write; the file may have grown by those that were lost."""
    size, done = len(data), 0
    while done < len(piece):
        at = offset + done
        n = min(len(piece) - done, SECTOR - at % SECTOR)
        if rng.random() < share:
            _put(data, at, piece[done : done + n])
        elif at + n > size and rng.random() < share:
            _put(data, at, rng.randbytes(n) if stale else bytes(n))
        done += n
