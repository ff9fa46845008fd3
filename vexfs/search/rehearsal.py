"""Questions that passages could answer, made up so that an index knows what recall takes before anybody has asked.

The lists of an index are calibrated by what was asked or, as long as nothing was, by rows.  A few words are not like a
passage: their neighbours are spread over far more lists, half of which would not be looked at.
"""

import contextlib
import random
import weakref
from typing import TYPE_CHECKING

import attrs
import numpy as np

from vexfs.search.embedders import Embedder
from vexfs.search.passages import Passages

if TYPE_CHECKING:
    from vexfs.search.index import Index

#: So many questions are made up when an index is to have so many passages, before it has lists; and whenever it has
#: doubled, as lists are made anew then.
QUESTIONS, FROM = 128, 2000
_WORDS = 1, 5
_LONGEST = 100


@attrs.define
class _Heard:
    passages: int
    due: int = FROM
    questions: list[str] = attrs.field(factory=list)


class Rehearsal:
    """What the indexes that one model works for are prepared for."""

    def __init__(self) -> None:
        self._dice = random.Random(0)
        self._heard: weakref.WeakKeyDictionary[Index, _Heard] = weakref.WeakKeyDictionary()

    def hear(self, found: list[Passages], model: Embedder) -> None:
        """Take questions from passages on their way into their indexes, and tell the indexes when they are enough."""
        for each in found:
            heard = self._heard.get(each.index)
            if heard is None:
                heard = self._heard[each.index] = _Heard(len(each.index.vectors))
            heard.passages += len(each.chunks)
            if heard.passages >= heard.due:
                some = min(QUESTIONS - len(heard.questions), len(each.chunks))
                made = (self._question(chunk.text) for chunk in self._dice.sample(each.chunks, some))
                heard.questions += [question for question in made if question]
                if len(heard.questions) >= QUESTIONS:
                    heard.due = 2 * heard.passages
                    questions, heard.questions = heard.questions, []
                    _expect(each.index, questions, model)

    def _question(self, text: str) -> str:
        """A few words of a text, one after the other."""
        words, n = text.split(), self._dice.randint(*_WORDS)
        at = self._dice.randrange(max(1, len(words) - n + 1))
        return " ".join(words[at : at + n])[:_LONGEST]


def _expect(index: "Index", questions: list[str], model: Embedder) -> None:
    with contextlib.suppress(Exception):  # a model that fails says so where vectors are missing
        vectors = np.ascontiguousarray(model.embed(questions), np.float32)
        index.vectors.expect(vectors[np.isfinite(vectors).all(1) & vectors.any(1)])
