"""``vexctl index``, ``import`` and ``search --vector``: from the shell to a volume."""

import contextlib
import io
import json
import os
import re
import signal
import threading

import numpy as np
import pytest

import vexfs
from tests.waiting import until
from vexfs.cli import index, reach
from vexfs.cli.main import run
from vexfs.node.attendance import attended
from vexfs.registry import registry
from vexfs.search import embedders
from vexfs.search.extract import Block


def vexctl(*arguments, status=0):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        ended = run("vexctl", [str(a) for a in arguments])
    assert ended == status, out.getvalue() + err.getvalue()
    return out.getvalue() + (err.getvalue() if status else "")


def told(*arguments):
    return json.loads(vexctl(*arguments, "--json"))


def npy(rows):
    out = io.BytesIO()
    np.save(out, np.array(rows, np.float32))
    return out.getvalue()


@pytest.fixture
def volume(tmp_path):
    vexfs.open(tmp_path / "v").close()
    return tmp_path / "v"


@pytest.fixture
def array(tmp_path):
    x = np.random.default_rng(3).standard_normal((50, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    return x


def test_a_life_of_an_index(volume):
    made = told("index", "create", "/papers", "--dim", 8, "--metric", "euclidean", "--volume", volume)
    assert (made["path"], made["dim"], made["metric"]) == ("/papers", 8, "l2")
    assert told("index", "create", "/papers", "--dim", 8, "--metric", "l2", "--volume", volume) == made
    assert "/papers" in vexctl("index", "list", "--volume", volume)
    assert [i["dim"] for i in told("index", "list", "--volume", volume)] == [8]
    assert "euclidean" not in vexctl("index", "status", "/papers", "--volume", volume)
    assert "dim=8" in vexctl("index", "create", "/papers", "--dim", 9, "--volume", volume, status=1)
    assert told("index", "drop", "/papers", "--volume", volume) == {"path": "/papers", "dropped": True}
    assert vexctl("index", "list", "--volume", volume).strip() == "no indexes"
    assert "no index" in vexctl("index", "status", "/papers", "--volume", volume, status=1)


def test_a_directory_of_any_name(volume, array, tmp_path):
    directory = "/a\n\x1b[31m\udcff"
    shown = r"/a\n\x1b[31m\xff"
    assert vexctl("index", "create", directory, "--dim", 8, "--volume", volume).startswith(f"{shown}: dimension 8")
    told_of = vexctl("import", tmp_path / "x.npy", directory, "--volume", volume)
    assert told_of.startswith(f"50 records into {shown} in ")
    assert vexctl("index", "drop", directory, "--volume", volume).startswith(f"the index of {shown} is dropped")


def test_vectors_from_an_array(volume, array, tmp_path):
    loaded = told("import", tmp_path / "x.npy", "/a", "--volume", volume)
    assert loaded["records"] == loaded["files"] == 50
    numbers = ",".join(map(str, array[7].tolist()))
    found = told("search", "--vector", numbers, "--k", 3, "--under", "/a", "--volume", volume)
    assert found["hits"][0]["id"] == "07" and found["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    np.save(tmp_path / "q.npy", array[9])
    assert "/a/09" in vexctl("search", "--vector", f"@{tmp_path / 'q.npy'}", "--volume", volume)
    assert told("search", "--like", "/a/09", "--k", 2, "--volume", volume)["hits"][0]["id"] != "09"


def test_where_an_import_leaves_the_vectors(volume, array, tmp_path):
    told("import", tmp_path / "x.npy", "/a", "--rows-in", "disk", "--volume", volume)
    assert told("index", "status", "/a", "--volume", volume)["rows_in"] == "disk"
    assert "rows_in='disk', not 'memory'" in vexctl(
        "import", tmp_path / "x.npy", "/a", "--rows-in", "memory", "--volume", volume, status=1
    )
    told("import", tmp_path / "x.npy", "/b", "--volume", volume)
    assert told("index", "status", "/b", "--volume", volume)["rows_in"] == "memory"


def test_vectors_from_tables(volume, array, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    rows = [{"id": f"r{k}", "embedding": array[k].tolist(), "year": 2000 + k, "note": f"n{k}"} for k in range(50)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("x.parquet", "x.jsonl"):
        where = "/" + name.replace(".", "-")
        told("import", tmp_path / name, where, "--text-column", "note", "--volume", volume)
        with vexfs.open(volume) as fs:
            index = fs.index(where)
            assert len(index) == 50 and index.get("r3").attributes == {"year": 2003}
            assert fs.read_text(f"{where}/r3") == "n3"


def test_an_id_that_comes_again_is_changed(volume, tmp_path):
    rows = [{"id": f"r{k % 7}", "vector": [1, k], "k": k, "first": True} for k in range(10)]
    rows[8]["first"] = None
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert told("import", tmp_path / "x.jsonl", "/again", "--volume", volume)["records"] == 10
    with vexfs.open(volume) as fs:
        index = fs.index("again")
        assert len(index) == 7
        ids = [f"r{k}" for k in range(7)]
        found = {record.id: (record.attributes, record.vector.tolist()) for record in index.get(ids)}
    assert found["r1"] == ({"k": 8, "first": True}, [1, 8]) and found["r6"] == ({"k": 6, "first": True}, [1, 6])


def test_vectors_from_fvecs(volume, array, tmp_path):
    head = np.full((50, 1), 8, "<i4")
    (tmp_path / "x.fvecs").write_bytes(np.hstack([head.view(np.uint8), array.view(np.uint8)]).tobytes())
    assert told("import", tmp_path / "x.fvecs", "/f", "--volume", volume)["records"] == 50
    with vexfs.open(volume) as fs:
        assert fs.index("f").get("31").vector == pytest.approx(array[31])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"1,2", "are known"),
        ("x.npy", b"no array", "is no array"),
        ("x.fvecs", b"\3\0\0\0abc", "does not divide"),
        ("x.parquet", b"no parquet", "is no Parquet"),
        ("x.jsonl", b'{"vector": [1,2]}\n{oops', "line 2"),
        ("x.jsonl", b'{"vector": [1,2]}\n{"vector": [1,2], "a": "\xff"}', "x.jsonl: line 2: 'utf-8' codec can't"),
        ("x.jsonl", b'{"vector": [1,2]}\n{"a":' + b"[" * 100_000, "x.jsonl: line 2: maximum recursion depth"),
        ("x.npy", b"", "x.npy: is no array: it does not begin"),
        ("x.npy", npy([[1, 2], [3, np.nan]]), "x.npy: vector 1 has nan at place 1"),
        ("x.npy", npy([[1, 2], [3, 4]])[:-2], "x.npy: is no array"),
        ("x.jsonl", b'\n{"id": "a", "vector": null}', "x.jsonl: line 2: 'vector' is no list of numbers"),
        ("x.jsonl", b'{"id": "../a", "vector": [1,2]}', "x.jsonl: '../a' cannot be an id"),
        ("x.jsonl", b'{"id": "a", "vector": [1,"2"]}', "x.jsonl: record 0: 'vector' is not a list of 2 numbers"),
        ("x.jsonl", b'{"a": 1}', "has no column of vectors among a"),
        ("x.jsonl", b'{"vector": [1,2]}\n{"vector": [1]}', "line 2: 'vector' is not a list of 2 numbers"),
    ],
)
def test_files_that_cannot_be(volume, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert message in vexctl("import", tmp_path / name, "/a", "--volume", volume, status=2)


def test_a_directory_is_no_file_of_vectors(volume, tmp_path):
    assert "is a directory; a file of" in vexctl("import", tmp_path, "/a", "--volume", volume, status=2)


def test_what_cannot_be_an_attribute_is_told(volume, tmp_path):
    rows = [{"id": "a", "vector": [1, 0], "tags": ["x"], "year": 1, "rate": float("nan")}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert told("import", tmp_path / "x.jsonl", "/a", "--volume", volume)["left_out"] == {"tags": 1}
    assert "left out: tags, of 1 record" in vexctl("import", tmp_path / "x.jsonl", "/a", "--volume", volume)
    with vexfs.open(volume) as fs:
        assert fs.index("a").get("a").attributes == {"year": 1}


def test_tables_with_gaps(volume, tmp_path):
    import datetime as dt

    import pyarrow as pa
    from pyarrow import parquet

    def imported(status, **columns):
        parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
        return vexctl("import", tmp_path / "x.parquet", "/a", "--volume", volume, status=status)

    assert "record 1: 'vector' is not a list of 2 numbers" in imported(2, id=["a", "b"], vector=[[1.0, 0.0], None])
    assert "record 0: 'vector' is no list" in imported(2, id=["a"], vector=pa.array([None], pa.list_(pa.float32())))
    assert "record 1 has no 'id'" in imported(2, id=["a", None], vector=[[1.0, 0.0]] * 2)
    assert "no indexes" in vexctl("index", "list", "--volume", volume)
    imported(0, id=["a"], vector=[[1.0, 0.0]], when=[dt.datetime(2020, 1, 2)])
    with vexfs.open(volume) as fs:
        assert fs.index("a").get("a").attributes == {"when": "2020-01-02T00:00:00"}


def test_what_is_stored_when_a_later_batch_fails(volume, tmp_path, monkeypatch):
    monkeypatch.setattr("vexfs.search.sources.BATCH", 2)
    rows = [{"id": str(k), "vector": [1, k] if k < 3 else [0, 0]} for k in range(4)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = vexctl("import", tmp_path / "x.jsonl", "/a", "--volume", volume, status=2)
    assert "x.jsonl: vector 3 is all zeros" in out and out.rstrip().endswith("the 2 records before are stored")
    with vexfs.open(volume) as fs:
        assert fs.index("a").count() == 2


def test_options_of_a_search_by_vector(volume, array, tmp_path):
    told("import", tmp_path / "x.npy", "/a", "--volume", volume)
    numbers = ",".join(map(str, array[7].tolist()))
    for ask in (("--vector", numbers), ("--like", "/a/07")):
        hits = told("search", *ask, "--k", 20, "--threshold", 0.2, "--explain", "--volume", volume)
        assert hits["explanation"] and hits["hits"] and all(hit["score"] >= 0.2 for hit in hits["hits"])
        assert len(hits["hits"]) < 20
        assert "--mode is for words" in vexctl("search", *ask, "--mode", "keyword", "--volume", volume, status=2)
    assert "--like does not go" in vexctl("search", "--like", "/a/07", "--watch", "--volume", volume, status=2)
    assert "--explain does not go" in vexctl("search", "x", "--watch", "--explain", "--volume", volume, status=2)
    assert "numbers between commas" in vexctl("search", "--vector", "a,b", "--watch", "--volume", volume, status=2)
    assert "shape (50, 8)" in vexctl("search", "--vector", f"@{tmp_path}/x.npy", "--volume", volume, status=2)


def test_wrong_searches(volume):
    assert "one of them" in vexctl("search", "--volume", volume, status=2)
    assert "no index" in vexctl("search", "--vector", "1,2", "--volume", volume, status=1)


class Small:
    """A model of three words; the third time that it embeds, somebody presses Ctrl-C, if that was asked for."""

    name, version, dim = "small", "1", 3

    def __init__(self, interrupted):
        self.interrupted, self.calls = interrupted, 0

    def embed(self, texts):
        self.calls += 1
        if self.interrupted and self.calls == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return np.array([[text.count(word) + 0.01 for word in ("coffee", "tea", "milk")] for text in texts], np.float32)


@pytest.fixture
def notes(volume):
    with vexfs.open(volume) as fs:
        fs.index("notes", embedder="default")
        for n in range(300):
            fs.write_text(f"notes/{n}.txt", f"a cup of {('coffee', 'tea', 'milk')[n % 3]} number {n}")
        assert fs.ingest.wait(120)
    return volume


def test_another_model_for_the_same_text(notes):
    registry("embedders").add("small", lambda argument: Small(False))
    told_of = told("index", "reembed", "/notes", "--embedder", "small", "--volume", notes)
    assert (told_of["embedder"], told_of["dim"], told_of["files"]) == ("small", 3, 300)
    assert told("index", "status", "/notes", "--volume", notes)["embedder"] == "small"
    hits = told("search", "tea", "--volume", notes)["hits"]
    assert hits and all(int(hit["id"][:-4]) % 3 == 1 for hit in hits)
    assert "has no index of text" in vexctl("index", "reembed", "/", "--volume", notes, status=1)


def test_ctrl_c_leaves_the_old_model_answering(notes):
    embedders._made.pop("small", None)
    registry("embedders").add("small", lambda argument: Small(True))
    assert "interrupted" in vexctl("index", "reembed", "/notes", "--embedder", "small", "--volume", notes, status=130)
    status = told("index", "status", "/notes", "--volume", notes)
    assert status["embedder"] == "static" and status["files"] == 300 and status["reembedding"] is None
    assert told("search", "tea", "--volume", notes)["hits"]


def test_what_is_embedded_anew_can_be_followed(tmp_path, monkeypatch):
    path = tmp_path / "v.vex"
    with vexfs.open(path) as fs:
        fs.index("docs", embedder="default")
    left = [{"embedder": "m", "done": 1, "total": 2}, {"embedder": "m", "done": 2, "total": 2}, None]
    real = reach.Reach.call

    def call(self, verb, /, **args):
        made = real(self, verb, **args)
        made.result()["reembedding"] = left.pop(0) if left else None
        return made

    monkeypatch.setattr(index, "_LOOK_S", 0.01)
    monkeypatch.setattr(reach.Reach, "call", call)
    words = ("index", "reembed", "/docs", "--follow", "--volume", path)
    assert vexctl(*words).startswith("/docs: 0 files by static") and not left
    assert "nothing is being embedded anew" in vexctl(*words, status=1)
    assert "--embedder does not go with --follow" in vexctl(*words, "--embedder", "x", status=2)


def test_status_tells_why_files_wait_for_a_model(volume, monkeypatch):
    def model(texts):
        return [[1.0, 0.0]] * len(texts)

    with vexfs.open(volume) as fs, attended(fs):
        about = fs.index("docs", embedder=model)
        monkeypatch.setattr(embedders, "_made", {})  # as in another program
        fs.write_text("docs/a.txt", "words")
        until(lambda: fs.ingest.status()["held"])
        shown = vexctl("index", "status", "/docs", "--volume", volume)
    assert f"waiting for {about.embedder}: embedder tests.cli.test_index." in shown and "is a function of a" in shown


def test_status_names_a_model_that_does_not_come_back(volume, monkeypatch):
    monkeypatch.setattr("vexfs.search.underway._LATE_S", 0.1)
    over = threading.Event()

    def model(texts):
        if "words" in texts[0]:
            over.wait(60)
        return [[1.0, 0.0]] * len(texts)

    try:
        with vexfs.open(volume) as fs, attended(fs):
            about = fs.index("docs", embedder=model)
            fs.write_text("docs/a.txt", "words")
            until(lambda: fs.ingest.status()["awaited"])
            shown = vexctl("index", "status", "/docs", "--volume", volume)
        assert re.search(rf"waiting for {re.escape(about.embedder)}: asked \d+ s ago, it has not answered", shown)
    finally:
        over.set()


def test_files_that_were_set_aside_are_tried_again(volume):
    def sick(data, name):
        raise RuntimeError("unwell")

    extractors = registry("extractors")
    extractors.add("theirs", sick)
    try:
        with vexfs.open(volume) as fs:
            fs.index("other", embedder="default")
            fs.index("docs", embedder="default")
            fs.write_text("docs/a.theirs", "....")
            fs.write_bytes("docs/b.png", b"....")
            assert fs.ingest.wait(120)
        shown = vexctl("index", "status", "/docs", "--volume", volume)
        assert re.search(r"^text, failed +1$", shown, re.MULTILINE) and "text of all indexes, backlog" in shown
        answer = told("index", "retry", "/docs", "--volume", volume)
        assert answer["path"] == "/docs" and answer["tried"] == 2 and len(answer["aside"]) == 2
        extractors.add("theirs", lambda data, name: [Block("bread and butter")])
        assert told("index", "retry", "/other", "--volume", volume)["tried"] == 0
        shown = vexctl("index", "retry", "/docs", "--volume", volume).splitlines()
        assert shown == ["/docs: 2 files were tried again", "not indexed: /docs/b.png: a .png file holds no text"]
        assert told("search", "butter", "--volume", volume)["hits"][0]["path"] == "/docs/a.theirs"
        assert "no index" in vexctl("index", "retry", "/", "--volume", volume, status=1)
    finally:
        extractors._loaded.pop("theirs")


def test_the_wait_for_a_second_try_ends_when_a_model_does_not_answer(volume, monkeypatch):
    def model(texts):
        if "bad" in texts[0] or len(texts) > 1:
            raise ValueError("unwell")
        return [[1.0, 0.0]]

    with vexfs.open(volume) as fs, attended(fs):
        fs.index("docs", embedder=model)
        fs.write_text("docs/a.txt", "bad")
        assert fs.ingest.wait(120) and fs.ingest.status()["failed"] == 1
        monkeypatch.setattr(embedders, "_made", {})  # as in another program
        shown = vexctl("index", "retry", "/docs", "--volume", volume)
    assert "/docs: 1 file was tried again\nwaiting for" in shown
