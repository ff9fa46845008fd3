import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from vexfs.frontends.http.api import files as api

from tests.frontends.http.conftest import Served
from vexfs.volume import Volume

KIB = 1024


@pytest.fixture
def files(served):
    served.node.volume.makedirs("/t", exist_ok=True)
    yield served.node.volume
    served.node.volume.rmtree("/t")


def test_put_get_delete(served, files):
    made = served.ask("PUT", "/v1/files/t/a%20b/ü.txt".replace("ü", "%C3%BC"), b"content")
    assert made.status == 201 and made.json["path"] == "/t/a b/ü.txt" and made.json["size"] == 7
    got = served.ask("GET", "/v1/files/t/a%20b/%C3%BC.txt")
    assert (got.status, got.body) == (200, b"content")
    assert got.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert got.headers["ETag"] == made.json["etag"]
    assert got.headers["X-Content-Type-Options"] == "nosniff" and "sandbox" in got.headers["Content-Security-Policy"]
    again = served.ask("PUT", "/v1/files/t/a%20b/%C3%BC.txt", b"other")
    assert again.status == 200 and again.json["etag"] != made.json["etag"]
    head = served.ask("HEAD", "/v1/files/t/a%20b/%C3%BC.txt")
    assert (head.status, head.headers["Content-Length"], head.body) == (200, "5", b"")
    assert served.ask("DELETE", "/v1/files/t/a%20b").status == 409
    assert served.ask("DELETE", "/v1/files/t/a%20b?recursive=true").status == 204
    gone = served.ask("GET", "/v1/files/t/a%20b/%C3%BC.txt")
    assert gone.status == 404 and gone.headers["Content-Type"] == "application/problem+json"
    assert gone.json["error"] == "NotFound" and gone.json["errno"] == 2 and gone.json["title"] == "Not Found"
    assert gone.json["instance"] == f"urn:vexfs:request:{gone.headers['X-Request-Id']}"


@pytest.mark.parametrize("size", [0, 1, 256 * KIB, 256 * KIB + 1, 3 * KIB * KIB + 17])
def test_content_of_every_size_both_ways(served, files, size):
    data = os.urandom(size)
    assert served.ask("PUT", "/v1/files/t/x.bin", data).status == 201
    assert files.read_bytes("t/x.bin") == data
    assert served.ask("GET", "/v1/files/t/x.bin").body == data
    assert files.listdir("t") == ["x.bin"]


def test_a_body_without_a_stated_length(served, files):
    pieces = [b"abc" * 10_000, b"", b"def"]
    link = served.connection()
    link.request("PUT", "/v1/files/t/c", (p for p in pieces if p), {"Authorization": f"Bearer {served.token}"},
                 encode_chunked=True)  # fmt: skip
    assert link.getresponse().status == 201
    assert files.read_bytes("t/c") == b"".join(pieces)


@pytest.mark.parametrize("size", [1000, KIB * KIB])
@pytest.mark.parametrize(
    ("asked", "span"),
    [("bytes=0-9", (0, 10)), ("bytes=990-", (990, None)), ("bytes=-5", (-5, None)), ("bytes=5-5", (5, 6)),
     ("bytes=0-99999999", (0, None)), ("bytes=0-700000", (0, 700_001))],
)  # fmt: skip
def test_ranges(served, files, size, asked, span):
    data = os.urandom(size)
    files.write_bytes("t/r", data)
    got = served.ask("GET", "/v1/files/t/r", headers={"Range": asked})
    assert (got.status, got.body) == (206, data[slice(*span)])
    start, end, total = range(size)[slice(*span)].start, range(size)[slice(*span)].stop - 1, size
    assert got.headers["Content-Range"] == f"bytes {start}-{end}/{total}"


def test_ranges_that_are_not(served, files):
    files.write_bytes("t/r", b"0123456789")
    for asked in ("bytes=10-", "bytes=20-30", "bytes=-0"):
        got = served.ask("GET", "/v1/files/t/r", headers={"Range": asked})
        assert got.status == 416 and got.headers["Content-Range"] == "bytes */10"
    for asked in ("bytes=1-0", "bytes=0-1,3-4", "lines=1-2", "bytes=x", "bytes=-", f"bytes=0-{'9' * 5000}"):
        assert served.ask("GET", "/v1/files/t/r", headers={"Range": asked}).status == 200
    tag = served.ask("GET", "/v1/files/t/r").headers["ETag"]
    assert served.ask("GET", "/v1/files/t/r", headers={"Range": "bytes=0-0", "If-Range": tag}).status == 206
    assert served.ask("GET", "/v1/files/t/r", headers={"Range": "bytes=0-0", "If-Range": '"x"'}).status == 200


