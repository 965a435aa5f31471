"""A grammar that takes for ever takes its process along, and nobody else."""

import os
import time
from collections.abc import Iterator
from unittest import mock

import pytest

from thirdeye.server.text.constraints import lark_rules
from thirdeye.server.text.constraints.constraint import ConstraintError, lark, regex
from thirdeye.server.text.constraints.trials.trial import trying_with
from thirdeye.server.text.constraints.trials.trial_processes import (
    GRAMMAR,
    NICE,
    Budget,
    TooCostly,
    TrialProcesses,
)

# A few dozen bytes: is there a text of letters that is no text of letters?
ENDLESS = r"Z: /(([\p{L}--[a-z]]){1,20}){0,500}/ & ~/((\p{L}|[a-z]))+/" + "\nstart: Z"

WRONG = {
    "start: nowhere": "cannot be compiled",
    'start: "a"{5000}': "at most 4,096 characters",
    "root ::= (((": "no grammar in GBNF",
}


@pytest.fixture(scope="module")
def processes() -> Iterator[TrialProcesses]:
    found = TrialProcesses()
    yield found
    found.close()


def test_one_process_tries_many(processes: TrialProcesses) -> None:
    """And says the same as this thread."""
    texts = ('start: "a"', "start: X\nX: /[a-z]+/ & ~/x+/", 'root ::= "a" [0-9]+')
    here = [lark(text) for text in texts]
    budget = Budget(processes, 10)
    with trying_with(budget):
        assert [lark(text) for text in texts] == here
        pid = processes._idle[-1].process.pid
        for wrong, why in WRONG.items():
            with pytest.raises(ConstraintError, match=why):
                lark(wrong)
    assert [process.process.pid for process in processes._idle] == [pid]
    assert 0 < budget.spent < 10


def test_what_never_ends_is_ended(processes: TrialProcesses) -> None:
    """Within its seconds of a processor; and the next grammar is tried as ever."""
    budget = Budget(processes, 0.5)
    began = time.thread_time()
    with trying_with(budget), pytest.raises(TooCostly, match="more than 500 ms"):
        lark(ENDLESS)
    assert time.thread_time() - began < 0.5, "it was not tried here"
    with trying_with(budget), pytest.raises(TooCostly):
        regex("a")  # the budget is spent
    with trying_with(Budget(processes, 10)):
        regex("a")


def test_a_process_that_somebody_ended_is_not_asked(processes: TrialProcesses) -> None:
    assert processes.ask(GRAMMAR, regex("a"), 10) is not None
    idle = processes._idle[-1].process
    idle.kill()
    idle.wait()
    assert processes.ask(GRAMMAR, regex("a"), 10) is not None


def test_callers_rules_are_read_there_and_come_after_answers(processes: TrialProcesses) -> None:
    """Reading a large grammar is tens of milliseconds of Python, in which no stream of this process
    would be served."""
    text = 'start: "a" | /[b-z]+/'
    with trying_with(Budget(processes, 10)), mock.patch.object(lark_rules, "lark_length") as here:
        assert lark(text)
    here.assert_not_called()
    pid = processes._idle[-1].process.pid
    assert os.getpriority(os.PRIO_PROCESS, pid) == NICE
