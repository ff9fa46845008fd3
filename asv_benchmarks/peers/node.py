"""A node beside a Chroma server: many REST clients, mixed queries, reads and upserts, the same JSON for both."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from asv_benchmarks.peers import environment
from asv_benchmarks.peers.table import Report, Row

DIM = 384


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str, method: str, body: Any = None, token: str = "") -> Any:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=120) as reply:
        raw = reply.read()
    return json.loads(raw) if raw else None


def resident_mib(pid: int) -> float:
    """Of a process and its children."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in pids)
    return pages * 4096 / 2**20


class Node:
    """Ours: ``vexfs serve`` in a process of its own."""

    name = "vexfs"

    def __init__(self, directory: Path, vectors: Any) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self.socket = directory / "c.sock"
        sets = [
            f"general.data_dir={directory}/data", f"general.control_socket={self.socket}",
            f"api.rest_bind=127.0.0.1:{self.port}", "api.websocket_enabled=false",
            f"monitoring.metrics_bind=127.0.0.1:{self.metrics_port}", "monitoring.health_check_bind=127.0.0.1:0",
        ]  # fmt: skip
        code = "import sys; from vexfs.cli.main import run; sys.exit(run('vexfs', sys.argv[1:]))"
        words = [word for each in sets for word in ("--set", each)]
        self.process = subprocess.Popen([sys.executable, "-c", code, "serve", *words], stderr=subprocess.DEVNULL)
        from vexfs.cli.reach import Reach
        from vexfs.errors import Unreachable

        for _ in range(200):
            try:
                with Reach(socket=self.socket) as node:
                    made = node.call("token.create", name="bench", scopes=["read", "write"]).result()
                self.token = made["token"]
                self._up()
                break
            except (Unreachable, OSError):
                time.sleep(0.1)
        base = f"http://127.0.0.1:{self.port}/v1"
        ask(f"{base}/indexes/c", "PUT", {"dim": DIM}, self.token)
        for start in range(0, len(vectors), 1000):
            part = vectors[start : start + 1000]
            ids = [str(start + i) for i in range(len(part))]
            ask(f"{base}/upsert", "POST", {"index": "/c", "ids": ids, "vectors": part.tolist()}, self.token)

    def _up(self) -> None:
        socket.create_connection(("127.0.0.1", self.port)).close()

    def headers(self) -> list[str]:
        return ["Content-Type: application/json", f"Authorization: Bearer {self.token}"]

    def query(self, vector: list[float]) -> dict[str, str]:
        return self._post("query", {"index": "/c", "vector": vector, "k": 10})

    def get(self, name: str) -> dict[str, str]:
        return self._post("get", {"index": "/c", "ids": [name]})

    def upsert(self, name: str, vector: list[float]) -> dict[str, str]:
        return self._post("upsert", {"index": "/c", "ids": [name], "vectors": [vector]})

    def _post(self, verb: str, body: Any) -> dict[str, str]:
        return {"method": "POST", "path": f"/v1/{verb}", "body": json.dumps(body)}


