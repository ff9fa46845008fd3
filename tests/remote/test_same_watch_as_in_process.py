"""The tests of standing queries, on a volume at a node; and what only a connection can do."""

import pytest

import vexfs
from tests.remote.conftest import Served
from tests.search.test_standing import *  # noqa: F403
from tests.search.test_standing import ended_by_closing, until
from vexfs.errors import NotSupported, Unreachable
from vexfs.remote.link import Refused

del test_a_file_that_a_callback_writes_is_told_in_turn  # noqa: F821 - here by another thread, so it is told next
del test_another_model_of_the_same_name_is_asked_anew  # noqa: F821 - by functions of this program


@pytest.fixture
def fs(fs):
    for index in fs.indexes():
        fs.drop_index(index.path)
    fs.write_text("docs/old.txt", "An old passport.")
    fs.index("docs", embedder="default")
    assert fs.ingest.wait(120)
    yield fs
    for index in fs.indexes():
        fs.drop_index(index.path)
    fs.rmtree("docs")


def test_hits_have_attributes_lines_and_text(fs):
    with fs.watch("passport", threshold=0.2) as standing, fs.watch("passport", threshold=0.2, attributes=False) as bare:
        fs.touch("docs/a.txt")
        fs.attributes("docs/a.txt")["lang"] = "en"
        fs.write_text("docs/a.txt", "One line.\n\nA passport.\n")
        assert fs.ingest.wait(120)
        hit = standing.take(120)
        assert hit.attributes == {"lang": "en"} and "passport" in hit.text and hit.lines == (1, 3)
        assert bare.take(120).attributes == {}


def test_a_token_that_is_revoked_ends_it(served, fs):
    text, token = served.node.tokens.create("brief", ["read"], ["/docs"])
    with vexfs.connect(served.url, text) as other:
        with pytest.raises(PermissionError, match="the token is for /docs"):
            other.watch("passport")
        standing = other.watch("passport", under="docs", threshold=0.2)
        served.node.tokens.revoke(token.id)
        with pytest.raises(PermissionError, match="token"):
            standing.take(120)
        assert isinstance(standing.fault, Refused)
        with pytest.raises(PermissionError, match="token"):
            other.watch("passport", under="docs")
        standing.close()
        assert standing.take(120) is None


def test_closing_the_volume_ends_whoever_iterates(served):
    fs = vexfs.connect(served.url, served.token)
    ended_by_closing(fs)
    with vexfs.connect(served.url, served.token) as again:
        again.rmtree("points")


def test_a_node_that_stops_is_told(tmp_path):
    node = Served(tmp_path)
    with vexfs.connect(node.url, node.token) as fs:
        fs.index("points", dim=2)
        standing = fs.watch([1, 0])
        fs.index("points").upsert(["a"], [[1, 0]])
        until(lambda: not standing._hits.empty())
        node.stop()
        assert standing.take(120).id == "a"
        with pytest.raises(Unreachable, match="stopping"):
            standing.take(120)
        with pytest.raises(Unreachable):
            next(iter(standing))


def test_a_node_without_subscriptions(tmp_path):
    node = Served(tmp_path, "api.websocket_enabled=false")
    with vexfs.connect(node.url, node.token) as fs:
        with pytest.raises(NotSupported, match=r"api\.websocket_enabled"):
            fs.watch("passport")
    node.stop()
