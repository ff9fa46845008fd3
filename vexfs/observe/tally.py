"""Counts of what the compiled core does not see: vector and semantic operations, by kind and by index."""

import threading
from collections import defaultdict

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
