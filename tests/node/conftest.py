import os
import threading

import pytest

from vexfs.config import load
from vexfs.node import Node


class Running:
    """A node that runs in a thread of this process."""

    def __init__(self, directory, text="", overrides=()):
        self.directory = directory
        self.file = directory / "node.conf"
        self.file.write_text(text)
        self.socket = directory / "control.sock"
        own = (
            f"general.data_dir={directory}/data", f"general.control_socket={self.socket}",
            "api.rest_bind=127.0.0.1:0", "api.websocket_bind=127.0.0.1:0",
            "monitoring.metrics_bind=127.0.0.1:0", "monitoring.health_check_bind=127.0.0.1:0",
        )  # fmt: skip
        overrides = (*own, *overrides)
        settings = load(self.file, environment={}, overrides=overrides)
        self.node = Node(settings, source=self.file, overrides=overrides)
        self.failure = None
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            self.node.run()
        except BaseException as error:
            self.failure = error

    def start(self):
        self.thread.start()
        wanted = self.node.settings.general.control_socket
        while self.thread.is_alive() and not (self.node.ready.wait(0.02) and os.path.exists(wanted or "/")):
            pass
        if self.failure:
            raise self.failure
        return self

    def stop(self):
        self.node.stop()
        self.thread.join(120)
        assert not self.thread.is_alive()


@pytest.fixture
def running(tmp_path):
    """A function that starts a node: ``running(text_of_the_file, *overrides)``."""
    started = []

    def start(text="", *overrides):
        started.append(Running(tmp_path, text, overrides))
        return started[-1].start()

    yield start
    for each in started:
        each.stop()
