"""Search by text on a real volume: modes, scopes, filters, passages, scores, re-rankers."""

import json
import pickle

import numpy as np
import pytest

import vexfs
from vexfs.errors import IndexMissing, InvalidArgument, QueryInvalid
from vexfs.registry import registry
from vexfs.search.textsearch import CONSTANT, DEPTH, fuse

LIBRARY = {
    "docs/coffee/roasts.md": "# Roasts\n\nLight roasts keep acidity; dark roasts are bitter and heavy.",
    "docs/coffee/water.md": "# Water\n\nFilter hard water before you brew espresso at 93 degrees.",
    "docs/travel/passport.txt": "How to renew a passport: bring a photo and the old one.",
    "docs/bread.txt": "Sourdough needs flour, water, salt and time.",
    "docs/page.html": "<html><body><h1>Bicycles</h1><p>Oil the <b>chain</b> &amp; check the gears.</p></body></html>",
}
FILLER = "Nothing of interest happens in this sentence about gardens and rain. " * 12 + "\n\n"


@pytest.fixture(scope="module")
def fs(tmp_path_factory):
    with vexfs.open(tmp_path_factory.mktemp("v") / "v.vex") as made:
        filled(made)
        yield made


def filled(volume):
    """The library, indexed; also of a volume that is elsewhere."""
    for path, text in LIBRARY.items():
        volume.write_text(path, text)
    long = FILLER * 3 + "The wombat digs a burrow with its claws.\n\n" + FILLER * 3 + "A wombat has cubic dung.\n"
    volume.write_text("docs/long.md", long)
    volume.attributes("docs/bread.txt")["year"] = 2021
    volume.attributes("docs/coffee/water.md")["year"] = 2019
    volume.index("docs", embedder="default")
    volume.index("docs/travel", embedder="default")
    assert volume.ingest.wait(120)


def names(hits):
    return [hit.id for hit in hits]


def test_every_mode_finds_what_it_is_for(fs):
    assert names(fs.search("documents for travelling abroad", k=1, mode="semantic")) == ["passport.txt"]
    assert names(fs.search("sourdough", mode="keyword")) == ["bread.txt"]
    assert names(fs.search('"hard water"', mode="keyword")) == ["water.md"]
    assert names(fs.search("espr*", mode="keyword")) == ["water.md"]
    assert names(fs.search("water -salt", mode="keyword")) == ["water.md"]
    assert names(fs.search("renew my passport"))[0] == "passport.txt"


def test_a_name_of_a_file_is_among_its_words(fs):
    assert names(fs.search("roasts.md", mode="keyword"))[0] == "roasts.md"


def test_a_pickled_hit_has_all_but_its_index(fs):
    hits = fs.search("wombat", explain=True)
    again = pickle.loads(pickle.dumps(hits))
    assert [hit.as_dict() for hit in again] == [hit.as_dict() for hit in hits] and again[0].others
    assert [hit.lines for hit in again] == [hit.lines for hit in hits] and again[0].lines
    assert again.explanation == hits.explanation and getattr(again[0], "index", None) is None
    assert pickle.loads(pickle.dumps(again))[0].as_dict() == hits[0].as_dict()


def test_scope_and_filter(fs):
    assert set(names(fs.search("water", under="docs/coffee"))) == {"water.md", "roasts.md"}
    assert names(fs.search("water", where={"year": {"$gte": 2020}})) == ["bread.txt"]
    assert names(fs.search("water", where={"$path": "*.txt"}, under="docs", mode="keyword")) == ["bread.txt"]
    assert names(fs.search("passport", under="docs/travel")) == ["passport.txt"]
    assert fs.search("water", where={"year": 1900}) == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
def test_the_end_of_the_last_line_begins_no_other(fs, encoding):
    fs.write_bytes("docs/beans.csv", "name;taste\nzanzibar;clove\nbrazil;nuts\n".encode(encoding))
    assert fs.ingest.wait(120)
    (hit,) = fs.search("zanzibar", mode="keyword")
    assert hit.lines == (1, 3)
    fs.remove("docs/beans.csv")
    assert fs.ingest.wait(120)


def test_passages_are_told_with_bytes_and_lines(fs):
    (hit,) = fs.search("wombat burrow", k=1)
    data = fs.read_bytes("docs/long.md")
    assert hit.path == "/docs/long.md" and "wombat digs a burrow" in hit.text
    assert data[hit.span[0] : hit.span[1]].decode() == hit.text
    first, last = hit.lines
    assert "burrow" in "\n".join(data.decode().split("\n")[first - 1 : last])
    assert any("cubic dung" in other.text for other in hit.others)
    assert {other.ino for other in hit.others} == {hit.ino}


def test_text_of_formats_that_are_not_text(fs):
    hit = fs.search("chain gears bicycle", k=1)[0]
    assert hit.id == "page.html" and "Oil the chain & check the gears." in hit.text and "<b>" not in hit.text


