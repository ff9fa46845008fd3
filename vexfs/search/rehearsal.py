"""Questions that passages could answer, made up so that an index knows what recall takes before anybody has asked.

The lists of an index are calibrated by what was asked or, as long as nothing was, by rows.  A few words are not like a
passage: their neighbours are spread over far more lists, half of which would not be looked at.
"""

import contextlib
import random
from typing import TYPE_CHECKING

import numpy as np

from vexfs._core.vindex import VectorIndex

if TYPE_CHECKING:
    from vexfs.search.chunk import Chunk
    from vexfs.search.embedders import Embedder

#: So many questions are made up when an index is to have so many passages, before it has lists; and whenever it has
#: doubled, as lists are made anew then.
QUESTIONS, FROM = 128, 2000
_WORDS = 1, 5
_LONGEST = 100


class Rehearsal:
    """What an index is prepared for.

    Parameters
    ----------
    vectors : VectorIndex
    """

    def __init__(self, vectors: VectorIndex) -> None:
        self._vectors, self._dice = vectors, random.Random(0)
        self._heard, self._due = len(vectors), FROM
        self._questions: list[str] = []

    def hear(self, passages: "list[Chunk]", model: "Embedder") -> None:
        """Take questions from passages on their way into the index, and tell it of them when they are enough."""
        self._heard += len(passages)
        if self._heard < self._due:
            return
        some = self._dice.sample(passages, min(QUESTIONS - len(self._questions), len(passages)))
        self._questions += filter(None, (self._question(each.text) for each in some))
        if len(self._questions) >= QUESTIONS:
            self._due = 2 * self._heard
            questions, self._questions = self._questions, []
            with contextlib.suppress(Exception):  # a model that fails says so where vectors are missing
                vectors = np.ascontiguousarray(model.embed(questions), np.float32)
                self._vectors.expect(vectors[np.isfinite(vectors).all(1) & vectors.any(1)])

    def _question(self, text: str) -> str:
        """A few words of a text, one after the other."""
        words, n = text.split(), self._dice.randint(*_WORDS)
        at = self._dice.randrange(max(1, len(words) - n + 1))
        return " ".join(words[at : at + n])[:_LONGEST]
