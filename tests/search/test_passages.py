"""Passages of files: rows that are made from content and go when it changes."""

import numpy as np
import pytest

import vexfs
from tests.waiting import until


def chunks(fs, index, path, texts, vectors):
    stat = fs.stat(path)
    spans, at = [], 0
    for text in texts:
        spans.append((at, at + len(text)))
        at += len(text)
    return index.put_chunks(stat.st_ino, stat.generation, spans, texts, vectors)


@pytest.fixture
def notes(fs, vectors):
    index = fs.index("notes", dim=32)
    for k in range(6):
        texts = [f"passage {k} first word{k} ", f"second part of note {k} about tea"]
        fs.write_text(f"notes/n{k}", "".join(texts))
        assert chunks(fs, index, f"notes/n{k}", texts, vectors[2 * k : 2 * k + 2])
    return index


def test_a_file_is_found_once_with_its_best_passage(fs, notes, vectors):
    hits = notes.query(vectors[3], 6)
    assert len(hits) == 6 and hits[0].id == "n1" and len(notes) == 6
    text = fs.read_bytes("notes/n1")
    start, end = hits[0].span
    assert text[start:end] == b"second part of note 1 about tea" and len(hits[0].others) == 1


def test_words_find_rows(notes):
    rows, scores = notes.words.search("word3", 5)
    assert len(rows) == 1
    hits = notes.hits(rows, scores, -scores, 5)
    assert hits[0].id == "n3"
    assert len(notes.words.search("tea", 10)[0]) == 6


def test_changed_content_is_not_found(fs, notes, vectors):
    fs.write_text("notes/n2", "all new")
    assert "n2" not in [h.id for h in notes.query(vectors[4], 6)]
    assert len(notes.words.search("tea", 10)[0]) == 5
    assert not notes.put_chunks(fs.stat("notes/n2").st_ino, 1, [(0, 1)], ["x"], vectors[:1])
    assert chunks(fs, notes, "notes/n2", ["all new"], vectors[4:5])
    assert notes.query(vectors[4], 1)[0].id == "n2" and len(notes) == 6


def test_generations(fs, notes, vectors):
    ino = fs.stat("notes/n0").st_ino
    assert notes.generation_of(ino) == fs.stat("notes/n0").generation
    with fs.open("notes/n0", "a") as file:
        file.write("more")
    assert notes.generation_of(ino) != fs.stat("notes/n0").generation
    assert chunks(fs, notes, "notes/n0", [], np.empty((0, 32))) and notes.generation_of(ino) is None
    assert sorted(notes.files()) == sorted(fs.stat(f"notes/n{k}").st_ino for k in range(1, 6))


def test_passages_survive_reopening(fs, reopen, notes, vectors):
    fs.remove("notes/n5")
    fs.write_text("notes/n4", "changed")
    again = reopen().index("notes")
    assert len(again) == 4 and len(again.words.search("tea", 10)[0]) == 4
    assert again.query(vectors[3], 1)[0].id == "n1"


def test_a_file_that_comes_back_is_read_again(fs, notes):
    fs.rename("notes/n1", "out")
    assert len(notes) == 5 and len(notes.words.search("tea", 10)[0]) == 5
    fs.rename("out", "notes/n1")
    assert len(notes) == 5 and notes.generation_of(fs.stat("notes/n1").st_ino) is None


def test_given_vectors_do_not_depend_on_content(fs, notes, vectors):
    notes.upsert(["given"], vectors[20:21])
    fs.write_text("notes/given", "text")
    assert notes.query(vectors[20], 1)[0].id == "given"


def test_copies_do_not_carry_what_was_made_of_content(fs, notes):
    assert "user.vexfs.vector" not in fs.listxattr("notes/n1")
    assert len(fs.getxattr("notes/n1", "user.vexfs.vector")) == 128


