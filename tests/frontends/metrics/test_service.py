"""Metrics and health as a node serves them, under its configuration."""

import http.client
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.node.conftest import Running
from tests.waiting import until


@pytest.fixture
def running(tmp_path):
    started = []

    def start(text="", *overrides):
        started.append(Running(tmp_path, text, ("api.rest_enabled=false", "api.websocket_enabled=false", *overrides)))
        return started[-1].start()

    yield start
    for each in started:
        each.stop()


def get(node, service, path):
    host, port = node.services[service].describe()["address"].rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=120)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def metrics_of(node):
    status, body = get(node, "metrics", "/metrics")
    assert status == 200
    return {s.name: s.value for f in text_string_to_metric_families(body) for s in f.samples if not s.labels}


def test_a_node_serves_metrics_and_health(running):
    node = running("", "monitoring.metrics_collection_interval=100ms").node
    for i in range(200):
        node.volume.filesystem.write_file(f"a{i}", b"x")
    assert metrics_of(node)["vexfs_fs_files"] == 201
    status, body = get(node, "health", "/ready")
    assert status == 200 and json.loads(body)["node"] == node.settings.general.node_id
    until(lambda: json.loads(get(node, "health", "/detailed-metrics")[1])["history"])


def test_switches_show_in_the_gauges_and_change_while_running(running):
    at = running("[performance_optimizations]\nenable_enhanced_bridge = false\nenable_avx2_acceleration = false\n")
    before = metrics_of(at.node)
    assert before["vexfs_enhanced_bridge_enabled"] == before["vexfs_avx2_acceleration_enabled"] == 0
    assert before["vexfs_simd_acceleration_enabled"] == 0 and before["vexfs_tiered_memory_pools_enabled"] == 1
    at.node.change({"performance_optimizations.enable_tiered_memory_pools": False,
                    "performance_optimizations.enable_stack_optimization": False})  # fmt: skip
    after = metrics_of(at.node)
    assert after["vexfs_tiered_memory_pools_enabled"] == after["vexfs_stack_optimization_enabled"] == 0
    assert after["vexfs_memory_pool_hit_rate"] == 0


def test_detailed_timing_times_every_operation(running):
    node = running("").node
    assert node.frames.time_every == 64
    node.change({"monitoring.detailed_timing": True})
    before = node.frames.times()["timed"]
    for i in range(50):
        node.volume.filesystem.write_file(f"a{i}", b"x")
    assert node.frames.times()["timed"] - before >= 50
    node.change({"monitoring.detailed_timing": False})
    assert node.frames.time_every == 64


def test_each_port_can_be_switched_off(running):
    node = running("", "monitoring.prometheus_enabled=false", "monitoring.enable_performance_metrics=false").node
    assert "metrics" not in node.services
    node.volume.filesystem.write_file("a", b"x")
    told = json.loads(get(node, "health", "/detailed-metrics")[1])
    assert told["rates"]["filesystem"] == 0


def test_metrics_off_serves_neither(running):
    node = running("", "monitoring.metrics_enabled=false").node
    assert not {"metrics", "health"} & set(node.services)
