"""``.vexfs/metrics`` on a mount says what happened, and can be read while files are worked on."""

import os
import subprocess

from prometheus_client.parser import text_string_to_metric_families
from vexfs.frontends import fuse


def values(path):
    text = (path / ".vexfs/metrics").read_text()
    return {(s.name, s.labels.get("operation", "")): s.value
            for family in text_string_to_metric_families(text) for s in family.samples}  # fmt: skip


def test_the_file_tells_what_happened_since_it_was_read(inside):
    _, path, _ = inside
    before = values(path)
    for _ in range(300):
        os.statvfs(path)
    after = values(path)
    name = ("vexfs_fuse_requests_total", "statfs")
    assert after[name] - before.get(name, 0) == 300
    assert after["vexfs_fuse_mounted", ""] == 1
    assert after["vexfs_fuse_ops_per_sec", ""] > 0


def test_files_that_tell_of_the_mount_are_copied_as_any_others(inside, tmp_path, monkeypatch):
    """`cp` looks at a file, opens it and looks again: it must be the same one for a moment."""
    _, path, _ = inside
    monkeypatch.setattr(fuse, "KEPT_S", 120.0)
    for name in ("version", "status", "config.toml", "metrics"):
        for _ in range(3):
            subprocess.run(["cp", path / ".vexfs" / name, tmp_path / name], check=True)
            assert (tmp_path / name).read_text()
