from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vexfs._core.rows import RowTable
from vexfs._core.vindex import VectorIndex

HIT_PATH: int
HIT_XATTRS: int

L = TypeVar("L", bound=list[Any])

class Found:
    score: float
    distance: float
    path: str
    ino: int
    row: int
    span: tuple[int, int] | None
    index: Any
    packed: bytes
    kept_text: str | None
    @property
    def others(self) -> list[Any]: ...

def rows_described(
    table: RowTable, rows: NDArray[np.uint32], what: int = ...
) -> list[tuple[int, int, bytes, bytes]]: ...
def files_of(
    table: RowTable, kind: type[Found], index: Any, rows: NDArray[np.uint32],
    scores: NDArray[np.float32], distances: NDArray[np.float32], k: int, since: int, out: L,
) -> L: ...
def fused(
    near: NDArray[np.uint32], distances: NDArray[np.float32], words: NDArray[np.uint32], weight: float, constant: float,
    first: int, behind: int = 0,
) -> tuple[NDArray[np.uint32], NDArray[np.float32], NDArray[np.float32]]: ...
def nearest(
    table: RowTable, vectors: VectorIndex, kind: type[Found], lists: type[L], index: Any, q: NDArray[np.float32],
    want: int, k: int, mask: NDArray[np.uint64] | None, only: NDArray[np.uint32] | None, since: int, recall: float,
    effort: int, exact: bool | None, threshold: float | None, threads: int, work: dict[str, Any] | None,
) -> tuple[list[L], list[int]]: ...
def nearest_plainly(
    table: RowTable, vectors: VectorIndex, kind: type[Found], lists: type[L], index: Any, q: Any, k: Any, recall: Any,
    threads: Any, settling: Any,
) -> L | None: ...
