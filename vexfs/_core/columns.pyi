from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

ABSENT: int
NONE: int
BOOL: int
NUMBER: int
STRING: int
FALSE: int
TRUE: int

def places(bits: NDArray[np.uint64], most: int) -> tuple[int, NDArray[np.uint32] | None]: ...

class Column:
    kind: NDArray[np.uint8]
    number: NDArray[np.float64]
    code: NDArray[np.int32]
    strings: list[str]
    codes: dict[str, int]
    exact: dict[int, int]
    def __init__(self, rows: int) -> None: ...

class Columns:
    columns: dict[str, Column]
    rows: int
    def __init__(self) -> None: ...
    def resize(self, rows: int) -> None: ...
    def get(self, name: str) -> Column | None: ...
    def clear(self, rows: Iterable[int]) -> None: ...
    def fill(self, row: int, packed: bytes) -> None: ...
    def memory(self) -> int: ...
