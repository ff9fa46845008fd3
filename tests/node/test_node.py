import errno
import inspect
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from tests.waiting import until
from vexfs._core import io
from vexfs.cli.reach import Reach
from vexfs.config import load
from vexfs.errors import ConfigError, UsageError, VexfsError, VolumeBusy, VolumeNotFound
from vexfs.node import Node, service, verb
from vexfs.node import log as node_log
from vexfs.node.watch import history_of
from vexfs.observe import health


def opened(tmp_path, *overrides, **more):
    settings = load(environment={}, overrides=[f"general.data_dir={tmp_path}/data", *overrides])
    return Node(settings, **more).open()


def test_a_node_makes_its_volume_and_finds_it_again(tmp_path):
    with opened(tmp_path) as node:
        node.volume.write_text("a.txt", "kept")
    with opened(tmp_path) as node:
        assert node.volume.read_text("a.txt") == "kept"


def test_a_named_volume_must_be_there(tmp_path):
    with pytest.raises(VolumeNotFound):
        opened(tmp_path, volume=tmp_path / "none")


def test_without_the_bridge_nothing_passes_it(tmp_path):
    with opened(tmp_path) as node:
        node.volume.write_text("a", "x")
        assert node.bridge.stats()["enqueued"] > 0
        with pytest.raises(ConfigError, match="cannot change while the node runs"):
            node.change({"performance_optimizations.enable_enhanced_bridge": False})
    with opened(tmp_path, "performance_optimizations.enable_enhanced_bridge=false") as node:
        node.volume.write_text("a", "x")
        assert node.bridge is None


def test_encryption_is_decided_when_the_volume_is_made(tmp_path):
    secret = ("storage.encryption=true", f"storage.encryption_key_file={tmp_path}/key")
    with opened(tmp_path, *secret) as node:
        assert node.volume.encrypted
        node.volume.write_text("a", "x")
    with opened(tmp_path, *secret) as node:
        assert node.volume.read_text("a") == "x"
    (tmp_path / "data/volume.vex").rename(tmp_path / "encrypted")
    opened(tmp_path).close()
    with pytest.raises(ConfigError, match="was made without"):
        opened(tmp_path, *secret)


def test_a_change_that_is_not_valid_changes_nothing(tmp_path):
    with opened(tmp_path) as node:
        for values, told in (
            ({"performance_optimizations.batch_size": 5, "api.x": 1}, "there is no key api.x"),
            ({"performance_optimizations.batch_size": 5, "storage.cache_size": 5}, "cannot change while"),
            ({"performance_optimizations.batch_size": "many"}, "must be a whole number"),
            ({"performance_optimizations.heap_threshold": 5000}, "is above fuse_stack_limit"),
        ):
            with pytest.raises(ConfigError, match=told):
                node.change(values)
        assert node.bridge.settings["batch_size"] == 100
        assert node.settings.performance.heap_threshold == 1024
        with pytest.raises(UsageError, match="without a configuration file"):
            node.reload()


def test_reload_changes_what_can_and_tells_what_cannot(running):
    run = running("[performance_optimizations]\nbatch_size = 10\n[storage]\nio_queue_depth = 4\n")
    assert run.node.bridge.settings["batch_size"] == 10
    run.file.write_text("[performance_optimizations]\nbatch_size = 20\n[storage]\nio_queue_depth = 8\n")
    with Reach(socket=run.socket) as node:
        told = node.call("config.reload").result()
        assert told["applied"] == ["performance_optimizations.batch_size"]
        assert told["needs_restart"] == ["storage.io_queue_depth"] and told["read_again"] == []
        assert run.node.bridge.settings["batch_size"] == 20
        shown = node.call("config.show").result()
        row = next(r for r in shown["keys"] if r["key"] == "storage.io_queue_depth")
        assert row["value"] == "4" and row["origin"] == "file"
        assert shown["needs_restart"] == [{"key": "storage.io_queue_depth", "in_force": "4", "in_file": "8"}]
        run.file.write_text("[performance_optimizations]\nbatch_size = 'x'\n")
        with pytest.raises(ConfigError, match="node.conf:2: "):
            node.call("config.reload").result()
    assert run.node.bridge.settings["batch_size"] == 20


def test_a_node_owns_its_volume_and_says_how_to_reach_it(running, tmp_path):
    run = running()
    with pytest.raises(VolumeBusy):
        Node(load(environment={}), volume=run.node.volume.directory).open()
    with Reach(volume=run.node.volume.directory) as reach:
        assert not reach.here
        assert reach.call("node.status").result()["pid"] == os.getpid()


