"""Vectors in files of the host, batch by batch: ``.npy``, ``.fvecs`` and ``.bvecs``, Parquet, JSON lines.

Arrays have no ids: a row's number, with zeros in front so that names sort, is its id.  Tables have a column of ids
(``id``) and one of vectors (``vector``), or those that are named; the other columns of scalars become attributes.
"""

import datetime as dt
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import NDArray

from vexfs.errors import InvalidArgument
from vexfs.search.arrow import pyarrow

BATCH = 2000
ID_COLUMNS = ("id", "ids", "_id", "name", "key")
VECTOR_COLUMNS = ("vector", "embedding", "vectors", "embeddings", "emb", "values")


@attrs.frozen
class Batch:
    """Some records: ids, vectors (n, dim), attributes of each, contents where there are any.

    `left_out` counts by column what cannot be an attribute.
    """

    ids: list[str]
    vectors: NDArray[Any]
    attributes: list[dict[str, Any]] | None = None
    contents: list[str | None] | None = None
    left_out: Counter[str] = attrs.field(factory=Counter)

    def apart(self) -> Iterator["Batch"]:
        """The same in pieces in which no id comes twice, so that a later record changes an earlier one anywhere."""
        first, seen = 0, set[str]()
        for k, each in enumerate(self.ids):
            if each in seen:
                yield self._part(slice(first, k))
                first, seen = k, set()
            seen.add(each)
        yield self._part(slice(first, None)) if first else self

    def _part(self, part: slice) -> "Batch":
        attributes = None if self.attributes is None else self.attributes[part]
        contents = None if self.contents is None else self.contents[part]
        return Batch(self.ids[part], self.vectors[part], attributes, contents)


@attrs.frozen
class Source:
    """A file of vectors.

    Attributes
    ----------
    rows : int or None
        How many, where the file says so.
    dim : int
    """

    rows: int | None
    dim: int
    batches: Callable[[], Iterator[Batch]]


def open_source(
    path: str | Path, *, id_column: str | None = None, vector_column: str | None = None, text_column: str | None = None
) -> Source:
    """A file of the host as batches of records.

    Raises
    ------
    InvalidArgument
        The file is of no kind that is known, or malformed; the message says what was wanted.
    OSError
    """
    file = Path(path)
    kind = file.suffix.lower()
    if file.is_dir():
        raise InvalidArgument.at("is a directory; a file of vectors is wanted", file)
    if kind == ".npy":
        return _array(_npy(file))
    if kind in (".fvecs", ".bvecs"):
        return _array(_vecs(file, kind))
    if kind in (".parquet", ".pq"):
        return _parquet(file, id_column, vector_column, text_column)
    if kind in (".jsonl", ".ndjson", ".json"):
        return _json_lines(file, id_column, vector_column, text_column)
    raise InvalidArgument.at(f"{kind or 'no ending'}: .npy, .fvecs, .bvecs, .parquet and .jsonl are known", file)


def _npy(file: Path) -> NDArray[Any]:
    with open(file, "rb") as begin:
        magic = begin.read(len(MAGIC_PREFIX))
    if magic != MAGIC_PREFIX:
        raise InvalidArgument.at("is no array: it does not begin as .npy files do", file)
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidArgument.at(f"is no array: {error}", file) from None
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        told = f"holds {array.dtype} of shape {array.shape}; numbers, one vector a row, are wanted"
        raise InvalidArgument.at(told, file)
    return array  # type: ignore[no-any-return]


def _vecs(file: Path, kind: str) -> NDArray[Any]:
    """Each vector after a little-endian int32 with its dimension."""
    size = file.stat().st_size
    width = 4 if kind == ".fvecs" else 1
    if size < 4:
        raise InvalidArgument.at("holds no vector", file)
    dim = int(np.fromfile(file, "<i4", 1)[0])
    if dim < 1 or size % (4 + dim * width):
        raise InvalidArgument.at(f"says dimension {dim}, which does not divide its {size} bytes", file)
    raw = np.memmap(file, np.uint8, "r").reshape(-1, 4 + dim * width)
    if (raw[:, :4].copy().view("<i4") != dim).any():
        raise InvalidArgument.at("holds vectors of several dimensions", file)
    return raw[:, 4:] if width == 1 else _Floats(raw)  # type: ignore[return-value]


