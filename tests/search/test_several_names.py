"""Files with several names: found as long as one of them lies in the index, by one that does."""

import numpy as np
import pytest

import vexfs
from tests.search.test_ingest import counted, found


@pytest.fixture
def fs(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as made:
        made.mkdir("plain")
        made.index("docs", embedder=counted)
        made.write_text("docs/a.txt", "roast beans")
        assert made.ingest.wait(120)
        yield made


def now(fs, question):
    assert fs.ingest.wait(120)
    found(fs, question)  # what moved is looked at
    assert fs.ingest.wait(120)
    return found(fs, question, mode="keyword")


def test_a_name_outside_changes_nothing(fs):
    fs.link("docs/a.txt", "plain/b.txt")
    assert now(fs, "roast") == ["/docs/a.txt"]
    fs.write_text("plain/b.txt", "yeast")
    assert now(fs, "roast") == [] and now(fs, "yeast") == ["/docs/a.txt"]
    fs.rename("plain/b.txt", "plain/c.txt")
    assert now(fs, "yeast") == ["/docs/a.txt"]
    assert found(fs, "yeast", under="docs") == ["/docs/a.txt"]


@pytest.mark.parametrize("how", ["removed", "renamed", "replaced", "moved with its directory", "exchanged"])
def test_another_name_inside_is_found(fs, how):
    fs.mkdir("docs/sub")
    fs.rename("docs/a.txt", "docs/sub/a.txt")
    fs.link("docs/sub/a.txt", "docs/b.txt")
    fs.link("docs/sub/a.txt", "plain/c.txt")
    fs.rename("docs/b.txt", "plain/b.txt")
    assert now(fs, "roast") == ["/docs/sub/a.txt"]
    fs.link("docs/sub/a.txt", "docs/d.txt")
    fs.write_text("other.txt", "yeast")
    if how == "removed":
        fs.remove("docs/d.txt")
    elif how == "renamed":
        fs.rename("docs/d.txt", "d.txt")
    elif how == "replaced":
        fs.rename("other.txt", "docs/d.txt")
    elif how == "exchanged":
        fs.filesystem.rename("docs/d.txt", "other.txt", 2)
    else:
        fs.mkdir("docs/last")
        fs.link("docs/sub/a.txt", "docs/last/e.txt")
        fs.remove("docs/d.txt")
        fs.rename("docs/last", "last")
    fs.stat("plain/c.txt")
    assert now(fs, "roast") == ["/docs/sub/a.txt"]
    assert found(fs, "roast", under="docs/sub") == ["/docs/sub/a.txt"]
    fs.remove("docs/sub/a.txt")
    assert now(fs, "roast") == []


@pytest.mark.parametrize("how", ["moved", "linked"])
def test_a_name_outside_that_is_given_while_one_inside_is_looked_for(fs, how):
    fs.link("docs/a.txt", "plain/b.txt")
    fs.link("docs/a.txt", "docs/c.txt")
    fs.remove("docs/c.txt")
    if how == "moved":
        fs.rename("plain/b.txt", "plain/d.txt")
    else:
        fs.link("plain/b.txt", "plain/d.txt")
    assert now(fs, "roast") == ["/docs/a.txt"]


def test_an_index_that_comes_or_goes_finds_the_names_inside(fs):
    fs.write_text("plain/b.txt", "yeast")
    fs.link("plain/b.txt", "c.txt")
    assert now(fs, "yeast") == []
    fs.index("plain", embedder=counted)
    assert now(fs, "yeast") == ["/plain/b.txt"]
    fs.link("plain/b.txt", "docs/b.txt")
    fs.drop_index("docs")
    assert now(fs, "yeast") == ["/plain/b.txt"]
    fs.mkdir("later")
    fs.link("docs/a.txt", "later/a.txt")
    fs.link("docs/a.txt", "a.txt")
    fs.rename("later", "plain/later")
    assert now(fs, "roast") == ["/plain/later/a.txt"]


def test_the_last_name_says_which_kind_of_file_it_is(fs):
    index = fs.index("docs", embedder=counted)
    fs.link("docs/a.txt", "docs/a.npy")
    assert now(fs, "roast") == []
    assert [each["path"] for each in index.describe()["ingest"]["aside"]] == ["/docs/a.npy"]
    fs.remove("docs/a.npy")
    assert now(fs, "roast") == ["/docs/a.txt"] and not index.describe()["ingest"]["aside"]
    fs.link("docs/a.txt", "plain/a.npy")
    assert now(fs, "roast") == ["/docs/a.txt"]
    with fs.open("docs/v.npy", "wb") as file:
        np.save(file, np.ones(index.dim, np.float32))
    assert index.query(np.ones(index.dim), 1)[0].path == "/docs/v.npy"
    fs.link("docs/v.npy", "docs/v.bin")
    assert now(fs, "roast") == ["/docs/a.txt"] and len(index) == 1
    fs.remove("docs/v.bin")
    assert index.query(np.ones(index.dim), 1)[0].path == "/docs/v.npy"


def test_many_names_that_go_are_looked_for_at_once(fs):
    for k in range(300):
        fs.write_text(f"plain/{k}.txt", f"yeast {k}")
        fs.link(f"plain/{k}.txt", f"docs/{k}.txt")
    for k in range(300):
        fs.remove(f"docs/{k}.txt")
    assert now(fs, "yeast") == [] and now(fs, "roast") == ["/docs/a.txt"]
    assert sorted(fs.listdir("plain")) == sorted(f"{k}.txt" for k in range(300))


def test_the_name_inside_is_known_when_the_volume_is_opened_again(fs, tmp_path):
    fs.link("docs/a.txt", "plain/b.txt")
    fs.index("plain/sub", embedder=counted)
    fs.link("plain/b.txt", "plain/sub/c.txt")
    fs.remove("docs/a.txt")
    assert now(fs, "roast") == ["/plain/sub/c.txt"]
    fs.close()
    with vexfs.open(tmp_path / "v.vex") as again:
        again.index("docs", embedder=counted)
        assert now(again, "roast") == ["/plain/sub/c.txt"]
        again.write_text("plain/b.txt", "flour")
        assert now(again, "flour") == ["/plain/sub/c.txt"]
