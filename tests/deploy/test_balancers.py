"""HAProxy and NGINX, real ones, in front of two real nodes, of which one fails and comes back."""

import contextlib
import http.client
import json
import signal
import subprocess

import pytest

from tests.deploy.conftest import get, program, until
from tests.ports import free_port
from vexfs.cli.setup import PIECES, text_of


def text(name):
    return text_of(next(p for p in PIECES if p.source.endswith(name)))


def who(port):
    """Which node answered."""
    status, body = get(port, "/ready")
    return json.loads(body)["node"] if status == 200 else None


@pytest.fixture
def two(serve):
    return serve("n1"), serve("n2")


def fail_over(port, first, second):
    until(lambda: who(port) == "n1", "the first node answers")
    assert {who(port) for _ in range(10)} == {"n1"}
    first.kill()
    until(lambda: who(port) == "n2", "the standby takes over")
    assert {who(port) for _ in range(10)} == {"n2"}
    first.start()
    until(lambda: who(port) == "n1", "the first is asked again")


def test_haproxy_takes_the_file(tmp_path):
    haproxy = program("haproxy", "haproxy")
    (tmp_path / "haproxy.cfg").write_text(text("haproxy.cfg").replace(":80\n", f":{free_port()}\n"))
    done = subprocess.run([haproxy, "-c", "-f", tmp_path / "haproxy.cfg"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr


def test_nginx_takes_the_file(tmp_path):
    nginx = program("nginx", "nginx-light")
    (tmp_path / "nginx.conf").write_text(site(tmp_path, text("vexfs.conf")))
    done = subprocess.run(
        [nginx, "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def site(home, server):
    """A whole configuration around a file for conf.d."""
    paths = "\n".join(
        f"{kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"pid {home}/pid; error_log {home}/error.log; daemon off;\nevents {{}}\n"
        f"http {{ access_log off; {paths}\n{server}\n}}\n"
    )


@pytest.mark.slow
def test_haproxy_fails_over_by_readiness(two, tmp_path):
    haproxy, port = program("haproxy", "haproxy"), free_port()
    config = (
        text("haproxy.cfg")
        .replace("0.0.0.0:80\n", f"127.0.0.1:{port}\n")
        .replace("0.0.0.0:8081\n", f"127.0.0.1:{free_port()}\n")
    )
    # The nodes' health ports stand for what is balanced, too: what they answer names the node.
    config = config.replace("check port 9091 ", "check ").replace("inter 2s", "inter 300ms")
    for i, node in enumerate(two, 1):
        for service in (8080, 8081):
            config = config.replace(f"10.0.0.1{i}:{service}", f"127.0.0.1:{node.health}")
    (tmp_path / "haproxy.cfg").write_text(config)
    process = subprocess.Popen([haproxy, "-db", "-f", tmp_path / "haproxy.cfg"], stderr=subprocess.DEVNULL)
    try:
        fail_over(port, *two)
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_nginx_fails_over(two, tmp_path):
    nginx, port = program("nginx", "nginx-light"), free_port()
    server = (
        text("vexfs.conf")
        .replace("listen 80;", f"listen 127.0.0.1:{port};")
        .replace("listen 8081;", f"listen 127.0.0.1:{free_port()};")
        .replace("fail_timeout=5s", "fail_timeout=1s")
    )
    for i, node in enumerate(two, 1):
        for service in (8080, 8081):
            server = server.replace(f"10.0.0.1{i}:{service}", f"127.0.0.1:{node.health}")
    (tmp_path / "nginx.conf").write_text(site(tmp_path, server))
    process = subprocess.Popen([nginx, "-p", tmp_path, "-c", tmp_path / "nginx.conf"], stderr=subprocess.DEVNULL)
    try:
        fail_over(port, *two)
    finally:
        process.terminate()
        process.wait()


class Whole:
    """A node with REST and WebSocket on ports that are known before."""

    def __init__(self, serve, name):
        self.ports = {8080: free_port(), 8081: free_port()}
        self.node = serve(
            name, "api.rest_enabled=true", "api.websocket_enabled=true", "api.auth_required=false",
            f"api.rest_bind=127.0.0.1:{self.ports[8080]}", f"api.websocket_bind=127.0.0.1:{self.ports[8081]}",
        )  # fmt: skip


def haproxy_file(home, nodes, rest, websocket):
    config = text("haproxy.cfg").replace("check port 9091 ", "check ")
    for port, at in ((80, rest), (8081, websocket)):
        config = config.replace(f"0.0.0.0:{port}\n", f"127.0.0.1:{at}\n")
    for i, each in enumerate(nodes, 1):
        for port, at in each.ports.items():
            config = config.replace(f"10.0.0.1{i}:{port}", f"127.0.0.1:{at} port {each.node.health}")
    (home / "haproxy.cfg").write_text(config)
    return [program("haproxy", "haproxy"), "-db", "-f", home / "haproxy.cfg"]


def nginx_file(home, nodes, rest, websocket):
    config = text("vexfs.conf").replace("listen 80;", f"listen 127.0.0.1:{rest};").replace(
        "listen 8081;", f"listen 127.0.0.1:{websocket};")  # fmt: skip
    for i, each in enumerate(nodes, 1):
        for port, at in each.ports.items():
            config = config.replace(f"10.0.0.1{i}:{port}", f"127.0.0.1:{at}")
    (home / "nginx.conf").write_text(site(home, config))
    return [program("nginx", "nginx-light"), "-p", home, "-c", home / "nginx.conf"]


@contextlib.contextmanager
def balanced(command, rest):
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        until(lambda: get(rest, "/v1/files")[0] == 200, "the first node answers")
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("file", [haproxy_file, nginx_file])
def test_a_node_that_stops_ends_what_is_under_way_and_nobody_is_refused(serve, tmp_path, file):
    nodes, rest, websocket = (Whole(serve, "n1"), Whole(serve, "n2")), free_port(), free_port()
    with balanced(file(tmp_path, nodes, rest, websocket), rest):
        upload = http.client.HTTPConnection("127.0.0.1", rest, timeout=120)
        upload.putrequest("PUT", "/v1/files/slow")
        upload.putheader("Content-Length", str(2 << 20))
        upload.endheaders(bytes(1 << 20))
        until(lambda: json.loads(get(rest, "/v1/node")[1])["node_id"] == "n1", "the first node answers")
        nodes[0].node.process.send_signal(signal.SIGTERM)
        until(lambda: get(nodes[0].node.health, "/ready")[0] == 503, "it says that it stops")
        for _ in range(20):
            status, body = get(rest, "/v1/node")
            assert (status, json.loads(body)["node_id"]) == (200, "n2")
        upload.send(bytes(1 << 20))
        assert upload.getresponse().status == 201
        assert nodes[0].node.process.wait(120) == 0


@pytest.mark.slow
@pytest.mark.parametrize("file", [haproxy_file, nginx_file])
def test_subscriptions_pass_where_nodes_say_that_they_are(serve, tmp_path, file):
    sync = pytest.importorskip("websockets.sync.client")
    nodes, rest, websocket = (Whole(serve, "n1"), Whole(serve, "n2")), free_port(), free_port()
    with balanced(file(tmp_path, nodes, rest, websocket), rest):
        ports = [websocket, rest] if file is nginx_file else [websocket]
        for port in ports:
            with sync.connect(f"ws://127.0.0.1:{port}/v1/subscribe", origin=f"http://127.0.0.1:{rest}") as link:
                assert json.loads(link.recv(10))["type"] == "ready"
        link = http.client.HTTPConnection("127.0.0.1", rest, timeout=120)
        link.request("PUT", "/v1/files/of-a-page", b"x", {"Origin": f"http://127.0.0.1:{rest}"})
        assert link.getresponse().status == 201
