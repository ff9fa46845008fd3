"""The writing side of an index: records, passages and vectors into the row table and, at once, into what is searched.

One writer at a time: a row that the table gives out is in the vector index before it can be given out again.
"""

import contextlib
import errno
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vexfs._core.record import names_of, pack
from vexfs._core.rows import PUT_MAX, RecordFailed
from vexfs._core.vindex import VectorIndex
from vexfs._core.words import WordIndex
from vexfs.errors import InvalidArgument, VectorInvalid
from vexfs.search.records import Attributes, contents_of, float32_of, numbers_of, vectors_of
from vexfs.search.straight import straight

if TYPE_CHECKING:
    from vexfs.search.index import Index

#: Records of a batch that are one change; a larger batch is cut into such.
BATCH = 8192
INLINE_MAX = 4096
#: Numbers of smaller size are zero as f16.
F16_LEAST = 2.0**-24

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Places = NDArray[np.intp]


def encoded(vectors: VectorIndex, x: Floats) -> Bytes:
    """Vectors as an index stores them, uint8 (n, row_bytes); ``VectorInvalid`` where its type cannot hold them."""
    if vectors.dtype == "f16" and vectors.metric == "cosine" and len(x):
        least = np.abs(x).max(axis=1)
        if least.min() < F16_LEAST:
            small = f"vector {int(least.argmin())} has no number above {least.min():g}"
            raise VectorInvalid(f"{small}, which f16 cannot tell from zero")
    try:
        return vectors.encode(x)
    except (ValueError, OverflowError) as error:
        raise VectorInvalid(f"{error}; the index stores {vectors.dtype}") from None


