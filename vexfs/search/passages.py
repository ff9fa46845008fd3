"""One file on its way into an index: read, extracted, cut into passages, at one generation of its content."""

import errno
import os
import stat
from typing import TYPE_CHECKING

import attrs

from vexfs._core.origin import AWAY, CONTENT, RENAMED, STALE, origin
from vexfs._core.rows import PUT_MAX
from vexfs._core.words import WordIndex
from vexfs.errors import IndexClosed, describe
from vexfs.search.chunk import Chunk, Chunker
from vexfs.search.extract import Limits, Skipped, extract, kind_of
from vexfs.search.vectorfiles import holds_vectors

if TYPE_CHECKING:
    from vexfs._core.fs import Filesystem
    from vexfs.search.index import Index

#: Files below it are the volume's, though an index of the root covers them: tables of indexes, uploads on their way.
OWN = b"/.vexfs/"
#: With less room than so many blocks of 4 KiB it is the volume that is full, not a file that is large.
_FULL = 16384


@attrs.define
class Passages:
    """What one file has to say.

    Attributes
    ----------
    index : Index
    ino, generation : int
        Which content of which file.
    name : str
        The file's name.
    chunks : list of Chunk
    cut : str
        What was left out, "" when nothing was.
    """

    index: "Index"
    ino: int
    generation: int
    name: str
    chunks: list[Chunk]
    cut: str = ""

    def texts(self) -> list[str]:
        """What is embedded: each passage under its headings, or under the file's name where there are none."""
        title = os.path.splitext(self.name)[0].replace("_", " ").replace("-", " ")
        return [chunk.context if chunk.label else f"{title}\n{chunk.text}" for chunk in self.chunks]

    def words(self) -> list[str]:
        """What keywords are looked for in: the same, and the name as it is."""
        return [f"{self.name}\n{chunk.context}" for chunk in self.chunks]

    def put_under_new_name(self) -> bool:
        """Put passages of a file that got another name and changed in nothing else, with the vectors that they have.

        False: there is more to it, they are embedded as those of any file.
        """
        table, spans = self.index.table, self.spans()
        try:
            if origin(table, self.ino) != (CONTENT | RENAMED, self.generation & 0xFFFFFFFF):
                return False
            found = table.rows_of(self.ino)
            rows = [table.rows(int(row), 1)[0] for row in found]
            if spans != [(row["start"], row["start"] + row["length"]) for row in rows] or (0, 0) in spans:
                return False  # the name says that the file is of another kind, or the places of passages are not known
            return self.index.writer.put_stored(
                [(self.ino, self.generation, len(spans))], spans, WordIndex.encode_all(self.words()),
                self.index.stored(found), called=[os.fsencode(self.name)], told=False,
            )[0]  # fmt: skip
        except IndexClosed:  # it was dropped meanwhile
            return False

    def spans(self) -> list[tuple[int, int]]:
        """Byte ranges, (0, 0) where they are not known."""
        return [(chunk.start, chunk.end) if chunk.end > chunk.start >= 0 else (0, 0) for chunk in self.chunks]


class Changed(Exception):
    """The file changed while it was read; it will be seen again."""


def wanted(index: "Index", ino: int, generation: int) -> bool:
    """Whether the file's rows are not those of its content; a vector that somebody gave it by hand stays."""
    found = origin(index.table, ino)
    if found is None:
        return True
    flags, made_from = found
    return bool(flags & CONTENT) and (bool(flags & (STALE | AWAY | RENAMED)) or made_from != generation & 0xFFFFFFFF)


def name_of(filesystem: "Filesystem", ino: int) -> str:
    """The file's name, as text."""
    return os.fsdecode(filesystem.path_of(ino).rpartition(b"/")[2])


def path_of_text(filesystem: "Filesystem", ino: int) -> bytes | None:
    """The file's path; None when it is gone, the volume's own, or one of vectors by its name."""
    try:
        path = filesystem.path_of(ino)
    except OSError:
        return None
    return None if path.startswith(OWN) or holds_vectors(path) else path


def read(filesystem: "Filesystem", ino: int, limits: Limits) -> tuple[bytes, str, int]:
    """Content, name and generation of a file; the content is of that generation.

    Raises
    ------
    Skipped
        It is known to hold no text, or is too large.
    Changed
        It was written to meanwhile.
    OSError
        It is gone.
    """
    about = filesystem.getattr(ino)
    name = name_of(filesystem, ino)
    if about.st_size > limits.size_bytes:
        raise Skipped(f"{about.st_size} bytes; the most is {limits.size_bytes}")
    kind_of(name, b"")
    data = filesystem.read(ino, about.st_size, 0)
    if filesystem.getattr(ino).generation != about.generation:
        raise Changed
    return data, name, about.generation


def passages(index: "Index", ino: int, chunker: Chunker, limits: Limits) -> Passages:
    """The passages of a file.

    Raises
    ------
    Skipped, Changed, OSError
        As `read`; also when its bytes hold no text.
    """
    data, name, generation = read(index.filesystem, ino, limits)
    found = extract(data, name, limits)
    chunks = chunker.cut(found)
    if not chunks:
        raise Skipped("there is no text in it")
    if len(chunks) > PUT_MAX:
        return Passages(index, ino, generation, name, chunks[:PUT_MAX], f"passages behind the first {PUT_MAX}")
    return Passages(index, ino, generation, name, chunks, found.cut)


def no_room(filesystem: "Filesystem", error: Exception) -> str:
    """What to say of a full disk, or a volume at its limit, which is no fault of the file's; "" of any other error."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return ""
    full = filesystem.statvfs()[2] < _FULL
    return f"{describe(error).removesuffix(', and do it again')}; it goes on by itself then" if full else ""


def is_file(filesystem: "Filesystem", ino: int) -> int | None:
    """The generation of a regular file with something in it; None for anything else."""
    try:
        about = filesystem.getattr(ino)
    except OSError:
        return None
    return about.generation if stat.S_ISREG(about.st_mode) and about.st_nlink and about.st_size else None
