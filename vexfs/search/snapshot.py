"""Opening an index quickly: a snapshot of its lists and codes, and the log of its keyword records.

A snapshot is a file of the volume like the others, replaced by rename.  It says of each row how often the row had been
taken into use; rows that were used again since, or are new, are taken from the stored vectors.  So a snapshot is never
wrong, only more or less useful, and one that cannot be read costs time and nothing else.
"""

import contextlib
import logging
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vexfs._core.fs import Filesystem
from vexfs._core.vindex import VectorIndex

if TYPE_CHECKING:
    from vexfs.search.index import Index

log = logging.getLogger("vexfs.search")

HEAD = struct.Struct("<16sQ")
MAGIC = b"VexFS snapshot 1"
UNUSED = 0xFFFFFFFF
INO_MASK = np.uint64((1 << 40) - 1)
FLAG_SHIFT = np.uint64(40)
OUT_OF_USE = np.uint64(2 | 4)  # stale, away
READ_BYTES = 16 << 20
WORD_HEAD = struct.Struct("<III")


class _Reader:
    """A file of the volume from beginning to end."""

    def __init__(self, filesystem: Filesystem, path: str) -> None:
        self._filesystem, self._ino, self._at = filesystem, filesystem.resolve(path), 0
        self.size = filesystem.getattr(self._ino).st_size

    def __call__(self, n: int) -> bytes:
        data = self._filesystem.read(self._ino, n, self._at)
        self._at += len(data)
        if len(data) < n:
            raise ValueError(f"ends at byte {self._at}; {n - len(data)} more were expected")
        return data


def live_versions(rows: NDArray[np.void]) -> NDArray[np.uint32]:
    """How often each row was taken into use, uint32; `UNUSED` where it is not searched."""
    versions = (rows["dir"] >> FLAG_SHIFT).astype(np.uint32)
    flags = rows["ino"] >> FLAG_SHIFT
    versions[(rows["ino"] & INO_MASK == 0) | (flags & OUT_OF_USE != 0)] = UNUSED
    return versions


def _restored(index: "Index") -> tuple[VectorIndex, NDArray[np.uint32]] | None:
    catalog, d = index.catalog, index.description
    try:
        read = _Reader(index.filesystem, f"{index.home}/snapshot")
    except FileNotFoundError:
        return None
    try:
        magic, n = HEAD.unpack(read(HEAD.size))
        if magic != MAGIC or n * 4 > read.size:
            raise ValueError("is no snapshot of this version")
        versions = np.frombuffer(read(n * 4), np.uint32)
        vectors = VectorIndex.restore(d.dim, d.metric, d.dtype, read=read, simd=catalog.simd, pool=catalog.pool)
    except (OSError, ValueError, MemoryError) as error:
        log.warning("the snapshot of index %d is not used: %s", d.number, error)
        return None
    return vectors, versions


def load_snapshot(index: "Index") -> tuple[VectorIndex, int]:
    """The vector index over a table, brought up to date; and how many rows the snapshot did not have."""
    now = live_versions(index.table.rows())
    restored = _restored(index)
    if restored is None:
        vectors, had = index.vectors, np.full(0, UNUSED, np.uint32)
    else:
        vectors, had = restored
    then = np.full(len(now), UNUSED, np.uint32)
    then[: min(len(had), len(now))] = had[: len(now)]
    gone = np.flatnonzero((had != UNUSED) & (_fitted(now, len(had)) != had)).astype(np.uint32)
    if len(gone):
        vectors.remove(gone)
    index.table.attach(vectors, keep=True)
    fresh = np.flatnonzero((now != UNUSED) & (now != then)).astype(np.uint32)
    _put(index, vectors, fresh)
    return vectors, len(fresh)


def _fitted(values: NDArray[np.uint32], n: int) -> NDArray[np.uint32]:
    out = np.full(n, UNUSED, np.uint32)
    out[: min(n, len(values))] = values[:n]
    return out


def _put(index: "Index", vectors: VectorIndex, rows: NDArray[np.uint32]) -> None:
    """Stored vectors of rows into the index, read in long stretches."""
    size = vectors.row_bytes
    ino = index.file("vectors")
    most = max(1, READ_BYTES // size)
    at = 0
    while at < len(rows):
        first = int(rows[at])
        end = int(np.searchsorted(rows, first + most))
        part = rows[at:end]
        span = int(part[-1]) - first + 1
        data = np.frombuffer(index.filesystem.read(ino, span * size, first * size), np.uint8).reshape(span, size)
        vectors.put(part, np.ascontiguousarray(data[part - np.uint32(first)]))
        at = end


def save_snapshot(index: "Index") -> None:
    """Write a snapshot of what the index is now."""
    filesystem, path = index.filesystem, f"{index.home}/snapshot"
    with contextlib.suppress(FileNotFoundError):
        filesystem.unlink(path + ".new")
    filesystem.write_file(path + ".new", b"", 0o600)
    ino = filesystem.resolve(path + ".new")
    # What is put or removed while this goes on has another version, or none, when the snapshot is read.
    versions = live_versions(index.table.rows())
    filesystem.write(ino, HEAD.pack(MAGIC, len(versions)) + versions.tobytes(), 0)
    at = HEAD.size + versions.nbytes

    def write(data: Any) -> None:
        nonlocal at
        at += filesystem.write(ino, data, at)

    index.vectors.dump(write)
    filesystem.rename(path + ".new", path)


def load_words(index: "Index") -> None:
    """Keyword records from their log: those of rows as they are in use now."""
    ino = index.file("words")
    size = index.filesystem.getattr(ino).st_size
    if not size:
        return
    data = index.filesystem.read(ino, size, 0)
    rows = index.table.rows()
    versions = live_versions(rows)
    found: dict[int, bytes] = {}
    at = 0
    while at + WORD_HEAD.size <= len(data):
        row, version, n = WORD_HEAD.unpack_from(data, at)
        at += WORD_HEAD.size
        if at + n > len(data):
            log.warning("the keyword log of index %d ends within a record", index.description.number)
            break
        if row < len(versions) and versions[row] == version:
            found[row] = data[at : at + n]
        at += n
    if found:
        index.words.put(np.fromiter(found, np.uint32, len(found)), list(found.values()))
