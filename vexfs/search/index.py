"""An index: the vectors of the files below one directory.

On disk it is a table of rows, the stored vectors and a log of keyword records, each an ordinary file of the volume;
the structures that are searched are made of them in memory.  What makes rows go (removing, moving, rewriting a file)
happens in the filesystem's operations; what makes them come passes through the writer.
"""

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vexfs._core.fs import Filesystem
from vexfs._core.hits import HIT_PATH, HIT_XATTRS, nearest_plainly, rows_described
from vexfs._core.origin import AWAY, CONTENT, RENAMED, STALE, origin
from vexfs._core.record import names_of, unpack
from vexfs._core.rows import INO_MASK, RowTable
from vexfs._core.vindex import VectorIndex
from vexfs._core.words import WordIndex
from vexfs.errors import IndexClosed, InvalidArgument, describe
from vexfs.observe.tally import as_many, tallied
from vexfs.search.aside import Aside
from vexfs.search.description import Description
from vexfs.search.filters import refuse_empty
from vexfs.search.hits import Hit, Hits
from vexfs.search.loading import Loading
from vexfs.search.query import Reader
from vexfs.search.records import Attributes
from vexfs.search.rehearsal import Rehearsal
from vexfs.search.snapshot import save_learned, save_snapshot, shorten_words
from vexfs.search.straight import straight
from vexfs.search.writer import Writer
from vexfs.store.attributes import Scalar

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog
    from vexfs.search.filling import Filling

log = logging.getLogger("vexfs.search")

#: A snapshot is written when this share of the rows, and at least so many, changed since the last.
SNAPSHOT_SHARE, SNAPSHOT_ROWS = 0.2, 20_000
#: At closing a snapshot of fewer is worth its writing.
CLOSING_ROWS = 2000


def _queries(answer: Any) -> int:
    """How many queries were answered: one has `Hits`, several a list of them."""
    return 1 if isinstance(answer, Hits) else len(answer)


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
    vector: NDArray[np.float32] | None = attrs.field(repr=False, eq=attrs.cmp_using(eq=np.array_equal))
    attributes: dict[str, Scalar]


