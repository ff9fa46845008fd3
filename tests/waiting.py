"""Waiting for what another thread or process brings about, however busy the machine is."""

import time
from collections.abc import Callable
from typing import Any


def until(holds: Callable[[], Any], limit_s: float = 120.0) -> Any:
    """What `holds` returns once that is true; a failure when it never is."""
    deadline = time.monotonic() + limit_s
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come about within {limit_s:.0f} s")
        time.sleep(0.01)
    return found