def test_a_cluster_that_is_not_there_is_said(running, tmp_path):
    log = tmp_path / "log"
    run = running("[cluster]\nenabled = true\nbind_address = '127.0.0.1:7000'\n", f"general.log_dir={log}")
    with Reach(socket=run.socket) as node:
        assert "has no cluster" in node.call("node.status").result()["cluster"]
    assert "this version has no cluster" in (log / "vexfs.log").read_text()


class Flaky:
    """A service that breaks when told."""

    def __init__(self):
        self.broken = None
        self.starts = self.stops = 0

    def prepare(self):
        pass

    def start(self):
        self.starts += 1
        self.broken = None

    def stop(self, timeout_s):
        self.stops += 1

    def failure(self):
        return self.broken

    def reload(self, settings):
        self.settings = settings

    def describe(self):
        return {"where": "here"}


def test_a_service_that_fails_is_seen_and_started_anew_and_takes_nothing_down(running, monkeypatch):
    monkeypatch.setattr(service, "_FIRST_PAUSE_S", 3600.0)  # until this test has seen that it failed
    monkeypatch.setattr(service, "_LONGEST_PAUSE_S", 3600.0)
    flaky = Flaky()
    run = running()
    run.node.services["flaky"] = service.Supervised("flaky", lambda: flaky, flaky)
    run.node.services["flaky"].start()
    with Reach(socket=run.socket) as node:
        flaky.broken = "it broke"
        until(lambda: node.call("node.status").result()["services"]["flaky"]["state"] == "failed")
        told = node.call("node.status").result()["services"]
        assert told["flaky"]["fault"] == "it broke" and told["control"]["state"] == "serving"
        assert "flaky failed" in run.node.summary()
        run.node.services["flaky"].retry_at = 0.0
        until(lambda: flaky.starts == 2)
        assert node.call("node.status").result()["services"]["flaky"]["failures"] == 1


def test_systemd_hears_of_it(running, tmp_path, monkeypatch):
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(120)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "1500000")
        run = running()
        assert b"READY=1\nSTATUS=serving control" in systemd.recv(1000)
        assert systemd.recv(1000) == b"WATCHDOG=1"
        run.node.ask_reload()
        while (heard := systemd.recv(1000)) == b"WATCHDOG=1":
            pass
        assert heard.startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        run.stop()
        heard = []
        while b"STOPPING=1" not in heard:
            heard.append(systemd.recv(1000))


def test_the_log_is_json_and_rotates(running, tmp_path):
    log = tmp_path / "log"
    running("", f"general.log_dir={log}", "general.log_format=json", "general.log_max_size=4KB", "general.log_keep=2")
    for i in range(200):
        logging.getLogger("vexfs.test").info("line %d", i, extra={"request": "r1"})
    assert sorted(p.name for p in log.iterdir()) == ["vexfs.log", "vexfs.log.1", "vexfs.log.2"]
    rows = [json.loads(line) for line in (log / "vexfs.log").read_text().splitlines()]
    (row,) = [row for row in rows if row["message"] == "line 199"]
    assert row["level"] == "info" and row["request"] == "r1" and row["node"]


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("search.text", {"query": 5}, "query is 5, and must be a string"),
        ("search.text", {"query": "a", "k": "x"}, "k is 'x', and must be a whole number"),
        ("search.text", {"query": "a", "k": True}, "k is True, and must be a whole number"),
        ("search.text", {"query": "a", "under": None}, "under is None, and must be a string"),
        ("search.watch", {"query": "a", "threshold": "x"}, "threshold is 'x', and must be a number"),
        ("index.load", {"file": 5, "path": "/x"}, "file is 5, and must be a string"),
        ("token.create", {"name": "a", "scopes": "read"}, "scopes is 'read', and must be a list or null"),
        ("security.pools.configure", {"zero_on_free": "x"}, "zero_on_free is 'x', and must be true or false"),
        ("volume.backup", {"target": 5}, "target is 5, and must be a string"),
        ("volume.backup", {"target": "here"}, "target is 'here', and must be an absolute path"),
    ],
)
def test_arguments_of_the_wrong_kind_are_usage_errors(name, args, says):
    """Before anything is done, so that none of them is an error of the node."""
    with pytest.raises(UsageError, match=re.escape(says)):
        list(verb.run(None, name, args))


def test_every_argument_of_a_verb_says_what_it_takes():
    loose = {"percentiles"}  # a number or a list of them, which the verb looks at
    for name in verb.names():
        function = verb.find(name)
        takes = [p for p in list(inspect.signature(function).parameters.values())[1:] if p.kind is not p.VAR_KEYWORD]
        assert {p.name for p in takes} - loose <= set(verb._wanted(function)), name


