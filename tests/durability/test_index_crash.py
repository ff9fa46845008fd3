"""An index after power cuts and kills: files, vectors and attributes of one moment, found by searching."""

import pytest

from vexfs.testing.indexcrash import Plan, killed, power_cuts


def findings(tmp_path, seed, steps, points, key_file=None):
    plan = Plan(str(tmp_path / "v"), seed, steps, key_file=key_file)
    return [fault for faults in power_cuts(plan, points, tmp_path) for fault in faults]


@pytest.mark.parametrize("seed", [1])
def test_after_power_cuts(tmp_path, seed):
    assert findings(tmp_path, seed, 50, 25) == []


def test_after_power_cuts_when_encrypted(tmp_path):
    assert findings(tmp_path, 3, 30, 8, str(tmp_path / "key")) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(10, 30))
def test_after_many_power_cuts(tmp_path, seed):
    assert findings(tmp_path, seed, 200, 60) == []


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_work(tmp_path, seed):
    assert killed(Plan(str(tmp_path / "v"), 100 + seed, 4000), tmp_path) == []
