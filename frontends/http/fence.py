"""What a token that is for a part of the volume alone can reach: where paths lead, and that they go on leading there.

A path is looked at and then used.  In between nobody with such a token may change where it leads, or a symbolic link
that comes at the right moment would lead out; so who makes links and renames does it alone (:class:`Fence`).
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from vexfs.errors import NotPermitted, SymlinkLoop
from vexfs.node.tokens import Token

R = TypeVar("R")
LINKS_MOST = 40


class Fence:
    """Lets in several who use paths, or one who changes where they lead; who waits for the latter comes first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._using = self._waiting = 0
        self._alone = False

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """For the time between looking where a path leads and going there."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._alone or self._waiting))
            self._using += 1
        try:
            yield
        finally:
            with self._changed:
                self._using -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """For making links, and for renaming."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not (self._alone or self._using))
            self._waiting -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


def fence(request: Any, changes: bool = False) -> contextlib.AbstractContextManager[None]:
    """What a request with a token for a part of the volume works under; nothing for other tokens."""
    if "/" in request.token.prefixes:
        return contextlib.nullcontext()
    found: Fence = request.node.extras.setdefault("http.fence", Fence())
    return found.change() if changes else found.use()


def fenced(handle: Callable[[Any], R]) -> Callable[[Any], R]:
    """A handler that looks at paths and then uses them."""

    @functools.wraps(handle)
    def inside(request: Any) -> R:
        with fence(request):
            return handle(request)

    return inside


def allowed(filesystem: Any, token: Token, path: str, follow: bool = True) -> str:
    """`path`, when the token covers it: as it is written and where it leads.

    Raises
    ------
    NotPermitted
        It does not.
    """
    if "/" in token.prefixes:
        return path
    if not token.covers(path):
        raise NotPermitted.at(f"the token is for {', '.join(token.prefixes)}", path)
    if not token.covers(real_path(filesystem, path, follow)):
        raise NotPermitted.at("leads out of what the token is for", path)
    return path


def real_path(filesystem: Any, path: str, follow: bool) -> str:
    """Where `path` leads: its deepest existing part without symbolic links, and the rest as it is.

    A link to what does not exist leads there all the same: what is made through it is made there.
    """
    before = 0
    while True:
        ino, rest = _deepest(filesystem, path, follow)
        try:
            real = os.fsdecode(filesystem.path_of(ino))
            break
        except FileNotFoundError:  # another one took its place, or it was removed
            if ino == before:
                raise
            before = ino
    return "/".join([real.rstrip("/"), *(name for name in rest if name not in ("", "."))]) or "/"


def _deepest(filesystem: Any, path: str, follow: bool) -> tuple[int, list[str]]:
    """The inode number of the deepest part that exists where `path` leads, and the names behind it."""
    rest: list[str] = []
    at, links = path, 0
    while True:
        try:
            ino = filesystem.resolve(at, follow or bool(rest))
            break
        except (FileNotFoundError, NotADirectoryError):  # which of them tells of what lies outside
            target = _target(filesystem, at) if follow or rest else None
        above, _, name = at.rstrip("/").rpartition("/")
        if target is None:
            at = above or "/"
            rest.insert(0, name)
            continue
        links += 1
        if links > LINKS_MOST:
            raise SymlinkLoop.at("leads through too many symbolic links", path)
        at = target if target.startswith("/") else f"{above}/{target}"
    if ".." in rest:
        raise NotPermitted.at("leads through '..' of a directory that does not exist", path)
    return ino, rest


def _target(filesystem: Any, path: str) -> str | None:
    """Where the link at `path` leads; None when there is none."""
    try:
        return os.fsdecode(filesystem.readlink(path.rstrip("/")))
    except OSError:
        return None
