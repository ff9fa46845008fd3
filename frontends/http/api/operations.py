"""``/v1/operations``: the filesystem's own operations, one call each or several together.

This is what ``vexfs.connect`` speaks, so that a remote volume has the semantics of a local one: open files are inode
numbers with an open count (*handles* here), names are bytes, an error is the errno of the operation.
"""

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Annotated, Any

import attrs
import msgspec
from vexfs.frontends.http.fence import fence
from vexfs.frontends.http.message import Problem, Reply, Request, normal
from vexfs.frontends.http.route import READ, Answer, Route

from vexfs.errors import BadHandle, NotFound, NotPermitted, VexfsError, describe, row_of
from vexfs.node import Node

IDLE_S = 600.0
HANDLES_MOST = 4096
SCAN_PAGE = 4096
_STAT = ("st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks", "st_rdev", "st_atime_ns",
         "st_mtime_ns", "st_ctime_ns", "st_birthtime_ns", "generation")  # fmt: skip


class Call(msgspec.Struct, forbid_unknown_fields=True):
    """One operation with its arguments, in the order of the compiled filesystem's."""

    op: str
    args: list[Any] = msgspec.field(default_factory=list)


class Calls(msgspec.Struct, forbid_unknown_fields=True):
    """Operations, done one after the other; the first that fails ends them."""

    calls: Annotated[list[Call], msgspec.Meta(min_length=1, max_length=1000)]


class Fault(msgspec.Struct):
    """Why an operation failed."""

    error: str
    errno: int
    message: str
    at: int


class Results(msgspec.Struct, omit_defaults=True):
    """What the operations answered, up to the first that failed."""

    results: list[Any]
    fault: Fault | None = None


@attrs.define
class _Held:
    """An open file or a listing under way, on behalf of one token."""

    token: str
    ino: int
    writable: bool = False
    entries: Iterator[tuple[bytes, int, int]] | None = None
    used: float = attrs.field(factory=time.monotonic)


class Handles:
    """What clients hold open; what nobody used for ten minutes is given back."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    def add(self, held: _Held) -> str:
        """Keep it; answers its name, which nobody can guess."""
        self._sweep()
        with self._lock:
            mine = sum(each.token == held.token for each in self._held.values()) if len(self._held) > 256 else 0
            if mine >= HANDLES_MOST:
                raise Problem(429, f"a token may hold {HANDLES_MOST} files open; release some")
            name = self._node.run_id + secrets.token_urlsafe(12)
            self._held[name] = held
        return name

    def get(self, request: Request, name: Any) -> _Held:
        """What goes by that name, if it is this token's."""
        held = self._held.get(name) if isinstance(name, str) else None
        if held is None or held.token != request.token.id:
            why = "was not used for ten minutes, or the node was started anew; open it again"
            raise BadHandle.at(f"is no open file of this token: {why}", str(name))
        held.used = time.monotonic()
        return held

    def release(self, request: Request, name: Any) -> None:
        """Give it back."""
        held = self.get(request, name)
        with self._lock:
            if self._held.pop(name, None) is None:
                return
        self._drop(held)

    def _drop(self, held: _Held) -> None:
        if held.ino:
            self._node.volume.filesystem.release(held.ino)

    def _sweep(self) -> None:
        old = time.monotonic() - IDLE_S
        with self._lock:
            gone = [name for name, held in self._held.items() if held.used < old]
            dropped = [self._held.pop(name) for name in gone]
        for held in dropped:
            self._drop(held)

    def release_all(self) -> None:
        """Before the volume closes."""
        with self._lock:
            dropped, self._held = list(self._held.values()), {}
        for held in dropped:
            self._drop(held)


def handles(node: Node) -> Handles:
    """The open files of a node's clients."""
    found: Handles = node.extras.setdefault("http.handles", Handles(node))
    return found


# -- arguments


def _path(request: Request, given: Any, follow: bool = True) -> str:
    if not isinstance(given, (str, bytes)):
        raise Problem(400, "a path is a string or bytes")
    text = os.fsdecode(given)
    trailing = "/" if text.endswith("/") and text.strip("/") else ""
    # A slash at the end follows the link before it, whatever the operation would do with the link itself.
    return request.allow(normal(text), follow=follow or bool(trailing)) + trailing


