"""``/v1/indexes``, ``/v1/upsert``, ``/v1/query``, ``/v1/search`` ...: finding files by meaning.

Vectors are lists of numbers in JSON, or little-endian float32 (base64 in JSON, bytes in MessagePack), or the whole body
(application/octet-stream) with everything else in the query string.
"""

import os
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from vexfs.frontends.http.api.types import Done, Fault, HitBody, Passage, Scalar
from vexfs.frontends.http.fence import fence, fenced
from vexfs.frontends.http.message import BYTES, JSON, MSGPACK, Problem, Reply, Request, normal
from vexfs.frontends.http.route import MODEL, READ, WRITE, Answer, Route

from vexfs.errors import IndexMissing, NotPermitted, describe
from vexfs.errors import row_of as error_row
from vexfs.node import Node
from vexfs.search.across import told_of
from vexfs.search.catalog import Catalog
from vexfs.search.index import Index

Floats = NDArray[np.float32]
Vector = bytes | list[float]
Matrix = bytes | list[list[float]]
Where = dict[str, Any]
Many = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Path = Annotated[str, msgspec.Meta(min_length=1)]
#: Matches that one request can ask for.
MATCHES_MOST = 1_000_000


class NewIndex(msgspec.Struct, forbid_unknown_fields=True):
    """An index to make."""

    dim: Annotated[int, msgspec.Meta(ge=1, le=65536)] | None = None
    metric: str | None = None
    dtype: str | None = None
    embedder: str | None = None
    rows_in: str | None = None


class Upsert(msgspec.Struct, forbid_unknown_fields=True):
    """Records to write: ids are file names, vectors rows, attributes and contents (text, or bytes) alongside."""

    index: Path
    ids: list[Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]]
    mode: Literal["upsert", "add", "update"] = "upsert"
    vectors: Matrix | None = None
    attributes: list[dict[str, Scalar]] | None = None
    contents: list[str | None] | None = None
    contents_bytes: list[bytes | None] | None = None
    number: int | None = None
    errors: Literal["raise", "report"] = "raise"


class Stored(msgspec.Struct, omit_defaults=True):
    """How many were given; asked to report, what was wrong with each (null: nothing)."""

    count: int
    errors: list[Fault | None] | None = None


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """Nearest records of one vector, or (vectors) of each of several."""

    index: Path
    vector: Vector | None = None
    vectors: Matrix | None = None
    k: Many = 10
    where: Where | None = None
    under: Path | None = None
    threshold: float | None = None
    exact: bool | None = None
    recall: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    effort: Annotated[int, msgspec.Meta(ge=1)] | None = None
    explain: bool = False
    attributes: bool = False
    number: int | None = None


class RawQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The same in a query string; the vector is the body."""

    index: Path
    k: Many = 10
    under: Path | None = None
    threshold: float | None = None
    exact: bool | None = None
    recall: float | None = None
    attributes: bool = False


class MaybeRaw(msgspec.Struct, forbid_unknown_fields=True):
    """The query string of POST /v1/query: only for a body of raw float32."""

    index: Path | None = None
    k: Many | None = None
    under: Path | None = None
    threshold: float | None = None
    exact: bool | None = None
    recall: float | None = None
    attributes: bool | None = None


class Search(msgspec.Struct, forbid_unknown_fields=True):
    """Search by text, by vector, or by both kinds of likeness."""

    text: str | None = None
    vector: Vector | None = None
    k: Many = 10
    under: Path = "/"
    where: Where | None = None
    mode: Literal["hybrid", "semantic", "keyword"] = "hybrid"
    attributes: bool = False
    threshold: float | None = None
    recall: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    effort: Annotated[int, msgspec.Meta(ge=1)] | None = None
    exact: bool | None = None
    rerank: str | None = None
    explain: bool = False
    passages: bool = False


class Similar(msgspec.Struct, forbid_unknown_fields=True):
    """Search by example."""

    path: Path
    k: Many = 10
    under: Path | None = None
    where: Where | None = None
    threshold: float | None = None
    recall: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    effort: Annotated[int, msgspec.Meta(ge=1)] | None = None
    exact: bool | None = None
    explain: bool = False
    attributes: bool = False


class Selection(msgspec.Struct, forbid_unknown_fields=True):
    """Records of an index: by id, or those that match."""

    index: Path
    ids: list[str] | None = None
    where: Where | None = None
    under: Path | None = None
    number: int | None = None


class Missing(msgspec.Struct):
    """An index that could not be searched, and why."""

    path: str
    reason: str


class Hits(msgspec.Struct, omit_defaults=True):
    """Matches, best first; how they were found, when that was asked; the indexes that could not be searched."""

    hits: list[HitBody]
    explanation: dict[str, Any] | None = None
    missing: list[Missing] = []


class HitsOfEach(msgspec.Struct, omit_defaults=True):
    """Matches of each vector; how they were found, when that was asked."""

    results: list[list[HitBody]]
    explanations: list[dict[str, Any] | None] | None = None


class Record(msgspec.Struct):
    """One record: its vector as base64 of little-endian float32 (bytes in MessagePack)."""

    id: str
    path: str
    vector: bytes | None
    attributes: dict[str, Any]


def row_of(vector: Vector) -> Floats:
    """One vector, whatever form it came in."""
    if isinstance(vector, bytes):
        if len(vector) % 4 or not vector:
            raise Problem(400, "a vector's bytes are little-endian float32, four for each dimension")
        return np.frombuffer(vector, "<f4")
    return _float32(vector)


def _float32(values: Any) -> Floats:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which the index refuses
        return np.asarray(values, np.float32)


def _rows(vectors: Matrix, count: int) -> Floats:
    if not count and not vectors:
        return np.empty(0, np.float32)
    if isinstance(vectors, bytes):
        if not count or not vectors or len(vectors) % (4 * count):
            raise Problem(400, f"{len(vectors)} bytes are not {count} vectors of float32")
        return np.frombuffer(vectors, "<f4").reshape(count, -1)
    if any(len(row) != len(vectors[0]) for row in vectors):
        raise Problem(400, "vectors must all have the same number of dimensions")
    return _float32(vectors)


def _index(request: Request, path: str, number: int | None = None) -> Any:
    """The index of the directory at `path`, or of that number, which it keeps when it is renamed."""
    catalog = request.node.volume.catalog
    if number is not None:
        found = catalog.numbered(number)
        if found is None or not request.token.covers(normal(os.fsdecode(found.path))):  # numbers name nothing outside
            raise IndexMissing.at(f"has no index {number} any more", path)
        return found
    where = request.allow(normal(path))
    found = _own(catalog, where)
    if found is None:
        raise IndexMissing.at("has no index of its own; PUT /v1/indexes/PATH makes one", where)
    return found


def _own(catalog: Catalog, where: str) -> Index | None:
    """The index that the directory at a path has of its own."""
    try:
        return catalog.of(catalog.filesystem.resolve(where))
    except (FileNotFoundError, NotADirectoryError):
        return None


def hit_body(found: Any, attributes: bool) -> HitBody:
    """A match as it is told."""
    return HitBody(
        normal(os.fsdecode(found.path)), found.id, float(found.score),
        None if found.distance is None else float(found.distance), found.text or None,
        tuple(found.span) if found.span else None, dict(found.attributes) if attributes else None,
        found.number if found.span or found.others else None, found.ino,
    )  # fmt: skip


def hit_body_with_passages(found: Any, attributes: bool) -> HitBody:
    """The same with its lines, and the file's other passages."""
    body = hit_body(found, attributes)
    body.lines = found.lines
    body.others = [
        Passage(float(o.score), float(o.distance), o.text or None, tuple(o.span) if o.span else None, o.lines, o.number)
        for o in found.others
    ] or None
    return body


def _scope(request: Request, under: str | None) -> str | None:
    """The subtree to search: what was asked for, or else what the token is for."""
    if under is not None and under.strip("/"):
        return request.allow(normal(under))
    if "/" in request.token.prefixes:
        return under
    if len(request.token.prefixes) == 1:
        return request.token.prefixes[0]
    raise NotPermitted.at("the token is for several paths; say which with 'under'")


# -- indexes


def listing(request: Request) -> Reply:
    """GET /v1/indexes."""
    found = told_of(request.node.volume.indexes(), lambda index: index.describe())
    return request.reply([each for each in found if request.token.covers(normal(each["path"]))])


@fenced
def show(request: Request) -> Reply:
    """GET /v1/indexes/PATH."""
    return request.reply(_index(request, request.path).describe())


@fenced
def create(request: Request) -> Reply:
    """PUT /v1/indexes/PATH."""
    wanted = request.decoded(NewIndex) if request.body else NewIndex()
    where = request.allow(request.path)
    volume = request.node.volume
    had = _own(volume.catalog, where) is not None
    found = volume.index(where, dim=wanted.dim, metric=wanted.metric, dtype=wanted.dtype, embedder=wanted.embedder,
                         rows_in=wanted.rows_in)  # fmt: skip
    return request.reply(found.describe(), 200 if had else 201)


@fenced
def drop(request: Request) -> Reply:
    """DELETE /v1/indexes/PATH."""
    _index(request, request.path)
    request.node.volume.drop_index(request.path)
    return Reply(204)


# -- records


