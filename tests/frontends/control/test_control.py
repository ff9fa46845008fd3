import json
import os
import resource
import socket
import stat
import threading
import time

import pytest
from vexfs.frontends.control import ControlService
from vexfs.frontends.control import server as control

from vexfs import errors
from vexfs.cli.reach import Reach
from vexfs.errors import NotFound, Unreachable, UsageError, VexfsError
from vexfs.node import Node, verb


class Stand:
    """The part of a node that the control socket needs."""

    def __init__(self, path):
        from vexfs.config import load

        self.settings = load(environment={}, overrides=[f"general.control_socket={path}"])

    def call(self, name, args):
        return verb.run(self, name, args)


@pytest.fixture
def served(tmp_path):
    service = ControlService(Stand(tmp_path / "c.sock"))
    service.start()
    yield service
    service.stop(5)


@pytest.fixture
def verbs():
    """Registers verbs for one test."""
    before = dict(verb._functions)
    yield Node.verb
    verb._functions.clear()
    verb._functions.update(before)


def raw(served):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(120)
    connection.connect(str(served.path))
    return connection, connection.makefile("rb")


def test_progress_where_more_than_a_thousand_files_are_open(served, verbs):
    @verbs("test.count")
    def count(node):
        yield {"done": 1}
        return 2

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    held = []
    try:
        held += (os.open(os.devnull, os.O_RDONLY) for _ in range(1100))
        first, _ = raw(served)  # what waits for a connection has the number for it already
        with first, Reach(socket=served.path) as node:
            assert list(node.call("test.count")) == [{"done": 1}]
    finally:
        for each in held:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_progress_then_the_result(served, verbs):
    @verbs("test.count")
    def count(node, upto):
        for i in range(upto):
            yield {"done": i, "total": upto}
        return {"counted": upto, "raw": b"a\xff", "where": served.path}

    connection, answers = raw(served)
    connection.sendall(b'{"id": "a1", "verb": "test.count", "args": {"upto": 2}}\n')
    assert [json.loads(answers.readline()) for _ in range(3)] == [
        {"id": "a1", "progress": {"done": 0, "total": 2}},
        {"id": "a1", "progress": {"done": 1, "total": 2}},
        {"id": "a1", "result": {"counted": 2, "raw": "a\udcff", "where": str(served.path)}},
    ]
    with Reach(socket=served.path) as node:
        call = node.call("test.count", upto=3)
        assert [step["done"] for step in call] == [0, 1, 2]
        assert call.result()["counted"] == 3
        assert node.call("test.count", upto=1).result()["counted"] == 1


def test_errors_are_of_their_class_on_the_other_side(served, verbs):
    @verbs("test.fail")
    def fail(node, how):
        if how == "missing":
            raise NotFound.at("is not there", "/a")
        raise {"os": FileNotFoundError(2, "nothing", "/b"), "bug": KeyError("secret")}[how]

    with Reach(socket=served.path) as node:
        with pytest.raises(NotFound, match="is not there"):
            node.call("test.fail", how="missing").result()
        with pytest.raises(NotFound, match="/b: nothing"):
            node.call("test.fail", how="os").result()
        with pytest.raises(VexfsError, match=r"^the node failed at it \(KeyError\); its log says more") as caught:
            node.call("test.fail", how="bug").result()
        assert "secret" not in str(caught.value)
        with pytest.raises(UsageError, match="no verb is named 'test.nothing'"):
            node.call("test.nothing").result()
        with pytest.raises(UsageError, match="missing a required argument: 'how'"):
            node.call("test.fail").result()
        with pytest.raises(UsageError, match="unexpected keyword argument 'what'"):
            node.call("test.fail", how="x", what=1).result()
    assert errors.row_of(caught.value).exit_code == errors.EXIT_WANTING


def test_what_nobody_waits_for_is_ended(served, verbs):
    ended = threading.Event()

    @verbs("test.forever")
    def forever(node):
        try:
            while True:
                yield {"text": "on and on"}
                time.sleep(0.01)
        finally:
            ended.set()

    with Reach(socket=served.path) as node:
        for _ in node.call("test.forever"):
            break
    assert ended.wait(120)


