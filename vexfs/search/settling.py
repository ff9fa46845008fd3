"""Files that crossed the edges of indexes, and files whose content is vectors: brought to where they belong.

The filesystem notes them while its operations run.  Whoever searches has the notes worked off first, so that results
are those of the files as they are; in quiet times the thread of the catalog does it.  A file in the hidden directory
says that nothing was left to do when the volume was closed: without it, as after a crash, files of vectors are looked
for.
"""

import contextlib
import logging
import stat
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from vexfs._core import rows
from vexfs._core.origin import met
from vexfs.search.vectorfiles import bring_up_to_date, holds_vectors

if TYPE_CHECKING:
    from vexfs._core.bypath import Stat
    from vexfs._core.fs import Filesystem
    from vexfs.search.catalog import Catalog
    from vexfs.search.index import Index

log = logging.getLogger("vexfs.search")

HIDDEN = ".vexfs"
SETTLED = f"{HIDDEN}/settled"


def still_there(filesystem: "Filesystem", ino: int) -> "Stat | None":
    """What is told of a file or directory; None when it was removed, though it may still be open."""
    try:
        about = filesystem.getattr(ino)
    except FileNotFoundError:
        return None
    return about if about.st_nlink else None


class Settling:
    """The work of one catalog.  Thread-safe: who calls while another thread is at it waits for that."""

    def __init__(self, catalog: "Catalog") -> None:
        self._catalog, self._filesystem = catalog, catalog.filesystem
        #: Held while it works; taken before the catalog's.
        self.lock = threading.RLock()
        self._trees: list[int] = []
        self._at_work = self._stopping = False

    def begin(self, directories: Iterable[int]) -> None:
        """The volume was opened for writing, with indexes of these directories."""
        try:
            self._filesystem.unlink(SETTLED)
        except FileNotFoundError:
            self._trees += directories

    def end(self) -> None:
        """The volume is about to be closed; no search follows."""
        with self.lock:
            self._stopping = True
            left = self._trees or any(index.table.waiting for index in self._catalog.held())
        if not left and not self._catalog.read_only:
            with contextlib.suppress(OSError):
                self._filesystem.write_file(SETTLED, b"", 0o600)

    def tree(self, directory: int) -> None:
        """An index came or went: which one covers the files below a directory has changed."""
        self._trees.append(directory)

    @property
    def pending(self) -> bool:
        """Whether there is something to do, beside what a table's ``waiting`` counts, or somebody is at it."""
        return self._at_work or bool(self._trees)

    def run(self) -> None:
        """Work off everything."""
        with self.lock:
            if self._at_work:
                return  # asked by what it does itself
            self._at_work = True
            try:
                while not self._stopping:
                    while self._trees:
                        self._look_at(self._trees.pop())
                    inos = rows.moved(self._filesystem)
                    if not inos:
                        return
                    for ino in inos:
                        self._look_at(ino)
            finally:
                self._at_work = False

    def _look_below(self, top: int) -> None:
        """Meet every file with vectors below a directory, if an index covers it."""
        covered = False
        with contextlib.suppress(OSError):
            covered = self._catalog.covering(top) is not None
        if covered:
            for directory, name, ino in self._files_below([top]):
                if holds_vectors(name):
                    met(self._filesystem, directory, name)
                    self._look_at(ino)
        elif any(self._has_several_names(ino) for _, _, ino in self._files_below([top])):
            # They have left an index, but for those that have a name elsewhere in one.
            for directory, name, ino in self._files_below([i.description.directory for i in self._catalog.known()]):
                if met(self._filesystem, directory, name):
                    self._look_at(ino)

    def _files_below(self, directories: list[int]) -> Iterator[tuple[int, bytes, int]]:
        """Directory, name and inode number of the files below some directories."""
        while directories:
            directory = directories.pop()
            with contextlib.suppress(OSError):
                for name, ino, kind in self._filesystem.scandir(directory):
                    if stat.S_ISDIR(kind) and name != HIDDEN.encode():
                        directories.append(ino)
                    elif stat.S_ISREG(kind):
                        yield directory, name, ino

    def _has_several_names(self, ino: int) -> bool:
        about = still_there(self._filesystem, ino)
        return about is not None and about.st_nlink > 1

    def _look_at(self, ino: int) -> None:
        about = still_there(self._filesystem, ino)
        try:
            if about is not None:
                self._look_below(ino) if stat.S_ISDIR(about.st_mode) else self._file(ino)
            elif (index := self._catalog.of(ino)) is not None:
                self._catalog.discard(index)
        except OSError as error:
            log.warning("file %d is not in the index that it belongs to: %s", ino, error)

    def _file(self, ino: int) -> None:
        holder = self._catalog.holder(ino)
        try:
            path = self._filesystem.path_of(ino)  # finds a name again where the one that was recorded is gone
        except FileNotFoundError:
            return
        home, array = self._catalog.covering(ino), holds_vectors(path)
        for index in self._catalog.known():
            if index is not home or not array:
                index.aside.drop(ino)
        if array and (holder is None or holder.made_from_content(ino)):
            if not self._catalog.read_only:
                self._from_content(ino, path, home, holder)
        elif home is not None:
            if holder is not None:
                self._bring_home(ino, home, holder)
            if home.embedder is not None:
                self._catalog.ingesting().look_at(ino)

    def _from_content(self, ino: int, path: bytes, home: "Index | None", holder: "Index | None") -> None:
        if holder is not None and holder is not home:
            holder.drop_rows(ino)
        if home is not None:
            bring_up_to_date(home, ino, path)

    def _bring_home(self, ino: int, home: "Index", holder: "Index") -> None:
        if home is holder:
            home.take_back(ino)
        elif home.dim == holder.dim and home.embedder is None:
            home.take_over(ino, holder)
