"""An index: the vectors of the files below one directory.

On disk it is a table of rows, the stored vectors and a log of keyword records, each an ordinary file of the volume; the
structures that are searched are made of them in memory.  What makes rows go (removing, moving, rewriting a file) happens
in the filesystem's operations; what makes them come passes through here, one writer at a time.
"""

import contextlib
import errno
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vexfs._core.fs import Filesystem
from vexfs._core.rows import HIT_PATH, HIT_XATTRS, PUT_MAX, RecordFailed, RowTable
from vexfs._core.vindex import VectorIndex
from vexfs._core.words import WordIndex
from vexfs.errors import InvalidArgument, VectorInvalid
from vexfs.search.description import Description
from vexfs.search.hits import Hit, Hits, unpack_attributes
from vexfs.search.query import Reader
from vexfs.search.records import Attributes, contents_of, names_of, vectors_of, xattrs_of
from vexfs.search.snapshot import load_snapshot, load_words, save_snapshot
from vexfs.store.attributes import Scalar

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog

#: Records of a batch that are one change; a larger batch is cut into such.
BATCH = 8192
#: A snapshot is written when this share of the rows, and at least so many, changed since the last.
SNAPSHOT_SHARE, SNAPSHOT_ROWS = 0.2, 20_000
INLINE_MAX = 4096


@attrs.frozen
class Record:
    """A record as it is stored.

    Attributes
    ----------
    vector : float32 (dim,) or None
        The first vector of the file; None where it has none.
    """

    id: str
    path: str
    vector: NDArray[np.float32] | None = attrs.field(repr=False)
    attributes: dict[str, Scalar]


