"""An HTTP/1.1 server for a handful of read-only paths: one thread, bounded in all that a client can send or hold."""

import asyncio
import contextlib
import http
import logging
import re
import threading
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from vexfs.frontends.metrics.endpoints import Answer, Endpoints, Route

from vexfs.errors import UsageError

log = logging.getLogger("vexfs.metrics")

HEAD_MOST = 16 << 10
CONNECTIONS_MOST = 256
HEAD_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 75.0
SEND_TIMEOUT_S = 30.0
LINGER_S = 1.0
_CLOSES = re.compile(rb"(?m)^connection:[^\n]*\bclose\b")

Address = tuple[str, int]


class Server:
    """Metrics and health of a node, served until :meth:`stop`.

    Parameters
    ----------
    endpoints : Endpoints
    metrics, health : (str, int) or None
        Addresses; port 0 takes a free one; None serves nothing.

    Attributes
    ----------
    addresses : dict
        ``"metrics"`` and ``"health"``: where they are served, after :meth:`start`.
    """

    def __init__(self, endpoints: Endpoints, metrics: Address | None, health: Address | None) -> None:
        self._wanted = {
            "metrics": (metrics, endpoints.metrics()),
            "health": (health, endpoints.health()),
        }
        self.addresses: dict[str, Address] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._open = 0
        self._ending: asyncio.Event | None = None

    def start(self) -> None:
        """Begin to serve.

        Raises
        ------
        UsageError
            An address cannot be bound; the message names it.
        """
        self._thread = threading.Thread(target=self._run, name="vexfs-metrics", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def failure(self) -> str | None:
        """Why nobody is answered any more; None while all is well, and after :meth:`stop`."""
        if self._thread is None or self._thread.is_alive() or (self._ending is not None and self._ending.is_set()):
            return None
        return str(self._failure or "its thread has ended")

    def stop(self) -> None:
        """Stop serving and close every connection."""
        loop, ending = self._loop, self._ending
        if loop is not None and ending is not None and self._thread is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(ending.set)
            self._thread.join()

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # -- the thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
            if self._started.is_set():
                log.error("metrics and health are not served any more: %s", error, exc_info=error)
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        servers = []
        try:
            for name, (address, routes) in self._wanted.items():
                if address is None:
                    continue
                try:
                    server = await asyncio.start_server(_Talk(self, routes).run, *address, limit=HEAD_MOST)
                except OSError as error:
                    message = f"{name} cannot be served on {address[0]}:{address[1]}: {error.strerror or error}"
                    raise UsageError(message) from None
                servers.append(server)
                host, port = server.sockets[0].getsockname()[:2]
                self.addresses[name] = (host, port)
            self._started.set()
            await self._ending.wait()
        finally:
            for server in servers:
                server.close()
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)


class _Talk:
    """Connections to one port."""

    def __init__(self, server: Server, routes: Mapping[str, Route]) -> None:
        self._server = server
        self._routes = routes

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        server = self._server
        server._open += 1
        try:
            if server._open > CONNECTIONS_MOST:
                await self._send(writer, Answer.of({"error": "too many connections"}, 503), keep=False)
            else:
                wait_s = HEAD_TIMEOUT_S
                while await self._one(reader, writer, wait_s):
                    wait_s = IDLE_TIMEOUT_S
            if server._open <= 2 * CONNECTIONS_MOST:
                await asyncio.wait_for(self._linger(reader, writer), LINGER_S)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client went, or was too slow: nobody is left to tell
        finally:
            server._open -= 1
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 1)

    @staticmethod
    async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take what comes until the client has the answer: it would be lost if bytes came that nobody reads."""
        writer.write_eof()
        while await reader.read(HEAD_MOST):
            pass

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait_s: float) -> bool:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), wait_s)
        except asyncio.LimitOverrunError:
            await self._send(writer, Answer.of({"error": "the request's head is too long"}, 431), keep=False)
            return False
        request, _, rest = head.partition(b"\r\n")
        words = request.split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            await self._send(writer, Answer.of({"error": "not a request of HTTP/1.1"}, 400), keep=False)
            return False
        headers = rest.lower()
        bodied = any(line.startswith((b"transfer-encoding:", b"content-length:")) and not line.endswith(b": 0")
                     for line in headers.split(b"\r\n"))  # fmt: skip
        keep = words[2] == b"HTTP/1.1" and _CLOSES.search(headers) is None and not bodied
        method, target = words[0], words[1].decode("latin-1")
        await self._send(writer, self._answer(method, target), keep=keep, body=method != b"HEAD")
        return keep

    def _answer(self, method: bytes, target: str) -> Answer:
        if method not in (b"GET", b"HEAD"):
            return Answer.of({"error": "only GET and HEAD are known here"}, 405)
        try:
            parts = urlsplit(target)
            query = parse_qs(parts.query, keep_blank_values=True, max_num_fields=64)
        except ValueError:
            return Answer.of({"error": "the request's target cannot be read"}, 400)
        route = self._routes.get(parts.path)
        if route is None:
            return Answer.of({"error": f"no such path; there are {', '.join(sorted(self._routes))}"}, 404)
        try:
            return route(query)
        except Exception as error:
            log.exception("%s failed", parts.path)
            return Answer.of({"error": f"{type(error).__name__}; the log has more"}, 500)

    @staticmethod
    async def _send(writer: asyncio.StreamWriter, answer: Answer, *, keep: bool, body: bool = True) -> None:
        phrase = http.HTTPStatus(answer.status).phrase
        head = (
            f"HTTP/1.1 {answer.status} {phrase}\r\nContent-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
            f"{'Allow: GET, HEAD' + chr(13) + chr(10) if answer.status == 405 else ''}"
            f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
        )
        writer.write(head.encode() + (answer.body if body else b""))
        await asyncio.wait_for(writer.drain(), SEND_TIMEOUT_S)
