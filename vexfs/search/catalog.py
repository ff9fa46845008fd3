"""The indexes of an open volume: the list of them, their files in the volume's hidden directory, their upkeep.

The list is one file, replaced by rename, so that an index exists from one commit on or not at all.
"""

import contextlib
import errno
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import attrs

from vexfs._core import rows
from vexfs._core.fs import Filesystem
from vexfs._core.opened import CLOSED
from vexfs._core.vectorattr import stand_behind
from vexfs.errors import Damaged, IndexMissing, InvalidArgument, NoAttribute, NotSupported, VolumeClosed, VolumeDamaged
from vexfs.observe.tally import Tally
from vexfs.search.description import Description, pack_list, unpack_list
from vexfs.search.index import Index
from vexfs.search.query import made_directory
from vexfs.search.records import parse_vector
from vexfs.search.settling import HIDDEN, Settling, still_there
from vexfs.search.upkeep import Upkeep
from vexfs.store.rows import ROOT_INO

if TYPE_CHECKING:
    from vexfs.search.filling import Filling
    from vexfs.search.ingest import Ingest
    from vexfs.search.standing import StandingQuery

log = logging.getLogger("vexfs.search")

LIST = f"{HIDDEN}/indexes.json"


def _text(path: Any) -> str:
    return os.fsdecode(path) if isinstance(path, bytes) else str(path)


def _is_below(path: str, top: str) -> bool:
    return f"/{path.strip('/')}/".startswith(f"{top.rstrip('/')}/")


