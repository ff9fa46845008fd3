"""An index that is dropped while a search is at it: the others answer as if it had never been."""

import pytest

import vexfs
from tests.search.test_ingest import counted
from vexfs.errors import IndexMissing


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
        assert made.ingest.wait(60)
        yield made


@pytest.mark.parametrize("mode", ["semantic", "hybrid"])
def test_a_search_above_it_goes_on_without_it(fs, mode):
    assert [hit.path for hit in fs.search("roast", mode=mode)] == ["/docs/a.txt"]


def test_a_search_of_it_alone_says_that_there_is_none(fs):
    with pytest.raises(IndexMissing):
        fs.search("roast", under="late")
