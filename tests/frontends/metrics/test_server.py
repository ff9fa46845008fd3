"""The ports of metrics and health, talked to over real sockets, also by those who mean no good."""

import contextlib
import http.client
import json
import socket
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families
from vexfs.frontends.metrics import Endpoints, Server
from vexfs.frontends.metrics import server as serving

from tests.waiting import until
from vexfs import machinery
from vexfs.errors import UsageError
from vexfs.observe.history import History
from vexfs.observe.parts import Parts
from vexfs.volume import Volume


@pytest.fixture
def volume(tmp_path):
    with Volume.create(tmp_path / "v.vex") as volume:
        yield volume


@pytest.fixture
def served(volume):
    history = History(Parts(volume, machinery.simd(), node_id="n1"))
    with Server(Endpoints(history), ("127.0.0.1", 0), ("127.0.0.1", 0)) as server:
        yield server


def get(address, path, method="GET"):
    connection = http.client.HTTPConnection(*address, timeout=120)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def raw(address, sent, timeout=120):
    with socket.create_connection(address, timeout=timeout) as s:
        s.sendall(sent)
        received = b""
        with contextlib.suppress(ConnectionResetError):  # the end of an answer before the request was read
            while chunk := s.recv(65536):
                received += chunk
    return received


def test_metrics_are_what_prometheus_reads(served):
    answer, body = get(served.addresses["metrics"], "/metrics")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    names = {family.name for family in text_string_to_metric_families(body.decode())}
    assert {"vexfs_fuse_ops_per_sec", "vexfs_fs_operations", "vexfs_scrapes"} <= names


def test_collect_is_honoured(served):
    _, body = get(served.addresses["metrics"], "/metrics?collect[]=pools&collect%5B%5D=node")
    names = {family.name for family in text_string_to_metric_families(body.decode())}
    assert "vexfs_pool_acquires" in names and "vexfs_build_info" in names and "vexfs_fs_files" not in names
    answer, body = get(served.addresses["metrics"], "/metrics?collect[]=nonsense")
    assert answer.status == 400 and b"pools" in body


def test_health_and_readiness(served, volume):
    answer, body = get(served.addresses["health"], "/health")
    assert answer.status == 200 and json.loads(body)["node"] == "n1"
    answer, body = get(served.addresses["health"], "/ready")
    assert answer.status == 200 and json.loads(body)["ready"]
    answer, body = get(served.addresses["health"], "/detailed-metrics?last=10")
    assert answer.status == 200 and json.loads(body)["filesystem"]["files"] == 1
    volume.close()
    assert get(served.addresses["health"], "/ready")[0].status == 503
    assert get(served.addresses["health"], "/health")[0].status == 200
    assert get(served.addresses["health"], "/detailed-metrics")[0].status == 503


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/nowhere", "GET", 404), ("/metrics", "POST", 405), ("/metrics?x=1", "GET", 400), ("/metrics/../etc", "GET", 404),
     ("/metrics?" + "a&" * 100, "GET", 400), ("/metrics", "HEAD", 200)],
)  # fmt: skip
def test_each_wrong_request_has_its_status(served, path, method, status):
    answer, body = get(served.addresses["metrics"], path, method)
    assert answer.status == status
    assert method != "HEAD" or not body


def test_a_connection_serves_many_requests(served):
    connection = http.client.HTTPConnection(*served.addresses["health"], timeout=120)
    for _ in range(50):
        connection.request("GET", "/health")
        answer = connection.getresponse()
        assert answer.read() and answer.status == 200
    connection.close()


@pytest.mark.parametrize("said", ["close", "Upgrade, HTTP2-Settings, close", "Close"])
@pytest.mark.parametrize("space", ["", " "])
def test_who_wants_the_connection_closed_is_heard(served, said, space):
    answer = raw(served.addresses["health"], f"GET /health HTTP/1.1\r\nConnection:{space}{said}\r\n\r\n".encode())
    assert b"\r\nConnection: close\r\n" in answer


def test_garbage_and_long_heads_are_refused_and_others_served(served):
    for name in ("metrics", "health"):
        address = served.addresses[name]
        assert b" 400 " in raw(address, b"nonsense\r\n\r\n").splitlines()[0]
        assert b" 431 " in raw(address, b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n").splitlines()[0]
        raw(address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        smuggled = raw(address, b"GET /x HTTP/1.1\r\nContent-Length: 27\r\n\r\nGET /health HTTP/1.1\r\n\r\n")
        assert smuggled.count(b"HTTP/1.1 ") == 1  # a body is no second request
    assert get(served.addresses["health"], "/health")[0].status == 200


def test_slow_clients_are_dropped_and_hold_nobody_up(served, monkeypatch):
    address = served.addresses["health"]
    for wait_s in (3600.0, 1.0):
        monkeypatch.setattr(serving, "HEAD_TIMEOUT_S", wait_s)
        idle = [socket.create_connection(address, timeout=120) for _ in range(50)]
        for s in idle:
            s.sendall(b"GET /hea")
        if wait_s > 1:
            assert get(address, "/health")[0].status == 200
        else:
            assert all(s.recv(100) == b"" for s in idle)
        for s in idle:
            s.close()
        until(lambda: not served._open)


def test_connections_beyond_the_bound_are_told_so(served, monkeypatch):
    monkeypatch.setattr(serving, "CONNECTIONS_MOST", 3)
    monkeypatch.setattr(serving, "HEAD_TIMEOUT_S", 3600.0)
    address = served.addresses["health"]
    held = [socket.create_connection(address, timeout=120) for _ in range(3)]
    until(lambda: b" 503 " in raw(address, b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n").splitlines()[0])
    for s in held:
        s.close()
    until(lambda: get(address, "/health")[0].status == 200)


@pytest.mark.parametrize("crowded", [False, True])
def test_an_answer_arrives_however_much_of_the_request_was_not_read(served, monkeypatch, crowded):
    address = served.addresses["health"]
    monkeypatch.setattr(serving, "LINGER_S", 100.0)
    monkeypatch.setattr(serving, "HEAD_TIMEOUT_S", 3600.0)
    if crowded:
        monkeypatch.setattr(serving, "CONNECTIONS_MOST", 1)
    with socket.create_connection(address, timeout=120), socket.create_connection(address, timeout=120) as s:
        until(lambda: served._open >= 2)
        s.sendall(b"POST /health HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n" + b"x" * 8_000_000)
        s.shutdown(socket.SHUT_WR)
        assert (b" 503 " if crowded else b" 405 ") in s.makefile("rb").read().splitlines()[0]


def test_scrapes_go_on_beside_work(served, volume):
    stop = threading.Event()

    def work():
        i = 0
        while not stop.is_set():
            volume.filesystem.write_file(f"a{i % 100}", b"x" * 2000)
            i += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(20):
            assert get(served.addresses["metrics"], "/metrics")[0].status == 200
    finally:
        stop.set()
        thread.join()


def test_an_address_in_use_is_named(served, volume):
    taken = served.addresses["metrics"]
    again = Server(Endpoints(History(Parts(volume))), taken, None)
    with pytest.raises(UsageError, match=f"metrics cannot be served on 127.0.0.1:{taken[1]}"):
        again.start()
    again.stop()


def test_after_stop_nobody_answers(volume):
    server = Server(Endpoints(History(Parts(volume))), None, ("127.0.0.1", 0))
    server.start()
    address = server.addresses["health"]
    held = socket.create_connection(address, timeout=120)
    server.stop()
    assert held.recv(10) == b""
    held.close()
    with pytest.raises(OSError):
        socket.create_connection(address, timeout=1).close()
