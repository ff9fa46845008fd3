"""Opening an index quickly: a snapshot of its lists and codes, and the log of its keyword records.

A snapshot is a file of the volume like the others, replaced by rename.  It says of each row how often the row had been
taken into use; rows that were used again since, or are new, are taken from the stored vectors.  So a snapshot is never
wrong, only more or less useful, and one that cannot be read costs time and nothing else.
"""

import contextlib
import errno
import logging
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vexfs._core.fs import Filesystem
from vexfs._core.rows import NO_ROW
from vexfs._core.vindex import VectorIndex
from vexfs._core.words import WordIndex

if TYPE_CHECKING:
    from vexfs.search.index import Index

log = logging.getLogger("vexfs.search")

HEAD = struct.Struct("<16sQ")
MAGIC = b"VexFS snapshot 1"
UNUSED = NO_ROW
READ_BYTES, AHEAD_BYTES, PUT_AT_ONCE = 16 << 20, 4 << 20, 4096
WORD_HEAD = struct.Struct("<III")
#: Behind a snapshot of keywords: the log of which it has the records, how far, how many bytes of it were in use when
#: that was last counted, and the number of bits that follow, of the rows that have words.
LOG_HEAD, LOG_MAGIC = struct.Struct("<8sQQQQ"), b"wordslog"
VECTORS, WORDS, LEARNED = "snapshot", "snapshot-words", "learned"
#: A log of keyword records is rewritten when it is longer and less than half of it is in use.
LOG_BYTES = 4 << 20


class _Log(NamedTuple):
    """How far a snapshot goes along the log of keyword records, and the rows that had words then."""

    ino: int
    size: int
    used: int
    held: NDArray[np.bool_]


class _Reader:
    """A file of the volume from beginning to end, read in long stretches by a thread that is one ahead."""

    def __init__(self, filesystem: Filesystem, path: str, go_on: Callable[[], None]) -> None:
        self._filesystem, self._ino, self._go_on = filesystem, filesystem.resolve(path), go_on
        self.size = filesystem.getattr(self._ino).st_size
        self._asked = self._at = self._n = 0
        self._now, self._next = (np.empty(min(AHEAD_BYTES, self.size), np.uint8) for _ in range(2))
        self._thread = ThreadPoolExecutor(1, "vexfs-snapshot")
        self._coming = self._ask()

    def _ask(self) -> "Future[int]":
        at, self._asked = self._asked, self._asked + len(self._next)
        return self._thread.submit(self._filesystem.readinto, self._ino, self._next.data, at)

    def some(self, n: int) -> NDArray[np.uint8]:
        """At most n bytes, not none."""
        self._go_on()
        if self._at == self._n:
            self._n, self._at = self._coming.result(), 0
            self._now, self._next = self._next, self._now
            if not self._n:
                raise ValueError("ends too early")
            self._coming = self._ask()
        begin, self._at = self._at, min(self._at + n, self._n)
        return self._now[begin : self._at]

    def exactly(self, n: int) -> bytes:
        """n bytes."""
        parts, left = [], n
        while left:
            parts.append(self.some(left).tobytes())
            left -= len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        """Nothing more is read."""
        self._thread.shutdown()


@contextlib.contextmanager
def _opened(index: "Index", name: str) -> Iterator[tuple[_Reader, NDArray[np.uint32]] | None]:
    """A snapshot behind its head, and the versions that it says; None where there is none to use."""
    try:
        read = _Reader(index.filesystem, f"{index.home}/{name}", index.refuse_closed)
    except FileNotFoundError:
        yield None
        return
    try:
        magic, n = HEAD.unpack(read.exactly(HEAD.size))
        if magic != MAGIC or n * 4 > read.size:
            raise ValueError("is no snapshot of this version")
        yield read, np.frombuffer(read.exactly(n * 4), np.uint32)
    finally:
        read.close()


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EBADMSG:
        return "it was made by another version of VexFS, or is damaged; the index is made anew from its rows"
    return str(error)


def _restored(index: "Index") -> tuple[VectorIndex, NDArray[np.uint32]] | None:
    catalog, d = index.catalog, index.description
    try:
        with _opened(index, VECTORS) as opened:
            if opened is None:
                return None
            read, versions = opened
            kind = d.dim, d.metric, d.dtype
            vectors = VectorIndex.restore(*kind, read=read.some, simd=catalog.simd, pool=catalog.pool)
    except (OSError, ValueError, MemoryError) as error:
        index.refuse_closed()
        log.warning("the snapshot of index %d is not used: %s", d.number, _told(error))
        return None
    try:
        vectors.teach(index.filesystem.read_file(f"{index.home}/{LEARNED}"))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            log.warning("what index %d learnt of queries is not used: %s", d.number, _told(error))
    return vectors, versions


