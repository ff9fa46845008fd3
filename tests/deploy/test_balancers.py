"""HAProxy and NGINX, real ones, in front of two real nodes, of which one fails and comes back."""

import json
import subprocess

import pytest

from tests.deploy.conftest import free_port, get, program, until
from vexfs.cli.setup import PIECES, text_of


def text(name):
    return text_of(next(p for p in PIECES if p.source.endswith(name)))


def who(port):
    """Which node answered."""
    status, body = get(port, "/ready", timeout=5)
    return json.loads(body)["node"] if status == 200 else None


@pytest.fixture
def two(serve):
    return serve("n1"), serve("n2")


def fail_over(port, first, second):
    until(lambda: who(port) == "n1", 20, "the first node answers")
    assert {who(port) for _ in range(10)} == {"n1"}
    first.kill()
    until(lambda: who(port) == "n2", 20, "the standby takes over")
    assert {who(port) for _ in range(10)} == {"n2"}
    first.start()
    until(lambda: who(port) == "n1", 30, "the first is asked again")


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
        .replace("0.0.0.0:81\n", f"127.0.0.1:{free_port()}\n")
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
