from collections.abc import Sequence
from typing import Any

OPERATIONS_MOST: int
LIMIT_BYTES: int
HEAP_THRESHOLD: int

class Frames:
    limit_bytes: int
    heap_threshold: int
    monitoring: bool
    paint_every: int
    def __init__(self, limit_bytes: int = ..., heap_threshold: int = ...) -> None: ...
    def configure(
        self, limit_bytes: int | None = None, heap_threshold: int | None = None, monitoring: bool | None = None
    ) -> None: ...
    def paint(self, every: int) -> None: ...
    def stats(self, op: int | None = None) -> dict[str, Any]: ...
    def table(self, names: Sequence[str]) -> dict[str, dict[str, Any]]: ...
    def clear(self) -> None: ...
