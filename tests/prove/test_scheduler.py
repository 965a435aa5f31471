"""The state machines of the scheduler and of running ahead, for as long as one likes to wait."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.engine.run_ahead.test_run_ahead import AheadMachine
from tests.engine.run_ahead.test_verified_ahead import VerifiedMachine
from tests.engine.scheduling.scheduler_machine import SchedulerMachine
from tests.engine.scheduling.test_late_masks import LateMachine


@pytest.mark.prove
@pytest.mark.timeout(7200)
def test_every_position_holds_its_own_kv() -> None:
    """20,000 runs of up to 100 rules."""
    run_state_machine_as_test(SchedulerMachine, settings=long(20_000, 100))


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_two_thousand_runs() -> None:
    """Of 50 rules: what `make trust` has the time for."""
    run_state_machine_as_test(SchedulerMachine, settings=long(2000, 50))


@pytest.mark.prove
@pytest.mark.timeout(7200)
def test_masks_that_come_late() -> None:
    """5,000 runs of up to 60 rules."""
    run_state_machine_as_test(LateMachine, settings=long(5000, 60))


@pytest.mark.prove
@pytest.mark.timeout(7200)
def test_running_ahead_says_the_same() -> None:
    """1,000 runs of up to 30 rules."""
    run_state_machine_as_test(AheadMachine, settings=long(1000, 30))


@pytest.mark.prove
@pytest.mark.timeout(7200)
def test_guesses_verified_ahead_say_the_same() -> None:
    """1,000 runs of up to 30 rules."""
    run_state_machine_as_test(VerifiedMachine, settings=long(1000, 30))


def long(max_examples: int, num_steps: int) -> settings:
    return settings(
        max_examples=max_examples,
        stateful_step_count=num_steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
