import errno
import os
import socket
import threading

import numpy as np
import pytest

import vexfs
from tests.remote.conftest import Served
from tests.search.test_damaged_table import half_damaged
from vexfs import errors
from vexfs.remote.link import Refused


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(errors.Unreachable, match="Connection refused"):
            vexfs.connect(f"http://127.0.0.1:{free.getsockname()[1]}")


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://", "http://x/path", "", "http://x:99999", "http://[x"])
def test_what_is_no_address(url):
    with pytest.raises(errors.UsageError, match="a node's address is"):
        vexfs.connect(url)


def test_who_is_not_let_in(served):
    with pytest.raises(Refused, match="needs a token") as caught:
        vexfs.connect(served.url)
    assert caught.value.status == 401
    token = served.node.tokens.create("reader", ["read"], ["/r"])[0]
    with vexfs.connect(served.url, token) as fs:
        with pytest.raises(PermissionError, match="scope 'write'"):
            fs.write_text("/r/x", "x")
        with pytest.raises(PermissionError, match="the token is for /r"):
            fs.read_text("/x")


def test_programs_of_files_meet_a_token_that_is_revoked_as_one_without_permission(served, fs):
    fs.makedirs("d/e")
    text, token = served.node.tokens.create("writer", ["read", "write"])
    with vexfs.connect(served.url, text) as other:
        served.node.tokens.revoke(token.id)
        with pytest.raises(PermissionError, match="token"):
            other.read_text("/d/x")
        other.rmtree("d", ignore_errors=True)
    assert fs.exists("d/e")


def test_the_token_of_the_environment(served, monkeypatch):
    monkeypatch.setenv("VEXFS_TOKEN", served.token)
    with vexfs.connect(served.url) as fs:
        assert fs.exists("/") and fs.url == served.url


def test_a_token_comes_with_the_end_of_its_line_and_a_wrong_one_is_not_shown(served):
    with vexfs.connect(served.url, f"{served.token}\r\n") as fs:
        assert fs.exists("/")
    for wrong in ("secret\nsecret", "s\u00e9cret", "secret\0"):
        with pytest.raises(errors.UsageError, match="a token is one word") as caught:
            vexfs.connect(served.url, wrong)
        assert "cret" not in str(caught.value)


def test_errors_are_those_of_the_operation(fs):
    with pytest.raises(errors.NotFound) as caught:
        fs.read_bytes("a/b")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, "a/b")
    fs.mkdir("d")
    with pytest.raises(errors.Exists):
        fs.mkdir("d")
    with pytest.raises(errors.InvalidArgument):
        fs.readlink("d")


def test_what_is_large_goes_in_pieces(fs):
    data = os.urandom((9 << 20) + 5)
    assert fs.write_bytes("big", data) == len(data)
    assert fs.read_bytes("big") == data
    with fs.open("big", "rb") as file:
        file.seek(5 << 20)
        assert file.read() == data[5 << 20 :]


def test_many_entries(fs, served):
    for i in range(5000):
        served.node.volume.write_bytes(f"many/{i}", b"")
    assert len(fs.listdir("many")) == 5000


def test_what_one_side_writes_the_other_reads(fs, served):
    fs.write_text("a", "from afar")
    assert served.node.volume.read_text("a") == "from afar"
    served.node.volume.attributes("a")["year"] = 2020
    assert dict(fs.attributes("a")) == {"year": 2020}
    fs.sync()


def test_from_many_threads(fs):
    failures = []

    def work(n):
        try:
            for i in range(20):
                fs.write_text(f"t{n}/{i}", f"{n} {i}")
                assert fs.read_text(f"t{n}/{i}") == f"{n} {i}"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_closed_is_closed(served):
    fs = vexfs.connect(served.url, served.token)
    file = fs.open("/x", "w")
    file.write("kept")
    fs.close()
    assert fs.closed and served.node.volume.read_text("/x") == "kept"
    with pytest.raises(errors.VolumeClosed):
        fs.indexes()


def test_what_works_at_the_node_alone_says_so(fs, served):
    assert fs.info()["uuid"] == served.node.volume.about.uuid and fs.encrypted is False
    for call, instead in ((fs.compact, "vexctl volume compact"), (lambda: fs.backup("/x"), "vexctl volume backup"),
                          (lambda: fs.mount("/x"), "vexfs mount")):  # fmt: skip
        with pytest.raises(errors.NotSupported, match=instead):
            call()
    reader = served.node.tokens.create("reader", ["read"])[0]
    with vexfs.connect(served.url, reader) as other, pytest.raises(Refused, match="scope 'admin'"):
        other.info()