def test_a_range_is_written_in_place(served, files):
    files.write_bytes("t/r", b"0123456789")
    ino = files.stat("t/r").st_ino
    done = served.ask("PUT", "/v1/files/t/r", b"abc", {"Content-Range": "bytes 8-10/*"})
    assert done.status == 200 and files.read_bytes("t/r") == b"01234567abc" and files.stat("t/r").st_ino == ino
    assert served.ask("PUT", "/v1/files/t/new", b"abc", {"Content-Range": "bytes 2-4/*"}).status == 201
    assert files.read_bytes("t/new") == b"\0\0abc"
    for given, body in (("bytes 0-9/*", b"abc"), ("bytes 0-1/*", b"abc"), ("bytes 5-1/*", b"a"), ("0-1", b"ab"),
                        (f"bytes 0-{'9' * 5000}/*", b"abc")):  # fmt: skip
        assert served.ask("PUT", "/v1/files/t/r", body, {"Content-Range": given}).status == 400
        assert files.read_bytes("t/r") == b"01234567abc"
    assert served.ask("PUT", "/v1/files/t/none", b"abc", {"Content-Range": "bytes 0-9/*"}).status == 400
    assert not files.exists("t/none")


def test_conditions(served, files):
    tag = served.ask("PUT", "/v1/files/t/c", b"1").json["etag"]
    assert served.ask("PUT", "/v1/files/t/c", b"2", {"If-None-Match": "*"}).status == 412
    assert served.ask("PUT", "/v1/files/t/c", b"2", {"If-Match": '"other"'}).status == 412
    assert served.ask("GET", "/v1/files/t/c", headers={"If-None-Match": tag}).status == 304
    assert served.ask("PUT", "/v1/files/t/c", b"2", {"If-Match": tag}).status == 200
    assert served.ask("GET", "/v1/files/t/c", headers={"If-None-Match": tag}).status == 200
    assert served.ask("GET", "/v1/files/t/c", headers={"If-Match": tag}).status == 412
    assert served.ask("PUT", "/v1/files/t/new", b"2", {"If-Match": tag}).status == 412
    assert served.ask("PUT", "/v1/files/t/new", b"2", {"If-None-Match": "*"}).status == 201


@pytest.mark.parametrize("change", [("DELETE", b""), ("PATCH", b'{"mode": 384}')])
def test_conditions_of_other_changes(served, files, change):
    method, body = change
    tag = served.ask("PUT", "/v1/files/t/c", b"1").json["etag"]
    for condition in ({"If-Match": '"other"'}, {"If-None-Match": tag}, {"If-None-Match": "*"}):
        assert served.ask(method, "/v1/files/t/c", body, condition).status == 412
    assert files.stat("t/c").st_mode & 0o777 == 0o644
    assert served.ask(method, "/v1/files/t/c", body, {"If-Match": tag}).status in (200, 204)
    assert served.ask(method, "/v1/files/t/none", body, {"If-None-Match": "*"}).status == 404


def test_a_range_is_not_written_into_what_changed_while_it_came(served, files):
    for after in (b"in its place", None):
        tag = served.ask("PUT", "/v1/files/t/c", b"0123456789").json["etag"]
        link = served.connection()
        link.putrequest("PUT", "/v1/files/t/c")
        for name, value in {"If-Match": tag, "Content-Range": "bytes 0-2/*", "Content-Length": "3",
                            "Authorization": f"Bearer {served.token}", "Expect": "100-continue"}.items():  # fmt: skip
            link.putheader(name, value)
        link.endheaders()
        assert link.sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        if after is None:
            files.truncate("t/c", 4)
        else:
            files.write_bytes("t/c", after)
        link.send(b"abc")
        assert link.getresponse().status == 412
        assert files.read_bytes("t/c") == (after or b"0123")


def test_a_range_is_not_written_into_what_changed_when_its_condition_had_been_looked_at(served, files, monkeypatch):
    tag, look = served.ask("PUT", "/v1/files/t/c", b"0123456789").json["etag"], api._as_wanted

    def looked(request, path):
        found = look(request, path)
        files.write_bytes("t/c", b"in its place")
        return found

    monkeypatch.setattr(api, "_as_wanted", looked)
    assert served.ask("PUT", "/v1/files/t/c", b"abc", {"If-Match": tag, "Content-Range": "bytes 0-2/*"}).status == 412
    assert files.read_bytes("t/c") == b"in its place"


def test_of_several_ranges_for_the_same_one_is_written(served, files):
    for size in (10, 2_000_000):
        tag = served.ask("PUT", "/v1/files/t/c", b"").json["etag"]
        wanted = {"If-Match": tag, "Content-Range": f"bytes 0-{size - 1}/*"}
        letters = [b"%d" % each for each in range(6)]
        with ThreadPoolExecutor(6) as pool:
            told = list(pool.map(lambda c: served.ask("PUT", "/v1/files/t/c", c * size, wanted).status, letters))  # noqa: B023
        assert sorted(told) == [200, *[412] * 5]
        assert files.read_bytes("t/c") == letters[told.index(200)] * size