def _restored_words(index: "Index") -> tuple[WordIndex, NDArray[np.uint32], _Log | None]:
    none = WordIndex(), np.full(0, UNUSED, np.uint32), None
    try:
        with _opened(index, WORDS) as opened:
            if opened is None:
                return none
            read, versions = opened
            words = WordIndex()
            words.restore(read.exactly)
            logged = _log_behind(read)
    except (OSError, ValueError, MemoryError) as error:
        index.refuse_closed()
        log.warning("the keyword snapshot of index %d is not used: %s", index.description.number, _told(error))
        return none
    return words, versions, logged


def _log_behind(read: _Reader) -> _Log | None:
    """What stands behind a snapshot of keywords; older ones end there."""
    try:
        magic, ino, size, used, n = LOG_HEAD.unpack(read.exactly(LOG_HEAD.size))
        if magic != LOG_MAGIC or n > 8 * read.size:
            return None
        bits = np.frombuffer(read.exactly((n + 7) // 8), np.uint8)
    except ValueError:
        return None
    return _Log(ino, size, used, np.unpackbits(bits, count=n, bitorder="little").view(np.bool_))


def load_vectors(index: "Index", now: NDArray[np.uint32]) -> tuple[VectorIndex, int]:
    """The vector index over a table of those versions; and how many rows the snapshot did not have."""
    restored = _restored(index)
    if restored is None:
        vectors, had = index.form, np.full(0, UNUSED, np.uint32)
    else:
        vectors, had = restored
    then = np.full(len(now), UNUSED, np.uint32)
    then[: min(len(had), len(now))] = had[: len(now)]
    gone = np.flatnonzero((had != UNUSED) & (_fitted(now, len(had)) != had)).astype(np.uint32)
    if len(gone):
        vectors.remove(gone)
    index.table.attach(vectors, keep=index.rows_in == "memory")
    fresh = np.flatnonzero((now != UNUSED) & (now != then)).astype(np.uint32)
    _put(index, vectors, fresh)
    wanted = np.flatnonzero(now != UNUSED).astype(np.uint32)
    if len(vectors) != len(wanted):  # a row had left when the lists were written, and came back as what it was
        missing = np.array([row for row in wanted.tolist() if row not in vectors], np.uint32)
        _put(index, vectors, missing)
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
        index.refuse_closed()
        first = int(rows[at])
        end = int(np.searchsorted(rows, first + most))
        part = rows[at:end]
        span = int(part[-1]) - first + 1
        data = np.frombuffer(index.filesystem.read(ino, span * size, first * size), np.uint8)
        if len(data) < span * size:
            raise OSError(errno.EBADMSG, "ends before the last vector", f"{index.home}/vectors")
        vectors.put(part, np.ascontiguousarray(data.reshape(span, size)[part - np.uint32(first)]))
        at = end


def save_snapshot(index: "Index") -> None:
    """Write snapshots of what the index is now."""
    _save(index, VECTORS, index.vectors.dump)
    with contextlib.suppress(FileNotFoundError):
        index.filesystem.unlink(f"{index.home}/{LEARNED}")  # it is in there
    if len(index.words):
        _save(index, WORDS, index.words.dump, index.loading.log_used)


def save_learned(index: "Index") -> None:
    """Keep what was learnt of queries since the snapshot was written."""
    if learned := index.vectors.learned():
        _replace(index.filesystem, f"{index.home}/{LEARNED}", learned)


def _replace(filesystem: Filesystem, path: str, content: bytes) -> None:
    """Write a file whole, or leave what is there."""
    try:
        filesystem.write_file(path + ".new", content, 0o600)
    except OSError:
        with contextlib.suppress(OSError):
            filesystem.unlink(path + ".new")
        raise
    filesystem.rename(path + ".new", path)


def _save(
    index: "Index", name: str, dump: Callable[[Callable[[Any], None]], None], log_used: int | None = None
) -> None:
    filesystem, path = index.filesystem, f"{index.home}/{name}"
    with contextlib.suppress(FileNotFoundError):
        filesystem.unlink(path + ".new")
    filesystem.write_file(path + ".new", b"", 0o600)
    try:
        _write(index, filesystem.resolve(path + ".new"), dump, log_used)
    except BaseException:
        filesystem.unlink(path + ".new")
        raise
    filesystem.rename(path + ".new", path)


def _write(index: "Index", ino: int, dump: Callable[[Callable[[Any], None]], None], log_used: int | None) -> None:
    filesystem, behind = index.filesystem, b""
    # What is put or removed while this goes on has another version, or none, when the snapshot is read.
    with index.writer.lock:
        if log_used is not None:  # before the versions: a row that leaves in between has words and another version
            words, n = index.file("words"), len(index.table)
            held = np.packbits(index.words.held(n), bitorder="little").tobytes()
            behind = LOG_HEAD.pack(LOG_MAGIC, words, filesystem.getattr(words).st_size, log_used, n) + held
        versions = index.table.versions()
    filesystem.write(ino, HEAD.pack(MAGIC, len(versions)) + versions.tobytes(), 0)
    at = HEAD.size + versions.nbytes

    def write(data: Any) -> None:
        nonlocal at
        at += filesystem.write(ino, data, at)

    dump(write)
    write(behind)


def load_words(index: "Index", now: NDArray[np.uint32]) -> tuple[WordIndex, int]:
    """The keyword index over a table of those versions; about how much of the log of its records is in use."""
    words, had, log = _restored_words(index)
    gone = np.flatnonzero((had != UNUSED) & (_fitted(now, len(had)) != had)).astype(np.uint32)
    if len(gone):
        words.remove(gone)
    then = _fitted(had, len(now))
    ino = index.file("words")
    size = index.filesystem.getattr(ino).st_size
    if log is not None and log.ino == ino and log.size <= size < 2 * log.used + LOG_BYTES:
        found, _ = _logged(index, now, log.size)
        _put_words(index, words, found, then, now)
        # One that was away when the snapshot was made, or left meanwhile, and came back as what it was.
        held = words.held(len(now))
        had_words = np.zeros(len(now), np.bool_)
        had_words[: min(len(now), len(log.held))] = log.held[: len(now)]
        if not (~held & (now != UNUSED) & (had_words | (then != now))).any():
            return words, log.used
    found, live = _logged(index, now)
    _put_words(index, words, found, then, now)
    return words, live


def _put_words(
    index: "Index", words: WordIndex, found: dict[int, bytes], then: NDArray[np.uint32], now: NDArray[np.uint32]
) -> None:
    """Records of rows that were taken into use since, or are missing."""
    fresh = [(row, record) for row, record in found.items() if then[row] != now[row] or row not in words]
    for at in range(0, len(fresh), PUT_AT_ONCE):
        index.refuse_closed()
        rows, records = zip(*fresh[at : at + PUT_AT_ONCE], strict=True)
        words.put(np.array(rows, np.uint32), records)


def _logged(index: "Index", versions: NDArray[np.uint32], begin: int = 0) -> tuple[dict[int, bytes], int]:
    """The records of rows as they are in use now, from a place in the log on, and how many bytes of it they take."""
    ino = index.file("words")
    data = index.filesystem.read(ino, index.filesystem.getattr(ino).st_size - begin, begin)
    known = versions.tolist() if data else []
    found: dict[int, bytes] = {}
    at = live = 0
    while at + WORD_HEAD.size <= len(data):
        row, version, n = WORD_HEAD.unpack_from(data, at)
        at += WORD_HEAD.size
        if at + n > len(data):
            log.warning("the keyword log of index %d ends within a record", index.description.number)
            break
        if row < len(known) and known[row] == version:
            found[row] = data[at : at + n]
            live += WORD_HEAD.size + n
        at += n
    return found, live


def rewrite_words(index: "Index") -> int:
    """A log of the records that are in use, in place of one that is mostly dead, while nobody writes; its bytes."""
    versions = index.table.versions()
    found, live = _logged(index, versions)
    if live > index.filesystem.getattr(index.file("words")).st_size // 2:
        return live
    text = b"".join(WORD_HEAD.pack(row, versions[row], len(record)) + record for row, record in found.items())
    _replace(index.filesystem, f"{index.home}/words", text)
    index.table.use_words(index.file("words"))
    return len(text)


def shorten_words(index: "Index", used: int) -> int:
    """Rewrite a log that has become much longer than what was in use of it; how much is in use, or was."""
    if (size := index.filesystem.getattr(index.file("words")).st_size) < 2 * used + LOG_BYTES:
        return used
    try:
        with index.writer.lock:
            return rewrite_words(index)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return size  # there is no room for it: when it has grown as much again
