"""Uploads that do not come to their end, and those that do: nobody sees a part of a file."""

import json
import signal
import socket
import urllib.request

import pytest

import vexfs
from tests.cli.test_serve import Served as Process
from tests.frontends.http.test_websocket import Listener
from tests.waiting import until
from vexfs.node import uploads

MEBIBYTE = 1 << 20


def parts(filesystem):
    try:
        return [name for name, _, _ in filesystem.scandir(uploads.DIRECTORY)]
    except FileNotFoundError:
        return []


def begun(address, token, path, sent=3 * MEBIBYTE, whole=9 * MEBIBYTE):
    """A connection with an upload of which the end is missing."""
    link = socket.create_connection(address, timeout=120)
    head = (f"PUT /v1/files{path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", f"Content-Length: {whole}")
    link.sendall("\r\n".join((*head, "", "")).encode() + b"x" * sent)
    return link


def killed_in_an_upload(directory):
    """A node's directory after kill -9 in the middle of an upload that had reached the disk."""
    node = Process(directory, "api.rest_enabled=true", "api.rest_bind=127.0.0.1:0")
    try:
        status = json.loads(node.vexctl("node", "status", "--json").stdout)
        host, port = status["services"]["rest"]["url"].removeprefix("http://").split(":")
        scopes = (word for scope in ("write", "read", "admin") for word in ("--scope", scope))
        made = json.loads(node.vexctl("token", "create", "me", *scopes, "--json").stdout)
        with begun((host, int(port)), made["token"], "/in/big"):
            with vexfs.connect(f"http://{host}:{port}", made["token"]) as fs:
                until(lambda: fs.exists("/in") and fs.info()["status"]["used_bytes"] >= MEBIBYTE)
                fs.sync()
            node.process.kill()
            node.process.wait(120)
    finally:
        node.process.kill()
        node.process.stderr.close()


def test_what_a_client_waited_for_is_there_after_kill_9(tmp_path):
    node = Process(tmp_path, "api.rest_enabled=true", "api.rest_bind=127.0.0.1:0")
    try:
        url = json.loads(node.vexctl("node", "status", "--json").stdout)["services"]["rest"]["url"]
        made = json.loads(node.vexctl("token", "create", "me", "--scope", "write", "--scope", "read", "--json").stdout)
        headers = {"Authorization": f"Bearer {made['token']}", "Content-Type": "application/json"}
        wait = json.dumps({"calls": [{"op": "fsync"}]}).encode()  # as http.md has it
        for method, where, body in (("PUT", "files/in/kept", b"kept"), ("POST", "operations", wait)):
            asked = urllib.request.Request(f"{url}/v1/{where}", body, headers, method=method)
            with urllib.request.urlopen(asked, timeout=120) as answer:
                assert answer.status in (200, 201) and b"fault" not in answer.read()
    finally:
        node.process.kill()
        node.process.wait(120)
        node.process.stderr.close()
    with vexfs.open(tmp_path / "data/volume.vex", read_only=True) as fs:
        assert fs.read_bytes("in/kept") == b"kept"


def test_a_node_that_is_killed_in_an_upload_leaves_nothing(tmp_path):
    killed_in_an_upload(tmp_path)
    with vexfs.open(tmp_path / "data/volume.vex", read_only=True) as fs:
        assert fs.listdir("in") == [] and len(parts(fs.filesystem)) == 1
    again = Process(tmp_path)
    try:
        assert any("removed 1 uploads" in line for line in again.log)
    finally:
        assert again.end(signal.SIGTERM) == 0
        again.process.stderr.close()
    with vexfs.open(tmp_path / "data/volume.vex") as fs:
        assert fs.listdir("in") == [] and parts(fs.filesystem) == []


@pytest.mark.parametrize("sent", [1000, 3 * MEBIBYTE])
def test_a_client_that_goes_in_an_upload_holds_nothing(served, sent):
    gate = served.node.services["rest"].service
    host, port = served.host.split(":")
    link = begun((host, int(port)), served.token, "/gone", sent)
    until(lambda: gate.describe()["active"] == 1)
    link.close()
    until(lambda: gate.describe()["active"] == 0)
    assert not served.node.volume.exists("/gone") and parts(served.node.volume.filesystem) == []


def test_a_client_that_ends_within_a_request_is_told(served):
    host, port = served.host.split(":")
    for data in (b"GET /v1/fi", b"POST /v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"):
        with socket.create_connection((host, int(port)), timeout=120) as link:
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
            assert link.recv(65536).startswith(b"HTTP/1.1 4")
            while link.recv(65536):
                pass


def test_a_large_upload_is_seen_once_it_is_whole(served):
    fs = served.node.volume
    fs.index("/texts", embedder="default")
    fs.sync()
    with Listener(served) as client:
        client.say(action="subscribe", channel="files", id="f", path="/texts")
        client.hear("subscribed")
        text = "Sailing boats left for the sea at dawn.\n" * 40_000
        assert served.ask("PUT", "/v1/files/texts/log.txt", text.encode()).status == 201
        fs.sync()
        told = client.hear("event")["data"]
        assert (told["event"], told["path"]) == ("written", "/texts/log.txt")
    assert fs.listdir("/texts") == ["log.txt"] and parts(fs.filesystem) == []
    assert fs.ingest.wait(120)
    assert fs.search("boats at sea", k=1, under="/texts")[0].path == "/texts/log.txt"
    fs.rmtree("/texts")
