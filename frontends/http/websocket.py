"""The WebSocket port: clients subscribe to feeds; one that reads too slowly is dropped with a reason.

Messages are JSON.  The first one says who asks, unless the handshake had an ``Authorization`` header (which a browser
cannot send)::

    {"action": "auth", "token": "vex_..."}
    {"action": "subscribe", "channel": "files", "id": "mine", "path": "/papers"}
    {"action": "unsubscribe", "id": "mine"}

and the node answers ``{"type": "ready" | "subscribed" | "unsubscribed" | "event" | "error", ...}``.
"""

import asyncio
import contextlib
import http
import logging
import resource
import socket
import threading
import time
from functools import partial
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

import msgspec
from vexfs.frontends.http.feeds import CHANNELS, Feed, Subscribe, TooSlow
from vexfs.frontends.http.message import Problem, fault_of, from_msgpack, to_json, to_msgpack
from vexfs.frontends.http.server import Certificates, LoopThread, accept_no_more, bound
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import MultipleValuesError
from websockets.exceptions import ConnectionClosed

from vexfs.config import Settings
from vexfs.errors import VexfsError, describe
from vexfs.node import Node
from vexfs.node.tokens import ANYBODY, BadToken, Token

log = logging.getLogger("vexfs.websocket")

TICK_S = 0.5
SLOW_S = 15.0
SUBSCRIPTIONS_MOST = 32
#: So many messages may wait for a client before what it says next is heard.
UNREAD_MOST = 64
MESSAGE_MOST = 1 << 20
AUTH_S = 10.0
GOODBYE_S = 5.0
SLOW, REFUSED = 4008, 4003


class Auth(msgspec.Struct, forbid_unknown_fields=True, tag="auth", tag_field="action"):
    """Who asks."""

    token: str


class Unsubscribe(msgspec.Struct, forbid_unknown_fields=True, tag="unsubscribe", tag_field="action"):
    """No more of this."""

    id: Annotated[str, msgspec.Meta(max_length=200)] = ""


_decoder = msgspec.json.Decoder(Auth | Subscribe | Unsubscribe)


def _decoded(raw: str | bytes) -> Auth | Subscribe | Unsubscribe:
    """A message: JSON, or in a binary frame MessagePack, which has names that are no UTF-8."""
    try:
        found: Auth | Subscribe | Unsubscribe
        if isinstance(raw, bytes) and raw[:1] != b"{":
            found = from_msgpack(raw, Auth | Subscribe | Unsubscribe)  # type: ignore[arg-type]
        else:
            found = _decoder.decode(raw)
        return found
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None


