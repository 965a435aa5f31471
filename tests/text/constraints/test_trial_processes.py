"""A grammar that takes for ever takes its process along, and nobody else."""

import time
from collections.abc import Iterator

import pytest

from thirdeye.server.text.constraints.constraint import ConstraintError, lark, regex
from thirdeye.server.text.constraints.trials.trial import trying_with
from thirdeye.server.text.constraints.trials.trial_processes import (
    Budget,
    TooCostly,
    TrialProcesses,
)

# A few dozen bytes: is there a text of letters that is no text of letters?
ENDLESS = r"Z: /(([\p{L}--[a-z]]){1,20}){0,500}/ & ~/((\p{L}|[a-z]))+/" + "\nstart: Z"


@pytest.fixture(scope="module")
def processes() -> Iterator[TrialProcesses]:
    found = TrialProcesses()
    yield found
    found.close()


def test_one_process_tries_many(processes: TrialProcesses) -> None:
    """And says the same as this thread."""
    texts = ('start: "a"', "start: X\nX: /[a-z]+/ & ~/x+/")
    here = [lark(text) for text in texts]
    budget = Budget(processes, 10)
    with trying_with(budget.try_grammar):
        assert [lark(text) for text in texts] == here
        pid = processes._idle[-1].process.pid
        with pytest.raises(ConstraintError, match="cannot be compiled"):
            lark("start: nowhere")
    assert [process.process.pid for process in processes._idle] == [pid]
    assert 0 < budget.spent < 10


def test_what_never_ends_is_ended(processes: TrialProcesses) -> None:
    """Within its seconds of a processor; and the next grammar is tried as ever."""
    budget = Budget(processes, 0.5)
    began = time.thread_time()
    with trying_with(budget.try_grammar), pytest.raises(TooCostly, match="more than 500 ms"):
        lark(ENDLESS)
    assert time.thread_time() - began < 0.5, "it was not tried here"
    with trying_with(budget.try_grammar), pytest.raises(TooCostly):
        regex("a")  # the budget is spent
    with trying_with(Budget(processes, 10).try_grammar):
        regex("a")


def test_a_process_that_somebody_ended_is_not_asked(processes: TrialProcesses) -> None:
    assert processes.ask(regex("a"), 10) is not None
    idle = processes._idle[-1].process
    idle.kill()
    idle.wait()
    assert processes.ask(regex("a"), 10) is not None
