from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

class Pooled:
    dim: int
    count: int
    def __init__(
        self,
        tokens: Sequence[bytes],
        merges: Sequence[str],
        rows: npt.NDArray[np.floating],
        byte_token: int,
    ) -> None: ...
    def tokens(self, text: str) -> npt.NDArray[np.uint32]: ...
    def embed(self, texts: list[str]) -> npt.NDArray[np.float32]: ...
