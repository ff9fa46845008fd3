"""Names and values that are no UTF-8, in what a node finds and tells."""

import json
import os
import urllib.request

import numpy as np

BAD = os.fsdecode(b"bad\xff.txt")
VALUE = os.fsdecode(b"gr\xfc\xdfe")


def test_a_file_is_found_and_read_by_the_path_that_is_told(fs):
    index = fs.index("docs", embedder="static")
    fs.write_text(f"docs/{BAD}", "coffee roasting")
    fs.setxattr(f"docs/{BAD}", b"user.note", os.fsencode(VALUE))
    fs.write_text("docs/tea.txt", "tea leaves and coffee")
    fs.write_bytes(os.path.join(b"docs", b"picture\xff.png"), b"\x89PNG")
    assert fs.ingest.wait(20)
    hits = fs.search("coffee roasting")
    assert hits.paths == [f"/docs/{BAD}", "/docs/tea.txt"] and hits[0].id == BAD
    assert hits[0].attributes == {"note": VALUE} and fs.read_text(hits[0].path) == hits[0].text == "coffee roasting"
    assert fs.similar("docs/tea.txt").paths == [f"/docs/{BAD}"]
    assert [each["path"] for each in fs.ingest.status_of(index)["aside"]] == [os.fsdecode(b"/docs/picture\xff.png")]
    assert [each.path for each in fs.indexes()] == ["/docs"]
    fs.drop_index("docs")


def test_an_index_of_such_a_directory(fs):
    name = os.fsdecode(b"r\xf6sten")
    index = fs.index(name, dim=2)
    index.upsert(["a", "b"], np.eye(2))
    fs.rename(f"{name}/a", f"{name}/{BAD}")
    assert index.path == f"/{name}" == fs.indexes()[0].path
    assert index.query([1, 0], k=1).paths == [f"/{name}/{BAD}"] and index.count() == 2
    assert index.get("b").path == f"/{name}/b"
    assert [hit.path for hit in fs.search([0.0, 1.0], k=1)] == [f"/{name}/b"]
    fs.drop_index(name)


def test_json_tells_them_with_signs_in_their_place(fs, served):
    fs.index("docs", embedder="static")
    fs.write_text(f"docs/{BAD}", "coffee")
    assert fs.ingest.wait(20)
    head = {"Authorization": f"Bearer {served.token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{served.url}/v1/search", b'{"text": "coffee"}', head)
    with urllib.request.urlopen(request) as answer:
        (hit,) = json.load(answer)["hits"]
    assert hit["path"] == "/docs/bad\ufffd.txt"
    fs.drop_index("docs")


def test_numbers_that_are_larger_than_those_of_messagepack_and_halves_of_pairs(fs, served):
    """Anybody may set them on a mount: one such file must not make a search fail that finds it."""
    index = fs.index("odd", dim=2)
    numbers = {"a": 2**64, "b": -(2**63) - 1, "c": 10**400}
    index.upsert(list(numbers), np.ones((3, 2)), [{"n": n} for n in numbers.values()])
    fs.touch("odd/half")
    fs.setxattr("odd/half", b"user.n", b'"\\ud800"')
    fs.setxattr("odd/half", b"user.vexfs.vector", b"1,1")
    assert {hit.id: hit.attributes["n"] for hit in index.query([1, 1]) if hit.id != "half"} == numbers
    assert len(fs.search([1.0, 1.0])) == 4 and index.get("a").attributes == {"n": 2**64}
    assert index.query([1, 1], where={"n": {"$gt": 2**64}}).paths == ["/odd/c"] and index.count({"n": 2**64}) == 1
    asked = {"index": "/odd", "vector": [1, 1], "where": {"n": 10**400}, "attributes": True}
    request = urllib.request.Request(
        f"{served.url}/v1/query", json.dumps(asked).encode(),
        {"Authorization": f"Bearer {served.token}", "Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request) as reply:
        assert [hit["attributes"] for hit in json.load(reply)["hits"]] == [{"n": 10**400}]
    fs.drop_index("odd")
