"""One bad day from its first visitor to the last process gone, in virtual time, and what must hold.

Real: the application, admission, the supervisor, the client of the engine's process, its frames,
the scheduler, the block pool. Simulated: the process, the pipe, the device, the compiler, time.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

from fastapi import FastAPI

from tests.api.support import served_model
from tests.oracles import virtual_time
from tests.trust.faults.broken_engine import CONFIG
from tests.trust.faults.schedules import BadDay
from tests.trust.faults.simulated_process import Machine
from tests.trust.faults.visits import Visit
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.state import grammar_cache
from thirdeye.server.api.state.server_state import ServedModel, ServerState
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.engine.process import engine_client
from thirdeye.server.engine.process.supervised_engine import RestartPolicy, SupervisedEngine
from thirdeye.server.fair_executor import FairExecutor
from thirdeye.server.launch.asgi_app import create_app
from thirdeye.server.text.constraints.trials.trial_main import tried
from thirdeye.server.text.constraints.trials.trial_processes import TrialProcesses, Tried
from thirdeye.server.transport.server import LAST_WORDS_SECONDS
from thirdeye.server.transport.shutdown import end_answers, until_idle

PATIENCE = 900.0  # seconds until everybody has an end; limits of the queue and of requests are less
TOLD = ("a step of", "no step for", "its grammar could not be compiled", "died", "the engine")


class Inline(ThreadPoolExecutor):
    """Threads would be waited for in real time, while the clock jumps on."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class InThisProcess(TrialProcesses):
    """A process of its own is given real seconds, and may be ended by anybody."""

    def ask(self, kind: bytes, text: str, seconds: float) -> Tried:
        return Tried(*tried(kind, text), seconds=0.0)


@cache
def served() -> tuple[FastAPI, ServerState, ServedModel]:
    """One application and model for all trials: making them takes longer than a day."""
    state, inline = ServerState(), partial(FairExecutor, threads=Inline())
    with (
        mock.patch.object(grammar_cache, "FairExecutor", inline),
        mock.patch.object(grammar_cache, "shared_processes", InThisProcess),
    ):
        app = create_app(state, ApiConfig())
    return app, state, served_model(max_model_len=CONFIG.max_model_len)


class Listener(logging.Handler):
    """What the log says that nobody provoked."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.bugs: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not any(words in record.getMessage() for words in TOLD):
            self.bugs.append(record.getMessage())


@contextlib.contextmanager
def listening() -> Iterator[Listener]:
    listener, root = Listener(), logging.getLogger("thirdeye")
    was, root.propagate = root.propagate, False
    root.addHandler(listener)
    try:
        yield listener
    finally:
        root.removeHandler(listener)
        root.propagate = was


def live_through(day: BadDay) -> Counter[str]:
    """How the visits ended. Raises where something was lost, left, wrong or never over."""
    with listening() as listener:
        ends = virtual_time.run(_day(day))
    assert not listener.bugs, listener.bugs
    return ends


async def _day(day: BadDay) -> Counter[str]:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(Inline())
    app, state, model = served()
    state.__init__(loop.time)  # type: ignore[misc]  # a new one for the old application
    clock = SimpleNamespace(monotonic=loop.time, thread_time=loop.time)
    with (
        mock.patch.object(engine_client, "time", clock),
        mock.patch.object(grammar_cache, "time", clock),
    ):
        machine = Machine(day.lives)
        visits = [Visit(visitor) for visitor in day.visitors]
        tasks = [asyncio.create_task(visit.run(app)) for visit in visits]
        serving = asyncio.create_task(_serve(state, model, machine))
        if day.drain_at is not None:
            await asyncio.sleep(day.drain_at)
            await _drain(state, serving, day.drain_seconds)
            early = [v for v in visits if v.visitor.at <= day.drain_at]
            assert all(v.is_over or v.has_left or v.visitor.seconds_a_read for v in early)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)
        ends = Counter(visit.check() for visit in visits)
        await _check_rest(state, serving, machine)
    left = [
        task for task in asyncio.all_tasks() - {asyncio.current_task()} if not _is_watcher(task)
    ]
    assert not left, left
    return ends


def _is_watcher(task: "asyncio.Task[Any]") -> bool:
    """sse-starlette's own, one for each event loop."""
    return "_shutdown_watcher" in repr(task.get_coro())


async def _serve(state: ServerState, model: ServedModel, machine: Machine) -> None:
    """As `launch/server_run.py` does, with the clock that jumps."""
    loop = asyncio.get_running_loop()
    policy = RestartPolicy(step_timeout=20.0)
    began = loop.time()
    try:
        first = await machine.start()
        engine = SupervisedEngine(first, machine.start, policy, loop.time() - began, loop.time)
        state.ready(engine, model)
        await engine.supervise()
    except EngineDead as error:
        state.fail(str(error))


async def _drain(state: ServerState, serving: "asyncio.Task[None]", seconds: float) -> None:
    """As `transport/server.py` does: whoever is in flight hears in time how it ends."""
    serving.cancel()
    await asyncio.sleep(0)
    state.drain()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(until_idle(state), seconds)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(end_answers(state), LAST_WORDS_SECONDS)


async def _check_rest(state: ServerState, serving: "asyncio.Task[None]", machine: Machine) -> None:
    """Nothing runs, nothing is held; and when all is closed, no process is left."""
    async with asyncio.timeout(60):
        await until_idle(state)
    if state.engine is not None:
        await state.engine.close()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert state.admission.in_flight == 0
    if state.engine is not None:
        assert state.engine.stats().num_requests_running == 0
        assert state.engine.stats().num_blocks_used == 0
    for process in machine.processes:
        assert process.bugs == [], process.bugs
        assert process.is_reaped, "a process is left"
        assert process.is_closed, "a socket is left"
    await asyncio.sleep(1)  # what was cancelled has its end
