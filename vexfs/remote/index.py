"""Indexes of a remote volume, with the methods of :class:`vexfs.search.index.Index`."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vexfs._core.record import columns_of, pack
from vexfs.errors import FilterInvalid, IndexMissing, InvalidArgument, NotSupported, QueryInvalid, VectorInvalid
from vexfs.remote.link import Link, error_of, texts
from vexfs.search.filters import refuse_empty
from vexfs.search.hits import Missing
from vexfs.search.records import float32_of, numbers_of

Where = Mapping[str, Any] | None


@attrs.frozen
class Record:
    """One record: its id, its vector (None when it has none), its attributes."""

    id: str
    path: str
    vector: NDArray[np.float32] | None = attrs.field(repr=False, eq=attrs.cmp_using(eq=np.array_equal))
    attributes: dict[str, Any]


@attrs.define
class Hit:
    """One match; larger scores are better; `number`: which of the file's vectors, where it may have several.

    Of a search by text with its lines, and the file's other passages.
    """

    score: float
    distance: float | None
    path: str
    id: str
    text: str
    span: tuple[int, int] | None
    attributes: dict[str, Any]
    number: int | None = None
    ino: int | None = None
    lines: tuple[int, int] | None = None
    others: list["Hit"] = attrs.field(factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the keys of :meth:`vexfs.search.hits.Hit.as_dict`."""
        out: dict[str, Any] = {
            "path": self.path, "id": self.id, "score": self.score, "distance": self.distance,
            "attributes": self.attributes,
        }  # fmt: skip
        if self.span is not None:
            out["span"] = list(self.span)
        if self.text:
            out["text"] = self.text
        if self.number is not None:
            out["number"] = self.number
        if self.others:
            out["others"] = [
                {"span": list(o.span or ()), "number": o.number, "score": o.score, "text": o.text} for o in self.others
            ]
        return out


class Hits(list[Hit]):
    """Matches, best first; ``explanation`` says how they were found, when that was asked, ``missing`` what could not be
    searched: path and reason of each index.
    """

    explanation: dict[str, Any] | None = None
    missing: tuple[Missing, ...] = ()

    @property
    def paths(self) -> list[str]:
        """The paths alone."""
        return [hit.path for hit in self]

    def to_arrow(self) -> Any:
        """A ``pyarrow.Table``, as :meth:`vexfs.search.hits.Hits.to_arrow`."""
        from vexfs.search.arrow import table_of

        return table_of(self)  # type: ignore[arg-type]  # has what the table is made of


def hits_of(rows: Iterable[Mapping[str, Any]], explanation: dict[str, Any] | None = None) -> Hits:
    """Matches as a node tells them."""
    hits = Hits(_hit(row, row) for row in rows)
    hits.explanation = explanation
    return hits


def _hit(row: Mapping[str, Any], file: Mapping[str, Any]) -> Hit:
    """A passage of a file, or the file's best with the others."""
    others = row.get("others") or ()
    distance = row.get("distance")
    return Hit(
        row["score"], None if distance != distance else distance, texts(file["path"]), texts(file["id"]),
        row.get("text") or "", _pair(row, "span"), texts(file.get("attributes") or {}), row.get("number"),
        file.get("ino"), _pair(row, "lines"), [_hit(other, file) for other in others],
    )  # fmt: skip


def _pair(row: Mapping[str, Any], name: str) -> tuple[int, int] | None:
    first_last = row.get(name)
    return (first_last[0], first_last[1]) if first_last else None


def filter_of(where: Any) -> dict[str, Any] | None:
    """A filter as it travels; raises ``FilterInvalid`` for what is none."""
    if where is not None and not isinstance(where, Mapping):
        raise FilterInvalid(f"where: a filter is a mapping such as {{'year': {{'$gte': 2020}}}}, not {where!r}")
    return None if where is None else dict(where)


