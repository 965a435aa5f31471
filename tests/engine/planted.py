"""The test of a state machine: with a bug planted in what it drives, some run of it must fail."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

REPEATABLE = settings(
    deadline=None,
    derandomize=True,  # a push is judged by the same runs each time; `make prove` draws new ones
    database=None,
    suppress_health_check=list(HealthCheck),
)


def rarely_seen(plant: Callable[[pytest.MonkeyPatch], None]) -> Any:
    """A bug that only many runs hit upon: hunted by `make prove`, not at each push."""
    return pytest.param(plant, marks=[pytest.mark.prove, pytest.mark.timeout(900)])


def name_of(plant: Callable[[pytest.MonkeyPatch], None]) -> str:
    """A test's id."""
    return plant.__name__


def assert_finds_the_bug(
    machine: type[RuleBasedStateMachine], max_examples: int, num_steps: int
) -> None:
    hunt = settings(
        REPEATABLE,
        max_examples=max_examples,
        stateful_step_count=num_steps,
        phases=[Phase.generate],  # any failure will do, it need not be the shortest
        print_blob=False,
        report_multiple_bugs=False,  # one failure, and not a group of them
    )
    with pytest.raises((AssertionError, KeyError, IndexError, ValueError)):
        run_state_machine_as_test(machine, settings=hunt)
