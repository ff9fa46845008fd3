"""Bytes that no client should send, to a live node: refused or answered, never a failure, and nobody else notices."""

import base64
import json
import os
import random
import re
import socket
import struct
import time
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.frontends.http.test_websocket import Listener
from tests.waiting import until

SECRET = b"a secret of somebody else"
WORDS = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\r\n\r\n", b"\r\n ", b"Content-Length: -1\r\n", b"\xff\xfe",
    b"Content-Length: 99999999999999999999\r\n", b"Content-Length: 0x5\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked, identity\r\n", b"Transfer-Encoding : chunked\r\n", b"fffffffffffffffff\r\n",
    b"0\r\n\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"Range: bytes=9-1,-5\r\n",
    b"Content-Range: bytes 5-1/2\r\n", b"Content-Encoding: gzip\r\n", b"X-A: " + b"a" * 5000 + b"\r\n",
    b"Host: \r\n",
    b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0",
    b"%2e%2e%2f", b"%00", b"%", b"../", b"?a=1&a=2", b"#", b"[", b'"', b"{", b"\\",
    b"1e999", b"NaN", b"-0", b"null", b'{"$or": []}', b"\xc0\xaf", b"\xed\xa0\x80",
)  # fmt: skip


def seeds(token):
    """Requests that are all right, as bytes."""

    def request(line, body=b"", *more):
        head = [f"{line} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", *more]
        if body and not any("Transfer" in each for each in more):
            head.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*head, "", ""]).encode() + body

    vector = base64.b64encode(struct.pack("<4f", 1, 0, 0, 0)).decode()
    query = json.dumps({"index": "/fuzz", "vector": vector, "k": 3, "where": {"n": {"$gt": 1}}}).encode()
    upsert = json.dumps({"index": "/fuzz", "ids": ["a"], "vectors": [[1, 2, 3, 4]], "attributes": [{"n": 1}]}).encode()
    calls = [{"op": op, "args": ["/fuzz/a"]} for op in ("stat", "read_file")]
    return [
        request("GET /v1/files/fuzz?limit=2"), request("GET /v1/files/fuzz/a", b"", "Range: bytes=0-3"),
        request("PUT /v1/files/fuzz/b", b"content of a file"), request("HEAD /v1/files/fuzz/a"),
        request("PUT /v1/files/fuzz/c", b"5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        request("PUT /v1/files/fuzz/a", b"0123", "Content-Range: bytes 2-5/*"),
        request("PATCH /v1/files/fuzz/a", b'{"attributes": {"n": 2}}', "Content-Type: application/json"),
        request("POST /v1/query", query, "Content-Type: application/json"),
        request("POST /v1/query?index=/fuzz", struct.pack("<4f", 1, 2, 3, 4), "Content-Type: application/octet-stream"),
        request("POST /v1/upsert", upsert), request("GET /v1/node"), request("OPTIONS /v1/files", b"", "Origin: http://x"),
        request("POST /v1/operations", json.dumps({"calls": calls}).encode()),
        request("POST /v1/search", b'{"text": "a", "mode": "keyword"}'),
    ]  # fmt: skip


def mutated(rng, data):
    """`data` with some of its bytes changed, doubled, missing, or foreign ones among them."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(out):
            out[at] = rng.randrange(256)
        elif kind == 1:
            del out[at : at + rng.choice((1, 2, 10, 100))]
        elif kind == 2:
            out[at:at] = rng.choice(WORDS)
        elif kind == 3:
            piece = bytes(out[at : at + rng.randrange(60)])
            out[at:at] = piece
        elif kind == 4:
            out[at : at + rng.randrange(8)] = rng.choice(WORDS)
        else:
            lines = bytes(out).split(b"\r\n")
            rng.shuffle(lines)
            out = bytearray(b"\r\n".join(lines))
    return bytes(out)


def exchanged(served, data, pieces=1):
    """What the node answers to bytes, sent in some pieces; the connection is then ended from this side."""
    found = b""
    with socket.create_connection(served.host.split(":"), timeout=120) as link:
        step = max(1, -(-len(data) // pieces))
        try:
            for at in range(0, len(data), step):
                link.sendall(data[at : at + step])
            link.shutdown(socket.SHUT_WR)
            while piece := link.recv(65536):
                found += piece
        except OSError:
            pass
    return found


@pytest.fixture(scope="module")
def fuzzed(served):
    fs = served.node.volume
    fs.makedirs("/fuzz")
    fs.makedirs("/foreign")
    fs.write_bytes("/foreign/secret", SECRET)
    fs.write_text("/fuzz/a", "a text to be changed")
    fs.index("/fuzz", dim=4)
    yield served
    fs.rmtree("/fuzz")
    fs.rmtree("/foreign")


def unharmed(served):
    """The node serves others as before, holds nothing, and has met no defect."""
    assert served.ask("GET", "/v1/node").status == 200
    gate = served.node.services["rest"].service
    until(lambda: not gate.describe()["active"])
    assert served.node.volume.read_bytes("/foreign/secret") == SECRET
    assert "Traceback" not in served.log


def mutations(served, rounds, seed):
    token = served.node.tokens.create("fuzz", ["read", "write", "watch"], ["/fuzz"])[0]
    rng, good = random.Random(seed), seeds(token)
    statuses = set()
    for turn in range(rounds):
        data = mutated(rng, b"".join(rng.sample(good, rng.choice((1, 1, 1, 2, 3)))))
        found = exchanged(served, data, rng.choice((1, 1, 1, 3, 20)))
        assert found == b"" or found.startswith(b"HTTP/1.1 "), (seed, turn, data, found[:200])
        assert SECRET not in found, (seed, turn, data)
        told = re.findall(rb"^HTTP/1\.1 (\d+) ", found, re.M)
        statuses |= set(told)
        assert b"500" not in told and b"501" not in told, (seed, turn, data, found)
    unharmed(served)
    return statuses


def test_requests_with_bytes_changed(fuzzed):
    assert len(mutations(fuzzed, 250, 1)) > 4  # it does get in, and is refused for several reasons


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_requests_with_bytes_changed(fuzzed):
    mutations(fuzzed, 8000, int.from_bytes(os.urandom(4)))


def test_a_split_at_any_byte_changes_nothing(fuzzed):
    token = fuzzed.token
    good = seeds(token)
    stream = good[1] + good[7] + good[0].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    def answers(data, pieces):
        found = exchanged(fuzzed, data, pieces)
        return re.sub(rb"(?m)^(date|x-request-id):[^\r]*", b"", found)

    whole = answers(stream, 1)
    assert whole.count(b"HTTP/1.1 20") == 3
    assert answers(stream, len(stream)) == whole  # byte by byte
    for at in range(1, len(stream), 7):
        with socket.create_connection(fuzzed.host.split(":"), timeout=120) as link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link.sendall(stream[:at])
            time.sleep(0.001)
            link.sendall(stream[at:])
            found = b""
            while piece := link.recv(65536):
                found += piece
        assert re.sub(rb"(?m)^(date|x-request-id):[^\r]*", b"", found) == whole, at


PARTS = st.sampled_from(
    ["..", ".", "", "%2e%2e", "%2E.", ".%2e", "..%2f", "%2f..", "%5c..", "..\\", "%00", "..%00", "%252e%252e", "..;",
     "fuzz", "foreign", "secret", "foreign%2fsecret", "%66oreign", "fu%7az", "..%c0%af", "%uff0e%uff0e", "~", "*", "a",
     ".vexfs", ".vexfs%2fuploads", "%2fforeign", "/foreign"]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(parts=st.lists(PARTS, min_size=1, max_size=7), method=st.sampled_from(["GET", "PUT", "DELETE", "PATCH"]),
       above=st.sampled_from(["/fuzz/", "/", "//", "/./fuzz/", "/fuzz/../"]))  # fmt: skip
def test_no_spelling_of_a_path_leads_out(fuzzed, parts, method, above):
    token = fuzzed.node.tokens.create("own", ["read", "write"], ["/fuzz"])[0]
    before = fuzzed.node.volume.listdir("/foreign"), fuzzed.node.volume.listdir("/")
    body = {"GET": None, "PUT": b"x", "DELETE": None, "PATCH": {"mode": 0o600, "rename_to": "/fuzz/moved"}}[method]
    got = fuzzed.ask(method, f"/v1/files{above}{'/'.join(parts)}", body, token=token)
    assert got.status in (200, 201, 204, 400, 403, 404, 405, 409, 413), got
    assert SECRET not in got.body
    assert (fuzzed.node.volume.listdir("/foreign"), fuzzed.node.volume.listdir("/")) == before
    assert fuzzed.node.volume.read_bytes("/foreign/secret") == SECRET
    if not fuzzed.node.volume.exists("/fuzz/a"):
        fuzzed.node.volume.write_text("/fuzz/a", "a text to be changed")


NOISE = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.one_of(NOISE, st.just("a\r\nSet-Cookie: b=c"), st.just("x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")))
def test_no_reply_has_a_header_that_a_client_made(fuzzed, name):
    spelt = quote(name, safe="")
    for line in (f"GET /v1/files/fuzz/{spelt}", f"GET /v1/files/fuzz?cursor={spelt}", f"PUT /v1/files/fuzz/{spelt}"):
        head = (f"{line} HTTP/1.1", "Host: x", f"Authorization: Bearer {fuzzed.token}", f"X-Request-Id: {spelt}")
        data = "\r\n".join((*head, "Content-Length: 0", "Connection: close", "", ""))
        found = exchanged(fuzzed, data.encode())
        head = found.partition(b"\r\n\r\n")[0]
        assert len(re.findall(rb"(?m)^HTTP/1", found)) == 1 and b"set-cookie" not in head.lower(), (line, found)
        assert re.match(rb"HTTP/1\.1 [2-4]\d\d ", found), (line, found)


def frame(rng, payload):
    """A frame of a client, mostly as it should be."""
    first = rng.choice((0x81, 0x81, 0x81, 0x82, 0x88, 0x89, 0x8A, 0x01, 0x00, 0x83, 0xF1, rng.randrange(256)))
    mask = os.urandom(4)
    size = len(payload) if rng.random() < 0.9 else rng.randrange(1 << 16)
    length = bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + size.to_bytes(2)
    if rng.random() < 0.05:
        length = bytes([0xFF]) + (1 << rng.randrange(64)).to_bytes(8)
    if rng.random() < 0.05:
        length = bytes([length[0] & 0x7F]) + length[1:]
    return bytes([first]) + length + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def websocket_frames(served, rounds, seed):
    rng = random.Random(seed)
    good = [
        b'{"action": "subscribe", "channel": "files", "id": "f", "path": "/fuzz"}',
        b'{"action": "subscribe", "channel": "search", "id": "s", "vector": [1, 0, 0, 0], "where": {"n": 1}}',
        b'{"action": "subscribe", "channel": "performance", "id": "p", "interval_s": 0.2}',
        b'{"action": "unsubscribe", "id": "f"}', b'{"action": "auth", "token": "vex_x"}',
    ]  # fmt: skip
    service = served.node.services["websocket"].service
    with Listener(served) as other:
        other.hear("ready")
        for _ in range(rounds):
            with Listener(served, close_timeout=0.1) as client:
                client.hear("ready")
                raw = client.link.socket
                try:
                    for _ in range(rng.randrange(1, 5)):
                        text = rng.choice(good)
                        raw.sendall(frame(rng, text if rng.random() < 0.4 else mutated(rng, text)))
                except OSError:
                    pass
        other.say(action="subscribe", channel="performance", id="alive", interval_s=0.2)
        assert other.hear("event")["id"] == "alive"
    until(lambda: not service.describe()["clients"])
    assert not served.node.volume.catalog.standing
    unharmed(served)


def test_frames_with_bytes_changed(fuzzed):
    websocket_frames(fuzzed, 40, 2)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_frames_with_bytes_changed(fuzzed):
    websocket_frames(fuzzed, 1500, int.from_bytes(os.urandom(4)))
