"""What clients offer or ask before a request: another protocol, to be told when to send; and targets with a '#'."""

import re
import socket
import ssl
import threading

import pytest

import vexfs
from tests.frontends.http.test_gate import certificate
from tests.waiting import until
from vexfs.errors import VexfsError

OFFER = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"


def head(served, line, *headers):
    return "\r\n".join([line, "Host: x", f"Authorization: Bearer {served.token}", *headers, "", ""]).encode()


@pytest.fixture
def link(served):
    host, _, port = served.host.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=120) as opened:
        yield opened


def to_the_end(link, data):
    link.sendall(data)
    link.shutdown(socket.SHUT_WR)
    return link.makefile("rb").read()


def statuses(answer):
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d+) ", answer)]


@pytest.mark.parametrize("split", [1 << 20, 50, 1])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_offer_of_http2_is_passed_over_and_its_body_is_read(served, link, split, chunked):
    """As Java's client and `curl --http2` make one with every request: the upload was an empty file."""
    body = b"5\r\nwhole\r\n0\r\n\r\n" if chunked else b"whole"
    framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 5"
    name = f"offered-{split}-{chunked}"
    put = head(served, f"PUT /v1/files/{name} HTTP/1.1", framing, OFFER.rstrip()) + body
    get = head(served, f"GET /v1/files/{name} HTTP/1.1", OFFER.rstrip())
    data = put + get + head(served, "GET /v1/node HTTP/1.1")
    for at in range(0, len(data), split):
        link.sendall(data[at : at + split])
    answer = to_the_end(link, b"")
    assert statuses(answer) == [201, 200, 200] and b"\r\n\r\nwhole" in answer
    assert served.node.volume.read_bytes(name) == b"whole"


def test_an_offer_changes_no_limit(served, link):
    many = head(served, "GET /v1/node HTTP/1.1", *["a:b"] * 9000, OFFER.rstrip())
    assert statuses(to_the_end(link, many)) == [431]


def test_who_asks_for_a_websocket_is_told_of_its_port(served, link):
    asked = head(served, "GET /v1/subscribe HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket")
    answer = to_the_end(link, asked)
    assert statuses(answer) == [400] and b"WebSocket has a port of its own" in answer


def test_who_waits_to_be_asked_for_a_body_is_asked_when_it_is_its_turn(served, link):
    put = head(served, "PUT /v1/files/asked HTTP/1.1", "Content-Length: 5", "Expect: 100-continue")
    link.sendall(head(served, "GET /v1/node HTTP/1.1") + put)
    got = b""
    while b"100 Continue\r\n\r\n" not in got:
        more = link.recv(1 << 16)
        assert more
        got += more
    assert statuses(got + to_the_end(link, b"whole")) == [200, 100, 201]


def test_a_client_of_http_1_0_gets_no_interim_answer(served, link):
    put = head(served, "PUT /v1/files/old HTTP/1.0", "Content-Length: 5", "Expect: 100-continue")
    assert statuses(to_the_end(link, put + b"whole")) == [201]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("tail", ["#2", "#"])
def test_a_name_with_a_fragment_is_not_taken_for_the_one_before_it(served, link, method, tail):
    served.node.volume.write_text("note", "x")
    answer = to_the_end(link, head(served, f"{method} /v1/files/note{tail} HTTP/1.1"))
    assert statuses(answer) == [400] and b"%23" in answer
    assert served.node.volume.exists("note")


def test_a_head_that_stops_on_a_kept_connection_is_told_so(serve):
    served = serve("api.keepalive_timeout=1s")
    go = threading.Event()
    served.node.verb("node.sleep")(lambda node: go.wait(100))
    host, _, port = served.host.rpartition(":")
    gate = served.node.services["rest"].service._gate
    with socket.create_connection((host, int(port)), timeout=120) as link:
        link.sendall(head(served, "POST /v1/verbs/node.sleep HTTP/1.1", "Content-Length: 0"))
        until(lambda: gate.active)
        link.sendall(b"GET /v1/node HT")
        until(lambda: [each for each in gate.connections if each._head_bytes])
        go.set()
        assert statuses(link.makefile("rb").read()) == [200, 408]


def test_who_comes_in_clear_where_tls_is_spoken_is_told_so(serve, tmp_path):
    certificate(tmp_path, "now")
    files = [f"api.tls_{what}_file={tmp_path}/now.{end}" for what, end in (("cert", "crt"), ("key", "key"))]
    served = serve("api.tls_enabled=true", *files)
    websocket = served.node.services["websocket"].service.url
    for place in (served.host, websocket.rpartition("/")[2]):
        for method in ("GET", "DELETE"):
            host, _, port = place.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=120) as link:
                link.sendall(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                got = b""
                while not got.endswith(b"}") and (more := link.recv(1 << 16)):
                    got += more
            assert statuses(got) == [400] and b"ask it with https://" in got
    with pytest.raises(VexfsError, match="ask it with https://"):
        vexfs.connect(served.url.replace("https", "http"), served.token)
    trusting = ssl.create_default_context(cafile=f"{tmp_path}/now.crt")
    place = served.url.replace("127.0.0.1", "localhost")
    with vexfs.connect(place, served.token, context=trusting) as fs:
        assert fs.exists("/")
