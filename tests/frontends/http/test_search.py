import base64
import io
import threading
import time

import numpy as np
import pytest
from vexfs.frontends.http import feeds, websocket
from websockets.exceptions import ConnectionClosed

import vexfs
from tests.frontends.http.test_websocket import Listener
from tests.waiting import until
from vexfs.errors import IndexMissing


@pytest.fixture(scope="module")
def library(served):
    """An index of vectors, and one of texts."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(200, 16)).astype(np.float32)
    made = served.ask("PUT", "/v1/indexes/papers", {"dim": 16, "metric": "cosine"})
    assert made.status == 201 and made.json["dim"] == 16
    body = {
        "index": "/papers", "ids": [f"p{i}" for i in range(200)], "vectors": vectors.tolist(),
        "attributes": [{"year": 2000 + i % 20} for i in range(200)],
    }  # fmt: skip
    assert served.ask("POST", "/v1/upsert", body).json == {"count": 200}
    fs = served.node.volume
    fs.write_text("/notes/roasts.md", "Light roasts keep their acidity: bright, sour, floral coffee.\n")
    fs.write_text("/notes/bread.md", "A sourdough starter is fed with flour and water.\n")
    fs.index("/notes", embedder="default")
    fs.ingest.wait()
    return vectors


def test_nearest_in_every_form(served, library):
    q = library[7]
    exact = np.argsort(-(library @ q) / np.linalg.norm(library, axis=1))[:5]
    wanted = [f"p{i}" for i in exact]
    packed = base64.b64encode(q.tobytes()).decode()
    for vector in (q.tolist(), packed):
        body = {"index": "/papers", "vector": vector, "k": 5, "exact": True}
        hits = served.ask("POST", "/v1/query", body).json["hits"]
        assert [hit["id"] for hit in hits] == wanted and hits[0]["path"] == "/papers/p7"
        assert hits[0]["score"] == pytest.approx(1, abs=1e-5)
    raw = served.ask("POST", "/v1/query?index=/papers&k=5", q.tobytes(), {"Content-Type": "application/octet-stream"})
    assert [hit["id"] for hit in raw.json["hits"]] == wanted
    both = served.ask("POST", "/v1/query", {"index": "papers", "vectors": library[:3].tolist(), "k": 1}).json["results"]
    assert [each[0]["id"] for each in both] == ["p0", "p1", "p2"]


def test_filters_counts_records(served, library):
    q = library[7].tolist()
    hits = served.ask("POST", "/v1/query", {"index": "/papers", "vector": q, "where": {"year": {"$gte": 2015}}, "k": 50,
                                            "attributes": True}).json["hits"]  # fmt: skip
    assert hits and all(hit["attributes"]["year"] >= 2015 for hit in hits)
    assert served.ask("POST", "/v1/count", {"index": "/papers", "where": {"year": 2003}}).json == {"count": 10}
    (record,) = served.ask("POST", "/v1/get", {"index": "/papers", "ids": ["p3", "none"]}).json
    assert record["attributes"] == {"year": 2003}
    assert np.allclose(np.frombuffer(base64.b64decode(record["vector"]), "<f4"), library[3])
    one = {"index": "/papers", "ids": ["extra"], "vectors": [library[0].tolist()]}
    assert served.ask("POST", "/v1/upsert", one).status == 200
    assert served.ask("POST", "/v1/upsert", {**one, "mode": "add"}).status == 409
    assert served.ask("POST", "/v1/delete", {"index": "/papers", "ids": ["extra"]}).json == {"count": 1}
    assert not served.node.volume.exists("/papers/extra")


def test_text_and_example(served, library):
    for mode in ("hybrid", "semantic", "keyword"):
        hits = served.ask("POST", "/v1/search", {"text": "floral coffee", "mode": mode}).json["hits"]
        assert hits[0]["path"] == "/notes/roasts.md", mode
    assert "acidity" in hits[0]["text"]
    alike = served.ask("POST", "/v1/similar", {"path": "/papers/p7", "k": 3}).json["hits"]
    assert len(alike) == 3 and "/papers/p7" not in [hit["path"] for hit in alike]


def test_faults_are_told(served, library):
    q = library[0].tolist()
    for path, body, status in (
        ("query", {"index": "/papers", "vector": q[:5]}, 400), ("query", {"index": "/none", "vector": q}, 404),
        ("query", {"index": "/papers"}, 400), ("query", {"index": "/papers", "vector": q, "k": 0}, 400),
        ("query", {"index": "/papers", "vector": q, "where": {"$what": 1}}, 400),
        ("query", {"index": "/papers", "vector": [*q[:15], float("1e39")]}, 400),
        ("upsert", {"index": "/papers", "ids": ["a", "b"], "vectors": [q]}, 400),
        ("upsert", {"index": "/papers", "ids": ["../x"], "vectors": [q]}, 400),
        ("query", {"index": "/papers", "vectors": [q] * 101, "k": 10_000}, 400),
        ("upsert", {"index": "/papers", "ids": ["a"], "vectors": [q[:3]]}, 400),
        ("search", {"text": "x", "mode": "magic"}, 400), ("search", {}, 400), ("similar", {"path": "/none"}, 404),
        ("delete", {"index": "/papers"}, 400),
    ):  # fmt: skip
        got = served.ask("POST", f"/v1/{path}", body)
        assert got.status in (status, 422 if status == 400 else 0) and got.json["detail"], (path, body, got)
    assert not served.node.volume.exists("/x")
    raw = served.ask("POST", "/v1/query?index=/papers", b"123", {"Content-Type": "application/octet-stream"})
    assert raw.status == 400


def test_a_token_finds_only_below_its_paths(served, library):
    token = served.node.tokens.create("notes", ["read", "write"], ["/notes"])[0]
    hits = served.ask("POST", "/v1/search", {"text": "coffee"}, token=token).json["hits"]
    assert hits[0]["path"] == "/notes/roasts.md"
    assert [each["path"] for each in served.ask("GET", "/v1/indexes", token=token).json] == ["/notes"]
    q = library[0].tolist()
    for path, body in (
        ("query", {"index": "/papers", "vector": q}), ("search", {"text": "x", "under": "/papers"}),
        ("similar", {"path": "/papers/p1"}), ("upsert", {"index": "/papers", "ids": ["a"], "vectors": [q]}),
        ("count", {"index": "/papers"}), ("get", {"index": "/papers", "ids": ["p1"]}),
    ):  # fmt: skip
        assert served.ask("POST", f"/v1/{path}", body, token=token).status == 403, path
    assert served.ask("PUT", "/v1/indexes/papers", {}, token=token).status == 403
    assert served.ask("DELETE", "/v1/indexes/papers", token=token).status == 403


def test_over_connect_as_in_process(served, library):
    local = served.node.volume
    with vexfs.connect(served.url, served.token) as fs:
        ours, theirs = fs.index("papers"), local.index("papers")
        assert (ours.dim, ours.metric, ours.dtype, len(ours)) == (theirs.dim, theirs.metric, theirs.dtype, len(theirs))
        q = library[11]
        assert ours.query(q, k=5).paths == theirs.query(q, k=5).paths
        assert [h.paths for h in ours.query(library[:4], k=3)] == [h.paths for h in theirs.query(library[:4], k=3)]
        assert ours.query(q, k=5, where={"year": 2001}).paths == theirs.query(q, k=5, where={"year": 2001}).paths
        assert fs.search("floral coffee", k=1)[0].path == "/notes/roasts.md"
        assert fs.similar("/papers/p1", k=2).paths == local.similar("/papers/p1", k=2).paths
        made = fs.index("mine", dim=4, metric="l2")
        assert made.upsert(["a", "b"], np.eye(4)[:2], {"n": np.arange(2)}, ["text a", None]) == 2
        assert fs.read_text("mine/a") == "text a" and made.get("b").attributes == {"n": 1}
        assert np.allclose(made.get("a").vector, [1, 0, 0, 0]) and made.get(["x", "a"])[0] is None
        assert made.count({"n": {"$gt": 0}}) == 1 and made.delete(["a"]) == 1 and len(made) == 1
        assert {each.path for each in fs.indexes()} >= {"/mine", "/papers"}
        fs.drop_index("mine")
        assert "/mine" not in {each.path for each in fs.indexes()}
        with pytest.raises(IndexMissing):
            made.query(np.zeros(4))


def test_told_when_a_file_matches(served, library):
    with Listener(served) as client:
        client.say(action="subscribe", channel="search", id="s", text="sailing boats at sea", path="/notes",
                   threshold=0.4, where={"lang": {"$ne": "de"}}, attributes=True)  # fmt: skip
        client.hear("subscribed")
        fs = served.node.volume
        for name, lang in (("segel", "de"), ("boats", "en")):
            fs.touch(f"/notes/{name}.md")
            fs.attributes(f"/notes/{name}.md")["lang"] = lang
            fs.write_text(f"/notes/{name}.md", "The sailing boats left for the sea at dawn.\n")
        told = client.hear("event", 30)["data"]
        assert told["event"] == "match" and told["path"] == "/notes/boats.md" and "sailing" in told["text"]
        assert told["score"] >= 0.4 and told["attributes"]["lang"] == "en" and told["span"][0] == 0
        client.say(action="unsubscribe", id="s")
        client.hear("unsubscribed")
    assert not fs.catalog.standing
    fs.unlink("/notes/segel.md")
    fs.unlink("/notes/boats.md")


def test_told_at_once_when_a_vector_matches(served, library, monkeypatch):
    """No look at an interval: the writer itself tells."""
    monkeypatch.setattr(websocket, "TICK_S", 20.0)
    near, far = library[5] + 0.01, -library[5]
    with Listener(served) as client:
        client.say(action="subscribe", channel="search", id="v", vector=library[5].tolist(), path="/papers",
                   threshold=0.99)  # fmt: skip
        client.hear("subscribed")
        waits = []
        for turn in range(7):
            body = {"index": "/papers", "ids": [f"far{turn}", f"near{turn}"], "vectors": [far.tolist(), near.tolist()]}
            began = time.monotonic()
            assert served.ask("POST", "/v1/upsert", body).status == 200
            assert client.hear("event")["data"]["path"] == f"/papers/near{turn}"
            waits.append(time.monotonic() - began)
        assert sorted(waits)[3] < websocket.TICK_S / 2
        served.ask("POST", "/v1/delete", {"index": "/papers", "where": {"$path": "*ar?"}})
    until(lambda: not served.node.volume.catalog.standing)


def test_a_subscriber_hears_nothing_from_outside_its_paths(served, library):
    fs = served.node.volume
    fs.makedirs("/papers/mine")
    token = served.node.tokens.create("mine", ["read"], ["/papers/mine"])[0]
    q = library[9].tolist()
    with Listener(served, token) as client:
        client.say(action="subscribe", channel="search", id="a", vector=q, path="/papers")
        assert "the token is for" in client.hear("error")["detail"]
        client.say(action="subscribe", channel="search", id="a", vector=q, path="/papers/mine")
        client.hear("subscribed")
        fs.index("/papers").upsert(["outside", "mine/inside"], [library[9], library[9]])
        assert client.hear("event")["data"]["path"] == "/papers/mine/inside"
        fs.rename("/papers/mine", "/papers/theirs")
        fs.index("/papers").upsert(["theirs/moved"], [library[9]])
        with pytest.raises(TimeoutError):
            client.hear("event", 1)
    fs.rmtree("/papers/theirs")
    fs.remove("/papers/outside")


def test_whoever_reads_matches_too_slowly_is_dropped(served, library, monkeypatch):
    monkeypatch.setattr(feeds, "HELD", 5)
    wrote, news = threading.Event(), feeds.Matches.news
    monkeypatch.setattr(feeds.Matches, "news", lambda feed: [wrote.wait(250), news(feed)][1])
    with Listener(served) as client:
        client.say(action="subscribe", channel="search", id="s", vector=library[0].tolist(), threshold=-1)
        client.hear("subscribed")
        ids = [f"p{i}" for i in range(200)]
        served.node.volume.index("/papers").upsert(ids, library)
        wrote.set()
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                client.link.recv(timeout=120)
        assert closed.value.rcvd.code == websocket.SLOW and "more were lost" in closed.value.rcvd.reason


def test_questions_that_make_no_sense(served, library):
    with Listener(served) as client:
        for more, told in (
            ({"text": " "}, "empty"), ({"text": "x", "threshold": 2}, "cosine"), ({}, "text, or vector"),
            ({"vector": [0, 0]}, "not all zero"), ({"text": "x", "where": {"$what": 1}}, "$what"),
            ({"text": "x", "path": "/nowhere"}, "nowhere"), ({"text": "x", "k": 3}, "unknown field `k`"),
        ):  # fmt: skip
            client.say(action="subscribe", channel="search", id="bad", **more)
            assert told in client.hear("error")["detail"], more
    assert not served.node.volume.catalog.standing


def test_an_array_that_is_put_is_vectors(served, library):
    out = io.BytesIO()
    np.save(out, 3 * library[5:8])
    assert served.ask("PUT", "/v1/files/papers/sub.npy", out.getvalue()).status == 201
    hits = served.ask("POST", "/v1/query", {"index": "/papers", "vector": library[6].tolist(), "k": 2}).json["hits"]
    (hit,) = [each for each in hits if each["path"] == "/papers/sub.npy"]
    assert hit["number"] == 1 and hit["score"] == pytest.approx(1, abs=1e-5)
    assert "number" not in next(each for each in hits if each["id"] == "p6")
    assert served.ask("DELETE", "/v1/files/papers/sub.npy").status == 204
    found = served.ask("POST", "/v1/query", {"index": "/papers", "vector": library[6].tolist(), "k": 3}).json["hits"]
    assert "/papers/sub.npy" not in [each["path"] for each in found]


def test_by_vector_across_indexes(served, library):
    got = served.ask("POST", "/v1/search", {"vector": library[3].tolist(), "under": "/papers", "k": 1})
    assert got.status == 200 and got.json["hits"][0]["path"] == "/papers/p3", got
