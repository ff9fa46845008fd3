"""2,000 clients for as long as a measurement may take: errors, the level of memory, and how long requests wait."""

import threading
import time
from typing import Any

from asv_benchmarks.peers.node import load, resident_mib, served
from asv_benchmarks.peers.table import Report, Row


class _Memory(threading.Thread):
    """Looks at a server's resident memory every second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.over = False
        self.seen: list[float] = []

    def run(self) -> None:
        while not self.over:
            self.seen.append(resident_mib(self._pid))
            time.sleep(1.0)


def run(quick: bool) -> Report:
    """Ours, then Chroma for a third of the time."""
    count, seconds, crowd = (2000, 6.0, 200) if quick else (5000, 180.0, 2000)
    report = Report("node_crowd")
    with served(count, report) as (directory, servers):
        found: dict[str, dict[str, Any]] = {}
        for server in servers:
            memory = _Memory(server.process.pid)
            memory.start()
            mine = server is servers[0]
            found[server.name] = load(server, directory, crowd, seconds if mine else seconds / 3, count)
            memory.over = True
            early, late = memory.seen[len(memory.seen) // 3], memory.seen[-1]
            if mine:
                report.rows.append(Row("resident MiB at the end, and a third on", late, "earlier", early, 1.1, True))
            told = found[server.name]
            others = {status: n for status, n in told["statuses"].items() if status != "200"}
            report.notes.append(
                f"{server.name}: {told['requests']} requests of {crowd} clients, other statuses {others or 'none'}, "
                f"{told['broken']} broken, longest {told['max_ms']:.0f} ms, {early:.0f} to {late:.0f} MiB"
            )
        ours = found.pop(servers[0].name)
        for name, theirs in found.items() or [("itself", ours)]:
            for key, figure, target, lower in (("per_s", "requests a second", 3, False), ("p99_ms", "p99 ms", 1, True)):
                report.rows.append(Row(f"{figure}, {crowd} clients", ours[key], name, theirs[key], target, lower))
    return report