def test_one_file_is_one_hit(fs):
    hits = fs.search("wombat garden rain", k=10)
    assert len({hit.ino for hit in hits}) == len(hits)


def test_scores_mean_the_same_from_call_to_call(fs):
    for mode in ("hybrid", "semantic", "keyword"):
        first = {hit.path: hit.score for hit in fs.search("water", k=6, mode=mode)}
        again = {hit.path: hit.score for hit in fs.search("water", k=2, mode=mode)}
        assert again.items() <= first.items(), mode
    hits = fs.search("renew passport photo", k=5)
    assert hits[0].score == pytest.approx(1) and all(0 < hit.score <= 1 for hit in hits)
    semantic = fs.search("renew passport photo", k=5, mode="semantic")
    assert [hit.score for hit in semantic] == pytest.approx([1 - hit.distance for hit in semantic], abs=1e-6)
    assert sorted((hit.score for hit in hits), reverse=True) == [hit.score for hit in hits]


def test_threshold(fs):
    scores = [hit.score for hit in fs.search("espresso", mode="semantic")]
    assert len(fs.search("espresso", mode="semantic", threshold=scores[0] - 1e-6)) == 1
    assert fs.search("espresso", mode="semantic", threshold=0.999) == []


def test_answers_are_json(fs):
    for mode in ("hybrid", "semantic", "keyword"):
        hits = fs.search("water wombat", mode=mode, explain=True)
        told = json.loads(json.dumps([hit.as_dict() for hit in hits], allow_nan=False))
        assert told[0]["path"] == hits[0].path and told[0]["text"]
        assert json.dumps(hits.explanation)


def test_what_cannot_be_searched_is_refused(fs, tmp_path):
    for bad in ({"query": " "}, {"query": "x", "mode": "magic"}, {"query": "x", "k": 0}, {"query": "x" * 200_000}):
        with pytest.raises(QueryInvalid):
            fs.search(bad.pop("query"), **bad)
    with pytest.raises(FileNotFoundError):
        fs.search("x", under="nowhere")
    with vexfs.open(tmp_path / "v.vex") as other:
        with pytest.raises(IndexMissing, match="embedder"):
            other.search("x")
        other.index("docs", dim=3)
        with pytest.raises(IndexMissing, match="embedder"):
            other.search("x", under="docs")
        with pytest.raises(InvalidArgument, match="no embedder"):
            vexfs.search.textindex.embedder_of(other.indexes()[0])


@pytest.mark.parametrize("mode", ["hybrid", "semantic", "keyword"])
def test_a_file_that_has_all_the_best_passages_leaves_room_for_others(fs, mode):
    fs.write_text("docs/long.log", "galaxies and telescopes observed tonight.\n\n" * 4000)
    for k in range(12):
        fs.write_text(f"docs/star{k}.txt", f"Notes, page {k}: one of the telescopes saw galaxies far away.")
    try:
        assert fs.ingest.wait(120)
        hits = fs.search("galaxies telescopes", k=10, mode=mode)
        assert len(hits) == 10 and len(set(names(hits))) == 10
        assert max(len(hit.others) for hit in hits) <= 100
        assert len(fs.search("galaxies telescopes", k=10, mode=mode, where={"$path": "*.log"})) == 1
    finally:
        fs.remove("docs/long.log")
        for k in range(12):
            fs.remove(f"docs/star{k}.txt")
        assert fs.ingest.wait(120)


def test_rerankers(fs):
    def by_length(query, texts):
        assert query == "water" and all(texts)
        return [len(text) for text in texts]

    hits = fs.search("water", k=2, rerank=by_length)
    assert len(hits) == 2 and hits[0].id == "long.md" and hits[0].score >= hits[1].score
    registry("rerankers").add("shortest", lambda query, texts: [-len(text) for text in texts])
    try:
        assert fs.search("water", k=1, rerank="shortest")[0].id == "page.html"
    finally:
        registry("rerankers")._loaded.pop("shortest")
    with pytest.raises(QueryInvalid, match="scores of shape"):
        fs.search("water", rerank=lambda query, texts: [1.0])
    with pytest.raises(QueryInvalid, match="not finite"):
        fs.search("water", rerank=lambda query, texts: [float("nan")] * len(texts))
    with pytest.raises(QueryInvalid, match="can be called"):
        fs.search("water", rerank=5)


def test_files_like_another_one(fs):
    fs.write_text("docs/coffee/filter.md", "Filter the water and brew espresso at 92 degrees.")
    assert fs.ingest.wait(120)
    assert names(fs.similar("docs/coffee/filter.md", k=1)) == ["water.md"]
    assert names(fs.similar("docs/coffee/filter.md", k=1, where={"year": 2021})) == ["bread.txt"]
    fs.remove("docs/coffee/filter.md")