def _writer(request: Request) -> None:
    if "write" not in request.token.scopes:
        raise NotPermitted.at("this needs a token with the scope 'write'")


def _birth(found: Any) -> int:
    birth_ns: int = round(found.st_birthtime * 1e9)
    return birth_ns


def _stat_row(found: Any) -> list[int]:
    birth = _birth(found)
    return [birth if name == "st_birthtime_ns" else getattr(found, name) for name in _STAT]


# -- operations: each takes the request and the operation's arguments


def _on_path(name: str, paths: int = 1, follow: int | None = None, writes: bool = True) -> Callable[..., Any]:
    """An operation of the filesystem whose first arguments are paths; argument `follow` says whether links are."""

    def run(request: Request, *args: Any) -> Any:
        if writes:
            _writer(request)
        if len(args) < paths:
            raise Problem(400, f"{name} needs {paths} path{'s'[: paths > 1]}")
        follows = bool(args[follow]) if follow is not None and len(args) > follow else follow is not None
        where = [_path(request, given, follows) for given in args[:paths]]
        return getattr(request.node.volume.filesystem, name)(*where, *args[paths:])

    return run


def _stat(request: Request, path: Any, follow: bool = True) -> list[int]:
    return _stat_row(request.node.volume.filesystem.stat(_path(request, path, follow), follow))


def _symlink(request: Request, target: Any, path: Any) -> None:
    _writer(request)
    request.node.volume.filesystem.symlink(target, _path(request, path, False))


def _open(request: Request, path: Any, flags: int, mode: int = 0o666) -> list[Any]:
    writable = bool(flags & (os.O_WRONLY | os.O_RDWR))
    if writable or flags & (os.O_CREAT | os.O_TRUNC | os.O_APPEND):
        _writer(request)
    filesystem = request.node.volume.filesystem
    ino = request.opened(_path(request, path, not flags & os.O_NOFOLLOW), flags, mode)
    try:
        return [handles(request.node).add(_Held(request.token.id, ino, writable)), ino, _birth(filesystem.getattr(ino))]
    except BaseException:
        filesystem.release(ino)
        raise


def _reopen(request: Request, ino: int, birth_ns: int, flags: int) -> list[Any]:
    """A file that was open, wherever it is now.  A number that a crash took back is another file's: so its birth."""
    filesystem = request.node.volume.filesystem
    if _birth(filesystem.getattr(ino)) != birth_ns:
        raise NotFound.at("is no longer there", str(ino))
    try:
        request.allow_ino(ino)
    except NotPermitted:  # who asks for a number learns no name
        raise NotPermitted.at("was moved out of what the token is for", str(ino)) from None
    made = _open(request, filesystem.path_of(ino), (flags & (os.O_ACCMODE | os.O_APPEND)) | os.O_NOFOLLOW)
    if made[1:] != [ino, birth_ns]:
        handles(request.node).release(request, made[0])
        raise NotFound.at("is no longer there", str(ino))
    return made


def _scandir(request: Request, path: Any) -> list[Any]:
    where = _path(request, path)
    entries = request.node.volume.filesystem.scandir(where)
    return _page(request, _Held(request.token.id, 0, entries=entries), "")


def _scan_on(request: Request, name: str) -> list[Any]:
    held = handles(request.node).get(request, name)
    if held.entries is None:
        raise BadHandle.at("is no listing", name)
    return _page(request, held, name)


def _page(request: Request, held: _Held, name: str) -> list[Any]:
    """Entries, and what to ask for more with; empty at the end."""
    assert held.entries is not None
    rows = [list(row) for row in islice(held.entries, SCAN_PAGE)]
    if len(rows) == SCAN_PAGE:
        return [rows, name or handles(request.node).add(held)]
    if name:
        handles(request.node).release(request, name)
    return [rows, ""]


def _on_handle(name: str, writes: bool) -> Callable[..., Any]:
    def run(request: Request, handle: Any, *args: Any) -> Any:
        held = handles(request.node).get(request, handle)
        if writes and not held.writable:
            raise BadHandle.at("was not opened for writing", str(handle))
        return getattr(request.node.volume.filesystem, name)(held.ino, *args)

    return run


def _getattr(request: Request, handle: Any) -> list[int]:
    return _stat_row(request.node.volume.filesystem.getattr(handles(request.node).get(request, handle).ino))


