"""A process that is killed at work leaves what was acknowledged, and a state that was."""

import pytest

from vexfs.testing.crash import killed


@pytest.mark.parametrize("threads", [1, 4])
def test_killed_under_load(threads):
    assert killed(threads, 2, threads, stop=800) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(50, 62))
def test_killed_again_and_again(seed):
    assert killed(seed, 6, 1 + seed % 4, encrypted=seed % 2 == 1, stop=2500) == []
