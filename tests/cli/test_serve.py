import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ENV = {**os.environ, "PYTHONUNBUFFERED": "1"}


def program(name, *words, **more):
    code = f"import sys; from vexfs.cli.main import run; sys.exit(run({name!r}, sys.argv[1:]))"
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, **more)


class Served:
    def __init__(self, directory, *overrides):
        self.socket = directory / "c.sock"
        self.file = directory / "node.conf"
        off = "".join(f"{k} = false\n" for k in ("rest_enabled", "websocket_enabled"))
        self.file.write_text(f"[general]\ndata_dir = '{directory}/data'\ncontrol_socket = '{self.socket}'\n"
                             f"[api]\n{off}[monitoring]\nmetrics_enabled = false\n")  # fmt: skip
        code = "import sys; from vexfs.cli.main import run; sys.exit(run('vexfs', sys.argv[1:]))"
        sets = [word for each in overrides for word in ("--set", each)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "serve", "--config", str(self.file), *sets], env=ENV,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.log = []
        for line in self.process.stderr:
            self.log.append(line)
            if " serves " in line:
                break

    def vexctl(self, *words):
        return program("vexctl", *words, "--socket", self.socket)

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.log += self.process.stderr.readlines()
        return self.process.wait(120)


@pytest.fixture
def served(tmp_path):
    made = Served(tmp_path)
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.wait()
    made.process.stderr.close()


def test_a_node_from_its_first_to_its_last(served):
    told = served.vexctl("node", "status", "--json")
    assert told.returncode == 0
    status = json.loads(told.stdout)
    assert status["pid"] == served.process.pid and status["services"]["control"]["state"] == "serving"
    assert "control" in served.vexctl("node", "status").stdout
    token = json.loads(served.vexctl("token", "create", "ci", "--scope", "write", "--expires", "90d", "--json").stdout)
    assert token["token"].startswith("vex_") and token["state"] == "valid"
    assert token["token"] not in served.vexctl("token", "list", "--json").stdout
    assert "revoked" in served.vexctl("token", "revoke", "ci").stdout
    assert "no valid token" in served.vexctl("token", "revoke", "ci").stderr
    with open(served.file, "a") as file:
        file.write("[performance_optimizations]\nbatch_size = 9\n[storage]\nio_queue_depth = 9\n")
    assert "batch_size" in served.vexctl("config", "reload").stdout
    shown = served.vexctl("config", "show", "--effective", "--changed").stdout
    assert "batch_size" in shown and f"{served.file}:10" in shown and "restart: storage.io_queue_depth" in shown
    assert served.vexctl("node", "stop").returncode == 0
    assert served.process.wait(120) == 0
    gone = served.vexctl("node", "status")
    assert gone.returncode == 3 and "no node answers there" in gone.stderr


def test_signals_reload_and_stop(served):
    with open(served.file, "a") as file:
        file.write("[performance_optimizations]\nbatch_size = 'x'\n")
    served.process.send_signal(signal.SIGHUP)
    for line in served.process.stderr:
        served.log.append(line)
        if "was not reloaded" in line:
            break
    assert served.vexctl("node", "status").returncode == 0
    assert served.end() == 0
    assert any("was not reloaded" in line and "node.conf:10" in line for line in served.log)
    assert "has stopped" in served.log[-1]


def test_killed_and_started_again(served, tmp_path):
    served.process.kill()
    served.process.wait()
    again = Served(tmp_path)
    assert again.vexctl("node", "status").returncode == 0
    assert again.end() == 0
    again.process.stderr.close()


def nobody_can_run_python():
    if os.geteuid() != 0:
        return False
    try:
        return subprocess.run([sys.executable, "-c", "import vexfs"], user="nobody", cwd="/").returncode == 0
    except PermissionError:
        return False


