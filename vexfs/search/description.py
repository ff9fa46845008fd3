"""What an index is: the part of it that is decided when it is made, and kept with it."""

import json
import time
from typing import Any, Self

import attrs

from vexfs.errors import IndexConflict, InvalidArgument

METRICS = ("cosine", "l2", "dot")
#: Other names that people use for the metrics.
ALIASES = {"euclidean": "l2", "ip": "dot", "inner-product": "dot", "dot-product": "dot", "cos": "cosine"}
DTYPES = ("f32", "f16", "bf16", "i8")
#: Where the stored vectors are when a search compares them; codes and lists are in memory always.
ROWS_IN = ("memory", "disk")
#: Key of an index's state, true: it took the place of another one with only a part of its rows, and ingest is to
#: complete it.
UNFINISHED = "unfinished"
DIM_MAX = 65_536
K_MAX = 10_000


def _choice(name: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise InvalidArgument.at(f"{name} {value!r} is unknown; {', '.join(known)} are known")
    return str(value)


def checked_metric(metric: Any) -> str:
    """The metric under the name that it has here."""
    return _choice("metric", ALIASES.get(metric, metric), METRICS)


def checked_dim(dim: Any) -> int:
    """A dimension that can be."""
    if isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim <= DIM_MAX:
        raise InvalidArgument.at(f"dim={dim!r}: a dimension is a whole number from 1 to {DIM_MAX}")
    return dim


@attrs.frozen
class Description:
    """An index as it stands in the volume's list of indexes.

    Attributes
    ----------
    number : int
        Names its files; never used twice.
    directory : int
        Inode number of the directory that it belongs to.
    rows_in : str
        Where stored vectors are when a search compares them: ``memory`` or ``disk``.
    embedder : str or None
        Name of the model that turns text below the directory into vectors; None: vectors come from the user alone.
    state : dict
        What the parts that work on the index keep with it: the model's version, how far ingest came.
    """

    number: int
    directory: int
    dim: int
    metric: str = "cosine"
    dtype: str = "f32"
    embedder: str | None = None
    rows_in: str = "memory"
    created: float = attrs.field(factory=time.time)
    state: dict[str, Any] = attrs.field(factory=dict)

    @classmethod
    def make(
        cls, number: int, directory: int, dim: Any, metric: Any, dtype: Any, embedder: str | None,
        rows_in: Any = "memory", state: dict[str, Any] | None = None,
    ) -> Self:
        """A checked description.

        Raises
        ------
        InvalidArgument
            Names what cannot be, and what can.
        """
        kind = _choice("dtype", dtype, DTYPES)
        where = _choice("rows_in", rows_in, ROWS_IN)
        return cls(number, directory, checked_dim(dim), checked_metric(metric), kind, embedder, where,
                   state=dict(state or {}))  # fmt: skip

    def refuse_other(
        self, path: str, dim: Any, metric: Any, dtype: Any, embedder: str | None, rows_in: Any = None
    ) -> None:
        """Raise `IndexConflict` when what is asked for is another index than this one; None asks for nothing."""
        wanted = {"dim": dim, "metric": None if metric is None else checked_metric(metric), "dtype": dtype,
                  "embedder": embedder, "rows_in": rows_in}  # fmt: skip
        for name, value in wanted.items():
            if value is not None and value != getattr(self, name):
                raise IndexConflict.at(
                    f"has an index with {name}={getattr(self, name)!r}, not {value!r}; drop it, or index another "
                    "directory", path,
                )  # fmt: skip


def pack_list(descriptions: list[Description], next_number: int) -> bytes:
    """The list of indexes as it lies in the volume."""
    rows = [attrs.asdict(d) for d in descriptions]
    return json.dumps({"version": 1, "next": next_number, "indexes": rows}, indent=1).encode()


def unpack_list(text: bytes) -> tuple[list[Description], int]:
    """Descriptions and the next number.

    Raises
    ------
    ValueError
        It is not such a list.
    """
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("version") != 1:
        raise ValueError("the list of indexes is of a version that this VexFS does not know")
    try:
        return [Description(**row) for row in data["indexes"]], int(data["next"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"the list of indexes is malformed: {error}") from None
