"""What holds for every test."""

import logging
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is.
settings.register_profile("vexfs", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vexfs")

# A suite that was started in the background inherits an ignored SIGINT, and would hand it on to the commands that tests
# interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Nodes and services of tests are on this machine, whatever proxy leads out of it.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A program that runs in the test's own process leaves no handler behind, which would write to what is closed."""
    root = logging.getLogger("vexfs")
    handlers, propagate, level = root.handlers[:], root.propagate, root.level
    yield
    root.handlers[:], root.propagate, root.level = handlers, propagate, level
