from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vexfs.errors import ConfigError

DTYPES: tuple[str, ...]
METRICS: tuple[str, ...]
LEVELS: tuple[str, ...]
DIM_MAX: int
ENVIRONMENT: str
Dtype = Literal["f32", "f16", "bf16", "i8", "i4", "b1"]
Metric = Literal["dot", "cosine", "l2sq", "l2", "hamming"]
Floats = NDArray[np.float32]

class LevelUnknown(ConfigError): ...
class LevelNotBuilt(ConfigError): ...
class LevelNotSupported(ConfigError): ...

def capabilities() -> dict[str, bool]: ...
def levels() -> dict[str, str]: ...

class Simd:
    auto_detect: bool
    force_avx2: bool
    enable_avx512: bool
    demand: str | None
    def __init__(
        self,
        level: str | None = None,
        *,
        auto_detect: bool = True,
        force_avx2: bool = False,
        enable_avx512: bool = True,
        batch_size: int = 1024,
    ) -> None: ...
    def configure(
        self,
        *,
        level: str | None = None,
        auto_detect: bool | None = None,
        force_avx2: bool | None = None,
        enable_avx512: bool | None = None,
        batch_size: int | None = None,
    ) -> None: ...
    @property
    def level(self) -> str: ...
    @property
    def batch_size(self) -> int: ...
    def counters(self) -> dict[str, int]: ...
    def reset_counters(self) -> None: ...
    def pair(
        self, a: ArrayLike, b: ArrayLike, metric: str, *, dtype: str | None = None, dim: int | None = None
    ) -> float: ...
    def one_to_many(
        self,
        q: ArrayLike,
        rows: ArrayLike,
        metric: str,
        *,
        dtype: str | None = None,
        dim: int | None = None,
        out: Floats | None = None,
    ) -> Floats: ...
    def gather(
        self,
        q: ArrayLike,
        rows: ArrayLike,
        ids: ArrayLike,
        metric: str,
        *,
        dtype: str | None = None,
        dim: int | None = None,
        out: Floats | None = None,
    ) -> Floats: ...
    def many_to_many(
        self,
        a: ArrayLike,
        b: ArrayLike,
        metric: str,
        *,
        dtype: str | None = None,
        dim: int | None = None,
        out: Floats | None = None,
    ) -> Floats: ...
    def quantise(self, x: ArrayLike, dtype: str, scale: float | None = None) -> tuple[NDArray[Any], float]: ...
    def dequantise(
        self, codes: ArrayLike, dtype: str | None = None, *, dim: int | None = None, scale: float = 1.0
    ) -> Floats: ...
