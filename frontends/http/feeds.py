"""What can be subscribed to: figures, the node's own events, file events, standing queries.

A feed is asked every half second for what is new, in a worker, so that none of it costs anything while nobody listens.
File events come from the volume's log of changes: they tell what is committed, in order, and none is missed.
"""

import os
import time
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from vexfs.frontends.http.api.indexes import Vector, Where, row_of
from vexfs.frontends.http.api.performance import figures, strings
from vexfs.frontends.http.message import Problem, normal

from vexfs.errors import NotPermitted, NotSupported
from vexfs.node import Node
from vexfs.node.tokens import Token
from vexfs.store.rows import Change, unpack_oplog

#: Changes to look at in one step.
STEP = 200
#: After a change, text may still be on its way through the embedder: for so long matches are looked for.
SETTLE_S = 30.0


class Subscribe(msgspec.Struct, forbid_unknown_fields=True, tag="subscribe", tag_field="action"):
    """A client's wish: `id` is its own name for the subscription."""

    channel: Literal["performance", "node", "files", "search"]
    id: str = ""
    interval_s: float = 1.0
    path: str = "/"
    text: str | None = None
    vector: Vector | None = None
    k: int = 10
    where: Where | None = None
    min_score: float | None = None


class Figures:
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


class NodeEvents:
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


class FileEvents:
    """Channel ``files``: what was made, written, renamed, removed at and below a path."""

    def __init__(self, node: Node, token: Token, wish: Subscribe) -> None:
        if "read" not in token.scopes:
            raise NotPermitted.at("file events need a token with the scope 'read'")
        self._filesystem = node.volume.filesystem
        self._token = token
        self._below = normal(wish.path).rstrip("/") + "/"
        self._since = self._filesystem.status()["committed_epoch"]

    def news(self) -> list[Any]:
        """Events since the last look."""
        found: list[Any] = []
        for epoch, raw in self._filesystem.changes(self._since, STEP):
            self._since = epoch
            for change in unpack_oplog(raw):
                found += self._events(change)
        return found

    def _events(self, change: Change) -> Iterator[dict[str, Any]]:
        kind, at = change.kind, change.time_ns
        if kind in ("make", "link", "unlink"):
            yield from self._one({"make": "made", "link": "linked", "unlink": "removed"}[kind],
                                 self._path(change.a, change.first), change.ino, at)  # fmt: skip
        elif kind == "rename":
            old, new = self._path(change.a, change.first), self._path(change.b, change.second)
            if self._mine(old) or self._mine(new):
                shown = {"from": old} if self._mine(old) else {}
                yield {"event": "renamed", "path": new if self._mine(new) else None, "ino": change.ino, "time_ns": at,
                       **shown}  # fmt: skip
        elif kind in ("content", "setattr", "setxattr", "removexattr"):
            yield from self._one("written" if kind == "content" else "changed", self._path(change.ino), change.ino, at)

    def _one(self, event: str, path: str | None, ino: int, time_ns: int) -> Iterator[dict[str, Any]]:
        if self._mine(path):
            yield {"event": event, "path": path, "ino": ino, "time_ns": time_ns}

    def _mine(self, path: str | None) -> bool:
        if path is None or path.startswith("/.vexfs"):
            return False
        return (path + "/").startswith(self._below) and self._token.covers(path)

    def _path(self, ino: int, name: bytes = b"") -> str | None:
        """Where a file is now; None when it is gone already."""
        try:
            base = self._filesystem.path_of(ino)
        except OSError:
            return None
        full = base.rstrip(b"/") + b"/" + name if name else base
        return os.fsdecode(full).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class StandingQuery:
    """Channel ``search``: told when a file comes among the best `k` of a saved search, which it was not before."""

    def __init__(self, node: Node, token: Token, wish: Subscribe) -> None:
        if not hasattr(type(node.volume), "search"):
            raise NotSupported.at("this version has no search")
        if "read" not in token.scopes:
            raise NotPermitted.at("searches need a token with the scope 'read'")
        if (wish.text is None) == (wish.vector is None):
            raise Problem(400, "give text, or vector")
        if not 1 <= wish.k <= 1000:
            raise Problem(400, "k is 1 to 1000")
        self._node, self._wish = node, wish
        self._under = normal(wish.path)
        if not token.covers(self._under):
            raise NotPermitted.at("the token is not for this", self._under)
        self._what: Any = wish.text if wish.vector is None else row_of(wish.vector)
        self._changes = FileEvents(node, token, wish)
        self._until = 0.0
        self._known = {hit.path for hit in self._search()}

    def _search(self) -> list[Any]:
        wish = self._wish
        hits = self._node.volume.search(self._what, wish.k, under=self._under, where=wish.where)
        return [hit for hit in hits if wish.min_score is None or hit.score >= wish.min_score]

    def news(self) -> list[Any]:
        """New matches."""
        now = time.monotonic()
        if self._changes.news():
            self._until = now + SETTLE_S
        if now > self._until:
            return []
        hits = self._search()
        fresh = [hit for hit in hits if hit.path not in self._known]
        self._known = {hit.path for hit in hits}
        return [
            {"event": "match", "path": hit.path, "score": float(hit.score), "text": hit.text or ""} for hit in fresh
        ]  # fmt: skip


CHANNELS: dict[str, Any] = {
    "performance": Figures, "node": NodeEvents, "files": FileEvents, "search": StandingQuery,
}  # fmt: skip
