"""``/v1/files``: content, listings, attributes, by path."""

import base64
import contextlib
import heapq
import mimetypes
import os
import re
import stat
import threading
from collections.abc import Iterator
from email.utils import formatdate
from typing import Annotated, Any

import msgspec
from vexfs.frontends.http.api.types import Entry, FileInfo, Listing, Scalar
from vexfs.frontends.http.fence import fence, fenced
from vexfs.frontends.http.message import BYTES, JSON, Problem, Reply, Request, Sink
from vexfs.frontends.http.route import WRITE, Answer, Route

from vexfs.errors import InvalidArgument, IsADirectory, NotPermitted
from vexfs.node import Node, uploads
from vexfs.store.attributes import PREFIX, RESERVED, decode

WHOLE = 256 << 10
#: Of the routes of a file.
PLACE: dict[str, Any] = {
    "path": "/v1/files/{path}", "tag": "files",
    "tail_about": "Path in the volume; slashes stand as they are, other bytes may be percent-encoded.",
}  # fmt: skip
_CURSOR = r"^(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-]{2}==|[A-Za-z0-9_-]{3}=)?$"
_RANGE = re.compile(r"bytes=(\d{0,30})-(\d{0,30})")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,30})-(\d{1,30})/(?:\*|\d+)")
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
#: A file's content is never a page of this site: no script in it runs, whatever it says it is.
_INERT = {"Content-Security-Policy": "sandbox; default-src 'none'", "Accept-Ranges": "bytes"}


class ReadQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Of GET."""

    meta: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    cursor: Annotated[str, msgspec.Meta(max_length=400, pattern=_CURSOR)] = ""


class WriteQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Of PUT."""

    directory: bool = False
    parents: bool = True


class RemoveQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Of DELETE."""

    recursive: bool = False


def etag(found: Any) -> str:
    """Names one state of one file's content.

    The time of the change is in it because a crash takes back the last numbers of files and generations, and they are
    given again.
    """
    return f'"{found.st_ino:x}-{found.generation:x}-{found.st_mtime_ns % (1 << 64):x}"'


def info(request: Request, path: str, attributes: bool = True) -> FileInfo:
    """What is known of the file at `path`, links not followed."""
    filesystem = request.node.volume.filesystem
    found = filesystem.stat(path, False)
    target = os.fsdecode(filesystem.readlink(path)) if stat.S_ISLNK(found.st_mode) else None
    values: dict[str, Scalar] | None = None
    if attributes and target is None:
        values = {}
        for raw in filesystem.listxattr(path, False):
            if raw.startswith(PREFIX) and not raw.startswith(RESERVED):
                with contextlib.suppress(OSError):  # taken away meanwhile
                    values[os.fsdecode(raw[len(PREFIX) :])] = decode(filesystem.getxattr(path, raw, False))
    return FileInfo(
        path, _KINDS.get(stat.S_IFMT(found.st_mode), "other"), found.st_size, stat.S_IMODE(found.st_mode), found.st_uid,
        found.st_gid, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, etag(found), target, values,
    )  # fmt: skip


# -- reading


@fenced
def read(request: Request) -> Reply:
    """GET: a file's bytes, a directory's listing, or what is known of either."""
    query, path = request.query(ReadQuery), request.path
    filesystem = request.node.volume.filesystem
    if not request.token.covers(path) and request.token.leads_to(path) and not query.meta:
        return request.reply(_way_down(request, path))
    if query.meta:
        return request.reply(info(request, request.allow(path, follow=False)))
    request.allow(path)
    ino = request.opened(path, os.O_RDONLY)
    keep = False
    try:
        found = filesystem.getattr(ino)
        if stat.S_ISDIR(found.st_mode):
            return request.reply(_listing(request, path, query))
        if not stat.S_ISREG(found.st_mode):
            raise InvalidArgument.at("is no regular file; ask for ?meta=true", path)
        reply = _content(request, path, ino, found)
        keep = reply.source is not None
        return reply
    finally:
        if not keep:
            filesystem.release(ino)


def _content(request: Request, path: str, ino: int, found: Any) -> Reply:
    tag = etag(found)
    media = mimetypes.guess_type(path)[0] or BYTES
    if media.startswith("text/"):
        media += "; charset=utf-8"
    headers = {**_INERT, "ETag": tag, "Last-Modified": formatdate(found.st_mtime_ns // 10**9, usegmt=True)}
    wanted = request.headers.get("if-match")
    if wanted is not None and not _matches(wanted, tag):
        raise Problem(412, f"the file is at {tag} now")
    if _matches(request.headers.get("if-none-match", ""), tag):
        return Reply(304, b"", media, headers)
    start, end, status = 0, found.st_size, 200
    asked = request.headers.get("range")
    if asked and request.headers.get("if-range", tag) == tag:
        span = _span(asked, found.st_size)
        if span is not None:
            (start, end), status = span, 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.st_size}"
    filesystem = request.node.volume.filesystem
    if end - start <= WHOLE:
        return Reply(status, filesystem.read(ino, end - start, start), media, headers)
    return Reply(status, b"", media, headers, _FileSource(filesystem, ino, start, end - start))


def _matches(given: str, tag: str) -> bool:
    return given.strip() == "*" or tag in [each.strip().removeprefix("W/") for each in given.split(",")]


def _span(asked: str, size: int) -> tuple[int, int] | None:
    """The bytes that one range names; None for what is answered as a whole (several ranges, other units)."""
    match = _RANGE.fullmatch(asked.strip())
    if not match or not (match[1] or match[2]):
        return None
    if match[1]:
        start, end = int(match[1]), min(int(match[2]) + 1 if match[2] else size, size)
        if match[2] and int(match[2]) < start:
            return None
    else:
        start, end = max(0, size - int(match[2])), size
    if start >= size or start >= end:
        raise Problem(416, f"the file has {size} bytes", {"Content-Range": f"bytes */{size}"})
    return start, end


class _FileSource:
    """The bytes of an open file."""

    def __init__(self, filesystem: Any, ino: int, start: int, size: int) -> None:
        self.size = size
        self._filesystem, self._ino, self._at = filesystem, ino, start

    def read(self, size: int) -> bytes:
        piece: bytes = self._filesystem.read(self._ino, size, self._at)
        self._at += len(piece)
        return piece

    def close(self) -> None:
        self._filesystem.release(self._ino)


def _entries(request: Request, path: str, after: bytes) -> Iterator[tuple[bytes, int]]:
    for name, _, kind in request.node.volume.filesystem.scandir(path):
        if name > after:
            yield name, kind


def _listing(request: Request, path: str, query: ReadQuery) -> Listing:
    after = base64.urlsafe_b64decode(query.cursor)
    chosen = heapq.nsmallest(query.limit + 1, _entries(request, path, after))
    cursor = None
    if len(chosen) > query.limit:
        chosen.pop()
        cursor = base64.urlsafe_b64encode(chosen[-1][0]).decode()
    entries = []
    for name, _ in chosen:
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            entries.append(_entry(request, path, name))
    return Listing(path, entries, cursor)


def _entry(request: Request, path: str, name: bytes) -> Entry:
    found = request.node.volume.filesystem.stat(os.path.join(os.fsencode(path), name), False)
    text, raw = os.fsdecode(name), None
    try:
        text.encode()
    except UnicodeEncodeError:
        text, raw = name.decode("utf-8", "replace"), base64.b64encode(name).decode()
    return Entry(text, _KINDS.get(stat.S_IFMT(found.st_mode), "other"), found.st_size, found.st_mtime_ns, raw)


def _way_down(request: Request, path: str) -> Listing:
    """Above what a token is for: only the way there."""
    depth = len(path.rstrip("/").split("/"))
    names = {prefix.split("/")[depth] for prefix in request.token.prefixes if prefix.startswith(path.rstrip("/") + "/")}
    entries = []
    for name in sorted(names):
        with contextlib.suppress(FileNotFoundError):
            entries.append(_entry(request, path, os.fsencode(name)))
    return Listing(path, entries)


# -- writing


def writable(request: Request, path: str) -> str:
    """`path`, when it is one that the token may change."""
    if path == "/":
        raise IsADirectory.at("is the volume's root", path)
    return request.allow(path)


@fenced
def write(request: Request) -> Sink:
    """PUT: a sink for a file's content."""
    query, path = request.query(WriteQuery), writable(request, request.path)
    volume = request.node.volume
    span = None
    given = request.headers.get("content-range")
    if given is not None:
        match = _CONTENT_RANGE.fullmatch(given.strip())
        if not match or int(match[2]) < int(match[1]) or int(match[2]) >= 1 << 44:
            raise Problem(400, "Content-Range is 'bytes FIRST-LAST/*'")
        span = int(match[1]), int(match[2]) + 1
        if int(request.headers.get("content-length", span[1] - span[0])) != span[1] - span[0]:  # before a byte changes
            raise Problem(400, f"the body is not of the {span[1] - span[0]} bytes that Content-Range says")
    if query.directory:
        return _DirectorySink(request, path, query.parents)
    with while_it_is(request):
        now = _as_wanted(request, path)
        if now is None and query.parents:
            volume.makedirs(os.path.dirname(path), exist_ok=True)
        if span is not None:
            return _RangeSink(request, path, span, now)
        return _FileSink(request, path, now)


