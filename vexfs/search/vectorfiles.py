"""Files whose content is vectors: ``.npy`` arrays, and ``.vec``, numbers in lines of text.

Below an index each of them becomes the vectors of the file, one a row, without anybody asking.  The filesystem notes
which of them changed, came or got another name; the catalog brings their rows up to date before anything is searched,
so what was written is found as soon as the write is done.  What cannot be in the index stays a file and nothing else.
"""

import io
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vexfs._core.rows import PUT_MAX
from vexfs.errors import VectorInvalid
from vexfs.search.records import vectors_of
from vexfs.search.writer import encoded

if TYPE_CHECKING:
    from vexfs._core.fs import Filesystem
    from vexfs.search.index import Index

#: As ``fs_rows.c`` has them.
SUFFIXES = (b".npy", b".vec")
#: A larger file is left a file.
SIZE_MOST = 1 << 30
_HEAD = 16 << 10
#: Bytes of float32 that are in hand at once.
_BLOCK = 8 << 20
#: The number of a vector in a message.
_NUMBER = re.compile(r"\bvector (\d+)")
_SEPARATORS = bytes.maketrans(b",;[]", b"    ")


Parts = Iterator[NDArray[Any]]


class Unfit(Exception):
    """The content cannot be vectors of the index; the message says why."""


@attrs.frozen
class Content:
    """The vectors in a file.

    Attributes
    ----------
    generation : int
        Of the content that they were read from.
    stored : uint8 (n, row_bytes)
        As the index stores them.
    spans : list of (int, int)
        First byte of each and the one behind its last; (0, 0): the file as a whole, or not in one piece.
    """

    generation: int
    stored: NDArray[np.uint8]
    spans: list[tuple[int, int]]


def holds_vectors(name: bytes) -> bool:
    """Whether a file of that name (or path) has vectors for its content."""
    return name.endswith(SUFFIXES) and name.rpartition(b"/")[2] not in SUFFIXES


def read_vectors(index: "Index", ino: int, name: bytes) -> Content:
    """What a file has to give to an index.

    Raises
    ------
    Unfit
        Damaged, of another dimension, too large, or of a kind that is no real number.
    VectorInvalid
        A value is not finite, or more than the index can store; a zero vector under cosine.
    OSError
    """
    filesystem = index.filesystem
    about = filesystem.getattr(ino)
    if about.st_size > SIZE_MOST:
        raise Unfit(f"{about.st_size} bytes; the most is {SIZE_MOST}")
    read = _npy if name.endswith(b".npy") else _text
    parts, spans = read(filesystem, ino, about.st_size, index.dim)
    stored = np.empty((len(spans), index.form.row_bytes), np.uint8)
    first = 0
    for part in parts:
        try:
            x = vectors_of(part, index.dim, index.metric)
            stored[first : first + len(x)] = encoded(index.form, x)
        except VectorInvalid as error:
            raise VectorInvalid(_counted_from(first, str(error))) from None
        first += len(x)
    return Content(about.generation, stored, spans)


def _counted_from(first: int, told: str) -> str:
    """A message about a vector of a part, with its number in the file."""
    return _NUMBER.sub(lambda found: f"vector {int(found[1]) + first}", told, 1)


def _npy(filesystem: "Filesystem", ino: int, size: int, dim: int) -> tuple[Parts, list[tuple[int, int]]]:
    shape, by_columns, dtype, start = _header(filesystem.read(ino, min(size, _HEAD), 0))
    if dtype.kind not in "fiu":
        raise Unfit(f"an array of {dtype}; real numbers are wanted")
    rows = shape[0] if len(shape) == 2 else 1
    if len(shape) not in (1, 2) or shape[-1] != dim:
        told = "x".join(map(str, shape)) or "()"
        raise Unfit(f"an array of shape {told}; {dim} numbers, or rows of {dim}, are wanted")
    _refuse_count(rows)
    length = rows * dim * dtype.itemsize
    if size - start < length:
        raise Unfit(f"ends early: {length} bytes of numbers are announced, {size - start} are there")
    step = dim * dtype.itemsize
    some = rows if by_columns else max(1, _BLOCK // (4 * dim))

    def parts() -> Iterator[NDArray[Any]]:
        for first in range(0, rows, some):
            n = min(some, rows - first)
            data = filesystem.read(ino, n * step, start + first * step)
            if len(data) != n * step:
                raise Unfit("became shorter while it was read")
            array = np.frombuffer(data, dtype).reshape((n, dim), order="F" if by_columns else "C")
            with np.errstate(over="ignore"):  # what becomes infinite is refused by whoever checks the values
                yield array.astype(np.float32)

    apart = len(shape) == 2 and not by_columns
    return parts(), [(start + k * step, start + (k + 1) * step) if apart else (0, 0) for k in range(rows)]


def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether columns lie together, dtype, and where the numbers begin."""
    file = io.BytesIO(head)
    try:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, by_columns, dtype = read(file)
    except Exception as error:  # the header is a Python expression: there are many ways to be none
        raise Unfit(f"no array that can be read: {error}".splitlines()[0]) from None
    if any(n < 0 for n in shape) or math.prod(shape) > SIZE_MOST:
        raise Unfit(f"an array of shape {shape} cannot be")
    return shape, by_columns, dtype, file.tell()


def _text(filesystem: "Filesystem", ino: int, size: int, dim: int) -> tuple[Parts, list[tuple[int, int]]]:
    data = filesystem.read(ino, size, 0)
    spans, lines, at = [], [], 0
    for line in data.translate(_SEPARATORS).split(b"\n"):
        if line.strip() and not line.lstrip().startswith(b"#"):
            spans.append((at, at + len(line)))
            lines.append(line)
        at += len(line) + 1
    _refuse_count(len(lines))
    if len(lines[0].split()) != dim:
        raise Unfit(f"the first line has {len(lines[0].split())} words; {dim} numbers a line are wanted")
    try:
        array = np.loadtxt([line.decode("ascii") for line in lines], np.float32, comments=None, ndmin=2)
    except ValueError as error:
        raise Unfit(f"{dim} numbers a line are wanted: {error}".partition(";")[0]) from None
    return iter([array]), spans


def _refuse_count(rows: int) -> None:
    if not 1 <= rows <= PUT_MAX:
        raise Unfit(f"{rows} vectors; 1 to {PUT_MAX} in a file are wanted")


def bring_up_to_date(index: "Index", ino: int, path: bytes) -> None:
    """Make the rows of a file those of its content; what cannot be is set aside with the reason, and has no rows.

    A vector that the file was given otherwise stays.
    """
    about = index.filesystem.getattr(ino)
    if index.made_from_content(ino, about.generation) or index.aside.has(ino, about.generation):
        return
    try:
        if about.st_size:
            content = read_vectors(index, ino, path)
            index.writer.put_stored(
                [(ino, content.generation, len(content.spans))], content.spans, None, content.stored
            )
            index.aside.drop(ino)
            return
        index.aside.drop(ino)
    except (Unfit, VectorInvalid) as error:
        index.aside.put(ino, about.generation, str(error), fault=True, path=path)
    except OSError as error:
        if not index.filesystem.getattr(ino).st_nlink:
            return
        index.aside.put(ino, about.generation, f"cannot be read or stored: {error}", fault=True, path=path)
    index.drop_rows(ino)
