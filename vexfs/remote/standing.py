"""Standing queries at a node, with the methods of :class:`vexfs.search.standing.StandingQuery`."""

import contextlib
import logging
import math
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np

from vexfs.errors import NotSupported, QueryInvalid, Unreachable, VexfsError
from vexfs.remote.index import Hit, filter_of, hits_of, sent_vectors
from vexfs.remote.link import Link, decoded, encoded, error_of, refused, texts

log = logging.getLogger("vexfs.remote")
_HELD = 10_000


class RemoteStandingQuery:
    """A question that stays, at a node; made by ``fs.watch``.  An iterator of hits, and a context manager that ends it.

    Each has a connection to the node's WebSocket port of its own, read by a thread.

    Parameters
    ----------
    link : Link
    port : int
        Of the node's WebSocket.
    query : str or float (dim,)
    threshold : float
    under : str
    where : mapping, optional
    call : callable, optional
        Called with each hit, by the thread that reads; what it raises is logged.  Without it hits wait to be taken, at
        most 10,000 of them.
    attributes : bool
        False leaves the files' attributes out.

    Attributes
    ----------
    lost : int
        Hits that nobody took in time.
    fault : Exception or None
        What broke the connection: `take` and iterating raise it once no hit waits.
    """

    def __init__(
        self, link: Link, port: int, query: Any, threshold: float, *, under: Any, where: Mapping[str, Any] | None,
        call: Callable[[Hit], Any] | None, attributes: bool = True,
    ) -> None:
        if call is not None and not callable(call):
            raise QueryInvalid(f"call={call!r}; something that can be called is wanted")
        self.query = query if isinstance(query, str) else _vector(query)
        self.threshold, self.lost = threshold, 0
        self.fault: Exception | None = None
        self._call = call
        self._hits: queue.Queue[Hit | None] = queue.Queue(_HELD)
        self._closed = False
        self._open = contextlib.ExitStack()
        self._wire = _opened(link, port, self._open)
        try:
            self._subscribe(_wish(self.query, threshold, under, where, attributes), link.timeout_s)
        except BaseException:
            self._open.close()
            raise
        self._reader = threading.Thread(target=self._read, name="vexfs-watch", daemon=True)
        self._reader.start()

    def _subscribe(self, wish: dict[str, Any], timeout_s: float) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            self._hear("ready", timeout_s)
            self._wire.send(encoded(wish))
            self._hear("subscribed", timeout_s)
        except ConnectionClosed as error:
            raise _ended(error) from None
        except TimeoutError:
            raise Unreachable("the node did not answer in time") from None

    def _hear(self, kind: str, timeout_s: float) -> None:
        told = _told(self._wire.recv(timeout=timeout_s))
        if told["type"] == "error":
            raise _fault(told)
        if told["type"] != kind:
            raise Unreachable(f"the node answered {told['type']!r} where {kind!r} was due")

    def _read(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            while True:
                told = _told(self._wire.recv())
                if told["type"] == "error":
                    raise _fault(told)
                if told["type"] == "event":
                    self._tell(hits_of([told["data"]])[0])
        except ConnectionClosed as error:
            self._end(_ended(error))
        except (VexfsError, OSError, msgspec.DecodeError) as error:
            self._end(error)

    def _end(self, fault: Exception) -> None:
        """Nothing more will come."""
        if not self._closed:
            self.fault = fault
            if self._call is not None:
                log.error("a standing query has ended: %s", fault)
        self._wake()

    def _wake(self) -> None:
        try:
            self._hits.put_nowait(None)
        except queue.Full:
            pass

    def _tell(self, hit: Hit) -> None:
        if self._call is not None:
            try:
                self._call(hit)
            except Exception:
                log.exception("a standing query failed")
            return
        try:
            self._hits.put_nowait(hit)
        except queue.Full:
            self.lost += 1

    def take(self, timeout: float | None = None) -> Hit | None:
        """The next hit; None after `timeout` seconds, or when it, or its volume, was closed.

        Raises
        ------
        Unreachable
            The connection broke; what matched since is not known.
        Refused
            The node ended it: the token was revoked, or hits came faster than they were read.
        """
        over = self._closed or self.fault is not None
        try:
            hit = self._hits.get(block=not over, timeout=timeout)
        except queue.Empty:
            hit = None
        if hit is None and self.fault is not None and not self._closed:
            raise self.fault
        return hit

    def __iter__(self) -> Iterator[Hit]:
        while (hit := self.take()) is not None:
            yield hit

    def close(self) -> None:
        """Be told no more."""
        if not self._closed:
            self._closed = True
            self._open.close()
            if threading.current_thread() is not self._reader:
                self._reader.join(5)
            self._wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _opened(link: Link, port: int, stack: contextlib.ExitStack) -> Any:
    try:
        from websockets.exceptions import InvalidHandshake
        from websockets.sync.client import connect
    except ModuleNotFoundError as error:
        if error.name != "websockets":
            raise
        raise NotSupported.at("fs.watch at a node needs websockets; install it: pip install 'vexfs[server]'") from None
    url, token, context = link.place(port)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        return stack.enter_context(connect(
            url, ssl=context, additional_headers=headers, open_timeout=link.timeout_s, close_timeout=2, max_size=None,
            compression=None, proxy=None,
        ))  # fmt: skip
    except InvalidHandshake as error:
        reply = getattr(error, "response", None)
        if reply is None:
            raise Unreachable(f"{url}: {error}") from None
        raise refused(reply.status_code, reply.body.decode("utf-8", "replace").strip()) from None
    except (OSError, EOFError) as error:
        raise Unreachable(f"{url}: {error or type(error).__name__}; the node's port for subscriptions must be "
                          "reachable, too") from None  # fmt: skip


def _vector(query: Any) -> Any:
    found = sent_vectors(query)
    if found.ndim != 1 or not found.size:
        raise QueryInvalid(f"a vector of shape {found.shape}; one of finite numbers, not all zero, is wanted")
    return found


def _wish(
    query: Any, threshold: float, under: Any, where: Mapping[str, Any] | None, attributes: bool
) -> dict[str, Any]:
    number = isinstance(threshold, (int, float, np.number)) and not isinstance(threshold, bool)
    if not number or not math.isfinite(threshold):
        raise QueryInvalid(f"threshold={threshold!r}; a finite score is wanted")
    what = {"text": query} if isinstance(query, str) else {"vector": query.tobytes()}
    return {
        "action": "subscribe", "channel": "search", "id": "watch", "path": under, "threshold": float(threshold),
        "attributes": attributes, "passages": True, **what, **({} if where is None else {"where": filter_of(where)}),
    }  # fmt: skip


def _told(raw: str | bytes) -> Any:
    """A message: MessagePack, as it is asked, but for the first ones."""
    return msgspec.json.decode(raw) if isinstance(raw, str) else texts(decoded(raw))


def _fault(told: Mapping[str, Any]) -> Exception:
    """What a message of type ``error`` tells of."""
    found = error_of(dict(told))
    if found is not None:
        return found
    detail, status = str(told["detail"]), int(told.get("status", 400))
    return QueryInvalid(detail) if status == 400 else refused(status, detail)


def _ended(error: Any) -> Exception:
    """Why the node hung up."""
    received = error.rcvd
    if received is not None and received.code >= 4000:
        return refused(received.code, str(received.reason))
    why = received.reason if received is not None and received.reason else "the connection broke"
    return Unreachable(f"the node: {why}; what matched since is not known, watch again")