def _as_wanted(request: Request, path: str) -> Any:
    """What a file is before it is written; refused where the request says that it must be otherwise."""
    now = _now(request, path)
    if now is not None and stat.S_ISDIR(now.st_mode):
        raise IsADirectory.at("is a directory", path)
    hold(request, now)
    return now


def _now(request: Request, path: str) -> Any:
    try:
        return request.node.volume.filesystem.stat(path)
    except FileNotFoundError:
        return None


def hold(request: Request, now: Any) -> None:
    """Refuse what the request says must be otherwise than it is `now`; None is a file that does not exist."""
    none, match_ = request.headers.get("if-none-match"), request.headers.get("if-match")
    if none is not None and now is not None and _matches(none, etag(now)):
        raise Problem(412, f"the file exists, at {etag(now)}")
    if match_ is not None and (now is None or not _matches(match_, etag(now))):
        raise Problem(412, f"the file is at {etag(now)} now" if now else "the file does not exist")


def _conditional(request: Request) -> bool:
    return bool({"if-none-match", "if-match"} & request.headers.keys())


def while_it_is(request: Request) -> contextlib.AbstractContextManager[Any]:
    """For who writes what must be as it says: of those who saw the same, the first writes, and the others see that."""
    if not _conditional(request):
        return contextlib.nullcontext()
    found: threading.Lock = request.node.extras.setdefault("http.conditional", threading.Lock())
    return found


class _DirectorySink:
    """Makes a directory; takes no body."""

    def __init__(self, request: Request, path: str, parents: bool) -> None:
        self._request, self._path, self._parents = request, path, parents

    def write(self, data: bytes) -> None:
        raise Problem(400, "a directory has no content")

    def finish(self) -> Reply:
        volume = self._request.node.volume
        with fence(self._request), while_it_is(self._request):
            self._request.allow(self._path)
            now = _now(self._request, self._path)
            hold(self._request, now)
            if self._parents:
                volume.makedirs(self._path, exist_ok=True)
            else:
                volume.mkdir(self._path)
            return self._request.reply(info(self._request, self._path), 201 if now is None else 200)

    def abort(self) -> None:
        """Nothing was made yet."""


class _RangeSink:
    """Writes into a file in place; under a condition, as long as nobody else does."""

    def __init__(self, request: Request, path: str, span: tuple[int, int], now: Any) -> None:
        self._request, self._path, self._made = request, path, now is None
        self._at, self._end = span
        self._filesystem = request.node.volume.filesystem
        self._ino = self._filesystem.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            request.allow_ino(self._ino)
            self._tag = etag(now or self._filesystem.getattr(self._ino))  # of what was looked at
        except BaseException:
            self._filesystem.release(self._ino)
            raise

    def write(self, data: bytes) -> None:
        if self._at + len(data) > self._end:
            raise Problem(400, "the body is longer than Content-Range says")
        with while_it_is(self._request):
            if _conditional(self._request) and etag(self._filesystem.stat(self._path)) != self._tag:
                raise Problem(412, "the file was changed or replaced meanwhile")
            self._filesystem.write(self._ino, data, self._at)
            self._tag = etag(self._filesystem.getattr(self._ino))
        self._at += len(data)

    def finish(self) -> Reply:
        if self._at != self._end:
            raise Problem(400, "the body is shorter than Content-Range says")
        self.abort()
        return self._request.reply(info(self._request, self._path), 201 if self._made else 200)

    def abort(self) -> None:
        if self._ino:
            self._filesystem.release(self._ino)
            self._ino = 0


