"""The reading side of an index: filters and scopes to rows, the plan of a search, rows to files."""

import contextlib
import stat
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vexfs._core.columns import Columns, packed, places
from vexfs._core.fs import Filesystem
from vexfs._core.hits import HIT_XATTRS, files_of, nearest, rows_described
from vexfs._core.rows import INO_MASK
from vexfs.errors import InvalidArgument, NotADirectory, QueryInvalid
from vexfs.search.description import K_MAX
from vexfs.search.filters import Filter, Table, compile_filter
from vexfs.search.hits import Hit, Hits
from vexfs.search.records import vectors_of

if TYPE_CHECKING:
    from vexfs.search.index import Index

#: So few rows are compared one by one; of more, their codes are looked at first.
FEW_ROWS = 128
KEPT_MASKS = 64
CHUNK = 1024

Bits = NDArray[np.uint64]


class Mask:
    """Rows that a search may find.

    Attributes
    ----------
    bits : uint64 (ceil(rows / 64),)
    count : int
    few : uint32 (count,) or None
        The rows themselves, where they are few.
    """

    __slots__ = ("bits", "count", "few", "version")

    def __init__(self, bits: Bits, version: tuple[int, int]) -> None:
        self.bits = bits
        self.count, self.few = places(self.bits, FEW_ROWS)
        self.version = version