def test_fusion_by_hand():
    a, b = np.array([5, 7, 9], np.uint32), np.array([9, 5, 3], np.uint32)
    away = np.array([0.1, 0.2, 0.3], np.float32)
    rows, scores, distances = fuse(a, away, b, 0.4)
    c = CONSTANT
    want = {5: 0.4 / (c + 1) + 1 / (c + 2), 7: 0.4 / (c + 2), 9: 0.4 / (c + 3) + 1 / (c + 1), 3: 1 / (c + 3)}
    most = 1.4 / (CONSTANT + 1)
    assert rows.tolist() == [9, 5, 3, 7]
    np.testing.assert_allclose(scores, [want[row] / most for row in rows.tolist()], rtol=1e-6)
    np.testing.assert_array_equal(distances, np.float32([0.3, 0.1, np.nan, 0.2]))
    assert [len(part) for part in fuse(a[:0], away[:0], b[:0], 1)] == [0, 0, 0]
    assert [each.tolist() for each in fuse(a, away, b[:0], 1)[::2]] == [[5, 7, 9], away.tolist()]
    assert fuse(a[:0], away[:0], b, 1)[0].tolist() == [9, 5, 3]
    assert fuse(a, away, a[::-1].copy(), 1)[0].tolist() == [5, 9, 7]  # rows of one score ascend
    with pytest.raises(ValueError, match="2 distances for 3 rows"):
        fuse(a, away[:2], b, 1)


def test_scores_do_not_depend_on_how_far_lists_are_looked_at(rng):
    a, b = (rng.permutation(400).astype(np.uint32) for _ in range(2))
    away = np.arange(400, dtype=np.float32)

    def scored(depth):
        rows, scores, distances = fuse(a[:depth], away[:depth], b[:depth], 0.3)
        where = {int(row): at for at, row in enumerate(a[:depth])}
        np.testing.assert_array_equal(distances, np.float32([where.get(row, np.nan) for row in rows.tolist()]))
        return dict(zip(rows.tolist(), scores.tolist(), strict=True))

    whole = scored(400)
    assert len(whole) == 400
    before = []
    for depth in (DEPTH, 2 * DEPTH, 5 * DEPTH, 400):
        found = scored(depth)
        assert found == {row: whole[row] for row in found}
        assert list(found)[: len(before)] == before
        before = list(found)[:DEPTH]


def test_scores_of_what_lies_behind_are_those_of_the_whole_list(rng):
    a, b = (rng.permutation(200).astype(np.uint32) for _ in range(2))
    away = np.zeros(200, np.float32)
    whole = fuse(a, away, b, 0.3)
    beyond = set(range(200)) - set(a[:50].tolist()) - set(b[:50].tolist())
    scores = dict(zip(whole[0].tolist(), whole[1].tolist(), strict=True))
    behind = fuse(a[50:], away[50:], b[50:], 0.3, 50)
    assert {r: s for r, s in zip(*(each.tolist() for each in behind[:2]), strict=True) if r in beyond} == {
        r: scores[r] for r in beyond
    }


def test_a_passage_is_of_the_volume_that_was_searched(tmp_path):
    for number in range(10):  # objects of a volume that was closed leave their place in memory to those of the next
        with vexfs.open(tmp_path / str(number)) as fs:
            fs.index("d", embedder="default")
            fs.write_bytes("d/a.txt", f"passport {number}".encode("utf-32"))
            assert fs.ingest.wait(120)
            assert [hit.text for hit in fs.search("passport", under="d")] == [f"passport {number}"]


@pytest.mark.parametrize("text", ["renew the passport soon", "новый паспорт", "паспорт"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_the_passage_of_a_file_in_wide_letters_is_its_text(tmp_path, text, encoding):
    if not text.isascii() and encoding.startswith("utf-16-"):
        text = f"\ufeff{text}"  # without a mark only Western text can be told
    with vexfs.open(tmp_path / "v") as fs:
        fs.index("d", embedder="default")
        fs.write_bytes("d/a.txt", text.encode(encoding))
        assert fs.ingest.wait(120)
        (hit,) = fs.search(text.lstrip("\ufeff"), under="d", mode="keyword")
        assert hit.text == text.lstrip("\ufeff")


def test_why_nothing_is_like_it(fs):
    fs.write_bytes("docs/picture.png", b"\x89PNG")
    assert fs.ingest.wait(120)
    with pytest.raises(IndexMissing, match="set aside: a .png file holds no text"):
        fs.similar("docs/picture.png")
    fs.write_bytes("docs/nothing.txt", b"")
    with pytest.raises(IndexMissing, match="it is empty"):
        fs.similar("docs/nothing.txt")
    fs.unlink("docs/nothing.txt")
    with pytest.raises(IsADirectoryError, match="is a directory"):
        fs.similar("docs/coffee")
    fs.unlink("docs/picture.png")
