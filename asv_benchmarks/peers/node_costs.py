"""What observing a node costs it: requests a second with and without, turn by turn within one load.

The load's connections stay open; what is looked at is switched on in every other slice of time, and each such slice is
compared with the two around it, so that a machine that drifts slows both.  Seconds are those of the node's processor
time, of which a saturated node has a fixed share: what else the machine does shows in wall time, which is noted, too.
"""

import os
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asv_benchmarks.peers.node import Node, load, served
from asv_benchmarks.peers.table import Report, Row
from vexfs.cli.reach import Reach

CLIENTS = 16


class _Scraper(threading.Thread):
    """Scrapes once a second while it is switched on."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._url = f"http://127.0.0.1:{port}/metrics"
        self.on = self.over = False

    def figure(self, name: str) -> float:
        """A metric without labels, as it is now."""
        line = next(line for line in self._scrape().splitlines() if line.startswith(name))
        return float(line.rpartition(" ")[2])

    def _scrape(self) -> str:
        with urllib.request.urlopen(self._url, timeout=10) as reply:
            text: str = reply.read().decode()
        return text

    def run(self) -> None:
        while not self.over:
            if self.on:
                self._scrape()
                time.sleep(1.0)
            else:
                time.sleep(0.02)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _shares(
    node: Node, directory: Path, count: int, switch: Callable[[bool], Any], seconds: float, slice_s: float
) -> tuple[list[float], list[float]]:
    """What each slice with it on answered, as a share of the slices beside it: by processor time, by wall time."""
    begin = time.time() + 3.0
    found: dict[str, Any] = {}

    def drive() -> None:
        found.update(load(node, directory, CLIENTS, seconds, count, begin=begin, slice_s=slice_s))

    driver = threading.Thread(target=drive)
    driver.start()
    spent = []
    for at in range(int(seconds / slice_s)):
        time.sleep(max(0.0, begin + at * slice_s - time.time()))
        spent.append(_cpu_s(node.process.pid))
        switch(at % 2 == 1)
    driver.join()
    switch(False)
    wall = found["slices"][: len(spent) - 1]
    cpu = [n / (now - then) for n, then, now in zip(wall, spent, spent[1:], strict=False)]
    return _ratios(cpu), _ratios(wall)


def _ratios(slices: Sequence[float]) -> list[float]:
    return [2 * slices[k] / (slices[k - 1] + slices[k + 1]) for k in range(1, len(slices) - 1, 2)]


def _row(report: Report, what: str, shares: tuple[list[float], list[float]], target: float) -> None:
    for seconds, values in zip(("processor", "wall"), shares, strict=True):
        middle = float(np.median(values))
        spread = float(np.subtract(*np.percentile(values, [75, 25]))) / len(values) ** 0.5
        if seconds == "processor":
            report.rows.append(Row(f"requests a second {what}, of those without", middle, "without", 1.0, target))
        report.notes.append(f"{what}, {seconds} time: {len(values)} slices, {middle:.4f}, about +-{spread:.4f}")


def run(quick: bool) -> Report:
    """Scraping every second, and timing every operation."""
    count, seconds = (2000, 12.0) if quick else (20_000, 50.0)
    report = Report("node_costs")
    with served(count, report, peers=False) as (directory, (node,)):
        scraper = _Scraper(node.metrics_port)
        scraper.start()

        def scrape(on: bool) -> None:
            scraper.on = on

        _row(report, "scraped every second", _shares(node, directory, count, scrape, seconds, 1.5), 0.99)
        scraper.over = True
        ms = 1e3 * scraper.figure("vexfs_scrape_cpu_seconds_total") / scraper.figure("vexfs_scrapes_total")
        report.rows.append(Row("processor time of a scrape under this load, ms", ms, "limit", 10.0, 1, True))
        with Reach(socket=node.socket) as reach:

            def time_all(on: bool) -> None:
                reach.call("config.set", values={"monitoring.detailed_timing": on}).result()

            _row(report, "with detailed timing", _shares(node, directory, count, time_all, seconds, 1.0), 0.97)
    return report
