"""Recall of the first questions that an index of text is asked."""

import pathlib
import sysconfig

import numpy as np
import pytest

from tests.waiting import until
from vexfs._core.vindex import VectorIndex
from vexfs.search.chunk import Chunk
from vexfs.search.rehearsal import FROM, QUESTIONS, Rehearsal
from vexfs.search.textindex import embedder_of


def passages(n, size):
    """Pieces of Python's own library."""
    for path in sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text(errors="replace")
        for at in range(0, len(text) - size, size):
            yield text[at : at + size]
            n -= 1
            if not n:
                return


def share_found(index, texts, rng):
    """Of the passages that are nearest to a word or two, the share that a search finds which asks for 0.95."""
    words = [text.split() for text in texts[::30]]
    starts = [(each, rng.integers(0, max(1, len(each) - 1))) for each in words]
    vectors = embedder_of(index).embed([" ".join(each[at : at + n]) for n in (1, 2) for each, at in starts])
    vectors = vectors[vectors.any(1)]
    assert index.vectors.stats()["searches"] == 0
    near = index.query(vectors, 10, recall=0.95)
    every = index.query(vectors, 10, exact=True)
    return np.mean([
        np.mean([hit.distance <= all_[-1].distance + 1e-5 for hit in some])
        for some, all_ in zip(near, every, strict=True)
    ])  # fmt: skip


def has_lists(index):
    return index.vectors.stats()["lists"] > 1 and not index.vectors.stats()["growing"]


def test_the_first_questions_are_answered_with_the_recall_that_is_asked(fs, rng):
    """When nobody has asked before, and embedded anew, too; lists calibrated by rows found 0.9 of them."""
    texts = list(passages(12_000, 250))
    index = fs.index("d", embedder="default")
    for k, text in enumerate(texts):
        if k % 500 == 0:
            fs.makedirs(f"d/{k // 500}")
        fs.write_text(f"d/{k // 500}/{k}.txt", text)
    assert fs.ingest.wait(240)
    until(lambda: has_lists(index), 240)
    assert share_found(index, texts, rng) >= 0.935
    again = fs.reembed("d")
    assert has_lists(again)
    assert share_found(again, texts, rng) >= 0.935


WORDS = "one two three four five six seven"


class Model:
    """Vectors of one number each."""

    def __init__(self, fails=False):
        self.fails, self.asked = fails, []

    def embed(self, texts):
        self.asked.append(texts)
        if self.fails:
            raise RuntimeError("it fails")
        return np.float32([[0, 0, 0], *[[len(text), 1, 0] for text in texts[1:]]])


@pytest.mark.parametrize("fails", [False, True])
def test_questions_are_made_up_whenever_an_index_has_doubled(fails):
    model, rehearsal = Model(fails), Rehearsal(VectorIndex(3, "cosine", "f32"))
    rehearsal.hear([Chunk(WORDS)] * (FROM - 1), model)
    assert not model.asked
    for _ in range(QUESTIONS - 1):
        rehearsal.hear([Chunk(WORDS)], model)
    assert not model.asked
    rehearsal.hear([Chunk(WORDS)], model)
    assert [len(questions) for questions in model.asked] == [QUESTIONS]
    assert all(question in WORDS and len(question.split()) <= 5 for question in model.asked[0])
    rehearsal.hear([Chunk(WORDS)] * FROM, model)  # one file with many passages, and not yet twice as many
    assert len(model.asked) == 1
    rehearsal.hear([Chunk(WORDS)] * FROM, model)
    assert [len(questions) for questions in model.asked] == [QUESTIONS] * 2
