"""Health: each check sees its fault."""

import json

from vexfs.observe import health
from vexfs.volume import Volume


def failing(parts):
    return {check.name for check in health.checks(parts) if not check.ok}


def test_a_sound_volume_is_ready(parts):
    assert health.ready(parts)["ready"] and not failing(parts)
    assert health.alive(parts)["status"] == "alive"


def test_a_stopped_bridge_is_told_with_its_remedy(parts):
    parts.bridge.stop()
    found = health.ready(parts)
    parts.bridge.start()
    assert not found["ready"] and "vexctl performance bridge restart" in found["reasons"][0]


def test_a_closed_volume_is_not_ready(parts):
    parts.volume.close()
    assert failing(parts) == {"volume"}
    assert health.alive(parts)["status"] == "alive"


def test_a_full_volume_is_not_ready(tmp_path, parts):
    with Volume.create(tmp_path / "small.vex", size_limit=1 << 20) as volume:
        parts.volume = volume
        volume.filesystem.write_file("a", bytes(900_000))
        assert failing(parts) == {"room"}


def test_a_mount_that_ended_is_told(inside):
    parts, _ = inside
    assert not failing(parts)
    parts.volume.mounted.unmount(force=True)
    assert failing(parts) == {"mount"}


def test_details_are_json_with_histograms(own, history):
    history.parts.frames.time(1)
    history.take()
    for i in range(100):
        own.filesystem.write_file(f"a{i}", b"x")
    history.take()
    said = json.loads(json.dumps(health.detailed(history)))
    create = said["latency"]["create"]
    assert create["timed"] == 100 == sum(create["histogram_ns"].values())
    assert 0 < create["p50_ns"] <= create["p95_ns"] <= create["p99_ns"]
    assert said["history"][0]["filesystem"] > 0 and said["filesystem"]["files"] == 101
