"""An operator's day: configure, start, mount, write, search by each way in, scrape, reconfigure, back up, kill, start
again, check, restore."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

import vexfs
from tests.frontends.fuse.conftest import NO_MOUNTS
from tests.ports import free_port
from tests.waiting import until

pytestmark = pytest.mark.skipif(bool(NO_MOUNTS), reason=NO_MOUNTS or "")


def command(program, *words):
    code = f"import sys; from vexfs.cli.main import run; sys.exit(run({program!r}, sys.argv[1:]))"
    return [sys.executable, "-c", code, *map(str, words)]


class Day:
    def __init__(self, directory):
        self.directory = directory
        self.file = directory / "node.conf"
        self.socket = directory / "control.sock"
        self.mountpoint = directory / "mnt"
        self.mountpoint.mkdir()
        self.ports = {name: free_port() for name in ("rest", "websocket", "metrics", "health")}
        self.log = directory / "log/vexfs.log"
        self.process = None

    def vexctl(self, *words, status=0):
        done = subprocess.run(command("vexctl", *words), capture_output=True, text=True, timeout=240,
                              env={**os.environ, "VEXFS_SOCKET": str(self.socket)})  # fmt: skip
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return done.stdout

    def configure(self, **extra):
        rows = {
            "general": {"data_dir": self.directory / "data", "control_socket": self.socket, "log_dir": self.log.parent},
            "mount": {"mountpoint": self.mountpoint},
            "api": {f"{name}_bind": f"127.0.0.1:{self.ports[name]}" for name in ("rest", "websocket")},
            "monitoring": {"metrics_bind": f"127.0.0.1:{self.ports['metrics']}",
                           "health_check_bind": f"127.0.0.1:{self.ports['health']}"},
        }  # fmt: skip
        text = "".join(f"[{s}]\n" + "".join(f'{k} = "{v}"\n' for k, v in r.items()) for s, r in rows.items())
        self.file.write_text(text + "[performance_optimizations]\n" + "".join(f"{k} = {v}\n" for k, v in extra.items()))

    def start(self):
        self.process = subprocess.Popen(command("vexfs", "serve", "--config", self.file))
        until(self.ready)

    def ready(self):
        assert self.process.poll() is None
        try:
            return json.loads(self.get("health", "/ready"))
        except OSError:
            return None

    def get(self, port, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=120) as reply:
            return reply.read()

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
        subprocess.run(["umount", "-l", self.mountpoint], capture_output=True)


@pytest.fixture
def day(tmp_path):
    made = Day(tmp_path)
    yield made
    made.end()


def test_a_day(day):
    day.configure()
    assert "is valid" in day.vexctl("config", "check", day.file)
    day.start()

    (day.mountpoint / "notes").mkdir()
    with open(day.mountpoint / "notes/roasts.md", "w") as file:
        file.write("Light roasts keep their acidity: bright, sour, floral coffee.\n")
        file.flush()
        os.fsync(file.fileno())
    token = json.loads(day.vexctl("token", "create", "me", "--scope", "read", "--scope", "write", "--json"))["token"]
    with vexfs.connect(f"http://127.0.0.1:{day.ports['rest']}", token) as fs:
        fs.index("/notes", embedder="default")
        hits = until(lambda: fs.search("floral coffee"))
        assert hits[0].path == "/notes/roasts.md"
        fs.write_text("/notes/bread.md", "A sourdough starter is fed with flour and water.\n")
    assert (day.mountpoint / "notes/bread.md").read_text().startswith("A sourdough")
    (found,) = os.listdir(day.mountpoint / ".vexfs/search/floral coffee")[:1]
    assert "roasts" in found
    assert b"vexfs_fuse_ops_per_sec" in day.get("metrics", "/metrics")
    assert b"<title>VexFS" in day.get("rest", "/")

    day.configure(batch_size=33)
    assert "batch_size" in day.vexctl("config", "reload")
    assert "33" in day.vexctl("config", "show", "--effective", "--changed")
    backup = json.loads(json.dumps(str(day.directory / "backup.vex")))
    rest = f"http://127.0.0.1:{day.ports['rest']}"
    admin = json.loads(day.vexctl("token", "create", "ops", "--scope", "admin", "--json"))["token"]
    request = urllib.request.Request(
        f"{rest}/v1/verbs/volume.backup", json.dumps({"args": {"target": backup}}).encode(),
        {"Authorization": f"Bearer {admin}", "Content-Type": "application/json"}, method="POST",
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=120) as reply:
        assert json.load(reply)["path"] == backup
    served = day.directory / "data/volume.vex"
    assert "backed up" in day.vexctl("volume", "backup", served, day.directory / "second.vex")
    assert "sound" in day.vexctl("volume", "fsck", day.directory / "second.vex")
    assert "uuid" in day.vexctl("volume", "info", served)
    day.vexctl("volume", "fsck", served, status=3)

    day.process.send_signal(signal.SIGKILL)
    day.process.wait()
    day.start()  # as a service manager does: nobody clears away the mount that has lost its process
    assert "is cleared away" in day.log.read_text()
    assert (day.mountpoint / "notes/roasts.md").read_text().startswith("Light roasts")
    with vexfs.connect(rest, token) as fs:
        assert fs.search("floral coffee")[0].path == "/notes/roasts.md"
    day.vexctl("node", "stop")
    assert day.process.wait(120) == 0

    assert "sound" in day.vexctl("volume", "fsck", day.directory / "data/volume.vex")
    day.vexctl("volume", "restore", backup, day.directory / "restored.vex")
    with vexfs.open(day.directory / "restored.vex") as fs:
        assert fs.read_text("/notes/bread.md").startswith("A sourdough")
        assert fs.search("floral coffee")[0].path == "/notes/roasts.md"
