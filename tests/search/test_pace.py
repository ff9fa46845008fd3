"""The rate of ingest is that of all files, however many come in a second."""

import pytest

from vexfs.search import pace as module
from vexfs.search.pace import Pace


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.mark.parametrize("span_s", [0, 0.5, 10])
def test_every_file_counts(clock, span_s):
    pace = Pace()
    assert pace.rates() == (0.0, 0.0)
    for k in range(20_000):
        clock.now = 1000 + span_s * k / 20_000
        pace.note(3)
    clock.now = 1000 + span_s
    files = 20_000 / max(span_s, 0.5)
    assert pace.rates() == pytest.approx((files, 3 * files))


def test_it_falls_when_nothing_comes(clock):
    pace = Pace()
    pace.note(1)
    assert pace.rates()[0] == pytest.approx(2)
    clock.now += 1
    assert pace.rates()[0] == pytest.approx(1)
    clock.now += 30
    assert pace.rates() == (0, 0)
