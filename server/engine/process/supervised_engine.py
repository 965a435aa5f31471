"""An engine that comes back: when the one inside dies, another is started in its place.

To the layers above it is one `Engine` for the whole life of the server, with one `info` and
counters that only grow. What a death costs is its own streams, which end with ERROR, and the time
of loading again, in which requests are refused with `restart_eta`. An engine that dies again and
again is given up. Whoever owns it runs `supervise()`; it knows neither how an engine is started
(that is a function it is given) nor what is said to clients.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, Self

import msgspec

from thirdeye.server.engine.interface.adapters import AdapterReport, AdapterSource
from thirdeye.server.engine.interface.engine_stats import EngineStats
from thirdeye.server.engine.interface.step_record import StepRecord
from thirdeye.server.engine.interface.trace import Trace, TraceRequest
from thirdeye.server.engine.interface.types import (
    Engine,
    EngineDead,
    EngineInfo,
    OnOutput,
    Request,
    StepOutput,
)

logger = logging.getLogger(__name__)


class KillableEngine(Engine, Protocol):
    """An engine that tells of its end, and can be ended by force."""

    async def wait_dead(self) -> str:
        """Returns, with the reason, once the engine is gone and holds nothing any more."""

    def kill(self) -> None:
        """End it now, in the middle of a step if need be, as a crash would."""


Start = Callable[[], Awaitable[KillableEngine]]


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When to give up, and when to call an engine stuck.

    The window is of time in service: seconds spent loading do not count, so an engine that dies on
    its first request is given up however long it loads, and so is one that cannot be loaded again.
    """

    max_deaths: int = 5  # the last of these, within the window, is final
    window_seconds: float = 60.0
    step_timeout: float = 0.0  # kill an engine that owes a step for so many seconds; 0: never


