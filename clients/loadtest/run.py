"""A load test from its settings to its result: warm-up, each load in turn, a sweep's next load.

`LoadSettings` is what a user asks for and stands in the result as it is, so that a result says how
it came about. `run` takes the way to drive from it, one point after another, and returns plain
JSON.
"""

import asyncio
import math
import os
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from thirdeye.clients.client import AsyncClient
from thirdeye.clients.core import first_model
from thirdeye.clients.loadtest.driver.drive import Driver, arrive
from thirdeye.clients.loadtest.driver.exchange import Exchange, Form
from thirdeye.clients.loadtest.driver.wire import Clock, Wire
from thirdeye.clients.loadtest.results.stats import Goals, summarize
from thirdeye.clients.loadtest.workload.arrivals import CONSTANT, Arrivals
from thirdeye.clients.loadtest.workload.prompts import Conversation, Mix
from thirdeye.clients.loadtest.workload.sweep import (
    next_concurrency,
    next_rate,
    saturation_concurrency,
    saturation_rate,
)
from thirdeye.clients.loadtest.workload.trace import read_trace
from thirdeye.clients.target import Target

KEPT = 0.9  # of the requests, or of the goodput: less is a rate that the server does not keep
OPEN_SECONDS = 30  # of arrivals, where neither a number nor a time is given

