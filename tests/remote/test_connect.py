import errno
import os
import socket
import threading

import pytest

import vexfs
from vexfs import errors
from vexfs.remote.link import Refused


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(errors.Unreachable, match="Connection refused"):
            vexfs.connect(f"http://127.0.0.1:{free.getsockname()[1]}")


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://", "http://x/path", ""])
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


def test_the_token_of_the_environment(served, monkeypatch):
    monkeypatch.setenv("VEXFS_TOKEN", served.token)
    with vexfs.connect(served.url) as fs:
        assert fs.exists("/") and fs.url == served.url


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
