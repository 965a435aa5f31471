"""A grammar that takes for ever takes its process along, and nobody else."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from unittest import mock

import pytest

from thirdeye.server.text.constraints import lark_rules
from thirdeye.server.text.constraints.constraint import (
    json_schema,
    lark,
    lenient_json_schema,
    regex,
)
from thirdeye.server.text.constraints.trials import trial
from thirdeye.server.text.constraints.trials.refusal import ConstraintError
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
        pid = processes._idle[-1].pid
        for wrong, why in WRONG.items():
            with pytest.raises(ConstraintError, match=why):
                lark(wrong)
    assert [process.pid for process in processes._idle] == [pid]
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


def ended(pid: int) -> None:
    """A process whose parent reaps it by itself."""
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists():
        pass


def test_a_process_that_somebody_ended_is_not_asked(processes: TrialProcesses) -> None:
    assert processes.ask(GRAMMAR, regex("a"), 10) is not None
    while processes._idle[-1].is_alive:
        with suppress(ProcessLookupError):
            ended(processes._idle[-1].pid)
    assert processes.ask(GRAMMAR, regex("a"), 10) is not None


def test_one_is_forked_and_not_started(processes: TrialProcesses) -> None:
    """The server starts a process once, however many grammars take theirs along."""
    assert processes.ask(GRAMMAR, regex("a"), 10) is not None
    assert processes._source is not None
    source = processes._source[0].pid
    with mock.patch.object(subprocess, "Popen", side_effect=AssertionError):
        with trying_with(Budget(processes, 0.2)), pytest.raises(TooCostly):
            lark(ENDLESS)
        while processes._idle:
            processes._idle.pop().sock.close()
        assert processes.ask(GRAMMAR, regex("a"), 10) is not None
    pid = processes._idle[-1].pid
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"PPid:\t{source}\n" in status
    assert len(os.listdir(f"/proc/{source}/task")) == 1, "it forks"


def test_a_source_that_somebody_ended_is_started_again(processes: TrialProcesses) -> None:
    assert processes.ask(GRAMMAR, regex("a"), 10) is not None
    assert processes._source is not None
    processes._source[0].kill()
    processes._source[0].wait()
    while processes._idle:
        processes._idle.pop().sock.close()
    assert processes.ask(GRAMMAR, regex("a"), 10) is not None


def test_nothing_is_left() -> None:
    own = TrialProcesses()
    assert own.ask(GRAMMAR, regex("a"), 10) is not None
    assert own._source is not None
    pids = [own._idle[-1].pid, own._source[0].pid]
    own.close()
    for pid in pids:
        while Path(f"/proc/{pid}").exists():
            pass


def test_callers_rules_are_read_there_and_come_after_answers(processes: TrialProcesses) -> None:
    """Reading a large grammar is tens of milliseconds of Python, in which no stream of this process
    would be served."""
    text = 'start: "a" | /[b-z]+/'
    with trying_with(Budget(processes, 10)), mock.patch.object(lark_rules, "lark_length") as here:
        assert lark(text)
    here.assert_not_called()
    pid = processes._idle[-1].pid
    assert os.getpriority(os.PRIO_PROCESS, pid) == NICE


def branches(count: int) -> dict[str, object]:
    """Of which none excludes another by its type alone: each is compared with each."""
    few = [{"enum": [1000 * i + j for j in range(count)]} for i in range(40)]
    return {"oneOf": few}


def test_a_schema_is_read_there(processes: TrialProcesses) -> None:
    """To the same grammar, the same places left out, the same refusal."""
    schemas = [
        {"type": "object", "properties": {"a": {"type": "integer"}}},
        {"type": "string", "not": {"const": "x"}, "pattern": "a*"},
        branches(2),
    ]
    wrong = {"properties": {"a": {"type": "word"}}}
    here = [(json_schema(schemas[0], is_closed=True), lenient_json_schema(s)) for s in schemas]
    refused: list[ConstraintError] = []
    with trying_with(Budget(processes, 10)), mock.patch.object(trial, "schema_grammar_here") as one:
        there = [(json_schema(schemas[0], is_closed=True), lenient_json_schema(s)) for s in schemas]
    assert there == here
    one.assert_not_called()
    for trier in (Budget(processes, 10), trial.TriedHere()):
        with trying_with(trier), pytest.raises(ConstraintError) as raised:
            json_schema(wrong)
        refused.append(raised.value)
    assert [(e.rule, e.path) for e in refused] == [(refused[0].rule, "$.properties.a.type")] * 2


def test_a_schema_that_takes_for_ever_is_ended(processes: TrialProcesses) -> None:
    """47 KB whose branches are compared pair by pair were minutes of this process."""
    began = time.thread_time()
    with trying_with(Budget(processes, 0.3)), pytest.raises(TooCostly):
        json_schema(branches(190))
    assert time.thread_time() - began < 0.3
