"""A node that stops while clients are in the middle of something."""

import gc
import json
import socket

import pytest
from vexfs.frontends.local import LocalVolume
from websockets.sync.client import connect

from tests.waiting import until
from vexfs.node import uploads


def opened(url, data=b""):
    """A connection to a port of the node, on which so much was said."""
    host, _, port = url.rpartition("/")[2].rpartition(":")
    link = socket.create_connection((host, int(port)), timeout=120)
    link.sendall(data)
    return link


@pytest.fixture
def untold(monkeypatch, caplog):
    """What would be complained of where nobody can do anything about it: by asyncio, and when objects go."""
    found = []
    gc.collect()  # what earlier tests left is theirs
    monkeypatch.setattr("sys.unraisablehook", lambda what: found.append(what.exc_value))
    return lambda: found + [record.message for record in caplog.records if record.name == "asyncio"]


def test_an_upload_that_is_cut_off_by_a_stop_leaves_nothing(serve, untold):
    node = serve("general.stop_timeout=1s")
    lines = "PUT /v1/files/a HTTP/1.1", "Host: x", f"Authorization: Bearer {node.token}", "Content-Length: 1000000"
    rest = node.node.services["rest"].service
    with opened(node.url, "\r\n".join((*lines, "", "begun")).encode()) as link:
        until(lambda: rest.describe()["active"] == 1)
        node.stop()
        assert link.recv(100) == b""
    gc.collect()
    assert untold() == []
    with LocalVolume.load(node.directory / "data/volume.vex") as fs:
        assert uploads.sweep(fs.filesystem) == 0
        assert not fs.exists("a")


def test_a_stop_does_not_wait_for_who_has_not_asked_yet(serve, untold):
    node = serve("general.stop_timeout=1s")
    service = node.node.services["websocket"].service
    silent = [opened(service.url, data) for data in (b"", b"GET /v1/subscribe HTTP/1.1\r\n")]
    who = {"Authorization": f"Bearer {node.token}"}
    with connect(service.url + "/v1/subscribe", additional_headers=who) as link:
        link.send(json.dumps({"action": "subscribe", "channel": "files"}))
        assert [json.loads(link.recv())["type"] for _ in range(2)] == ["ready", "subscribed"]
        until(lambda: len(service._links) == 3)
        node.stop()
        assert service._links == set()
    for each in silent:
        with each:
            try:
                assert each.recv(1 << 16) == b""
            except ConnectionResetError:
                pass
    gc.collect()
    assert untold() == []
