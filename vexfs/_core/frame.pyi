from collections.abc import Sequence
from typing import Any

OPERATIONS_MOST: int
LIMIT_BYTES: int
HEAP_THRESHOLD: int
TIMED_EVERY: int
TIME_LIMITS_NS: tuple[int, ...]

class Frames:
    limit_bytes: int
    heap_threshold: int
    enabled: bool
    monitoring: bool
    paint_every: int
    time_every: int
    def __init__(self, limit_bytes: int = ..., heap_threshold: int = ...) -> None: ...
    def configure(
        self, limit_bytes: int | None = None, heap_threshold: int | None = None, monitoring: bool | None = None,
        enabled: bool | None = None,
    ) -> None: ...
    def paint(self, every: int) -> None: ...
    def time(self, every: int) -> None: ...
    def times(self, op: int | None = None) -> dict[str, Any]: ...
    def stats(self, op: int | None = None) -> dict[str, Any]: ...
    def table(self, names: Sequence[str]) -> dict[str, dict[str, Any]]: ...
    def clear(self) -> None: ...
