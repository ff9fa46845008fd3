"""The way to a node: connections that are kept, requests in MessagePack, errors that are those of the node."""

import errno
import http.client
import os
import select
import socket
import ssl
import threading
import time
import urllib.parse
import weakref
from typing import Any

import msgspec
import numpy as np

from vexfs import errors
from vexfs.errors import InvalidArgument, Unreachable, UsageError, VexfsError, VolumeClosed, from_errno

IDLE_S = 2.0  # less than a node keeps an idle connection, so that none is used as the node closes it
KEPT_MOST = 8
#: Says which run of the node answers.
_RUN = "VexFS-Run"
CLOSED = "the connection has been closed; connect again"
#: Extensions of MessagePack: whole numbers of more than 64 bits, in decimal digits; text with undecodable bytes.
DIGITS, TEXT = 1, 2


def _large(code: int, digits: memoryview) -> int:
    if code != DIGITS:
        raise ValueError(f"extension {code} of MessagePack; {DIGITS}, the digits of a large number, is known")
    return int(bytes(digits))


decoded = msgspec.msgpack.Decoder(ext_hook=_large).decode


def _number(value: Any) -> Any:
    """A number of numpy's, or an array of them, as Python's."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is not sent")


_encode = msgspec.msgpack.Encoder(enc_hook=_number)


def encoded(body: Any) -> bytes:
    """A request's body; what MessagePack has no word for are its extensions."""
    try:
        return _encode.encode(body)
    except (OverflowError, UnicodeEncodeError):
        return _encode.encode(_expressible(body))


def _expressible(data: Any) -> Any:
    if isinstance(data, str) and not data.isascii():
        raw = data.encode("utf-8", "surrogateescape")
        return data if data == raw.decode("utf-8", "replace") else msgspec.msgpack.Ext(TEXT, raw)
    if isinstance(data, int) and not -(1 << 63) <= data < 1 << 64:
        return msgspec.msgpack.Ext(DIGITS, str(data).encode())
    if isinstance(data, dict):
        return {_expressible(key): _expressible(value) for key, value in data.items()}
    return [_expressible(each) for each in data] if isinstance(data, list | tuple) else data


#: What a program of files makes of a refusal; 4003 is a subscription's that ends for its token.
_ERRNOS = {
    401: errno.EACCES, 403: errno.EACCES, 4003: errno.EACCES, 408: errno.ETIMEDOUT, 413: errno.EFBIG,
    429: errno.EAGAIN, 503: errno.EAGAIN,
}  # fmt: skip
_links: "weakref.WeakSet[Link]" = weakref.WeakSet()


def _leave_connections() -> None:
    """In a forked child: the connections are the parent's; whoever used one here would take the parent's replies."""
    for link in list(_links):
        link._idle, link._lock = [], threading.Lock()


os.register_at_fork(after_in_child=_leave_connections)