@pytest.mark.parametrize("size", [10, 2_000_000])
@pytest.mark.parametrize("wanted", ["If-None-Match", "If-Match"])
def test_of_several_who_saw_the_same_one_writes(served, files, wanted, size):
    for number in range(5):
        name = f"t/race-{wanted}-{size}-{number}"
        tag = served.ask("PUT", f"/v1/files/{name}", b"").json["etag"] if wanted == "If-Match" else "*"
        together = threading.Barrier(6)

        def put(letter, name=name, tag=tag, together=together):
            together.wait()
            return served.ask("PUT", f"/v1/files/{name}", letter * size, {wanted: tag}).status

        letters = [b"%d" % each for each in range(6)]
        with ThreadPoolExecutor(6) as pool:
            told = list(pool.map(put, letters))
        assert sorted(told) == [200 if wanted == "If-Match" else 201, *[412] * 5]
        assert files.read_bytes(name) == letters[min(range(6), key=told.__getitem__)] * size
    assert size == 10 or not list(files.filesystem.scandir(".vexfs/uploads"))


def test_a_large_file_in_the_place_of_another_keeps_rights_and_attributes(served, files):
    files.write_bytes("t/f", b"x")
    files.chmod("t/f", 0o600)
    files.attributes("t/f")["year"] = 2020
    data = os.urandom(3 << 20)
    assert served.ask("PUT", "/v1/files/t/f", data).status == 200
    assert files.read_bytes("t/f") == data and files.stat("t/f").st_mode & 0o777 == 0o600
    assert dict(files.attributes("t/f")) == {"year": 2020}


def test_listing_page_by_page(served, files):
    names = sorted(f"f{i:03}" for i in range(25))
    for name in names:
        files.write_text(f"t/{name}", name)
    files.mkdir("t/sub")
    seen, cursor, pages = [], "", 0
    while True:
        page = served.ask("GET", f"/v1/files/t?limit=10&cursor={cursor}").json
        seen += [(entry["name"], entry["kind"]) for entry in page["entries"]]
        pages += 1
        cursor = page.get("cursor")
        if not cursor:
            break
    assert seen == [(name, "file") for name in names] + [("sub", "directory")] and pages == 3
    assert [e["name"] for e in served.ask("GET", "/v1/files").json["entries"]] == ["t"]
    assert served.ask("GET", "/v1/files?cursor=!").status == 400


def test_names_that_are_not_text(served, files):
    files.write_text(b"t/\xff\xfe", "x")
    (entry,) = served.ask("GET", "/v1/files/t").json["entries"]
    assert entry["raw"] == "//4=" and entry["name"] == "\ufffd\ufffd"
    assert served.ask("GET", "/v1/files/t/%ff%fe").body == b"x"
    assert served.ask("GET", "/v1/files/t/%ff%fe?meta=true").status == 200


def test_directories_links_and_meta(served, files):
    assert served.ask("PUT", "/v1/files/t/d/e?directory=true").status == 201
    assert served.ask("PUT", "/v1/files/t/d/e?directory=true").status == 200
    assert served.ask("PUT", "/v1/files/t/d/f/g?directory=true&parents=false").status == 404
    assert served.ask("PUT", "/v1/files/t/d/f/g?parents=false", b"x").status == 404
    assert served.ask("PUT", "/v1/files/t/d", b"x").status == 409
    assert served.ask("PUT", "/v1/files/t/h?directory=true", b"x").status == 400
    files.symlink("d/e", "t/l")
    meta = served.ask("GET", "/v1/files/t/l?meta=true").json
    assert (meta["kind"], meta["target"]) == ("symlink", "d/e")
    assert served.ask("GET", "/v1/files/t/l").json["entries"] == []
    assert served.ask("GET", "/v1/files/t/d?meta=true").json["kind"] == "directory"


def test_patch(served, files):
    files.write_text("t/a", "x")
    files.write_text("t/b", "y")
    got = served.ask("PATCH", "/v1/files/t/a", {"attributes": {"year": 2020, "lang": "en", "ok": True}, "mode": 0o640,
                                                "mtime_ns": 5})  # fmt: skip
    assert got.status == 200 and got.json["attributes"] == {"year": 2020, "lang": "en", "ok": True}
    assert (got.json["mode"], got.json["mtime_ns"]) == (0o640, 5)
    got = served.ask("PATCH", "/v1/files/t/a", {"attributes": {"year": None}})
    assert got.json["attributes"] == {"lang": "en", "ok": True}
    assert served.ask("PATCH", "/v1/files/t/a", {"rename_to": "/t/b", "replace": False}).status == 409
    assert served.ask("PATCH", "/v1/files/t/a", {"rename_to": "t/b"}).json["path"] == "/t/b"
    assert files.listdir("t") == ["b"] and files.read_text("t/b") == "x"
    for bad in ({"rename_to": "../x"}, {"colour": 1}, {"mode": -1}, {"attributes": {"vexfs.x": 1}}, {"rename_to": "/"}):
        assert served.ask("PATCH", "/v1/files/t/b", bad).status in (400, 403)
    assert served.ask("PATCH", "/v1/files/t/none", {"mode": 1}).status == 404