def sent_vectors(values: Any, count: int | None = None) -> NDArray[np.float32]:
    """Vectors as they travel, little-endian float32; of so many records, when that is told.

    Raises
    ------
    VectorInvalid
        They are no numbers, or not as many as the records.
    """
    wanted = "vectors are numbers"
    given = np.ascontiguousarray(float32_of(numbers_of(values, wanted), wanted), "<f4")
    if given.ndim not in (1, 2):
        shape = "x".join(map(str, np.shape(values))) or "scalar"
        raise VectorInvalid(f"vectors of shape {shape}; one, or a matrix of them, is wanted")
    if count is not None and given.ndim > 1 and len(given) != count:
        raise VectorInvalid(f"{len(given)} vectors for {count} ids; one each is wanted")
    return given


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes with numpy's scalars as Python's."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}


def rows_of(attributes: Any, count: int) -> list[dict[str, Any]] | None:
    """Attributes by record, also where they were given by name."""
    if attributes is None:
        return None
    pack(attributes, count)  # refuses what cannot be, and names it
    columns = columns_of(attributes)
    if columns is None:
        return [plain(row or {}) for row in attributes]
    rows = [{name: column[i] for name, column in columns.items()} for i in range(count)]
    return [plain({name: value for name, value in row.items() if value is not None and value == value}) for row in rows]


