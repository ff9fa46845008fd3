"""Reading the recordings that ``vexfs._core.io.record_start`` makes: each change of the disk, in order."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vexfs._core.io import KINDS

_HEADER = struct.Struct("<IIQQ")
_PAYLOAD = ("create", "write", "unlink", "rename", "syncdir", "open", "mark")


@dataclass(frozen=True, slots=True)
class Record:
    """One call: what `file`, `offset` and `data` mean depends on `kind`; ``include/vexfs/io.h`` lists it."""

    kind: str
    file: int
    offset: int
    data: bytes

    @property
    def name(self) -> str:
        """The path of an open, unlink or syncdir, relative to the recorded directory."""
        return self.data.decode("utf-8", "surrogateescape")

    @property
    def names(self) -> tuple[str, str]:
        """Old and new path of a rename."""
        old, _, new = self.data.partition(b"\0")
        return old.decode("utf-8", "surrogateescape"), new.decode("utf-8", "surrogateescape")


def read_trace(path: Path) -> Iterator[Record]:
    """Every record of a trace; one that the end of the recording process cut short ends it."""
    raw = memoryview(path.read_bytes())
    at = 0
    while at + _HEADER.size <= len(raw):
        number, file, offset, length = _HEADER.unpack_from(raw, at)
        if number >= len(KINDS):
            raise ValueError(f"{path}: byte {at}: no such kind of record: {number}")
        kind = KINDS[number]
        at += _HEADER.size
        taken = length if kind in _PAYLOAD else 0
        if at + taken > len(raw):
            return
        yield Record(kind, file, offset, bytes(raw[at : at + taken]))
        at += taken
