"""The REST port as a service of a node."""

import asyncio
import socket
import threading
import time
from typing import Any

from vexfs.frontends.http.api import routes
from vexfs.frontends.http.api.operations import handles
from vexfs.frontends.http.api.reembed import renewals
from vexfs.frontends.http.connection import Connection
from vexfs.frontends.http.gate import Gate
from vexfs.frontends.http.route import Router
from vexfs.frontends.http.server import Certificates, LoopThread, accept_no_more, bound, until_idle

from vexfs.config import Settings
from vexfs.node import Node

#: So long the workers have, once the connections are closed, to remove what uploads left that were cut off.
CLEAN_UP_S = 1.0


class RestService:
    """Serves the API and the web page on ``api.rest_bind``."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._listener: socket.socket | None = None
        self._certificates: Certificates | None = None
        self._thread: LoopThread | None = None
        self._gate: Gate | None = None
        self._end: asyncio.Event | None = None
        self._deadline = 0.0

    def prepare(self) -> None:
        """Bind the port and read the certificate."""
        settings = self._node.settings
        self._certificates = Certificates(settings) if settings.api.tls_enabled else None
        self._listener = bound(settings.api.rest_bind, "api.rest_bind")

    def start(self) -> None:
        """Serve."""
        self._thread = LoopThread("rest", self._main)
        self._thread.start()

    async def _main(self, loop: asyncio.AbstractEventLoop, serving: threading.Event) -> None:
        assert self._listener is not None
        self._end = asyncio.Event()
        gate = self._gate = Gate(self._node, Router(routes(self._node)), loop)
        context = self._certificates.context if self._certificates else None
        server = await loop.create_server(
            lambda: Connection(gate), sock=self._listener, ssl=context, backlog=4096,
            ssl_handshake_timeout=10.0 if context else None,
        )  # fmt: skip
        serving.set()
        try:
            await self._end.wait()
            gate.stopping = True
            await accept_no_more(self._listener)
            server.close()
            for connection in list(gate.connections):
                connection.shutdown()
            await until_idle(lambda: bool(gate.connections), self._deadline)
            for connection in list(gate.connections):
                connection.abort()
        finally:
            await gate.close(CLEAN_UP_S)
            await loop.run_in_executor(None, handles(self._node).release_all)
            await loop.run_in_executor(None, renewals(self._node).stop_all)

    def stop(self, timeout_s: float) -> None:
        """Take no new connection, answer what is under way, close."""
        if self._thread is None or self._end is None:
            if self._listener is not None:
                self._listener.close()
            return
        self._deadline = time.monotonic() + timeout_s
        self._thread.call(self._end.set)
        self._thread.join(timeout_s + 2)

    def failure(self) -> str | None:
        """Why it no longer serves."""
        return self._thread.failure() if self._thread is not None else None

    def reload(self, settings: Settings) -> None:
        """New limits at once; a new certificate for new connections."""
        if self._certificates is not None:
            self._certificates.reload(settings)
        if self._gate is not None and self._thread is not None:
            self._thread.call(self._gate.adopt, settings)

    @property
    def url(self) -> str:
        """Where it is found."""
        assert self._listener is not None
        host, port = self._listener.getsockname()[:2]
        return f"http{'s' if self._certificates else ''}://{f'[{host}]' if ':' in host else host}:{port}"

    def figures(self) -> dict[str, Any]:
        """Counters: requests by path and status, connections, requests under way."""
        gate = self._gate
        if gate is None:
            return {"requests": {}, "connections": 0, "active": 0}
        rows = dict(gate.requests)
        return {
            "requests": {f"{path} {status}": count for (path, status), count in sorted(rows.items())},
            "connections": len(gate.connections),
            "active": gate.active,
        }

    def describe(self) -> dict[str, Any]:
        """Where it is found, and how busy it is."""
        told = self.figures()
        return {"url": self.url, "connections": told["connections"], "active": told["active"],
                "requests": sum(told["requests"].values())}  # fmt: skip
