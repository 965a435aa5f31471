"""How a process comes behind the others, and back, with all its threads and ranks.

Lowered is only who can be raised again, so only where that is allowed: to root, and to whom the
system lets go back to 0 (`LimitNICE=+0` in a unit, `--ulimit nice=20` of a container). Who comes
behind, and when, is for `precedence.py` (crowded models) and `load_priorities.py` (loads) to say.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from enum import Enum
from pathlib import Path

NICE = 10  # a tenth of what another gets who wants the same core
TASKS = Path("/proc/self/task")


class Priority(Enum):
    """What a process gets of a core that another wants."""

    NORMAL = "as much"
    LOW = "a tenth"
    IDLE = "a few thousandths"


def set_priority(pid: int, priority: Priority) -> None:
    """Who starts a thread or a rank hands its own on."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    if priority is not Priority.IDLE:
        restore(pid)
    set_niceness(pid, own if priority is Priority.NORMAL else min(own + NICE, 19))
    if priority is Priority.IDLE:
        lower(pid)


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
    for_each_thread(
        pid,
        lambda thread: os.getpriority(os.PRIO_PROCESS, thread) == niceness,
        lambda thread: os.setpriority(os.PRIO_PROCESS, thread, niceness),
    )


def lower(pid: int) -> None:
    """The process, with all its threads, computes only while nobody else wants the core, a few
    thousandths of it apart. Whoever wants it takes it at once."""
    set_policy(pid, os.SCHED_IDLE)


def restore(pid: int) -> None:
    """It computes as everybody, but for its niceness."""
    set_policy(pid, os.SCHED_OTHER)


def set_policy(pid: int, policy: int) -> None:
    for_each_thread(
        pid,
        lambda thread: os.sched_getscheduler(thread) == policy,
        lambda thread: os.sched_setscheduler(thread, policy, os.sched_param(0)),
    )


def for_each_thread(pid: int, is_done: Callable[[int], bool], do: Callable[[int], object]) -> None:
    """Of its ranks, too. One that another starts meanwhile is found in the next round."""
    is_new = True
    while is_new:
        is_new = False
        for process in with_ranks(pid):
            for thread in threads_of(process):
                with contextlib.suppress(ProcessLookupError):
                    if not is_done(thread):
                        do(thread)
                        is_new = True


def with_ranks(pid: int) -> list[int]:
    """The process and those that it has started in its own session, as it does with ranks. Those
    of callers' grammars have one of their own, and a priority, too."""
    found = [pid]
    for process in found:  # which grows
        for thread in threads_of(process):
            with contextlib.suppress(OSError):  # it has ended, or the kernel does not tell
                words = Path(f"/proc/{process}/task/{thread}/children").read_text().split()
                session = os.getsid(pid)
                found += [one for one in map(int, words) if os.getsid(one) == session]
    return found


def threads_of(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:  # it has ended
        return []
