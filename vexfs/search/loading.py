"""What an index is searched with, in memory from the moment that somebody wants it.

Opening a volume reads the tables of rows and no more.  The thread for upkeep goes on to load vectors and words; whoever
wants one of them first loads it, too, beside it or instead of it.  Rows may go meanwhile, as files are removed; none
comes, for whatever puts rows loads both before it begins.
"""

import contextlib
import os
import threading
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from vexfs._core.rows import NO_ROW
from vexfs._core.vindex import VectorIndex
from vexfs._core.words import WordIndex
from vexfs.search.snapshot import load_vectors, load_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vexfs.search.filling import Filling
    from vexfs.search.index import Index

#: Stored vectors are brought into memory in stretches of so many bytes, if all of them take no more than this share.
LOAD_BYTES, LOADED_SHARE = 8 << 20, 0.4


Made = TypeVar("Made", VectorIndex, WordIndex)


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Loading:
    """The structures of one index.  Thread-safe.

    Attributes
    ----------
    vectors : VectorIndex or None
    words : WordIndex or None
        None until it is loaded.
    log_used : int
        About how much of the log of keyword records is in use; with `words`.
    """

    def __init__(self, index: "Index", filled: "Filling | None") -> None:
        self._index = index
        self.vectors: VectorIndex | None = None
        self.words: WordIndex | None = None
        self.log_used = 0
        #: Held by who loads vectors, or stored ones; words.
        self._of_vectors, self._of_words = threading.Lock(), threading.Lock()
        #: The next row whose stored vector is brought into memory; None: there is none, or they stay on the disk.
        self._unloaded: int | None = None
        if filled is not None:
            filesystem = index.filesystem
            self.vectors, self.words = filled.vectors, filled.words
            self.log_used = filesystem.getattr(index.file("words")).st_size
            index.table.attach(self.vectors, keep=index.rows_in == "memory")
            index.table.watch(self.vectors)
            index.table.watch(self.words)

    @property
    def done(self) -> bool:
        """Whether both are there."""
        return self.vectors is not None and self.words is not None

    def both(self) -> None:
        """Load what is not there yet."""
        if not self.done:
            self.load_words()  # the thread for upkeep begins with vectors
            self.load_vectors()

    def load_vectors(self) -> VectorIndex:
        """The vectors, which are loaded unless somebody did it meanwhile."""
        index = self._index
        with self._of_vectors:
            if self.vectors is None:
                vectors, changed = self._brought(load_vectors)
                self._unloaded = 0 if vectors is not index.form and index.rows_in == "memory" else None
                index.writer.changed += changed
                self.vectors = vectors
            return self.vectors

    def load_words(self) -> WordIndex:
        """The words, which are loaded unless somebody did it meanwhile."""
        with self._of_words:
            if self.words is None:
                words, self.log_used = self._brought(load_words)
                self.words = words
            return self.words

    def _brought(self, load: "Callable[[Index, NDArray[np.uint32]], tuple[Made, int]]") -> "tuple[Made, int]":
        """A structure as the table is, which hears from now on of rows that go; and what `load` tells of it."""
        table = self._index.table
        with self._damage_told():
            then = table.versions()
            made, told = load(self._index, then)
            table.watch(made)
            went = (then != NO_ROW) & (table.versions() != then)  # while nobody was told
            made.remove(np.flatnonzero(went).astype(np.uint32))
        return made, told

    @contextlib.contextmanager
    def _damage_told(self) -> "Iterator[None]":
        """Of what cannot be read the index is set aside."""
        self._index.refuse_closed()
        try:
            yield
        except OSError as error:
            self._index.refuse_closed()
            raise self._index.catalog.set_aside(self._index, error) from error

    def load_some(self) -> bool:
        """After a snapshot was restored: the next stretch of stored vectors into memory; whether there is more."""
        index = self._index
        vectors = index.vectors
        with self._of_vectors:
            first, rows = self._unloaded, len(index.table)
            if first is not None and rows * vectors.row_bytes > _memory_bytes() * LOADED_SHARE:
                first = None  # they are read when they are looked at
            if first is None or first >= rows:
                self._unloaded = None
                return False
            some = max(1, LOAD_BYTES // vectors.row_bytes)
            with index.table:
                vectors.load(first, min(some, rows - first))
            self._unloaded = first + some
            return True
