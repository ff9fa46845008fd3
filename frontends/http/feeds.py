"""What can be subscribed to: figures, the node's own events, file events, standing queries.

A feed is asked every half second for what is new, or at once when it says so, in a worker; none of it costs anything
while nobody listens.  File events come from the volume's log of changes: they tell what is committed, in order, and
when some went from the log before they were told, they tell that.  Matches of a standing query come from who writes
vectors, before they are committed.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import msgspec
from vexfs.frontends.http.api.indexes import Vector, Where, hit_body, hit_body_with_passages, row_of
from vexfs.frontends.http.api.performance import figures, strings
from vexfs.frontends.http.fence import allowed, fence
from vexfs.frontends.http.message import Problem, normal

from vexfs.errors import NotPermitted
from vexfs.node import Node
from vexfs.node.tokens import Token
from vexfs.search.hits import Hit
from vexfs.search.standing import StandingQuery
from vexfs.store.rows import Change, unpack_oplog

#: Epochs of changes to look at in one step, and matches to tell.
STEP = 200
#: Events of files after which a step ends: what a client that does not read keeps waiting is at most an epoch more.
EVENTS_MOST = 2000
#: Matches that wait for a client that reads slowly.
HELD = 10_000


class Subscribe(msgspec.Struct, forbid_unknown_fields=True, tag="subscribe", tag_field="action"):
    """A client's wish: `id` is its own name for the subscription."""

    channel: Literal["performance", "node", "files", "search"]
    id: Annotated[str, msgspec.Meta(max_length=200)] = ""
    interval_s: float = 1.0
    path: str = "/"
    text: str | None = None
    vector: Vector | None = None
    threshold: float = 0.5
    where: Where | None = None
    attributes: bool = False
    passages: bool = False


class TooSlow(Exception):
    """Who listens reads more slowly than news come, so that some were lost."""


class Feed:
    """What one subscription tells.

    Attributes
    ----------
    wake : callable
        Called by the feed, from any thread, when there is news before the next look; set by who listens.
    """

    wake: Callable[[], Any] = staticmethod(lambda: None)

    def __init__(self, node: Node, token: Token, wish: Subscribe) -> None:
        raise NotImplementedError

    def news(self) -> list[Any]:
        """What is new since the last look; called by a worker."""
        raise NotImplementedError

    def close(self) -> None:
        """Nobody listens any more."""


class Figures(Feed):
    """Channel ``performance``: every part's figures, at an interval of the client's choice (0.2 s to an hour)."""

    def __init__(self, node: Node, token: Token, wish: Subscribe) -> None:
        if "watch" not in token.scopes:
            raise NotPermitted.at("figures need a token with the scope 'watch'")
        if not 0.2 <= wish.interval_s <= 3600:
            raise Problem(400, "interval_s is 0.2 to 3600")
        self._node = node
        self._interval_s = wish.interval_s
        self._due = 0.0

    def news(self) -> list[Any]:
        """The figures, when it is time."""
        now = time.monotonic()
        if now < self._due:
            return []
        self._due = now + self._interval_s
        return [{"time": time.time(), **strings(figures(self._node))}]


class NodeEvents(Feed):
    """Channel ``node``: services that fail and come back, settings that change."""

    def __init__(self, node: Node, token: Token, wish: Subscribe) -> None:
        if "watch" not in token.scopes:
            raise NotPermitted.at("events of the node need a token with the scope 'watch'")
        self._node = node
        self._summary = node.summary()
        self._settings = node.settings

    def news(self) -> list[Any]:
        """What changed since."""
        found: list[Any] = []
        if (summary := self._node.summary()) != self._summary:
            self._summary = summary
            found.append({"event": "services", "summary": summary})
        if (settings := self._node.settings) is not self._settings:
            changes = self._settings.changes(settings)
            self._settings = settings
            values = {c.key.path: c.key.kind.show(c.new) for c in changes}
            if values:
                found.append({"event": "settings", "values": values})
        return found


