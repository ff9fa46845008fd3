"""Records on their way into an index: what a caller gives, checked as a whole before anything is stored."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vexfs.errors import InvalidArgument, VectorInvalid
from vexfs.store.attributes import PREFIX, RESERVED, encode
from vexfs.store.rows import pack_xattrs

Floats = NDArray[np.float32]
Attributes = Sequence[Mapping[str, Any] | None] | Mapping[str, Sequence[Any]] | None
_NO_NAMES = frozenset((b"", b".", b"..", b".vexfs"))
#: Bytes that may open a JSON value: a string that begins otherwise is stored as it is.
_JSON_FIRST = frozenset(b'0123456789-"tfnIN[{ \t\r\n')


def vectors_of(vectors: ArrayLike, dim: int, metric: str, n: int | None = None, what: str = "vector") -> Floats:
    """Checked vectors, float32 (n, dim), C-contiguous.

    Raises
    ------
    VectorInvalid
        Names the row and the value that cannot be.
    """
    try:
        x = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise VectorInvalid(f"{what}s are numbers, {dim} each: {error}") from None
    if x.ndim == 1 and n in (None, 1):
        x = x[None, :]
    if x.ndim != 2 or x.shape[1] != dim:
        shape = "x".join(map(str, np.shape(vectors)))
        raise VectorInvalid(f"{what}s of shape {shape or 'scalar'}; the index holds vectors of dimension {dim}")
    if n is not None and len(x) != n:
        raise VectorInvalid(f"{len(x)} {what}s for {n} ids; one each is wanted")
    total = np.abs(x).sum(axis=1, dtype=np.float64)  # NaN and infinity come through a sum
    if not np.isfinite(total).all():
        row = int(np.flatnonzero(~np.isfinite(total))[0])
        place = int(np.flatnonzero(~np.isfinite(x[row]))[0])
        raise VectorInvalid(f"{what} {row} has {x[row, place]} at place {place}; finite numbers are wanted")
    if metric == "cosine" and not total.all():
        row = int(np.flatnonzero(total == 0)[0])
        raise VectorInvalid(f"{what} {row} is all zeros, which has no direction: the index compares by cosine")
    return np.ascontiguousarray(x)


def names_of(ids: Iterable[str | bytes]) -> list[bytes]:
    """Ids as names of files; each once.

    Raises
    ------
    InvalidArgument
        An id that no file can have, or one that comes twice.
    """
    names = []
    for place, each in enumerate(ids):
        if isinstance(each, np.generic):
            each = each.item()
        if not isinstance(each, str | bytes):
            raise InvalidArgument.at(f"id {place} is {each!r}; ids are the names of files: strings")
        names.append(each if isinstance(each, bytes) else each.encode("utf-8", "surrogateescape"))
    if len(set(names)) != len(names):
        seen: set[bytes] = set()
        twice = next(n for n in names if n in seen or seen.add(n))  # type: ignore[func-returns-value]
        raise InvalidArgument.at(f"id {os.fsdecode(twice)!r} comes twice in one batch")
    for name in names:
        if len(name) <= 255 and name not in _NO_NAMES and not (b"/" in name or b"\0" in name):
            continue
        parts = name.split(b"/")
        if any(p in (b"", b".", b"..", b".vexfs") or b"\0" in p for p in parts):
            raise InvalidArgument.at(f"{os.fsdecode(name)!r} cannot be an id: it is no name of a file")
        if max(map(len, parts)) > 255:
            raise InvalidArgument.at(f"id {os.fsdecode(name[:40])!r}... is longer than 255 bytes")
    return names


def _value(value: Any, name: str, place: int) -> bytes:
    if type(value) is int:
        return b"%d" % value
    if type(value) is str:
        raw = value.encode("utf-8", "surrogateescape")
        if raw and raw[0] not in _JSON_FIRST:
            return raw
    try:
        return encode(value)
    except (TypeError, ValueError) as error:
        raise InvalidArgument.at(f"attribute {name!r} of record {place}: {error}") from None


def _name(name: Any, place: int) -> bytes:
    if not isinstance(name, str) or not name:
        raise InvalidArgument.at(f"an attribute of record {place} is called {name!r}; names are strings")
    raw = PREFIX + name.encode("utf-8", "surrogateescape")
    if len(raw) > 255 or b"\0" in raw or raw.startswith(RESERVED):
        raise InvalidArgument.at(f"{name!r} cannot be the name of an attribute (record {place})")
    return raw


def xattrs_of(attributes: Attributes, n: int) -> list[bytes | None] | None:
    """Packed xattrs of n records; `attributes` is a mapping for each record, or a sequence of n values for each name.

    A missing value (None in a column, NaN) is no attribute.
    """
    if attributes is None:
        return None
    rows: Sequence[Mapping[str, Any] | None]
    if isinstance(attributes, Mapping):
        columns = {name: list(values) for name, values in attributes.items()}
        for name, values in columns.items():
            if len(values) != n:
                raise InvalidArgument.at(f"attribute {name!r} has {len(values)} values for {n} records")
        rows = [{name: values[k] for name, values in columns.items() if not _missing(values[k])} for k in range(n)]
    else:
        rows = list(attributes)
        if len(rows) != n:
            raise InvalidArgument.at(f"attributes for {len(rows)} records; there are {n}")
    names: dict[str, bytes] = {}
    packed: list[bytes | None] = []
    for place, row in enumerate(rows):
        if not row:
            packed.append(None)
            continue
        if not isinstance(row, Mapping):
            raise InvalidArgument.at(f"attributes of record {place} are {row!r}; a mapping is wanted")
        entries = []
        for name, value in row.items():
            raw = names.get(name)
            if raw is None:
                raw = names[name] = _name(name, place)
            entries.append((raw, _value(value, name, place)))
        packed.append(pack_xattrs(entries))
    return packed


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def contents_of(contents: Sequence[str | bytes | None] | None, n: int) -> list[bytes | None] | None:
    """Contents as bytes, one a record."""
    if contents is None:
        return None
    out = [c.encode("utf-8", "surrogateescape") if isinstance(c, str) else c for c in contents]
    if len(out) != n:
        raise InvalidArgument.at(f"contents for {len(out)} records; there are {n}")
    for place, content in enumerate(out):
        if content is not None and not isinstance(content, bytes):
            raise InvalidArgument.at(f"content of record {place} is a {type(content).__name__}; str or bytes is wanted")
    return out


_TEXT = frozenset(b"0123456789+-.eE, \t\r\n[]")


def parse_vector(value: bytes, dim: int) -> Floats:
    """A vector from the bytes of an attribute, float32 (dim,): little-endian float32, or numbers between commas.

    Raises
    ------
    VectorInvalid
        It is neither.
    """
    if value and all(c in _TEXT for c in value):
        try:
            numbers = [float(part) for part in value.decode("ascii").strip().strip("[]").split(",")]
        except ValueError:
            numbers = []
        if len(numbers) == dim or len(value) != 4 * dim:
            return np.array(_as_many(numbers, dim), np.float32)
    if len(value) != 4 * dim:
        raise VectorInvalid(
            f"a vector of {len(value)} bytes; {4 * dim} bytes of float32, or {dim} numbers between commas, are wanted"
        )
    return np.frombuffer(value, "<f4").astype(np.float32)


def _as_many(numbers: list[float], dim: int) -> list[float]:
    if len(numbers) != dim:
        raise VectorInvalid(f"{len(numbers)} numbers; the index holds vectors of dimension {dim}")
    return numbers
