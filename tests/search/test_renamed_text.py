"""Text of files that get other names: words of the name follow, and nothing else is made anew without need."""

import threading

import numpy as np
import pytest

from vexfs.search import ingest


class Counting:
    """A model that tells what it was asked, and waits where it is told to."""

    def __init__(self):
        self.seen, self.begun, self.go = [], threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, texts):
        self.seen += texts
        self.begun.set()
        assert self.go.wait(120)
        return np.array([[1.0, len(text) % 7, text.count("e")] for text in texts])

    def of(self, word):
        return sum(word in text for text in self.seen)


@pytest.fixture
def model():
    return Counting()


@pytest.fixture
def notes(fs, model):
    return fs.index("notes", embedder=model)


def settled(fs):
    assert fs.ingest.wait(120), fs.ingest.status()


def found(fs, words):
    return [hit.path for hit in fs.search(words, under="notes", mode="keyword")]


def test_words_of_the_new_name_are_found_and_those_of_the_old_are_not(fs, notes, model):
    fs.write_text("notes/draft.txt", "an elephant\n\n" + "and many other words. " * 300)
    settled(fs)
    asked = len(model.seen)
    before = notes.query([1, 2, 3], 1)[0]
    fs.rename("notes/draft.txt", "notes/invoice.txt")
    assert found(fs, "elephant") == ["/notes/invoice.txt"]  # at any moment
    settled(fs)
    assert found(fs, "invoice") == ["/notes/invoice.txt"] and found(fs, "draft") == []
    assert found(fs, "elephant") == ["/notes/invoice.txt"] and len(model.seen) == asked
    after = notes.query([1, 2, 3], 1)[0]
    assert (after.distance, after.span, after.text) == (before.distance, before.span, before.text)
    fs.rename("notes/invoice.txt", "notes/deeper.txt")
    fs.mkdir("notes/d")
    fs.rename("notes/deeper.txt", "notes/d/deeper.txt")
    settled(fs)
    assert found(fs, "deeper") == ["/notes/d/deeper.txt"] and found(fs, "invoice") == []


def test_a_name_that_came_before_the_volume_was_closed(fs, reopen):
    fs.index("notes", embedder="static")
    fs.write_text("notes/draft.txt", "an elephant")
    settled(fs)
    fs.ingest.close()
    fs.rename("notes/draft.txt", "notes/invoice.txt")
    again = reopen()
    settled(again)
    assert found(again, "invoice") == ["/notes/invoice.txt"] and found(again, "draft") == []


@pytest.mark.usefixtures("notes")
def test_a_suffix_that_says_another_kind_has_the_file_read_anew(fs):
    fs.write_text("notes/page.txt", "<html><body><script>giraffe()</script><p>an elephant</p></body></html>")
    settled(fs)
    assert found(fs, "giraffe") == ["/notes/page.txt"]
    fs.rename("notes/page.txt", "notes/page.html")
    settled(fs)
    assert found(fs, "elephant") == ["/notes/page.html"] and found(fs, "giraffe") == []
    fs.rename("notes/page.html", "notes/page.png")
    settled(fs)
    assert found(fs, "elephant") == [] and len(fs.index("notes")) == 0


@pytest.mark.usefixtures("notes")
def test_a_name_that_comes_while_the_text_is_with_the_model(fs, model):
    model.go.clear()
    model.begun.clear()
    fs.write_text("notes/draft.txt", "an elephant")
    assert model.begun.wait(120)
    fs.rename("notes/draft.txt", "notes/invoice.txt")
    model.go.set()
    settled(fs)
    assert found(fs, "invoice") == ["/notes/invoice.txt"] and found(fs, "draft") == []


def test_a_vector_that_is_given_while_the_text_is_with_the_model_stays(fs, notes, model):
    model.go.clear()
    model.begun.clear()
    fs.write_text("notes/a.txt", "an elephant")
    assert model.begun.wait(120)
    notes.upsert(["a.txt"], [[3, -4, 5]])
    model.go.set()
    settled(fs)
    assert notes.get("a.txt").vector.tolist() == [3, -4, 5] and len(notes) == 1


def test_files_that_are_embedded_anew_while_they_get_names(fs, model):
    fs.index("notes", embedder=model)
    for name in ("draft", "other"):
        fs.write_text(f"notes/{name}.txt", f"an elephant in the {name}")
    settled(fs)

    def renames(texts):
        if fs.exists("notes/draft.txt"):
            fs.rename("notes/draft.txt", "notes/invoice.txt")
        return np.array([[1.0, len(text) % 7, 2, 3] for text in texts])

    fs.reembed("notes", renames)
    settled(fs)
    assert found(fs, "invoice") == ["/notes/invoice.txt"] and sorted(found(fs, "elephant")) == [
        "/notes/invoice.txt", "/notes/other.txt",
    ]  # fmt: skip


def test_an_index_that_is_dropped_while_a_renamed_file_is_read(fs, notes, model, monkeypatch, caplog):
    fs.write_text("notes/draft.txt", "an elephant")
    settled(fs)
    read = ingest.passages

    def drops(index, *given):
        made = read(index, *given)
        if index is notes:
            fs.drop_index("notes")
        return made

    monkeypatch.setattr(ingest, "passages", drops)
    fs.rename("notes/draft.txt", "notes/invoice.txt")
    settled(fs)
    fs.index("notes", embedder=model)
    settled(fs)
    assert found(fs, "invoice") == ["/notes/invoice.txt"]
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_file_that_loses_one_of_its_names_is_found_by_the_words_of_the_other(fs, notes):
    fs.write_text("notes/draft.txt", "an elephant")
    fs.write_text("notes/plain.txt", "a giraffe")
    settled(fs)
    fs.filesystem.link(b"notes/draft.txt", b"notes/invoice.txt")
    fs.filesystem.link(b"notes/plain.txt", b"notes/plain.png")
    fs.remove("notes/draft.txt")
    fs.remove("notes/plain.txt")
    assert found(fs, "elephant") == ["/notes/invoice.txt"]  # at any moment
    settled(fs)
    assert found(fs, "invoice elephant") == ["/notes/invoice.txt"] and found(fs, "draft") == []
    assert found(fs, "giraffe") == [] and fs.ingest.status()["without_text"] == 1
