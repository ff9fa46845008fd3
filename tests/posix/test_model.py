"""A volume against the model: a short form, and one of thousands of steps."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.posix.machine import AgainstModel


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        AgainstModel,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_a_volume_answers_as_the_model_does() -> None:
    run(25, 40)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_volume_answers_as_the_model_does_for_long() -> None:
    run(400, 100)
