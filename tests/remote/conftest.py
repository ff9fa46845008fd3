import threading

import pytest

import vexfs
from vexfs.config import load
from vexfs.node import Node


class Served:
    """A node in threads of this process, with REST and WebSocket alone."""

    def __init__(self, directory, *more):
        overrides = (
            f"general.data_dir={directory}/data", "general.control_socket=", "api.rest_bind=127.0.0.1:0",
            "api.websocket_bind=127.0.0.1:0", "monitoring.metrics_enabled=false", f"general.log_dir={directory}/log",
            *more,
        )  # fmt: skip
        self.node = Node(load(environment={}, overrides=overrides))
        self.thread = threading.Thread(target=self.node.run)
        self.thread.start()
        while not self.node.ready.wait(0.02) and self.thread.is_alive():
            pass
        self.url = self.node.services["rest"].service.url
        self.token = self.node.tokens.create("all", ["read", "write", "watch", "admin"])[0]

    def stop(self):
        self.node.stop()
        self.thread.join(120)
        assert not self.thread.is_alive()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    made = Served(tmp_path_factory.mktemp("node"))
    yield made
    made.stop()


@pytest.fixture
def fs(served):
    """A remote volume that is empty at first."""
    with vexfs.connect(served.url, served.token) as volume:
        for entry in list(volume.scandir("/")):
            (volume.rmtree if entry.is_dir(follow_symlinks=False) else volume.remove)(entry.path)
        yield volume