class FileEvents(Feed):
    """Channel ``files``: what was made, written, renamed, removed at and below a path; and what could not be told."""

    def __init__(self, node: Node, token: Token, wish: Subscribe) -> None:
        if "read" not in token.scopes:
            raise NotPermitted.at("file events need a token with the scope 'read'")
        self._filesystem = node.volume.filesystem
        self._token = token
        path = normal(wish.path)
        if not token.covers(path) and not token.leads_to(path):
            raise NotPermitted.at(f"the token is for {', '.join(token.prefixes)}", path)
        self._below = path.rstrip("/") + "/"
        self._since = self._filesystem.status()["committed_epoch"]

    def news(self) -> list[Any]:
        """Events since the last look."""
        found: list[Any] = []
        rows = self._filesystem.changes(self._since, STEP)
        status = self._filesystem.status()
        if status["forgotten_epoch"] > self._since:
            self._since = status["committed_epoch"]
            detail = "the log of changes was shortened before they were told: events were lost; look at the files anew"
            return [{"event": "gap", "path": self._below.rstrip("/") or "/", "detail": detail}]
        for epoch, raw in rows:
            if len(found) >= EVENTS_MOST:
                break
            self._since = epoch
            for change in unpack_oplog(raw):
                found += self._events(change)
        if rows and (len(rows) == STEP or self._since < rows[-1][0]):
            self.wake()
        return found

    def _events(self, change: Change) -> Iterator[dict[str, Any]]:
        kind, at = change.kind, change.time_ns
        if kind in ("make", "link", "unlink"):
            yield from self._one({"make": "made", "link": "linked", "unlink": "removed"}[kind],
                                 self._path(change.a, change.first), change.ino, at)  # fmt: skip
        elif kind == "rename":
            old, new = self._path(change.a, change.first), self._path(change.b, change.second)
            if old is not None and old.startswith("/.vexfs/"):  # an upload that is whole
                yield from self._one("written", new, change.ino, at)
            elif self._mine(old) or self._mine(new):
                shown = {"from": old} if self._mine(old) else {}
                yield {"event": "renamed", "path": new if self._mine(new) else None, "ino": change.ino, "time_ns": at,
                       **shown}  # fmt: skip
        elif kind in ("content", "setattr", "setxattr", "removexattr"):
            yield from self._one("written" if kind == "content" else "changed", self._path(change.ino), change.ino, at)

    def _one(self, event: str, path: str | None, ino: int, time_ns: int) -> Iterator[dict[str, Any]]:
        if self._mine(path):
            yield {"event": event, "path": path, "ino": ino, "time_ns": time_ns}

    def _mine(self, path: str | None) -> bool:
        if path is None or f"{path}/".startswith("/.vexfs/"):
            return False
        return f"{path}/".startswith(self._below) and self._token.covers(path)

    def _path(self, ino: int, name: bytes = b"") -> str | None:
        """Where a file is now; None when it is gone already."""
        try:
            base = self._filesystem.path_of(ino)
        except OSError:
            return None
        full = base.rstrip(b"/") + b"/" + name if name else base
        return os.fsdecode(full).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class Matches(Feed):
    """Channel ``search``: a standing query, told at once (:class:`vexfs.search.standing.StandingQuery`)."""

    def __init__(self, node: Node, token: Token, wish: Subscribe) -> None:
        if "read" not in token.scopes:
            raise NotPermitted.at("searches need a token with the scope 'read'")
        if (wish.text is None) == (wish.vector is None):
            raise Problem(400, "give text, or vector")
        self.node, self.token = node, token
        self._attributes = wish.attributes
        self._body = hit_body_with_passages if wish.passages else hit_body
        self._waiting: deque[Hit] = deque()
        self._lost = 0
        what = wish.text if wish.vector is None else row_of(wish.vector)
        with fence(self):
            under = allowed(node.volume.filesystem, token, normal(wish.path))
            self._standing = StandingQuery(
                node.volume.catalog, what, wish.threshold, under=under, where=wish.where, call=self._came
            )

    def _came(self, hit: Hit) -> None:
        if len(self._waiting) < HELD:
            self._waiting.append(hit)
        else:
            self._lost += 1
        self.wake()

    def news(self) -> list[Any]:
        """The next matches."""
        if self._lost:
            raise TooSlow(f"{HELD} matches wait and {self._lost} more were lost")
        taken = [self._waiting.popleft() for _ in range(min(STEP, len(self._waiting)))]
        if self._waiting:
            self.wake()
        # A directory may have been moved to where the token does not reach.
        shown = [self._body(hit, self._attributes) for hit in taken if self.token.covers(normal(hit.path))]
        return [{"event": "match", **msgspec.to_builtins(body)} for body in shown]

    def close(self) -> None:
        """Nobody listens any more."""
        self._standing.close()


CHANNELS: dict[str, type[Feed]] = {
    "performance": Figures, "node": NodeEvents, "files": FileEvents, "search": Matches,
}  # fmt: skip
