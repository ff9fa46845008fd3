"""A token for a part of the volume reaches nothing else: by no link, whenever it comes, and by no name."""

import base64
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from vexfs.search import embedders


@pytest.fixture
def part(served):
    """A token for /part alone, and links that lead out of it, also to what does not exist."""
    fs = served.node.volume
    fs.makedirs("/part/sub/deep")
    fs.makedirs("/out/dir")
    fs.write_text("/out/secret", "secret")
    for target, name in (
        ("/out/new", "new"), ("../out/new", "relative"), ("/part/new", "twice"), ("/out", "dir"),
        ("/out/secret", "file"), ("/nowhere/../out/new", "around"), ("/out/none/", "slash"),
    ):  # fmt: skip
        fs.symlink(target, f"/part/{name}")
    yield served.node.tokens.create("part", ["read", "write", "watch"], ["/part"])[0]
    fs.rmtree("/part")
    fs.rmtree("/out")


def call(served, token, name, *args):
    args = [{"__bytes__": a} if isinstance(a, bytes) else a for a in args]
    return served.ask("POST", "/v1/operations", {"calls": [{"op": name, "args": args}]}, token=token)


@pytest.mark.parametrize("name", ["new", "relative", "twice", "around", "slash", "dir/x", "dir/y/z"])
def test_nothing_is_made_through_a_link_that_leads_out(served, part, name):
    tries = [
        served.ask("PUT", f"/v1/files/part/{name}", b"evil", token=part),
        served.ask("PUT", f"/v1/files/part/{name}", b"e", {"Content-Range": "bytes 0-0/*"}, part),
        served.ask("PUT", f"/v1/files/part/{name}?directory=true", token=part),
    ]
    assert [each.status for each in tries] == [403] * 3
    faults = [call(served, part, "open", f"/part/{name}", os.O_RDWR | os.O_CREAT)]
    for each in faults:
        assert each.json["fault"]["error"] == "NotPermitted"
    assert sorted(served.node.volume.listdir("/out")) == ["dir", "secret"]


def test_what_a_link_within_the_part_makes_is_made(served, part):
    served.node.volume.symlink("sub/made", "/part/inner")
    assert served.ask("PUT", "/v1/files/part/inner", b"fine", token=part).status == 201
    assert served.node.volume.read_bytes("/part/sub/made") == b"fine"


@pytest.mark.parametrize(
    ("name", "args"),
    [("stat", (False,)), ("resolve", (False,)), ("listxattr", (False,)), ("chmod", (0o777, False)),
     ("chown", (7, 7, False)), ("utimens", (1, 1, False)), ("readlink", ()), ("scandir", ())],
)  # fmt: skip
def test_a_slash_behind_a_link_does_not_follow_it_out(served, part, name, args):
    before = served.node.volume.stat("/out")
    answer = call(served, part, name, "/part/dir/", *args).json
    assert answer["fault"]["error"] == "NotPermitted" and not answer["results"]
    after = served.node.volume.stat("/out")
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)


def test_a_link_that_comes_while_a_body_is_sent(served, part):
    link = served.connection()
    link.putrequest("PUT", "/v1/files/part/sub/deep/secret")
    link.putheader("Authorization", f"Bearer {part}")
    link.putheader("Content-Length", "4")
    link.endheaders(b"ev")
    time.sleep(0.3)
    assert served.ask("PATCH", "/v1/files/part/sub/deep", {"rename_to": "/part/away"}, token=part).status == 200
    assert "fault" not in call(served, part, "symlink", "/out", "/part/sub/deep").json
    link.send(b"il")
    assert link.getresponse().status == 403
    assert served.node.volume.read_text("/out/secret") == "secret"


def test_links_that_come_and_go_let_nothing_out(served, part):
    """Two that work together: one swaps a directory for a link, the other writes through it."""
    fs, over = served.node.volume, threading.Event()
    fs.makedirs("/part/swap")
    fs.symlink("/out", "/part/link")

    def swap():
        moves = [["/part/swap", "/part/kept"], ["/part/link", "/part/swap"],
                 ["/part/swap", "/part/link"], ["/part/kept", "/part/swap"]]  # fmt: skip
        calls = [{"op": "rename", "args": move} for move in moves]
        with_link = served.connection()
        while not over.is_set():
            for some in (calls[:2], calls[2:]):
                served.ask("POST", "/v1/operations", {"calls": some}, token=part, connection=with_link)

    with ThreadPoolExecutor(1) as pool:
        swapping = pool.submit(swap)
        with_link, seen, until = served.connection(), set(), time.monotonic() + 3
        try:
            while time.monotonic() < until or "NotPermitted" not in seen:
                calls = [{"op": "mkdir", "args": ["/part/swap/evil"]}, {"op": "rmdir", "args": ["/part/swap/evil"]}]
                got = served.ask("POST", "/v1/operations", {"calls": calls}, token=part, connection=with_link).json
                seen.add(got.get("fault", {}).get("error"))
                assert "evil" not in fs.listdir("/out")
        finally:
            over.set()
        swapping.result()


