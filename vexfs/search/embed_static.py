"""The static embedder: a text's vector is the mean of its tokens' vectors.

The vectors are those of the ``wordllama`` wheel (32,000 tokens, 256 numbers each, 16 MB), read from its files; its code
is not used.  They lie in memory as float32, 33 MB, once a process.
"""

import json
import struct
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np

from vexfs._core.pooled import Pooled
from vexfs.errors import ConfigError, PluginBroken
from vexfs.search.embedders import Vectors

_PACKAGE = "wordllama"
_WEIGHTS = "wordllama/weights/l2_supercat_256.safetensors"
_TOKENS = "wordllama/tokenizers/l2_supercat_tokenizer_config.json"
_TENSOR = "embedding.weight"


class StaticEmbedder:
    """Vectors of tokens, gathered and averaged by compiled code; made by :func:`load`."""

    name = "static"

    def __init__(self, table: Pooled, version: str) -> None:
        self._table = table
        self.version = version
        self.dim = table.dim

    def embed(self, texts: list[str]) -> Vectors:
        """See :class:`vexfs.search.embedders.Embedder`; runs without Python's lock."""
        return self._table.embed(texts)


def load(argument: str = "") -> StaticEmbedder:
    """The entry point; there is one model, so no `argument` is known.

    Raises
    ------
    PluginBroken
        The package with the weights is missing or is not of a form that is known.
    """
    if argument:
        raise ConfigError(f"embedder 'static' knows no {argument!r}; it has one model")
    try:
        package = distribution(_PACKAGE)
        weights, tokens = (Path(str(package.locate_file(name))) for name in (_WEIGHTS, _TOKENS))
        rows = read_tensor(weights, _TENSOR)
        table = _table(json.loads(tokens.read_bytes()), rows)
    except PackageNotFoundError:
        raise PluginBroken("the static embedder's vectors are missing; install them: pip install wordllama") from None
    except (OSError, ValueError, KeyError) as error:
        raise PluginBroken(f"the files of wordllama {package.version} are not of a known form: {error}") from error
    return StaticEmbedder(table, f"{weights.stem}/1")


def read_tensor(path: Path, name: str) -> np.ndarray[Any, np.dtype[np.float16]]:
    """One half-precision tensor of a safetensors file, mapped and not read.

    Raises
    ------
    ValueError, KeyError
        The file is not of that form, or holds no such tensor.
    """
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        if size > path.stat().st_size:
            raise ValueError(f"{path.name}: a header of {size} bytes")
        about = json.loads(file.read(size))[name]
    if about["dtype"] != "F16":
        raise ValueError(f"{path.name}: {name} is {about['dtype']}; F16 is known")
    begin, _ = about["data_offsets"]
    return np.memmap(path, np.float16, "r", 8 + size + begin, tuple(about["shape"]))


def _table(about: dict[str, Any], rows: np.ndarray[Any, np.dtype[np.float16]]) -> Pooled:
    model = about["model"]
    if model["type"] != "BPE" or not model["byte_fallback"]:
        raise ValueError(f"a tokenizer of type {model['type']}; BPE with single bytes is known")
    numbers: dict[str, int] = model["vocab"]
    tokens = [b""] * len(numbers)
    for token, number in numbers.items():
        tokens[number] = token.encode()
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return Pooled(tokens, merges, rows[: len(tokens)], numbers["<0x00>"])
