"""Standing queries: told of files that match from now on."""

import threading

import pytest

import vexfs
from tests.waiting import until
from vexfs.errors import FilterInvalid, QueryInvalid


@pytest.fixture
def fs(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as made:
        made.write_text("docs/old.txt", "An old passport.")
        made.index("docs", embedder="default")
        assert made.ingest.wait(120)
        yield made


def test_new_and_changed_files_are_told(fs):
    with fs.watch("passport renewal", threshold=0.3) as standing:
        fs.write_text("docs/a.txt", "How to renew a passport.")
        fs.write_text("docs/b.txt", "Bread and butter.")
        assert fs.ingest.wait(120)
        hit = standing.take(120)
        assert hit.path == "/docs/a.txt" and hit.score >= 0.3 and "renew" in hit.text
        assert standing.take(0.1) is None
        fs.write_text("docs/b.txt", "Passport renewal and bread.")
        assert fs.ingest.wait(120)
        assert standing.take(120).path == "/docs/b.txt"


def test_scope_and_filter(fs):
    fs.makedirs("docs/in")
    with fs.watch("passport", threshold=0.2, under="docs/in", where={"lang": "en"}) as standing:
        for place, lang in [("docs/a.txt", "en"), ("docs/in/b.txt", "de"), ("docs/in/c.txt", "en")]:
            fs.touch(place)
            fs.attributes(place)["lang"] = lang
            fs.write_text(place, "A passport.")
        assert fs.ingest.wait(120)
        assert standing.take(120).path == "/docs/in/c.txt"
        assert standing.take(0.1) is None


def test_a_callback_and_one_that_fails(fs):
    told = []

    def failing(hit):
        raise RuntimeError("not my day")

    with fs.watch("passport", threshold=0.2, call=failing), fs.watch("passport", threshold=0.2, call=told.append):
        fs.write_text("docs/a.txt", "A passport.")
        assert fs.ingest.wait(120)
        until(lambda: told)
    assert [hit.path for hit in told] == ["/docs/a.txt"]
    fs.write_text("docs/b.txt", "A passport.")
    assert fs.ingest.wait(120)
    assert len(told) == 1


def test_closing_ends_whoever_iterates(fs):
    standing, seen = fs.watch("passport", threshold=0.2), []
    thread = threading.Thread(target=lambda: seen.extend(standing))
    thread.start()
    fs.write_text("docs/a.txt", "A passport.")
    assert fs.ingest.wait(120)
    until(lambda: seen)
    standing.close()
    thread.join(120)
    assert not thread.is_alive() and [hit.id for hit in seen] == ["a.txt"]


def test_closing_the_volume_does_too(tmp_path):
    ended_by_closing(vexfs.open(tmp_path / "other.vex"))


def ended_by_closing(fs):
    fs.index("points", dim=2)
    standing, seen = fs.watch([1, 0]), []
    thread = threading.Thread(target=lambda: seen.extend(standing))
    thread.start()
    fs.index("points").upsert(["a"], [[1, 0]])
    until(lambda: seen)
    fs.close()
    thread.join(120)
    assert not thread.is_alive() and standing.take(120) is None


def test_what_makes_no_sense_is_refused(fs):
    for options in ({"query": " "}, {"query": "x", "threshold": 3}, {"query": [[1, 2]]}, {"query": [0, 0]},
                    {"query": [1], "threshold": float("nan")}):  # fmt: skip
        with pytest.raises(QueryInvalid):
            fs.watch(options.pop("query"), **options)
    with pytest.raises(FilterInvalid, match="magic"):
        fs.watch("x", where={"year": {"$magic": 1}})
    with pytest.raises(FileNotFoundError):
        fs.watch("x", under="nowhere")


def test_vectors_are_told_by_whoever_writes_them(fs):
    points, told = fs.index("points", dim=3, metric="l2"), []
    with fs.watch([1, 0, 0], threshold=0.5, call=told.append) as standing:
        points.upsert(["near", "far"], [[1, 0.5, 0], [5, 5, 5]])
        until(lambda: told)
        assert [(hit.path, pytest.approx(hit.score)) for hit in told] == [("/points/near", 1 / 1.5)]
        points.update(["far"], [[1, 0, 0]])
        points.update(["far"], attributes=[{"seen": True}])
        until(lambda: len(told) == 2)
    assert [hit.id for hit in told] == ["near", "far"] and standing.lost == 0


def test_each_metric_has_its_own_score(fs):
    for metric, row, score in (("cosine", [2, 4], 1.0), ("dot", [2, 2], 6.0), ("l2", [0, 0], 1 / (1 + 5**0.5))):
        fs.index(metric, dim=2, metric=metric)
        with fs.watch([1, 2], threshold=0.2, under=metric) as standing:
            fs.index(metric).upsert(["a"], [row])
            assert standing.take(120).score == pytest.approx(score)


def test_many_records_at_once_are_told_best_first_and_filtered(fs):
    points = fs.index("points", dim=2)
    where = {"$or": [{"n": {"$gte": 3}}, {"$path": "*.keep"}]}
    with fs.watch([1, 0], threshold=0, where=where) as standing:
        points.upsert([f"{i}" for i in range(5)] + ["x.keep"], [[1, i] for i in range(5)] + [[1, 9]],
                      [{"n": i} for i in range(6)])  # fmt: skip
        assert [standing.take(120).id for _ in range(3)] == ["3", "4", "x.keep"]
        assert standing.take(0.05) is None


def test_a_file_that_a_callback_writes_is_told_in_turn(fs):
    points = fs.index("points", dim=2)

    def call(hit):
        if hit.id == "a":
            points.upsert(["b"], [[1, 0]])
        told.append(hit.id)

    told = []
    with fs.watch([1, 0], call=call):
        points.upsert(["a"], [[1, 0]])
    assert told == ["b", "a"]


def test_embedding_anew_is_no_news(fs):
    with fs.watch("passport", threshold=0.2) as standing:
        fs.reembed("docs")
        assert fs.ingest.wait(120)
        assert standing.take(0.2) is None
        fs.write_text("docs/old.txt", "A passport again.")
        assert fs.ingest.wait(120)
        assert standing.take(120).path == "/docs/old.txt"


def test_another_model_of_the_same_name_is_asked_anew(fs):
    """After a directory was embedded anew, new text is compared with the question as the new model has it."""

    def versioned(version, dim):
        def model(texts):
            return [[0.01 + (dim - k if "coffee" in text else k) for k in range(dim)] for text in texts]

        model.version = str(version)
        return model

    fs.reembed("docs", versioned(1, 3))
    with fs.watch("coffee", threshold=0.99) as standing:
        fs.write_text("docs/a.txt", "coffee")
        assert fs.ingest.wait(120) and standing.take(120).path == "/docs/a.txt"
        fs.reembed("docs", versioned(2, 5))
        fs.write_text("docs/b.txt", "coffee")
        assert fs.ingest.wait(120) and standing.take(120).path == "/docs/b.txt"


def test_a_directory_that_was_removed_is_told_of_nothing_and_no_fault(fs, caplog):
    fs.mkdir("docs/in")
    with fs.watch("passport", threshold=0.2, under="docs/in") as standing:
        fs.rmdir("docs/in")
        fs.write_text("docs/a.txt", "A passport.")
        assert fs.ingest.wait(120) and standing.take(0.2) is None
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
