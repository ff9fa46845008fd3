"""Metrics: what they say is what happened; their text is what Prometheus reads; a scrape costs next to nothing."""

import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.waiting import until
from vexfs.errors import UsageError
from vexfs.observe import exposition, metrics
from vexfs.observe.history import History
from vexfs.search.textindex import create_text_index


def values(families):
    """``{(sample, labels): value}`` of the text of `families`, as Prometheus's own parser reads it."""
    parsed = text_string_to_metric_families(exposition.render(families))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in parsed for s in family.samples}


def test_counters_are_those_of_the_volume(history):
    fs = history.parts.filesystem
    for i in range(20):
        fs.write_file(f"a{i}", b"x" * 5000)
    fs.sync()
    with pytest.raises(FileNotFoundError):
        fs.unlink("absent")
    handed = ("vexfs_bridge_items_total", (("priority", "high"),))
    until(lambda: values(metrics.collect(history))[handed])  # the bridge hands commits on in a thread of its own
    seen = values(metrics.collect(history))
    assert seen[handed] > 0
    assert seen["vexfs_fs_operations_total", (("operation", "create"),)] == 20
    assert seen["vexfs_fs_errors_total", (("errno", "ENOENT"),)] >= 1
    assert seen["vexfs_pool_acquires_total", (("tier", "medium"),)] >= 20
    assert seen["vexfs_fs_commits_total", ()] >= 1
    assert seen["vexfs_stack_high_water_bytes", (("operation", "create"),)] > 0
    assert seen["vexfs_fuse_mounted", ()] == 0


def test_kernels_are_counted(history):
    rows = np.ones((50, 8), np.float32)
    before = values(metrics.collect(history, ["simd"]))
    history.parts.simd.one_to_many(rows[0], rows, "cosine")
    after = values(metrics.collect(history, ["simd"]))
    name = ("vexfs_simd_vectors_total", (("level", history.parts.simd.level),))
    assert after[name] - before[name] == 50


def test_the_nine_gauges_keep_their_names_and_switched_off_read_0(history, plain):
    on = values(metrics.collect(history, ["rates"]))
    assert set(metrics.GAUGES) == {name for name, _ in on}
    enabled = [name for name in metrics.GAUGES if name.endswith("_enabled")]
    assert [on[name, ()] for name in enabled if name != "vexfs_avx2_acceleration_enabled"] == [1] * 4
    off = values(metrics.collect(History(plain), ["rates"]))
    assert [off[name, ()] for name in enabled] == [0] * 5
    assert off["vexfs_memory_pool_hit_rate", ()] == 0


def test_the_latency_histogram_holds_every_timed_operation(history):
    fs, frames = history.parts.filesystem, history.parts.frames
    frames.time(1)
    began = time.monotonic()
    for i in range(300):
        fs.write_file(f"a{i}", b"x")
    took = time.monotonic() - began
    seen = values(metrics.collect(history, ["latency"]))
    of = (("operation", "create"),)
    assert seen["vexfs_fs_operation_duration_seconds_count", of] == 300
    buckets = {labels: n for (name, labels), n in seen.items() if name.endswith("_bucket") and of[0] in labels}
    assert max(buckets.values()) == 300
    assert 0 < seen["vexfs_fs_operation_duration_seconds_sum", of] < took


def test_collect_takes_collectors_and_metrics(history):
    assert {f.name for f in metrics.collect(history, ["simd"])} == {
        "vexfs_simd_level_info", "vexfs_simd_calls_total", "vexfs_simd_vectors_total"}  # fmt: skip
    both = metrics.collect(history, ["node", "vexfs_fs_files", "vexfs_memory_pool_hit_rate"])
    assert {f.name for f in both} == {
        "vexfs_build_info", "vexfs_uptime_seconds", "vexfs_fs_files", "vexfs_memory_pool_hit_rate"}  # fmt: skip
    for wrong in ("nonsense", "vexfs_nonsense"):
        with pytest.raises(UsageError, match=rf"{wrong}.*(rates|pools)"):
            metrics.collect(history, [wrong])


def test_families_have_help_and_conventional_names(history):
    history.parts.filesystem.write_file("a", b"x")
    history.parts.tally.add("vector", "query", "7", 3, 5)
    history.parts.tally.add("vector", "query", "8", 2, 5)
    for family in metrics.collect(history):
        assert family.about.endswith("."), family.name
        assert (family.kind == "counter") == family.name.endswith("_total"), family.name
    seen = values(metrics.collect(history, ["index"]))
    # Neither index is there any more.
    assert seen["vexfs_vector_operations_total", (("index", ""), ("operation", "query"))] == 5


def test_a_model_that_does_not_come_back_is_named(history, monkeypatch):
    monkeypatch.setattr("vexfs.search.underway._LATE_S", 0.1)
    asked, over = threading.Event(), threading.Event()

    def model(texts):
        if "coffee" in texts[0]:
            asked.set()
            over.wait(250)
        return [[1.0, 0.0]] * len(texts)

    catalog = history.parts.volume.catalog
    index = create_text_index(catalog, "/docs", model)
    catalog.filesystem.write_file("docs/a.txt", b"coffee")
    try:
        assert asked.wait(120)
        time.sleep(0.2)
        seen = values(metrics.collect(history, ["ingest"]))
        assert seen["vexfs_ingest_awaited_seconds", (("embedder", index.embedder),)] >= 0.1
        assert seen["vexfs_ingest_backlog_files", ()] == 1
    finally:
        over.set()


def test_every_metric_is_documented(history):
    page = (Path(__file__).resolve().parents[2] / "docs/metrics.md").read_text()
    short = set(re.findall(r"`(_[a-z_]+)`", page))
    for family in metrics.collect(history):
        known = family.name in page or family.name.startswith("process_")
        assert known or any(family.name.endswith(tail) for tail in short), f"{family.name} is not in docs/metrics.md"
    listed = re.search(r"the name of a collector \(([^)]*)\)", page)
    assert re.findall(r"`(\w+)`", listed[1]) == list(metrics.COLLECTORS)


def test_label_values_are_escaped():
    odd = 'odd"name\\\n'
    assert values([exposition.counter("a_total", "About.").add(1, index=odd)]) == {("a_total", (("index", odd),)): 1}


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (Debian: prometheus)")
def test_promtool_finds_nothing_to_say(history):
    history.parts.frames.time(1)
    history.parts.filesystem.write_file("a", b"x")
    text = exposition.render(metrics.collect(history))
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    field = ("vexfs_fuse_ops_per_sec", "vexfs_vector_ops_per_sec", "vexfs_semantic_ops_per_sec")
    said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(field)]
    assert done.returncode in (0, 3) and not said, said


def test_a_scrape_a_second_costs_under_1_percent(history):
    """Told by the calls that it makes, of which 1 percent of a processor does tens of thousands."""
    for i in range(1000):
        history.parts.filesystem.write_file(f"a{i}", b"x")
    exposition.render(metrics.collect(history))
    calls = []
    sys.setprofile(lambda frame, event, arg: calls.append(event) if event in ("call", "c_call") else None)
    try:
        exposition.render(metrics.collect(history))
    finally:
        sys.setprofile(None)
    assert 100 < len(calls) < 10_000