class Index:
    """The index of one directory; made by ``fs.index`` and the catalog.  Thread-safe.

    Attributes
    ----------
    description : Description
    table : RowTable
    form : VectorIndex
        What vectors are encoded and decoded with.
    aside : Aside
        Files that cannot be in it, each with the reason.
    """

    #: What it is made of on disk, beside snapshots.
    FILES = ("rows", "vectors", "words")

    def __init__(self, catalog: "Catalog", description: Description, filled: "Filling | None" = None) -> None:
        self.catalog, self.description = catalog, description
        self.filesystem: Filesystem = catalog.filesystem
        self.home, self.counted_as = f".vexfs/index-{description.number}", str(description.number)
        self.form = VectorIndex(
            description.dim, description.metric, description.dtype, simd=catalog.simd, pool=catalog.pool
        ) if filled is None else filled.vectors  # fmt: skip
        self._closed = False
        #: While it is embedded anew: ``embedder``, the files ``done`` and their ``total``.
        self.renewal: dict[str, Any] | None = None
        self.table = self._table()
        self.loading = Loading(self, filled)
        self.writer = Writer(self)
        self._reader = Reader(self)
        self.aside = Aside(self)

    def _table(self) -> RowTable:
        return RowTable(
            self.filesystem, self.description.directory, self.file("rows"), self.file("vectors"), self.file("words"),
            self.form.row_bytes,
        )  # fmt: skip

    @property
    def vectors(self) -> VectorIndex:
        """What is searched by vectors; loaded when it is first asked for."""
        found = self.loading.vectors
        return self.loading.load_vectors() if found is None else found

    @property
    def words(self) -> WordIndex:
        """What is searched by words; loaded when it is first asked for."""
        found = self.loading.words
        return self.loading.load_words() if found is None else found

    @cached_property
    def rehearsal(self) -> Rehearsal:
        """What prepares it for questions."""
        return Rehearsal(self.vectors)

    def refuse_closed(self) -> None:
        """Raise ``IndexClosed`` when it is of no use to load more of it."""
        if self._closed or self.catalog.ending:
            raise IndexClosed.at("the index is no more: it was dropped, or its volume was closed")

    def file(self, name: str) -> int:
        """Inode number of one of the index's files."""
        return self.filesystem.resolve(f"{self.home}/{name}")

    @staticmethod
    def make_files(filesystem: Filesystem, description: Description) -> None:
        """Make the files of a new index."""
        home = f".vexfs/index-{description.number}"
        filesystem.mkdir(home, 0o700)
        for name in Index.FILES:
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
    def rows_in(self) -> str:
        """Where stored vectors are when a search compares them: ``memory`` or ``disk``."""
        return self.description.rows_in

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
            "dtype": self.dtype, "rows_in": self.rows_in, "embedder": self.embedder,
            "created": self.description.created,
            "files": self.table.files, "rows": self.table.stats(), "vectors": self.vectors.stats(),
            "words": self.words.stats(), "memory": self.memory(), "state": dict(self.state),
            "aside": self.aside.listed(100),
            "ingest": self.catalog.ingesting().status_of(self) if self.embedder else None,
            "reembedding": self.renewal,
        }  # fmt: skip

    def memory(self) -> dict[str, int]:
        """Bytes in memory, by part."""
        parts = self.vectors.memory()
        del parts["codes"]  # they lie in what "lists" has
        return {
            **parts, "words": self.words.memory(),
            "table": 32 * len(self.table) + 24 * self.table.files, "columns": self._reader.columns.memory(),
        }  # fmt: skip

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.path!r}, {self.table.files} files"
        return f"<Index {self.description.number} {state}, dim={self.dim} {self.metric} {self.dtype}>"

    # -- putting

    @tallied("vector", "upsert", as_many)
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
        attributes : sequence of n mappings, mapping of n values each, or table (pandas, polars, Arrow), optional
            Laid over those that a file has.
        contents : sequence of n str or bytes, optional
            Of the files; None leaves one as it is.
        errors : {"raise", "report"}
            "report": what can be stored is stored, and the answer is a list of n, None or the error of that record.
            Ids that are no names, or come twice, and attributes of other types are raised all the same.

        Returns
        -------
        int or list
            How many records there were; with ``errors="report"`` the list.

        Raises
        ------
        VectorInvalid, InvalidArgument
            Nothing of the batch was stored.
        """
        return self.writer.put(ids, vectors, attributes, contents, errors=errors)

    @tallied("vector", "add", as_many)
    def add(
        self, ids: Iterable[str], vectors: ArrayLike, attributes: Attributes = None,
        contents: Sequence[str | bytes | None] | None = None,
    ) -> Any:
        """As :meth:`upsert`, of records that do not exist yet; ``Exists`` otherwise, and nothing is stored."""
        return self.writer.put(ids, vectors, attributes, contents, exclusive=True)

    @tallied("vector", "update", as_many)
    def update(self, ids: Iterable[str], vectors: ArrayLike | None = None, attributes: Attributes = None) -> Any:
        """Change vectors, attributes or both of records that exist; ``NotFound`` otherwise, and nothing is changed."""
        return self.writer.put(ids, vectors, attributes, None, create=False)

    def put_chunks(
        self, ino: int, generation: int, spans: Sequence[tuple[int, int]], texts: Sequence[str], vectors: ArrayLike
    ) -> bool:
        """Replace the rows of a file by those of its passages: see :meth:`Writer.put_chunks`."""
        return self.writer.put_chunks(ino, generation, spans, texts, vectors)

    def set_vectors(self, ino: int, vectors: ArrayLike) -> None:
        """Give the file with that inode number these vectors, (n, dim) or (dim,), in place of those it has."""
        self.writer.set_vectors(ino, vectors)

    def take_back(self, ino: int) -> None:
        """A file that had left is back below the directory."""
        self.writer.take_back(ino)

    def take_over(self, ino: int, other: "Index") -> None:
        """The vectors of a file that moved here from the directory of another index."""
        self.writer.take_over(ino, other)

    # -- reading back

    def stored(self, found: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """Stored vectors of rows, uint8 (n, row_bytes), read from the volume."""
        size = self.form.row_bytes
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
        wanted = list(ids)
        once = list(dict.fromkeys(wanted))
        names = names_of(once)
        straight(self.filesystem, base, names)
        known = dict(zip(once, (self._record(base + b"/" + name, name) for name in names), strict=True))
        return [known[each] for each in wanted]

    def _record(self, path: bytes, name: bytes) -> Record | None:
        try:
            found = self.table.rows_of(self.filesystem.resolve(path, False))
        except FileNotFoundError:
            return None
        hits = rows_described(self.table, found[:1], HIT_PATH | HIT_XATTRS)
        if not hits:
            return None
        _, _, where, packed = hits[0]
        vector = self.form.decode(self.stored(found[:1]))[0]
        return Record(
            name.decode("utf-8", "surrogateescape"), where.decode("utf-8", "surrogateescape"), vector,
            unpack(packed),
        )  # fmt: skip

    def vectors_of(self, ino: int) -> NDArray[np.float32]:
        """The vectors of a file, float32 (n, dim); n may be 0."""
        return self.form.decode(self.stored(self.table.rows_of(ino)))

    def generation_of(self, ino: int) -> int | None:
        """The low 32 bits of the content generation that a file's rows were made from; None: it has no rows."""
        found = origin(self.table, ino)
        return None if found is None else found[1]

    def made_from_content(self, ino: int, generation: int | None = None) -> bool:
        """Whether a file's rows were made from its content; from that `generation` of it, and are searched."""
        flags, made_from = origin(self.table, ino) or (0, 0)
        if generation is None:
            return bool(flags & CONTENT)
        return flags & (CONTENT | STALE | AWAY | RENAMED) == CONTENT and made_from == generation & 0xFFFFFFFF

    def is_away(self, ino: int) -> bool:
        """Whether a file with rows was seen to leave the directory, and they are not searched since."""
        return bool((origin(self.table, ino) or (0,))[0] & AWAY)

    def files(self) -> NDArray[np.uint64]:
        """Inode numbers of the files that have rows, uint64 (n,), ascending."""
        inos = self.table.rows()["ino"] & INO_MASK
        return np.unique(inos[inos != 0])

    # -- taking away

    @tallied("vector", "delete", as_many)
    def delete(self, ids: Iterable[str] | None = None, where: Mapping[str, Any] | None = None) -> int:
        """Remove records, which removes their files.  How many there were.

        Parameters
        ----------
        ids : iterable of str, optional
        where : mapping, optional
            One of the two is given.  An empty one is refused: all records are ``{"$path": "*"}``.
        """
        if (ids is None) == (where is None):
            raise InvalidArgument.at("delete takes ids or where, one of them")
        refuse_empty(where)
        base = self.filesystem.path_of(self.description.directory).rstrip(b"/")
        if ids is not None:
            names = names_of([ids] if isinstance(ids, str | bytes) else dict.fromkeys(ids))
            straight(self.filesystem, base, names)
            paths = [base + b"/" + name for name in names]
        else:
            paths = self._reader.paths(where)
        gone = 0
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                self.filesystem.unlink(path)
                gone += 1
        self.catalog.upkeep.hint(self)
        return gone

    def drop_rows(self, ino: int) -> bool:
        """Take a file's vectors away; the file stays.  Whether it had any."""
        return self.table.drop(ino)

    # -- searching

    def count(self, where: Mapping[str, Any] | None = None, under: Any = None) -> int:
        """Files with vectors, that match a filter, below a directory."""
        return self._reader.count(where, under)

    @tallied("vector", "query", _queries)
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
        plain = where is None and under is None and effort is None and exact is None and threshold is None
        if plain and not explain:
            settling = self.catalog.settling
            found = nearest_plainly(self.table, self.vectors, Hit, Hits, self, vectors, k, recall, threads, settling)
            if found is not None:
                return found
        return self._reader.query(
            vectors, k, where=where, under=under, recall=recall, effort=effort, exact=exact, threshold=threshold,
            explain=explain, threads=threads,
        )  # fmt: skip

    def mask(self, where: Mapping[str, Any] | None, under: Any = None) -> tuple[NDArray[np.uint64] | None, int]:
        """The live rows that match a filter below a directory: a bit array (None: all), and how many."""
        return self._reader.mask(where, under)

    def besides(self, hits: Hits, bits: NDArray[np.uint64] | None) -> NDArray[np.uint64]:
        """The rows of a bit array (None: all) that are not of these files."""
        return self._reader.besides(hits, bits)

    def hits(
        self, found: NDArray[np.uint32], scores: NDArray[np.float32], distances: NDArray[np.float32], k: int,
        since: int | None = None,
    ) -> Hits:
        """At most k files of rows that are in order, the passages of one file together.

        `since` is the table's ``moment`` before anybody looked for them: a row that was given to another file after it
        is left out.
        """
        return self._reader.hits(found, scores, distances, k, since)

    def hit_of(self, ino: int, score: float = 0.0) -> Hit | None:
        """The file with that inode number as a hit, or None."""
        return self._reader.hit_of(ino, score)

    # -- upkeep

    def maintain(self, budget_ms: int) -> bool:
        """A slice of background work; whether there is more."""
        if self._closed:
            return False
        more = self.loading.load_some()
        more |= self.vectors.maintain(budget_ms)
        more |= self.words.maintain(budget_ms)
        if not more and self.writer.changed >= max(SNAPSHOT_ROWS, SNAPSHOT_SHARE * self.table.live):
            self._save()
        if not more and not self.catalog.read_only:
            self.loading.log_used = shorten_words(self, self.loading.log_used)
        return more

    def _save(self) -> None:
        with self.writer.lock:
            self.writer.changed = 0
        try:
            save_snapshot(self)
        except OSError as error:  # opening takes longer without it, and nothing else; a full volume has no room for it
            if self.catalog.of(self.description.directory) is self:  # one that was dropped meanwhile has none
                log.warning("index %d: no snapshot of it can be kept: %s", self.description.number, describe(error))

    def close(self, *, snapshot: bool) -> None:
        """Let the index go."""
        if self._closed:
            return
        self._closed = True
        if snapshot and self.loading.done and self.writer.changed >= max(CLOSING_ROWS, 0.02 * self.table.live):
            self._save()
        if snapshot:
            with contextlib.suppress(OSError):
                self.aside.save(now=True)
                if self.loading.vectors is not None:
                    save_learned(self)
        self.table.close()