@fenced
def upsert(request: Request) -> Reply:
    """POST /v1/upsert."""
    wanted = request.decoded(Upsert)
    vectors = None if wanted.vectors is None else _rows(wanted.vectors, len(wanted.ids))
    if wanted.contents is not None and wanted.contents_bytes is not None:
        raise Problem(400, "give contents, or contents_bytes")
    contents: Any = wanted.contents if wanted.contents_bytes is None else wanted.contents_bytes
    for name, given in (("vectors", vectors), ("attributes", wanted.attributes), ("contents", contents)):
        if given is not None and len(given) != len(wanted.ids):
            raise Problem(400, f"{len(wanted.ids)} ids and {len(given)} {name}; there must be as many")
    if wanted.errors == "report" and wanted.mode != "upsert":
        raise Problem(400, "errors: 'report' is for the mode 'upsert'")
    index = _index(request, wanted.index, wanted.number)
    if wanted.mode == "update":
        index.update(wanted.ids, vectors, attributes=wanted.attributes)
    elif wanted.mode == "add":
        index.add(wanted.ids, vectors, attributes=wanted.attributes, contents=contents)
    else:
        told = index.upsert(wanted.ids, vectors, attributes=wanted.attributes, contents=contents, errors=wanted.errors)
        if wanted.errors == "report":
            return request.reply(Stored(len(wanted.ids), [None if each is None else _fault(each) for each in told]))
    return request.reply(Stored(len(wanted.ids)))


def _fault(error: Exception) -> Fault:
    row = error_row(error)
    return Fault(row.error.__name__, row.errno, describe(error))


