"""Standing queries: told of files that match from now on."""

import threading

import pytest

import vexfs
from vexfs.errors import QueryInvalid


@pytest.fixture
def fs(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as made:
        made.write_text("docs/old.txt", "An old passport.")
        made.index("docs", embedder="default")
        assert made.ingest.wait(20)
        yield made


def test_new_and_changed_files_are_told(fs):
    with fs.watch("passport renewal", threshold=0.3) as standing:
        fs.write_text("docs/a.txt", "How to renew a passport.")
        fs.write_text("docs/b.txt", "Bread and butter.")
        assert fs.ingest.wait(20)
        hit = standing.take(5)
        assert hit.path == "/docs/a.txt" and hit.score >= 0.3 and "renew" in hit.text
        assert standing.take(0.1) is None
        fs.write_text("docs/b.txt", "Passport renewal and bread.")
        assert fs.ingest.wait(20)
        assert standing.take(5).path == "/docs/b.txt"


def test_scope_and_filter(fs):
    fs.makedirs("docs/in")
    with fs.watch("passport", threshold=0.2, under="docs/in", where={"lang": "en"}) as standing:
        for place, lang in [("docs/a.txt", "en"), ("docs/in/b.txt", "de"), ("docs/in/c.txt", "en")]:
            fs.touch(place)
            fs.attributes(place)["lang"] = lang
            fs.write_text(place, "A passport.")
        assert fs.ingest.wait(20)
        assert standing.take(5).path == "/docs/in/c.txt"
        assert standing.take(0.1) is None


def test_a_callback_and_one_that_fails(fs):
    told = []

    def failing(hit):
        raise RuntimeError("not my day")

    with fs.watch("passport", threshold=0.2, call=failing), fs.watch("passport", threshold=0.2, call=told.append):
        fs.write_text("docs/a.txt", "A passport.")
        assert fs.ingest.wait(20)
    assert [hit.path for hit in told] == ["/docs/a.txt"]
    fs.write_text("docs/b.txt", "A passport.")
    assert fs.ingest.wait(20)
    assert len(told) == 1


def test_closing_ends_whoever_iterates(fs):
    standing, seen = fs.watch("passport", threshold=0.2), []
    thread = threading.Thread(target=lambda: seen.extend(standing))
    thread.start()
    fs.write_text("docs/a.txt", "A passport.")
    assert fs.ingest.wait(20)
    standing.close()
    thread.join(10)
    assert not thread.is_alive() and [hit.id for hit in seen] == ["a.txt"]


def test_what_makes_no_sense_is_refused(fs):
    for options in ({"query": " "}, {"query": "x", "threshold": 3}):
        with pytest.raises(QueryInvalid):
            fs.watch(options.pop("query"), **options)