class Chroma:
    """The peer: ``chroma run``."""

    name = "chroma"

    def __init__(self, directory: Path, vectors: Any) -> None:
        self.port = free_port()
        place = environment.install("node", ("chromadb==1.5.9",), whole=True)
        self.process = subprocess.Popen(
            [place / "bin" / "chroma", "run", "--path", str(directory / "chroma"), "--port", str(self.port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(place)},
        )  # fmt: skip
        base = f"http://127.0.0.1:{self.port}/api/v2"
        for _ in range(200):
            try:
                ask(f"{base}/heartbeat", "GET")
                break
            except OSError:
                time.sleep(0.1)
        self._at = "/api/v2/tenants/default_tenant/databases/default_database/collections"
        made = ask(f"http://127.0.0.1:{self.port}{self._at}", "POST",
                   {"name": "bench", "configuration": {"hnsw": {"space": "cosine"}}})  # fmt: skip
        self._at += f"/{made['id']}"
        for start in range(0, len(vectors), 1000):
            part = vectors[start : start + 1000]
            ids = [str(start + i) for i in range(len(part))]
            ask(f"http://127.0.0.1:{self.port}{self._at}/upsert", "POST", {"ids": ids, "embeddings": part.tolist()})

    def headers(self) -> list[str]:
        return ["Content-Type: application/json"]

    def query(self, vector: list[float]) -> dict[str, str]:
        return self._post("query", {"query_embeddings": [vector], "n_results": 10, "include": ["distances"]})

    def get(self, name: str) -> dict[str, str]:
        return self._post("get", {"ids": [name], "include": ["embeddings"]})

    def upsert(self, name: str, vector: list[float]) -> dict[str, str]:
        return self._post("upsert", {"ids": [name], "embeddings": [vector]})

    def _post(self, verb: str, body: Any) -> dict[str, str]:
        return {"method": "POST", "path": f"{self._at}/{verb}", "body": json.dumps(body)}


def load(
    server: Any, directory: Path, connections: int, seconds: float, count: int, **more: float
) -> dict[str, Any]:
    """Drive one server; `more` goes to :mod:`asv_benchmarks.peers.node_load`."""
    rng = np.random.default_rng(7)
    some = [[round(float(x), 5) for x in row] for row in rng.normal(size=(200, DIM))]
    spec = {
        "host": "127.0.0.1", "port": server.port, "headers": server.headers(), "connections": connections,
        "seconds": seconds, **more,
        "kinds": [
            {"weight": 70, "requests": [server.query(vector) for vector in some]},
            {"weight": 20, "requests": [server.get(str(i)) for i in rng.integers(0, count, 200)]},
            {"weight": 10, "requests": [server.upsert(f"new{i}", vector) for i, vector in enumerate(some)]},
        ],
    }  # fmt: skip
    file = directory / "load.json"
    file.write_text(json.dumps(spec))
    done = subprocess.run([sys.executable, "-m", "asv_benchmarks.peers.node_load", str(file)], capture_output=True,
                          text=True, check=True)  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def served(count: int, report: Report, *, peers: bool = True) -> Iterator[tuple[Path, list[Any]]]:
    """A node, and with `peers` a Chroma server, each with `count` records; and where there is room to work."""
    vectors = np.random.default_rng(3).normal(size=(count, DIM)).astype(np.float32)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        servers: list[Any] = []
        try:
            servers.append(Node(directory, vectors))
            if peers:
                try:
                    servers.append(Chroma(directory, vectors))
                except OSError as error:
                    report.notes.append(f"no Chroma server: {error}")
            yield directory, servers
        finally:
            for server in servers:
                server.process.terminate()
                server.process.wait(60)


def run(quick: bool) -> Report:
    """Interleaved rounds against both."""
    count, seconds, rounds, crowd = (2000, 3.0, 1, 200) if quick else (20_000, 8.0, 3, 2000)
    report = Report("node")
    with served(count, report) as (directory, servers):
        for connections in (16, crowd):
            found: dict[str, list[dict[str, Any]]] = {server.name: [] for server in servers}
            for _ in range(rounds):
                for server in servers:
                    found[server.name].append(load(server, directory, connections, seconds, count))
            _compare(report, connections, found)
        for server in servers:
            report.notes.append(f"{server.name}: {resident_mib(server.process.pid):.0f} MiB resident at the end")
    return report


def _compare(report: Report, connections: int, found: dict[str, list[dict[str, Any]]]) -> None:
    def middle(name: str, key: str) -> float:
        return float(np.median([each[key] for each in found[name]]))

    for name, rows in found.items():
        statuses = {status: n for row in rows for status, n in row["statuses"].items() if status != "200"}
        if statuses or any(row["broken"] for row in rows):
            broken = sum(row["broken"] for row in rows)
            report.notes.append(f"{name}, {connections} clients: other statuses {statuses}, {broken} broken")
    ours = "vexfs"
    for peer in [name for name in found if name != ours] or [ours]:
        here = f"{connections} clients"
        report.rows.append(Row(f"requests a second, {here}", middle(ours, "per_s"), peer, middle(peer, "per_s"), 3))
        report.rows.append(Row(f"p50 ms, {here}", middle(ours, "p50_ms"), peer, middle(peer, "p50_ms"), None, True))
        report.rows.append(Row(f"p99 ms, {here}", middle(ours, "p99_ms"), peer, middle(peer, "p99_ms"), 1, True))
