import contextlib
import itertools
import json
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from vexfs.frontends.http import websocket as module
from vexfs.frontends.http.feeds import FileEvents
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.sync.client import connect

from tests.waiting import until


class Listener:
    """A client of the port."""

    def __init__(self, served, token=None, **more):
        self.url = served.node.services["websocket"].service.url + "/v1/subscribe"
        token = served.token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        given = {**headers, **more.pop("headers", {})}
        self._opening = connect(self.url, additional_headers=given, open_timeout=120, **more)
        self.link = self._opening.__enter__()

    def say(self, **message):
        self.link.send(json.dumps(message))

    def hear(self, kind, timeout=120):
        deadline = time.monotonic() + timeout
        while True:
            message = json.loads(self.link.recv(timeout=max(0.1, deadline - time.monotonic())))
            if message["type"] == kind:
                return message

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._opening.__exit__(*exc)


def test_figures_at_an_interval(served):
    with Listener(served) as client:
        assert "performance" in client.hear("ready")["channels"]
        for name, interval_s in (("often", 0.2), ("seldom", 3600)):
            client.say(action="subscribe", channel="performance", id=name, interval_s=interval_s)
            assert client.hear("subscribed") == {"type": "subscribed", "id": name, "channel": "performance"}
        events = [client.hear("event") for _ in range(10)]
        assert all(each["data"]["pools"]["counts"] for each in events)
        times = [each["data"]["time"] for each in events if each["id"] == "often"]
        assert len(times) == 9 and all(before < after for before, after in itertools.pairwise(times))
        client.say(action="unsubscribe", id="often")
        assert client.hear("unsubscribed")["id"] == "often"


def test_file_events(served):
    fs = served.node.volume
    fs.makedirs("/ev/sub")
    fs.sync()
    with Listener(served) as client:
        client.say(action="subscribe", channel="files", id="f", path="/ev")
        client.hear("subscribed")
        fs.write_text("/ev/a", "x")
        fs.write_text("/elsewhere", "x")
        fs.rename("/ev/a", "/ev/sub/b")
        fs.attributes("/ev/sub/b")["year"] = 1
        fs.remove("/ev/sub/b")
        fs.rename("/elsewhere", "/ev/c")
        fs.write_text("/ev/c", "longer")
        fs.sync()
        seen = []
        # Of a commit between the two, what was written elsewhere is told with the name that the file has by then.
        while not {("written", "/ev/c"), ("renamed", "/ev/c")} <= {(e["event"], e["path"]) for e in seen}:
            seen.append(client.hear("event")["data"])
    events = [(e["event"], e["path"]) for e in seen]
    assert ("made", "/ev/a") in events and ("removed", "/ev/sub/b") in events
    assert not any(path and "elsewhere" in path for _, path in events)
    renames = [e for e in seen if e["event"] == "renamed"]
    assert renames[0]["from"] == "/ev/a" and renames[0]["path"] == "/ev/sub/b"
    assert "from" not in renames[1] and renames[1]["path"] == "/ev/c"


def test_names_that_only_begin_as_the_hidden_one_are_told(served):
    served.node.volume.sync()
    with Listener(served) as client:
        client.say(action="subscribe", channel="files", id="f")
        client.hear("subscribed")
        served.node.volume.write_text("/.vexfs-notes", "x")
        served.node.volume.sync()
        assert client.hear("event")["data"]["path"] == "/.vexfs-notes"


def test_tokens_that_cannot_be_read_for_a_moment(serve):
    served = serve()
    file = served.node.tokens.path
    tokens = file.read_bytes()
    with Listener(served) as client:
        client.say(action="subscribe", channel="performance", id="p", interval_s=0.2)
        client.hear("event")
        file.write_bytes(b"{")
        with pytest.raises(ConnectionClosed) as end:
            client.hear("error")
        assert (end.value.rcvd.code, end.value.rcvd.reason[:25]) == (4003, "tokens cannot be checked;")
    file.write_bytes(tokens)
    with Listener(served) as client:
        client.say(action="subscribe", channel="performance", id="p", interval_s=0.2)
        client.hear("event")


def test_who_only_talks_is_heard_no_further_than_the_answers_are_read(serve):
    served = serve("api.auth_required=false")
    service = served.node.services["websocket"].service
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.settimeout(120)
        link.connect(service._listener.getsockname())
        link.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")  # fmt: skip
        until(lambda: service._clients)
        said = json.dumps({"action": "unsubscribe", "id": "x" * 200}).encode()
        link.settimeout(2)
        with contextlib.suppress(TimeoutError):  # it takes no more
            for _ in range(400):
                link.sendall((b"\x81\xfe" + len(said).to_bytes(2, "big") + bytes(4) + said) * 100)
        assert next(iter(service._clients))._waiting.qsize() <= module.UNREAD_MOST + 1
    until(lambda: not service._clients)