def test_every_public_call_of_a_volume_is_there():
    from vexfs.frontends.local import LocalVolume

    from vexfs.remote import RemoteVolume

    def public(kind):
        return {name for name in dir(kind) if not name.startswith("_")}

    # How a volume is made and found in its own process; the compiled parts.
    assert public(LocalVolume) - public(RemoteVolume) == {"announce", "catalog", "create", "filesystem", "load"}


def test_an_index_tells_what_it_has_not(fs):
    index = fs.index("points", dim=2, rows_in="disk")
    assert index.rows_in == "disk" and index.state == {} and index.memory()["table"] == 0
    assert index.upsert([b"a"], [[1, 0]]) == 1
    assert index.get(b"a").path == "/points/a" and index.delete(b"a") == 1
    with pytest.raises(AttributeError, match="no 'set_vectors'; what works on inodes"):
        index.set_vectors(3, [1, 0])
    with pytest.raises(errors.NotSupported, match="threads=2"):
        index.query([1, 0], threads=2)
    with pytest.raises(TypeError):
        index.query([1, 0], effrot=3)


def test_options_of_searches_by_vector_and_example(fs):
    index = fs.index("points", dim=2)
    index.upsert(["a", "b", "c"], [[1, 0], [1, 0.1], [0, 1]])
    hits = fs.search([1, 0], exact=True, explain=True)
    assert hits.paths == ["/points/a", "/points/b", "/points/c"] and hits.explanation
    assert fs.search([1, 0], effort=3, threshold=0.1).paths == ["/points/a", "/points/b"]
    near = fs.similar("points/a", threshold=0.1, explain=True)
    assert near.paths == ["/points/b"] and near.explanation
    with pytest.raises(errors.QueryInvalid, match="exact want a vector"):
        fs.search("words", exact=True)


def test_what_could_not_be_searched_is_told(tmp_path):
    (tmp_path / "data").mkdir()
    half_damaged(tmp_path / "data" / "volume.vex")
    served = Served(tmp_path)
    try:
        with vexfs.connect(served.url, served.token) as fs:
            for hits in (fs.search("acidity"), fs.search(np.ones(256))):
                assert "/good/goo.txt" in hits.paths
                assert hits.missing == (("/bad", "its table of rows is damaged"),)
            assert fs.search("acidity", under="good").missing == ()
    finally:
        served.stop()


def test_files_of_any_size_where_bodies_are_small(tmp_path):
    served = Served(tmp_path, "api.max_body_size=20KB")
    try:
        with vexfs.connect(served.url, served.token) as fs:
            for size in (20_000, 20_480, 300_000):
                data = os.urandom(size)
                fs.write_bytes("f", data)
                assert fs.read_bytes("f") == data
                with fs.open("f", "ab") as file:
                    file.write(data)
                assert fs.read_bytes("f") == data * 2
    finally:
        served.stop()


def test_numbers_of_numpy_are_numbers(fs):
    index = fs.index("numbers", dim=np.int64(4))
    index.upsert(["a", "b"], np.eye(2, 4))
    hits = index.query(np.eye(4)[0], np.int64(2), recall=np.float32(1), threshold=np.float64(0.5))
    assert [hit.id for hit in hits] == ["a"]
    with fs.open("numbers/file", "wb") as file:
        file.write(b"0123")
        file.truncate(np.int64(2))
    assert fs.read_bytes("numbers/file") == b"01"
    fs.rmtree("numbers")


def test_ids_and_filters_are_taken_as_in_process(fs):
    index = fs.index("/taken", dim=2)
    index.upsert([b"a", "b"], np.eye(2), [{"year": 1}, {"year": 2}])
    assert index.count({"year": {"$in": np.array([2, 3])}}) == 1
    for call in (index.get, index.delete, lambda ids: index.upsert(ids, np.eye(2))):
        with pytest.raises(errors.InvalidArgument, match="id 1 is 7; ids are the names of files: strings"):
            call(["a", 7])
    assert len(index) == 2