def test_what_is_told_of_faults(served, files):
    assert served.ask("GET", "/v1/nothing").status == 404
    refused = served.ask("POST", "/v1/files/t", b"")
    assert refused.status == 405 and "DELETE, GET" in refused.headers["Allow"]
    told = served.ask("GET", "/v1/files/t?limt=3").json["detail"]
    assert "limt" in told
    assert "`int` >= 1" in served.ask("GET", "/v1/files/t?limit=0").json["detail"]
    assert served.ask("GET", "/v1/files/t?limit=1&limit=2").status == 400
    assert served.ask("PATCH", "/v1/files/t/x", b"{", {"Content-Type": "application/json"}).status == 400
    assert served.ask("PATCH", "/v1/files/t/x", b"x", {"Content-Type": "text/plain"}).status == 415
    assert served.ask("PUT", "/v1/files/t/x", b"x", {"Content-Encoding": "gzip"}).status == 415
    assert served.ask("GET", "/v1/files/t", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
    assert served.ask("GET", "/v1/files/t", headers={"X-Request-Id": "a b"}).headers["X-Request-Id"] != "a b"


def test_many_requests_on_one_connection(served, files):
    link = served.connection()
    for i in range(50):
        assert served.ask("PUT", f"/v1/files/t/{i}", str(i).encode(), connection=link).status == 201
        assert served.ask("GET", f"/v1/files/t/{i}", connection=link).body == str(i).encode()
    link.close()


def test_what_finds_no_room_is_told_with_the_remedy(serve, tmp_path):
    Volume.create(tmp_path / "data/volume.vex", size_limit=1 << 20).close()
    told = serve().ask("PUT", "/v1/files/big", os.urandom(2 << 20))
    assert (told.status, told.json["errno"]) == (507, errno.EDQUOT)
    assert told.json["detail"].endswith("; the volume has reached its size limit: remove something from it")


@pytest.mark.parametrize("bad", ["vexfs.x", "n\0", "\u00fc" * 130, "long"])
def test_a_change_that_is_refused_changes_nothing(served, files, bad):
    files.write_text("/t/a", "x")
    value = "v" * (65 * KIB) if bad == "long" else 2
    wish = {"rename_to": "/t/b", "attributes": {"first": 1, bad: value}, "mode": 0o600}
    assert served.ask("PATCH", "/v1/files/t/a", wish).status in (400, 403, 413)
    assert files.listdir("/t") == ["a"] and not dict(files.attributes("/t/a"))
    assert files.stat("/t/a").st_mode & 0o777 != 0o600


def test_conditions_of_directories_and_their_order(served, files):
    new = {"If-None-Match": "*"}
    assert [served.ask("PUT", "/v1/files/t/d?directory=true", headers=new).status for _ in range(2)] == [201, 412]
    assert served.ask("PUT", "/v1/files/t/e?directory=true", headers={"If-Match": "*"}).status == 412
    assert not files.exists("/t/e")
    tag = served.ask("PUT", "/v1/files/t/c", b"x").json["etag"]
    both = {"If-Match": '"other"', "If-None-Match": tag}  # RFC 9110, 13.2.2: If-Match comes first
    assert served.ask("GET", "/v1/files/t/c", headers=both).status == 412


def test_a_tag_that_a_crash_took_back_names_nothing_else(tmp_path):
    """A node that is killed loses what it answered last: here the volume is as it was before that."""
    before, after = tmp_path / "before", tmp_path / "after"
    for each in (before, after / "data"):
        each.mkdir(parents=True)
    lost = Served(before)
    try:
        lost.ask("PUT", "/v1/files/old", b"one")
        lost.node.volume.backup(after / "data/volume.vex")
        tags = [lost.ask("PUT", f"/v1/files/{name}", b"lost").json["etag"] for name in ("old", "new")]
    finally:
        lost.stop()
    served = Served(after)
    try:
        for name, tag in zip(("old", "new"), tags, strict=True):
            made = served.ask("PUT", f"/v1/files/{name}", b"mine").json
            assert made["etag"] != tag
            assert served.ask("GET", f"/v1/files/{name}", headers={"If-None-Match": tag}).body == b"mine"
            assert served.ask("PUT", f"/v1/files/{name}", b"2", {"If-Match": tag}).status == 412
    finally:
        served.stop()
