"""What a client has open or connected lasts: over ten idle minutes, and over a node that is started anew."""

import errno
import socket
import threading

import pytest
from vexfs.frontends.http.api.operations import OPERATIONS, Handles, _Held, handles

import vexfs
from tests.ports import free_port
from tests.remote.conftest import Served
from vexfs.errors import BadHandle, Unreachable


@pytest.fixture
def idle(served, monkeypatch):
    """Has the node give back every open file, as after ten minutes."""

    def give_back():
        with monkeypatch.context() as patch:
            patch.setattr("vexfs.frontends.http.api.operations.IDLE_S", -1.0)
            handles(served.node)._sweep()
        assert not handles(served.node)._held

    return give_back


def test_what_was_not_flushed_is_written_after_ten_idle_minutes(fs, idle):
    with fs.open("log", "wb") as file, fs.open("more", "ab") as more, fs.open("log", "rb") as reader:
        file.write(b"first ")
        file.flush()
        file.write(b"second")
        more.write(b"end")
        fs.rename("log", "elsewhere")
        idle()
        file.flush()
        assert reader.read() == b"first second"
    assert fs.read_bytes("elsewhere") == b"first second" and fs.read_bytes("more") == b"end"


def test_idle_files_are_closed_without_a_word(fs, idle, served):
    file = fs.open("f", "wb")
    file.write(b"x")
    file.flush()
    idle()
    file.close()
    assert not handles(served.node)._held


def test_a_file_that_was_removed_meanwhile_is_told(fs, idle):
    fs.write_text("f", "old")
    with fs.open("f", "r+b", buffering=0) as file:
        fs.remove("f")
        fs.write_text("f", "another")
        idle()
        for use in (lambda: file.write(b"new"), lambda: file.read(1), lambda: fs.fsync(file)):
            with pytest.raises(BadHandle, match="has been removed since"):
                use()
    assert fs.read_text("f") == "another"


