"""The tests of search by text, on a volume at a node."""

import pytest

import vexfs
from tests.search.test_textsearch import *  # noqa: F403
from tests.search.test_textsearch import filled

# Of no volume:
del test_fusion_by_hand, test_scores_do_not_depend_on_how_far_lists_are_looked_at  # noqa: F821
del test_scores_of_what_lies_behind_are_those_of_the_whole_list  # noqa: F821


@pytest.fixture(scope="module")
def fs(served):
    """A remote volume with the library, which is taken away at the end."""
    with vexfs.connect(served.url, served.token) as volume:
        filled(volume)
        yield volume
        volume.drop_index("docs/travel")
        volume.drop_index("docs")
        volume.rmtree("docs")


def test_ingest_is_told_and_retried(fs):
    fs.write_bytes("docs/picture.png", b"\x89PNG")
    assert fs.ingest.wait(120)
    told = fs.ingest.status()
    assert told["state"] == "idle" and told["backlog"] == 0 and told["files"] >= 6
    index = fs.index("docs")
    assert [each["path"] for each in fs.ingest.status_of(index)["aside"]] == ["/docs/picture.png"]
    assert fs.ingest.retry(index) == 1
    assert fs.ingest.wait(120) and fs.ingest.retry(index.path) == 1
    fs.remove("docs/picture.png")


def test_a_reranker_that_the_node_does_not_know(fs):
    with pytest.raises(vexfs.errors.VexfsError, match="no rerankers named 'magic'"):
        fs.search("water", rerank="magic")
