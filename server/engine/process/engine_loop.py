"""The engine's loop: commands in, steps out. The same for a thread and for a process of its own.

While there is work, commands are taken between steps without waiting; without work, the loop sleeps
on its inbox, and on what answers wait for that sit out, and an idle engine costs nothing: but for
what it prepares once, where no sequence is there that could be held up.
"""

import time
from collections.abc import Callable, Iterable
from itertools import count
from typing import assert_never

from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.process.inbox import Inbox, Wake
from thirdeye.server.engine.process.messages import (
    Abort,
    Add,
    Command,
    Inspect,
    LoadAdapter,
    ResetPrefixCache,
    Step,
    Stop,
    Uninspect,
    UnloadAdapter,
    Unwatch,
    Watch,
)

QUIET_SECONDS = 0.5  # without a word, before something is prepared


def run_loop(
    core: EngineCore,
    inbox: Inbox,
    emit: Callable[[Step], None],
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Work until `Stop`; then whatever runs ends with ABORT. What it raises ends the engine."""
    core.call_when_ready(lambda: inbox.put(Wake()))
    idle, emitting = Stopwatch(clock), Stopwatch(clock)
    for sequence in count():
        with idle:
            if not core.has_work:
                wait_for_work(core, inbox)
        is_stopped = execute(core, inbox.take())
        outputs = core.step()
        stats = core.stats(idle_seconds_total=idle.seconds, emit_seconds_total=emitting.seconds)
        with emitting:
            told = (core.records(), core.traces(), core.adapter_reports())
            emit(Step(sequence, outputs, stats, *told))
        if is_stopped:
            return


def wait_for_work(core: EngineCore, inbox: Inbox) -> None:
    """Whoever comes meanwhile waits for one thing that is prepared, at most."""
    while core.is_idle and not core.preparation.is_over:
        if inbox.wait(seconds=QUIET_SECONDS):
            return
        core.preparation.make_next()
    inbox.wait(core.awaited())


class Stopwatch:
    """The seconds spent in its context, all times together."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._started = self._clock()

    def __exit__(self, *_: object) -> None:
        self.seconds += self._clock() - self._started


def execute(core: EngineCore, commands: Iterable[Command | Wake]) -> bool:
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
                core.end_inspection(request_id)
            case Watch() | Unwatch():
                core.is_watched = isinstance(command, Watch)
            case ResetPrefixCache():
                core.reset_prefix_cache()
            case LoadAdapter(source):
                core.load_adapter(source)
            case UnloadAdapter(number):
                core.unload_adapter(number)
            case Stop():
                core.abort_all()
                return True
            case Wake():
                pass
            case _:
                assert_never(command)
    return False
