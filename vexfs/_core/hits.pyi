from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vexfs._core.rows import RowTable

HIT_PATH: int
HIT_XATTRS: int

F = TypeVar("F", bound="Found")

class Found:
    score: float
    distance: float
    path: str
    ino: int
    row: int
    span: tuple[int, int] | None
    index: Any
    others: list[Any]
    packed: bytes
    kept_text: str | None

def rows_described(
    table: RowTable, rows: NDArray[np.uint32], what: int = ...
) -> list[tuple[int, int, bytes, bytes]]: ...
def files_of(
    table: RowTable, kind: type[F], index: Any, rows: NDArray[np.uint32],
    scores: NDArray[np.float32], distances: NDArray[np.float32], k: int,
) -> list[F]: ...
