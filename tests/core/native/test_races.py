"""The lock-free parts under load, plain and under ThreadSanitizer and AddressSanitizer with UBSan."""

import re

import pytest

SANITIZERS = ("plain", "thread", "address")


@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("program", ["pool_race", "bridge_race", "frame_race"])
def test_nothing_races(build, run, program, sanitizer):
    run(build(program, sanitizer))


def test_the_sanitizer_would_see_a_race(build, run, tmp_path):
    """A planted race is reported, so silence above means something."""
    with pytest.raises(AssertionError, match=re.compile("data race", re.DOTALL)):
        run(build("planted_race", "thread"))


@pytest.mark.parametrize("fault", ["overflow", "use_after_release"])
def test_address_sanitizer_watches_pool_buffers(build, run, fault):
    """A build with ASan knows the pool's own buffers: it stops at a touch beyond one, or of a released one."""
    with pytest.raises(AssertionError, match="use-after-poison"):
        run(build("pool_fault_plain", "address"), fault)
