"""The files that ingest has still to look at, each with the time from which it is due.

A file becomes due when it has been left alone for a moment, so that a file that is being written is read once.  Names
that came or went are resolved later, by whoever works the backlog off.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vexfs.search.embedding import Model

_QUIET_S = 0.3
_MOST_OFTEN_S = 30.0
_REMEMBERED = 10_000


class Backlog:
    """Files by due time.  Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: OrderedDict[int, float] = OrderedDict()
        self._since: dict[int, float] = {}
        self._taken: set[int] = set()
        self._names: set[tuple[int, bytes]] = set()
        self._trees: OrderedDict[int, None] = OrderedDict()
        self._lately: OrderedDict[int, tuple[float, float]] = OrderedDict()
        self._parked: dict[Model, OrderedDict[int, None]] = {}

    def changed(self, inos: set[int]) -> None:
        """The content of these files changed now."""
        now = time.monotonic()
        with self._lock:
            for ino in inos:
                since = self._since.setdefault(ino, now)
                last, pause = self._lately.get(ino, (0.0, 0.0))
                # One that is never left alone has its turn, each time later.
                self._due[ino] = max(min(now + _QUIET_S, since + 10 * _QUIET_S), last + pause)

    def add(self, ino: int, delay_s: float = 0.0) -> None:
        """A file to look at, after a while."""
        with self._lock:
            self._due.setdefault(ino, time.monotonic() + delay_s)
            self._since.setdefault(ino, time.monotonic())

    def add_all(self, inos: Iterable[int], delay_s: float = 0.0) -> None:
        """As `add`, of each."""
        for ino in inos:
            self.add(ino, delay_s)

    def later(self, ino: int, delay_s: float) -> None:
        """A file that has to wait."""
        with self._lock:
            self._due[ino] = time.monotonic() + delay_s

    def park(self, ino: int, model: "Model") -> None:
        """A file that waits until a model, which has enough to do, is given more."""
        with self._lock:
            self._parked.setdefault(model, OrderedDict())[ino] = None

    @property
    def parked(self) -> "list[Model]":
        """The models for which files wait."""
        return list(self._parked)

    def unpark(self, model: "Model", most: int) -> None:
        """At most so many files that waited for a model are due."""
        now = time.monotonic()
        with self._lock:
            waiting = self._parked[model]
            for _ in range(min(most, len(waiting))):
                self._due.setdefault(waiting.popitem(last=False)[0], now)
            if not waiting:
                del self._parked[model]

    def name(self, names: set[tuple[int, bytes]]) -> None:
        """Entries of directories that came, went or point elsewhere."""
        with self._lock:
            self._names |= names

    def tree(self, ino: int) -> None:
        """A directory below which anything may have changed."""
        with self._lock:
            self._trees[ino] = None

    def take_names(self, most: int) -> list[tuple[int, bytes]]:
        """At most so many entries to resolve."""
        with self._lock:
            return [self._names.pop() for _ in range(min(most, len(self._names)))]

    def take_tree(self) -> int | None:
        """A directory to walk."""
        with self._lock:
            return self._trees.popitem(last=False)[0] if self._trees else None

    def take(self, most: int, hurry: bool) -> list[int]:
        """At most so many files that are due; `hurry`: whether or not they have been left alone."""
        now = time.monotonic()
        out: list[int] = []
        with self._lock:
            for ino, due in self._due.items():
                if due <= now or (hurry and due <= now + 2 * _QUIET_S):
                    out.append(ino)
                    if len(out) == most:
                        break
            for ino in out:
                del self._due[ino]
                self._since.pop(ino, None)
            self._taken = set(out)
        return out

    def looked(self, ino: int) -> None:
        """A file that was taken is somebody else's to count, or was nothing to do."""
        with self._lock:
            self._taken.discard(ino)

    def done(self, ino: int) -> None:
        """A file was worked off: if it changes again at once it waits longer each time."""
        now = time.monotonic()
        with self._lock:
            last, pause = self._lately.get(ino, (0.0, 0.0))
            again = now - last < 2 * _MOST_OFTEN_S
            self._lately[ino] = (now, min(_MOST_OFTEN_S, pause * 2 or 0.5) if again else 0.0)
            self._lately.move_to_end(ino)
            if len(self._lately) > _REMEMBERED:
                self._lately.popitem(last=False)

    def with_those(self, in_hand: set[int]) -> int:
        """How many are left with those in hand, each counted once: one may be due again meanwhile.

        Names do not count: they may be those of directories, of what went, and of files that are due anyway.
        """
        with self._lock:
            others = (self._taken | in_hand).union(*self._parked.values())
            return len(self._due) + len(others - self._due.keys())

    @property
    def empty(self) -> bool:
        """Whether nothing at all is left."""
        return not (self._due or self._names or self._trees or self._parked)

    @property
    def unresolved(self) -> int:
        """Names that are not files yet."""
        return len(self._names)

    @property
    def soonest(self) -> float:
        """Seconds until the next file is due."""
        with self._lock:
            return max(0.0, min(self._due.values(), default=time.monotonic() + 60.0) - time.monotonic())
