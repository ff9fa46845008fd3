"""Prometheus: rules by its own unit tests, names by a live node; scrapes, and an alert that fires and clears."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.conftest import get, program, until
from tests.ports import free_port
from vexfs import machinery
from vexfs._core.frame import Frames
from vexfs.observe.history import History
from vexfs.observe.metrics import collect
from vexfs.observe.parts import Parts
from vexfs.volume import Volume

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
NAME = re.compile(r"\b((?:vexfs|process)_[a-z0-9_]+)\b")
RECORDED = re.compile(r"vexfs:[a-z0-9_:]+")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Every name that a node may expose, samples of histograms and summaries included."""
    home = tmp_path_factory.mktemp("names")
    (home / "mnt").mkdir()
    with Volume.create(home / "v.vex", frames=Frames()) as volume:
        parts = Parts(volume, machinery.simd())
        parts.tally.add("vector", "query", "/a")
        try:
            mount = volume.mount(home / "mnt")
        except Exception:
            mount = None
        families = collect(History(parts))
        if mount is not None:
            mount.unmount(force=True)
    found = {family.name for family in families}
    found |= {"vexfs_fuse_workers", "vexfs_fuse_waiting", "vexfs_fuse_requests_total", "vexfs_fuse_faults_total"}
    for family in families:
        if family.kind in ("histogram", "summary"):
            found |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
    return found


def test_the_dashboard_names_only_metrics_that_exist(names):
    board = json.loads((DEPLOY / "grafana/vexfs.json").read_text())
    used = {name for panel in board["panels"] for target in panel["targets"] for name in NAME.findall(target["expr"])}
    assert len(used) > 25 and used <= names, used - names
    titles = [panel["title"] for panel in board["panels"]]
    assert len(titles) == len(set(titles)) and len({panel["id"] for panel in board["panels"]}) == len(titles)
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]]
    assert len(places) == len(set(places)) and all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in board["panels"])


def test_rules_name_only_metrics_that_exist(names):
    text = (DEPLOY / "prometheus/vexfs.rules.yml").read_text()
    used = set(NAME.findall(re.sub(r"vexctl.*", "", text)))
    assert len(used) > 15 and used <= names, used - names
    recorded = set(re.findall(r"record: (vexfs:[a-z0-9_:]+)", text))
    assert set(RECORDED.findall(text)) == recorded


def test_the_gauges_of_the_field_are_all_watched():
    text = (DEPLOY / "prometheus/vexfs.rules.yml").read_text() + (DEPLOY / "grafana/vexfs.json").read_text()
    from vexfs.observe.metrics import GAUGES

    assert all(name in text for name in GAUGES)


def test_promtool_passes_rules_configuration_and_unit_tests(tmp_path):
    promtool = program("promtool", "prometheus")
    for file in (DEPLOY / "prometheus").iterdir():
        (tmp_path / file.name).write_text(file.read_text())
    for words in (
        ["check", "rules", "vexfs.rules.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "vexfs.rules.test.yml"],
    ):
        done = subprocess.run([promtool, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_amtool_takes_the_configuration_of_alertmanager():
    amtool = program("amtool", "prometheus-alertmanager")
    done = subprocess.run(
        [amtool, "check-config", DEPLOY / "alertmanager/alertmanager.yml"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_real_prometheus_scrapes_and_an_alert_fires_and_clears(serve, tmp_path):
    prometheus = program("prometheus", "prometheus")
    node, port = serve("n1"), free_port()
    # The shipped files, hastened: a second instead of minutes.
    rules = (DEPLOY / "prometheus/vexfs.rules.yml").read_text()
    (tmp_path / "vexfs.rules.yml").write_text(re.sub(r"for: \w+", "for: 1s", rules))
    config = (DEPLOY / "prometheus/prometheus.yml").read_text().replace("15s", "1s")
    config = config.replace("127.0.0.1:9090", f"127.0.0.1:{node.metrics}").replace(
        "127.0.0.1:9093", f"127.0.0.1:{free_port()}"
    )
    (tmp_path / "prometheus.yml").write_text(config)
    process = subprocess.Popen(
        [
            prometheus,
            "--config.file=prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def alerts():
        _, body = get(port, "/api/v1/alerts")
        return {a["labels"]["alertname"] for a in json.loads(body)["data"]["alerts"] if a["state"] == "firing"}

    def value(query):
        _, body = get(port, f"/api/v1/query?query={query}")
        return [float(row["value"][1]) for row in json.loads(body)["data"]["result"]]

    try:
        until(lambda: value("vexfs_simd_acceleration_enabled") == [1.0], "the node is scraped")
        assert value("up") == [1.0] and "VexFSSimdDisabled" not in alerts()
        node.vexctl("performance simd configure --enable-avx2 false")
        until(lambda: "VexFSSimdDisabled" in alerts(), "the alert fires")
        node.vexctl("performance simd configure --enable-avx2 true")
        until(lambda: "VexFSSimdDisabled" not in alerts(), "the alert clears")
        assert "VexFSDown" not in alerts()
        node.kill()
        until(lambda: "VexFSDown" in alerts(), "a dead node is told")
    finally:
        process.terminate()
        process.wait()
