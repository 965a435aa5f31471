"""A process comes behind the others, with all its threads and ranks, and does not stay there."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from thirdeye.server.launch.several.giving_way import (
    NICE,
    Priority,
    leave_behind,
    lower,
    may_take_back,
    restore,
    set_priority,
    threads_of,
)

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


WITH_CHILDREN = """
import subprocess, sys
own = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
for is_apart in (False, True):
    child = subprocess.Popen(own, stdout=-1, stdin=-1, start_new_session=is_apart)
    child.stdout.readline()
    print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not may_take_back(), reason="what is given away here does not come back")
def test_a_process_comes_behind_and_back_with_all_its_threads() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    low = min(own + NICE, 19)
    expected = {
        Priority.LOW: (low, os.SCHED_OTHER),
        Priority.IDLE: (low, os.SCHED_IDLE),
        Priority.NORMAL: (own, os.SCHED_OTHER),
    }
    with child() as process:
        for priority in [*Priority, *reversed(Priority), *Priority]:
            one_more_thread(process)
            set_priority(process.pid, priority)
            one_more_thread(process)
            niceness, policy = expected[priority]
            assert set(niceness_of(process.pid)) == {niceness}
            assert policies_of(process.pid) == {policy}
    assert os.getpriority(os.PRIO_PROCESS, 0) == own
    set_priority(process.pid, Priority.IDLE)  # it has ended


@pytest.mark.skipif(not may_take_back(), reason="what is given away here does not come back")
def test_ranks_come_along_and_grammars_do_not() -> None:
    """A rank that begins while its engine is behind is not left there."""
    command = [sys.executable, "-c", WITH_CHILDREN]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout is not None
        rank = int(process.stdout.readline())
        apart = int(process.stdout.readline())
        set_priority(process.pid, Priority.IDLE)
        assert policies_of(rank) == {os.SCHED_IDLE}
        assert policies_of(apart) == {os.SCHED_OTHER}
        set_priority(process.pid, Priority.NORMAL)
        assert policies_of(rank) == {os.SCHED_OTHER}
        assert set(niceness_of(rank)) == {own}
        process.communicate()


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
