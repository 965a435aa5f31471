"""The engine's loop: commands in, steps out. The same for a thread and for a process of its own.

While there is work, commands are taken between steps without waiting; without work, the loop sleeps
on its inbox, and an idle engine costs nothing.
"""

from collections.abc import Callable, Iterator
from itertools import count
from queue import Empty, SimpleQueue
from typing import assert_never

from server.engine.core import EngineCore
from server.engine.messages import (
    Abort,
    Add,
    Command,
    Inspect,
    Step,
    Stop,
    Uninspect,
    Unwatch,
    Watch,
)


class Wake:
    """Look again: something else than a command has made work."""


Inbox = SimpleQueue[Command | Wake]


def run_loop(core: EngineCore, inbox: Inbox, emit: Callable[[Step], None]) -> None:
    """Work until `Stop`; then whatever runs ends with ABORT. What it raises ends the engine."""
    core.call_when_ready(lambda: inbox.put(Wake()))
    for sequence in count():
        is_stopped = _obey(core, _take(inbox, wait=not core.has_work))
        emit(Step(sequence, core.step(), core.stats(), core.records(), core.traces()))
        if is_stopped:
            return


def _take(inbox: Inbox, wait: bool) -> Iterator[Command | Wake]:
    """All that is there; if `wait`, at least one."""
    if wait:
        yield inbox.get()
    while True:
        try:
            yield inbox.get_nowait()
        except Empty:
            return


def _obey(core: EngineCore, commands: Iterator[Command | Wake]) -> bool:
    """Carry out commands; True once one of them was `Stop`."""
    for command in commands:
        match command:
            case Add(request):
                core.add(request)
            case Abort(request_id):
                core.abort(request_id)
            case Inspect(request):
                core.inspect(request)
            case Uninspect(request_id):
                core.leave(request_id)
            case Watch() | Unwatch():
                core.is_watched = isinstance(command, Watch)
            case Stop():
                core.abort_all()
                return True
            case Wake():
                pass
            case _:
                assert_never(command)
    return False
