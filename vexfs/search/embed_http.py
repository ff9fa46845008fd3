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
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from vexfs.errors import ConfigError, Unreachable
from vexfs.search.embedders import Vectors, normalised

_TIMEOUT_S = 60.0
_TRIES = 4
_BATCH = 64
#: One that asks for a longer pause is not waited for here.
_PAUSE_MOST_S = 10.0
_ASKED_MOST_S = 3600.0
_ANSWER_MOST = 256 << 20
_HARMLESS = ["how long are the vectors"]
_AGAIN = frozenset((408, 409, 425, 429, 500, 502, 503, 504))
#: What is no fault of the texts: the key, the bill, a model that is not there.
_NOT_HAD = frozenset((401, 402, 403, 404))


class _Doubtful(Exception):
    """It went wrong, and whether that is due to the texts or to the service is not said."""


class _AsTold(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: neither with the texts nor with the key."""

    def redirect_request(self, *args: Any) -> None:
        """None: the answer is that of the service."""


_OPENER = urllib.request.build_opener(_AsTold)


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
        try:
            self.dim = self._ask(_HARMLESS).shape[1]
        except _Doubtful as error:
            raise ConfigError(str(error)) from None

    def embed(self, texts: list[str]) -> Vectors:
        """See :class:`vexfs.search.embedders.Embedder`.

        Raises
        ------
        Unreachable
            The service did not answer, also not when asked again, does not give the model to who asks, or answers
            something else than vectors of its length, whatever the texts.
        ConfigError
            It refused the texts, or answered something else than vectors to them, and not to others.
        """
        parts = [self._rows(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)

    def _rows(self, texts: list[str]) -> Vectors:
        try:
            found = self._asked(texts)
        except _Doubtful as error:
            raise (ConfigError if self._is_well() else Unreachable)(str(error)) from None
        return normalised(found, len(texts), self.dim, self.name)

    def _is_well(self) -> bool:
        try:
            self._asked(_HARMLESS)
        except (_Doubtful, ConfigError, Unreachable):
            return False
        return True

    def _asked(self, texts: list[str]) -> Vectors:
        found = self._ask(texts)
        if found.shape[1] != self.dim:
            what = f"{len(texts)} texts gave an array of shape {found.shape}"
            raise _Doubtful(f"embedder {self.name}: {what}; ({len(texts)}, {self.dim}) is right")
        return found

    def _ask(self, texts: list[str]) -> Vectors:
        # Services refuse an empty text; a space has no meaning either.
        body = json.dumps({"model": self._model, "input": [text or " " for text in texts]}).encode()
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("VEXFS_EMBEDDER_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        last, status, again_s = object(), 0, 0.0
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(max(again_s, self._pause_s * 2 ** (attempt - 1)))
            try:
                request = urllib.request.Request(self._url, body, headers)
                with _OPENER.open(request, timeout=self._timeout_s) as answer:
                    return _vectors(_whole(answer), len(texts), self.name)
            except urllib.error.HTTPError as error:
                last, status, again_s = f"HTTP {error.code}: {_reason(error)}", error.code, _retry_after(error)
                if error.code in _NOT_HAD:
                    raise Unreachable(f"embedder {self.name}: {last}") from None
                if error.code not in _AGAIN:
                    raise ConfigError(f"embedder {self.name}: {last}") from None
                if again_s > _PAUSE_MOST_S:
                    break
            except (OSError, http.client.HTTPException) as error:
                last, status, again_s = getattr(error, "reason", error), 0, 0.0
        tries = f" after {attempt + 1} tries" if attempt else ""
        told = f"embedder {self.name} does not answer{tries}: {last}"
        if status == 500 and self.dim and not again_s:
            raise _Doubtful(told)
        refused = Unreachable(told + (f"; it asks to be asked again in {again_s:.0f} s" if again_s else ""))
        refused.again_s = again_s
        raise refused


def _retry_after(error: urllib.error.HTTPError) -> float:
    """The seconds for which a service wants to be left alone, an hour at most; 0: it does not say."""
    told = error.headers.get("Retry-After", "").strip()
    try:
        found = float(told) if told[:1].isdigit() else parsedate_to_datetime(told).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(found, 0.0), _ASKED_MOST_S)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  looked at here, for what is none would be "no answer" later
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _whole(answer: http.client.HTTPResponse) -> bytes:
    """The answer, unless it breaks off."""
    found = answer.read(_ANSWER_MOST)
    if answer.length and len(found) < _ANSWER_MOST:
        raise http.client.IncompleteRead(found, answer.length)
    return found


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
        raise _Doubtful(f"embedder {name}: the answer is not a list of embeddings: {error!r}") from None
    if found.ndim != 2 or found.shape[0] != count or not found.shape[1]:
        raise _Doubtful(f"embedder {name}: {count} texts gave an array of shape {found.shape}")
    return found


def load(argument: str) -> HttpEmbedder:
    """The entry point, given the whole address."""
    return HttpEmbedder(argument)
