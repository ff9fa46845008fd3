"""Every key of [general], [mount], [cluster], [api] and [monitoring]: what it changes in a running node."""

import contextlib
import errno
import http.client
import json
import logging
import os
import pwd
import select
import signal
import socket
import ssl
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cli.test_serve import Served as Process
from tests.cli.test_serve import nobody_can_run_python
from tests.frontends.fuse.conftest import NO_MOUNTS
from tests.frontends.http.test_gate import certificate
from tests.node import test_keys_mechanisms as mechanisms
from tests.node.keyed import Case, named, running
from vexfs.cli.reach import Reach
from vexfs.config import load
from vexfs.config.model import KEYS
from vexfs.errors import ConfigError


def address(run, service="rest"):
    """Host and port of a service."""
    told = run.node.services[service].describe()
    url = told.get("url") or f"//{told['address']}"
    parts = urllib.parse.urlsplit(url)
    return parts.hostname, parts.port


def token(run):
    """A token that may do everything."""
    return run.node.tokens.create("all", ["read", "write", "watch", "admin"])[0]


def ask(run, method, path, body=None, *, service="rest", bearer=True, link=None, **headers):
    """Status, headers and body of an answer."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if bearer:
        given["Authorization"] = f"Bearer {token(run)}"
    if isinstance(body, dict):
        body, given["Content-Type"] = json.dumps(body), "application/json"
    connection = link or http.client.HTTPConnection(*address(run, service), timeout=120)
    try:
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        if link is None:
            connection.close()


def status_of(method, path, body=None, **more):
    return lambda run: ask(run, method, path, body, **more)[0]


@contextlib.contextmanager
def unfinished(run):
    """A request that is under way: an upload of which the end is missing."""
    with socket.create_connection(address(run), timeout=120) as link:
        head = ("PUT /v1/files/slow HTTP/1.1", "Host: x", f"Authorization: Bearer {token(run)}", "Content-Length: 10")
        link.sendall("\r\n".join((*head, "", "12345")).encode())
        begun = run.node.services["rest"].service.describe
        while not begun()["active"] and not select.select([link], [], [], 0.01)[0]:
            pass
        yield link


def status_read(link, wait_s):
    """The status of the answer that comes within `wait_s`, None when none does, 0 at the end."""
    link.settimeout(wait_s)
    try:
        data = link.recv(65536)
    except TimeoutError:
        return None
    return int(data.split()[1]) if data else 0


# -- general


def told(name):
    """What the node says about itself."""

    def look(run):
        with Reach(socket=run.node.settings.general.control_socket) as reach:
            return reach.call("node.status").result()[name]

    return look


def logged(run):
    """Lines of the log after two messages, one of them for debugging."""
    log = run.directory / "log/vexfs.log"
    before = len(log.read_text())
    logging.getLogger("vexfs.test").debug("for debugging")
    logging.getLogger("vexfs.test").warning("for everybody")
    lines = log.read_text()[before:]
    return [word for word in ("for debugging", "for everybody") if word in lines]


def form_of_the_log(run):
    """Whether a line of the log is an object of JSON."""
    logging.getLogger("vexfs.test").warning("a line")
    lines = (run.directory / "log/vexfs.log").read_text().splitlines()
    line = [line for line in lines if "a line" in line][-1]
    return line.startswith("{") and json.loads(line)["message"] == "a line"


def rotated(run):
    """Older logs after 100 KB more."""
    for _ in range(100):
        logging.getLogger("vexfs.test").warning("x" * 1000)
    most = run.node.settings.general.log_max_size
    assert (run.directory / "log/vexfs.log").stat().st_size <= most
    return len(list((run.directory / "log").glob("vexfs.log.*")))


def stop_outlasts(run, wait_s):
    """Whether a stop still waits, after this time, for a request that hangs."""
    with unfinished(run) as link:
        run.node.stop()
        run.thread.join(wait_s)
        if waits := run.thread.is_alive():
            link.sendall(b"67890")
            assert status_read(link, 120) == 201
        return waits


def user_of(run):
    """Who the process is."""
    with open(f"/proc/{run.process.pid}/status") as file:
        return pwd.getpwuid(int(next(line for line in file if line.startswith("Uid")).split()[2])).pw_name


@contextlib.contextmanager
def process(here, *overrides):
    """A node in a process of its own, where any user may reach its directory."""
    here.mkdir(exist_ok=True)
    for each in here.parents[:-1]:
        each.chmod(each.stat().st_mode | 0o011)
    here.chmod(0o777)
    run = Process(here, *overrides)
    try:
        yield run
    finally:
        assert run.end(signal.SIGTERM) == 0
        run.process.stderr.close()


# -- mount


def mounted(run):
    """Whether the directory is the volume."""
    return os.path.ismount(run.directory.parent / "mnt")


def writable(run):
    """Whether a file can be made through the mount."""
    try:
        (run.directory.parent / "mnt/new").write_text("x")
    except OSError as error:
        assert error.errno == errno.EROFS
        return False
    return True


# -- api


def served(name):
    return lambda run: name in run.node.services


def over_tls(run):
    """Whether the port speaks TLS."""
    context = ssl.create_default_context(cafile=str(run.directory.parent / "a.crt"))
    try:
        with socket.create_connection(address(run)) as link, context.wrap_socket(link, server_hostname="localhost"):
            return True
    except ssl.SSLError:
        return False


def shown_name(run, client=None):
    """The name on the certificate that the node shows, None when the client is not let in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(run.directory.parent / "a.crt")
    context.load_verify_locations(run.directory.parent / "b.crt")
    if client:
        context.load_cert_chain(run.directory.parent / f"{client}.crt", run.directory.parent / f"{client}.key")
    try:
        with socket.create_connection(address(run)) as link, context.wrap_socket(link) as tls:
            tls.sendall(b"GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if not (answer := tls.recv(100)):
                return None
            assert answer.startswith(b"HTTP/1.1 200")
            return dict(row[0] for row in tls.getpeercert()["subject"])["commonName"]
    except (ssl.SSLError, ConnectionResetError):
        return None


def second_request(run):
    """The status of a request beside one that is under way."""
    with unfinished(run):
        return ask(run, "GET", "/v1/files")[0]


def answer_to_a_stall(run):
    """What a body gets that does not come."""
    with unfinished(run) as link:
        return status_read(link, 1.5 if run.node.settings.api.request_timeout == 30 else 120)


def kept_open(run):
    """Whether a connection still serves that has idled for longer than the default."""
    link = http.client.HTTPConnection(*address(run), timeout=120)
    ask(run, "GET", "/v1/files", link=link)
    try:
        return status_read(link.sock, 6 if run.node.settings.api.keepalive_timeout == 30 else 120) is None
    finally:
        link.close()


def refused_of_ten(run):
    """How many of ten requests of one token that come at once are refused; again where they were not read at once."""
    head, refused = f"GET /v1/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token(run)}\r\n", []
    while not refused or (run.node.settings.api.rate_limit and max(refused) < 5 and len(refused) < 50):
        with socket.create_connection(address(run), timeout=120) as link:
            link.sendall(f"{head}\r\n".encode() * 9 + f"{head}Connection: close\r\n\r\n".encode())
            told = link.makefile("rb").read()
        assert told.count(b"HTTP/1.1 ") == 10
        refused.append(told.count(b"HTTP/1.1 429 "))
    return max(refused)


def allowed_origin(run):
    """Which foreign page may read an answer."""
    return ask(run, "GET", "/v1/files", Origin="https://page.example")[1]["Access-Control-Allow-Origin"]


# -- monitoring


def host_of(name):
    def look(run):
        host, port = address(run, name)
        with socket.create_connection((host, port), timeout=120):
            return host

    return look


def detailed(run):
    return json.loads(ask(run, "GET", "/detailed-metrics", service="health", bearer=False)[2])


def measured(run):
    """The highest rate of filesystem operations that the node tells while it works, for a second at least."""
    over, highest = threading.Event(), 0
    limits = 1 if not run.node.settings.monitoring.enable_performance_metrics else 120

    def work():
        while not over.is_set():
            run.node.volume.write_text("a", "x")

    with ThreadPoolExecutor(1) as pool:
        working, until = pool.submit(work), time.monotonic() + limits
        try:
            while time.monotonic() < until and highest <= 10:
                highest = max(highest, detailed(run)["rates"]["filesystem"])
        finally:
            over.set()
        working.result()
    return highest


def readings(run):
    """Whether five readings come, or one at most within a second, once that is over which was under way."""
    time.sleep(0.3)
    began, often = time.time(), run.node.settings.monitoring.metrics_collection_interval < 1
    until = time.monotonic() + (120 if often else 1)
    seen = 0
    while time.monotonic() < until and seen < 5:
        seen = len([row for row in detailed(run)["history"] if row["time"] >= began])
    return seen


def timed(run):
    """How many of 640 operations are timed."""
    before = run.node.frames.times()["timed"]
    for _ in range(640):
        run.node.volume.exists("none")
    return run.node.frames.times()["timed"] - before


ON = "cluster.enabled=true"
LOG = "general.log_dir={here}/log"
TLS = ("api.tls_enabled=true", "api.tls_cert_file={here}/../a.crt", "api.tls_key_file={here}/../a.key")


def says(part):
    return lambda text: part in text


CASES = [
    Case("general.node_id", ("'one'", "'two'"), told("node_id"), ("one", "two")),
    Case("general.cluster_name", ("'one'", "'two'"), told("cluster_name"), ("one", "two")),
    Case("general.data_dir", ("'{here}/data'", "'{here}/other'"), told("volume"),
         (says("/data/volume.vex"), says("/other/volume.vex"))),
    Case("general.control_socket", ("'{here}/control.sock'", "''"), served("control"), (True, False)),
    Case("general.log_dir", ("''", "'{here}/log'"), lambda run: (run.directory / "log/vexfs.log").exists(),
         (lambda there: there in (True, False), True)),
    Case("general.log_level", ("'info'", "'debug'"), logged,
         (["for everybody"], ["for debugging", "for everybody"]), (LOG,)),
    Case("general.log_format", ("'text'", "'json'"), form_of_the_log, (False, True), (LOG,)),
    Case("general.log_max_size", ("'64MB'", "'10KB'"), rotated, (lambda n: n in (0, 5), 5), (LOG,)),
    Case("general.log_keep", ("3", "0"), rotated, (3, 0), (LOG, "general.log_max_size=10KB")),
    Case("mount.mountpoint", ("''", "'{here}/../mnt'"), mounted, (False, True)),
    Case("mount.options", ("''", "'ro'"), writable, (True, False), ("mount.mountpoint={here}/../mnt",)),
    Case("cluster.enabled", ("false", "true"), told("cluster"), ("not asked for", says("has no cluster"))),
    Case("cluster.bind_address", ("'127.0.0.1:7000'", "'127.0.0.1:7777'"), told("cluster"),
         (says(":7000"), says(":7777")), (ON,)),
    Case("cluster.advertise_address", ("''", "'10.0.0.9:7'"), told("cluster"),
         (says("find it at 127.0.0.1:7000"), says("find it at 10.0.0.9:7")), (ON,)),
    Case("cluster.seed_nodes", ("[]", "['10.0.0.8:7000']"), told("cluster"),
         (says("seed_nodes is empty"), says("10.0.0.8:7000")),
         (ON,)),
    Case("cluster.replication_factor", ("3", "5"), told("cluster"), (says("not 3 times"), says("not 5 times")), (ON,)),
    Case("api.rest_enabled", ("true", "false"), served("rest"), (True, False)),
    Case("api.rest_bind", ("'127.0.0.1:0'", "'127.0.0.2:0'"), host_of("rest"), ("127.0.0.1", "127.0.0.2")),
    Case("api.websocket_enabled", ("true", "false"), served("websocket"), (True, False)),
    Case("api.websocket_bind", ("'127.0.0.1:0'", "'127.0.0.2:0'"), host_of("websocket"), ("127.0.0.1", "127.0.0.2")),
    Case("api.auth_required", ("true", "false"), status_of("GET", "/v1/files", bearer=False), (401, 200)),
    Case("api.max_concurrent_requests", ("2000", "1"), second_request, (200, 503)),
    Case("api.request_timeout", ("'30s'", "'200ms'"), answer_to_a_stall, (None, 408)),
    Case("api.keepalive_timeout", ("'30s'", "'1s'"), kept_open, (True, False)),
    Case("api.max_body_size",
         ("'64MB'", "'1KB'"), status_of("POST", "/v1/delete", {"index": "/none", "ids": ["x" * 3000]}), (404, 413)),
    Case("api.max_file_size", ("'1TB'", "'1KB'"), status_of("PUT", "/v1/files/f", b"x" * 3000),
         (lambda s: s in (201, 204, 200), 413)),
    Case("api.rate_limit", ("0", "3"), refused_of_ten, (0, lambda n: n >= 5)),
    Case("api.cors_origins", ("[]", "['https://page.example']"), allowed_origin, (None, "https://page.example")),
    Case("monitoring.metrics_enabled", ("true", "false"), served("health"), (True, False)),
    Case("monitoring.prometheus_enabled", ("true", "false"), served("metrics"), (True, False)),
    Case("monitoring.metrics_bind", ("'127.0.0.1:0'", "'127.0.0.2:0'"), host_of("metrics"), ("127.0.0.1", "127.0.0.2")),
    Case("monitoring.health_check_bind", ("'127.0.0.1:0'", "'127.0.0.2:0'"), host_of("health"),
         ("127.0.0.1", "127.0.0.2")),
    Case("monitoring.enable_performance_metrics", ("true", "false"), measured, (lambda rate: rate > 10, 0),
         ("monitoring.metrics_collection_interval=100ms",)),
    Case("monitoring.metrics_collection_interval", ("'100ms'", "'1h'"), readings, (lambda n: n >= 5, lambda n: n <= 1)),
    Case("monitoring.detailed_timing", ("false", "true"), timed, (lambda n: 5 <= n <= 30, lambda n: n >= 640)),
]  # fmt: skip

STOPPING = Case("general.stop_timeout", ("'1s'", "'40s'"), stop_outlasts, (False, True))
BECOMING = Case("general.run_as", ("''", "'nobody'"), user_of, ("root", "nobody"))
CERTIFIED = [
    Case("api.tls_enabled", (f"true;{TLS[1]};{TLS[2]}", "false"), over_tls, (True, False)),
    Case("api.tls_client_ca_file", ("'{here}/../b.crt'", "'{here}/../a.crt'"), lambda run: shown_name(run, "b"),
         ("a", None), TLS),
]  # fmt: skip
PAIRED = ("api.tls_cert_file", "api.tls_key_file")


@pytest.mark.parametrize(**named([c for c in CASES if c.key not in ("mount.mountpoint", "mount.options")]))
def test_a_key_does_what_it_says(case, tmp_path):
    case.run(tmp_path, running)


@pytest.mark.skipif(bool(NO_MOUNTS), reason=NO_MOUNTS or "")
@pytest.mark.parametrize(**named([c for c in CASES if c.key in ("mount.mountpoint", "mount.options")]))
def test_a_key_of_the_mount_does_what_it_says(case, tmp_path):
    (tmp_path / "mnt").mkdir()
    case.run(tmp_path, running)


@pytest.mark.skipif(bool(NO_MOUNTS), reason=NO_MOUNTS or "")
def test_options_of_the_mount_open_the_volume_too(tmp_path):
    (tmp_path / "mnt").mkdir()
    for which, (words, moves) in enumerate((("strictatime", True), ("noatime", False))):
        settings = f"mount.mountpoint={tmp_path}/mnt", f"mount.options={words}"
        with running(tmp_path / f"of{which}", *settings) as run:
            fs = run.node.volume
            fs.write_text("a", "x")
            os.utime(tmp_path / "mnt/a", (1, 1))
            fs.read_text("a")
            assert (fs.stat("a").st_atime_ns > 10**9) is moves, words


def test_how_long_a_stop_waits(tmp_path):
    for which, wait_s in enumerate((25, 4)):  # less than the default of 30 s
        with running(tmp_path / f"of{which}", *STOPPING.settings(which, tmp_path)) as run:
            STOPPING.check(which, stop_outlasts(run, wait_s))


@pytest.mark.skipif(not nobody_can_run_python(), reason="needs root, and a Python that others can read")
def test_who_the_node_becomes(tmp_path):
    BECOMING.run(tmp_path, process)


@pytest.fixture
def certificates(tmp_path):
    certificate(tmp_path, "a")
    certificate(tmp_path, "b")


@pytest.mark.parametrize(**named(CERTIFIED))
def test_a_key_of_tls_does_what_it_says(case, tmp_path, certificates):
    case.run(tmp_path, running)


def test_certificate_and_key_belong_together(tmp_path, certificates):
    def files(cert, key):
        pair = f"api.tls_cert_file={tmp_path}/{cert}.crt", f"api.tls_key_file={tmp_path}/{key}.key"
        return "api.tls_enabled=true", *pair

    for name in ("a", "b"):
        with running(tmp_path / name, *files(name, name)) as run:
            assert shown_name(run) == name
    for cert, key in (("a", "b"), ("b", "a")):
        wrong = running(tmp_path / "c", *files(cert, key))
        with pytest.raises(ConfigError, match="no certificate with its key"), wrong:
            pass


def test_there_is_one_backend():
    with pytest.raises(ConfigError, match="storage.backend is 's3', and must be"):
        load(environment={}, overrides=["storage.backend=s3"])


def test_no_key_is_left_out():
    """Whoever adds a key says here what it changes."""
    told = [case.key for case in (*CASES, *CERTIFIED, STOPPING, BECOMING, *mechanisms.CASES, *mechanisms.KERNELS)]
    assert sorted([*told, *PAIRED]) == sorted(KEYS)
