"""What an index that takes the place of another will hold, made ready beside it.

The vectors and the words are brought into the structures that are searched before the new index exists, each passage at
the row that it will have; when the index takes its place, only the table of rows is written.
"""

import os
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from vexfs._core.rows import PUT_MAX, RecordFailed
from vexfs._core.vindex import VectorIndex
from vexfs._core.words import WordIndex
from vexfs.errors import NoSpace, VectorInvalid
from vexfs.search.description import UNFINISHED
from vexfs.search.rehearsal import Rehearsal
from vexfs.search.writer import encoded

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog
    from vexfs.search.embedders import Vectors
    from vexfs.search.index import Index
    from vexfs.search.passages import Passages

_SLICE_MS = 20
_LOW = 0xFFFFFFFF
#: Bytes of a row in the table, before a record in the log of keywords, and of a block that `statvfs` counts.
_ROW, _RECORD_HEAD, _BLOCK = 32, 12, 4096


class _Portion:
    """Files that are put as one change."""

    def __init__(self, found: "list[Passages]", stored: NDArray[np.uint8], records: list[bytes]) -> None:
        self.inos: list[bytes | int] = [each.ino for each in found]
        self.generations = np.array([each.generation for each in found], np.uint64)
        self.counts = np.array([len(each.chunks) for each in found], np.uint32)
        self.spans = np.array([(s, e - s) for each in found for s, e in each.spans()], np.uint32).reshape(-1, 2)
        self.called = [os.fsencode(each.name) for each in found]
        self.stored, self.records = stored, records


class Filling:
    """Passages by another model, for an index that is not there yet.

    Parameters
    ----------
    catalog : Catalog
    like : Index
        The one that it will replace: metric, type and place of the vectors are the same.
    dim : int

    Attributes
    ----------
    vectors : VectorIndex
    words : WordIndex
    failure : BaseException or None
        Why the new index did not get all of it.
    """

    def __init__(self, catalog: "Catalog", like: "Index", dim: int) -> None:
        self.vectors = VectorIndex(dim, like.metric, like.dtype, simd=catalog.simd, pool=catalog.pool)
        self.words = WordIndex()
        self.rehearsal = Rehearsal(self.vectors)
        self.failure: BaseException | None = None
        self._portions: list[_Portion] = []
        self._generations: dict[int, int] = {}
        self._rows = 0
        self._stored = bytearray()
        self._on_disk = like.rows_in == "disk"
        if self._on_disk:
            self.vectors.source(self._read, keep=False)

    def _read(self, first: int, n: int) -> bytes:
        size = self.vectors.row_bytes
        return bytes(self._stored[first * size : (first + n) * size])

    def has(self, ino: int, generation: int | None) -> bool:
        """Whether it has that content of a file, by the low 32 bits of its generation."""
        return self._generations.get(ino) == generation

    def add(self, found: "list[Passages]", rows: "Vectors") -> None:
        """Take files with the vectors of their passages; one whose vectors cannot be stored is left to ingest."""
        try:
            stored = encoded(self.vectors, rows)
        except VectorInvalid:
            at = 0
            for each in found if len(found) > 1 else ():
                self.add([each], rows[at : at + len(each.chunks)])
                at += len(each.chunks)
            return
        portion = _Portion(found, stored, self.words.encode_all([text for each in found for text in each.words()]))
        taken = np.arange(self._rows, self._rows + len(stored), dtype=np.uint32)
        if self._on_disk:
            self._stored += stored.tobytes()
        self.vectors.put(taken, stored)
        self.words.put(taken, portion.records)
        self._rows += len(stored)
        self._portions.append(portion)
        self._generations.update((each.ino, each.generation & _LOW) for each in found)
        while self.vectors.maintain(_SLICE_MS) | self.words.maintain(_SLICE_MS):
            pass

    def put_into(self, index: "Index") -> None:
        """Write the rows into the table of the new index, which nobody searches yet.

        Files that went, moved or changed meanwhile leave their rows unused: ingest meets them, and all the others when
        something keeps the rest from being written, which `failure` tells then.
        """
        with index.writer.lock:
            try:
                for portion in self._portions:
                    self._put(index, portion)
            except BaseException as error:
                self.failure = error
                unused = np.arange(len(index.table), self._rows, dtype=np.uint32)
                self.vectors.remove(unused)
                self.words.remove(unused)
            index.writer.changed += self._rows
        if self.failure is None:  # kept with the next change of the list
            state = {name: value for name, value in index.state.items() if name != UNFINISHED}
            index.description = attrs.evolve(index.description, state=state)
        self._portions, self._stored = [], bytearray()

    def refuse_without_room(self, old: "Index") -> None:
        """Raise ``NoSpace`` when its rows do not fit in the place of those of the old index."""
        words = sum(_RECORD_HEAD + len(record) for portion in self._portions for record in portion.records)
        wanted = self._rows * (self.vectors.row_bytes + _ROW) + words
        _, _, available, *_ = old.filesystem.statvfs()
        room = available * _BLOCK + sum(old.filesystem.getattr(old.file(name)).st_size for name in old.FILES)
        if wanted > room:
            raise NoSpace.at(f"the new index wants {wanted} bytes, and there is room for {room}", old.path)

    def _put(self, index: "Index", portion: _Portion) -> None:
        ends = np.cumsum(portion.counts, dtype=np.int64)
        first, until, files = 0, len(portion.inos), len(portion.inos)
        while first < files:
            rows = slice(int(ends[first] - portion.counts[first]), int(ends[until - 1]))
            try:
                index.table.put(
                    portion.inos[first:until], portion.stored[rows], counts=portion.counts[first:until],
                    spans=portion.spans[rows], words=portion.records[rows],
                    generations=portion.generations[first:until], from_content=True, create=False,
                    append=True, called=portion.called[first:until],
                )  # fmt: skip
                first, until = until, files
            except RecordFailed as failed:
                until = first + failed.at
                if not failed.at:
                    self._leave_out(index, portion.stored[rows.start : int(ends[first])])
                    first, until = first + 1, files

    def _leave_out(self, index: "Index", stored: NDArray[np.uint8]) -> None:
        """The next rows of the table are nobody's."""
        row = len(index.table)
        taken = np.arange(row, row + len(stored), dtype=np.uint32)
        index.filesystem.write(index.file("vectors"), stored.tobytes(), row * self.vectors.row_bytes)
        index.table.skip(len(stored))
        self.vectors.remove(taken)
        self.words.remove(taken)


def portions(found: "list[Passages]", most: int = PUT_MAX) -> "list[list[Passages]]":
    """Files in lists of at most so many passages, unless a file alone has more."""
    out: list[list[Passages]] = []
    room = 0
    for each in found:
        room -= len(each.chunks)
        if room < 0 or not out:
            out.append([])
            room = most - len(each.chunks)
        out[-1].append(each)
    return out
