import http.client
import json
import threading
import urllib.parse

import pytest

from vexfs.config import load
from vexfs.node import Node


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:200]!r}>"


class Served:
    """A node with its REST port, in threads of this process."""

    def __init__(self, directory, *overrides):
        self.directory = directory
        self.file = directory / "node.conf"
        self.file.write_text("")
        overrides = (
            f"general.data_dir={directory}/data", f"general.control_socket={directory}/c.sock",
            "api.rest_bind=127.0.0.1:0", "api.websocket_bind=127.0.0.1:0", "monitoring.metrics_enabled=false",
            f"general.log_dir={directory}/log", "general.log_level=debug", *overrides,
        )  # fmt: skip
        self.node = Node(load(self.file, environment={}, overrides=overrides), source=self.file, overrides=overrides)
        self.failure = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        while not self.node.ready.wait(0.02) and self.thread.is_alive():
            pass
        if self.failure:
            raise self.failure
        self.url = self.node.services["rest"].service.url
        self.host = urllib.parse.urlsplit(self.url).netloc
        self.token = self.node.tokens.create("all", ["read", "write", "watch", "admin"])[0]

    def _run(self):
        try:
            self.node.run()
        except BaseException as error:
            self.failure = error

    def stop(self):
        self.node.stop()
        self.thread.join(120)
        assert not self.thread.is_alive()

    @property
    def log(self):
        return (self.directory / "log/vexfs.log").read_text()

    def connection(self):
        return http.client.HTTPConnection(self.host, timeout=120)

    def ask(self, method, path, body=None, headers=None, token=None, connection=None):
        token = self.token if token is None else token
        given = {"Authorization": f"Bearer {token}"} if token else {}
        if isinstance(body, (dict, list)):
            body, given["Content-Type"] = json.dumps(body).encode(), "application/json"
        link = connection or self.connection()
        try:
            link.request(method, path, body, {**given, **(headers or {})})
            response = link.getresponse()
            return Answer(response, response.read())
        finally:
            if connection is None:
                link.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    made = Served(tmp_path_factory.mktemp("served"))
    yield made
    made.stop()


@pytest.fixture
def serve(tmp_path):
    """A function that serves a node of one's own: ``serve("api.request_timeout=1s")``."""
    started = []

    def start(*overrides):
        started.append(Served(tmp_path, *overrides))
        return started[-1]

    yield start
    for each in started:
        each.stop()
