"""Counts of what the compiled core does not see: vector and semantic operations, by kind and by index."""

import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

KINDS = ("vector", "semantic")


class Tally:
    """Counters that only grow.  Thread-safe.

    A *vector* operation adds, changes, removes, fetches or queries vectors of an index: each row that is written
    counts, and each query.  A *semantic* one is a search by text or by example, from the words to the hits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str, str], int] = defaultdict(int)
        self._spent_ns: dict[tuple[str, str, str], int] = defaultdict(int)

    def add(self, kind: str, operation: str, index: str = "", n: int = 1, spent_ns: int = 0) -> None:
        """Count `n` operations of `kind` (one of ``KINDS``) that took `spent_ns` together."""
        key = (kind, operation, index)
        with self._lock:
            self._counts[key] += n
            self._spent_ns[key] += spent_ns

    def total(self, kind: str) -> int:
        """All operations of one kind."""
        with self._lock:
            return sum(n for (of, _, _), n in self._counts.items() if of == kind)

    def rows(self) -> list[tuple[str, str, str, int, int]]:
        """Kind, operation, index, count, nanoseconds."""
        with self._lock:
            return [(*key, n, self._spent_ns[key]) for key, n in self._counts.items()]


def one(_: Any) -> int:
    """A call that is one operation, whatever it answers."""
    return 1


def as_many(answer: Any) -> int:
    """A call that is as many operations as it answers things, or as the number that it answers."""
    return int(answer) if isinstance(answer, int) else len(answer)


def tallied(kind: str, operation: str, size: Callable[[Any], int] = one) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Count the calls of a method of an index, or of a function over the indexes of a volume.

    What it counts in is ``catalog.tally`` of the first argument, or its ``tally``, under its ``counted_as`` if it has
    one; `size` says how many operations a call was, from its answer.  A call that raises is none.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            began = time.perf_counter_ns()
            answer = function(*args, **kwargs)
            spent_ns, first = time.perf_counter_ns() - began, args[0]
            index = getattr(first, "counted_as", "")
            getattr(first, "catalog", first).tally.add(kind, operation, index, size(answer), spent_ns)  # type: ignore[attr-defined]
            return answer

        return call

    return decorate