Point = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OfferedLoad:
    """One point: users in a closed loop, or requests per second in an open one."""

    concurrency: int | None = None
    rate: float | None = None

    def __str__(self) -> str:
        if self.rate is not None:
            return f"{self.rate:.3g} req/s"
        return f"{self.concurrency} user{'' if self.concurrency == 1 else 's'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """What is asked for. Without a rate it is a closed loop.

    `num_requests` counts conversations, at each point; `seconds` ends a point's new requests. A
    trace replaces the mix, and its own arrival times are kept where no load is given.
    """

    model: str | None = None
    is_chat: bool = True
    params: dict[str, Any] = field(default_factory=dict)
    mix: Mix = field(default_factory=Mix)
    trace: str | None = None
    concurrency: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    burstiness: float = 1.0
    ramp_to: float | None = None
    max_concurrency: int | None = None
    is_sweep: bool = False
    sweep_limit: int = 512
    num_requests: int | None = None
    seconds: float | None = None
    repeats: int = 1
    warmup: int = 1
    goals: Goals = field(default_factory=Goals)
    timeout: float = 600.0
    max_retries: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.concurrency and self.rates:
            raise ValueError("'concurrency' is a closed loop and 'rate' an open one: choose one.")
        if self.ramp_to and (self.is_sweep or len(self.rates) != 1):
            raise ValueError("'ramp_to' needs one 'rate' to begin with, and no sweep.")
        if self.mix.num_turns > 1 and not self.is_chat:
            raise ValueError("'turns' needs chat: completions have none.")
        for name in ("concurrency", "rates", "num_requests", "seconds", "repeats", "timeout"):
            value = getattr(self, name)
            values = value if isinstance(value, tuple) else (value,)
            if any(one is not None and not one > 0 for one in values):
                raise ValueError(f"'{name}' must be greater than 0, got {value}.")
        Arrivals(1.0, self.burstiness, self.ramp_to)

    def loads(self) -> list[OfferedLoad | None]:
        """The points to measure; of a sweep, the first. None: as the trace has it."""
        if self.rates:
            return [OfferedLoad(rate=rate) for rate in self.rates[: 1 if self.is_sweep else None]]
        if self.trace and not self.concurrency and not self.is_sweep:
            return [None]
        users = self.concurrency or (1,)
        return [OfferedLoad(concurrency=count) for count in users[: 1 if self.is_sweep else None]]

    def shown(self) -> dict[str, Any]:
        """As it stands in the result. JSON knows no infinity."""
        shown = asdict(self)
        shown["burstiness"] = "constant" if self.burstiness == CONSTANT else self.burstiness
        return shown


class Watcher:
    """Is told how a run goes. This one looks away; `progress` draws."""

    def begin(self, name: str, driver: Driver, total: int | None) -> None:
        """A point begins; `total` conversations, None if only its time is known."""

    def end(self, point: Point) -> None:
        """A point is measured."""


async def run(
    target: Target,
    settings: LoadSettings,
    watcher: Watcher | None = None,
    clock: Clock = time.perf_counter,
    cpu_clock: Clock = time.process_time,
) -> dict[str, Any]:
    """Measures and returns the result. Raises ThirdeyeError if no model can be found, OSError and
    TraceError for a trace that cannot be read."""
    if settings.model is None:
        async with AsyncClient(target.base_url, target.api_key) as client:
            settings = replace(settings, model=first_model(await client.models()))
    wire = Wire(target, clock)
    try:
        bench = Bench(wire, settings, watcher or Watcher(), clock, cpu_clock)
        await bench.warm_up()
        points, saturation = await bench.measure_all()
    finally:
        await wire.close()
    return {
        "benchmark": "serve",
        "version": 1,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "url": target.base_url.rpartition("@")[2],
        "model": settings.model,
        "client": f"{os.cpu_count()} x {platform.machine()}, Python {platform.python_version()}",
        "settings": settings.shown(),
        "saturation": saturation,
        "points": points,
    }


def event_loop() -> asyncio.AbstractEventLoop:
    """The loop to run on: uvloop, which costs less per event, where there is one."""
    try:
        loop: asyncio.AbstractEventLoop = import_module("uvloop").new_event_loop()
    except ImportError:  # not on Windows
        loop = asyncio.new_event_loop()
    return loop


class Bench:
    """Measures one load after another over one pool of connections."""

    def __init__(
        self, wire: Wire, settings: LoadSettings, watcher: Watcher, clock: Clock, cpu_clock: Clock
    ) -> None:
        self._settings = settings
        self._watcher = watcher
        self._clock = clock
        self._cpu_clock = cpu_clock
        assert settings.model is not None
        form = Form(settings.model, settings.is_chat, settings.params)
        self._ask = Exchange(wire, form, clock, settings.timeout, settings.max_retries).ask
        self._num_runs = 0

    async def warm_up(self) -> None:
        """Requests that are not counted, one after another."""
        driver = Driver(self._ask, self._clock)
        await driver.closed(islice(self._conversations(), self._settings.warmup), 1)

    async def measure_all(self) -> tuple[list[Point], dict[str, Any] | None]:
        """The points, and the saturation point if it was looked for."""
        points: list[Point] = []
        if not self._settings.is_sweep:
            for load in self._settings.loads():
                points.append(await self.measure(load))  # noqa: PERF401  clearer than a comprehension
            return points, None
        (first,) = self._settings.loads()
        assert first is not None
        search = self._search_users if first.rate is None else self._search_rate
        return await search(first)

    async def measure(self, load: OfferedLoad | None) -> Point:
        """One point; of repeats, the run of median throughput, with the others' beside it."""
        runs = [await self._measure_once(load) for _ in range(self._settings.repeats)]
        rates = [run["output_tokens_per_second"] for run in runs]
        point = runs[rates.index(statistics.median_low(rates))]
        point |= {"repeats_output_tokens_per_second": rates}
        self._watcher.end(point)
        return point

    async def _measure_once(self, load: OfferedLoad | None) -> Point:
        driver = Driver(self._ask, self._clock)
        total = self._num_requests(load)
        conversations = islice(self._conversations(), total)
        name = "trace" if load is None else str(load)
        self._watcher.begin(name, driver, total)
        cpu_start = self._cpu_clock()
        await self._drive(driver, load, conversations, total)
        cpu_seconds = self._cpu_clock() - cpu_start
        numbers = summarize(driver.records, cpu_seconds, self._settings.goals)
        if load is None or load.rate is None:
            numbers["kept_share"] = numbers["kept_share"] if load is None else None
        return {"load": name, **(asdict(load) if load else {}), **numbers}

    async def _drive(
        self,
        driver: Driver,
        load: OfferedLoad | None,
        conversations: Iterator[Conversation],
        total: int | None,
    ) -> None:
        settings = self._settings
        if load is not None and load.concurrency is not None:
            await driver.closed(conversations, load.concurrency, settings.seconds)
            return
        if load is not None and load.rate is not None:
            arrivals = Arrivals(load.rate, settings.burstiness, settings.ramp_to)
            count = total or math.ceil((settings.seconds or OPEN_SECONDS) * arrivals.mean_rate)
            seed = settings.seed + self._num_runs
            conversations = arrive(conversations, arrivals.times(count, seed))
        await driver.open(conversations, settings.max_concurrency, settings.seconds)

    def _num_requests(self, load: OfferedLoad | None) -> int | None:
        """Of conversations; None is until the time is over, or the trace is."""
        settings = self._settings
        if settings.num_requests or settings.seconds or load is None:
            return settings.num_requests
        if load.rate is None:
            return max(10, 4 * (load.concurrency or 1))
        return math.ceil(OPEN_SECONDS * Arrivals(load.rate, 1.0, settings.ramp_to).mean_rate)

    def _conversations(self) -> Iterator[Conversation]:
        """Other ones in each run: what the server has cached from the last would be too easy."""
        self._num_runs += 1
        seed = self._settings.seed + self._num_runs
        if self._settings.trace is None:
            return self._settings.mix.conversations(seed)
        lines = Path(self._settings.trace).read_text().splitlines()
        return read_trace(lines, self._settings.seed)

    async def _search_users(self, first: OfferedLoad) -> tuple[list[Point], dict[str, Any]]:
        points: dict[int, Point] = {}

        def throughput() -> dict[int, float]:
            return {users: p["output_tokens_per_second"] for users, p in points.items()}

        assert first.concurrency is not None
        limit = self._settings.sweep_limit
        while (users := next_concurrency(throughput(), first.concurrency, limit)) is not None:
            points[users] = await self.measure(OfferedLoad(concurrency=users))
        best = saturation_concurrency(throughput())
        is_limit = best == limit  # more users might have given more
        found = {"concurrency": None if is_limit else best, "best": max(throughput().values())}
        return list(points.values()), found

    async def _search_rate(self, first: OfferedLoad) -> tuple[list[Point], dict[str, Any]]:
        points: dict[float, Point] = {}

        def is_kept() -> dict[float, bool]:
            return {rate: keeps_up(point) for rate, point in points.items()}

        assert first.rate is not None
        limit = self._settings.sweep_limit
        while (rate := next_rate(is_kept(), first.rate, limit)) is not None:
            points[rate] = await self.measure(OfferedLoad(rate=rate))
        in_order = [points[rate] for rate in sorted(points)]
        kept = saturation_rate(is_kept())
        return in_order, {"rate": kept, "is_limit": kept == limit}


def keeps_up(point: Point) -> bool:
    """Whether the server kept up with a rate: no growing queue, no error, and the goals met."""
    shares = (point["kept_share"], point["goodput_share"])
    return all(share is None or share >= KEPT for share in shares) and not point["errors"]