class RemoteIndex:
    """An index at a node.  Made by ``index`` and ``indexes`` of a :class:`~vexfs.remote.RemoteVolume`."""

    def __init__(self, link: Link, about: Mapping[str, Any]) -> None:
        self._link = link
        self._about = dict(about)

    @property
    def path(self) -> str:
        """Of its directory, asked now: it may have been renamed."""
        return str(self.describe()["path"])

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

    @property
    def rows_in(self) -> str:
        """Where stored vectors are when a search compares them: ``memory`` or ``disk``."""
        return str(self._about["rows_in"])

    @property
    def state(self) -> dict[str, Any]:
        """What is kept with the index by those who work on it, asked now."""
        return dict(self.describe()["state"])

    def memory(self) -> dict[str, int]:
        """Bytes in the node's memory, by part."""
        return dict(self.describe()["memory"])

    def __getattr__(self, name: str) -> Any:
        why = "what works on inodes and rows is for programs that have the volume open"
        raise AttributeError(name if name.startswith("_") else f"an index at a node has no {name!r}; {why}")

    def describe(self) -> dict[str, Any]:
        """What it is and how it stands, asked now."""
        for about in texts(self._link.ask("GET", "/v1/indexes")):
            if about["number"] == self._about["number"]:
                self._about = dict(about)
                return dict(about)
        raise IndexMissing.at("the index is no more", str(self._about["path"]))

    def _body(self, **more: Any) -> dict[str, Any]:
        """A request's body; the index is told by its number, which stays when the directory is renamed."""
        kept = {name: value for name, value in more.items() if value is not None}
        return {"index": self._about["path"], "number": self._about["number"], **kept}

    def __len__(self) -> int:
        return self.count()

    def __repr__(self) -> str:
        return f"<RemoteIndex {self._about['path']!r} at {self._link.url}, dim={self.dim} {self.metric} {self.dtype}>"

    def _put(
        self, mode: str, ids: Iterable[str], vectors: ArrayLike | None, attributes: Any, contents: Any,
        errors: str | None = None,
    ) -> Any:
        if isinstance(ids, str | bytes):
            ids = [os.fsdecode(ids)]
            attributes = [attributes] if isinstance(attributes, Mapping) else attributes
            contents = [contents] if isinstance(contents, str | bytes) else contents
        names = _names(ids)
        given = None if contents is None else list(contents)
        raw = given is not None and any(isinstance(each, bytes) for each in given)
        if raw and given is not None:
            given = [each.encode() if isinstance(each, str) else each for each in given]
        body = self._body(
            mode=mode, ids=names, attributes=rows_of(attributes, len(names)), errors=errors,
            vectors=None if vectors is None else sent_vectors(vectors, len(names)).tobytes(),
            **{"contents_bytes" if raw else "contents": given},
        )  # fmt: skip
        answer = self._link.ask("POST", "/v1/upsert", body, invalid=InvalidArgument, again=mode != "add", changes=True)
        if errors == "report":
            return [None if each is None else error_of(each) for each in answer["errors"]]
        return int(answer["count"])

    def upsert(
        self, ids: Iterable[str], vectors: ArrayLike, attributes: Any = None,
        contents: Sequence[str | bytes | None] | None = None, *, errors: str = "raise",
    ) -> Any:
        """Store records: a file each, with its vector and attributes.  Searchable on return.

        With ``errors="report"`` what can be stored is, and the answer is a list: None or the error of each record.
        """
        return self._put("upsert", ids, vectors, attributes, contents, errors)

    def add(
        self, ids: Iterable[str], vectors: ArrayLike, attributes: Any = None,
        contents: Sequence[str | bytes | None] | None = None,
    ) -> Any:
        """As :meth:`upsert`, of records that do not exist yet."""
        return self._put("add", ids, vectors, attributes, contents)

    def update(self, ids: Iterable[str], vectors: ArrayLike | None = None, attributes: Any = None) -> Any:
        """Change records that exist."""
        return self._put("update", ids, vectors, attributes, None)

    def get(self, ids: Iterable[str] | str) -> Any:
        """Records by id, None where there is none; of a single id that alone."""
        if isinstance(ids, str | bytes):
            return self.get([ids])[0]
        names = _names(ids)
        found = self._link.ask("POST", "/v1/get", self._body(ids=names), invalid=InvalidArgument, again=True)
        known = {}
        for row in found:
            vector = _vector(row.pop("vector"))
            row = texts(row)
            known[row["id"]] = Record(row["id"], row["path"], vector, row["attributes"])
        return [known.get(name) for name in names]

    def delete(self, ids: Iterable[str] | None = None, where: Where = None) -> int:
        """Remove records by id, or all that match; answers how many."""
        if (ids is None) == (where is None):
            raise InvalidArgument.at("delete takes ids or where, one of them")
        refuse_empty(where)
        names = None if ids is None else _names([ids] if isinstance(ids, str | bytes) else ids)
        body = self._body(ids=names, where=filter_of(where))
        return int(self._link.ask("POST", "/v1/delete", body, invalid=QueryInvalid, changes=True)["count"])

    def count(self, where: Where = None, under: Any = None) -> int:
        """How many there are, or match, below a directory."""
        body = self._body(where=filter_of(where), under=_path(under))
        return int(self._link.ask("POST", "/v1/count", body, invalid=QueryInvalid, again=True)["count"])

    def query(
        self, vectors: ArrayLike, k: int = 10, *, where: Where = None, under: Any = None,
        recall: float | None = None, effort: int | None = None, exact: bool | None = None,
        threshold: float | None = None, explain: bool = False, threads: int = 1, attributes: bool = True,
    ) -> Any:
        """The nearest records of a vector, or (a matrix) of each of its rows.

        `attributes` False leaves them out of the answer, which is then shorter.  Each request has one thread at a node.
        """
        if threads != 1:
            raise NotSupported.at(f"threads={threads}; a request has one thread at a node, ask from several threads")
        given = sent_vectors(vectors)
        body = self._body(
            k=k, where=filter_of(where), under=_path(under), recall=recall, effort=effort,
            exact=exact, threshold=threshold, explain=explain, attributes=attributes,
        )  # fmt: skip
        body["vector" if given.ndim == 1 else "vectors"] = given.tobytes()
        answer = self._link.ask("POST", "/v1/query", body, invalid=QueryInvalid, again=True)
        if given.ndim == 1:
            return hits_of(answer["hits"], answer.get("explanation"))
        told = answer.get("explanations") or [None] * len(answer["results"])
        return [hits_of(rows, each) for rows, each in zip(answer["results"], told, strict=True)]


def _names(ids: Iterable[str | bytes]) -> list[str]:
    names = list(ids)
    for place, each in enumerate(names):
        if not isinstance(each, (str, bytes)):
            raise InvalidArgument.at(f"id {place} is {each!r}; ids are the names of files: strings")
    return list(map(os.fsdecode, names))


def _path(under: Any) -> str | None:
    return None if under is None else os.fsdecode(under) if isinstance(under, bytes) else str(under)


def _vector(raw: bytes | None) -> NDArray[np.float32] | None:
    return None if raw is None else np.frombuffer(raw, "<f4").astype(np.float32)
