"""Requests that wait hold up no others, however many they are."""

import threading
import time

import pytest
from vexfs.frontends.http.api.reembed import Work
from vexfs.frontends.http.gate import LANES
from vexfs.frontends.http.route import WAIT

from tests.waiting import until
from vexfs.search.ingest import Ingest

MANY = 20


@pytest.fixture
def held(serve, monkeypatch):
    """A node where whatever can wait does so until the event is set."""
    served, go = serve("api.request_timeout=1h"), threading.Event()

    def model(texts):
        if "slow" in texts:
            go.wait(100)
        return [[1.0, 0.5] for _ in texts]

    fs = served.node.volume
    fs.index("/text", embedder=model)
    fs.write_text("/text/a.txt", "words")
    assert fs.ingest.wait(120)
    monkeypatch.setattr(Ingest, "wait", lambda self, timeout=None: go.wait(100))
    monkeypatch.setattr(Work, "wait", lambda self, timeout_s: go.wait(100))
    served.node.verb("node.sleep")(lambda node: go.wait(100))
    yield served, go
    go.set()


def asked(served, kind):
    """Method, path and body of a request that waits."""
    if kind == "reembed":
        begun = served.ask("POST", "/v1/reembed", {"index": "/text"}).json
        return "GET", f"/v1/reembed/{begun['id']}?wait_s=20", None
    return {
        "search": ("POST", "/v1/search", {"text": "slow"}), "ingest": ("POST", "/v1/ingest/wait", {"timeout_s": 20}),
        "verb": ("POST", "/v1/verbs/node.sleep", {}),
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["search", "ingest", "reembed", "verb"])
def test_many_who_wait_hold_up_nobody_else(held, kind):
    served, go = held
    gate, answers = served.node.services["rest"].service._gate, []
    wish = asked(served, kind)
    waiting = [threading.Thread(target=lambda: answers.append(served.ask(*wish).status)) for _ in range(MANY)]
    for each in waiting:
        each.start()
    until(lambda: gate.active == MANY)
    assert served.ask("PUT", "/v1/files/meanwhile", b"x").status == 201
    assert served.ask("GET", "/v1/files/meanwhile").body == b"x" and not answers
    go.set()
    for each in waiting:
        each.join()
    assert answers == [200] * MANY


def test_who_comes_when_all_wait_is_not_kept_longer_than_it_would_wait(held, monkeypatch):
    served, go = held
    gate, told = served.node.services["rest"].service._gate, []
    monkeypatch.setattr(Ingest, "wait", lambda self, timeout=None: told.append(timeout) or go.wait(100))
    wish = ("POST", "/v1/ingest/wait", {"timeout_s": 0.5})
    waiting = [threading.Thread(target=served.ask, args=wish) for _ in range(LANES[WAIT] + 1)]
    for each in waiting[:-1]:
        each.start()
    until(lambda: len(told) == LANES[WAIT])
    waiting[-1].start()
    until(lambda: gate.active == LANES[WAIT] + 1)
    came = time.monotonic()
    until(lambda: time.monotonic() - came > 0.5)
    go.set()
    for each in waiting:
        each.join()
    assert told[-1] == 0 and len(told) == LANES[WAIT] + 1