@pytest.mark.skipif(not nobody_can_run_python(), reason="needs root, and a Python that others can read")
def test_privileges_are_dropped(tmp_path):
    for directory in [tmp_path, *tmp_path.parents[:-1]]:
        directory.chmod(directory.stat().st_mode | 0o011)
    tmp_path.chmod(0o777)
    served = Served(tmp_path, "general.run_as=nobody")
    try:
        status = Path(f"/proc/{served.process.pid}/status").read_text()
        uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
        assert set(uids) == {"65534"}, served.log
        assert (tmp_path / "data/volume.vex").stat().st_uid == 65534
        assert served.end() == 0
    finally:
        served.process.kill()
        served.process.wait()
        served.process.stderr.close()


def test_a_bad_configuration_is_one_message_and_status_2(tmp_path):
    (tmp_path / "c").write_text("[api]\nrest_bnd = 1\n[x]\n")
    done = program("vexfs", "serve", "--config", tmp_path / "c")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    first, second = done.stderr.splitlines()
    assert "did you mean rest_bind?" in first and "no section [x]" in second
    done = program("vexctl", "config", "check", tmp_path / "c")
    assert done.returncode == 1 and done.stdout.count("\n") == 2


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[mount]\noptions = "noatime,alow_other"', "c:2: mount.options: unknown mount option 'alow_other'; did you"),
        ('[mount]\n\noptions = "cache_size=1GB"', "c:3: mount.options: cache_size of a node's volume is storage.cache"),
        ('[general]\nrun_as = "no-such-user"', "c:2: general.run_as: there is no user 'no-such-user'"),
        ('[general]\nrun_as = "root:no-such-group"', "c:2: general.run_as: there is no group 'no-such-group'"),
        ('[api]\ntls_enabled = true\ntls_key_file = "/no/key"\ntls_cert_file = "/no/crt"',
         "c:4: api.tls_cert_file: /no/crt and /no/key are no certificate with its key: "),
    ],
)  # fmt: skip
def test_check_finds_what_would_keep_a_node_from_starting(tmp_path, text, fault):
    (tmp_path / "c").write_text(f"{text}\n")
    done = program("vexctl", "config", "check", tmp_path / "c", "--json")
    (told,) = json.loads(done.stdout)["faults"]
    assert done.returncode == 1 and f"{tmp_path}/{fault}" in told


def test_show_changed_leaves_out_what_was_set_to_its_default(tmp_path):
    (tmp_path / "c").write_text('[api]\nrate_limit = 0\nmax_body_size = "64MiB"\nkeepalive_timeout = "6s"\n')
    shown = json.loads(program("vexctl", "config", "show", "--changed", "--json", "--config", tmp_path / "c").stdout)
    assert [row["key"] for row in shown["keys"]] == ["api.keepalive_timeout"]


def test_init_check_show(tmp_path):
    assert program("vexctl", "config", "init", tmp_path / "etc/c").returncode == 0
    assert "nothing is overwritten" in program("vexctl", "config", "init", tmp_path / "etc/c").stderr
    assert program("vexctl", "config", "check", tmp_path / "etc/c").returncode == 0
    limited = {**ENV, "VEXFS_API__RATE_LIMIT": "7"}
    shown = program("vexctl", "config", "show", "--config", tmp_path / "etc/c", env=limited)
    assert "VEXFS_API__RATE_LIMIT" in shown.stdout


def test_a_second_node_for_the_same_volume_is_told_who_has_it(served):
    done = program("vexfs", "serve", "--config", served.file)
    assert done.returncode == 3 and str(served.process.pid) in done.stderr, done.stderr
    assert "umount" not in done.stderr


def test_a_log_that_cannot_be_written_is_told_once_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "c").write_text(f'[general]\ndata_dir = "{tmp_path}/d"\nlog_dir = "{tmp_path}/file"\n'
                                f'control_socket = "{tmp_path}/s"\n')  # fmt: skip
    done = program("vexfs", "serve", "--config", tmp_path / "c")
    assert done.returncode == 2 and done.stderr.count("general.log_dir") == 1 and "name a directory" in done.stderr
