"""One connection: HTTP/1.1 on the event loop, with a limit on everything that a client could let grow.

The parser is llhttp (through httptools).  Requests of one connection are answered in order; each waits for its turn in
a queue.  What a worker answers comes back to the loop, which alone writes.
"""

import asyncio
import time
from collections import deque
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import httptools
from vexfs.frontends.http.message import Problem, Reply, Request, Sink, Source, problem
from vexfs.frontends.http.turn import Turn, head_without

HEADERS_MOST = 32 << 10
HEADERS_S = 10.0
PIECE = 256 << 10
#: So much of the body of a request that was refused is read, to keep the connection.
READ_OVER = 4 * PIECE
#: So long a client may go on sending a body that nobody wants, once it has its answer.
LINGER_S = 2.0
QUEUE_MOST = 16
_STATUS = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_FIXED = b"server: vexfs\r\nx-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\n"


class Connection(asyncio.Protocol):
    """Parses, asks the gate, hands requests to workers, writes replies.

    Parameters
    ----------
    gate : Gate
        Says what is let in, and runs it.
    """

    def __init__(self, gate: Any) -> None:
        self._gate = gate
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._queue: deque[Turn] = deque()
        self._turn: Turn | None = None  # whose body is being read
        self._head_bytes = 0
        self._in_head = True
        self._head: tuple[bytearray, dict[str, str]] = (bytearray(), {})
        self._again = b""  # the head of a request that is parsed once more
        self._head_size = 0  # of what was parsed: line and headers, or trailers
        self._framing = 0  # bytes within a body, since something of it came
        self._refused = False
        self._timer: Any = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._closing = False
        self._peer = ""

    # -- the transport's side

    def connection_made(self, transport: Any) -> None:
        """A client came."""
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self._gate.welcome(self):
            self._refuse(Problem(503, "too many connections are open; try again later", {"Retry-After": "1"}))
            if not self._gate.turned_away(self):
                self._close()
            return
        self._wait(HEADERS_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went: what it asked for is dropped."""
        self._closing = True
        self._gate.gone(self)
        if self._timer is not None:
            self._timer.cancel()
        self._writable.set()
        for turn in self._queue:
            turn.arrived.set()
            turn.in_time()
            self._let_go(turn)
        self._queue.clear()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._closing or self._refused:
            return
        if self._in_head:
            self._head_bytes += len(data)
        else:
            self._framing += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__ or error.__cause__
            self._refuse(cause if isinstance(cause, Problem) else Problem(400, "the request is not HTTP"))
        except httptools.HttpParserError:
            self._refuse(Problem(400, "the request is not well-formed HTTP/1.1"))
        if (self._head_bytes if self._in_head else self._framing) > HEADERS_MOST:
            self._refuse(_too_long())

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as end:
                # An offer of another protocol (h2c) may be passed over, but the parser then knows no body.
                data, self._again = self._again + data[end.args[0] :], b""
                self._parser = httptools.HttpRequestParser(self)

    def eof_received(self) -> bool:
        """The client sends no more; replies may still be wanted, but not to a request that is not whole."""
        if self._turn is not None or self._head_bytes:
            self._refuse(Problem(400, "the connection ended within the request"))
        if not self._queue or self._closing:
            return False
        self._queue[-1].request.keep_alive = False
        return True

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writable.set()

    # -- the parser's side

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head = True
        self._head, self._head_size = (bytearray(), {}), 0

    def on_url(self, url: bytes) -> None:
        """Its target."""
        self._head[0].extend(url)
        self._grow(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; those behind a body are read over: what they say comes after the request was let in."""
        self._grow(len(name) + len(value) + 4)
        if not self._in_head:
            return
        headers, key = self._head[1], name.decode("latin-1").lower()
        text = value.decode("latin-1")
        if key in headers:
            if key in ("authorization", "content-length", "content-type", "host", "range", "content-range"):
                raise Problem(400, f"the header {key} is given twice")
            text = f"{headers[key]}, {text}"
        headers[key] = text

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > HEADERS_MOST:
            raise _too_long()

    def on_headers_complete(self) -> None:
        """Line and headers are there: is the request let in?"""
        url, headers = self._head
        version = self._parser.get_http_version()
        if self._parser.should_upgrade() and "upgrade" in headers:
            if headers["upgrade"].lower() == "websocket":
                raise Problem(400, "this port speaks HTTP/1.1 only; WebSocket has a port of its own")
            self._again = head_without("upgrade", self._parser.get_method(), bytes(url), version, headers)
            return
        self._in_head, self._head_bytes, self._head_size, self._framing = False, 0, 0, 0
        try:
            target = httptools.parse_url(bytes(url))
        except httptools.HttpParserInvalidURLError:
            raise Problem(400, "the request's target is no URL") from None
        if b"#" in url:
            raise Problem(400, "a request's target has no '#'; where a name has one, it is written %23")
        request = Request(
            self._parser.get_method().decode("ascii"), target.path or b"/", target.query or b"", headers, self._peer,
            started=time.monotonic(), keep_alive=self._parser.should_keep_alive() and not self._closing,
        )  # fmt: skip
        if version == "1.1" and "host" not in headers:
            raise Problem(400, "a request of HTTP/1.1 has a Host header")
        coding = headers.get("transfer-encoding", "chunked")
        if coding.lower() != "chunked":
            raise Problem(400, f"a body of the transfer coding {coding!r} is not understood here; send it chunked")
        turn = self._turn = Turn(request)
        if len(self._queue) >= QUEUE_MOST:
            raise Problem(429, f"at most {QUEUE_MOST} requests may wait on one connection")
        self._queue.append(turn)
        try:
            self._gate.admit(request)
            turn.waits = version == "1.1" and headers.get("expect", "").lower() == "100-continue"
        except BaseException as error:
            turn.error = error
        self._wait(self._gate.timeout_s, self._too_slow)
        if turn.error is not None:
            # A client that waits to be asked for its body, or has a long one, is told now.
            turn.hasty = "expect" in headers or int(headers.get("content-length", "0")) > READ_OVER
        elif request.route is not None and request.route.upload is not None:
            turn.pieces = deque()
        self._advance()

    def on_body(self, body: bytes) -> None:
        """Bytes of a body."""
        turn, self._framing = self._turn, 0
        if turn is None or turn.error is not None:
            if self._turn is not None:
                self._turn.wasted += len(body)
                if self._turn.wasted > READ_OVER:
                    raise Problem(413, "the request was refused, and its body is too long to be read over")
            return
        if turn.pieces is not None:
            turn.pieces.append(body)
            turn.waiting += len(body)
            turn.arrived.set()
            if turn.waiting > 4 * PIECE and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        else:
            turn.request.body += body
            try:
                self._gate.hold(turn.request, len(body))
                turn.held += len(body)
            except Problem as error:
                turn.error = error
                turn.request.body = bytearray()
                self._let_go(turn)
        self._wait(self._gate.timeout_s, self._too_slow)

    def on_message_complete(self) -> None:
        """The request is there as a whole."""
        turn, self._turn = self._turn, None
        self._in_head = True
        if turn is not None:
            turn.complete = True
            turn.arrived.set()
            if turn.running and not turn.answered:
                self._limit(turn, self._expire)  # its body has come, and only the work is waited for
            self._advance()

    # -- requests in their turn

    def _advance(self) -> None:
        """Start the request at the head of the queue, if it is there."""
        if not self._queue or self._closing:
            return
        turn = self._queue[0]
        if turn.waits and not turn.complete:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        turn.waits = False
        if turn.running or not (turn.complete or turn.pieces is not None or turn.hasty):
            return
        turn.running = True
        if turn.error is None:
            try:
                self._gate.enter()
                turn.entered = True
            except Problem as error:
                turn.error = error
        if turn.error is not None:
            self._answer(turn, problem(turn.error, turn.request.id))
            return
        if turn.complete:
            self._limit(turn, self._expire)
        if turn.pieces is not None:
            self._gate.spawn(self._upload(turn))
        else:
            self._gate.submit(turn.request.route.handle, turn.request, lambda reply: self._handled(turn, reply))

    def _limit(self, turn: Turn, then: Any) -> None:
        """Bound the work on a request, whatever else comes over the connection meanwhile."""
        turn.in_time()
        turn.timer = self._gate.loop.call_later(self._gate.timeout_s, then, turn)

    def _expire(self, turn: Turn) -> None:
        if turn.answered or self._closing:
            return
        what = f"the request took longer than {self._gate.timeout_s:g} s; ask for less, or raise api.request_timeout"
        turn.request.keep_alive = False
        self._answer(turn, problem(Problem(504, what), turn.request.id))

    def _handled(self, turn: Turn, reply: Reply) -> None:
        """A worker is done with a request; on the loop."""
        late = turn.answered or self._closing
        if reply.source is not None and (late or turn.request.method == "HEAD"):
            self._gate.submit_close(reply.source)
        if reply.source is None or late or turn.request.method == "HEAD":
            self._leave(turn)
        if not late:
            self._answer(turn, reply)

    def _answer(self, turn: Turn, reply: Reply) -> None:
        """Write a reply; on the loop."""
        turn.answered = True
        turn.in_time()
        if not turn.complete:
            turn.request.keep_alive = False
        head = self._head_of(turn.request, reply)
        if turn.request.method == "HEAD":
            self._transport.write(head)
        elif reply.source is not None:
            self._gate.spawn(self._stream(turn, head, reply.source, reply.status))
            return
        else:
            self._transport.write(head + reply.body)
        self._done(turn, reply.status)

    def _head_of(self, request: Request, reply: Reply) -> bytes:
        size = reply.source.size if reply.source is not None else len(reply.body)
        lines = [_STATUS[reply.status], _FIXED, _date(), f"x-request-id: {request.id}\r\n".encode()]
        if reply.status not in (204, 304):
            lines.append(f"content-type: {reply.media}\r\ncontent-length: {size}\r\n".encode())
        headers = reply.headers
        if "origin" in request.headers:
            headers = {**headers, **self._gate.extra_headers(request)}
        for name, value in headers.items():
            clean = value.replace("\r", "").replace("\n", "")
            lines.append(f"{name.lower()}: {clean}\r\n".encode("latin-1", "replace"))
        if not request.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _let_go(self, turn: Turn) -> None:
        self._gate.let_go(turn.held)
        turn.held = 0

    def _leave(self, turn: Turn) -> None:
        if turn.entered:
            turn.entered = False
            self._gate.leave()

    def _done(self, turn: Turn, status: int) -> None:
        """A reply is written: on to the next request, or to the end."""
        self._gate.log(turn.request, status)
        self._let_go(turn)
        if self._closing:
            return
        if self._queue and self._queue[0] is turn:
            self._queue.popleft()
        if not turn.complete:
            self._linger()
        elif not turn.request.keep_alive or self._gate.stopping:
            self._linger() if self._refused else self._close()
        elif self._queue:
            self._advance()
        elif self._turn is None:
            self._wait(self._gate.keepalive_s, self._too_slow)

    # -- bodies of any size

    async def _stream(self, turn: Turn, head: bytes, source: Source, status: int) -> None:
        left = source.size
        self._transport.write(head)
        try:
            while left and not self._closing:
                piece = await self._gate.work(source.read, min(PIECE, left))
                if not piece:
                    break
                left -= len(piece)
                self._transport.write(piece)
                self._limit(turn, self._abort)
                await self._writable.wait()
        except Exception as error:
            self._gate.failed(turn.request, error)
        finally:
            turn.in_time()
            self._gate.submit_close(source)
            self._leave(turn)
        if left and not self._closing:
            self._abort()  # too late for a status: a body cut short is all that is left to say
        self._done(turn, status)

    async def _upload(self, turn: Turn) -> None:
        sink: Sink | None = None
        try:
            sink = await self._gate.work(turn.request.route.upload, turn.request)
            async for piece in self._pieces(turn):
                await self._gate.work(sink.write, piece)
            if not turn.complete or turn.pieces or turn.answered:
                raise ConnectionAbortedError  # of what has come not all is written
            reply = await self._gate.work(sink.finish)
        except Exception as error:
            if sink is not None:
                await self._gate.work(sink.abort)
            self._leave(turn)
            if not (turn.answered or self._closing):
                self._answer(turn, self._gate.failed(turn.request, error))
            return
        self._handled(turn, reply)

    async def _pieces(self, turn: Turn) -> Any:
        assert turn.pieces is not None
        while not (self._closing or turn.answered):
            if turn.pieces:
                piece = b"".join(turn.pieces)
                turn.pieces.clear()
                turn.waiting = 0
                if self._paused:
                    self._paused = False
                    self._transport.resume_reading()
                yield piece
            elif turn.complete:
                return
            else:
                turn.arrived.clear()
                self._wait(self._gate.timeout_s, self._too_slow)
                await turn.arrived.wait()

    # -- the end

    def _wait(self, seconds: float, then: Any) -> None:
        """Have `then` happen unless something else is waited for by then."""
        if self._closing:
            return  # what ends the connection is waited for, and nothing else
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._gate.loop.call_later(seconds, then)

    def _too_slow(self) -> None:
        """No request, or not all of one, came in time."""
        if self._head_bytes or self._turn is not None:
            self._refuse(Problem(408, "the request did not come in time"))
        elif not self._queue:
            self._close()

    def _refuse(self, error: Problem) -> None:
        """Tell what is wrong with something that is not even a request, and hang up."""
        if self._closing or self._refused:
            return
        turn = self._queue[-1] if self._queue and not self._queue[-1].complete else None
        if self._queue and self._queue[0] is not turn:
            self._refuse_in_turn(turn, error)
            return
        request = turn.request if turn is not None else Request("GET", b"", b"", {}, self._peer)
        request.keep_alive = False
        request.id = request.id or self._gate.new_id("")
        if turn is None or not turn.answered:
            reply = problem(error, request.id)
            self._transport.write(self._head_of(request, reply) + reply.body)
            self._gate.log(request, reply.status)
        self._linger()

    def _refuse_in_turn(self, turn: Turn | None, error: Problem) -> None:
        """What came before is answered first, or this would pass for the answer to it."""
        self._refused = True
        if turn is None:
            turn = Turn(Request("GET", b"", b"", {}, self._peer, id=self._gate.new_id("")))
            self._queue.append(turn)
        turn.error, turn.complete, turn.request.keep_alive = turn.error or error, True, False
        self._advance()

    def _close(self) -> None:
        if not self._transport.is_closing():
            self._transport.close()
        self._closing = True

    def _linger(self) -> None:
        """Hang up when the client does, or soon: closed under what it still sends, it would lose the reply."""
        if self._transport.can_write_eof():
            self._transport.write_eof()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._wait(LINGER_S, self._close)
        self._closing = True

    def _abort(self, _turn: Turn | None = None) -> None:
        self._transport.abort()

    def abort(self) -> None:
        """Hang up at once."""
        self._abort()

    def shutdown(self) -> None:
        """Answer what is under way, then close."""
        if not self._queue:
            self._close()
        for turn in self._queue:
            turn.request.keep_alive = False


def _too_long() -> Problem:
    return Problem(431, f"a request's line and headers have {HEADERS_MOST} bytes at most")


_today = (0, b"")


def _date() -> bytes:
    global _today
    now = int(time.time())
    if _today[0] != now:
        _today = (now, f"date: {formatdate(now, usegmt=True)}\r\n".encode())
    return _today[1]
