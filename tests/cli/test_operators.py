"""Every command for operators, against a live node over its control socket: real work, exit statuses, JSON."""

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.frontends.fuse.conftest import NO_MOUNTS
from tests.node.conftest import Running
from tests.waiting import until
from vexfs.cli import mail, performance_load
from vexfs.cli.main import build_parser, parsers_below, run, subparsers_of
from vexfs.errors import Unreachable
from vexfs.observe import tuning

NOUNS = ("performance", "security", "capacity", "system", "cluster")


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node with a mount, where there can be one."""
    home = tmp_path_factory.mktemp("node")
    (home / "mnt").mkdir()
    quiet = ("api.rest_enabled=false", "api.websocket_enabled=false")
    mount = () if NO_MOUNTS else (f"mount.mountpoint={home}/mnt",)
    text = "[performance_optimizations]\nbatch_size = 100  # mine\n"
    running = Running(home, text, (*quiet, *mount)).start()
    yield running
    running.stop()


@pytest.fixture
def vexctl(node, capsys, monkeypatch):
    """``vexctl("performance ...")``: the exit status, and the answer as JSON."""
    monkeypatch.setenv("VEXFS_SOCKET", str(node.socket))

    def call(words, text=False):
        try:
            status = run("vexctl", [*shlex.split(words), *([] if text else ["--json"])])
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        return (status, out, err) if text else (status, json.loads(out) if out else err)

    return call


def keys_of(answer):
    return set(answer) if isinstance(answer, dict) else set()


# Words, exit status, keys of the answer.
COMMANDS = [
    ("performance memory-pools status", 0, {"enabled", "hit_rate", "tiers"}),
    ("performance memory-pools hit-rates", None, {"overall", "recent", "tiers", "met"}),
    ("performance memory-pools allocation-latency", 0, {"small", "medium", "large"}),
    ("performance memory-pools reset", 0, {"reset"}),
    ("performance memory-pools report --duration 200ms", 0, {"tiers", "duration_s"}),
    ("performance memory-pools rebalance --workload-analysis --duration 200ms", 0, {"before", "after"}),
    ("performance memory-pools monitor --duration 200ms", 0, {"rows"}),
    ("performance simd capabilities", 0, {"capabilities", "levels"}),
    ("performance simd status", None, {"level", "calls"}),
    ("performance simd hardware-check", None, {"best", "ok"}),
    ("performance simd restart", 0, {"level"}),
    ("performance simd test --algorithm cosine", 0, {"ok", "tests"}),
    ("performance simd benchmark --vector-size 64 --iterations 1000", 0, {"results"}),
    ("performance simd enable --auto-detect", None, {"level"}),
    ("performance simd validate --duration 300ms --target-improvement 0.5x", None, {"ok", "improvement"}),
    ("performance stack monitor --duration 200ms --real-time", 0, {"operations", "high_water_bytes"}),
    ("performance stack violations --count", 0, {"count"}),
    ("performance stack usage --current", 0, {"limit_bytes"}),
    ("performance stack usage", 0, {"operations"}),
    ("performance stack clear-violations", 0, {"cleared"}),
    ("performance bridge latency --current --percentiles 50,99", None, {"p50_ns", "p99_ns", "met"}),
    ("performance bridge latency --duration 100ms", None, {"handled"}),
    ("performance bridge queue-depth", 0, {"depth", "priorities"}),
    ("performance bridge validate --target-latency 10s --target-throughput 1", 0, {"ok", "throughput_per_s"}),
    ("performance bridge restart", 0, {"running"}),
    ("performance diagnose", None, {"healthy", "findings"}),
    ("performance bottleneck-analysis --duration 500ms --detailed", 0, {"parts_s", "by_operation", "bottleneck"}),
    ("performance update-config --workload-analysis --duration 300ms", 0, {"proposed", "kept"}),
    (
        "security memory-pools monitor --detect-overflows --detect-use-after-free --duration 200ms",
        0,
        {"ok", "violations"},
    ),
    ("security simd verify --check-instruction-set --validate-results", 0, {"ok", "results"}),
    ("security simd monitor --timing-analysis --rounds 500", None, {"ok", "timing"}),
    ("security simd monitor --cache-analysis", 0, {"caches"}),
    ("capacity advise", None, {"advice", "reasons"}),
    ("capacity plan --fuse-ops-per-day 100m --headroom 20%", 0, {"nodes", "nodes_fractional"}),
    ("system check", None, {"ok", "checks"}),
    ("system tune", 0, {"changes"}),
    ("cluster status", 0, {"clustered", "ok"}),
    ("cluster nodes", 0, set()),
    ("cluster health", 0, {"ok", "checks"}),
]


@pytest.mark.parametrize(("words", "status", "keys"), COMMANDS, ids=[c[0] for c in COMMANDS])
def test_every_command_answers(vexctl, words, status, keys):
    if NO_MOUNTS and "bottleneck" in words:
        pytest.skip(NO_MOUNTS)
    got, answer = vexctl(words)
    assert got in ((0, 1) if status is None else (status,)), answer
    assert keys <= keys_of(answer) or not keys
    # People get words, not JSON, and no traceback.
    if "--duration" not in words and "benchmark" not in words and "monitor" not in words:
        _, out, err = vexctl(words, text=True)
        assert out.strip() and "Traceback" not in err and not out.startswith("{")


def leaves(noun):
    parser = subparsers_of(build_parser("vexctl", noun))[noun]
    return [each for each in parsers_below(parser) if not subparsers_of(each)]


@pytest.mark.parametrize("noun", NOUNS)
def test_each_has_an_example_that_parses_and_json(noun):
    parser = build_parser("vexctl", noun)
    for leaf in leaves(noun):
        example = leaf.epilog.partition("Example: vexctl ")[2]
        assert example, leaf.prog
        args = parser.parse_args(shlex.split(example))
        assert callable(args.run) and "--json" in leaf._option_string_actions


# -- settings take effect on the live node


def test_pools_are_configured_while_running(vexctl, node):
    vexctl("performance memory-pools configure --small-buffers 100 --medium-buffers 200 --large-buffers 40")
    assert node.node.pool.counts == (100, 200, 40)
    status, answer = vexctl("performance memory-pools configure --increase-all 50%")
    assert status == 0 and answer["after"] == {"small": 150, "medium": 300, "large": 60}
    assert node.node.pool.counts == (150, 300, 60)
    assert node.node.settings.performance.medium_buffer_count == 300
    assert vexctl("performance memory-pools configure")[0] == 2
    assert vexctl("performance memory-pools configure --small-buffers many")[0] == 2
    assert vexctl("performance memory-pools configure --small-buffers 10m")[0] == 2
    vexctl("performance memory-pools configure --small-buffers 128 --medium-buffers 64 --large-buffers 32")


def test_kernels_are_configured_while_running(vexctl, node):
    _, answer = vexctl("performance simd configure --enable-avx2 false --batch-size 64")
    assert answer["level"] == node.node.simd.level == "scalar" and node.node.simd.batch_size == 64
    assert vexctl("performance simd status")[0] == 1
    assert vexctl("performance simd validate --duration 200ms")[0] == 1
    vexctl("performance simd configure --enable-avx2 true --enable-fma true --batch-size 1024")
    vexctl("performance simd enable --auto-detect")
    assert node.node.simd.level == vexctl("performance simd capabilities")[1]["best"]


def test_stack_limits_are_configured_and_violations_are_seen(vexctl, node, tmp_path):
    vexctl("performance stack configure --limit 256 --heap-threshold 128")
    node.node.volume.filesystem.write_file("deep", b"x")
    node.node.volume.filesystem.rename("deep", "deeper")
    node.node.volume.sync()
    status, answer = vexctl("performance stack violations")
    assert status == 1 and answer["count"] > 0 and answer["operations"]
    count = lambda: str(vexctl("performance stack violations")[1]["count"])  # which may grow by what commits
    until(lambda: vexctl("performance stack violations --count", text=True)[1].strip() == count())
    vexctl("performance stack configure --limit 3072 --heap-threshold 1024")
    vexctl("performance stack clear-violations")
    assert vexctl("performance stack violations")[0] == 0
    node.node.volume.filesystem.write_file("deep", b"x")
    vexctl(f"performance stack monitor --duration 50ms --output {tmp_path}/stack.json")
    recorded = json.loads((tmp_path / "stack.json").read_text())
    recorded["operations"] = {"create": {"high_water": 2500}}
    (tmp_path / "stack.json").write_text(json.dumps(recorded))
    assert vexctl(f"performance stack analyze --input {tmp_path}/stack.json")[0] == 0
    status, answer = vexctl(f"performance stack analyze --input {tmp_path}/stack.json --threshold 2k")
    assert status == 1 and answer["above"] == {"create": 2500}


def test_the_bridge_is_configured_while_running(vexctl, node):
    words = "--batch-size 50 --priority-weights high:5,medium:2,low:1 --lazy-sync true --lazy-sync-threshold 250us"
    status, answer = vexctl(f"performance bridge configure {words}")
    assert status == 0 and answer["batch_size"] == 50 and answer["weights"] == [5, 2, 1]
    assert node.node.bridge.settings["sync_threshold_ns"] == 250_000
    assert vexctl("performance bridge configure --priority-levels 2 --priority-weights high:1")[0] == 2
    assert vexctl("performance bridge configure --priority-weights high:3,low:1")[0] == 2
    assert vexctl("performance bridge configure --priority-weights high:5,medium:4,low:2")[0] == 0
    status, answer = vexctl("performance bridge configure --batch-size 50")
    assert answer["weights"] == [5, 4, 2], "one setting leaves the others as they are"
    status, answer = vexctl("performance bridge validate --target-latency 1us")
    assert status == 1 and "above the target" in answer["reasons"][0]
    vexctl(
        "performance bridge configure --batch-size 100 --priority-weights high:3,medium:2,low:1 --sync-threshold 500us"
    )


def test_recorded_workloads_are_analysed(vexctl, node, tmp_path):
    for i in range(400):
        node.node.volume.filesystem.write_file(f"w{i}", b"x" * 9000)
    vexctl(f"performance memory-pools report --duration 50ms --output {tmp_path}/pools.json")
    status, answer = vexctl(f"performance memory-pools analyze --input {tmp_path}/pools.json --recommendations")
    assert status == 0 and answer["recommendation"]["counts"]
    (tmp_path / "bad.json").write_text("[1, 2")
    status, said = vexctl(f"performance memory-pools analyze --input {tmp_path}/bad.json")
    assert status == 2 and "no JSON" in said
    assert vexctl("performance memory-pools analyze --input /nonexistent")[0] == 1


def test_hardening_is_switched_and_damage_is_found(vexctl, node):
    words = "security memory-pools configure --zero-on-free true --guard-pages true --allocation-tracking true"
    status, answer = vexctl(words)
    assert (
        status == 0
        and set(node.node.pool.options) == {"zero_on_free", "guard_pages", "tracking"}
        and answer["hardened"]
    )
    node.node.volume.filesystem.write_file("hard", b"x" * 9000)
    vexctl("security memory-pools configure --zero-on-free false --guard-pages false --allocation-tracking false")
    assert node.node.pool.options == ()
    before = node.node.pool.options
    assert vexctl("security memory-pools monitor --duration 100ms")[0] == 0
    assert node.node.pool.options == before  # its own detectors are gone again


def test_a_use_after_free_is_seen_by_the_monitor(vexctl, node):
    import ctypes
    import threading

    pool, addresses = node.node.pool, []

    def misuse():
        until(lambda: "poison" in pool.options)
        buffer = pool.acquire(500)
        addresses.append(buffer.address)
        buffer.release()
        ctypes.memset(addresses[0] + 16, 0x55, 4)

    thread = threading.Thread(target=misuse)
    thread.start()
    status, answer = vexctl("security memory-pools monitor --detect-use-after-free --duration 5s")
    thread.join()
    assert status == 1 and any("free" in v["kind"] for v in answer["violations"]), answer


def test_an_output_that_cannot_be_is_told_before_the_work(vexctl, tmp_path):
    status, said = vexctl(f"performance stack monitor --duration 60s --output {tmp_path}/none/s.json")
    assert status == 2 and "none/s.json: cannot be written: there is no such directory" in said


# -- loads


@pytest.mark.skipif(bool(NO_MOUNTS), reason=NO_MOUNTS or "")
def test_validation_works_on_the_live_volume_and_cleans_up(vexctl, node, tmp_path):
    before = node.node.services["mount"].service._mount.requests()
    status, answer = vexctl(f"performance validate --quick --post-update --output {tmp_path}/v.json")
    after = node.node.services["mount"].service._mount.requests()
    fuse = answer["checks"]["fuse_ops_per_sec"]
    assert sum(after.values()) - sum(before.values()) >= answer["loads"]["fuse"]["operations"] > 100
    assert fuse["measured"] > 0 and fuse["target"] == 4125
    assert answer["overall_success"] == (not answer["reasons"]) == (status == 0)
    assert json.loads((tmp_path / "v.json").read_text())["mode"] == "quick"
    assert not [name for name in os.listdir(node.node.settings.mount.mountpoint) if "load" in name]


@pytest.mark.skipif(bool(NO_MOUNTS), reason=NO_MOUNTS or "")
@pytest.mark.parametrize(
    ("key", "check"),
    [
        ("enable_tiered_memory_pools", "tiered_memory_pools"),
        pytest.param("enable_stack_optimization", "stack_optimization", marks=pytest.mark.slow),
        pytest.param("enable_avx2_acceleration", "avx2_acceleration", marks=pytest.mark.slow),
    ],
)
def test_validation_fails_with_the_reason_when_a_feature_is_off(vexctl, node, key, check):
    node.node.change({f"performance_optimizations.{key}": False})
    try:
        status, answer = vexctl("performance validate --quick")
    finally:
        node.node.change({f"performance_optimizations.{key}": True})
    assert status == 1 and answer["overall_success"] is False
    assert any(check in reason and "is off" in reason for reason in answer["reasons"])


def test_regression_test_compares_files(vexctl, tmp_path):
    def baseline(name, ops):
        values = [ops * (1 + i / 1000) for i in range(9)]
        figure = {"unit": "operations/s", "better": "higher", "samples": values}
        data = {"format": "vexfs-baseline-1", "figures": {"fuse_ops": figure}, "skipped": {}}
        Path(tmp_path / name).write_text(json.dumps(data))
        return tmp_path / name

    old, new = baseline("old", 1000), baseline("new", 900)
    status, answer = vexctl(f"performance regression-test --baseline {old} --current {new} --threshold 5%")
    assert status == 1 and answer["regressions"] == ["fuse_ops"]
    assert vexctl(f"performance regression-test --baseline {old} --current {new} --threshold 20%")[0] == 0
    assert vexctl(f"performance regression-test --baseline {new} --current {old}")[0] == 0
    assert vexctl("performance validate --quick --regression-check")[0] == 2


@pytest.mark.slow
@pytest.mark.skipif(bool(NO_MOUNTS), reason=NO_MOUNTS or "")
def test_a_node_against_itself_is_no_regression(vexctl, tmp_path):
    assert vexctl(f"performance baseline --rounds 9 --output {tmp_path}/a.json")[0] == 0
    status, answer = vexctl(f"performance regression-test --baseline {tmp_path}/a.json --threshold 50%")
    assert status == 0, answer


@pytest.mark.slow
@pytest.mark.skipif(bool(NO_MOUNTS), reason=NO_MOUNTS or "")
def test_auto_tuning_backs_up_tries_and_leaves_a_valid_file(vexctl, node):
    status, answer = vexctl("performance update-config --auto-tune --backup-current --duration 1s")
    assert (
        status == 0 and Path(answer["backup"]).read_text() == "[performance_optimizations]\nbatch_size = 100  # mine\n"
    )
    assert all(
        trial["kept"] is (trial["name"] in str(answer["trials"]) and trial["kept"]) for trial in answer["trials"]
    )
    assert vexctl(f"config check {node.file}")[0] == 0
    assert "# mine" in node.file.read_text()


@pytest.mark.skipif(bool(NO_MOUNTS), reason=NO_MOUNTS or "")
@pytest.mark.parametrize("end", ["somebody ends it", "the file cannot be written"])
def test_what_auto_tuning_kept_and_could_not_write_does_not_stay(node, monkeypatch, end):
    for name, value in (("TURNS", 2), ("SECONDS", 0.05), ("HARM", 1e9)):  # short, and what serves hit rates is kept
        monkeypatch.setattr(tuning, name, value)
    count, size = "performance_optimizations.medium_buffer_count", "performance_optimizations.batch_size"
    wanted = [tuning.Trial("first", {count: 77}, "", "hit_rate"), tuning.Trial("second", {size: 25}, "")]
    monkeypatch.setattr(tuning, "trials", lambda *_: wanted)
    text, before = node.file.read_text(), node.node.settings.performance
    call = node.node.call("performance.update_config", {"auto_tune": True, "duration": 0.1})
    while next(call)["text"] != "second":
        pass
    assert node.node.settings.performance.medium_buffer_count == 77
    if end == "somebody ends it":
        call.close()
    else:
        monkeypatch.setattr(shutil, "copymode", full)
        with pytest.raises(OSError, match="No space"):
            while True:
                next(call)
    now = node.node.settings.performance
    assert (now.medium_buffer_count, now.batch_size) == (before.medium_buffer_count, before.batch_size)
    assert node.file.read_text() == text


def test_what_auto_tuning_took_back_as_a_whole_or_could_write_nowhere_is_told():
    one = {"name": "batch size 25", "kept": True, "reason": "+20.0% operations a second"}
    answer = {"trials": [one], "proposed": [one["name"]], "kept": {}, "backup": None, "written": None, "overall": {}}
    assert "all was taken back: that costs 9%" in performance_load._update({**answer, "rolled_back": "that costs 9%"})
    assert "no configuration file" in performance_load._update({**answer, "kept": {"batch_size": 25}})
    assert "no configuration" not in performance_load._update({**answer, "kept": {"batch_size": 25}, "written": "x"})


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_answer_is_written_before_it_is_shown(node, tmp_path):
    read_end, write_end = os.pipe()
    os.close(read_end)
    code = "from vexfs.cli.main import vexctl; vexctl()"
    words = f"performance stack monitor --duration 50ms --output {tmp_path}/s.json --socket {node.socket}"
    subprocess.run([sys.executable, "-c", code, *words.split()], stdout=write_end, check=False)
    os.close(write_end)
    assert json.loads((tmp_path / "s.json").read_text())


# -- who cannot be reached, what is not understood


def test_nobody_there_is_exit_status_3(vexctl, tmp_path):
    status, said = vexctl(f"performance memory-pools status --socket {tmp_path}/nobody.sock")
    assert status == 3 and "no node answers" in said


@pytest.mark.parametrize(
    "words",
    [
        "performance",
        "performance nonsense",
        "performance memory-pools report --duration soon",
        "performance bridge latency --percentiles 101",
        "performance simd validate --target-improvement fast",
        "performance bridge configure --priority-weights urgent:1",
        "capacity plan",
        "capacity plan --fuse-ops-per-day -1",
        "performance validate --quick --comprehensive",
        "capacity plan --fuse-ops-per-day 1 --headroom 100%",
    ],
)
def test_wrong_usage_is_exit_status_2(vexctl, words):
    assert vexctl(words)[0] == 2


def test_a_part_that_is_off_is_named_with_its_key(capsys, tmp_path):
    running = Running(
        tmp_path,
        "",
        (
            "api.rest_enabled=false",
            "api.websocket_enabled=false",
            "performance_optimizations.enable_enhanced_bridge=false",
        ),
    ).start()
    try:
        assert run("vexctl", ["performance", "bridge", "queue-depth", "--socket", str(running.socket)]) == 1
        assert "enable_enhanced_bridge = true" in capsys.readouterr().err
    finally:
        running.stop()


def test_a_volume_without_a_node_takes_the_same_commands(vexctl, tmp_path, capsys, monkeypatch):
    run("vexctl", ["volume", "create", str(tmp_path / "v.vex")])
    capsys.readouterr()
    status, answer = vexctl(f"performance stack usage --volume {tmp_path}/v.vex")
    assert status == 0 and "operations" in answer


def test_a_report_is_sent_by_mail(vexctl, monkeypatch):
    import socketserver
    import threading

    received = []

    class Smtp(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"220 here\r\n")
            in_data = False
            for line in self.rfile:
                if in_data:
                    received.append(line)
                    if line == b".\r\n":
                        in_data = False
                        self.wfile.write(b"250 ok\r\n")
                    continue
                word = line[:4].upper()
                in_data = word == b"DATA"
                self.wfile.write(b"354 go\r\n" if in_data else b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Smtp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("VEXFS_SMTP", f"127.0.0.1:{server.server_address[1]}")
        mail.send("ops@example.org", "VexFS validation: success", "fuse_ops_per_sec ok")
        server.shutdown()
    text = b"".join(received).decode()
    assert "\r\nDate: " in text and "\r\nMessage-ID: <" in text
    assert "Subject: VexFS validation" in text and "fuse_ops_per_sec" in text and "To: ops@example.org" in text
    monkeypatch.setenv("VEXFS_SMTP", "[::1]:1")
    with pytest.raises(Unreachable, match=r"\[::1\]:1: .*refused|\[::1\]:1: .*(assign|reach)"):
        mail.send("ops@example.org", "x", "y")
    monkeypatch.setenv("VEXFS_SMTP", f"127.0.0.1:{server.server_address[1]}")
    with pytest.raises(Unreachable, match="no mail system takes the report"):
        mail.send("ops@example.org", "x", "y")
    status, answer = vexctl("performance validate --quick --email-report ops@example.org")
    assert status == 1 and "no mail system takes the report" in answer["mail_fault"] and answer["checks"]
    status, said = vexctl("performance validate --quick --email-report nonsense")
    assert status == 2 and "no mail address" in said


def test_a_sendmail_that_cannot_be_run_loses_no_report(tmp_path, monkeypatch):
    (tmp_path / "sendmail").write_text("no program of this host")
    (tmp_path / "sendmail").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("VEXFS_SMTP", raising=False)
    with pytest.raises(Unreachable, match="did not take the mail"):
        mail.send("ops@example.org", "x", "y")
    (tmp_path / "sendmail").write_text(f"#!/bin/sh\n/bin/cat > {tmp_path}/sent\n")
    mail.send("ops@example.org", "x", "a name with \udcff in it")
    assert "\nDate: " in (tmp_path / "sent").read_text() and "udcff in it" in (tmp_path / "sent").read_text()