def test_a_link_that_is_moved_leads_elsewhere(served, part):
    fs = served.node.volume
    fs.makedirs("/part/out")
    fs.write_text("/part/out/secret", "mine")
    fs.symlink("../../out/secret", "/part/sub/deep/hop")  # /part/out/secret; one level up it leads to /out/secret
    patch = {"rename_to": "/part/sub/hop", "mode": 0o777, "attributes": {"x": "evil"}}
    assert served.ask("PATCH", "/v1/files/part/sub/deep/hop", patch, token=part).status == 403
    assert fs.stat("/out/secret").st_mode & 0o777 != 0o777 and "x" not in fs.attributes("/out/secret")


def test_records_do_not_go_through_links(served, part):
    fs = served.node.volume
    fs.index("/part", dim=2)
    index = {"index": "/part", "ids": ["dir/secret"]}
    vector = base64.b64encode(b"\0\0\x80?\0\0\0\0").decode()
    got = served.ask("POST", "/v1/upsert", {**index, "vectors": vector, "contents": ["evil"]}, token=part)
    assert got.status == 400 and "symbolic link" in got.json["detail"]
    assert served.ask("POST", "/v1/upsert", {**index, "ids": ["dir/a/b"], "vectors": vector}, token=part).status == 400
    assert served.ask("POST", "/v1/get", index, token=part).status == 400
    assert served.ask("POST", "/v1/delete", index, token=part).status == 400
    assert fs.read_text("/out/secret") == "secret" and sorted(fs.listdir("/out")) == ["dir", "secret"]
    fs.drop_index("/part")


def test_operating_the_node_is_for_tokens_of_the_whole_volume(served):
    made = served.ask("POST", "/v1/tokens", {"name": "op", "scopes": ["read", "admin"], "prefixes": ["/part"]})
    assert made.status == 400 and "whole node" in made.json["detail"]
    # One that an older version made.
    text, token = served.node.tokens.create("old", ["read"], ["/part"])
    tokens = served.node.tokens
    tokens._save({**tokens._known, token.id: type(token)(**{**_fields(token), "scopes": ("read", "admin")})})
    time.sleep(0.6)
    for method, path, body in (
        ("POST", "/v1/tokens", {"name": "all", "scopes": ["read"]}), ("GET", "/v1/config", None),
        ("POST", "/v1/verbs/volume.info", {}),
    ):  # fmt: skip
        assert served.ask(method, path, body, token=text).status == 403


def _fields(token):
    return {name: getattr(token, name) for name in token.__slots__ if not name.startswith("__")}


def test_a_search_that_takes_long_holds_up_no_renames_and_tells_of_nothing_outside(served, part):
    fs, asked, go = served.node.volume, threading.Event(), threading.Event()

    def embed(texts):
        if texts == ["slow"]:
            asked.set()
            go.wait(100)
        return [[1.0, 0.5] for _ in texts]

    for place in ("/part/sub/deep", "/out/dir"):
        fs.index(place, embedder=embed, dim=2)
        fs.write_text(f"{place}/text.txt", "words that are found")
    fs.ingest.wait(120)
    found = []
    wish = {"text": "slow", "under": "/part/sub/deep"}
    ask = threading.Thread(target=lambda: found.append(served.ask("POST", "/v1/search", wish, token=part).json["hits"]))
    ask.start()
    assert asked.wait(60)
    assert served.ask("PATCH", "/v1/files/part/sub/deep", {"rename_to": "/part/away"}, token=part).status == 200
    assert "fault" not in call(served, part, "symlink", "/out/dir", "/part/sub/deep").json
    assert call(served, part, "stat", "/part/away").json["results"] and not found
    go.set()
    ask.join()
    assert {hit["path"] for hit in found[0]} <= {"/part/away/text.txt"}
    wish["under"] = "/part/away"
    hits = served.ask("POST", "/v1/search", wish, token=part).json["hits"]
    assert [hit["path"] for hit in hits] == ["/part/away/text.txt"]


