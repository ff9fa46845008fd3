"""The tests of embedding anew, on a volume at a node; and the endpoint itself."""

import threading

import pytest

from tests.search.test_reembed import *  # noqa: F403
from tests.search.test_reembed import WORDS, counted, named, until
from vexfs.errors import IndexConflict, InvalidArgument
from vexfs.remote.link import Refused

del test_a_function_of_this_program, test_a_newer_version_of_the_model  # noqa: F821 - a program of its own, its state
del test_a_newer_version_of_a_function  # noqa: F821 - a function of its own
# What happens between two steps happens where they are made.
del test_what_left_meanwhile_is_found_where_it_is, test_vectors_that_were_given_are_not_lost  # noqa: F821


@pytest.fixture
def fs(served, fs):
    for index in fs.indexes():
        fs.drop_index(index.path)
    for n in range(200):
        served.node.volume.write_text(f"docs/{n}.txt", f"{WORDS[n % 4]} number {n}")
    fs.index("docs", embedder="default")
    assert fs.ingest.wait(120)
    yield fs
    for index in fs.indexes():
        fs.drop_index(index.path)
    fs.rmtree("docs")


def test_a_function_cannot_be_sent(fs):
    for call in (lambda: fs.reembed("docs", counted), lambda: fs.index("other", embedder=counted)):
        with pytest.raises(InvalidArgument, match="cannot run there"):
            call()


def test_somebody_else_ends_it(fs):
    holding, going, failure = threading.Event(), threading.Event(), []

    def slow(texts):
        if len(texts) > 1:
            holding.set()
            assert going.wait(120)
        return counted(texts)

    def work():
        try:
            fs.reembed("docs", model)
        except IndexConflict as error:
            failure.append(error)

    model = named(slow)
    thread = threading.Thread(target=work)
    thread.start()
    assert holding.wait(120)
    told = fs.index("docs").describe()["reembedding"]
    assert told == {"embedder": model, "done": 0, "total": 200}
    (number,) = [each for each, work in served_works(fs).items() if not work.over]
    ender = threading.Thread(target=fs.wire.ask, args=("DELETE", f"/v1/reembed/{number}"))
    ender.start()
    until(served_works(fs)[number]._stop.is_set)
    going.set()
    thread.join(120)
    ender.join(120)
    assert "ended by somebody else" in str(failure[0])
    assert fs.wire.ask("GET", f"/v1/reembed/{number}")["state"] == "stopped"
    assert fs.indexes()[0].dim == 256


def served_works(fs):
    return fs.node.extras["http.renewals"]._all


@pytest.fixture(autouse=True)
def _node(served, fs):
    fs.node = served.node


def test_only_for_those_who_may(served, fs):
    import vexfs

    reader = served.node.tokens.create("r", ["read"])[0]
    with vexfs.connect(served.url, reader) as other, pytest.raises(Refused, match="scope 'write'"):
        other.reembed("docs")
    elsewhere = served.node.tokens.create("e", ["read", "write"], ["/e"])[0]
    with vexfs.connect(served.url, elsewhere) as other:
        with pytest.raises(PermissionError):
            other.reembed("docs")
        fs.reembed("docs")
        number = list(served_works(fs))[-1]
        with pytest.raises(PermissionError):
            other.wire.ask("GET", f"/v1/reembed/{number}")
    with pytest.raises(Refused, match="no re-embedding 'x'"):
        fs.wire.ask("GET", "/v1/reembed/x")
