"""A load test from its settings to its result: warm-up, each load in turn, a sweep's next load.

`run` takes the way to drive from `LoadSettings`, one point after another, and returns plain JSON.
"""

import asyncio
import math
import os
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from thirdeye.clients.async_client import AsyncClient
from thirdeye.clients.core import first_model
from thirdeye.clients.loadtest.driver.drive import Driver, arrive
from thirdeye.clients.loadtest.driver.exchange import Exchange, Form
from thirdeye.clients.loadtest.driver.wire import Clock, Wire
from thirdeye.clients.loadtest.load_settings import LoadSettings, OfferedLoad
from thirdeye.clients.loadtest.results.stats import summarize
from thirdeye.clients.loadtest.workload.arrivals import Arrivals
from thirdeye.clients.loadtest.workload.prompts import Conversation
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
