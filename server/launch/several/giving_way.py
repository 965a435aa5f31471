"""A model that loads while others answer gives way to them: their tokens come first.

A load keeps a core busy for seconds, and a lower priority makes that the time that nobody else
wants. It is taken back once the model is there, so it is lowered only where that is allowed: to
root, and to whom the system lets go back to 0 (`LimitNICE=+0` in a unit, `--ulimit nice=20` of a
container).
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

NICE = 10  # a tenth of what another gets who wants the same core
TASKS = Path("/proc/self/task")


@contextlib.contextmanager
def giving_way(pid: int) -> Iterator[None]:
    """Meanwhile the process, with all threads that it starts, comes behind the others."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    if not may_take_back(own):
        yield
        return
    set_niceness(pid, min(own + NICE, 19))
    try:
        yield
    finally:
        set_niceness(pid, own)


def may_take_back(own: int) -> bool:
    """Tried by a thread, which has a priority of its own."""
    if not TASKS.exists():  # not Linux: there it is the process that has one
        return False
    found = []

    def try_it() -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), own + 1)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), own)
            found.append(True)

    thread = threading.Thread(target=try_it)
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


def threads_of(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:  # it has ended
        return []
