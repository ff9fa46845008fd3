"""Passages on their way through a model: in a thread of its own, so that others are read and stored meanwhile."""

import contextlib
import os
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
from vexfs.search.textindex import VERSION, embedder_of

if TYPE_CHECKING:
    from vexfs.search.index import Index

#: How long a model may compute before others can go first, and passages at once, few for slow models.
_PIECE_S = 0.05
FEWEST, MOST = 16, 1024

#: Name, version and dimension that an index has of its model: two of one name may have been made by different ones.
Model = tuple[str, Any, int]


def model_of(index: "Index") -> Model:
    """What an index has of its model."""
    return str(index.embedder), index.state.get(VERSION), index.dim


@attrs.define(eq=False)
class Batch:
    """Files whose passages are embedded together; all of one model.

    Attributes
    ----------
    rows : float32 (passages, dim) or None
        Their vectors, once `done`.
    records : list of bytes
        Their keyword records.
    error : Exception or None
        Why there are none.
    without_model : bool
        The model cannot be had, or is another one than the index has.
    """

    model: Model
    files: list[Passages]
    done: threading.Event = attrs.field(factory=threading.Event)
    rows: Vectors | None = None
    records: list[bytes] = attrs.field(factory=list)
    error: Exception | None = None
    without_model: bool = False


class Embedding:
    """The thread in which models compute.

    Parameters
    ----------
    stop : threading.Event
        Ends it; a model that hangs is not waited for.
    breathe : callable
        Called between the pieces of a long computation: others go first.
    """

    def __init__(self, stop: threading.Event, breathe: Callable[[], None], nice: int) -> None:
        self._stop, self._breathe, self._nice = stop, breathe, nice
        self._queue: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        self._sizes: dict[Model, int] = {}
        self._thread: threading.Thread | None = None

    def size(self, model: Model) -> int:
        """Passages that make a batch for a model, by how quick it was."""
        return self._sizes.get(model, 64)

    def start(self, batch: Batch) -> None:
        """Begin to embed a batch."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="vexfs-embed", daemon=True)
            self._thread.start()
        self._queue.put(batch)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)
        while not self._stop.is_set():
            try:
                batch = self._queue.get(timeout=1.0)
            except queue.Empty:
                continue
            try:
                self._embed(batch)
            except Exception as error:  # told to ingest, which knows what to do about it
                batch.error = error
            except BaseException as error:  # as a model in Rust that panics: no reason to embed nothing any more
                batch.error = RuntimeError(f"{type(error).__name__}: {error}")
            batch.done.set()

    def _embed(self, batch: Batch) -> None:
        texts = [text for each in batch.files for text in each.texts()]
        try:
            model = embedder_of(batch.files[0].index)
        except BaseException:
            batch.without_model = True
            raise
        parts, at = [], 0
        while at < len(texts):
            if self._stop.is_set():
                return
            if at:
                self._breathe()
            size = self.size(batch.model)
            part = texts[at : at + size] if len(texts) - at > 2 * size else texts[at:]
            parts.append(self._measured(batch.model, model, part))
            at += len(part)
        batch.records = WordIndex.encode_all([text for each in batch.files for text in each.words()])
        batch.rows = np.concatenate(parts)

    def _measured(self, name: Model, model: Embedder, texts: list[str]) -> Vectors:
        began = time.perf_counter()
        rows = model.embed(texts)
        fits = int(_PIECE_S * len(texts) / max(time.perf_counter() - began, 1e-6))
        # Half way from what was, so that one odd text does not decide.
        self._sizes[name] = max(FEWEST, min(MOST, (self.size(name) + fits) // 2))
        return rows
