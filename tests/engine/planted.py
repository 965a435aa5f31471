"""The test of a state machine: with a bug planted in what it drives, some run of it must fail."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.internal.conjecture.providers import HypothesisProvider
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.draws import is_night

REPEATABLE = settings(
    deadline=None,
    derandomize=True,  # a push is judged by the same runs each time; `make prove` draws new ones
    database=None,
    suppress_health_check=list(HealthCheck),
)
A_FEW = 25  # runs of a seed that is known to find something


def rarely_seen(plant: Callable[[pytest.MonkeyPatch], None]) -> Any:
    """A bug that only many runs hit upon: hunted by `make prove`, not at each push."""
    return pytest.param(plant, marks=[pytest.mark.prove, pytest.mark.timeout(900)])


def name_of(plant: Callable[[pytest.MonkeyPatch], None]) -> str:
    """A test's id."""
    return plant.__name__


def assert_finds_the_bug(
    machine: type[RuleBasedStateMachine],
    max_examples: int,
    num_steps: int,
    found_by: int | None = None,
) -> None:
    """`found_by` is a seed of which a few runs are known to hit upon it: a push begins there."""
    hunt = settings(
        REPEATABLE,
        max_examples=max_examples,
        stateful_step_count=num_steps,
        phases=[Phase.generate],  # any failure will do, it need not be the shortest
        print_blob=False,
        report_multiple_bugs=False,  # one failure, and not a group of them
    )
    if found_by is not None and not is_night():
        seeded = seed(found_by)(type(machine.__name__, (machine,), {}))
        # Constants of the modules that happen to be imported would make other runs of it.
        with patch.object(HypothesisProvider, "_maybe_draw_constant", no_constant, create=True):
            if fails(seeded, settings(hunt, max_examples=A_FEW)):
                return
    assert fails(machine, hunt), "none of its runs shows the bug"


def no_constant(*_: Any, **__: Any) -> None:
    """Values are drawn by chance alone."""


def fails(machine: type[RuleBasedStateMachine], hunt: settings) -> bool:
    try:
        run_state_machine_as_test(machine, settings=hunt)
    except (AssertionError, KeyError, IndexError, ValueError):
        return True
    return False
