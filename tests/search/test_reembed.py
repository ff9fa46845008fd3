"""Another model for the same text."""

import threading

import pytest

import vexfs
from vexfs.errors import IndexMissing
from vexfs.search import textindex

WORDS = ["coffee", "passport", "bread", "bicycle"]


def counted(texts):
    return [[text.lower().count(word) + 0.01 for word in WORDS] for text in texts]


@pytest.fixture
def fs(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as made:
        made.index("docs", embedder="default")
        for n in range(200):
            made.write_text(f"docs/{n}.txt", f"{WORDS[n % 4]} number {n}")
        assert made.ingest.wait(20)
        yield made


def test_old_vectors_answer_until_the_new_ones_are_there(fs):
    holding, going = threading.Event(), threading.Event()

    def slow(texts):
        if len(texts) > 1:
            holding.set()
            assert going.wait(20)
        return counted(texts)

    done = []
    thread = threading.Thread(target=lambda: done.append(fs.reembed("docs", slow)))
    thread.start()
    assert holding.wait(20)
    assert fs.search("coffee", k=3)[0].text.startswith("coffee")
    fs.write_text("docs/3.txt", "a passport instead")
    fs.remove("docs/7.txt")
    fs.write_text("docs/new.txt", "bread came meanwhile")
    going.set()
    thread.join(30)
    assert fs.ingest.wait(20)
    (index,) = done
    assert (index.dim, len(index)) == (4, 200)
    assert fs.indexes() == [index]
    assert fs.search("bicycle", k=100, mode="semantic")[0].id != "3.txt"
    assert {hit.id for hit in fs.search("meanwhile", mode="keyword")} == {"new.txt"}
    assert fs.search("passport", k=60, mode="semantic")[0].text.lower().count("passport") == 1


def test_a_newer_version_of_the_model(fs):
    (index,) = fs.indexes()
    index.keep(**{textindex.VERSION: "older"})
    seen = []
    fs.reembed("docs", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (200, 200)
    assert fs.search("coffee", k=1, mode="semantic")[0].text.startswith("coffee")


def test_ending_it_leaves_everything_as_it_was(fs):
    def enough(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fs.reembed("docs", counted, progress=enough)
    assert fs.indexes()[0].dim == 256 and fs.search("coffee", k=1)


def test_what_has_no_text_index_is_refused(fs):
    with pytest.raises(IndexMissing):
        fs.reembed("/")
    fs.index("plain", dim=3)
    with pytest.raises(IndexMissing):
        fs.reembed("plain")
