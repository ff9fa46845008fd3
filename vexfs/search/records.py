"""Records on their way into an index: what a caller gives, checked as a whole before anything is stored."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vexfs._core.record import first_unfit
from vexfs.errors import InvalidArgument, VectorInvalid

Floats = NDArray[np.float32]
Attributes = Sequence[Mapping[str, Any] | None] | Mapping[str, Sequence[Any]] | None


def vectors_of(vectors: ArrayLike, dim: int, metric: str, n: int | None = None, what: str = "vector") -> Floats:
    """Checked vectors, float32 (n, dim), C-contiguous.

    Raises
    ------
    VectorInvalid
        Names the row and the value that cannot be.
    """
    many = "queries" if what == "query" else f"{what}s"
    given = numbers_of(vectors, f"{many} are numbers, {dim} each")
    x = given if given.dtype == np.float32 else float32_of(given, f"{many} are numbers, {dim} each")
    if x.ndim == 1 and n in (None, 1):
        x = x[None, :]
    elif n == x.size == 0:
        x = x.reshape(0, dim)
    if x.ndim != 2 or x.shape[1] != dim:
        shape = "x".join(map(str, given.shape))
        raise VectorInvalid(f"{many} of shape {shape or 'scalar'}; the index holds vectors of dimension {dim}")
    if n is not None and len(x) != n:
        raise VectorInvalid(f"{len(x)} {many} for {n} ids; one each is wanted")
    x = np.ascontiguousarray(x)
    row = first_unfit(x, metric != "cosine")
    if row >= 0:
        if not np.isfinite(x[row]).all():
            place = int(np.flatnonzero(~np.isfinite(x[row]))[0])
            value = given.reshape(x.shape)[row, place]
            why = "float32 cannot hold that" if np.isfinite(float(value)) else "finite numbers are wanted"
            raise VectorInvalid(f"{what} {row} has {value} at place {place}; {why}")
        most = np.abs(x[row]).max()
        small = f"has no number above {most:g}, which is as good as zeros and" if most else "is all zeros, which"
        raise VectorInvalid(f"{what} {row} {small} has no direction: the index compares by cosine")
    return x


def numbers_of(values: Any, wanted: str) -> NDArray[Any]:
    """An array of something that can be a number.

    Raises
    ------
    VectorInvalid
        It is none, or one of text, times or complex numbers, of which a part would be lost.
    """
    try:
        found = np.asarray(values)
        if found.dtype == object and found.ndim == 1:
            found = np.asarray(found.tolist())  # a column whose values are vectors, as of pandas
    except (TypeError, ValueError) as error:
        raise VectorInvalid(f"{wanted}: {error}") from None
    if found.dtype.kind in "cmMSU":
        raise VectorInvalid(f"{wanted}, not {found.dtype}")
    return found


def float32_of(given: NDArray[Any], wanted: str) -> Floats:
    """The same as float32; what is too large for it becomes infinite."""
    try:
        with np.errstate(over="ignore"):
            return given.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise VectorInvalid(f"{wanted}: {error}") from None


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
