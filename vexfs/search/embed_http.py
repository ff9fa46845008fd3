"""An embedder behind an OpenAI-style HTTP endpoint: ``POST {"model": ..., "input": [...]}``.

The address is what the service's documentation calls the embeddings URL; the model stands behind a ``#``, as in
``http://localhost:11434/v1/embeddings#nomic-embed-text``.  A key is taken from the environment variable
``VEXFS_EMBEDDER_KEY`` and sent as a bearer token.
"""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from vexfs.errors import ConfigError, Unreachable
from vexfs.search.embedders import Vectors, normalised

_TIMEOUT_S = 60.0
_TRIES = 4
_BATCH = 64
_ANSWER_MOST = 256 << 20
_AGAIN = frozenset((408, 409, 425, 429, 500, 502, 503, 504))
#: What is no fault of the texts: the key, the bill, a model that is not there.
_NOT_HAD = frozenset((401, 402, 403, 404))


class HttpEmbedder:
    """Asks a service; made by :func:`load`, which asks it once for the length of its vectors."""

    def __init__(self, address: str, *, timeout_s: float = _TIMEOUT_S, pause_s: float = 0.5) -> None:
        self.name = address
        self._url, _, self._model = address.partition("#")
        if not _is_address(self._url):
            raise ConfigError(f"{address}: an embedder's address is http(s)://HOST[:PORT]/PATH#MODEL")
        self._timeout_s, self._pause_s = timeout_s, pause_s
        self.version = self._model
        self.dim = 0
        self.dim = self._ask(["how long are the vectors"]).shape[1]

    def embed(self, texts: list[str]) -> Vectors:
        """See :class:`vexfs.search.embedders.Embedder`.

        Raises
        ------
        Unreachable
            The service did not answer, also not when asked again, or does not give the model to who asks.
        ConfigError
            It refused the texts, or answered something else than vectors.
        """
        parts = [normalised(self._ask(texts[at : at + _BATCH]), len(texts[at : at + _BATCH]), self.dim, self.name)
                 for at in range(0, len(texts), _BATCH)]  # fmt: skip
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)

    def _ask(self, texts: list[str]) -> Vectors:
        # Services refuse an empty text; a space has no meaning either.
        body = json.dumps({"model": self._model, "input": [text or " " for text in texts]}).encode()
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("VEXFS_EMBEDDER_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        last: object = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(self._pause_s * 2 ** (attempt - 1))
            try:
                request = urllib.request.Request(self._url, body, headers)
                with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:
                    return _vectors(answer.read(_ANSWER_MOST), len(texts), self.name)
            except urllib.error.HTTPError as error:
                last = f"HTTP {error.code}: {_reason(error)}"
                if error.code in _NOT_HAD:
                    raise Unreachable(f"embedder {self.name}: {last}") from None
                if error.code not in _AGAIN:
                    raise ConfigError(f"embedder {self.name}: {last}") from None
            except (OSError, http.client.HTTPException) as error:
                last = getattr(error, "reason", error)
        raise Unreachable(f"embedder {self.name} does not answer after {_TRIES} tries: {last}")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  looked at here, for what is none would be "no answer" later
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _reason(error: urllib.error.HTTPError) -> str:
    """What a refusal says, if that can be had: the status alone decides what is done about it."""
    try:
        return error.read(300).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException):
        return error.reason


def _vectors(answer: bytes, count: int, name: str) -> Vectors:
    try:
        rows: Any = sorted(json.loads(answer)["data"], key=lambda each: each.get("index", 0))
        found = np.array([each["embedding"] for each in rows], np.float32, ndmin=2)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ConfigError(f"embedder {name}: the answer is not a list of embeddings: {error!r}") from None
    if found.ndim != 2 or found.shape[0] != count or not found.shape[1]:
        raise ConfigError(f"embedder {name}: {count} texts gave an array of shape {found.shape}")
    return found


def load(argument: str) -> HttpEmbedder:
    """The entry point, given the whole address."""
    return HttpEmbedder(argument)
