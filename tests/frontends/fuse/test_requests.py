"""The mount counts the requests of the kernel, each once."""

import os


def test_every_request_is_counted_once(inside):
    _, path, mount = inside
    before = mount.requests()
    for _ in range(500):
        os.statvfs(path)
    for i in range(40):
        (path / f"d{i}").mkdir()
    for i in range(40):
        (path / f"d{i}").rmdir()
    after = mount.requests()
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert (grown["statfs"], grown["mkdir"], grown["rmdir"]) == (500, 40, 40)
    assert "write" not in grown


def test_the_volume_knows_what_it_works_with(inside):
    volume, _, mount = inside
    assert volume.mounted is mount
    pool, frames, bridge = volume.filesystem.equipment
    assert pool.counts and frames.monitoring and bridge.running