def test_events_that_were_lost_are_told_and_it_goes_on(served, monkeypatch):
    fs = served.node.volume
    fs.makedirs("/far")
    fs.sync()
    looks, look = threading.Event(), FileEvents.news
    monkeypatch.setattr(FileEvents, "news", lambda feed: [looks.wait(250), look(feed)][1])
    with Listener(served) as client:
        client.say(action="subscribe", channel="files", id="f", path="/far")
        client.hear("subscribed")
        since = fs.filesystem.status()["committed_epoch"]
        for n in range(1100):  # the log keeps 1024
            fs.write_text("/far/first", str(n))
            fs.filesystem.changes(since + n)  # commits
        assert since < fs.filesystem.status()["forgotten_epoch"] < fs.filesystem.status()["committed_epoch"]
        looks.set()
        told = client.hear("event")["data"]
        assert told["event"] == "gap" and told["path"] == "/far" and "lost" in told["detail"]
        fs.write_text("/far/next", "x")
        fs.sync()
        assert [client.hear("event")["data"]["path"] for _ in range(2)] == ["/far/next"] * 2


def test_a_great_many_events_come_whole_and_in_order(served):
    fs = served.node.volume
    fs.makedirs("/crowd")
    fs.sync()
    with Listener(served) as client:
        client.say(action="subscribe", channel="files", id="f", path="/crowd")
        client.hear("subscribed")

        def write():
            for n in range(6000):
                fs.write_text(f"/crowd/{n}", "")
            fs.sync()

        with ThreadPoolExecutor(1) as pool:  # read meanwhile: who does not read for long is hung up on
            written, made = pool.submit(write), []
            while len(made) < 6000:
                event = client.hear("event")["data"]
                made += [event["path"]] * (event["event"] == "made")
            written.result()
    assert made == [f"/crowd/{n}" for n in range(6000)]


def test_a_token_hears_of_its_own_paths_only(served):
    fs = served.node.volume
    fs.makedirs("/own")
    fs.makedirs("/foreign")
    fs.sync()
    token = served.node.tokens.create("own", ["read"], ["/own"])[0]
    with Listener(served, token) as client:
        client.say(action="subscribe", channel="performance", id="p")
        assert "scope 'watch'" in client.hear("error")["detail"]
        client.say(action="subscribe", channel="files", id="f")
        client.hear("subscribed")
        fs.write_text("/foreign/secret", "x")
        fs.write_text("/own/a", "x")
        fs.sync()
        assert client.hear("event")["data"]["path"] == "/own/a"


def test_events_of_the_node(served):
    with Listener(served) as client:
        client.say(action="subscribe", channel="node", id="n")
        client.hear("subscribed")
        served.node.change({"performance_optimizations.batch_size": 17})
        told = client.hear("event")["data"]
        assert told == {"event": "settings", "values": {"performance_optimizations.batch_size": "17"}}


def test_who_may_not(served):
    with pytest.raises(InvalidStatus) as caught:
        Listener(served, "vex_wrong")
    assert caught.value.response.status_code == 401
    with pytest.raises(InvalidStatus) as caught:
        Listener(served, headers={"Origin": "https://evil.example"})
    assert caught.value.response.status_code == 403
    with Listener(served, "", headers={"Origin": "http://127.0.0.1:8080"}) as client:
        client.say(action="auth", token=served.token)
        assert client.hear("ready")
    for first in ('{"action": "auth", "token": "x"}', '{"action": "subscribe", "channel": "files"}', "{", "\x00"):
        with Listener(served, "") as client:
            client.link.send(first)
            with pytest.raises(ConnectionClosed) as closed:
                client.link.recv(timeout=120)
            assert closed.value.rcvd.code == module.REFUSED and closed.value.rcvd.reason
    text, token = served.node.tokens.create("brief", ["read"])
    with Listener(served, text) as client:
        client.hear("ready")
        served.node.tokens.revoke(token.id)
        with pytest.raises(ConnectionClosed) as closed:
            client.link.recv(timeout=120)
        assert "revoked" in closed.value.rcvd.reason


def test_what_is_not_understood_is_told(served):
    with Listener(served) as client:
        client.hear("ready")
        for bad in ("{", "[]", '{"action": "dance"}', '{"action": "subscribe", "channel": "x"}',
                    '{"action": "unsubscribe"}',
                    '{"action": "subscribe", "channel": "performance", "interval_s": 0}',
                    '{"action": "subscribe", "channel": "files", "path": "/../x"}',
                    '{"action": "subscribe", "channel": "files", "colour": 1}',
                    '{"action": "auth", "token": "x"}'):  # fmt: skip
            client.link.send(bad)
            told = client.hear("error")
            assert told["detail"] and told["status"] in (400, 404), bad
        client.link.send(b"\xff\xfe")
        assert client.hear("error")
        client.say(action="subscribe", channel="files", id="a")
        client.hear("subscribed")
        client.say(action="subscribe", channel="files", id="a")
        assert "already" in client.hear("error")["detail"]


def test_broken_frames_and_endless_messages_end_their_own_connection_alone(served):
    host, port = served.node.services["websocket"].service.url.removeprefix("ws://").split(":")
    with Listener(served) as other:
        for garbage in (b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100):
            with socket.create_connection((host, int(port)), timeout=120) as link:
                link.sendall(garbage)
        with Listener(served) as client:
            client.hear("ready")
            client.link.socket.sendall(b"\xff\xff\xff\xff garbage")
            with pytest.raises(ConnectionClosed):
                client.link.recv(timeout=120)
        with Listener(served) as client:
            client.hear("ready")
            try:
                client.link.send("x" * (2 << 20))
            except ConnectionClosed:
                pass
            with pytest.raises(ConnectionClosed) as closed:
                client.link.recv(timeout=120)
            assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
        other.hear("ready")


