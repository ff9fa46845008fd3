"""Indexes of a real volume: records in, files out."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vexfs.errors import (
    Exists,
    IndexConflict,
    IndexMissing,
    InvalidArgument,
    NoSpace,
    NotADirectory,
    NotFound,
    QueryInvalid,
    VectorInvalid,
)


def nearest(vectors, q, k, among=None):
    """Exact, as ids."""
    among = np.arange(len(vectors)) if among is None else np.asarray(among, np.intp)
    order = np.argsort(1 - vectors[among] @ q, kind="stable")[:k]
    return [f"p{i:03d}" for i in among[order]]


def ids(hits):
    return [hit.id for hit in hits]


# -- records are files


def test_a_record_is_a_file(fs, papers, vectors):
    assert len(papers) == 500
    assert sorted(fs.listdir("papers")) == [f"p{k:03d}" for k in range(500)]
    assert fs.listdir("/") == ["papers"]
    assert dict(fs.attributes("papers/p004")) == {"year": 2004, "lang": "en"}
    assert np.frombuffer(fs.getxattr("papers/p004", "user.vexfs.vector"), "<f4") == pytest.approx(vectors[4])


def test_removing_a_file_removes_it_from_the_results(fs, papers, vectors):
    assert ids(papers.query(vectors[7], 1)) == ["p007"]
    fs.remove("papers/p007")
    assert "p007" not in ids(papers.query(vectors[7], 500))
    assert len(papers) == 499 and papers.get("p007") is None


def test_a_renamed_file_is_found_under_its_name(fs, papers, vectors):
    fs.makedirs("papers/deep/er")
    fs.rename("papers/p007", "papers/deep/er/moved")
    assert papers.query(vectors[7], 1)[0].path == "/papers/deep/er/moved"
    fs.rename("papers", "renamed")
    assert papers.query(vectors[7], 1)[0].path == "/renamed/deep/er/moved"
    assert papers.path == "/renamed"


def test_attributes_of_hits_and_records(papers, vectors):
    hit = papers.query(vectors[5], 1)[0]
    assert hit.attributes == {"year": 2005, "lang": "en"} and hit.score == pytest.approx(1, abs=1e-5)
    record = papers.get("p005")
    assert record.attributes == hit.attributes and record.vector == pytest.approx(vectors[5])
    assert [r and r.id for r in papers.get(["p001", "none", "p002"])] == ["p001", None, "p002"]
    assert papers.get(["p001", "p002"]) == papers.get(["p001", "p002"]) != papers.get(["p002", "p001"])


def test_contents_and_ids_with_directories(fs, vectors):
    index = fs.index("notes", dim=32)
    big = b"x" * 10_000
    index.upsert(["a/one", "b/two", "three"], vectors[:3], contents=["text", big, None])
    assert fs.read_bytes("notes/a/one") == b"text" and fs.read_bytes("notes/b/two") == big
    assert fs.read_bytes("notes/three") == b""
    index.upsert(["a/one", "b/two"], vectors[:2], contents=[b"now longer " * 1000, "short"])
    assert fs.read_bytes("notes/b/two") == b"short" and len(fs.read_bytes("notes/a/one")) == 11_000
    assert index.query(vectors[1], 1)[0].path == "/notes/b/two"


# -- putting


@pytest.mark.parametrize("kind", ["by name", "pandas", "Arrow"])
def test_attributes_from_a_table(fs, vectors, kind):
    """What is missing in a column is no attribute."""
    columns = {"year": [2020, 2021], "note": ["x", None], "score": [float("nan"), 0.5]}
    if kind == "pandas":
        columns = pytest.importorskip("pandas").DataFrame(columns)
    if kind == "Arrow":
        columns = pytest.importorskip("pyarrow").table(columns)
    index = fs.index("tables", dim=vectors.shape[1])
    index.upsert(["a", "b"], vectors[:2], columns)
    assert dict(index.get("a").attributes) == {"year": 2020, "note": "x"}
    assert dict(index.get("b").attributes) == {"year": 2021, "score": 0.5}
    with pytest.raises(InvalidArgument, match="'year' has 2 values for 3 records"):
        index.upsert(["a", "b", "c"], vectors[:3], columns)


def test_upsert_replaces(papers, vectors):
    papers.upsert(["p000"], [-vectors[0]], [{"year": 1}])
    assert len(papers) == 500
    assert ids(papers.query(-vectors[0], 1)) == ["p000"]
    assert papers.get("p000").attributes == {"year": 1, "lang": "de"}
    assert papers.query(vectors[0], 500)[-1].id == "p000"


def test_add_refuses_what_exists_and_stores_nothing(fs, papers, vectors):
    with pytest.raises(Exists):
        papers.add(["new1", "p003", "new2"], vectors[:3])
    assert not fs.exists("papers/new1") and len(papers) == 500
    papers.add(["new1"], vectors[:1])
    assert len(papers) == 501


def test_a_batch_of_several_directories_is_one_change(fs, papers, vectors):
    names = ["a/one", "b/two", "three", "a/four"]
    papers.add(names[1:2], vectors[:1])
    with pytest.raises(Exists, match="two"):
        papers.add(names, vectors[:4])
    with pytest.raises(NotFound, match="none"):
        papers.update(["p001", "b/none"], vectors[:2])
    fs.write_text("papers/file", "no directory")
    with pytest.raises(NotADirectory):
        papers.upsert(["a/one", "file/x"], vectors[:2])
    assert len(papers) == 501 and papers.get("a/one") is None and ids(papers.query(vectors[1], 1)) == ["p001"]
    report = papers.upsert([*names, "file/x"], vectors[10:15], errors="report")
    assert [type(e).__name__ if e else None for e in report] == [None, None, None, None, "NotADirectory"]
    assert all((papers.get(name).vector == vectors[10 + k]).all() for k, name in enumerate(names))


def test_update_wants_what_exists(fs, papers, vectors):
    with pytest.raises(NotFound):
        papers.update(["p001", "none"], attributes=[{"year": 9}, {"year": 9}])
    assert papers.get("p001").attributes["year"] == 2001
    papers.update(["p001"], attributes=[{"year": 9}])
    assert papers.count({"year": 9}) == 1
    papers.update(["p001"], vectors=[-vectors[1]])
    assert ids(papers.query(-vectors[1], 1)) == ["p001"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((["a", "b"], [[1] * 32, [np.nan] * 32]), VectorInvalid),
        ((["a", "b"], [[1] * 32, [0] * 32]), VectorInvalid),
        ((["a", "b"], [[1] * 31, [2] * 31]), VectorInvalid),
        ((["a"], [[1] * 32, [2] * 32]), VectorInvalid),
        ((["a", "a"], [[1] * 32, [2] * 32]), InvalidArgument),
        ((["a", "../b"], [[1] * 32, [2] * 32]), InvalidArgument),
        ((["a", "b"], [[1] * 32, [2] * 32], [{}, {"x": [1]}]), InvalidArgument),
    ],
)
def test_a_bad_batch_stores_nothing(fs, arguments, error):
    index = fs.index("i", dim=32)
    with pytest.raises(error):
        index.upsert(*arguments)
    assert fs.listdir("i") == [] and len(index) == 0


def test_attributes_that_are_too_many_are_told_as_that(fs):
    fs.write_text("f", "x")
    for k in range(15):
        fs.setxattr("f", f"user.{k}", bytes(65536))
    with pytest.raises(NoSpace, match="attributes of a file are too many: 1 MiB in all"):
        fs.setxattr("f", "user.more", bytes(65536))
    with pytest.raises(NoSpace, match="too many"):
        fs.index("many", dim=2).upsert(["a"], np.ones((1, 2)), [{f"k{k}": "x" * 60_000 for k in range(20)}])
    fs.setxattr("f", "user.14", bytes(4))
    fs.setxattr("f", "user.more", bytes(65536))


def test_per_record_results_when_asked_for(fs, vectors):
    index = fs.index("i", dim=32)
    fs.mkdir("i/dir")
    x = vectors[:4].copy()
    x[1] = np.nan
    report = index.upsert(["a", "b", "dir", "d"], x, errors="report")
    assert [type(e).__name__ if e else None for e in report] == [None, "VectorInvalid", "IsADirectory", None]
    assert sorted(fs.listdir("i")) == ["a", "d", "dir"] and len(index) == 2


def test_delete_by_id_and_by_filter(fs, papers):
    assert papers.delete(["p000", "p001", "none"]) == 2
    assert papers.delete(where={"year": 2002}) == 25
    assert len(papers) == 473 == len(fs.listdir("papers"))
    with pytest.raises(InvalidArgument):
        papers.delete()


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "i8"])
@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
def test_metrics_and_types(fs, vectors, metric, dtype):
    index = fs.index("i", dim=32, metric=metric, dtype=dtype)
    x = vectors * np.linspace(0.5, 2, len(vectors), dtype=np.float32)[:, None]
    index.upsert([f"p{k:03d}" for k in range(600)], x)
    q = vectors[17] * 1.3
    distance = {"cosine": 1 - vectors @ vectors[17], "l2": np.linalg.norm(x - q, axis=1), "dot": -(x @ q)}[metric]
    hits = index.query(q, 20)
    truth = {f"p{k:03d}" for k in np.argsort(distance)[:20]}
    assert len(truth & set(ids(hits))) >= (18 if dtype in ("i8", "bf16") else 20)
    by_id = {f"p{k:03d}": d for k, d in enumerate(distance)}
    assert [h.distance for h in hits] == pytest.approx([by_id[h.id] for h in hits], abs=0.03)
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)


# -- searching


def test_queries_answer_the_nearest(papers, vectors):
    for q in vectors[500:520]:
        assert ids(papers.query(q, 10)) == nearest(vectors[:500], q, 10)
    many = papers.query(vectors[500:503], 5)
    assert [ids(h) for h in many] == [nearest(vectors[:500], q, 5) for q in vectors[500:503]]


@pytest.mark.parametrize(
    ("where", "test"),
    [
        ({"lang": "de"}, lambda k: k % 3 == 0),
        ({"year": {"$gte": 2015}, "lang": {"$ne": "de"}}, lambda k: k % 20 >= 15 and k % 3),
        ({"$or": [{"year": 2001}, {"$path": "p00*"}]}, lambda k: k % 20 == 1 or k < 10),
        ({"$path": "p123"}, lambda k: k == 123),
        ({"year": {"$exists": True}}, lambda k: True),
        ({"none": 1}, lambda k: False),
    ],
)
def test_filters_at_any_selectivity(papers, vectors, where, test):
    among = [k for k in range(500) if test(k)]
    assert papers.count(where) == len(among)
    for q in vectors[500:505]:
        assert ids(papers.query(q, 10, where=where)) == nearest(vectors[:500], q, 10, among)


def test_a_filter_sees_changes_at_once(fs, papers, vectors):
    assert papers.count({"lang": "de"}) == 167
    fs.attributes("papers/p001")["lang"] = "de"
    fs.removexattr("papers/p000", "user.lang")
    fs.remove("papers/p003")
    assert papers.count({"lang": "de"}) == 166
    assert ids(papers.query(vectors[1], 1, where={"lang": "de"})) == ["p001"]
    papers.upsert(["p006", "new"], vectors[6:8], [{"lang": "fr"}, {"lang": "de"}])
    assert papers.count({"lang": "de"}) == 166


def test_scopes(fs, papers, vectors):
    fs.makedirs("papers/a/b")
    for k in range(10):
        fs.rename(f"papers/p{k:03d}", f"papers/a/{'b/' if k % 2 else ''}p{k:03d}")
    assert papers.count(under="papers/a") == 10 and papers.count(under="papers/a/b") == 5
    found = ids(papers.query(vectors[0], 99, under="papers/a/b"))
    assert found == nearest(vectors[:500], vectors[0], 5, [1, 3, 5, 7, 9])
    fs.rename("papers/a/b", "papers/c")
    assert papers.count(under="papers/a") == 5
    assert ids(fs.search(vectors[1], 1, under="papers/c")) == ["p001"]


def test_by_distance(papers, vectors):
    hits = papers.query(vectors[3], 500, threshold=0.3)
    truth = (1 - vectors[:500] @ vectors[3]) <= 0.3
    assert len(hits) == truth.sum() and all(h.distance <= 0.3 for h in hits)


def test_similar_files(fs, papers, vectors):
    hits = fs.similar("papers/p042", 5)
    assert ids(hits) == nearest(vectors[:500], vectors[42], 6)[1:]


@pytest.mark.parametrize("options", [{"k": 0}, {"k": 10_001}, {"k": True}, {"k": 1.5}, {"recall": 0}, {"recall": 2}])
def test_what_cannot_be_asked(papers, vectors, options):
    with pytest.raises(QueryInvalid):
        papers.query(vectors[0], **options)


def test_wrong_queries(fs, papers):
    with pytest.raises(VectorInvalid, match="dimension 32"):
        papers.query([1.0, 2.0])
    with pytest.raises(QueryInvalid, match="dimension 32"):
        fs.search(np.ones(31))
    fs.mkdir("other")
    with pytest.raises(IndexMissing):
        fs.search(np.ones(32), under="other")
    fs.write_text("papers/plain", "no vector")
    with pytest.raises(IndexMissing):
        fs.similar("papers/plain")


def test_a_query_means_the_same_in_every_form(papers, vectors):
    """The usual one, one float32 array without a filter, goes a shorter way."""
    wide = np.empty((32, 2), np.float32)
    wide[:, 0] = vectors[505]
    forms = [vectors[505], vectors[505].tolist(), vectors[505].astype(np.float64), wide[:, 0], vectors[505:506]]
    answers = [papers.query(q, k, recall=recall) for q in forms for k in (10, np.int64(10)) for recall in (0.95, 1)]
    told = [[(hit.path, hit.score, hit.attributes) for hit in (a[0] if len(a) == 1 else a)] for a in answers]
    assert len(told[0]) == 10 and all(each == told[0] for each in told)


def test_a_file_of_several_passages_is_one_hit(fs, papers, vectors):
    fs.write_text("papers/p600", "two passages")
    file = papers.filesystem.stat("papers/p600")
    papers.put_chunks(file.st_ino, file.generation, [(0, 3), (4, 12)], ["two", "passages"], vectors[[505, 505]])
    assert [(hit.id, len(hit.others)) for hit in papers.query(vectors[505], 1)] == [("p600", 1)]


def test_k_beyond_what_there_is(papers, vectors):
    assert len(papers.query(vectors[0], 10_000)) == 500
    assert papers.query(vectors[0], 5, where={"year": 1900}) == []


def test_no_queries_have_no_answers(papers, vectors):
    assert papers.query(vectors[:0], 5) == [] and papers.query(vectors[:0], 5, where={"lang": "de"}, explain=True) == []


def test_explained(papers, vectors):
    hits = papers.query(vectors[0], 5, where={"lang": "de"}, explain=True)
    assert hits.explanation["candidates"] == 167 and hits.explanation["filter"] == "mask"
    assert papers.query(vectors[0], 5, where={"year": 2000}, explain=True).explanation["filter"] == "rows"
    assert papers.query(vectors[0], 5).explanation is None


def test_as_arrow(papers, vectors):
    table = papers.query(vectors[0], 3).to_arrow()
    assert table.column("id").to_pylist()[0] == "p000" and "year" in table.column_names


# -- indexes


def test_an_index_is_made_once(fs, papers):
    assert fs.index("papers") is papers and fs.index("/papers/", dim=32) is papers
    for options in ({"dim": 31}, {"metric": "dot"}, {"dtype": "i8"}):
        with pytest.raises(IndexConflict):
            fs.index("papers", **options)
    assert fs.index("papers", metric="cos") is papers


@pytest.mark.parametrize(
    "options",
    [{}, {"dim": 0}, {"dim": 65_537}, {"dim": 1.5}, {"dim": 3, "metric": "manhattan"}, {"dim": 3, "dtype": "f64"}],
)
def test_indexes_that_cannot_be(fs, options):
    with pytest.raises(InvalidArgument):
        fs.index("i", **options)
    assert fs.indexes() == []


def test_a_file_has_no_index(fs):
    fs.write_text("file", "x")
    with pytest.raises(InvalidArgument, match="is a file"):
        fs.index("file", dim=3)


def test_dropping(fs, papers, vectors):
    fs.drop_index("papers")
    assert fs.indexes() == [] and len(fs.listdir("papers")) == 500
    with pytest.raises(OSError):
        fs.getxattr("papers/p000", "user.vexfs.vector")
    with pytest.raises(IndexMissing):
        fs.drop_index("papers")
    assert fs.index("papers", dim=7).count() == 0


def test_dimensions_at_the_edges(fs):
    one = fs.index("one", dim=1, metric="l2")
    one.upsert(["a", "b"], [[1.0], [5.0]])
    assert ids(one.query([4.0], 2)) == ["b", "a"]
    wide = fs.index("wide", dim=65_536, metric="dot", dtype="f16")
    x = np.zeros((2, 65_536), np.float32)
    x[0, 0], x[1, -1] = 1, 1
    wide.upsert(["first", "last"], x)
    assert ids(wide.query(x[1], 1)) == ["last"]


# -- life


def test_reopening(fs, reopen, papers, vectors):
    fs.remove("papers/p000")
    before = papers.query(vectors[500:520], 10)
    again = reopen()
    index = again.index("papers")
    assert len(index) == 499 and index.get("p001").vector == pytest.approx(vectors[1])
    after = index.query(vectors[500:520], 10)
    assert [ids(hits) for hits in after] == [ids(hits) for hits in before]
    for one, other in zip(before, after, strict=True):
        assert [h.score for h in other] == pytest.approx([h.score for h in one], abs=1e-6)
    assert index.count({"lang": "de"}) == 166


def test_read_only(reopen, papers, vectors):
    index = reopen(read_only=True).index("papers")
    assert ids(index.query(vectors[3], 1)) == ["p003"]
    with pytest.raises(OSError):
        index.upsert(["x"], vectors[:1])


def test_readers_while_a_writer_works(fs, papers, vectors):
    stop, wrong = threading.Event(), []

    def read():
        while not stop.is_set():
            hits = papers.query(vectors[400], 1)
            if ids(hits) != ["p400"]:
                wrong.append(ids(hits))

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for k in range(300):
                papers.upsert([f"p{k:03d}"], vectors[k : k + 1], [{"round": 2}])
                if k % 3 == 0:
                    fs.remove(f"papers/p{k:03d}")
        finally:
            stop.set()
        for reader in readers:
            reader.result()
    assert wrong == [] and papers.count({"round": 2}) == 200 and len(papers) == 400
