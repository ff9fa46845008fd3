"""Indexes of a remote volume, with the methods of :class:`vexfs.search.index.Index`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vexfs.remote.link import Link, quoted

Where = Mapping[str, Any] | None


@attrs.frozen
class Record:
    """One record: its id, its vector (None when it has none), its attributes."""

    id: str
    vector: NDArray[np.float32] | None
    attributes: dict[str, Any]


@attrs.frozen
class Hit:
    """One match; larger scores are better."""

    score: float
    distance: float | None
    path: str
    id: str
    text: str
    span: tuple[int, int] | None
    attributes: dict[str, Any]


class Hits(list[Hit]):
    """Matches, best first."""

    @property
    def paths(self) -> list[str]:
        """The paths alone."""
        return [hit.path for hit in self]


def hits_of(rows: Iterable[Mapping[str, Any]]) -> Hits:
    """Matches as a node tells them."""
    return Hits(
        Hit(
            row["score"], row.get("distance"), row["path"], row["id"], row.get("text") or "",
            tuple(row["span"]) if row.get("span") else None, row.get("attributes") or {},
        )
        for row in rows
    )  # fmt: skip


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes with numpy's scalars as Python's."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}


def rows_of(attributes: Any, count: int) -> list[dict[str, Any]] | None:
    """Attributes by record, also where they were given by name."""
    if attributes is None:
        return None
    if isinstance(attributes, Mapping):
        columns = {name: list(values) for name, values in attributes.items()}
        return [plain({name: column[i] for name, column in columns.items()}) for i in range(count)]
    return [plain(row or {}) for row in attributes]


class RemoteIndex:
    """An index at a node.  Made by ``index`` and ``indexes`` of a :class:`~vexfs.remote.RemoteVolume`."""

    def __init__(self, link: Link, about: Mapping[str, Any]) -> None:
        self._link = link
        self._about = dict(about)

    @property
    def path(self) -> str:
        """Of its directory."""
        return str(self._about["path"])

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return int(self._about["dim"])

    @property
    def metric(self) -> str:
        """``"cosine"``, ``"l2"`` or ``"dot"``."""
        return str(self._about["metric"])

    @property
    def dtype(self) -> str:
        """What vectors are stored as."""
        return str(self._about["dtype"])

    @property
    def embedder(self) -> str | None:
        """The model that turns text into its vectors."""
        found: str | None = self._about.get("embedder")
        return found

    def describe(self) -> dict[str, Any]:
        """What it is and how it stands, asked now."""
        self._about = dict(self._link.ask("GET", f"/v1/indexes/{quoted(self.path)}"))
        return dict(self._about)

    def __len__(self) -> int:
        return self.count()

    def __repr__(self) -> str:
        return f"<RemoteIndex {self.path!r} at {self._link.url}, dim={self.dim} {self.metric} {self.dtype}>"

    def _put(
        self, mode: str, ids: Iterable[str], vectors: ArrayLike | None, attributes: Any, contents: Any
    ) -> int:
        names = [str(each) for each in ids]
        body = {
            "index": self.path, "mode": mode, "ids": names, "attributes": rows_of(attributes, len(names)),
            "vectors": None if vectors is None else np.ascontiguousarray(vectors, "<f4").tobytes(),
            "contents": None if contents is None else list(contents),
        }  # fmt: skip
        answer = self._link.ask("POST", "/v1/upsert", {k: v for k, v in body.items() if v is not None})
        return int(answer["count"])

    def upsert(
        self, ids: Iterable[str], vectors: ArrayLike | None = None, attributes: Any = None,
        contents: Sequence[str | None] | None = None,
    ) -> int:
        """Store records: a file each, with its vector and attributes.  Searchable on return."""
        return self._put("upsert", ids, vectors, attributes, contents)

    def add(
        self, ids: Iterable[str], vectors: ArrayLike, attributes: Any = None,
        contents: Sequence[str | None] | None = None,
    ) -> int:
        """As :meth:`upsert`, of records that do not exist yet."""
        return self._put("add", ids, vectors, attributes, contents)

    def update(self, ids: Iterable[str], vectors: ArrayLike | None = None, attributes: Any = None) -> int:
        """Change records that exist."""
        return self._put("update", ids, vectors, attributes, None)

    def get(self, ids: Iterable[str] | str) -> Any:
        """Records by id, None where there is none; of a single id that alone."""
        if isinstance(ids, str):
            return self.get([ids])[0]
        names = list(ids)
        found = self._link.ask("POST", "/v1/get", {"index": self.path, "ids": names})
        known = {row["id"]: Record(row["id"], _vector(row["vector"]), row["attributes"]) for row in found}
        return [known.get(name) for name in names]

    def delete(self, ids: Iterable[str] | None = None, where: Where = None) -> int:
        """Remove records by id, or all that match; answers how many."""
        body = {"index": self.path, **({"ids": list(ids)} if ids is not None else {"where": dict(where or {})})}
        return int(self._link.ask("POST", "/v1/delete", body)["count"])

    def count(self, where: Where = None) -> int:
        """How many there are, or match."""
        body = {"index": self.path, **({"where": dict(where)} if where is not None else {})}
        return int(self._link.ask("POST", "/v1/count", body)["count"])

    def query(
        self, vector: ArrayLike, k: int = 10, *, where: Where = None, under: str | None = None,
        recall: float | None = None, effort: int | None = None, exact: bool | None = None,
        threshold: float | None = None, attributes: bool = True,
    ) -> Any:
        """The nearest records of a vector, or (a matrix) of each of its rows.

        `attributes` False leaves them out of the answer, which is then shorter.
        """
        given = np.ascontiguousarray(vector, "<f4")
        options = {
            "k": k, "where": where, "under": under, "recall": recall, "effort": effort, "exact": exact,
            "threshold": threshold, "attributes": attributes,
        }  # fmt: skip
        body = {"index": self.path, **{name: value for name, value in options.items() if value is not None}}
        if given.ndim == 1:
            return hits_of(self._link.ask("POST", "/v1/query", {**body, "vector": given.tobytes()})["hits"])
        answer = self._link.ask("POST", "/v1/query", {**body, "vectors": given.tobytes()})
        return [hits_of(rows) for rows in answer["results"]]


def _vector(raw: bytes | None) -> NDArray[np.float32] | None:
    return None if raw is None else np.frombuffer(raw, "<f4").astype(np.float32)