def _read(request: Request, handle: Any, size: int, offset: int) -> bytes:
    held = handles(request.node).get(request, handle)
    if size > request.node.settings.api.max_body_size:
        raise Problem(413, f"{request.node.settings.api.max_body_size} bytes at most are read in one call")
    found: bytes = request.node.volume.filesystem.read(held.ino, size, offset)
    return found


def _read_file(request: Request, path: Any) -> bytes:
    where = _path(request, path)
    filesystem = request.node.volume.filesystem
    if filesystem.stat(where).st_size > request.node.settings.api.max_body_size:
        raise Problem(413, "the file is too long for one call; open it and read it in pieces")
    found: bytes = filesystem.read_file(where)
    return found


def _sync(request: Request, handle: Any = None) -> str:
    """Answers which run of the node it was."""
    ino = handles(request.node).get(request, handle).ino if handle else 0
    request.node.volume.filesystem.fsync(ino)
    run: str = request.node.run_id
    return run


def _release(request: Request, handle: Any) -> None:
    handles(request.node).release(request, handle)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "stat": _stat,
    "resolve": _on_path("resolve", follow=1, writes=False),
    "readlink": _on_path("readlink", writes=False),
    "getxattr": _on_path("getxattr", follow=2, writes=False),
    "listxattr": _on_path("listxattr", follow=1, writes=False),
    "scandir": _scandir,
    "scan_on": _scan_on,
    "read_file": _read_file,
    "statvfs": lambda request: list(request.node.volume.filesystem.statvfs()),
    "mkdir": _on_path("mkdir"),
    "mknod": _on_path("mknod"),
    "symlink": _symlink,
    "link": _on_path("link", paths=2),
    "unlink": _on_path("unlink"),
    "rmdir": _on_path("rmdir"),
    "rename": _on_path("rename", paths=2),
    "chmod": _on_path("chmod", follow=2),
    "chown": _on_path("chown", follow=3),
    "utimens": _on_path("utimens", follow=3),
    "truncate": _on_path("truncate", follow=99),
    "setxattr": _on_path("setxattr", follow=4),
    "removexattr": _on_path("removexattr", follow=2),
    "write_file": _on_path("write_file", follow=99),
    "open": _open,
    "reopen": _reopen,
    "getattr": _getattr,
    "read": _read,
    "write": _on_handle("write", writes=True),
    "truncate_ino": _on_handle("truncate_ino", writes=True),
    "fsync": _sync,
    "release": _release,
}


def _size(answer: Any) -> int:
    """About how many bytes an answer has."""
    if isinstance(answer, list):
        return sum(map(_size, answer))
    return len(answer) if isinstance(answer, (bytes, str)) else 8


#: Those that change where a path leads.
LEADING = frozenset({"symlink", "link", "rename"})


def run(request: Request) -> Reply:
    """POST: operations in order."""
    calls = request.decoded(Calls).calls
    results: list[Any] = []
    most, size = request.node.settings.api.max_body_size, 0
    for at, call in enumerate(calls):
        if at:
            size += _size(results[-1])
        if size > most:
            raise Problem(413, f"the first {at} of {len(calls)} calls answer {size} bytes, {most} are the most at once")
        operation = OPERATIONS.get(call.op)
        if operation is None:
            raise Problem(400, f"there is no operation {call.op!r}; there are {', '.join(OPERATIONS)}")
        try:
            with fence(request, call.op in LEADING):
                results.append(operation(request, *call.args))
        except Problem:
            raise
        except (VexfsError, OSError) as error:
            row = row_of(error)
            message = error.strerror if isinstance(error, OSError) and error.strerror else describe(error)
            return request.reply(Results(results, Fault(row.error.__name__, row.errno, message, at)))
        except (TypeError, ValueError, OverflowError, AttributeError) as error:
            raise Problem(400, f"{call.op}: {error}") from None
    return request.reply(Results(results))


def routes(node: Node) -> list[Route]:
    """Of operations."""
    return [
        Route(method="POST", path="/v1/operations", about="Operations of the filesystem, for vexfs.connect",
              handle=run, scope=READ, body=Calls, tag="operations",
              answers={200: Answer(about="What they answered", kind=Results)}),
    ]  # fmt: skip