def test_a_slow_consumer_is_dropped_and_nobody_else_waits(served, monkeypatch):
    monkeypatch.setattr(module, "SLOW_S", 3600.0)
    monkeypatch.setattr(module, "TICK_S", 0.05)
    fs = served.node.volume
    deep = "/many" + f"/{'d' * 200}" * 5
    fs.makedirs(deep)
    fs.sync()
    service = served.node.services["websocket"].service
    before = service.dropped
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    host, port = service.url.removeprefix("ws://").split(":")
    raw.connect((host, int(port)))
    others = set(service._clients)
    with Listener(served, sock=raw, max_queue=1, ping_interval=None, close_timeout=0.1) as slow:
        slow.hear("ready")
        (stuck,) = set(service._clients) - others
        with Listener(served) as quick:
            for client in (slow, quick):
                client.say(action="subscribe", channel="files", id="f", path="/many")
                client.hear("subscribed")

            def told_to_the_quick_one(name):
                fs.write_text(f"/many/{name}", "x")
                fs.sync()
                while not quick.hear("event")["data"]["path"].endswith(name):
                    pass

            turn = 0
            while stuck._waiting.empty() or not stuck._link.transport.get_write_buffer_size():
                for i in range(300):
                    fs.write_text(f"{deep}/{turn}-{i}", "x")
                told_to_the_quick_one(f"last-{turn}")
                turn += 1
            with monkeypatch.context() as impatient:  # while nothing waits for the quick one
                impatient.setattr(module, "SLOW_S", 0.5)
                until(lambda: service.dropped > before)
            told_to_the_quick_one("after")
            assert service.dropped == before + 1


def test_what_is_nested_too_deeply_or_named_too_long_is_refused(served):
    with Listener(served) as client:
        deep = '{"$not":' * 3000 + "{}" + "}" * 3000
        client.link.send('{"action": "subscribe", "channel": "search", "vector": [1], "where": ' + deep + "}")
        assert "deep" in client.hear("error")["detail"]
        client.say(action="unsubscribe", id="x" * 201)
        assert client.hear("error")["status"] == 400
    with Listener(served, token="") as client:
        client.link.send('{"action": "subscribe", "channel": "search", "where": ' + deep + "}")
        with pytest.raises(ConnectionClosed) as end:
            client.link.recv(timeout=120)
        assert end.value.rcvd.code == 4003
    assert "Traceback" not in served.log


@pytest.mark.parametrize("headers", [{"Origin": "http://["}, {"Origin": "http://x", "Host": "["}])
def test_headers_that_are_no_addresses_are_refused(served, headers):
    with pytest.raises(InvalidStatus) as end:
        Listener(served, headers=headers)
    assert end.value.response.status_code == 400


def test_connections_that_say_nothing_are_bounded(serve, monkeypatch):
    monkeypatch.setattr(module.resource, "getrlimit", lambda _: (512, 512))
    monkeypatch.setattr(module, "AUTH_S", 3600.0)  # of those that are heard none ends by itself
    served = serve()
    where = served.node.services["websocket"].service._listener.getsockname()
    links = [socket.create_connection(where, timeout=120) for _ in range(80)]
    until(lambda: len(select.select(links, [], [], 0)[0]) >= 80 - 64)  # those that are hung up on
    time.sleep(0.3)
    assert len(select.select(links, [], [], 0)[0]) == 80 - 64
    for link in links:
        link.close()
    until(lambda: heard_by(served))


def heard_by(served):
    with contextlib.suppress(OSError, ConnectionClosed, InvalidMessage), Listener(served) as client:
        return client.hear("ready")


def test_a_link_does_not_tell_what_is_outside_of_what_a_token_is_for(served):
    fs = served.node.volume
    fs.makedirs("/part/sub")
    fs.makedirs("/out/dir")
    fs.write_text("/out/file", "x")
    token = served.node.tokens.create("part", ["read", "write"], ["/part"])[0]
    told = []
    with Listener(served, token) as client:
        client.hear("ready")
        for name in ("dir", "file", "none", "file/x"):
            link = f"/part/{name.replace('/', '-')}"
            fs.symlink(f"/out/{name}", link)
            client.say(action="subscribe", channel="search", id=name, path=link, text="x")
            told.append(client.hear("error"))
        client.say(action="subscribe", channel="files", id="out", path="/out")
        assert "the token is for /part" in client.hear("error")["detail"]
        for path in ("/", "/part/sub"):
            client.say(action="subscribe", channel="files", id=path, path=path)
            assert client.hear("subscribed")["id"] == path
    assert {(each["status"], each["detail"].partition(": ")[2]) for each in told} == {
        (403, "leads out of what the token is for")
    }
    fs.rmtree("/part")
    fs.rmtree("/out")
