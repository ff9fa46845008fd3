"""Passages on their way through a model: in a thread of its own, so that others are read and stored meanwhile.

Each model has its thread while it has work, so that one that is slow or hangs holds up nobody else's text.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from vexfs._core.words import WordIndex
from vexfs.search.embedders import Embedder, Vectors
from vexfs.search.passages import Passages
from vexfs.search.relay import Relay
from vexfs.search.textindex import VERSION, embedder_of

if TYPE_CHECKING:
    from vexfs.search.index import Index

#: A thread without work ends after so long.
_IDLE_S = 10.0
#: How long a model may compute before others can go first, and passages at once, few for slow models.
_PIECE_S = 0.05
FEWEST, MOST = 16, 1024

#: Name, version and dimension that an index has of its model: two of one name may have been made by different ones.
Model = tuple[str, Any, int]


def fitting(size: int, passages: int, seconds: float) -> int:
    """Passages to give a model at once, which was given `size` and took so long for so many."""
    fits = int(_PIECE_S * passages / max(seconds, 1e-6))
    return max(FEWEST, min(MOST, (size + fits) // 2))  # half way from what was, so that one odd text does not decide


def model_of(index: "Index") -> Model:
    """What an index has of its model."""
    return str(index.embedder), index.state.get(VERSION), index.dim


@attrs.define(eq=False)
class Batch:
    """Files whose passages are embedded together; all of one model.

    Attributes
    ----------
    rows : float32 (passages, dim) or None
        Their vectors, once it is answered.
    records : list of bytes
        Their keyword records.
    error : Exception or None
        Why there are none.
    without_model : bool
        The model cannot be had, or is another one than the index has.
    parts : list of arrays
        The vectors of its first passages, while it is worked on.
    """

    model: Model
    files: list[Passages]
    rows: Vectors | None = None
    records: list[bytes] = attrs.field(factory=list)
    error: Exception | None = None
    without_model: bool = False
    parts: list[Vectors] = attrs.field(factory=list)


@attrs.define(eq=False)
class _Desk:
    """Where the batches of one model lie, and since when it has been asked; 0: it is not being asked."""

    relay: Relay
    batches: "queue.SimpleQueue[Batch | None]" = attrs.field(factory=queue.SimpleQueue)
    asked: float = 0.0


class Embedding:
    """The threads in which models compute, one a model.

    Parameters
    ----------
    stop : threading.Event
        Ends them; a model that hangs is not waited for.
    breathe : callable
        Called between the pieces of a long computation: others go first.
    hurry : callable
        Whether somebody waits.

    Attributes
    ----------
    answers : queue.SimpleQueue of Batch
        What models have done, in the order in which they did it.
    """

    def __init__(self, stop: threading.Event, breathe: Callable[[], None], hurry: Callable[[], bool]) -> None:
        self._stop, self._breathe, self._hurry = stop, breathe, hurry
        self.answers: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        self._sizes: dict[Model, int] = {}
        self._desks: dict[Model, _Desk] = {}
        self._lock = threading.Lock()

    def size(self, model: Model) -> int:
        """Passages that make a batch for a model, by how quick it was."""
        return self._sizes.get(model, 64)

    def asked_for(self) -> dict[Model, float]:
        """For how many seconds each model that computes has been asked."""
        now = time.monotonic()
        with self._lock:
            return {model: now - since for model, desk in self._desks.items() if (since := desk.asked)}

    def start(self, batch: Batch) -> None:
        """Begin to embed a batch."""
        with self._lock:
            desk = self._desks.get(batch.model) or self._opened(batch.model)
            if self._hurry():
                desk.relay.urge()
            desk.batches.put(batch)

    def _opened(self, model: Model) -> _Desk:
        relay = Relay("vexfs-embed", lambda: self._run(model, desk), self._hurry)
        desk = self._desks[model] = _Desk(relay)
        relay.start()
        return desk

    def urge(self) -> None:
        """Let every model compute with the priority of the calling thread."""
        with self._lock:
            for desk in self._desks.values():
                desk.relay.urge()

    def close(self) -> None:
        """Let threads without work end at once."""
        with self._lock:
            for desk in self._desks.values():
                desk.batches.put(None)

    def _run(self, model: Model, desk: _Desk) -> None:
        while (batch := self._next(model, desk)) is not None and not self._stop.is_set():
            try:
                if not self._embed(batch, desk):
                    desk.batches.put(batch)  # another thread goes on with it
                    return
            except Exception as error:  # told to ingest, which knows what to do about it
                batch.error = error
            except BaseException as error:  # as a model in Rust that panics: no reason to embed nothing any more
                batch.error = RuntimeError(f"{type(error).__name__}: {error}")
            desk.asked = 0.0
            self.answers.put(batch)

    def _next(self, model: Model, desk: _Desk) -> Batch | None:
        """What a model is to do next; None: its thread ends."""
        while desk.relay.goes_on():
            try:
                batch = desk.batches.get(timeout=_IDLE_S)
            except queue.Empty:
                with self._lock:
                    if desk.batches.empty() and desk.relay.goes_on():
                        del self._desks[model]
                        return None
                continue
            if desk.relay.goes_on():
                return batch
            desk.batches.put(batch)  # for the thread that goes on
        return None

    def _embed(self, batch: Batch, desk: _Desk) -> bool:
        """Embed a batch, or the rest of it; False: somebody else has to go on with it."""
        texts = [text for each in batch.files for text in each.texts()]
        desk.asked = time.monotonic()
        try:
            model = embedder_of(batch.files[0].index)
        except BaseException:
            batch.without_model = True
            raise
        while (at := sum(map(len, batch.parts))) < len(texts):
            if self._stop.is_set():
                return True
            if at:
                if not desk.relay.goes_on():
                    return False
                desk.asked = 0.0
                self._breathe()
                desk.asked = time.monotonic()
            size = self.size(batch.model)
            part = texts[at : at + size] if len(texts) - at > 2 * size else texts[at:]
            batch.parts.append(self._measured(batch.model, model, part))
        for each in batch.files:
            each.index.rehearsal.hear(each.chunks, model)
        desk.asked = 0.0
        batch.records = WordIndex.encode_all([text for each in batch.files for text in each.words()])
        batch.rows = np.concatenate(batch.parts)
        return True

    def _measured(self, name: Model, model: Embedder, texts: list[str]) -> Vectors:
        began = time.perf_counter()
        rows = model.embed(texts)
        self._sizes[name] = fitting(self.size(name), len(texts), time.perf_counter() - began)
        return rows
