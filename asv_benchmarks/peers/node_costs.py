"""What observing a node costs it: requests a second with and without, turn by turn within one load.

The load's connections stay open; what is looked at is switched on in every other slice of time, and each such slice is
compared with the two around it, so that a machine that drifts slows both.
"""

import threading
import time
import urllib.request
from collections.abc import Callable
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
        self.scrapes = 0

    def run(self) -> None:
        while not self.over:
            if self.on:
                with urllib.request.urlopen(self._url, timeout=10) as reply:
                    reply.read()
                self.scrapes += 1
            time.sleep(1.0)


def _shares(
    node: Node, directory: Path, count: int, switch: Callable[[bool], Any], seconds: float, slice_s: float
) -> list[float]:
    """What each slice with it on answered, as a share of the mean of the slices beside it."""
    begin = time.time() + 3.0
    found: dict[str, Any] = {}

    def drive() -> None:
        found.update(load(node, directory, CLIENTS, seconds, count, begin=begin, slice_s=slice_s))

    driver = threading.Thread(target=drive)
    driver.start()
    for at in range(int(seconds / slice_s)):
        time.sleep(max(0.0, begin + at * slice_s - time.time()))
        switch(at % 2 == 1)
    driver.join()
    switch(False)
    slices = found["slices"]
    return [2 * slices[k] / (slices[k - 1] + slices[k + 1]) for k in range(1, int(seconds / slice_s) - 1, 2)]


def _row(report: Report, what: str, shares: list[float], target: float) -> None:
    middle = float(np.median(shares))
    spread = float(np.subtract(*np.percentile(shares, [75, 25]))) / len(shares) ** 0.5
    report.rows.append(Row(f"requests a second, {what}, share of those without", middle, "without", 1.0, target))
    report.notes.append(f"{what}: {len(shares)} slices, median {middle:.4f}, about +-{spread:.4f}")


def run(quick: bool) -> Report:
    """Scraping every second, and timing every operation."""
    count, seconds = (2000, 12.0) if quick else (20_000, 50.0)
    report = Report("node_costs")
    with served(count, report, peers=False) as (directory, (node,)):
        scraper = _Scraper(node.metrics_port)
        scraper.start()

        def scrape(on: bool) -> None:
            scraper.on = on

        _row(report, "scraped every second", _shares(node, directory, count, scrape, seconds, 2.0), 0.99)
        scraper.over = True
        report.notes.append(f"{scraper.scrapes} scrapes")
        with Reach(socket=node.socket) as reach:

            def time_all(on: bool) -> None:
                reach.call("config.set", values={"monitoring.detailed_timing": on}).result()

            _row(report, "with detailed timing", _shares(node, directory, count, time_all, seconds, 1.0), 0.97)
    return report