def test_many_threads_open_it_again_once(fs, idle, served):
    fs.write_bytes("f", bytes(range(200)))
    with fs.open("f", "rb", buffering=0) as file:
        ino, found = file.ino, []
        idle()
        threads = [
            threading.Thread(target=lambda n=n: found.append(fs.filesystem.read(ino, 1, n) == bytes([n])))
            for n in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 20
        assert len(handles(served.node)._held) == 1


def test_a_token_without_the_path_does_not_open_it_again(fs, served, idle):
    fs.makedirs("own")
    fs.write_text("own/f", "x")
    token = served.node.tokens.create("own", ["read"], ["/own"])[0]
    with vexfs.connect(served.url, token) as mine, mine.open("own/f", "rb", buffering=0) as file:
        fs.rename("own/f", "secret")
        idle()
        with pytest.raises(PermissionError):
            file.read(1)


def lasting(directory):
    """A node at a port that nobody is given while it is started anew."""
    return Served(directory, f"api.rest_bind=127.0.0.1:{free_port()}")


def again(served, directory):
    """The node started anew, at the same port."""
    port = served.url.rpartition(":")[2]
    served.stop()
    return Served(directory, f"api.rest_bind=127.0.0.1:{port}")


def test_over_a_node_that_is_started_anew(tmp_path):
    served = lasting(tmp_path)
    fs = vexfs.connect(served.url, served.token)
    try:
        fs.write_text("f", "content")
        reader, synced, unsynced = fs.open("f", "rb", 0), fs.open("synced", "wb"), fs.open("unsynced", "wb")
        synced.write(b"first ")
        fs.fsync(synced)
        synced.write(b"second")
        unsynced.write(b"first ")
        unsynced.flush()
        unsynced.write(b"second")
        served = again(served, tmp_path)
        fs.mkdir("first request after that")
        assert reader.read() == b"content"
        synced.close()
        assert fs.read_bytes("synced") == b"first second"
        for end in (unsynced.flush, unsynced.close):
            with pytest.raises(BadHandle, match="since its last fsync may be lost"):
                end()
        reader.close()
        assert not handles(served.node)._held
    finally:
        fs.close()
        served.stop()


def test_a_write_that_an_fsync_came_too_early_for_is_told_when_the_node_is_started_anew(tmp_path, monkeypatch):
    served = lasting(tmp_path)
    fs = vexfs.connect(served.url, served.token)
    synced, written, sync = threading.Event(), threading.Event(), OPERATIONS["fsync"]

    def slowly(request, handle=None):
        sync(request, handle)
        synced.set()
        assert written.wait(120)

    try:
        file = fs.open("f", "wb", buffering=0)
        file.write(b"before")
        with monkeypatch.context() as patch:
            patch.setitem(OPERATIONS, "fsync", slowly)
            thread = threading.Thread(target=fs.fsync, args=(file,))
            thread.start()
            assert synced.wait(120)
            file.write(b"meanwhile")
            written.set()
            thread.join()
        served = again(served, tmp_path)
        with pytest.raises(BadHandle, match="since its last fsync may be lost"):
            fs.fsync(file)
    finally:
        fs.close()
        served.stop()


def test_what_a_sync_of_everything_followed_is_not_told_as_lost(tmp_path):
    served = lasting(tmp_path)
    fs = vexfs.connect(served.url, served.token)
    try:
        kept, lost = fs.open("kept", "wb", 0), fs.open("lost", "wb", 0)
        kept.write(b"first ")
        fs.sync()
        lost.write(b"first ")
        served = again(served, tmp_path)
        with pytest.raises(OSError, match="not synced may be lost"):
            fs.sync()
        fs.sync()  # of another run of the node: what came before that is not there for it
        kept.write(b"second")
        with pytest.raises(BadHandle, match="since its last fsync may be lost"):
            lost.write(b"second")
        kept.close()
        lost.close()
        assert fs.read_bytes("kept") == b"first second"
    finally:
        fs.close()
        served.stop()


def test_a_sync_that_comes_after_a_node_was_started_anew_tells_that_changes_may_be_lost(tmp_path):
    served = lasting(tmp_path)
    fs = vexfs.connect(served.url, served.token)

    def restarted(change):
        nonlocal served
        fs.sync()
        change()
        served = again(served, tmp_path)
        assert fs.listdir()

    changes = (
        lambda: fs.write_text("f", "content"), lambda: fs.open("g", "wb").close(), lambda: fs.index("i", dim=2),
        lambda: fs.index("i").upsert(["a"], [[1, 0]]), lambda: fs.index("i").delete(["a"]), lambda: fs.drop_index("i"),
    )  # fmt: skip
    try:
        for change in changes:
            restarted(change)
            fs.mkdir(f"d{len(fs.listdir())}")  # what comes later does not hide it
            with pytest.raises(OSError, match="not synced may be lost") as caught:
                fs.sync()
            assert caught.value.errno == errno.EIO
            fs.sync()
        restarted(lambda: fs.read_text("f"))
        fs.sync()
        served.stop()
        with pytest.raises(Unreachable):
            fs.sync()
        served = Served(tmp_path, f"api.rest_bind=127.0.0.1:{served.url.rpartition(':')[2]}")
        fs.sync()
    finally:
        fs.close()
        served.stop()


class Cutting:
    """A listener before the node that hangs up on the second request of a connection, once it has read it."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.requests = port, 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            with client, socket.create_connection(("127.0.0.1", self.port)) as node:
                client.settimeout(120)
                node.settimeout(120)
                self.requests += 1
                node.sendall(self._whole(client))
                client.sendall(self._whole(node))
                self.requests += bool(self._whole(client))

    def _whole(self, sock):
        raw = b""
        while b"\r\n\r\n" not in raw:
            if not (piece := sock.recv(65536)):
                return raw
            raw += piece
        head, _, rest = raw.partition(b"\r\n\r\n")
        sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        left = int(sizes[0].partition(b":")[2]) - len(rest) if sizes else 0
        while left > 0:
            raw += (piece := sock.recv(65536))
            left -= len(piece)
        return raw


def test_a_connection_that_ends_under_a_request_costs_only_what_must_not_be_done_twice(served, fs):
    fs.write_text("f", "x")
    cutting = Cutting(int(served.url.rpartition(":")[2]))
    other = vexfs.connect(f"http://127.0.0.1:{cutting.listener.getsockname()[1]}", served.token)
    assert other.read_text("f") == "x"
    before = cutting.requests
    with pytest.raises(Unreachable):
        for n in range(4):
            other.mkdir(f"d{n}")
    assert cutting.requests > before
    other.close()
    cutting.listener.close()


def test_the_names_of_handles_begin_with_the_run_of_the_node(served):
    made = Handles(served.node).add(_Held("token", 0))
    assert made.startswith(served.node.run_id) and len(served.node.run_id) == 8 < len(made)
