"""A port with an event loop of its own in a thread: bound early, over TLS or in clear, stopped with a deadline."""

import asyncio
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from vexfs.config import Settings
from vexfs.config.kinds import Endpoint
from vexfs.errors import ConfigError, VexfsError

log = logging.getLogger("vexfs.http")

#: What a handshake fails with where a client speaks no TLS at all; and what it is told.
_CLEAR = ("HTTP_REQUEST", "WRONG_VERSION_NUMBER")
_WHAT = (
    b'{"type":"about:blank","title":"Bad Request","status":400,'
    b'"detail":"this port speaks TLS; ask it with https://, or wss:// for subscriptions"}'
)
_TOLD = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_WHAT), _WHAT)
)


def bound(where: Endpoint, key: str) -> socket.socket:
    """A listening socket.

    Raises
    ------
    ConfigError
        The address cannot be bound; the message names the key.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(4096)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(f"{key}: {where} cannot be bound: {error.strerror or error}") from None
    return listener


class _Handshake(ssl.SSLObject):
    """Of a port that speaks TLS: who comes in clear is told so, in clear."""

    outgoing: ssl.MemoryBIO
    told = False

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLError as error:
            if error.reason not in _CLEAR or self.told:
                raise
            self.told = True
            self.outgoing.write(_TOLD)
            raise ssl.SSLWantReadError from None  # so it goes out; the end comes with the time for handshakes


class _Context(ssl.SSLContext):
    sslobject_class = _Handshake

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any) -> ssl.SSLObject:
        made = super().wrap_bio(incoming, outgoing, *args, **options)
        made.outgoing = outgoing  # type: ignore[attr-defined]
        return made


class Certificates:
    """The TLS context of a port; read again on reload, for connections to come."""

    def __init__(self, settings: Settings) -> None:
        self.context = self._read(settings)

    @staticmethod
    def _read(settings: Settings) -> ssl.SSLContext:
        api = settings.api
        context = _Context(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(api.tls_cert_file, api.tls_key_file)
        except (OSError, ssl.SSLError) as error:
            what = f"{api.tls_cert_file} and {api.tls_key_file} are no certificate with its key: {error}"
            raise ConfigError(f"api.tls_cert_file: {what}") from None
        if api.tls_client_ca_file:
            try:
                context.load_verify_locations(api.tls_client_ca_file)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"api.tls_client_ca_file: {api.tls_client_ca_file}: {error}") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def reload(self, settings: Settings) -> None:
        """Take the files as they are now: new connections get the new certificate, whoever has one keeps it."""
        fresh = self._read(settings)
        holder = self.context
        holder.sni_callback = _handing_over(fresh)
        holder.verify_mode = fresh.verify_mode  # taken from here by a connection, before it is handed over
        if settings.api.tls_client_ca_file:
            holder.load_verify_locations(settings.api.tls_client_ca_file)


def _handing_over(fresh: ssl.SSLContext) -> Any:
    def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = fresh

    return choose


class LoopThread:
    """An event loop in a thread.

    It is asyncio's own: with uvloop 16 clients get a quarter more answers, but of 2,000 that ask at once hundreds got
    none for a minute.

    Parameters
    ----------
    main
        Given the loop, serves until :meth:`stop`; sets the event when it does.
    """

    def __init__(
        self, name: str, main: Callable[[asyncio.AbstractEventLoop, threading.Event], Coroutine[Any, Any, None]]
    ) -> None:
        self._name = name
        self._main = main
        self._serving = threading.Event()
        self._fault: BaseException | None = None
        self._stopping = False
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"vexfs-{name}", daemon=True)

    def start(self) -> None:
        """Return when it serves; raises what prevents it."""
        self._thread.start()
        while not self._serving.wait(0.05):
            if not self._thread.is_alive():
                raise self._fault or VexfsError(f"{self._name} ended before it served")

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self.loop) as runner:  # cancels what is still under way at the end
                runner.run(self._main(self.loop, self._serving))
        except BaseException as error:
            self._fault = error

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Have the loop call a function."""
        try:
            self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            pass  # it has ended

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        self._stopping = True
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise VexfsError(f"{self._name} did not end within {timeout_s:.0f} s")

    def failure(self) -> str | None:
        """Why it ended, when nobody stopped it."""
        if self._stopping or self._thread.is_alive():
            return None
        return f"{type(self._fault).__name__}: {self._fault}" if self._fault is not None else "the loop has ended"


async def accept_no_more(listener: socket.socket) -> None:
    """Take no new connection; those that were taken just now are served when this returns.

    asyncio forgets such ones, open, when their server is closed under them.
    """
    asyncio.get_running_loop().remove_reader(listener)
    await asyncio.sleep(0)


async def until_idle(still: Callable[[], bool], deadline: float) -> None:
    """Wait until `still` says no, or until `deadline` by ``time.monotonic``."""
    while still() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
