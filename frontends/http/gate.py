"""What is let in and who works on it: tokens, scopes, limits, rates, and the workers behind the event loop."""

import asyncio
import logging
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from vexfs.frontends.http.message import JSON, Problem, Reply, Request, Source, new_id, problem
from vexfs.frontends.http.route import ADMIN, MODEL, WAIT, WORK, Route, Router
from vexfs.frontends.http.workers import Workers

from vexfs.config import Settings
from vexfs.errors import VexfsError
from vexfs.node import Node
from vexfs.node.tokens import ANYBODY, BadToken, Token

log = logging.getLogger("vexfs.http")

#: Threads of each lane.
LANES = {WORK: 8, MODEL: 8, WAIT: 64}
TURNED_AWAY_MOST = 256
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="vexfs"'}
_BODIES = 16  # so many bodies of the largest size are held at once


class Gate:
    """Stands between the connections of one port and the handlers.

    Attributes
    ----------
    requests : Counter
        Replies by route and status.
    active : int
        Requests under way.
    """

    def __init__(self, node: Node, router: Router, loop: asyncio.AbstractEventLoop) -> None:
        self.node = node
        self.router = router
        self.loop = loop
        self.stopping = False
        self.active = 0
        self.requests: Counter[tuple[str, int]] = Counter()
        self.connections: set[Any] = set()
        self._turned_away: set[Any] = set()
        self._held = 0
        self._rates: dict[str, tuple[float, float]] = {}
        self._lanes = {name: Workers(loop, f"http-{name}", most) for name, most in LANES.items()}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._options = Route(method="OPTIONS", path="*", about="", handle=_nothing_to_say, scope=None)
        self.adopt(node.settings)

    def adopt(self, settings: Settings) -> None:
        """Go on under new settings."""
        api = settings.api
        self.timeout_s = api.request_timeout
        self.keepalive_s = api.keepalive_timeout
        self._most = api.max_concurrent_requests
        self._body_most = api.max_body_size
        self._file_most = api.max_file_size
        self._rate = api.rate_limit
        self._origins = frozenset(api.cors_origins)
        self._open = not api.auth_required
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # The other half is for subscriptions, metrics, and the volume's own files.
        self._connections_most = max(64, min(4 * self._most, files // 2))

    # -- connections

    def welcome(self, connection: Any) -> bool:
        """Count a connection; False when there are too many."""
        if len(self.connections) >= self._connections_most:
            return False
        self.connections.add(connection)
        return True

    def turned_away(self, connection: Any) -> bool:
        """Count a connection that is one too many; False when it cannot even stay until its client has the answer."""
        if len(self._turned_away) >= TURNED_AWAY_MOST:
            return False
        self._turned_away.add(connection)
        return True

    def gone(self, connection: Any) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self._turned_away.discard(connection)

    # -- letting in

    new_id = staticmethod(new_id)

    def admit(self, request: Request) -> None:
        """Look at a request's line and headers; raises what keeps it out."""
        request.id = new_id(request.headers.get("x-request-id", ""))
        request.node, request.app = self.node, self
        self._check_origin(request)
        if request.method == "OPTIONS":
            request.route = self._options
            return
        request.route, request.tail = self.router.find(request.method, request.raw_path)
        if request.route.scope is not None:
            request.token = self._who(request, request.route.scope)
        self._check_length(request)

    def _check_origin(self, request: Request) -> None:
        """Pages of other sites may not use what a browser can reach, least of all where no token is asked for."""
        headers = request.headers
        host, origin = headers.get("host", ""), headers.get("origin")
        if origin is not None and origin not in self._origins and origin.partition("://")[2] != host:
            raise Problem(403, "pages of other sites may not use this node; api.cors_origins names those that may")
        if self._open and not _is_local(host):
            raise Problem(403, "without tokens, this node answers only to names of this machine (localhost)")

    def _who(self, request: Request, scope: str) -> Token:
        if self._open:
            return ANYBODY
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not text:
            raise Problem(401, "this needs a token: send Authorization: Bearer vex_...", _CHALLENGE)
        try:
            token = self.node.tokens.check(text.strip())
        except BadToken as error:
            challenge = {"WWW-Authenticate": 'Bearer realm="vexfs", error="invalid_token"'}
            raise Problem(401, f"the token {error}", challenge) from None
        if scope not in token.scopes:
            raise Problem(403, f"this needs a token with the scope {scope!r}; this one has {', '.join(token.scopes)}")
        if scope == ADMIN and "/" not in token.prefixes:
            raise Problem(403, f"this is about the whole node, and the token is for {', '.join(token.prefixes)}")
        self._check_rate(token)
        return token

    def _check_rate(self, token: Token) -> None:
        if not self._rate:
            return
        now = time.monotonic()
        left, then = self._rates.get(token.id, (float(self._rate), now))
        left = min(float(self._rate), left + (now - then) * self._rate)
        if left < 1:
            wait = max(1, round((1 - left) / self._rate))
            raise Problem(429, f"this token may make {self._rate} requests a second", {"Retry-After": str(wait)})
        self._rates[token.id] = (left - 1, now)

    def _check_length(self, request: Request) -> None:
        length = int(request.headers.get("content-length", "0"))
        most = self._file_most if request.route.upload is not None else self._body_most
        if length > most:
            raise Problem(413, f"a body here has {most} bytes at most, this one has {length}")
        coding = request.headers.get("content-encoding", "identity").lower()
        if coding not in ("", "identity"):
            raise Problem(415, f"a body of coding {coding!r} is not understood here; send it as it is")

    def hold(self, request: Request, more: int) -> None:
        """Another `more` bytes of a body came; they are kept until :meth:`let_go`."""
        if len(request.body) > self._body_most:
            raise Problem(413, f"a body here has {self._body_most} bytes at most")
        if self._held + more > _BODIES * self._body_most:
            what = f"bodies of requests under way fill {_BODIES} times api.max_body_size; try again"
            raise Problem(503, what, {"Retry-After": "1"})
        self._held += more

    def let_go(self, size: int) -> None:
        """So many bytes of bodies are no longer kept."""
        self._held -= size

    def enter(self) -> None:
        """A request begins to be worked on; 503 when there are too many."""
        if self.active >= self._most:
            raise Problem(503, f"{self._most} requests are under way; try again", {"Retry-After": "1"})
        self.active += 1

    def leave(self) -> None:
        """A request is done with."""
        self.active -= 1

    def extra_headers(self, request: Request) -> dict[str, str]:
        """What CORS adds for a page that may read the reply."""
        origin = request.headers.get("origin")
        if origin is None or origin not in self._origins:
            return {}
        return {
            "Access-Control-Allow-Origin": origin, "Vary": "Origin",
            "Access-Control-Allow-Methods": "GET, HEAD, PUT, POST, PATCH, DELETE",
            "Access-Control-Allow-Headers":
                "Authorization, Content-Type, Content-Range, If-Match, If-None-Match, Range",
            "Access-Control-Expose-Headers": "ETag, Content-Range, X-Request-Id", "Access-Control-Max-Age": "600",
        }  # fmt: skip

    # -- workers

    def _answered(self, handle: Callable[[Request], Reply], request: Request) -> Reply:
        try:
            return handle(request)
        except BaseException as error:
            return self.failed(request, error)

    def submit(self, handle: Callable[[Request], Reply], request: Request, done: Callable[[Reply], None]) -> None:
        """Have a worker of the route's lane handle `request`; `done` gets the reply on the loop."""
        self._lanes[request.route.lane].put(self._answered, (handle, request), done)

    def submit_close(self, source: Source) -> None:
        """Have a worker close `source`."""
        self._lanes[WORK].put(source.close, ())

    def work(self, call: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Have a worker call `call`; raises what it raises."""
        return self._lanes[WORK].work(call, *args)

    def spawn(self, work: Any) -> None:
        """Run a coroutine on the loop."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, timeout_s: float) -> None:
        """Have requests that were cut off clean up; end the workers when they are done with what waits."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for lane in self._lanes.values():
            lane.end()

    # -- telling

    def failed(self, request: Request, error: BaseException) -> Reply:
        """The reply to a request that raised; a defect also gets a traceback in the log."""
        reply = problem(error, request.id)
        if reply.status >= 500 and not isinstance(error, (VexfsError, OSError)):
            log.error("%s %s failed", request.method, _shown(request), exc_info=error, extra={"request": request.id})
        return reply

    def log(self, request: Request, status: int) -> None:
        """Count a reply, and log it: with who asked, and without what the client sent as secret."""
        route = request.route
        self.requests[route.path if route is not None else "", status] += 1
        level = logging.WARNING if status >= 500 else logging.DEBUG
        if log.isEnabledFor(level):
            took = (time.monotonic() - request.started) * 1e3 if request.started else 0.0
            log.log(level, "%s %s %s %d %.1f ms", request.peer, request.method, _shown(request), status, took,
                    extra={"request": request.id, "token": request.token.id})  # fmt: skip


def _shown(request: Request) -> str:
    path = request.raw_path.decode("latin-1")
    return path if len(path) <= 200 else path[:200] + "..."


def _is_local(host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return name in ("localhost", "[::1]") or name.startswith("127.")


def _nothing_to_say(request: Request) -> Reply:
    return Reply(204, b"", JSON, {"Allow": "GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS"})