class _FileSink:
    """Replaces a file's content as a whole: small ones in one call, large ones aside and then by rename."""

    def __init__(self, request: Request, path: str, now: Any) -> None:
        self._request, self._path, self._now = request, path, now
        self._filesystem = request.node.volume.filesystem
        self._most = request.node.settings.api.max_file_size
        self._held = bytearray()
        self._size = 0
        self._ino = 0
        self._aside = ""

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._most:
            raise Problem(413, f"a file here has {self._most} bytes at most")
        if not self._ino:
            self._held += data
            if len(self._held) <= 4 * WHOLE:
                return
            data, self._held = bytes(self._held), bytearray()
            self._aside, self._ino = uploads.begin(self._filesystem)
            self._size = len(data)
            self._filesystem.write(self._ino, data, 0)
            return
        self._filesystem.write(self._ino, data, self._size - len(data))

    def finish(self) -> Reply:
        with fence(self._request), while_it_is(self._request):
            self._request.allow(self._path)  # links may have come while the body did
            self._now = _as_wanted(self._request, self._path)
            return self._put()

    def _put(self) -> Reply:
        if not self._ino:
            self._filesystem.write_file(self._path, bytes(self._held), 0o644)
        else:
            self._take_over()
            self._filesystem.rename(self._aside, self._path)
            self._aside = ""
            self.abort()
        made = self._now is None
        return self._request.reply(info(self._request, self._path), 201 if made else 200)

    def _take_over(self) -> None:
        """What comes in the old file's place has its rights and attributes."""
        filesystem = self._filesystem
        if self._now is None:
            return
        filesystem.chown(self._aside, self._now.st_uid, self._now.st_gid)
        filesystem.chmod(self._aside, stat.S_IMODE(self._now.st_mode))
        for name in filesystem.listxattr(self._path):
            if not name.startswith(RESERVED):
                filesystem.setxattr(self._aside, name, filesystem.getxattr(self._path, name))

    def abort(self) -> None:
        if self._ino:
            self._filesystem.release(self._ino)
            self._ino = 0
        if self._aside:
            with contextlib.suppress(OSError):
                self._filesystem.unlink(self._aside)
            self._aside = ""


# -- removing


@fenced
def remove(request: Request) -> Reply:
    """DELETE: a file, or a directory."""
    query, path = request.query(RemoveQuery), request.path
    if path == "/":
        raise NotPermitted.at("the root cannot be removed", path)
    request.allow(path, follow=False)
    volume = request.node.volume
    with while_it_is(request):
        found = volume.filesystem.stat(path, False)
        hold(request, found)
        if not stat.S_ISDIR(found.st_mode):
            volume.filesystem.unlink(path)
        elif query.recursive:
            volume.rmtree(path)
        else:
            volume.filesystem.rmdir(path)
    return Reply(204)


def routes(node: Node) -> list[Route]:
    """Of files."""
    found = Answer(about="What is there now", kind=FileInfo)
    content = Answer(about="Bytes of a file, or the listing of a directory, or (meta) what is known of either",
                     kind=(FileInfo, Listing), media=(BYTES, JSON))  # fmt: skip
    read_answers = {
        200: content, 206: Answer(about="The range that was asked for", media=(BYTES,)),
        304: Answer(about="It is what the client has", media=()),
    }  # fmt: skip
    return [
        Route(method="GET", path="/v1/files", about="The root's listing", handle=read, query=ReadQuery, tag="files",
              answers={200: Answer(about="A page of entries", kind=(FileInfo, Listing))}),
        Route(method="GET", about="Read a file or list a directory", handle=read, query=ReadQuery,
              answers=read_answers, **PLACE),
        Route(method="PUT", about="Write a file, a range of one (Content-Range), or make a directory", upload=write,
              scope=WRITE, query=WriteQuery, media=(BYTES,), answers={200: found, 201: found}, **PLACE),
        Route(method="DELETE", about="Remove a file or directory", handle=remove, scope=WRITE, query=RemoveQuery,
              answers={204: Answer(about="It is gone", media=())}, **PLACE),
    ]  # fmt: skip


