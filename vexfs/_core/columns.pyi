from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from vexfs._core.simd import Simd

ABSENT: int
NONE: int
BOOL: int
NUMBER: int
STRING: int
FALSE: int
TRUE: int
ORDERS: dict[str, int]

def packed(found: NDArray[np.bool_]) -> NDArray[np.uint64]: ...
def places(bits: NDArray[np.uint64], most: int) -> tuple[int, NDArray[np.uint32] | None]: ...

class Column:
    kind: NDArray[np.uint8]
    number: NDArray[np.float64]
    code: NDArray[np.int32]
    strings: list[str]
    codes: dict[str, int]
    exact: dict[int, int]
    def __init__(self, rows: int, simd: Simd) -> None: ...
    def select(self, order: int, value: float, rows: int) -> NDArray[np.uint64]: ...

class Columns:
    columns: dict[str, Column]
    rows: int
    def __init__(self, simd: Simd | None = None) -> None: ...
    def resize(self, rows: int) -> None: ...
    def want(self, names: Collection[str]) -> bool: ...
    def get(self, name: str) -> Column | None: ...
    def clear(self, rows: Iterable[int]) -> None: ...
    def fill(self, row: int, packed: bytes) -> None: ...
    def memory(self) -> int: ...