@fenced
def query(request: Request) -> Reply:
    """POST /v1/query."""
    if request.content_type == BYTES:
        raw = request.query(RawQuery)
        wanted = Query(
            raw.index, bytes(request.body), k=raw.k, under=raw.under, threshold=raw.threshold, exact=raw.exact,
            recall=raw.recall, attributes=raw.attributes,
        )  # fmt: skip
    else:
        if request.query_bytes:
            raise Problem(400, "parameters stand in the body, unless that is application/octet-stream")
        wanted = request.decoded(Query)
    if (wanted.vector is None) == (wanted.vectors is None):
        raise Problem(400, "give vector, or vectors")
    index = _index(request, wanted.index, wanted.number)
    options: dict[str, Any] = {
        "k": wanted.k, "where": wanted.where, "under": None if wanted.under is None else _scope(request, wanted.under),
        "threshold": wanted.threshold, "exact": wanted.exact, "recall": wanted.recall, "effort": wanted.effort,
        "explain": wanted.explain or None,
    }  # fmt: skip
    options = {name: value for name, value in options.items() if value is not None}
    if wanted.vector is not None:
        found = index.query(row_of(wanted.vector), **options)
        return request.reply(Hits([hit_body(each, wanted.attributes) for each in found], found.explanation))
    assert wanted.vectors is not None
    count = -(-len(wanted.vectors) // (4 * index.dim)) if isinstance(wanted.vectors, bytes) else len(wanted.vectors)
    if not count:
        return request.reply(HitsOfEach([]))
    if count * wanted.k > MATCHES_MOST:
        raise Problem(400, f"{count} vectors with k={wanted.k}; at most {MATCHES_MOST} matches are told at once")
    lists = index.query(_rows(wanted.vectors, count), **options)
    told = [found.explanation for found in lists] if wanted.explain else None
    return request.reply(HitsOfEach([[hit_body(each, wanted.attributes) for each in found] for found in lists], told))


@fenced
def get(request: Request) -> Reply:
    """POST /v1/get."""
    wanted = request.decoded(Selection)
    if wanted.ids is None:
        raise Problem(400, "give ids")
    rows = []
    for found in _index(request, wanted.index, wanted.number).get(wanted.ids):
        if found is not None:
            vector = getattr(found, "vector", None)
            data = None if vector is None else np.asarray(vector, "<f4").tobytes()
            rows.append(Record(found.id, normal(found.path), data, dict(found.attributes)))
    return request.reply(rows)


@fenced
def delete(request: Request) -> Reply:
    """POST /v1/delete."""
    wanted = request.decoded(Selection)
    if (wanted.ids is None) == (wanted.where is None):
        raise Problem(400, "give ids, or where")
    index = _index(request, wanted.index, wanted.number)
    gone = index.delete(ids=wanted.ids) if wanted.ids is not None else index.delete(where=wanted.where)
    return request.reply(Done(int(gone or 0)))


@fenced
def count(request: Request) -> Reply:
    """POST /v1/count."""
    wanted = request.decoded(Selection)
    index = _index(request, wanted.index, wanted.number)
    under = None if wanted.under is None else _scope(request, wanted.under)
    every = wanted.where is None and under is None
    return request.reply(Done(len(index) if every else index.count(wanted.where, under)))


# -- across indexes


def _told(wanted: Any, *names: str) -> dict[str, Any]:
    """Those of the options that were given."""
    return {name: value for name in names if (value := getattr(wanted, name)) is not None}


def search(request: Request) -> Reply:
    """POST /v1/search.  It may wait for an embedder while renames go on: so what is told is looked at again."""
    wanted = request.decoded(Search)
    if (wanted.text is None) == (wanted.vector is None):
        raise Problem(400, "give text, or vector")
    what: Any = wanted.text if wanted.vector is None else row_of(wanted.vector)
    options = _told(wanted, "threshold", "recall", "effort", "exact", "rerank")
    if wanted.vector is None:
        if wanted.effort is not None or wanted.exact is not None:
            raise Problem(400, "effort and exact want a vector; of a search by text, recall says how thorough it is")
        options["mode"] = wanted.mode
    elif wanted.rerank is not None:
        raise Problem(400, "rerank wants text: it compares a question with passages")
    options["explain"] = wanted.explain
    with fence(request):
        under = _scope(request, wanted.under) or "/"
    found = request.node.volume.search(what, wanted.k, under=under, where=wanted.where, **options)
    body = hit_body_with_passages if wanted.passages else hit_body
    mine = [each for each in found if request.token.covers(normal(os.fsdecode(each.path)))]
    missing = [
        Missing(path, each.reason) for each in found.missing
        if request.token.covers(path := normal(each.path)) or f"{under}/".startswith(path.rstrip("/") + "/")
    ]  # fmt: skip
    return request.reply(Hits([body(each, wanted.attributes) for each in mine], found.explanation, missing))


@fenced
@fenced
def similar(request: Request) -> Reply:
    """POST /v1/similar."""
    wanted = request.decoded(Similar)
    path = request.allow(normal(wanted.path))
    under = _scope(request, wanted.under)
    options = _told(wanted, "threshold", "recall", "effort", "exact")
    found = request.node.volume.similar(
        path, wanted.k, under=under, where=wanted.where, explain=wanted.explain, **options
    )
    return request.reply(Hits([hit_body(each, wanted.attributes) for each in found], found.explanation))


def routes(node: Node) -> list[Route]:
    """Of what the volume can do in this version."""
    kind = type(node.volume)
    found: list[Route] = []
    both: dict[str, Any] = {"media": (JSON, MSGPACK), "tag": "search"}
    described: Any = dict[str, Any]
    hits = {200: Answer(about="Matches", kind=Hits)}
    done = {200: Answer(about="How many", kind=Done)}
    if hasattr(kind, "index"):
        shared: dict[str, Any] = {"path": "/v1/indexes/{path}", "tag": "indexes", "tail_about": "The directory's path."}
        one = Answer(about="The index", kind=described)
        found += [
            Route(method="GET", path="/v1/indexes", about="All indexes", handle=listing, tag="indexes",
                  answers={200: Answer(about="Indexes", kind=list[described])}),
            Route(method="GET", about="One index", handle=show, answers={200: one}, **shared),
            Route(method="PUT", about="Make an index, or give the one there is", handle=create, scope=WRITE,
                  body=NewIndex, answers={200: one, 201: one}, lane=MODEL, **shared),
            Route(method="DELETE", about="Drop an index; the files stay", handle=drop, scope=WRITE,
                  answers={204: Answer(about="It is gone", media=())}, **shared),
            Route(method="POST", path="/v1/upsert", about="Write records", handle=upsert, scope=WRITE, body=Upsert,
                  answers={200: Answer(about="How many", kind=Stored)}, **both),
            Route(method="POST", path="/v1/query", about="Nearest records", handle=query, scope=READ, body=Query,
                  query=MaybeRaw, answers={200: Answer(about="Matches", kind=(Hits, HitsOfEach))}, tag="search",
                  media=(JSON, MSGPACK, BYTES)),
            Route(method="POST", path="/v1/get", about="Records by id", handle=get, body=Selection,
                  answers={200: Answer(about="Those there are", kind=list[Record])}, **both),
            Route(method="POST", path="/v1/delete", about="Remove records", handle=delete, scope=WRITE, body=Selection,
                  answers=done, **both),
            Route(method="POST", path="/v1/count", about="Count records", handle=count, body=Selection, answers=done,
                  **both),
        ]  # fmt: skip
    if hasattr(kind, "search"):
        found.append(Route(method="POST", path="/v1/search", about="Search by text or vector", handle=search,
                           body=Search, answers=hits, lane=MODEL, **both))  # fmt: skip
    if hasattr(kind, "similar"):
        found.append(Route(method="POST", path="/v1/similar", about="Files like this one", handle=similar, body=Similar,
                           answers=hits, **both))  # fmt: skip
    return found