class Index:
    """The index of one directory; made by ``fs.index`` and the catalog.  Thread-safe.

    Attributes
    ----------
    description : Description
    table : RowTable
    vectors : VectorIndex
    words : WordIndex
    """

    def __init__(self, catalog: "Catalog", description: Description) -> None:
        self.catalog, self.description = catalog, description
        self.filesystem: Filesystem = catalog.filesystem
        self.home = f".vexfs/index-{description.number}"
        self.vectors = VectorIndex(
            description.dim, description.metric, description.dtype, simd=catalog.simd, pool=catalog.pool
        )
        self.words = WordIndex()
        self._writing = threading.RLock()
        self._changed = 0
        self._closed = False
        self.table = RowTable(
            self.filesystem, description.directory, *map(self.file, ("rows", "vectors", "words")),
            self.vectors.row_bytes,
        )  # fmt: skip
        self.vectors, self._changed = load_snapshot(self)
        load_words(self)
        self.table.watch(self.vectors, self.words)
        self._reader = Reader(self)

    def file(self, name: str) -> int:
        """Inode number of one of the index's files."""
        return self.filesystem.resolve(f"{self.home}/{name}")

    @staticmethod
    def make_files(filesystem: Filesystem, description: Description) -> None:
        """Make the files of a new index."""
        home = f".vexfs/index-{description.number}"
        filesystem.mkdir(home, 0o700)
        for name in ("rows", "vectors", "words"):
            filesystem.write_file(f"{home}/{name}", b"", 0o600)

    # -- what it is

    @property
    def path(self) -> str:
        """The directory's path, with a leading slash."""
        return self.filesystem.path_of(self.description.directory).decode("utf-8", "surrogateescape")

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self.description.dim

    @property
    def metric(self) -> str:
        """``cosine``, ``l2`` or ``dot``."""
        return self.description.metric

    @property
    def dtype(self) -> str:
        """What vectors are stored as: ``f32``, ``f16``, ``bf16`` or ``i8``."""
        return self.description.dtype

    @property
    def embedder(self) -> str | None:
        """The model that embeds text below the directory."""
        return self.description.embedder

    @property
    def state(self) -> dict[str, Any]:
        """What is kept with the index by those who work on it; changed by :meth:`keep`."""
        return self.description.state

    def keep(self, **state: Any) -> None:
        """Keep values with the index: JSON scalars, lists, mappings."""
        self.catalog.update(self, state={**self.description.state, **state})

    def __len__(self) -> int:
        self.catalog.settle()
        return self.table.files

    def describe(self) -> dict[str, Any]:
        """What the index is and how it stands: counts, bytes in memory, upkeep under way."""
        self.catalog.settle()
        return {
            "path": self.path, "number": self.description.number, "dim": self.dim, "metric": self.metric,
            "dtype": self.dtype, "embedder": self.embedder, "created": self.description.created,
            "files": self.table.files, "rows": self.table.stats(), "vectors": self.vectors.stats(),
            "words": self.words.stats(), "memory": self.memory(), "state": dict(self.state),
        }  # fmt: skip

    def memory(self) -> dict[str, int]:
        """Bytes in memory, by part."""
        return {
            **self.vectors.memory(), "words": sum(self.words.memory().values()),
            "table": 32 * len(self.table) + 24 * self.table.files, "columns": self._reader.columns.memory(),
        }  # fmt: skip

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.path!r}, {self.table.files} files"
        return f"<Index {self.description.number} {state}, dim={self.dim} {self.metric} {self.dtype}>"

    # -- putting

    def upsert(
        self, ids: Iterable[str], vectors: ArrayLike, attributes: Attributes = None,
        contents: Sequence[str | bytes | None] | None = None, *, errors: str = "raise",
    ) -> Any:
        """Store records: a file each, with its vector and attributes.  Searchable on return.

        Parameters
        ----------
        ids : iterable of str
            Names of files in the directory (``a/b``: below it); those that do not exist are made.
        vectors : float (n, dim)
        attributes : sequence of n mappings, or a mapping of n values each, optional
            Laid over those that a file has.
        contents : sequence of n str or bytes, optional
            Of the files; None leaves one as it is.
        errors : {"raise", "report"}
            "report": what can be stored is stored, and the answer is a list of n, None or the error of that record.

        Returns
        -------
        int or list
            How many records there were; with ``errors="report"`` the list.

        Raises
        ------
        VectorInvalid, InvalidArgument
            Nothing of the batch was stored.
        """
        return self._put(ids, vectors, attributes, contents, errors=errors)

    def add(
        self, ids: Iterable[str], vectors: ArrayLike, attributes: Attributes = None,
        contents: Sequence[str | bytes | None] | None = None,
    ) -> Any:
        """As :meth:`upsert`, of records that do not exist yet; ``Exists`` otherwise, and nothing is stored."""
        return self._put(ids, vectors, attributes, contents, exclusive=True)

    def update(self, ids: Iterable[str], vectors: ArrayLike | None = None, attributes: Attributes = None) -> Any:
        """Change vectors, attributes or both of records that exist; ``NotFound`` otherwise, and nothing is changed."""
        return self._put(ids, vectors, attributes, None, create=False)

    def _put(
        self, ids: Iterable[str], vectors: ArrayLike | None, attributes: Attributes,
        contents: Sequence[str | bytes | None] | None, *, errors: str = "raise", exclusive: bool = False,
        create: bool = True,
    ) -> Any:
        if errors not in ("raise", "report"):
            raise InvalidArgument.at(f'errors={errors!r}; "raise" and "report" are known')
        names = names_of(ids)
        n = len(names)
        report: list[Exception | None] = [None] * n
        keep = np.ones(n, np.bool_)
        stored = np.empty((0, self.vectors.row_bytes), np.uint8)
        if vectors is not None:
            if errors == "report":
                vectors, keep = self._sound(vectors, report)
            x = vectors_of(vectors, self.dim, self.metric, n)
            stored = self._encoded(x)
        xattrs = xattrs_of(attributes, n)
        texts = contents_of(contents, n)
        for batch in self._batches(names, np.flatnonzero(keep)):
            while batch.size:
                try:
                    self._put_batch(batch, names, stored, xattrs, texts, vectors is None, exclusive, create)
                    break
                except RecordFailed as failed:
                    if errors == "raise":
                        raise failed.error from None
                    report[int(batch[failed.at])] = failed.error
                    batch = np.delete(batch, failed.at)
        self.catalog.hint(self)
        return report if errors == "report" else n

    def _sound(self, vectors: ArrayLike, report: list[Exception | None]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Vectors with those that cannot be stored replaced by one that can, and which are sound."""
        x = np.array(vectors, dtype=np.float32)
        keep = np.ones(len(report), np.bool_)
        for k in range(len(report)):
            try:
                self._encoded(vectors_of(x[k], self.dim, self.metric, 1))
            except VectorInvalid as error:
                report[k], keep[k], x[k] = error, False, 1.0
        return x, keep

    def _encoded(self, x: NDArray[np.float32]) -> NDArray[np.uint8]:
        try:
            return self.vectors.encode(x)
        except (ValueError, OverflowError) as error:
            raise VectorInvalid(f"{error}; the index stores {self.dtype}") from None

    def _batches(self, names: list[bytes], places: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        """Places of one directory at a time, at most BATCH."""
        if not any(b"/" in name for name in names):
            groups = [places]
        else:
            by_parent: dict[bytes, list[int]] = {}
            for k in places:
                by_parent.setdefault(names[k].rpartition(b"/")[0], []).append(int(k))
            groups = [np.array(g, np.intp) for g in by_parent.values()]
        for group in groups:
            for at in range(0, len(group), BATCH):
                yield group[at : at + BATCH]

    def _parent(self, name: bytes, create: bool) -> int:
        above = name.rpartition(b"/")[0]
        if not above:
            return self.description.directory
        base = self.filesystem.path_of(self.description.directory).rstrip(b"/")
        parts = above.split(b"/")
        for k in range(1, len(parts) + 1 if create else 0):
            with contextlib.suppress(FileExistsError):
                self.filesystem.mkdir(base + b"/" + b"/".join(parts[:k]), 0o755)
        return self.filesystem.resolve(base + b"/" + above)

    def _put_batch(
        self, places: NDArray[np.intp], names: list[bytes], stored: NDArray[np.uint8], xattrs: list[bytes | None] | None,
        texts: list[bytes | None] | None, keep_rows: bool, exclusive: bool, create: bool,
    ) -> None:
        whole = len(places) == len(names)
        pick = places.tolist()
        some = None if texts is None else [texts[k] for k in pick]
        late = {k: c for k, c in enumerate(some or ()) if c is not None and len(c) > INLINE_MAX}
        parent = self._parent(names[pick[0]], create)
        with self._writing:
            while True:
                try:
                    taken, inos = self.table.put(
                        [names[k].rpartition(b"/")[2] for k in pick],
                        stored if keep_rows or whole else stored[places], parent=parent,
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
            if not keep_rows:
                self._taken(taken, inos, stored if whole else stored[places])
        for k, content in late.items():
            self._write_content(int(inos[k]), content)

    def _write_content(self, ino: int, content: bytes) -> None:
        self.filesystem.truncate_ino(ino, 0)
        self.filesystem.write(ino, content, 0)

    def _taken(self, taken: NDArray[np.uint32], inos: NDArray[np.uint64], stored: NDArray[np.uint8]) -> None:
        """Rows that the table took: into the vector index."""
        self.vectors.put(taken, stored)
        self.table.confirm(taken, inos)
        self._changed += len(taken)

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
        n = len(spans)
        if n > PUT_MAX:
            raise InvalidArgument.at(f"{n} passages of one file; {PUT_MAX} are the most")
        x = vectors_of(vectors, self.dim, "l2", n) if n else np.empty((0, self.dim), np.float32)
        stored = self._encoded(x)
        records = [self.words.encode(text) for text in texts]
        pairs = np.array([(s, e - s) for s, e in spans], np.uint32).reshape(n, 2)
        with self._writing:
            try:
                taken, inos = self.table.put(
                    [ino], stored, counts=np.array([n], np.uint32), spans=pairs, words=records,
                    generations=np.array([generation], np.uint64), from_content=True, create=False,
                )  # fmt: skip
            except RecordFailed:
                return False
            self.words.put(taken, records)
            self._taken(taken, np.repeat(inos, n), stored)
        self.catalog.hint(self)
        return True

    def set_vectors(self, ino: int, vectors: ArrayLike) -> None:
        """Give the file with that inode number these vectors, (n, dim) or (dim,), in place of those it has."""
        x = vectors_of(vectors, self.dim, self.metric)
        stored = self._encoded(x)
        with self._writing:
            try:
                taken, inos = self.table.put([ino], stored, counts=np.array([len(x)], np.uint32), create=False)
            except RecordFailed as failed:
                raise failed.error from None
            self._taken(taken, np.repeat(inos, len(x)), stored)
        self.catalog.hint(self)

    def take_back(self, ino: int) -> None:
        """A file that had left is back below the directory: its rows are searched again.

        Rows that were made from its text go instead: it is read again, as one that is new.
        """
        with self._writing:
            if self.made_from_text(ino):
                self.table.drop(ino)
            elif self.table.take_back(ino):
                found = self.table.rows_of(ino)
                stored = self.stored(found)
                self._taken(found, np.full(len(found), ino, np.uint64), stored)

    def take_over(self, ino: int, other: "Index") -> None:
        """The vectors of a file that moved here from the directory of another index."""
        found = other.table.rows_of(ino)
        if len(found):
            self.set_vectors(ino, other.vectors.decode(other.stored(found)))

    # -- reading back

    def stored(self, found: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """Stored vectors of rows, uint8 (n, row_bytes), read from the volume."""
        size = self.vectors.row_bytes
        out = np.empty((len(found), size), np.uint8)
        ino = self.file("vectors")
        for k, row in enumerate(found.tolist()):
            self.filesystem.readinto(ino, out[k], row * size)
        return out

    def get(self, ids: Iterable[str] | str) -> Any:
        """Records by id: a list of `Record`, None where there is none; of a single id that alone."""
        if isinstance(ids, str | bytes):
            return self.get([ids])[0]
        self.catalog.settle()
        base = self.filesystem.path_of(self.description.directory).rstrip(b"/")
        return [self._record(base + b"/" + name, name) for name in names_of(ids)]

    def _record(self, path: bytes, name: bytes) -> Record | None:
        try:
            found = self.table.rows_of(self.filesystem.resolve(path))
        except FileNotFoundError:
            return None
        hits = self.table.hits(found[:1], HIT_PATH | HIT_XATTRS)
        if not hits:
            return None
        vector = self.vectors.decode(self.stored(found[:1]))[0]
        return Record(
            name.decode("utf-8", "surrogateescape"), hits[0][5].decode("utf-8", "surrogateescape"), vector,
            unpack_attributes(hits[0][6]),
        )  # fmt: skip

    def vectors_of(self, ino: int) -> NDArray[np.float32]:
        """The vectors of a file, float32 (n, dim); n may be 0."""
        return self.vectors.decode(self.stored(self.table.rows_of(ino)))

    def generation_of(self, ino: int) -> int | None:
        """The low 32 bits of the content generation that a file's rows were made from; None: it has no rows."""
        found = self.table.rows_of(ino)
        return int(self.table.rows(int(found[0]), 1)["generation"][0]) if len(found) else None

    def made_from_text(self, ino: int) -> bool:
        """Whether a file's rows were made from its content."""
        found = self.table.rows_of(ino)
        return bool(len(found)) and bool(int(self.table.rows(int(found[0]), 1)["ino"][0]) >> 40 & 1)

    def files(self) -> NDArray[np.uint64]:
        """Inode numbers of the files that have rows, uint64 (n,), ascending."""
        inos = self.table.rows()["ino"] & np.uint64((1 << 40) - 1)
        return np.unique(inos[inos != 0])

    # -- taking away

    def delete(self, ids: Iterable[str] | None = None, where: Mapping[str, Any] | None = None) -> int:
        """Remove records, which removes their files.  How many there were.

        Parameters
        ----------
        ids : iterable of str, optional
        where : mapping, optional
            One of the two is given.
        """
        if (ids is None) == (where is None):
            raise InvalidArgument.at("delete takes ids or where, one of them")
        base = self.filesystem.path_of(self.description.directory).rstrip(b"/")
        if ids is not None:
            paths = [base + b"/" + name for name in names_of([ids] if isinstance(ids, str | bytes) else ids)]
        else:
            paths = self._reader.paths(where)
        gone = 0
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                self.filesystem.unlink(path)
                gone += 1
        self.catalog.hint(self)
        return gone

    def drop_rows(self, ino: int) -> bool:
        """Take a file's vectors away; the file stays.  Whether it had any."""
        return self.table.drop(ino)

    # -- searching

    def count(self, where: Mapping[str, Any] | None = None, under: Any = None) -> int:
        """Files with vectors, that match a filter, below a directory."""
        return self._reader.count(where, under)

    def query(
        self, vectors: ArrayLike, k: int = 10, *, where: Mapping[str, Any] | None = None, under: Any = None,
        recall: float = 0.95, effort: int | None = None, exact: bool | None = None, threshold: float | None = None,
        explain: bool = False, threads: int = 1,
    ) -> Any:
        """The nearest files.

        Parameters
        ----------
        vectors : float (dim,) or (n, dim)
            One query, or n of them.
        k : int
            At most 10,000.
        where : mapping, optional
            A filter on attributes; evaluated before the search, so that k files are found if so many match.
        under : path, optional
            A directory: only files below it.
        recall : float
            The share of the true neighbours that is wanted, on average; more costs time.
        effort : int, optional
            Lists to look into, instead of `recall`.
        exact : bool, optional
            True compares with every row; left out, that is done where it is cheap.
        threshold : float, optional
            Only what is at most that far away (as the metric has it: 1 - cosine, euclidean distance, negative inner
            product).
        explain : bool
            Say in ``Hits.explanation`` how the search was done.

        Returns
        -------
        Hits
            A list of `Hit`; for n queries a list of n `Hits`.
        """
        return self._reader.query(
            vectors, k, where=where, under=under, recall=recall, effort=effort, exact=exact, threshold=threshold,
            explain=explain, threads=threads,
        )  # fmt: skip

    def mask(self, where: Mapping[str, Any] | None, under: Any = None) -> tuple[NDArray[np.uint64] | None, int]:
        """The live rows that match a filter below a directory: a bit array (None: all), and how many."""
        return self._reader.mask(where, under)

    def hits(
        self, found: NDArray[np.uint32], scores: NDArray[np.float32], distances: NDArray[np.float32], k: int
    ) -> Hits:
        """At most k files of rows that are in order, the passages of one file together."""
        return self._reader.hits(found, scores, distances, k)

    def hit_of(self, ino: int, score: float = 0.0) -> Hit | None:
        """The file with that inode number as a hit, or None."""
        return self._reader.hit_of(ino, score)

    # -- upkeep

    def maintain(self, budget_ms: int) -> bool:
        """A slice of background work; whether there is more."""
        if self._closed:
            return False
        more = self.vectors.maintain(budget_ms)
        more |= self.words.maintain(budget_ms)
        if not more and self._changed >= max(SNAPSHOT_ROWS, SNAPSHOT_SHARE * self.table.live):
            self._save()
        return more

    def _save(self) -> None:
        with self._writing:
            changed, self._changed = self._changed, 0
        try:
            save_snapshot(self)
        except OSError:
            self._changed += changed
            raise

    def close(self, *, snapshot: bool) -> None:
        """Let the index go."""
        if self._closed:
            return
        self._closed = True
        if snapshot and self._changed >= max(SNAPSHOT_ROWS, 0.02 * self.table.live):
            self._save()
        self.table.close()