class SupervisedEngine:
    """Use `await SupervisedEngine.start(...)`, then run `supervise()` beside the rest."""

    def __init__(
        self,
        engine: KillableEngine,
        start: Start,
        policy: RestartPolicy,
        load_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._start = start
        self._policy = policy
        self._clock = clock
        self._load_seconds = load_seconds  # of the latest load: what the next one should take
        self._before = EngineStats()  # counters of the engines that are gone
        self._in_service_since = clock()
        self._loading_since: float | None = None
        self._seconds_in_service = 0.0  # of the engines that are gone
        self._deaths: deque[float] = deque(maxlen=policy.max_deaths)  # in seconds of service
        self._adapters: dict[int, AdapterSource] = {}  # that the next engine has to have, too
        self._is_closed = False
        self._is_supervised = False

    @classmethod
    async def start(cls, start: Start, policy: RestartPolicy | None = None) -> Self:
        """A supervised engine that is loaded. EngineDead if the first one cannot be."""
        started = time.monotonic()
        engine = await start()
        return cls(engine, start, policy or RestartPolicy(), time.monotonic() - started)

    # --- the engine of the moment ---

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    @property
    def is_alive(self) -> bool:
        return self._engine.is_alive

    @property
    def restart_eta(self) -> float | None:
        """See `Engine.restart_eta`. Guessed from how long loading took the last time."""
        if self.is_alive or self._is_closed or not self._is_supervised:
            return None
        spent = 0.0 if self._loading_since is None else self._clock() - self._loading_since
        return max(self._load_seconds - spent, 0.0)

    def generate(
        self, request: Request, on_output: OnOutput | None = None
    ) -> AsyncIterator[StepOutput]:
        return self._engine.generate(request, on_output)

    def abort(self, request_id: str) -> None:
        self._engine.abort(request_id)

    def watch(self, since: int = 0) -> AsyncIterator[StepRecord]:
        """Of the present engine: the next one counts its steps anew."""
        return self._engine.watch(since)

    def inspect(self, request: TraceRequest) -> AsyncIterator[Trace]:
        return self._engine.inspect(request)

    def reset_prefix_cache(self) -> None:
        self._engine.reset_prefix_cache()

    async def load_adapter(self, source: AdapterSource) -> AdapterReport:
        report = await self._engine.load_adapter(source)
        if not report.error:
            self._adapters[source.number] = source
        return report

    def unload_adapter(self, number: int) -> None:
        self._adapters.pop(number, None)
        self._engine.unload_adapter(number)

    def stats(self) -> EngineStats:
        return add_counters(self._engine.stats(), self._before)

    def stalled_seconds(self) -> float:
        return self._engine.stalled_seconds()

    async def close(self) -> None:
        self._is_closed = True
        await self._engine.close()

    # --- its successors ---

    async def supervise(self) -> None:
        """Start a new engine whenever the present one dies; returns after `close`.

        Raises EngineDead when that is no longer any use. Cancel it to have no more restarts: an
        engine that is being loaded at that moment leaves no process behind.
        """
        self._is_supervised = True
        try:
            while True:
                why = await self._wait_dead()
                if self._is_closed:
                    return
                await self._replace(why)
        finally:
            self._is_supervised = False

    async def _wait_dead(self) -> str:
        """The end of the present engine; a hanging one is helped to it."""
        dying = asyncio.ensure_future(self._engine.wait_dead())
        limit = self._policy.step_timeout
        try:
            while not dying.done():
                await asyncio.wait([dying], timeout=limit / 4 or None)
                if limit and self._engine.stalled_seconds() > limit:
                    logger.error("no step for %.0f s with work to do: killing the engine", limit)
                    self._engine.kill()
                    await dying
        finally:
            dying.cancel()
        return dying.result()

    async def _replace(self, why: str) -> None:
        """Load until it succeeds. Raises EngineDead if there is no use in going on."""
        now = self._loading_since = self._clock()
        self._seconds_in_service += now - self._in_service_since
        engine: KillableEngine | None = None
        while engine is None:
            self._count_death(why)
            logger.warning("%s Starting another.", why)
            self._loading_since = self._clock()
            try:
                engine = await self._start()
            except EngineDead as error:
                why = str(error)
        try:
            await self._install(engine)
        except BaseException:  # also a cancellation, of its close too: never leave one behind
            engine.kill()
            await engine.wait_dead()
            raise
        logger.warning("the engine is back after %.1f s", self._load_seconds)

    def _count_death(self, why: str) -> None:
        policy, now = self._policy, self._seconds_in_service
        self._deaths.append(now)
        is_full = len(self._deaths) == policy.max_deaths
        if is_full and now - self._deaths[0] < policy.window_seconds:
            raise EngineDead(
                f"The engine died {policy.max_deaths} times within "
                f"{policy.window_seconds:.0f} s of service. The last time: {why}"
                if policy.max_deaths > 1
                else why
            )

    async def _install(self, engine: KillableEngine) -> None:
        """Let the new engine take over, unless it is another one than was promised."""
        try:
            with contextlib.suppress(EngineDead):  # then it is replaced in its turn
                await self._load_adapters(engine)
        except BaseException:  # a cancellation, say: nobody has it yet
            await engine.close()
            raise
        is_same = _without_memory(engine.info) == _without_memory(self._engine.info)
        if self._is_closed or not is_same:
            await engine.close()
        if not is_same:
            raise EngineDead(
                f"The engine came back as another: {engine.info}, was {self._engine.info}."
            )
        now = self._clock()
        assert self._loading_since is not None
        self._before = self.stats()
        self._load_seconds = now - self._loading_since
        self._in_service_since, self._loading_since = now, None
        self._engine = engine

    async def _load_adapters(self, engine: KillableEngine) -> None:
        """Those of the one before. A request for one that cannot be loaded again is told so."""
        for source in list(self._adapters.values()):
            report = await engine.load_adapter(source)
            if report.error:
                logger.error("the adapter %s is not loaded again: %s", source.path, report.error)
            elif source.number not in self._adapters:  # it was unloaded meanwhile
                engine.unload_adapter(source.number)


def _without_memory(info: EngineInfo) -> EngineInfo:
    """All that answers and limits depend on: how much memory was free this time is not in it."""
    return msgspec.structs.replace(info, num_blocks=0)


def add_counters(stats: EngineStats, before: EngineStats) -> EngineStats:
    """`stats`, its counters (`*_total`, without the gauges `num_*`) raised by those of `before`."""
    names = [n for n in stats.__struct_fields__ if n.endswith("_total") and n[:4] != "num_"]
    sums = {name: getattr(stats, name) + getattr(before, name) for name in names}
    return msgspec.structs.replace(stats, **sums)