def test_snapshots_and_a_log_that_is_rewritten(fs, reopen, vectors, monkeypatch):
    from vexfs.search import index as module
    from vexfs.search import snapshot

    monkeypatch.setattr(module, "CLOSING_ROWS", 1)
    monkeypatch.setattr(snapshot, "LOG_BYTES", 100)
    made = fs.index("notes", dim=32)
    for again in range(4):
        for k in range(20):
            fs.write_text(f"notes/n{k}", f"round{again} note{k} tea")
            assert chunks(fs, made, f"notes/n{k}", [f"round{again} note{k} tea"], vectors[k : k + 1])
    second = reopen()
    until(lambda: second.filesystem.stat(".vexfs/index-1/words").st_size < 1500)  # of 2900 that were written
    assert all(second.filesystem.stat(f".vexfs/index-1/{name}") for name in ("snapshot", "snapshot-words"))
    index = second.index("notes")
    assert len(index.words.search("tea", 100)[0]) == 20 and len(index.words.search("round2", 100)[0]) == 0
    second.write_text("notes/n3", "other words")
    assert chunks(second, index, "notes/n3", ["other words"], vectors[3:4])
    second.remove("notes/n4")
    third = reopen().index("notes")
    assert len(third.words.search("tea", 100)[0]) == 18 and len(third.words.search("other", 100)[0]) == 1
    assert third.query(vectors[3], 1)[0].id == "n3" and len(third) == 19


@pytest.mark.parametrize("name", ["snapshot", "snapshot-words"])
def test_a_damaged_snapshot_costs_nothing_but_time(fs, reopen, notes, vectors, monkeypatch, name):
    from vexfs.search import index as module

    monkeypatch.setattr(module, "CLOSING_ROWS", 1)
    again = reopen()
    path = f".vexfs/index-1/{name}"
    whole = again.filesystem.read_file(path)
    for damaged in (b"", whole[:50], whole[: len(whole) // 2], whole[:-1], b"x" + whole[1:]):
        again.filesystem.write_file(path, damaged)
        monkeypatch.setattr(module, "CLOSING_ROWS", 10**9)
        again = reopen()
        index = again.index("notes")
        assert index.query(vectors[3], 1)[0].id == "n1" and len(index.words.search("tea", 10)[0]) == 6


def test_vectors_come_into_memory_after_a_snapshot(fs, reopen, vectors, monkeypatch):
    from vexfs.search import index as module
    from vexfs.search import loading

    monkeypatch.setattr(module, "CLOSING_ROWS", 1)
    monkeypatch.setattr(loading, "LOAD_BYTES", 64 * 128)
    fs.index("i", dim=32).upsert([f"f{k}" for k in range(600)], vectors)
    again = reopen()
    index = again.index("i")
    again.catalog.upkeep.wait()
    assert index.vectors.stats()["resident"] == 600 and index.query(vectors[7], 1)[0].id == "f7"
    reading = reopen(read_only=True).index("i")
    until(lambda: reading.vectors.stats()["resident"] == 600)
    monkeypatch.setattr(loading, "LOADED_SHARE", 0)
    third = reopen()
    third.catalog.upkeep.wait()
    assert third.index("i").vectors.stats()["resident"] == 0
    assert third.index("i").query(vectors[7], 1)[0].id == "f7"


def test_files_behind_some_with_more_passages_than_are_looked_at(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as volume:
        volume.index("docs", embedder="default")
        for k in range(2):
            long = (" ".join(f"coffee bean roast{n}w{j}" for j in range(44)) for n in range(6000))
            volume.write_text(f"docs/long{k}.txt", "\n\n".join(long))
        for n in range(5):
            volume.write_text(f"docs/{n}.txt", f"among bread and other things a word of coffee {n}")
        assert volume.ingest.wait(120)
        assert volume.indexes()[0].table.live > 10_005
        for mode in ("keyword", "semantic", "hybrid"):
            hits = volume.search("coffee", k=4, mode=mode)
            scores = [hit.score for hit in hits]
            assert {hit.id for hit in hits[:2]} == {"long0.txt", "long1.txt"} and len(hits) == 4
            assert scores == sorted(scores, reverse=True)


def test_a_file_that_left_meanwhile_is_not_taken(fs, notes, vectors):
    """It was read while it was below the directory, and is another index's when its passages are put."""
    fs.index("other", dim=32)
    fs.rename("notes/n1", "other/n1")
    assert not chunks(fs, notes, "other/n1", ["passage 1 first word1 "], vectors[2:3])
    fs.rename("notes/n2", "n2")
    assert not chunks(fs, notes, "n2", ["passage 2 first word2 "], vectors[4:5])
    fs.rename("notes/n3", "notes/n3.npy")
    assert not chunks(fs, notes, "notes/n3.npy", ["passage 3 first word3 "], vectors[6:7])
    assert {hit.id for hit in notes.query(vectors[2], 9)} == {"n0", "n4", "n5"}
    fs.rename("other/n1", "notes/n1")
    assert chunks(fs, notes, "notes/n1", ["passage 1 first word1 "], vectors[2:3])
