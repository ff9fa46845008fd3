"""Requests and replies: what a handler gets and gives, whatever carried it."""

import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

import attrs
import msgspec
from vexfs.frontends.http.fence import allowed

from vexfs.errors import NotPermitted, UsageError, VexfsError, describe, row_of
from vexfs.node.tokens import ANYBODY, Token

JSON = "application/json"
#: Which run of the node answers.
RUN = "VexFS-Run"
MSGPACK = "application/msgpack"
BYTES = "application/octet-stream"
PROBLEM = "application/problem+json"
T = TypeVar("T")


class Problem(VexfsError):
    """A request that is answered with an error of HTTP's own: the message says what would be right."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})


class Source(Protocol):
    """Bytes that are too many for one piece; every method is called by a worker."""

    size: int

    def read(self, size: int) -> bytes:
        """The next bytes; empty at the end."""

    def close(self) -> None:
        """Nobody reads any more."""


class Sink(Protocol):
    """Where a body goes piece by piece; every method is called by a worker."""

    def write(self, data: bytes) -> None:
        """The next bytes."""

    def finish(self) -> "Reply":
        """All bytes were written."""

    def abort(self) -> None:
        """The client went, or a write failed: leave nothing behind."""


@attrs.define
class Reply:
    """What a handler answers."""

    status: int = 200
    body: bytes = b""
    media: str = JSON
    headers: dict[str, str] = attrs.field(factory=dict)
    source: Source | None = None


@attrs.define(eq=False)
class Request:
    """What a client asks."""

    method: str
    raw_path: bytes
    query_bytes: bytes
    headers: dict[str, str]
    peer: str
    id: str = ""
    token: Token = ANYBODY
    route: Any = None
    tail: bytes = b""
    body: bytearray = attrs.field(factory=bytearray)
    started: float = 0.0
    keep_alive: bool = True
    node: Any = None
    app: Any = None

    # -- what it says

    def query(self, kind: type[T]) -> T:
        """The query string, checked."""
        values: dict[str, str] = {}
        try:
            text = self.query_bytes.decode("ascii")
            pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=50)
        except ValueError:
            raise Problem(400, "the query string is not well-formed UTF-8, percent-encoded") from None
        for name, value in pairs:
            if name in values:
                raise Problem(400, f"the query parameter {name!r} is given twice")
            values[name] = value
        try:
            return msgspec.convert(values, kind, strict=False)
        except msgspec.ValidationError as error:
            raise Problem(400, f"query: {error}") from None

    @property
    def content_type(self) -> str:
        """The media type of the body, without parameters."""
        return self.headers.get("content-type", JSON).partition(";")[0].strip().lower()

    def decoded(self, kind: type[T]) -> T:
        """The body, JSON or MessagePack, checked."""
        media = self.content_type
        try:
            if media in (MSGPACK, "application/x-msgpack"):
                return from_msgpack(bytes(self.body), kind)
            if media == JSON or media.endswith("+json"):
                return _json_decoder(kind).decode(bytes(self.body))
        except msgspec.ValidationError as error:
            raise Problem(400, f"body: {error}") from None
        except (ValueError, RecursionError, OverflowError) as error:
            raise Problem(400, f"the body is not valid {media}: {error}") from None
        raise Problem(415, f"a body of type {media!r} is not understood here; send {JSON} or {MSGPACK}")

    def left_of(self, patience_s: float) -> float:
        """What is left of the time that the client would wait."""
        return max(0.0, patience_s - (time.monotonic() - self.started))

    # -- paths of the volume

    @property
    def path(self) -> str:
        """What stands behind the route's own words, as an absolute, normal path of the volume."""
        return normal(os.fsdecode(unquote_to_bytes(self.tail)))

    def allow(self, path: str, *, follow: bool = True) -> str:
        """`path`, when the token covers it: as it is written and where it leads.

        Raises
        ------
        NotPermitted
            It does not.
        """
        return allowed(self.node.volume.filesystem, self.token, path, follow)

    def allow_ino(self, ino: int) -> None:
        """Like `allow`, for an open file."""
        if "/" not in self.token.prefixes:
            real = os.fsdecode(self.node.volume.filesystem.path_of(ino))
            if not self.token.covers(real):
                raise NotPermitted.at("leads out of what the token is for")

    def opened(self, path: str, flags: int, mode: int = 0o666) -> int:
        """The file at a path that was allowed, opened, if it is where the token lets it be."""
        filesystem = self.node.volume.filesystem
        before = 0
        while True:
            ino: int = filesystem.open(path, flags, mode)
            try:
                self.allow_ino(ino)
                return ino
            except BaseException as error:
                filesystem.release(ino)
                # Without a name another one took its place, or it was removed.
                if not isinstance(error, FileNotFoundError) or ino == before:
                    raise
                before = ino

    # -- what it gets

    @property
    def wants_msgpack(self) -> bool:
        """Whether the client would rather have MessagePack."""
        return MSGPACK in self.headers.get("accept", "")

    def reply(self, data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
        """`data` in the form that the client wants."""
        if self.wants_msgpack:
            headers = {RUN: self.node.run_id, **(headers or {})}
            return Reply(status, to_msgpack(data), MSGPACK, headers)
        return Reply(status, to_json(data), JSON, headers or {})


_decoders: dict[tuple[str, Any], Any] = {}
#: Extensions of MessagePack: whole numbers of more than 64 bits, in decimal digits; text with undecodable bytes.
DIGITS, TEXT = 1, 2
_SURROGATE = re.compile("[\ud800-\udfff]")


def _json_decoder(kind: type[T]) -> "msgspec.json.Decoder[T]":
    found = _decoders.get(("json", kind))
    if found is None:
        found = _decoders["json", kind] = msgspec.json.Decoder(kind)
    return found


def _msgpack_decoder(kind: type[T]) -> "msgspec.msgpack.Decoder[T]":
    found = _decoders.get(("msgpack", kind))
    if found is None:
        found = _decoders["msgpack", kind] = msgspec.msgpack.Decoder(kind, ext_hook=_extension)
    return found


def _extension(code: int, data: memoryview) -> int | str:
    if code == TEXT:
        return bytes(data).decode("utf-8", "surrogateescape")
    if code != DIGITS:
        raise ValueError(f"extension {code} is not known, {DIGITS} and {TEXT} are")
    return int(bytes(data))


def from_msgpack(raw: bytes, kind: type[T]) -> T:
    """A body as `kind`, which knows no extensions where it wants text or a number."""
    try:
        return _msgpack_decoder(kind).decode(raw)
    except msgspec.ValidationError:
        return msgspec.convert(_msgpack_decoder(Any).decode(raw), kind)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fsdecode(os.fspath(value))
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


def to_json(data: Any) -> bytes:
    """JSON of anything that verbs and handlers answer; undecodable bytes of names become U+FFFD."""
    try:
        return msgspec.json.encode(data, enc_hook=_plain)
    except UnicodeEncodeError:
        return msgspec.json.encode(_expressible(data, _shown), enc_hook=_plain)


def to_msgpack(data: Any) -> bytes:
    """The same in MessagePack; text with undecodable bytes travels as bytes, a large number as `DIGITS`."""
    try:
        return msgspec.msgpack.encode(data, enc_hook=_plain)
    except (UnicodeEncodeError, OverflowError):
        return msgspec.msgpack.encode(_expressible(data, bytes), enc_hook=_plain)


def _raw(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair, as JSON can write it
        return text.encode("utf-8", "surrogatepass")


def _shown(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _expressible(data: Any, instead: Callable[[bytes], Any]) -> Any:
    if isinstance(data, str):
        return instead(_raw(data)) if _SURROGATE.search(data) else data
    if isinstance(data, int) and instead is bytes and not -(1 << 63) <= data < 1 << 64:
        return msgspec.msgpack.Ext(DIGITS, str(data).encode())
    if isinstance(data, Mapping):
        return {_expressible(key, instead): _expressible(value, instead) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_expressible(value, instead) for value in data]
    if isinstance(data, msgspec.Struct):
        kept = (bytes,) if instead is bytes else ()
        return _expressible(msgspec.to_builtins(data, enc_hook=_plain, builtin_types=kept), instead)
    return data


def normal(path: str) -> str:
    """`path` as an absolute path without dots and doubled slashes; ``..`` and NUL are refused, not resolved."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Problem(400, "a path has no '..'")
    if "\0" in path:
        raise Problem(400, "a path has no NUL byte")
    if ".vexfs" in parts:
        raise Problem(404, "names under .vexfs are the volume's own")
    return "/" + "/".join(parts)


def problem(error: BaseException, request_id: str) -> Reply:
    """The reply that tells of an error, as RFC 9457 has it; ``error`` and ``errno`` are for programs."""
    told: dict[str, Any] = {"type": "about:blank", "title": "", **fault_of(error)}
    told["instance"] = f"urn:vexfs:request:{request_id}"
    told["title"] = HTTPStatus(told["status"]).phrase
    return Reply(told["status"], to_json(told), PROBLEM, error.headers if isinstance(error, Problem) else {})


def fault_of(error: BaseException) -> dict[str, Any]:
    """What clients are told of an error: ``status`` and ``detail``; of those in the table, ``error`` and ``errno``."""
    if isinstance(error, Problem):
        return {"status": error.status, "detail": str(error)}
    if isinstance(error, (VexfsError, OSError)):
        row = row_of(error)
        return {"status": row.http_status, "detail": describe(error), "error": row.error.__name__, "errno": row.errno}
    if isinstance(error, ValueError) and error.args and _ours(error):
        return {"status": 400, "detail": str(error.args[0]), "error": "UsageError", "errno": UsageError.code}
    return {"status": 500, "detail": "the node failed at this request; its log says more"}


def _ours(error: BaseException) -> bool:
    """Whether a ``ValueError`` was raised by the volume about an argument, and not by a defect here."""
    at = error.__traceback__
    last = ""
    while at is not None:
        last = at.tb_frame.f_globals.get("__name__", "")
        at = at.tb_next
    return last.startswith("vexfs.") and not last.startswith("vexfs.frontends.http")


def new_id(given: str) -> str:
    """The client's own name for its request where that is fit to be logged, else a new one."""
    if given and len(given) <= 64 and given.isascii() and all(c.isalnum() or c in "._-" for c in given):
        return given
    return secrets.token_hex(8)


Handler = Callable[[Request], Reply]
Opener = Callable[[Request], Sink]