def test_what_requests_need_is_in_memory_from_the_start(tmp_path):
    """An upgrade replaces the files of a running node: what it imported only then would not fit the rest."""
    program = f"""
import sys, threading
from vexfs.config import load
from vexfs.node import Node
node = Node(load({str(tmp_path / "node.conf")!r}, environment={{}}, overrides=[
    "general.data_dir={tmp_path}/data", "general.control_socket={tmp_path}/c", "monitoring.metrics_enabled=false",
    "api.rest_enabled=false", "api.websocket_enabled=false"]))
threading.Thread(target=lambda: (node.ready.wait(200), node.stop())).start()
node.run()
for name in ("vexfs.node.verbs.security", "vexfs.observe.bottleneck", "vexfs.search.snippet", "vexfs.store.check_data"):
    assert name in sys.modules, name
"""
    (tmp_path / "node.conf").write_text("")
    subprocess.run([sys.executable, "-c", program], check=True, timeout=240)


def test_a_module_that_does_not_fit_any_more_is_told_with_the_remedy(running, monkeypatch):
    node = running().node

    @verb.verb("node.upgraded")
    def upgraded(node):
        raise ImportError("cannot import name 'new' from 'vexfs.old'")

    with pytest.raises(VexfsError, match=r"node.upgraded: cannot import .* restart"):
        list(node.call("node.upgraded", {}))
    del verb._functions["node.upgraded"]
    with pytest.raises(UsageError, match="target.*NUL"):
        list(node.call("volume.backup", {"target": "/tmp/a\0b"}))


def test_a_log_on_a_full_disk_is_told_once_and_goes_on_when_there_is_room(tmp_path, capsys, monkeypatch):
    node_log.configure(load(environment={}, overrides=[f"general.log_dir={tmp_path}", "general.log_level=info"]))
    log, handler = logging.getLogger("vexfs.node"), node_log._current
    try:
        log.info("before")
        monkeypatch.setattr(handler, "_open", lambda: open("/dev/full", "w", encoding="utf-8"))  # noqa: SIM115
        handler.stream.close()
        handler.stream = None
        for n in range(50):
            log.info("of no matter %d", n)
        log.error("what matters")
        told = capsys.readouterr().err
        assert "Traceback" not in told and told.count("No space left on device") == 1 and "what matters" in told
        assert "of no matter" not in told and handler.lost == 51
        monkeypatch.undo()
        log.info("after")
        lines = (tmp_path / "vexfs.log").read_text().splitlines()
        assert [line.split(": ")[1] for line in lines] == ["before", "after"]
    finally:
        node_log.configure(load(environment={}))


def test_a_node_that_stops_or_whose_rest_fails_says_that_it_is_not_ready(running):
    run = running()
    parts = history_of(run.node).parts
    assert health.ready(parts)["ready"]
    flaky = Flaky()
    run.node.services["rest"] = service.Supervised("rest", lambda: flaky, flaky, "failed", "it broke", 1, 1e12)
    assert health.ready(parts)["reasons"] == ["services: rest failed: it broke"]
    release, seen = threading.Event(), []

    def stop(timeout_s):
        seen.append(health.ready(parts)["reasons"])
        release.set()

    flaky.stop = stop
    run.node.stop()
    assert release.wait(120) and seen == [["services: the node is stopping"]]


def test_what_observes_a_node_ends_with_it(tmp_path):
    with opened(tmp_path) as node:
        watching = history_of(node)._thread
        assert watching.is_alive()
    assert not watching.is_alive()


def test_a_clock_that_is_set_while_the_node_runs_changes_nothing_about_how_long_it_is_up(running):
    run = running()
    run.node.started += 86400  # as the clock would have it that was set back by a day
    assert 0 <= run.node.describe()["uptime_s"] < 3600


def test_a_disk_that_takes_nothing_is_logged_once_and_so_is_its_end(running, tmp_path):
    run = running("", f"general.log_dir={tmp_path}/log")
    log = tmp_path / "log/vexfs.log"
    io.fault("write", 0, errno.ENOSPC)
    try:
        run.node.volume.write_bytes("large", os.urandom(300_000))
        until(lambda: "No space left on device" in log.read_text())
        time.sleep(2.5)
    finally:
        io.clear_fault()
    until(lambda: "takes again what is written" in log.read_text())
    assert log.read_text().count("No space left on device") == 1