class Link(ServerConnection):
    """A connection from its first byte; those beyond `most` end there, before they have cost anything."""

    def __init__(self, *args: Any, links: set["Link"], most: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._links, self._most = links, most

    def connection_made(self, transport: Any) -> None:
        """A client came."""
        if len(self._links) >= self._most:
            transport.abort()
        self._links.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It went."""
        self._links.discard(self)
        super().connection_lost(exc)


class Client:
    """One connection with what it subscribed to."""

    def __init__(self, service: "WebSocketService", link: ServerConnection) -> None:
        self._service = service
        self._link = link
        self._token: Token | None = None
        self._text = ""
        self.feeds: dict[str, tuple[str, Feed]] = {}
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self._form = to_json
        self._progress = time.monotonic()
        self._dropped = self._looking = self._again = False

    async def serve(self) -> None:
        """From the handshake to the end."""
        writer = asyncio.create_task(self._write())
        try:
            await self._welcome()
            async for raw in self._link:
                await self._heed(raw)
                if self._waiting.qsize() > UNREAD_MOST:
                    await self._read(writer)
        except ConnectionClosed:
            pass
        finally:
            writer.cancel()
            self._close_feeds()

    async def _read(self, writer: "asyncio.Task[None]") -> None:
        """Until the client has what waits for it: answers to one that only talks would fill the memory."""
        read = asyncio.ensure_future(self._waiting.join())
        await asyncio.wait({read, writer}, return_when=asyncio.FIRST_COMPLETED)
        read.cancel()

    async def _welcome(self) -> None:
        node = self._service.node
        request = self._link.request
        given = request.headers.get("Authorization", "") if request is not None else ""
        if not node.settings.api.auth_required:
            self._token = ANYBODY
        elif given.lower().startswith("bearer "):
            self._check(given[7:].strip())
        else:
            try:
                raw = await asyncio.wait_for(self._link.recv(), AUTH_S)
                message = _decoded(raw)
                if not isinstance(message, Auth):
                    raise BadToken("has to come in the first message: {\"action\": \"auth\", \"token\": ...}")
                self._check(message.token)
            except TimeoutError:
                await self._link.close(REFUSED, "no token came in time")
                return
            except (msgspec.MsgspecError, BadToken, UnicodeDecodeError) as error:
                what = f"the token {error}" if isinstance(error, BadToken) else "the first message must be the token"
                await self._link.close(REFUSED, what[:120])
                return
        if self._token is not None:
            self.send({"type": "ready", "channels": list(CHANNELS), "scopes": list(self._token.scopes)})

    def _check(self, text: str) -> None:
        self._token = self._service.node.tokens.check(text)
        self._text = text

    async def _heed(self, raw: str | bytes) -> None:
        number = ""
        try:
            message = _decoded(raw)
            self._form = to_msgpack if isinstance(raw, bytes) and raw[:1] != b"{" else to_json
            if isinstance(message, Auth):
                raise Problem(400, "who asks is known already")
            number = message.id
            if isinstance(message, Unsubscribe):
                if (gone := self.feeds.pop(number, None)) is None:
                    raise Problem(404, f"there is no subscription {number!r}")
                gone[1].close()
                self.send({"type": "unsubscribed", "id": number})
                return
            if number in self.feeds:
                raise Problem(409, f"there is a subscription {number!r} already; give each an id of its own")
            if len(self.feeds) >= SUBSCRIPTIONS_MOST:
                raise Problem(429, f"a client has {SUBSCRIPTIONS_MOST} subscriptions at most")
            feed: Feed = await self._service.work(CHANNELS[message.channel], self._service.node, self._token, message)
            self.feeds[number] = message.channel, feed
            self.send({"type": "subscribed", "id": number, "channel": message.channel})
            feed.wake = lambda: self._service.soon(self)
            self.look()
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            detail = f"not a message that is understood here: {error}"
            self.send({"type": "error", "id": number, "status": 400, "detail": detail})
        except (VexfsError, OSError, ValueError) as error:
            self.send({"type": "error", "id": number, **fault_of(error)})
        except Exception as error:
            log.exception("a subscription failed")
            self.send({"type": "error", "id": number, **fault_of(error)})

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message."""
        if self._dropped:
            return
        if self._waiting.empty():
            self._progress = time.monotonic()
        self._waiting.put_nowait(self._form(message))

    def _drop(self, code: int, reason: str) -> None:
        self._dropped = True
        self._close_feeds()
        self._service.dropped += 1
        log.warning("dropped a client: %s", reason)
        self._service.spawn(self._hang_up(code, reason))

    async def _hang_up(self, code: int, reason: str) -> None:
        try:
            await asyncio.wait_for(self._link.close(code, reason), 2)
        except (TimeoutError, ConnectionClosed):
            self._link.transport.abort()

    def _close_feeds(self) -> None:
        for _, feed in self.feeds.values():
            feed.close()
        self.feeds.clear()

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                raw = await self._waiting.get()
                await self._link.send(raw if raw[:1] != b"{" else raw.decode())
                self._waiting.task_done()
                self._progress = time.monotonic()
                if self._again and self._waiting.empty():
                    self._service.spawn(self.news())

    def look(self) -> None:
        """Ask every feed soon: one of them has news."""
        told, self._again = self._again, True
        if not told and not self._looking and not self._dropped:
            self._service.spawn(self.news())

    async def news(self) -> None:
        """Ask every feed, again if one says meanwhile that it has more."""
        if self._looking:
            return
        self._looking = True
        try:
            await self._ask()
            while self._again and self._waiting.empty() and not self._dropped:
                await self._ask()
        finally:
            self._looking = False

    async def _ask(self) -> None:
        """One look at every feed; a token that is no longer valid ends it all."""
        if self._text:
            try:
                self._service.node.tokens.check(self._text)
            except BadToken as error:
                self._drop(REFUSED, f"the token {error}")
                return
            except (VexfsError, OSError) as error:
                log.error("tokens cannot be checked: %s", describe(error))
                self._drop(REFUSED, "tokens cannot be checked; the node's log says more")
                return
        if not self._waiting.empty():
            # Feeds keep their place until the client has caught up; so what waits is bounded by one look at them.
            if time.monotonic() - self._progress > SLOW_S:
                self._drop(SLOW, f"too slow: nothing was read for {SLOW_S:g} s, {self._waiting.qsize()} messages wait")
            return
        self._again = False
        for number, (channel, feed) in list(self.feeds.items()):
            try:
                for event in await self._service.work(feed.news):
                    self.send({"type": "event", "id": number, "channel": channel, "data": event})
            except TooSlow as error:
                self._drop(SLOW, f"too slow: {error}")
                return
            except Exception as error:
                self.feeds.pop(number, None)
                feed.close()
                self.send({"type": "error", "id": number, **fault_of(error)})


class WebSocketService:
    """Serves subscriptions on ``api.websocket_bind``."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.dropped = 0
        self._clients: set[Client] = set()
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listener: socket.socket | None = None
        self._certificates: Certificates | None = None
        self._thread: LoopThread | None = None
        self._end: asyncio.Event | None = None
        self._timeout_s = 0.0

    def prepare(self) -> None:
        """Bind the port and read the certificate."""
        settings = self.node.settings
        self._certificates = Certificates(settings) if settings.api.tls_enabled else None
        self._listener = bound(settings.api.websocket_bind, "api.websocket_bind")

    def start(self) -> None:
        """Serve."""
        self._thread = LoopThread("websocket", self._main)
        self._thread.start()

    async def _main(self, loop: asyncio.AbstractEventLoop, serving: threading.Event) -> None:
        assert self._listener is not None
        self._end = asyncio.Event()
        most = min(4096, self.node.settings.api.max_concurrent_requests * 2)
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = max(64, min(2 * most, files // 8))
        server = await serve(
            self._handle, sock=self._listener, ssl=self._certificates.context if self._certificates else None,
            process_request=self._admit, max_size=MESSAGE_MOST, max_queue=16, open_timeout=AUTH_S, ping_interval=20,
            ping_timeout=20, close_timeout=2, compression=None, server_header="vexfs", backlog=min(most, 4096),
            logger=logging.getLogger("vexfs.websocket.wire"),
            create_connection=cast(Any, partial(Link, links=self._links, most=limit)),
        )  # fmt: skip
        logging.getLogger("vexfs.websocket.wire").setLevel(logging.CRITICAL)
        serving.set()
        tick = loop.create_task(self._tick())
        await self._end.wait()
        tick.cancel()
        await accept_no_more(self._listener)
        server.close(code=1001, reason="the node is stopping")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), min(GOODBYE_S, self._timeout_s))
        for link in list(self._links):  # who does not answer, or has not even asked
            link.transport.abort()

    def _admit(self, link: ServerConnection, request: Any) -> Any:
        """Pages of other sites may not; nothing but the one path is here."""
        try:
            return self._looked_at(link, request)
        except (ValueError, MultipleValuesError):
            return link.respond(http.HTTPStatus.BAD_REQUEST, "Host, Origin or Authorization: twice, or no such thing\n")

    def _looked_at(self, link: ServerConnection, request: Any) -> Any:
        if request.path.partition("?")[0] not in ("/", "/v1/subscribe"):
            return link.respond(http.HTTPStatus.NOT_FOUND, "subscriptions are at /v1/subscribe\n")
        if len(self._clients) >= self.node.settings.api.max_concurrent_requests:
            return link.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many clients\n")
        origin, host = request.headers.get("Origin"), request.headers.get("Host", "")
        api = self.node.settings.api
        if origin and origin not in api.cors_origins and urlsplit(origin).hostname != urlsplit(f"//{host}").hostname:
            return link.respond(http.HTTPStatus.FORBIDDEN, "pages of other sites may not use this node\n")
        if not api.auth_required and not _is_local(urlsplit(f"//{host}").hostname or ""):
            return link.respond(http.HTTPStatus.FORBIDDEN, "without tokens, only names of this machine are served\n")
        given = request.headers.get("Authorization", "")
        if api.auth_required and given.lower().startswith("bearer "):
            try:
                self.node.tokens.check(given[7:].strip())
            except BadToken as error:
                return link.respond(http.HTTPStatus.UNAUTHORIZED, f"the token {error}\n")
        return None

    async def _handle(self, link: ServerConnection) -> None:
        client = Client(self, link)
        self._clients.add(client)
        try:
            await client.serve()
        finally:
            self._clients.discard(client)

    async def _tick(self) -> None:
        while True:
            begun = time.monotonic()
            await asyncio.gather(*(client.news() for client in list(self._clients) if client.feeds or client._text))
            await asyncio.sleep(max(0.05, TICK_S - (time.monotonic() - begun)))

    async def work(self, call: Any, *args: Any) -> Any:
        """Have a thread call `call`."""
        return await asyncio.to_thread(call, *args)

    def soon(self, client: Client) -> None:
        """From any thread: a feed of `client` has news."""
        if self._thread is not None:
            self._thread.call(client.look)

    def spawn(self, work: Any) -> None:
        """Run a coroutine."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self, timeout_s: float) -> None:
        """Say goodbye to every client."""
        if self._thread is None or self._end is None:
            if self._listener is not None:
                self._listener.close()
            return
        self._timeout_s = timeout_s
        self._thread.call(self._end.set)
        self._thread.join(timeout_s + 2)

    def failure(self) -> str | None:
        """Why it no longer serves."""
        return self._thread.failure() if self._thread is not None else None

    def reload(self, settings: Settings) -> None:
        """A new certificate for new connections."""
        if self._certificates is not None:
            self._certificates.reload(settings)

    @property
    def url(self) -> str:
        """Where it is found."""
        assert self._listener is not None
        host, port = self._listener.getsockname()[:2]
        return f"ws{'s' if self._certificates else ''}://{f'[{host}]' if ':' in host else host}:{port}"

    def describe(self) -> dict[str, Any]:
        """Where it is found, and who listens."""
        feeds = sum(len(client.feeds) for client in list(self._clients))
        return {"url": self.url, "clients": len(self._clients), "subscriptions": feeds, "dropped": self.dropped}


def _is_local(name: str) -> bool:
    return name in ("localhost", "::1") or name.startswith("127.")
