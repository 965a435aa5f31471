"""A process that loads comes behind the others, with all its threads, and does not stay there."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from thirdeye.server.api.state.server_state import Phase, ServerState
from thirdeye.server.launch.several.giving_way import (
    IDLE_SECONDS,
    NICE,
    giving_way,
    leave_behind,
    lower,
    may_take_back,
    restore,
    threads_of,
)
from thirdeye.server.launch.several.open_models import any_other_answers

CHILD = """
import sys, threading
started = threading.Event()
def work():
    started.set()
    threading.Event().wait()
for line in sys.stdin:
    started.clear()
    threading.Thread(target=work, daemon=True).start()
    started.wait()
    print(flush=True)
"""


@contextmanager
def child() -> Iterator["subprocess.Popen[str]"]:
    """Each line that it is sent makes it start a thread."""
    command = [sys.executable, "-c", CHILD]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def one_more_thread(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdout.readline()


def niceness_of(pid: int) -> list[int]:
    return [os.getpriority(os.PRIO_PROCESS, thread) for thread in threads_of(pid)]


def policies_of(pid: int) -> set[int]:
    return {os.sched_getscheduler(thread) for thread in threads_of(pid)}


class Bells:
    """A loop's timers, which ring when the test says so."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.is_cancelled = False

    def call_later(self, seconds: float, ring: Callable[[], None]) -> "Bells":
        self.seconds.append(seconds)
        self.ring = ring
        return self

    def cancel(self) -> None:
        self.is_cancelled = True


@pytest.mark.skipif(
    not may_take_back(),
    reason="a priority that is given away here does not come back",
)
def test_a_load_gives_way_and_then_no_more() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    bells = Bells()
    with child() as process:
        one_more_thread(process)
        with giving_way(process.pid, bells.call_later):
            one_more_thread(process)
            assert niceness_of(process.pid) == [min(own + NICE, 19)] * 3
            assert policies_of(process.pid) == {os.SCHED_IDLE}
            assert bells.seconds == [IDLE_SECONDS]
            bells.ring()
            assert niceness_of(process.pid) == [min(own + NICE, 19)] * 3
            assert policies_of(process.pid) == {os.SCHED_OTHER}
        assert bells.is_cancelled
        with giving_way(process.pid, bells.call_later):
            pass
        assert niceness_of(process.pid) == [own] * 3
        assert policies_of(process.pid) == {os.SCHED_OTHER}
    assert os.getpriority(os.PRIO_PROCESS, 0) == own
    with giving_way(process.pid, bells.call_later):  # it has ended
        pass


@pytest.mark.skipif(not may_take_back(), reason="what is given away here does not come back")
def test_a_process_is_set_idle_and_back_with_all_its_threads() -> None:
    with child() as process:
        for is_idle in (True, False):
            one_more_thread(process)
            (lower if is_idle else restore)(process.pid)
            one_more_thread(process)
            assert policies_of(process.pid) == {os.SCHED_IDLE if is_idle else os.SCHED_OTHER}
    lower(process.pid)  # it has ended


def test_who_is_about_to_end_comes_behind() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with child() as process:
        one_more_thread(process)
        leave_behind(process.pid)
        assert niceness_of(process.pid) == [min(own + NICE, 19)] * 2
    leave_behind(process.pid)  # it has ended


def test_who_loads_first_has_nobody_to_give_way_to() -> None:
    states = [ServerState() for _ in range(3)]
    assert not any_other_answers(states[0], states)
    states[0].phase = Phase.READY
    assert not any_other_answers(states[0], states)
    assert any_other_answers(states[1], states)
