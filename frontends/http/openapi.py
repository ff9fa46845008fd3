"""OpenAPI 3.1, made from the routes."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
from vexfs.frontends.http.api.types import ProblemBody
from vexfs.frontends.http.message import BYTES, PROBLEM
from vexfs.frontends.http.route import Route

from vexfs.version import __version__

_REF = "#/components/schemas/{name}"
_FAULTS = {
    400: "The request makes no sense as it is",
    401: "A token is missing, or not valid",
    403: "The token is not for this",
    404: "There is no such thing",
    405: "The path does not take this method",
    408: "The request did not come in time",
    409: "It cannot be done in this state",
    412: "The file is not in the state that was named",
    413: "Too large",
    415: "The body is of a kind that is not understood here",
    416: "The file has no such range",
    422: "A vector, a filter or an option does not fit the index",
    429: "Too many requests",
    500: "The node failed",
    503: "Too many requests are under way",
    504: "It took too long",
    507: "No room",
}
_BODY = {"PUT", "POST", "PATCH"}


def _kinds(routes: Iterable[Route]) -> list[Any]:
    found: list[Any] = [ProblemBody]
    for route in routes:
        if route.body is not None:
            found.append(route.body)
        for answer in route.answers.values():
            found += _each(answer.kind)
    return found


def _each(kind: Any) -> list[Any]:
    return [] if kind is None else list(kind) if isinstance(kind, tuple) else [kind]


def document(routes: list[Route]) -> bytes:
    """The description as JSON."""
    kinds = _kinds(routes)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    of = {repr(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.path.startswith("/v1"):
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, of)
    found = {
        "openapi": "3.1.0",
        "info": {
            "title": "VexFS", "version": __version__,
            "description": "A filesystem that finds files by meaning: files, indexes, search, figures.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "vexctl token create"}},
            "responses": {
                str(status): {
                    "description": about,
                    "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}},
                }
                for status, about in _FAULTS.items()
            },
        },
    }  # fmt: skip
    return json.dumps(found, separators=(",", ":")).encode()


def _operation(route: Route, of: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "summary": route.about,
        "operationId": _name(route),
        "tags": [route.tag],
        "parameters": _parameters(route),
        "responses": _responses(route, of),
    }
    if route.scope is not None:
        row["security"] = [{"token": []}]
        row["description"] = f"Needs a token with the scope `{route.scope}`."
    if route.upload is not None:
        row["requestBody"] = {"content": {BYTES: {"schema": {"type": "string", "format": "binary"}}}}
    elif route.body is not None:
        row["requestBody"] = {
            "required": True,
            "content": {
                media: {"schema": of[repr(route.body)] if media != BYTES else {"type": "string", "format": "binary"}}
                for media in route.media
            },
        }
    return row


def _name(route: Route) -> str:
    words = route.path.partition("/{")[0].strip("/").replace("/", "_").replace(".", "_")
    return f"{route.method.lower()}_{words}{'_at' if route.has_tail else ''}"


def _parameters(route: Route) -> list[dict[str, Any]]:
    rows = []
    if route.has_tail:
        name = route.path.rpartition("{")[2].rstrip("}")
        rows.append({
            "name": name, "in": "path", "required": True, "description": route.tail_about,
            "schema": {"type": "string", "minLength": 1},
        })  # fmt: skip
    _, parts = msgspec.json.schema_components([route.query], ref_template=_REF)
    body = parts[route.query.__name__]
    for name, each in body["properties"].items():
        rows.append({"name": name, "in": "query", "required": name in body.get("required", []), "schema": each})
    return rows


def _responses(route: Route, of: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, answer in route.answers.items():
        row: dict[str, Any] = {"description": answer.about}
        if answer.media:
            schemas = [of[repr(kind)] for kind in _each(answer.kind)]
            schema = {"anyOf": schemas} if len(schemas) > 1 else schemas[0] if schemas else {}
            row["content"] = {
                media: {"schema": {"type": "string", "format": "binary"} if media == BYTES else schema}
                for media in answer.media
            }
        found[str(status)] = row
    faults = {400, 403, 404, 408, 429, 500, 503, 504}
    if route.scope is not None:
        faults.add(401)
    if route.method in _BODY:
        faults |= {409, 413, 415, 507}
    if route.tag in ("search", "indexes"):
        faults |= {409, 422}
    if route.tag == "files":
        faults |= {409, 412, 416}
    for status in sorted(faults):
        found[str(status)] = {"$ref": f"#/components/responses/{status}"}
    return found
