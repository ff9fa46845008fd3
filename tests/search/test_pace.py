"""The rate of ingest is that of all files, however many come in a second."""

import time

from vexfs.search.pace import Pace


def test_every_file_counts():
    pace, began = Pace(), time.monotonic()
    assert pace.rates() == (0.0, 0.0)
    for _ in range(20_000):
        pace.note(3)
    files, passages = pace.rates()
    span = max(time.monotonic() - began, 0.5)
    assert files >= 20_000 / span and passages == 3 * files
    assert files <= 40_000


def test_it_falls_when_nothing_comes():
    pace = Pace()
    pace.note(1)
    first = pace.rates()[0]
    time.sleep(0.7)
    assert 0 < pace.rates()[0] < first