class _Floats:
    """The float32 part of each row, made when it is taken: the rows do not begin at multiples of their width."""

    def __init__(self, raw: NDArray[np.uint8]) -> None:
        self._raw = raw
        self.shape = (raw.shape[0], (raw.shape[1] - 4) // 4)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, part: slice) -> NDArray[np.float32]:
        return np.ascontiguousarray(self._raw[part, 4:]).view("<f4")


def _array(array: Any) -> Source:
    digits = len(str(max(len(array) - 1, 0)))

    def batches() -> Iterator[Batch]:
        for at in range(0, len(array), BATCH):
            part = np.asarray(array[at : at + BATCH], np.float32)
            yield Batch([f"{k:0{digits}d}" for k in range(at, at + len(part))], part)

    return Source(len(array), int(array.shape[1]), batches)


def _column(names: list[str], wanted: str | None, usual: tuple[str, ...], what: str, file: Path) -> str | None:
    if wanted is not None:
        if wanted not in names:
            raise InvalidArgument.at(f"has no column {wanted!r}; it has {', '.join(names)}", file)
        return wanted
    found = next((name for name in usual if name in names), None)
    if found is None and what == "vectors":
        raise InvalidArgument.at(f"has no column of {what} among {', '.join(names)}; name it", file)
    return found


def _scalars(row: dict[str, Any], without: set[str | None], left_out: Counter[str]) -> dict[str, Any]:
    """What can be attributes: times as ISO 8601 has them; nothing and NaN are no values; the rest is counted."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name in without or value is None or value != value:
            continue
        if isinstance(value, dt.date | dt.time):
            found[name] = value.isoformat()
        elif isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
            found[name] = value
        else:
            left_out[name] += 1
    return found


def _vectors(lists: list[Any], at: int, name: str, dim: int, file: Path) -> NDArray[Any]:
    def fits(given: Any, shape: tuple[int, ...]) -> NDArray[Any] | None:
        try:
            made = np.array(given)
        except ValueError:
            return None
        return made if made.shape == shape and made.dtype.kind in "fiu" else None

    found = fits(lists, (len(lists), dim))
    if found is None:
        bad = next(k for k, each in enumerate(lists) if fits(each, (dim,)) is None)
        raise InvalidArgument.at(f"record {at + bad}: {name!r} is not a list of {dim} numbers", file)
    return found


def _records(
    rows: list[dict[str, Any]], at: int, id_at: str | None, vector_at: str, text_at: str | None, dim: int, file: Path
) -> Batch:
    without, left_out = {id_at, vector_at, text_at}, Counter[str]()
    if id_at is not None:
        for k, row in enumerate(rows):
            if row[id_at] is None:
                raise InvalidArgument.at(f"record {at + k} has no {id_at!r}", file)
    return Batch(
        [str(row[id_at]) if id_at is not None else f"{at + k:08d}" for k, row in enumerate(rows)],
        _vectors([row[vector_at] for row in rows], at, vector_at, dim, file),
        [_scalars(row, without, left_out) for row in rows],
        None if text_at is None else [row.get(text_at) for row in rows],
        left_out,
    )


def _parquet(file: Path, id_column: str | None, vector_column: str | None, text_column: str | None) -> Source:
    pyarrow()
    from pyarrow import ArrowInvalid, parquet

    try:
        table = parquet.ParquetFile(file)
    except ArrowInvalid as error:
        raise InvalidArgument.at(f"is no Parquet: {error}", file) from None
    names = list(table.schema_arrow.names)
    vector_at = _column(names, vector_column, VECTOR_COLUMNS, "vectors", file)
    id_at = _column(names, id_column, ID_COLUMNS, "ids", file)
    text_at = _column(names, text_column, (), "texts", file) if text_column else None
    assert vector_at is not None

    first = next(table.iter_batches(1, columns=[vector_at]), None)
    if first is None:
        raise InvalidArgument.at("holds no rows", file)
    vector = first.to_pylist()[0][vector_at]
    dim = len(vector) if isinstance(vector, list) else 0
    if not dim:
        raise InvalidArgument.at(f"record 0: {vector_at!r} is no list of numbers", file)

    def batches() -> Iterator[Batch]:
        at = 0
        for part in table.iter_batches(BATCH):
            yield _records(part.to_pylist(), at, id_at, vector_at, text_at, dim, file)
            at += part.num_rows

    return Source(table.metadata.num_rows, dim, batches)


def _json_lines(file: Path, id_column: str | None, vector_column: str | None, text_column: str | None) -> Source:
    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except (ValueError, RecursionError) as error:
                    raise InvalidArgument.at(f"line {number}: {error}", file) from None
                if not isinstance(row, dict):
                    raise InvalidArgument.at(f"line {number}: an object is wanted on each line", file)
                yield number, row

    first = next(rows(), None)
    if first is None:
        raise InvalidArgument.at("holds no lines", file)
    names = list(first[1])
    vector_at = _column(names, vector_column, VECTOR_COLUMNS, "vectors", file)
    id_at = _column(names, id_column, ID_COLUMNS, "ids", file)
    text_at = _column(names, text_column, (), "texts", file) if text_column else None
    assert vector_at is not None
    dim = len(first[1][vector_at]) if isinstance(first[1][vector_at], list) else 0
    if not dim:
        raise InvalidArgument.at(f"line {first[0]}: {vector_at!r} is no list of numbers", file)

    def batches() -> Iterator[Batch]:
        some: list[dict[str, Any]] = []
        at = 0
        for number, row in rows():
            vector = row.get(vector_at)
            if not isinstance(vector, list) or len(vector) != dim:
                raise InvalidArgument.at(f"line {number}: {vector_at!r} is not a list of {dim} numbers", file)
            if id_at is not None and id_at not in row:
                raise InvalidArgument.at(f"line {number}: has no {id_at!r}", file)
            some.append(row)
            if len(some) == BATCH:
                yield _records(some, at, id_at, vector_at, text_at, dim, file)
                at, some = at + BATCH, []
        if some:
            yield _records(some, at, id_at, vector_at, text_at, dim, file)

    return Source(None, dim, batches)
