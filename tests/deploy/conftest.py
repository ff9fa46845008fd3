"""Nodes in processes of their own, as a host runs them, and the programs that stand around them."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.ports import free_port
from vexfs.cli.main import run

BIN = Path(sys.executable).parent


def program(name, package):
    """The program, or a skip; slow runs of root install it, as the build installs what it needs."""
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get") and os.environ.get("VEXFS_TEST_INSTALL"):
        words = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package]
        subprocess.run(words, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, capture_output=True, timeout=600)
        found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {package}; or VEXFS_TEST_INSTALL=1 as root)")
    return found


def get(port, path, host="127.0.0.1", method="GET"):
    connection = http.client.HTTPConnection(host, port, timeout=120)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def until(condition, what):
    """Wait for a condition, which may raise while it does not hold."""
    end, last = time.monotonic() + 120, None
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"did not happen within 120 s: {what} ({last})")


class Served:
    """``vexfs serve`` in a process of its own."""

    def __init__(self, home, name, *overrides):
        home.mkdir()
        self.home, self.name = home, name
        self.metrics, self.health = free_port(), free_port()
        self.socket = home / "control.sock"
        self.file = home / "node.conf"
        self.file.write_text("")
        self.words = [
            f"general.node_id={name}",
            f"general.data_dir={home}",
            f"general.control_socket={self.socket}",
            f"monitoring.metrics_bind=127.0.0.1:{self.metrics}",
            f"monitoring.health_check_bind=127.0.0.1:{self.health}",
            "monitoring.metrics_collection_interval=200ms",
            "api.rest_enabled=false",
            "api.websocket_enabled=false",
            *overrides,
        ]
        self.process = None

    def start(self, **environment):
        command = [sys.executable, "-c", "from vexfs.cli.main import vexfs; vexfs()", "serve", "--config", self.file]
        for word in self.words:
            command += ["--set", word]
        with open(self.home / "log", "ab") as log:
            self.process = subprocess.Popen(
                list(map(str, command)), stdout=log, stderr=log, env={**os.environ, **environment}
            )
        until(
            lambda: get(self.health, "/ready")[0] == 200, f"{self.name} serves: {(self.home / 'log').read_text()}"
        )
        return self

    def vexctl(self, words):
        """Exit status and JSON."""
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from vexfs.cli.main import vexctl; vexctl()",
                *words.split(),
                "--json",
                "--socket",
                str(self.socket),
            ],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else done.stderr

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.kill()


@pytest.fixture
def serve(tmp_path):
    """``serve("name", "section.key=value")`` starts a node."""
    started = []

    def start(name="n1", *overrides, **environment):
        started.append(Served(tmp_path / name, name, *overrides))
        return started[-1].start(**environment)

    yield start
    for each in started:
        each.end()


@pytest.fixture
def installed(tmp_path, capsys):
    """Everything that ships, installed below a directory, with the scripts where the units look for them."""
    root = tmp_path / "root"
    assert run("vexctl", ["setup", "install", "--root", str(root), "--lib", str(root / "lib")]) == 0
    capsys.readouterr()
    # Below its own root the scripts' directory is found from the outside, too.
    real = root / str(root).lstrip("/") / "lib"
    (root / "lib").symlink_to(real)
    return root