class Refused(VexfsError, OSError):
    """The node refused a request for a reason of HTTP's own: a token, a limit, a form; ``status`` is HTTP's."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(_ERRNOS.get(status, errno.EIO), detail)
        self.status = status

    def __str__(self) -> str:
        return str(self.strerror)


class NotLetIn(Refused, PermissionError):
    """The same for a token: it is missing, expired, revoked, or not good for that."""


def refused(status: int, detail: str) -> Refused:
    """The refusal, of a class of its own where it is for a token."""
    return (NotLetIn if _ERRNOS.get(status) == errno.EACCES else Refused)(status, detail)


class Link:
    """Requests to one node.  Thread-safe: each thread that asks has a connection for the while.

    Parameters
    ----------
    url : str
        ``http://HOST:PORT`` or ``https://...``.
    token : str, optional
    timeout_s : float
        For a connection, and for each wait on it.
    context : ssl.SSLContext, optional
        For ``https``: what is trusted, and a client certificate.
    """

    def __init__(self, url: str, token: str | None, timeout_s: float, context: ssl.SSLContext | None) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urllib.parse.SplitResult("", "", "", "", ""), None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise UsageError(f"a node's address is http://HOST:PORT or https://HOST:PORT, not {url!r}")
        token = (token or "").strip()  # as a file has it, with the end of its line
        if not token.isascii() or not token.isprintable():
            raise UsageError("a token is one word of letters, digits, '_' and '-', as `vexctl token create` shows it")
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._host, self._port = parts.hostname, port or (443 if parts.scheme == "https" else 8080)
        self._context = (context or ssl.create_default_context()) if parts.scheme == "https" else None
        self.timeout_s = timeout_s
        self._token = token
        self._headers = {"Accept": "application/msgpack", "Content-Type": "application/msgpack"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()
        #: Runs of the node that answered changes which no sync followed.
        self._unsynced: set[str] = set()
        self.closed = False
        _links.add(self)

    def place(self, port: int) -> tuple[str, str, ssl.SSLContext | None]:
        """For a WebSocket at another port of the node: its address, the token, what is trusted."""
        name = f"[{self._host}]" if ":" in self._host else self._host
        scheme = "ws" if self._context is None else "wss"
        return f"{scheme}://{name}:{port}/v1/subscribe", self._token or "", self._context

    def _take(self) -> http.client.HTTPConnection:
        now = time.monotonic()
        with self._lock:
            while self._idle:
                since, link = self._idle.pop()
                if now - since < IDLE_S and not _ended(link.sock):
                    return link
                link.close()
        if self._context is not None:
            return _Https(self._host, self._port, timeout=self.timeout_s, context=self._context)
        return _Http(self._host, self._port, timeout=self.timeout_s)

    def _give(self, link: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < KEPT_MOST and not self.closed:
                self._idle.append((time.monotonic(), link))
                return
        link.close()

    def ask(self, method: str, path: str, body: Any = None, *, invalid: type[VexfsError] | None = None,
            again: bool = False, changes: bool = False) -> Any:
        """One request; answers what its reply holds.

        `invalid`: raised for arguments that the node refuses.  `again`: it may be done twice, and so is asked once more
        when a connection that was kept turns out to have ended.  `changes`: a crash of the node may lose it until it is
        synced.

        Raises
        ------
        Unreachable
            No node answers, or it went while it was asked: whether the request was done is then not known.
        Refused, VexfsError
            What the node tells.
        VolumeClosed
            After :meth:`close`.
        """
        if self.closed:
            raise VolumeClosed.at(CLOSED)
        try:
            data = None if body is None else encoded(body)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidArgument.at(f"this cannot be sent to a node: {error}") from None
        link = self._take()
        kept = link.sock is not None
        try:
            link.request(method, path, data, self._headers)
            reply = link.getresponse()
            raw = reply.read()
        except (OSError, http.client.HTTPException) as error:
            link.close()
            if kept and isinstance(error, ConnectionError) and (again or method == "GET"):
                self._forget()
                return self.ask(method, path, body, invalid=invalid, again=again, changes=changes)
            raise Unreachable(f"{self.url}: {_reason(error)}") from None
        if reply.will_close:
            link.close()
        else:
            self._give(link)
        if reply.status >= 400:
            fault = told(reply.status, raw)
            if invalid is not None and isinstance(fault, Refused) and fault.status == 400:
                raise invalid.at(str(fault))
            raise fault
        if changes:
            self.unsynced({reply.headers.get(_RUN, "")})
        return decoded(raw) if raw else None

    def unsynced(self, more: set[str] | None = None) -> set[str]:
        """The runs of the node that answered changes which no sync followed: taken out, or with `more` put in."""
        with self._lock:
            before, self._unsynced = self._unsynced, set() if more is None else self._unsynced | more
        return before

    def close(self) -> None:
        """Close the connections that are kept; nothing is asked any more."""
        self.closed = True
        self._forget()

    def _forget(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, link in idle:
            link.close()


class _Http(http.client.HTTPConnection):
    """With Nagle's delay off: head and body are two writes."""

    def connect(self) -> None:
        super().connect()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _Https(http.client.HTTPSConnection):
    """The same over TLS."""

    def connect(self) -> None:
        super().connect()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _ended(sock: socket.socket | None) -> bool:
    """Whether the node has hung up: nothing else is to be read where nothing was asked."""
    if sock is None:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "the node did not answer in time"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def told(status: int, raw: bytes) -> VexfsError | OSError:
    """The error that a reply tells of, of the class that the node raised."""
    try:
        problem = msgspec.json.decode(raw)
        detail = str(problem["detail"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return refused(status, f"the node answered with status {status}")
    return error_of(problem) or refused(status, detail)


def error_of(problem: dict[str, Any]) -> VexfsError | OSError | None:
    """The error of the tree that ``error``, ``errno`` and ``detail`` tell of; None when they name none."""
    kind, detail = getattr(errors, str(problem.get("error")), None), str(problem["detail"])
    if not (isinstance(kind, type) and issubclass(kind, VexfsError)):
        return None
    if issubclass(kind, OSError) and "errno" in problem:
        return from_errno(int(problem["errno"]), message=detail)
    return kind.at(detail)


def texts(data: Any) -> Any:
    """What a node tells, with the text that travels as bytes, for it has undecodable ones, as Python has it."""
    if isinstance(data, bytes):
        return os.fsdecode(data)
    if isinstance(data, dict):
        return {texts(key): texts(value) for key, value in data.items()}
    return [texts(each) for each in data] if isinstance(data, list) else data


def quoted(path: str) -> str:
    """A path of a volume as part of a URL."""
    return urllib.parse.quote(os.fsencode(path).lstrip(b"/"))
