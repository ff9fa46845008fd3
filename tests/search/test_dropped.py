"""An index that is dropped while a search is at it: the others answer as if it had never been."""

import pytest

import vexfs
from tests.search.test_ingest import counted
from vexfs.errors import IndexMissing
from vexfs.search.across import told_of


@pytest.fixture
def fs(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as made:
        made.index("docs", embedder=counted)
        made.write_text("docs/a.txt", "roast beans")

        def dropping(texts):
            if texts == ["roast"] and len(made.indexes()) == 2:
                made.drop_index("late")
            return counted(texts)

        made.index("late", embedder=dropping)
        made.write_text("late/b.txt", "roast beans")
        assert made.ingest.wait(120)
        yield made


@pytest.mark.parametrize("mode", ["semantic", "hybrid"])
def test_a_search_above_it_goes_on_without_it(fs, mode):
    assert [hit.path for hit in fs.search("roast", mode=mode)] == ["/docs/a.txt"]


def test_a_list_leaves_it_out(fs):
    def path_of(index):
        if index.path == "/docs":
            fs.rmtree("late")
        return index.path

    assert told_of(fs.indexes(), path_of) == ["/docs"]
    fs.index("other", dim=2)

    def description_of(index):
        if index.path == "/docs":
            fs.drop_index("other")
        return index.describe()

    assert [each["path"] for each in told_of(fs.indexes(), description_of)] == ["/docs"]


def test_a_search_of_it_alone_says_that_there_is_none(fs):
    with pytest.raises(IndexMissing):
        fs.search("roast", under="late")