def test_opening_again_by_number_names_nothing_outside(served, part):
    """Who tries numbers learns no name, and without knowing a file not even that it is there."""
    fs = served.node.volume

    def reopened(ino, birth_ns):
        return call(served, part, "reopen", ino, birth_ns, os.O_RDONLY)

    def birth_of(path):
        return round(fs.stat(path).st_birthtime * 1e9)

    secret = fs.stat("/out/secret").st_ino
    told = [reopened(secret, 1), reopened(1 << 30, 1), reopened(secret, birth_of("/out/secret"))]
    assert [each.json["fault"]["error"] for each in told] == ["NotFound", "NotFound", "NotPermitted"]
    assert not [each for each in told if b"secret" in each.body or b"/out" in each.body]
    fs.write_text("/part/mine", "x")
    mine = fs.stat("/part/mine").st_ino
    assert reopened(mine, birth_of("/part/mine")).json["results"][0][1] == mine


def test_an_index_above_that_cannot_be_searched_is_told(served, part):
    """What a search below the token's directory lacks, though the index is that of a directory above."""
    fs = served.node.volume

    def model(texts):
        return [[len(text), 1.0] for text in texts]

    fs.makedirs("/above/part/sub")
    fs.index("/above", embedder=model)
    fs.index("/above/part/sub", embedder="default")
    fs.write_text("/above/part/sub/found.txt", "coffee")
    assert fs.ingest.wait(120)
    embedders._made.pop(fs.catalog.covering("/above").embedder)
    token = served.node.tokens.create("below", ["read"], ["/above/part"])[0]
    sub = served.node.tokens.create("sub", ["read"], ["/above/part/sub"])[0]
    answer = served.ask("POST", "/v1/search", {"text": "coffee", "under": "/above/part"}, token=token).json
    assert [hit["path"] for hit in answer["hits"]] == ["/above/part/sub/found.txt"]
    assert [each["path"] for each in answer["missing"]] == ["/above"]
    assert "missing" not in served.ask("POST", "/v1/search", {"text": "coffee"}, token=sub).json
    fs.rmtree("/above")


def test_a_file_that_others_rename_over_is_there_at_every_moment(served, part):
    fs, over, failed = served.node.volume.filesystem, threading.Event(), []

    def ask():
        while not over.is_set():
            answers = [
                served.ask("GET", "/v1/files/part/name", token=part), call(served, part, "read_file", "/part/name"),
                call(served, part, "stat", "/part/name"), call(served, part, "open", "/part/name", os.O_RDONLY),
            ]  # fmt: skip
            failed.extend(a for a in answers if a.status != 200 or b"fault" in a.body)
            if not failed:
                call(served, part, "release", answers[-1].json["results"][0][0])

    fs.write_file("/part/name", b"x")
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask) for _ in range(2)]
        until = time.monotonic() + 3
        try:
            while time.monotonic() < until:
                fs.write_file("/part/made", b"y")
                fs.rename("/part/made", "/part/name")
        finally:
            over.set()
        for each in asked:
            each.result()
    assert not failed
    fs.unlink("/part/name")
    assert served.ask("GET", "/v1/files/part/name", token=part).status == 404


def test_a_link_does_not_tell_whether_there_is_a_file_outside(served, part):
    """Behind a file there is nothing, as behind what is not there: both lead out, and no more is said."""
    told = set()
    for number, target in enumerate(("/out/secret/x", "/out/none/x", "/out/dir/x", "../out/secret/x/y")):
        served.node.volume.symlink(target, f"/part/ask{number}")
        place = f"/part/ask{number}"
        told |= {(served.ask(method, f"/v1/files{place}", body, token=part).status,
                  call(served, part, "stat", place).json["fault"]["error"])
                 for method, body in (("GET", None), ("PUT", b"x"))}  # fmt: skip
        told.add((served.ask("POST", "/v1/similar", {"path": place}, token=part).status, "NotPermitted"))
    assert told == {(403, "NotPermitted")}
    served.node.volume.write_text("/part/plain", "x")
    assert served.ask("GET", "/v1/files/part/plain/x", token=part).json["error"] == "NotADirectory"


def test_an_index_outside_is_not_named_by_its_number(served, part):
    number = served.node.volume.index("/out/dir", dim=2).describe()["number"]
    wish = {"index": "/part", "vector": [1, 0]}
    told = [served.ask("POST", "/v1/query", {**wish, "number": each}, token=part) for each in (number, 1 << 40)]
    assert [each.status for each in told] == [404, 404]
    assert told[0].json["detail"] == told[1].json["detail"].replace(str(1 << 40), str(number))
    served.node.volume.drop_index("/out/dir")


def test_files_outside_are_not_tried_again(served, part):
    """Where the index is one of a directory above."""
    served.node.volume.index("/", embedder="default")
    got = served.ask("POST", "/v1/ingest/retry", {"index": "/part"}, token=part)
    assert got.status == 403
    assert served.ask("POST", "/v1/ingest/retry", {"index": "/part"}).status == 200
    served.node.volume.drop_index("/")
