"""What is no sound HTTP/1.1, and what would keep the node busy before it knows who asks."""

import contextlib
import re
import socket
import struct
import threading
import time

import pytest
from vexfs.frontends.http import connection
from vexfs.frontends.http.api import files

from tests.waiting import until


def talk(served, data, wait_s=120.0):
    """Send bytes; everything that comes back until the node hangs up, or is silent for so long."""
    host, _, port = served.host.rpartition(":")
    got = b""
    with socket.create_connection((host, int(port)), timeout=wait_s) as link:
        try:
            link.sendall(data)
            while more := link.recv(1 << 16):
                got += more
        except (TimeoutError, ConnectionError):
            pass
    return got


def to_its_end(served, data):
    """What comes back though bytes are sent that nobody wants."""
    host, _, port = served.host.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=120) as link:
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        return link.makefile("rb").read()


def head(served, line, *headers):
    return "\r\n".join([line, "Host: x", f"Authorization: Bearer {served.token}", *headers, "", ""]).encode()


def statuses(answer):
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d+) ", answer)]


SEARCH = "POST /v1/count HTTP/1.1"
CHUNKED = "Transfer-Encoding: chunked"


def test_headers_behind_a_body_change_nothing(served):
    body = b'2\r\n{}\r\n0\r\nContent-Type: text/evil\r\nAuthorization: x\r\nX-Request-Id: evil\r\n\r\n'
    answer = talk(served, head(served, SEARCH, CHUNKED, "Connection: close") + body)
    assert statuses(answer) == [400] and b"index" in answer and b"evil" not in answer


@pytest.mark.parametrize("end", [b"a:b\r\n" * 100_000, b"a: " + b"b" * 600_000])
def test_endless_headers_behind_a_body_are_refused(served, end, monkeypatch):
    monkeypatch.setattr(connection, "LINGER_S", 100.0)
    fed, feed = [], connection.Connection.on_header
    monkeypatch.setattr(connection.Connection, "on_header", lambda *given: [fed.append(1), feed(*given)][1])
    answer = to_its_end(served, head(served, SEARCH, CHUNKED) + b"0\r\n" + end)
    assert statuses(answer) == [431] and len(fed) < 10_000  # what comes behind the refusal costs nothing


def test_many_small_headers_are_refused_whatever_comes_at_once(served):
    answer = talk(served, head(served, "GET /v1/node HTTP/1.1", *["a:b"] * 9000))
    assert statuses(answer) == [431]
    assert statuses(talk(served, head(served, f"GET /v1/files/{'x' * 40_000} HTTP/1.1"))) == [431]


@pytest.mark.parametrize("coding", ["gzip, chunked", "chunked, chunked", "deflate, chunked"])
def test_transfer_codings_that_are_not_undone_are_refused(served, coding):
    begun = head(served, "PUT /v1/files/coded HTTP/1.1", f"Transfer-Encoding: {coding}")
    assert statuses(talk(served, begun + b"1\r\nx\r\n0\r\n\r\n")) == [400]
    assert not served.node.volume.exists("/coded")


@pytest.mark.parametrize(
    "headers",
    [["Content-Length: 5", CHUNKED], ["Content-Length: 1", "Content-Length: 1"], ["Content-Length: +1"],
     ["Transfer-Encoding: xchunked"], ["Transfer-Encoding : chunked"], ["X: a\r\n b"], ["X: a\0b"], ["X: a\rb"]],
)  # fmt: skip
def test_what_two_programs_could_read_differently_is_refused(served, headers):
    assert statuses(talk(served, head(served, "PUT /v1/files/two HTTP/1.1", *headers) + b"0\r\n\r\n")) == [400]


def test_what_came_before_something_broken_is_answered_first(served):
    whole = head(served, "GET /v1/node HTTP/1.1")
    assert statuses(talk(served, whole * 3 + b"broken\r\n\r\n")) == [200, 200, 200, 400]
    assert statuses(talk(served, whole * 40)) == [200] * 16 + [429]
    half = head(served, "PUT /v1/files/half HTTP/1.1", CHUNKED) + b"zz\r\n"
    assert statuses(talk(served, whole + half)) == [200, 400]