class Writer:
    """What writes to one index.

    Attributes
    ----------
    changed : int
        Rows put since the last snapshot.
    """

    def __init__(self, index: "Index") -> None:
        self._index, self._table, self._filesystem = index, index.table, index.filesystem
        self.lock = threading.RLock()
        self.changed = 0

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else puts rows, and there is what they are put into."""
        self._index.loading.both()
        with self.lock:
            yield

    def put(
        self, ids: Iterable[str], vectors: ArrayLike | None, attributes: Attributes,
        contents: Sequence[str | bytes | None] | None, *, errors: str = "raise", exclusive: bool = False,
        create: bool = True,
    ) -> Any:
        """Records, new or there: see :meth:`Index.upsert`, :meth:`Index.add`, :meth:`Index.update`."""
        if not create and vectors is None and attributes is None:
            raise InvalidArgument.at("update takes vectors, attributes, or both")
        if errors not in ("raise", "report"):
            raise InvalidArgument.at(f'errors={errors!r}; "raise" and "report" are known')
        if isinstance(ids, str | bytes):
            ids, attributes, contents = [ids], _as_one(attributes), _as_one(contents)
        names = names_of(ids)
        n = len(names)
        report: list[Exception | None] = [None] * n
        keep = np.ones(n, np.bool_)
        stored = np.empty((0, self._index.form.row_bytes), np.uint8)
        if vectors is not None:
            if errors == "report":
                vectors, keep = self._sound(vectors, report)
            x = vectors_of(vectors, self._index.dim, self._index.metric, n)
            stored = self._encoded(x)
        xattrs = None if attributes is None else pack(attributes, n)
        texts = contents_of(contents, n)
        places = np.flatnonzero(keep)
        for at in range(0, len(places), BATCH):
            batch = places[at : at + BATCH]
            while batch.size:
                try:
                    self._put_batch(batch, names, stored, xattrs, texts, vectors is None, exclusive, create)
                    break
                except RecordFailed as failed:
                    if errors == "raise":
                        raise _placed(failed.error) from None
                    report[int(batch[failed.at])] = _placed(failed.error)
                    batch = np.delete(batch, failed.at)
        return report if errors == "report" else n

    def _sound(self, vectors: ArrayLike, report: list[Exception | None]) -> tuple[Floats, NDArray[np.bool_]]:
        """Vectors with those that cannot be stored replaced by one that can, and which are sound."""
        wanted = f"vectors are numbers, {self._index.dim} each"
        given = numbers_of(vectors, wanted)
        x = np.array(float32_of(given, wanted), ndmin=2)
        if x.shape != (len(report), self._index.dim):
            shape = "x".join(map(str, given.shape)) or "scalar"
            raise VectorInvalid(f"vectors of shape {shape}; {len(report)}x{self._index.dim} is wanted")
        given, keep = given.reshape(x.shape), np.ones(len(report), np.bool_)
        for k in range(len(report)):
            try:
                self._encoded(vectors_of(given[k], self._index.dim, self._index.metric, 1))
            except VectorInvalid as error:
                told = str(error).replace("vector 0 ", f"vector {k} ", 1)  # looked at alone each is the first
                report[k], keep[k], x[k] = VectorInvalid(told), False, 1.0
        return x, keep

    def _encoded(self, x: Floats) -> Bytes:
        return encoded(self._index.form, x)

    def _parents(self, names: list[bytes], create: bool) -> int | list[int]:
        """The directory of all names, or of each."""
        if not any(b"/" in name for name in names):
            return self._index.description.directory
        known: dict[bytes, int] = {}
        for k, name in enumerate(names):
            above = name.rpartition(b"/")[0]
            if above not in known:
                try:
                    known[above] = self._parent(name, create)
                except OSError as error:
                    raise RecordFailed(k, error) from None
        return [known[name.rpartition(b"/")[0]] for name in names]

    def _parent(self, name: bytes, create: bool) -> int:
        above = name.rpartition(b"/")[0]
        if not above:
            return self._index.description.directory
        base = self._filesystem.path_of(self._index.description.directory).rstrip(b"/")
        straight(self._filesystem, base, [name])
        parts = above.split(b"/")
        for k in range(1, len(parts) + 1 if create else 0):
            with contextlib.suppress(FileExistsError):
                self._filesystem.mkdir(base + b"/" + b"/".join(parts[:k]), 0o755)
        return self._mine(self._filesystem.resolve(base + b"/" + above), above)

    def _mine(self, directory: int, name: bytes) -> int:
        """The same directory, unless a nested index has it."""
        over = self._index.catalog.covering(directory)
        if over is not None and over is not self._index:
            told = f"lies in the directory of another index, {over.path}: it is for that one"
            raise InvalidArgument.at(told, name.decode("utf-8", "replace"))
        return directory

    def _put_batch(
        self, places: Places, names: list[bytes], stored: Bytes, xattrs: list[bytes | None] | None,
        texts: list[bytes | None] | None, keep_rows: bool, exclusive: bool, create: bool,
    ) -> None:
        whole = len(places) == len(names)
        pick = places.tolist()
        some = None if texts is None else [texts[k] for k in pick]
        late = {k: c for k, c in enumerate(some or ()) if c is not None and len(c) > INLINE_MAX}
        parent = self._parents([names[k] for k in pick], create)
        rows = stored if keep_rows or whole else stored[places]
        with self._alone():
            while True:
                try:
                    taken, inos = self._table.put(
                        [names[k].rpartition(b"/")[2] for k in pick], rows, parent=parent,
                        xattrs=None if xattrs is None else xattrs if whole else [xattrs[k] for k in pick],
                        contents=None if some is None else [None if k in late else c for k, c in enumerate(some)],
                        create=create, exclusive=exclusive, keep_rows=keep_rows,
                    )  # fmt: skip
                    break
                except RecordFailed as failed:
                    # A file that is large has its content replaced as any other: not in the same change.
                    if failed.error.errno != errno.EFBIG or some is None or failed.at in late:
                        raise
                    late[failed.at] = some[failed.at]
            since = 0 if keep_rows else self._taken(taken, inos, rows)
        for k, content in late.items():
            self._write_content(int(inos[k]), content)
        if not keep_rows:
            self._told(taken, rows, since)

    def _write_content(self, ino: int, content: bytes) -> None:
        self._filesystem.truncate_ino(ino, 0)
        self._filesystem.write(ino, content, 0)

    def _taken(self, taken: NDArray[np.uint32], inos: NDArray[np.uint64], stored: Bytes) -> int:
        """Rows that the table took: into the vector index; by which moment they are."""
        self._index.vectors.put(taken, stored)
        self._table.confirm(taken, inos)
        self.changed += len(taken)
        return self._table.moment

    def _told(self, taken: NDArray[np.uint32], stored: Bytes, since: int, news: bool = True) -> None:
        """Outside the lock: there is work for the index, and news for those who wait for files that match."""
        self._index.catalog.upkeep.hint(self._index)
        if len(taken) and news:
            self._index.catalog.written(self._index, taken, stored, since)

    def put_chunks(
        self, ino: int, generation: int, spans: Sequence[tuple[int, int]], texts: Sequence[str], vectors: ArrayLike
    ) -> bool:
        """Replace the rows of a file by those of its passages, as one change.

        Parameters
        ----------
        ino, generation : int
            The file, and the generation of the content that the passages were taken from.
        spans : sequence of (start, end)
            Bytes of the file; (0, 0) where they are not known.
        texts : sequence of str
            The passages' text, for the keyword index.
        vectors : float (len(spans), dim)

        Returns
        -------
        bool
            False: the file has another content meanwhile, or is gone; nothing was changed.
        """
        records = WordIndex.encode_all(texts)
        return bool(self.put_files([(ino, generation, len(spans))], spans, records, vectors)[0])

    def put_files(
        self, files: Sequence[tuple[int, int, int]], spans: Sequence[tuple[int, int]],
        records: Sequence[bytes] | None, vectors: ArrayLike, *, called: Sequence[bytes] | None = None,
        told: bool = True,
    ) -> list[bool]:
        """As `put_chunks` for several files at once, which costs less.

        `files` has the inode number, generation and number of passages of each; then come the passages of all of them,
        one after the other; `records` are what `WordIndex.encode` gave for their text, None: they have no words.
        `called`: the names under which they were read; one that has another now is not put.  `told` False: nobody is
        told who waits for files that match.
        """
        total = sum(count for _, _, count in files)
        dim = self._index.dim
        x = vectors_of(vectors, dim, "l2", total) if total else np.empty((0, dim), np.float32)
        return self.put_stored(files, spans, records, self._encoded(x), called=called, told=told)

    def put_stored(
        self, files: Sequence[tuple[int, int, int]], spans: Sequence[tuple[int, int]],
        records: Sequence[bytes] | None, stored: Bytes, *, called: Sequence[bytes] | None = None, told: bool = True,
    ) -> list[bool]:
        """As `put_files` of vectors as the index stores them, uint8 (n, row_bytes)."""
        total = len(stored)
        if total > PUT_MAX:
            raise InvalidArgument.at(f"{total} passages at once; {PUT_MAX} are the most")
        pairs = np.array([(s, e - s) for s, e in spans], np.uint32).reshape(total, 2)
        inos, generations, counts = (np.array(column, np.uint64) for column in zip(*files, strict=True))
        file_of = np.repeat(np.arange(len(files)), counts.astype(np.intp))
        done = np.ones(len(files), np.bool_)
        taken, rows, since = np.empty(0, np.uint32), stored, 0
        with self._alone():
            while done.any():
                places = np.flatnonzero(done[file_of])
                rows = stored if len(places) == total else stored[places]
                chosen = None if records is None else [records[k] for k in places.tolist()]
                try:
                    taken, owners = self._table.put(
                        inos[done].tolist(), rows, counts=counts[done].astype(np.uint32), spans=pairs[places],
                        words=chosen, generations=generations[done], from_content=True, create=False,
                        called=None if called is None else [called[k] for k in np.flatnonzero(done).tolist()],
                    )  # fmt: skip
                except RecordFailed as failed:
                    done[np.flatnonzero(done)[failed.at]] = False
                    continue
                if chosen is not None:
                    self._index.words.put(taken, chosen)
                since = self._taken(taken, np.repeat(owners, counts[done].astype(np.intp)), rows)
                break
        self._told(taken, rows, since, told)
        found: list[bool] = done.tolist()
        return found

    def set_vectors(self, ino: int, vectors: ArrayLike) -> None:
        """Give the file with that inode number these vectors, (n, dim) or (dim,), in place of those it has."""
        x = vectors_of(vectors, self._index.dim, self._index.metric)
        stored = self._encoded(x)
        with self._alone():
            taken, since = self._put_vectors(ino, stored)
        self._told(taken, stored, since)

    def _put_vectors(self, ino: int, stored: Bytes) -> tuple[NDArray[np.uint32], int]:
        try:
            taken, inos = self._table.put([ino], stored, counts=np.array([len(stored)], np.uint32), create=False)
        except RecordFailed as failed:
            raise failed.error from None
        return taken, self._taken(taken, np.repeat(inos, len(stored)), stored)

    def take_back(self, ino: int) -> None:
        """A file that had left is back below the directory: its rows are searched again.

        Rows that were made from its text go instead: it is read again, as one that is new.
        """
        with self._alone():
            if self._index.made_from_content(ino):
                # Not, when it was read again already; without a model nobody reads it again.
                if self._index.is_away(ino) or self._index.embedder is None:
                    self._table.drop(ino)
                return
            if not self._table.take_back(ino):
                return
            found = self._table.rows_of(ino)
            stored = self._index.stored(found)
            since = self._taken(found, np.full(len(found), ino, np.uint64), stored)
        self._told(found, stored, since)

    def take_over(self, ino: int, other: "Index") -> None:
        """The vectors of a file that moved here from the directory of another index.

        For one thread at a time; what is put meanwhile, by name or for the file, comes before or after it.
        """
        with self._alone(), other.writer.lock:
            found = other.table.rows_of(ino)
            if not len(found):
                return
            x = vectors_of(other.form.decode(other.stored(found)), self._index.dim, self._index.metric)
            stored = self._encoded(x)
            taken, since = self._put_vectors(ino, stored)
        self._told(taken, stored, since)


def _as_one(given: Any) -> Any:
    """What was given for a record that was named alone."""
    return [given] if isinstance(given, Mapping | str | bytes) else given


def _placed(error: OSError) -> OSError:
    """The error with its file's name as text."""
    if isinstance(error.filename, bytes):
        error.filename = error.filename.decode("utf-8", "surrogateescape")
    return error
