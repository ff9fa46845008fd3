"""Files on their way through models: gathered into batches, computed, and handed back as models answer.

No model waits for another one: each has batches of its own, and when it has enough of them its files are left in the
backlog until it has answered.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Container

from vexfs.search.embedding import Batch, Embedding, Model, model_of
from vexfs.search.passages import Passages

#: Batches that a model has or waits for, while the next is read.
_AHEAD = 2
#: A model that alone has work is waited for so long before its files are put back.
_PATIENCE_S = 0.2
#: What people are told to wait for has been asked at least so long ago.
_LATE_S = 5.0


class UnderWay:
    """For the thread of ingest, but for `in_hand` and `late`, which anybody may look at.

    Parameters
    ----------
    stop, breathe, hurry
        See :class:`vexfs.search.embedding.Embedding`.

    Attributes
    ----------
    in_hand : dict
        Files on their way, with the generation of their content.
    answers : queue.SimpleQueue
        Whether it is empty, to be asked before `answered` is.
    """

    def __init__(self, stop: threading.Event, breathe: Callable[[], None], hurry: Callable[[], bool]) -> None:
        self._embedding = Embedding(stop, breathe, hurry)
        self.answers = self._embedding.answers
        self._gathered: dict[Model, list[Passages]] = {}
        self._sizes: dict[Model, int] = {}
        self._batches: dict[Model, set[Batch]] = {}
        self._waited: set[Model] = set()
        self.in_hand: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._gathered or self._batches)

    @property
    def computing(self) -> bool:
        """Whether a model has something to do."""
        return bool(self._batches)

    def add(self, found: Passages) -> None:
        """A file that was read."""
        model = model_of(found.index)
        self._gathered.setdefault(model, []).append(found)
        self.in_hand[found.ino] = found.generation
        self._sizes[model] = self._sizes.get(model, 0) + len(found.chunks)
        if self._sizes[model] >= self._embedding.size(model):
            self._begin(model)

    def begin(self) -> None:
        """Let models begin with what was gathered for them, those that are not too far behind."""
        for model in list(self._gathered):
            self._begin(model)

    def _begin(self, model: Model) -> None:
        if len(self._batches.get(model, ())) < _AHEAD:
            self._start(Batch(model, self._gathered[model]))
            del self._gathered[model], self._sizes[model]

    def _start(self, batch: Batch) -> None:
        self._embedding.start(batch)
        self._batches.setdefault(batch.model, set()).add(batch)

    def one_by_one(self, batch: Batch) -> None:
        """Ask again for each file of a batch by itself."""
        for each in batch.files:
            self.in_hand[each.ino] = each.generation
            self._start(Batch(batch.model, [each]))

    def full(self, model: Model) -> bool:
        """Whether a model has as much to do as it may have, and the next batch is read too."""
        behind = len(self._batches.get(model, ())) >= _AHEAD
        return behind and self._sizes.get(model, 0) >= self._embedding.size(model)

    def patience(self, model: Model) -> float:
        """For how many seconds to wait until a full model has room: not while others have work, and not again."""
        if model in self._waited or {*self._gathered, *self._batches} != {model}:
            return 0.0
        self._waited.add(model)
        return _PATIENCE_S

    def answered(self, timeout_s: float = 0.0) -> Batch | None:
        """A batch that a model has done, of whichever model; None: there is none within that time."""
        answers, until = self.answers, time.monotonic() + timeout_s
        while not answers.empty() or (timeout_s and time.monotonic() < until):
            with contextlib.suppress(queue.Empty):
                if self._take(batch := answers.get(timeout=max(0.0, until - time.monotonic()))):
                    return batch
        return None

    def _take(self, batch: Batch) -> bool:
        """Count a batch as no longer with its model, which may go on; False: nobody waits for it any more."""
        model, batches = batch.model, self._batches.get(batch.model, set())
        if batch not in batches:
            return False
        batches.remove(batch)
        if not batches:
            del self._batches[model]
        self._waited.discard(model)
        if self._sizes.get(model, 0) >= self._embedding.size(model):
            self._begin(model)
        return True

    def done(self, batch: Batch) -> None:
        """Its files are indexed, or somebody else's to care for."""
        for each in batch.files:
            if self.in_hand.get(each.ino) == each.generation:
                del self.in_hand[each.ino]

    def drop(self, numbers: set[int]) -> list[int]:
        """Wait no longer for batches of which none of the indexes with these numbers has a file; their files."""
        gone = [
            batch for batches in self._batches.values() for batch in batches
            if all(each.index.description.number not in numbers for each in batch.files)
        ]  # fmt: skip
        for batch in gone:
            self._take(batch)
            self.done(batch)
        return [each.ino for batch in gone for each in batch.files]

    def late(self) -> dict[str, float]:
        """The models that are waited for, with the seconds for which they have been asked."""
        return {model[0]: round(s, 1) for model, s in self._late().items()}

    def stuck(self, held: Container[Model]) -> bool:
        """Whether all that is under way waits for models that are waited for, or were already `held` for a failure."""
        late = self._late()
        return all(model in late or model in held for model in self._batches)

    def _late(self) -> dict[Model, float]:
        asked = self._embedding.asked_for().items()
        return {model: s for model, s in asked if s >= _LATE_S and model in self._batches}

    def urge(self) -> None:
        """Let models compute with the priority of the calling thread: somebody waits."""
        self._embedding.urge()

    def close(self) -> None:
        """Let what has no work end at once."""
        self._embedding.close()