@pytest.mark.parametrize(
    "line",
    [b"hello", b"[]", b'{"verb": 3}', b'{"verb": "node.status", "args": []}', b"\xff\xfe", b"[" * 100_000, b"null"],
)
def test_what_is_no_request_is_told_and_the_connection_goes_on(served, verbs, line):
    verbs("test.ok")(lambda node: "ok")
    connection, answers = raw(served)
    connection.sendall(line + b"\n")
    assert json.loads(answers.readline())["error"]["type"] == "UsageError"
    connection.sendall(b'{"id": 1, "verb": "test.ok"}\n')
    assert json.loads(answers.readline()) == {"id": 1, "result": "ok"}


def test_a_request_without_end_is_cut_off(served, monkeypatch):
    monkeypatch.setattr(control, "LINE_MOST", 10_000)
    connection, answers = raw(served)
    connection.sendall(b"x" * 20_000)
    assert "bytes at most" in json.loads(answers.readline())["error"]["message"]
    try:
        assert answers.readline() == b""
    except ConnectionResetError:
        pass


def test_half_a_request_holds_nobody_up(served, verbs):
    verbs("test.ok")(lambda node: "ok")
    slow = [raw(served) for _ in range(20)]
    for connection, _ in slow:
        connection.sendall(b'{"id": 1, "verb"')
    with Reach(socket=served.path) as node:
        assert node.call("test.ok").result() == "ok"


def test_only_the_nodes_user_may_connect(served, verbs):
    assert stat.S_IMODE(served.path.stat().st_mode) == 0o600
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    served.path.chmod(0o666)
    for directory in served.path.parents:
        if stat.S_IMODE(directory.stat().st_mode) & 0o001 == 0:
            directory.chmod(0o711)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setresuid(65534, 65534, 65534)
            connection, answers = raw(served)
            connection.sendall(b'{"id": 1, "verb": "node.stop"}\n')
            status = 0 if answers.readline() == b"" else 2
        except (ConnectionError, BrokenPipeError):
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert served.refused == 1


def test_more_connections_than_allowed_are_refused(served, verbs, monkeypatch):
    verbs("test.ok")(lambda node: "ok")
    monkeypatch.setattr(control, "CONNECTIONS_MOST", 3)
    held = [Reach(socket=served.path) for _ in range(3)]
    assert all(each.call("test.ok").result() == "ok" for each in held)
    with pytest.raises(Unreachable):
        Reach(socket=served.path).call("test.ok").result()
    held[0].close()


def test_a_socket_that_a_crash_left_is_replaced_and_a_live_one_is_not(tmp_path, served):
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(tmp_path / "left"))
    left.close()
    service = ControlService(Stand(tmp_path / "left"))
    service.start()
    service.stop(5)
    with pytest.raises(errors.Busy, match="another node answers"):
        ControlService(Stand(served.path)).start()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(errors.Busy, match="is no socket"):
        ControlService(Stand(tmp_path / "file")).start()
    assert (tmp_path / "file").read_text() == "mine"


def test_nobody_there_is_unreachable(tmp_path):
    with pytest.raises(Unreachable, match="no node answers there"):
        Reach(socket=tmp_path / "none")
    assert Unreachable.exit_code == errors.EXIT_UNREACHABLE


def test_the_same_verbs_on_a_volume_without_a_node(tmp_path):
    import vexfs

    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.write_text("a", "x")
    with Reach(volume=tmp_path / "v.vex") as here:
        assert here.here
        assert here.call("volume.info").result()["status"]["files"] >= 1
        backup = here.call("volume.backup", target=str(tmp_path / "copy"))
        assert all({"done", "total"} <= set(step) for step in backup)
        assert backup.result()["path"] == str(tmp_path / "copy")
        with pytest.raises(UsageError, match="no verb is named"):
            here.call("x.y").result()
    with vexfs.open(tmp_path / "copy") as fs:
        assert fs.read_text("a") == "x"
