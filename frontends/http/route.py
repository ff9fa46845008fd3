"""Routes: which handler answers what, for whom, and what its request and reply look like.

Every route is ``/v1/NOUN`` or ``/v1/NOUN/{tail}``, so that finding one is a look into a table.  The description in
OpenAPI is made from the same rows (:mod:`.openapi`), so that it cannot say anything else than what is served.
"""

from typing import Any

import attrs
import msgspec
from vexfs.frontends.http.message import JSON, Handler, Opener, Problem

READ, WRITE, WATCH, ADMIN = "read", "write", "watch", "admin"
#: What a handler may be held up by, beside its work: a model that is asked for vectors; whatever it waits for.
WORK, MODEL, WAIT = "work", "model", "wait"


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """For routes without query parameters."""


@attrs.frozen(kw_only=True)
class Answer:
    """One kind of reply: its meaning, the type of its body (or several), the media it may have."""

    about: str
    kind: Any = None
    media: tuple[str, ...] = (JSON,)


@attrs.frozen(kw_only=True, eq=False)
class Route:
    """One method of one path.

    Attributes
    ----------
    path : str
        As OpenAPI has it; a last part in braces takes the rest, slashes included.
    handle : function, optional
        Called by a worker with the whole request.
    upload : function, optional
        Instead of `handle`: answers a sink for a body of any size.
    scope : str or None
        What a token must allow; None: open to everybody.
    query, body : type
        Checked with msgspec; `body` None takes none.
    media : tuple of str
        What the body may be.
    lane : str
        By which threads it is handled, so that those that are held up hold up no others.
    """

    method: str
    path: str
    about: str
    handle: Handler | None = None
    upload: Opener | None = None
    scope: str | None = READ
    query: Any = NoQuery
    body: Any = None
    media: tuple[str, ...] = (JSON, "application/msgpack")
    answers: dict[int, Answer] = attrs.field(factory=dict)
    tag: str = ""
    tail_about: str = ""
    lane: str = WORK

    @property
    def key(self) -> bytes:
        """The part of the path that the table is looked up by."""
        return self.path.partition("/{")[0].encode()

    @property
    def has_tail(self) -> bool:
        """Whether the path ends in a part that takes the rest."""
        return "{" in self.path


class Router:
    """All routes; finds the one of a request."""

    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes
        self._table: dict[tuple[bytes, bool], dict[str, Route]] = {}
        for route in routes:
            self._table.setdefault((route.key, route.has_tail), {})[route.method] = route

    def find(self, method: str, path: bytes) -> tuple[Route, bytes]:
        """The route and what its last part takes.

        Raises
        ------
        Problem
            404: no such path; 405: another method.
        """
        methods = self._table.get((path, False))
        tail = b""
        if methods is None:
            end = path.find(b"/", 4)
            if end > 0:
                methods, tail = self._table.get((path[:end], True)), path[end + 1 :]
        if methods is None:
            raise Problem(404, "there is no such path in this API; /v1/openapi.json describes those there are")
        route = methods.get(method)
        if route is None and method == "HEAD":
            route = methods.get("GET")
        if route is None:
            allowed = ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"}))
            raise Problem(405, f"this path takes {allowed}", {"Allow": allowed})
        return route, tail
