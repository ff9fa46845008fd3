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
    assert fs.ingest.wait(120)
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


def test_they_are_asked_for_as_they_are_told(fs):
    """What an answer holds, the next request may name: as a file, as a directory to look below, as an id."""
    name = os.fsdecode(b"r\xf6sten")
    index = fs.index(name, embedder="static")
    fs.makedirs(f"{name}/{BAD}.d")
    for path in (f"{name}/{BAD}", f"{name}/{BAD}.d/near"):
        fs.write_text(path, "coffee roasting")
    assert fs.ingest.wait(120) and fs.ingest.retry(name) == 0
    near = f"/{name}/{BAD}.d/near"
    assert fs.similar(f"{name}/{BAD}").paths == [near] and fs.similar(os.fsencode(near)).paths == [f"/{name}/{BAD}"]
    for under in (f"{name}/{BAD}.d", os.fsencode(f"{name}/{BAD}.d")):
        assert fs.search("coffee", under=under).paths == [near] == fs.similar(f"{name}/{BAD}", under=under).paths
        assert index.count(under=under) == 1
    assert fs.reembed(name).path == f"/{name}"
    fs.drop_index(name)


def test_a_standing_query_below_such_a_directory_tells_paths_that_can_be_read(fs):
    name = os.fsdecode(b"r\xf6sten")
    fs.index(name, embedder="static")
    with fs.watch("coffee", under=name, threshold=0.1) as watching:
        fs.write_text(f"{name}/{BAD}", "coffee")
        assert (hit := watching.take(120)) is not None and hit.path == f"/{name}/{BAD}"
    assert fs.read_text(hit.path) == "coffee"
    fs.drop_index(name)


def test_records_of_such_ids_and_values(fs):
    index = fs.index("odd", dim=2)
    large = 2**70  # what MessagePack cannot hold, and what no text can, in one request
    assert index.upsert([BAD, os.fsencode(BAD) + b"2"], np.eye(2), [{"note": VALUE, "n": large}, {}], [b"1", None]) == 2
    assert index.get(BAD).attributes == {"note": VALUE, "n": large} and fs.read_bytes(f"odd/{BAD}") == b"1"
    assert index.count({"note": VALUE}) == 1 == len(index.query([1, 0], where={"n": large}))
    assert index.update([BAD], None, [{"note": "other"}]) == 1
    assert index.delete([BAD]) == 1 and fs.listdir("odd") == [f"{BAD}2"]
    fs.drop_index("odd")


def test_json_tells_them_with_signs_in_their_place(fs, served):
    fs.index("docs", embedder="static")
    fs.write_text(f"docs/{BAD}", "coffee")
    assert fs.ingest.wait(120)
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
