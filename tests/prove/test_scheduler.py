"""The scheduler's state machine, for as long as one likes to wait."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.engine.scheduling.scheduler_machine import SchedulerMachine


@pytest.mark.prove
@pytest.mark.timeout(7200)
def test_every_position_holds_its_own_kv() -> None:
    """20,000 runs of up to 100 rules."""
    long = settings(
        max_examples=20_000,
        stateful_step_count=100,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(SchedulerMachine, settings=long)