@pytest.mark.parametrize("before", [b"", b"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_who_is_refused_for_a_head_without_end_reads_why_though_it_sends_on(served, before, monkeypatch):
    monkeypatch.setattr(connection, "LINGER_S", 100.0)
    answer = to_its_end(served, before + b"GET / HTTP/1.1\r\nHost: x\r\nx: " + b"a" * 4_000_000)
    assert statuses(answer) == ([200, 431] if before else [431])


def test_one_connection_too_many_is_told_so(serve, monkeypatch):
    monkeypatch.setattr(connection, "LINGER_S", 100.0)
    node = serve()
    gate = node.node.services["rest"].service._gate
    monkeypatch.setattr(gate, "_connections_most", 0)
    for _ in range(3):
        assert statuses(to_its_end(node, b"GET / HTTP/1.1\r\nHost: x\r\nx: " + b"a" * 4_000_000)) == [503]
    until(lambda: not gate._turned_away)


def test_who_is_refused_early_reads_why(served, monkeypatch):
    """The reply comes whole though most of what was sent is not read."""
    monkeypatch.setattr(connection, "LINGER_S", 100.0)
    for _ in range(5):
        answer = talk(served, head(served, "GET /v1/node HTTP/1.1", "X: " + "a" * 3_000_000))
        assert statuses(answer) == [431] and answer.endswith(b"}")


def test_bodies_that_wait_are_bounded_together(serve):
    served = serve("api.max_body_size=1MB", "api.request_timeout=1h")
    host, _, port = served.host.rpartition(":")
    gate, links = served.node.services["rest"].service._gate, []
    for number in range(17):
        until(lambda held=number * 999_000: gate._held == held)
        link = socket.create_connection((host, int(port)), timeout=120)
        link.sendall(head(served, SEARCH, "Content-Length: 1000000") + b" " * 999_000)
        links.append(link)
    seen = []
    for link in reversed(links):
        link.sendall(b" " * 1000)
        seen.append(statuses(link.recv(4096)))
        link.close()
    assert seen == [[503]] + [[400]] * 16
    until(lambda: gate._held == 0)


def test_what_comes_behind_a_request_that_takes_too_long_does_not_make_it_endless(serve):
    served = serve("api.request_timeout=500ms")
    release = threading.Event()
    served.node.verb("node.sleep")(lambda node: release.wait(60))
    body = b"{}"
    slow = head(served, "POST /v1/verbs/node.sleep HTTP/1.1", "Content-Type: application/json",
                f"Content-Length: {len(body)}") + body  # fmt: skip
    try:
        assert statuses(talk(served, slow + head(served, "GET /v1/files HTTP/1.1"))) == [504]
    finally:
        release.set()


def test_the_end_of_an_upload_that_takes_too_long_is_answered(serve, monkeypatch):
    served = serve("api.request_timeout=500ms")
    release, real = threading.Event(), files._FileSink.finish

    def finish(self):
        release.wait(60)
        return real(self)

    monkeypatch.setattr(files._FileSink, "finish", finish)
    try:
        answer = talk(served, head(served, "PUT /v1/files/late HTTP/1.1", "Content-Length: 3") + b"abc")
        assert statuses(answer) == [504]
    finally:
        release.set()


@pytest.mark.parametrize("way", ["the client goes", "the time is over"])
def test_an_upload_of_which_a_part_waits_is_not_taken_for_a_whole_one(serve, monkeypatch, way):
    served = serve("api.request_timeout=1h")
    begun, release, real = threading.Event(), threading.Event(), files._FileSink.write

    def write(self, data):
        begun.set()
        release.wait(60)
        real(self, data)

    monkeypatch.setattr(files._FileSink, "write", write)
    host, _, port = served.host.rpartition(":")
    gate = served.node.services["rest"].service
    with socket.create_connection((host, int(port)), timeout=120) as link:
        link.sendall(head(served, "PUT /v1/files/half HTTP/1.1", CHUNKED) + b"3\r\nabc\r\n")
        assert begun.wait(120)
        served.node.change({"api.request_timeout": "2s"})
        link.sendall(b"3\r\ndef\r\n0\r\n\r\n")
        time.sleep(0.2)  # all of it has come, and half of it is written
        if way == "the client goes":
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # at once, as when it crashes
        else:
            assert statuses(link.recv(1 << 16)) == [504]
    until(lambda: not gate.figures()["connections"])
    release.set()
    until(lambda: not gate.describe()["active"])
    assert not served.node.volume.exists("/half")


def test_a_reader_that_stalls_and_asks_on_is_dropped(serve):
    served = serve("api.request_timeout=1s", "api.keepalive_timeout=1s")
    served.node.volume.write_bytes("big", bytes(32 << 20))
    host, _, port = served.host.rpartition(":")
    gate = served.node.services["rest"].service
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect((host, int(port)))
        link.sendall(head(served, "GET /v1/files/big HTTP/1.1"))
        for _ in range(4):
            time.sleep(0.4)
            with contextlib.suppress(OSError):
                link.sendall(head(served, "GET /v1/files HTTP/1.1"))
        until(lambda: gate.figures()["connections"] == gate.figures()["active"] == 0)
