"""A model that loads while others answer gives way to them: their tokens come first.

A load keeps a core busy for seconds, and a lower priority makes that the time that nobody else
wants. It is taken back once the model is there, so it is lowered only where that is allowed: to
root, and to whom the system lets go back to 0 (`LimitNICE=+0` in a unit, `--ulimit nice=20` of a
container). So is what `precedence.py` does to a crowded model.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

NICE = 10  # a tenth of what another gets who wants the same core
IDLE_SECONDS = 20.0
TASKS = Path("/proc/self/task")


class Timer(Protocol):
    def cancel(self) -> None: ...


CallLater = Callable[[float, Callable[[], None]], Timer]


@contextlib.contextmanager
def giving_way(pid: int, call_later: CallLater) -> Iterator[None]:
    """Meanwhile the process, with all threads that it starts, comes behind the others: for
    `IDLE_SECONDS` it takes what they leave, and then a tenth, so that it does end. Only where
    `may_take_back`."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    set_niceness(pid, min(own + NICE, 19))
    lower(pid)
    timer = call_later(IDLE_SECONDS, lambda: restore(pid))
    try:
        yield
    finally:
        timer.cancel()
        restore(pid)
        set_niceness(pid, own)


def leave_behind(pid: int) -> None:
    """The process is about to end: to give half a gigabyte back takes the kernel 60 ms of a core,
    which counts as its own time, and of these others who want it get nine tenths."""
    set_niceness(pid, min(os.getpriority(os.PRIO_PROCESS, 0) + NICE, 19))


def may_take_back() -> bool:
    """Tried by a thread, which has a priority of its own. Once for a server: on a busy machine to
    wait for a thread has taken half a second."""
    if not TASKS.exists():  # not Linux: there it is the process that has one
        return False
    found = []

    def try_it() -> None:
        with contextlib.suppress(OSError):
            thread = threading.get_native_id()
            own = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, own + 1)
            os.setpriority(os.PRIO_PROCESS, thread, own)
            for policy in (os.SCHED_IDLE, os.SCHED_OTHER):
                os.sched_setscheduler(thread, policy, os.sched_param(0))
            found.append(True)

    thread = threading.Thread(target=try_it)
    with contextlib.suppress(RuntimeError):  # no thread can be started: then not, for now
        thread.start()
        thread.join()
    return bool(found)


def set_niceness(pid: int, niceness: int) -> None:
    """Of each thread; one that another starts meanwhile is found in the next round."""
    is_new = True
    while is_new:
        is_new = False
        for thread in threads_of(pid):
            with contextlib.suppress(ProcessLookupError):
                if os.getpriority(os.PRIO_PROCESS, thread) != niceness:
                    os.setpriority(os.PRIO_PROCESS, thread, niceness)
                    is_new = True


def lower(pid: int) -> None:
    """The process, with all its threads, computes only while nobody else wants the core, a few
    thousandths of it apart. Whoever wants it takes it at once."""
    set_policy(pid, os.SCHED_IDLE)


def restore(pid: int) -> None:
    """It computes as everybody."""
    set_policy(pid, os.SCHED_OTHER)


def set_policy(pid: int, policy: int) -> None:
    """Of each thread, as above."""
    is_new = True
    while is_new:
        is_new = False
        for thread in threads_of(pid):
            with contextlib.suppress(ProcessLookupError):
                if os.sched_getscheduler(thread) != policy:
                    os.sched_setscheduler(thread, policy, os.sched_param(0))
                    is_new = True


def threads_of(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:  # it has ended
        return []