def check_k(k: Any) -> None:
    """Raise ``QueryInvalid`` for a number of files that cannot be."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= K_MAX:
        raise QueryInvalid(f"k={k!r}; a whole number from 1 to {K_MAX} is wanted")


def check_options(recall: Any, effort: Any, exact: Any, threshold: Any, threads: Any) -> None:
    """Raise ``QueryInvalid`` for an option of a search by vector that cannot be."""
    if not _is_number(recall) or not 0 < recall <= 1:
        raise QueryInvalid(f"recall={recall!r}; a share above 0 and at most 1 is wanted")
    if effort is not None and (not isinstance(effort, (int, np.integer)) or isinstance(effort, bool) or effort < 1):
        raise QueryInvalid(f"effort={effort!r}; a whole number of lists, from 1, is wanted")
    if exact is not None and not isinstance(exact, (bool, np.bool_)):
        raise QueryInvalid(f"exact={exact!r}; True, False or None is wanted")
    if threshold is not None and (not _is_number(threshold) or threshold != threshold):
        raise QueryInvalid(f"threshold={threshold!r}; a number is wanted")
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)) or threads < 1:
        raise QueryInvalid(f"threads={threads!r}; a whole number from 1 is wanted")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def directory_at(filesystem: Filesystem, path: Any) -> int:
    """The inode number of a directory; raises ``NotADirectory`` for what is none."""
    found = filesystem.stat(path if isinstance(path, str | bytes) else str(path))
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectory.at("is no directory; a search is below one", path)
    return int(found.st_ino)


def made_directory(filesystem: Filesystem, path: str) -> int:
    """The inode number of a directory, which is made when there is none, with those above it."""
    parts = [p for p in path.split("/") if p not in ("", ".")]
    if ".vexfs" in parts:
        raise InvalidArgument.at("names under .vexfs are the volume's own; index another directory", path)
    try:
        found = filesystem.stat("/".join(parts) or "/")
    except FileNotFoundError:
        for k in range(1, len(parts) + 1):
            with contextlib.suppress(FileExistsError):
                filesystem.mkdir("/".join(parts[:k]), 0o755)
        found = filesystem.stat("/".join(parts))
    if not stat.S_ISDIR(found.st_mode):
        raise InvalidArgument.at("is a file; an index belongs to a directory", path)
    return int(found.st_ino)


def score_of(metric: str, distances: NDArray[np.float32]) -> Any:
    """What people see: larger is nearer."""
    if metric == "cosine":
        return 1 - distances
    return -distances if metric == "dot" else np.float32(1) / (1 + distances)


class Reader:
    """What searches one index."""

    def __init__(self, index: "Index") -> None:
        self._index = index
        self._table = index.table
        self._lock = threading.Lock()
        self._masks: OrderedDict[Any, Mask] = OrderedDict()
        self.columns = Columns(index.catalog.simd)
        #: Changes of the table that the columns know of.
        self._known_changes: int | None = None
        #: The rows of the directory that was looked at last, for the next filter over it.
        self._base: tuple[tuple[int, tuple[int, int]], Bits] | None = None

    # -- masks

    def _scope(self, under: Any) -> int:
        directory: int = self._index.description.directory
        if under is None:
            return directory
        return under if isinstance(under, int) else directory_at(self._index.filesystem, under)

    def mask(self, where: Mapping[str, Any] | None, under: Any = None) -> tuple[Bits | None, int]:
        """As a bit array and a count; None where every live row is in it."""
        found = self.allowed(where, under)
        return (None, self._table.live) if found is None else (found.bits, found.count)

    def allowed(self, where: Mapping[str, Any] | None, under: Any = None) -> Mask | None:
        """The rows that match; None: every live one."""
        unfiltered = where is None or where == {}
        if unfiltered and under is None:
            return None
        scope = self._scope(under)
        if unfiltered and scope == self._index.description.directory:
            return None
        compiled = None if where is None or unfiltered else compile_filter(where)
        key = (scope, compiled.key if compiled else None)
        version = self._table.version
        with self._lock:
            kept = self._masks.get(key)
            if kept is not None and kept.version == version:
                self._masks.move_to_end(key)
                return kept
        made = self._make(scope, compiled, version)
        with self._lock:
            self._masks[key] = made
            while len(self._masks) > KEPT_MASKS:
                self._masks.popitem(last=False)
        return made

    def _make(self, scope: int, compiled: Filter | None, version: tuple[int, int]) -> Mask:
        base = self._base
        if base is None or base[0] != (scope, version):
            bits, _ = self._table.scope(scope)
            self._base = base = (scope, version), bits
        found = base[1]
        rows = 64 * len(found)
        if compiled is not None:
            with self._lock:
                # As of after the look at the rows: one that was given away again has its new file's attributes.
                now = self._table.version[0]
                while compiled.names:
                    if self.columns.want(compiled.names):  # also of names that the last round met first
                        self._known_changes = None
                    if self._known_changes == now:
                        break
                    gone = self._refresh(rows)
                    self._known_changes = now
                    if len(gone):
                        left = np.zeros(rows, np.bool_)
                        left[gone[gone < rows]] = True
                        self._base, found = None, found & ~packed(left)
                self.columns.resize(rows)
                found = compiled.bits(Table(self.columns, rows, self._paths_of), found)
        return Mask(found, version)

    def _refresh(self, rows: int) -> NDArray[np.uint32]:
        """Bring the columns up to date: rows whose attributes changed, or all of them the first time.

        Answers those of them that are not searched any more: what the columns had of such a row may be that of the file
        that had it before.
        """
        touched = self._table.touched()  # before the rows are looked at: what changes later is touched again
        if touched is None or self._known_changes is None:
            bits, _ = self._table.scope(self._index.description.directory)
            touched = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little")).astype(np.uint32)
        self._known_changes = None  # until all are filled: what was given out as touched is not given out again
        self.columns.resize(max(rows, int(touched[-1]) + 1 if len(touched) else 0))
        there = np.zeros(len(touched), np.bool_)
        for at in range(0, len(touched), CHUNK):
            part = touched[at : at + CHUNK]
            described = rows_described(self._table, part, HIT_XATTRS)
            for row, _, _, attributes in described:
                self.columns.fill(row, attributes)
            there[at : at + CHUNK] = np.isin(part, [row for row, *_ in described])
        gone: NDArray[np.uint32] = touched[~there]
        self.columns.clear(gone)
        return gone

    def _paths_of(self, among: Bits) -> dict[int, str]:
        """Paths relative to the index's directory."""
        base = len(self._index.path.rstrip("/")) + 1
        rows = places(among, 64 * len(among))[1]
        assert rows is not None
        out = {}
        for at in range(0, len(rows), CHUNK):
            for row, _, path, _ in rows_described(self._table, rows[at : at + CHUNK]):
                out[row] = path.decode("utf-8", "surrogateescape")[base:]
        return out

    def count(self, where: Mapping[str, Any] | None, under: Any) -> int:
        """Files that match."""
        self._index.catalog.settle()
        allowed = self.allowed(where, under)
        if allowed is None:
            return self._table.files
        if self._table.files == self._table.live:
            return allowed.count
        found = np.flatnonzero(np.unpackbits(allowed.bits.view(np.uint8), bitorder="little"))
        return len(np.unique(self._table.rows()["ino"][found] & INO_MASK))

    def paths(self, where: Mapping[str, Any] | None) -> list[bytes]:
        """Paths of the files that match."""
        self._index.catalog.settle()
        before = self._table.rows()["ino"] & INO_MASK
        bits, _ = self.mask(where)
        if bits is None:
            bits, _ = self._table.scope(self._index.description.directory)
        places = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little")).astype(np.uint32)
        found = {}
        for at in range(0, len(places), CHUNK):
            for row, ino, path, _ in rows_described(self._table, places[at : at + CHUNK]):
                if row < len(before) and before[row] == ino:  # nobody else's row meanwhile
                    found[ino] = path
        return list(found.values())

    def besides(self, hits: Sequence[Hit], bits: Bits | None) -> Bits:
        """The rows of a bit array (None: all of the directory) that are not of these files."""
        if bits is None:
            bits = self._table.scope(self._index.description.directory)[0]
        left = np.unpackbits(bits.view(np.uint8), bitorder="little")
        for hit in hits:
            rows = self._table.rows_of(hit.ino)
            left[rows[rows < len(left)]] = 0
        return np.packbits(left, bitorder="little").view(np.uint64)

    # -- searching

    def query(
        self, vectors: ArrayLike, k: int, *, where: Mapping[str, Any] | None, under: Any, recall: float,
        effort: int | None, exact: bool | None, threshold: float | None, explain: bool, threads: int,
    ) -> Any:
        """See :meth:`Index.query`."""
        index = self._index
        check_k(k)
        check_options(recall, effort, exact, threshold, threads)
        q = vectors_of(vectors, index.dim, index.metric, what="query")
        if self._table.waiting or index.catalog.settling.pending:
            index.catalog.settle()
        since = self._table.moment  # after what settling gave rows to
        allowed = self.allowed(where, under)
        options = since, recall, min(effort or 0, 1 << 31), exact, threshold, min(threads, 1 << 16)
        # Several rows may be one file's: enough of them for k files, as far as there are.
        live, files = self._table.counts
        several = live != files
        want = min(4 * int(k) + 16, K_MAX) if several else int(k)
        answers, filled = self._answers(q, int(k), want, allowed, options, explain)
        if several:
            for at, hits in enumerate(answers):
                if filled[at] == want and len(hits) < min(k, files):
                    answers[at] = self._more(q[at : at + 1], int(k), want, allowed, options, explain)
        return answers[0] if np.ndim(vectors) == 1 else answers

    def _more(
        self, q: NDArray[np.float32], k: int, want: int, allowed: Mask | None, options: tuple[Any, ...], explain: bool
    ) -> Hits:
        """Rows of few files came first: more rows, until there are k files, or no more."""
        files = min(k, self._table.files)
        while True:
            want *= 4
            (hits,), (filled,) = self._answers(q, k, want, allowed, options, explain)
            if len(hits) >= files or filled < min(want, K_MAX):
                return hits
            if want >= K_MAX:
                return self._besides(q, k, hits, allowed, options)

    def _besides(
        self, q: NDArray[np.float32], k: int, hits: Hits, allowed: Mask | None, options: tuple[Any, ...]
    ) -> Hits:
        """The hits and, up to k, files behind them: those that were found have more rows than are looked at."""
        version = self._table.version
        left, more = None if allowed is None else allowed.bits, hits
        while more and len(hits) < k:
            left = self.besides(more, left)
            wanted = k - len(hits)
            (more,), _ = self._answers(q, wanted, min(4 * wanted + 16, K_MAX), Mask(left, version), options, False)
            hits.extend(list(more))
        return hits

    def _answers(
        self, q: NDArray[np.float32], k: int, want: int, allowed: Mask | None, options: tuple[Any, ...], explain: bool
    ) -> tuple[list[Hits], list[int]]:
        """At most k files of the `want` nearest rows to each query; and how many rows there were."""
        index, table = self._index, self._table
        candidates = table.live if allowed is None else allowed.count
        if not candidates:
            nothing = {"candidates": 0, "filter": "none" if allowed is None else "rows", "plan": "empty"}
            return [Hits((), nothing if explain else None) for _ in q], [0] * len(q)
        since, recall, effort, exact, threshold, threads = options
        few = allowed.few if allowed is not None and exact is not False else None
        bits = allowed.bits if allowed is not None and few is None else None
        work: dict[str, Any] | None = {} if explain else None
        most = max(1, min(want, candidates, K_MAX))
        answers, filled = nearest(
            table, index.vectors, Hit, Hits, index, q, most, k, bits, few, since, recall, effort, exact, threshold,
            threads, work,
        )  # fmt: skip
        if work is not None:
            for hits in answers:
                hits.explanation = self._explain(allowed, candidates, work)
        return answers, filled

    def _explain(self, allowed: Mask | None, candidates: int, work: dict[str, Any]) -> dict[str, Any]:
        return {
            "candidates": candidates,
            "filter": "none" if allowed is None else "rows" if allowed.few is not None else "mask", **work,
        }  # fmt: skip

    # -- rows to files

    def hits(
        self, found: NDArray[np.uint32], scores: NDArray[np.float32], distances: NDArray[np.float32], k: int,
        since: int | None = None,
    ) -> Hits:
        """At most k files, best passage first, the others with it."""
        since = self._table.moment if since is None else since
        scores, distances = np.ascontiguousarray(scores, np.float32), np.ascontiguousarray(distances, np.float32)
        return files_of(self._table, Hit, self._index, found, scores, distances, k, since, Hits())

    def hit_of(self, ino: int, score: float) -> Hit | None:
        """One file as a hit."""
        since = self._table.moment
        found = self._table.rows_of(ino)[:1]
        one = np.full(len(found), score, np.float32)
        hits = self.hits(found, one, 1 - one, 1, since)
        return hits[0] if hits else None