class Catalog:
    """The indexes of one volume.

    Parameters
    ----------
    filesystem : Filesystem
    simd, pool : optional
        What the indexes compute with, and where their scratch comes from.
    bridge : optional
        Carries the hints that an index has work to do.
    read_only : bool
        Nothing is written; vectors are brought into memory, and what is asked teaches, as ever.
    """

    def __init__(
        self, filesystem: Filesystem, *, simd: Any = None, pool: Any = None, bridge: Any = None, read_only: bool = False
    ) -> None:
        self.filesystem, self.simd, self.pool, self.read_only = filesystem, simd, pool, read_only
        self.bridge = bridge
        self.tally = Tally()
        #: Held while the list changes, and what goes with that.
        self.lock = threading.RLock()
        self._by_directory: dict[int, Index] = {}
        self._by_number: dict[int, Index] = {}
        #: Indexes that could not be opened, and why: they stay in the list and keep their files.
        self._unopened: dict[int, tuple[Description, str]] = {}
        self._next = 1
        #: One index is about to take the place of another: who finds none looks again when that is done.
        self._replacing = self._closed = False
        self._stop = threading.Event()
        self._ingest: Ingest | None = None
        self.settling = Settling(self)
        self.upkeep = Upkeep(self)
        #: They see what is written, and end with the volume.
        self.standing: list[StandingQuery] = []
        try:
            self._begin()
        except BaseException:  # Ctrl-C, too: no thread and no table stays behind
            self._let_go(whole=False)
            raise

    def _begin(self) -> None:
        self._load()
        stand_behind(self.filesystem, self)
        if not self.read_only:
            self.settling.begin(list(self._by_directory))
        if self._by_directory:
            self.upkeep.begin()
        if not self.read_only and any(index.embedder for index in self._by_directory.values()):
            self.ingesting()

    # -- ingest of text

    def ingesting(self) -> "Ingest":
        """What keeps the indexes with an embedder up to date; it has begun, unless the volume is read-only."""
        from vexfs.search.ingest import Ingest

        with self.lock:
            ingest = self._ingest = self._ingest or Ingest(self)
            if self._stop.is_set():
                ingest.close()  # it is made to answer that nothing goes on any more
        if not self.read_only:
            ingest.start()
        return ingest

    @property
    def ending(self) -> bool:
        """Whether the indexes are being let go: what is under way ends."""
        return self._stop.is_set()

    # -- the list

    def _load(self) -> None:
        try:
            text = self.filesystem.read_file(LIST)
        except FileNotFoundError:
            return
        try:
            descriptions, self._next = unpack_list(text)
        except ValueError as error:
            told = f"{error}; restore it from a backup, or remove it to lose the indexes"
            raise VolumeDamaged.at(told, LIST) from None
        # Those of directories removed just before a crash are dropped by settling, if the volume is open for writing.
        for description in (d for d in descriptions if not self.read_only or still_there(self.filesystem, d.directory)):
            try:
                self._add(Index(self, description))
            except OSError as error:  # the files are whole without it, and it may open another time
                why = "its table of rows is damaged" if error.errno == errno.EBADMSG else str(error)
                self._unopened[description.directory] = description, why
                log.error("index %d cannot be opened: %s", description.number, why)
        if not self.read_only:
            self._sweep({d.number for d in descriptions})

    def _add(self, index: Index) -> None:
        self._by_directory[index.description.directory] = index
        self._by_number[index.description.number] = index

    def _sweep(self, known: set[int]) -> None:
        """Remove the files of an index that was being made or dropped when the volume was last used."""
        for name, _, _ in list(self.filesystem.scandir(HIDDEN)):
            number = name.decode("ascii", "replace").removeprefix("index-")
            if name.startswith(b"index-") and number.isdigit() and int(number) not in known:
                self._remove_files(int(number))

    def save(self, made: Description | None = None, gone: Index | None = None) -> None:
        """Write the list of indexes; with one that is being made, without one that is being dropped."""
        with self.lock:
            kept = [i.description for i in self._by_directory.values() if i is not gone]
            kept += [d for d, _ in self._unopened.values()] + ([] if made is None else [made])
            text = pack_list(sorted(kept, key=lambda d: d.number), self._next)
            self.filesystem.write_file(LIST + ".new", text, 0o600)
            self.filesystem.rename(LIST + ".new", LIST)

    def _remove_files(self, number: int) -> None:
        home = f"{HIDDEN}/index-{number}"
        with contextlib.suppress(FileNotFoundError):
            for name, _, _ in list(self.filesystem.scandir(home)):
                self.filesystem.unlink(f"{home}/".encode() + name)
            self.filesystem.rmdir(home)

    # -- finding

    def labels(self) -> dict[str, str]:
        """The paths of all indexes by their numbers, as text; waits for nothing."""
        with self.lock:
            described = [index.description for index in self._by_directory.values()]
        found = {}
        for each in described:
            with contextlib.suppress(OSError):
                found[str(each.number)] = _text(self.filesystem.path_of(each.directory))
        return found

    def indexes(self) -> list[Index]:
        """Every index, in the order in which they were made; none of a directory that is gone."""
        self.settle()
        return self.known()

    def known(self) -> list[Index]:
        """As `indexes`, without a look at what changed."""
        with self.lock:
            self.refuse_closed()
            return sorted(self._by_directory.values(), key=lambda i: i.description.number)

    def held(self) -> list[Index]:
        """As `known`, in any order, and none where they were let go."""
        return list(self._by_directory.values())

    def unopened(self) -> list[tuple[str, Description, str]]:
        """Path, description and fault of each index that cannot be opened."""
        out = []
        for directory, (description, why) in list(self._unopened.items()):
            with contextlib.suppress(OSError):
                out.append((_text(self.filesystem.path_of(directory)), description, why))
        return out

    def set_aside(self, index: Index, error: OSError) -> Damaged:
        """What is stored of an index cannot be read: it is one of those that cannot be opened.  What to raise."""
        about = index.description
        why = "what it stores is damaged" if error.errno == errno.EBADMSG else str(error)
        with self.lock:
            if self._by_directory.get(about.directory) is index:
                del self._by_directory[about.directory], self._by_number[about.number]
                self._unopened[about.directory] = about, why
                log.error("index %d cannot be opened: %s", about.number, why)
        return self._damaged(why, index.path)

    def refuse_closed(self) -> None:
        """Raise ``VolumeClosed`` when the indexes were let go: there are none to be found any more."""
        if self._closed:
            raise VolumeClosed.at(CLOSED)

    def _refuse_unopened(self, ino: int, path: str) -> None:
        if ino in self._unopened:
            raise self._damaged(self._unopened[ino][1], path)

    def _damaged(self, why: str, path: str) -> Damaged:
        remedy = "restore the volume from a backup, or drop the index (vexctl index drop) and make it anew"
        return Damaged.at(f"its index cannot be opened: {why}; {remedy}", path)

    def refuse_unopened_below(self, path: str) -> None:
        """Raise ``Damaged`` when an index below a directory cannot be opened."""
        top = f"/{path.strip('/')}/".replace("//", "/")
        for below, description, _ in self.unopened():
            if f"{below}/".startswith(top):
                self._refuse_unopened(description.directory, below)

    def __len__(self) -> int:
        return len(self._by_directory)

    def of(self, directory: int) -> Index | None:
        """The index that belongs to the directory with that inode number."""
        return self._by_directory.get(directory)

    def covering(self, place: Any) -> Index | None:
        """The innermost index above a path, or an inode number; None where there is none."""
        found = None
        if self._by_directory or self._replacing:
            ino = place if isinstance(place, int) else self.filesystem.resolve(_text(place))
            found = self._by_directory.get(rows.covering(self.filesystem, ino))
            if found is None and self._replacing:
                with self.lock:
                    found = self._by_directory.get(rows.covering(self.filesystem, ino))
        if found is None:
            self.refuse_closed()
        return found

    def at(self, path: Any) -> Index:
        """The index that covers `path`.

        Raises
        ------
        IndexMissing
            None does.
        """
        index = self.covering(path)
        if index is None:
            for above in (_text(path), *(each for each, _, _ in self.unopened() if _is_below(_text(path), each))):
                self._refuse_unopened(self.filesystem.resolve(above), above)
            told = "no index covers it; make one with fs.index(path, dim=...) or vexctl index create"
            raise IndexMissing.at(told, _text(path))
        return index

    def numbered(self, number: int) -> Index | None:
        """The index with that number, which it keeps for life."""
        self.settle()
        return self._by_number.get(number)

    def below(self, directory: int) -> list[Index]:
        """The indexes of directories below one."""
        found = [index for index in self.indexes() if index.description.directory != directory]
        if directory != ROOT_INO:
            found = [index for index in found if self._inside(index.description.directory, directory)]
        return found

    def _inside(self, ino: int, top: int) -> bool:
        path, above = self.filesystem.path_of(ino), self.filesystem.path_of(top)
        return path.startswith(above.rstrip(b"/") + b"/")

    # -- making and dropping

    def create(
        self, path: Any, *, dim: int | None, metric: str | None = None, dtype: str | None = None,
        embedder: str | None = None, rows_in: str | None = None, instead_of: Index | None = None,
        filled: "Filling | None" = None, state: dict[str, Any] | None = None,
    ) -> Index:
        """The index of the directory `path`, made when there is none; the directory, too.

        `instead_of` is the directory's index that the new one replaces, with every vector in it: whenever a crash
        comes, the directory has one of the two.  `filled` is what the new one holds when it is first searched; `state`
        is kept with it from the beginning.

        Raises
        ------
        IndexConflict
            It has another one.
        InvalidArgument
            Dimension, metric or type cannot be.
        """
        where = _text(path)
        with self.lock:
            self.refuse_closed()
            ino = made_directory(self.filesystem, where)
            index = self._by_directory.get(ino)
            if index is not None and index is not instead_of:
                index.description.refuse_other(where, dim, metric, dtype, embedder, rows_in)
                return index
            self._refuse_unopened(ino, where)
            if dim is None:
                raise InvalidArgument.at("a new index wants dim=, the dimension of its vectors, or embedder=", where)
            if filled is not None and index is not None:
                filled.refuse_without_room(index)
            rows.hidden(self.filesystem)
            description = Description.make(
                self._next, ino, dim, metric or "cosine", dtype or "f32", embedder, rows_in or "memory", state
            )
            self._next += 1
            Index.make_files(self.filesystem, description)
            self.save(description, gone=index)
            self._replacing = index is not None
            try:
                if index is not None:
                    self._let_one_go(index)
                index = Index(self, description, filled)
                if filled is not None:
                    filled.put_into(index)
                self._add(index)
            finally:
                self._replacing = False
            self.settling.tree(ino)
            self.upkeep.begin()
        return index

    def drop(self, path: Any) -> None:
        """Drop the index of a directory, with every vector in it; the files stay.

        Raises
        ------
        IndexMissing
            The directory has none of its own.
        """
        ino = self.filesystem.resolve(_text(path))
        index = self._by_directory.get(ino)
        if index is not None:
            self.discard(index)
        elif ino in self._unopened:
            with self.lock:
                description, _ = self._unopened.pop(ino)
                self.save()
                self._remove_files(description.number)
        else:
            self.refuse_closed()
            raise IndexMissing.at("has no index of its own", _text(path))

    def discard(self, index: Index) -> None:
        """Drop an index whose directory may be gone."""
        with self.lock:
            self.save(gone=index)
            self._let_one_go(index)
            self.settling.tree(index.description.directory)
        with contextlib.suppress(FileNotFoundError):
            heir = self.covering(index.description.directory)
            if heir is not None and heir.embedder is not None and not self.read_only:
                self.ingesting().look_below(index.description.directory)

    def _let_one_go(self, index: Index) -> None:
        self._by_directory.pop(index.description.directory, None)
        self._by_number.pop(index.description.number, None)
        index.close(snapshot=False)
        self._remove_files(index.description.number)

    def update(self, index: Index, **fields: Any) -> None:
        """Change fields of an index's description, and keep them."""
        with self.lock:
            index.description = attrs.evolve(index.description, **fields)
            self.save()

    # -- the attribute user.vexfs.vector

    def get_vector(self, ino: int) -> bytes:
        """A file's first vector, little-endian float32."""
        self.settle()
        index = self.holder(ino)
        vectors = None if index is None else index.vectors_of(ino)
        if vectors is None or not len(vectors):
            raise NoAttribute.at("has no vector")
        return bytes(vectors[0].astype("<f4").tobytes())

    def set_vector(self, ino: int, value: bytes | None) -> None:
        """Give a file a vector, as bytes or as text; None takes it away.

        Raises
        ------
        NotSupported
            No index covers the file.
        VectorInvalid
        """
        if value is None:
            holder = self.holder(ino)
            if holder is not None:
                holder.drop_rows(ino)
            return
        index = self.covering(ino)
        if index is None:
            raise NotSupported.at("no index covers the file")
        index.set_vectors(ino, parse_vector(value, index.dim))

    def holder(self, ino: int) -> Index | None:
        """The index with rows of a file, whatever their state."""
        return next((i for i in list(self._by_directory.values()) if len(i.table.rows_of(ino))), None)

    # -- files that moved

    def settle(self) -> None:
        """Bring what changed to where it belongs: files that crossed the edges of indexes or whose content is vectors;
        indexes of directories that are gone are dropped.  What a call finds to do, or under way, is done at its end.
        """
        self.settling.run()

    def written(self, index: Index, found: Any, stored: Any, since: int) -> None:
        """Rows of an index were written by the moment `since`, `stored` as they lie on the disk: tell who asked."""
        if not self.standing:
            return
        vectors = index.form.decode(stored)
        for each in list(self.standing):
            try:
                each.see(index, found, vectors, since)
            except Exception:  # what was written stays written
                log.exception("a standing query failed")

    # -- the end

    def close(self) -> None:
        """End the upkeep and let the indexes go, with a snapshot of those that changed much."""
        self._let_go(whole=True)

    def _let_go(self, whole: bool) -> None:
        if self._ingest is not None:
            self._ingest.close()
        if whole:
            self.settle()
        for each in list(self.standing):
            each.close()
        self._stop.set()
        with self.lock:
            late = self._ingest  # made meanwhile
        if late is not None:
            late.close()
        stand_behind(self.filesystem, None)
        self.upkeep.close()
        with self.settling.lock, self.lock:  # no index comes or goes from here on
            if whole:
                self.settling.end()
            self._closed = True
            for index in self._by_directory.values():
                index.close(snapshot=whole and not self.read_only)
            self._by_directory.clear()
            self._by_number.clear()
