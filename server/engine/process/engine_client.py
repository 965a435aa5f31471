"""The asyncio side of an engine: open streams, and who is woken when a step arrives.

What the thread engine and the process engine share. They differ in how a command reaches the engine
(`_send`) and how a `Step` comes back (they call `receive` on the event loop); the promise that each
request sees exactly one last output, also when the engine dies, is kept here once. Not thread-safe:
everything below runs on the event loop.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from thirdeye.server.engine.interface.adapters import AdapterReport, AdapterSource
from thirdeye.server.engine.interface.engine_stats import EngineStats
from thirdeye.server.engine.interface.step_record import StepRecord
from thirdeye.server.engine.interface.trace import Trace, TraceRequest
from thirdeye.server.engine.interface.types import (
    EngineDead,
    EngineInfo,
    FinishReason,
    OnOutput,
    Request,
    StepOutput,
)
from thirdeye.server.engine.process.messages import (
    Abort,
    Add,
    Command,
    Inspect,
    LoadAdapter,
    ResetPrefixCache,
    Step,
    Uninspect,
    UnloadAdapter,
    Unwatch,
    Watch,
)
from thirdeye.server.engine.process.step_history import StepHistory
from thirdeye.server.engine.process.trace_readers import TraceReaders

ENGINE_STOPPED = "The engine stopped while it worked on this request. Please try again."
ENGINE_CLOSED = "The engine is closed."


class OutputStream:
    """Outputs of one request, in order, between the engine and the one reader."""

    __slots__ = ("_on_output", "_outputs", "_waiter", "is_ended", "started_at")

    def __init__(self, on_output: OnOutput | None = None) -> None:
        """`on_output` is asked before an output is put here: see `Engine.generate`."""
        self._on_output = on_output
        self._outputs: deque[StepOutput] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.started_at = time.monotonic()
        self.is_ended = False  # its last output is here, read or not

    def put(self, output: StepOutput) -> None:
        """Append, and wake the reader: once, however many outputs come before it runs."""
        if self._on_output is not None and self._is_consumed(output, self._on_output):
            return
        self._outputs.append(output)
        self.is_ended = self.is_ended or output.finish_reason is not None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _is_consumed(self, output: StepOutput, on_output: OnOutput) -> bool:
        """A reader that waits has seen all before. A bug behind `on_output` ends its own stream
        alone: the other streams of this step are not its matter."""
        waiter = self._waiter
        if waiter is None or waiter.done() or output.finish_reason is not None:
            return False
        try:
            return on_output(output)
        except Exception as bug:
            waiter.set_exception(bug)
            return True

    async def get(self) -> StepOutput:
        while not self._outputs:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._outputs.popleft()


class EngineClient(ABC):
    """The `Engine` protocol over anything that takes commands and gives back steps."""

    def __init__(self, info: EngineInfo) -> None:
        self._info = info
        self._streams: dict[str, OutputStream] = {}
        self._stats = EngineStats(num_blocks_total=info.num_blocks)
        self._next_step = 0
        self._last_step_at = time.monotonic()
        self._dead = asyncio.Event()
        self._step_history = StepHistory()
        self._trace_readers = TraceReaders(
            lambda request: self._send(Inspect(request)),
            lambda request_id: self._send(Uninspect(request_id)),
        )
        self._why_dead: str | None = None
        self._loading: dict[int, asyncio.Future[AdapterReport]] = {}  # adapters, by number

    @abstractmethod
    def _send(self, command: Command) -> None:
        """Hand a command to the engine, without blocking. Must not raise if the engine is gone."""

    @abstractmethod
    async def close(self) -> None: ...

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def is_alive(self) -> bool:
        return self._why_dead is None

    @property
    def restart_eta(self) -> float | None:
        return None

    async def wait_dead(self) -> str:
        """Returns, with the reason, once the engine is gone."""
        await self._dead.wait()
        assert self._why_dead is not None
        return self._why_dead

    def stalled_seconds(self) -> float:
        """See `Engine`. It counts from the last step on, or from the first request's arrival."""
        starts = [s.started_at for s in self._streams.values() if not s.is_ended]
        if not starts:
            return 0.0
        return time.monotonic() - max(min(starts), self._last_step_at)

    def stats(self) -> EngineStats:
        return self._stats

    def reset_prefix_cache(self) -> None:
        """See `Engine`."""
        self._send(ResetPrefixCache())

    async def load_adapter(self, source: AdapterSource) -> AdapterReport:
        """See `Engine`."""
        if self._why_dead is not None:
            raise EngineDead(self._why_dead)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[AdapterReport] = loop.create_future()
        self._loading[source.number] = future
        self._send(LoadAdapter(source))
        return await future

    def unload_adapter(self, number: int) -> None:
        """See `Engine`."""
        self._send(UnloadAdapter(number))

    async def generate(
        self, request: Request, on_output: OnOutput | None = None
    ) -> AsyncGenerator[StepOutput, None]:
        """See `Engine.generate`. The request reaches the engine when iteration starts."""
        if self._why_dead is not None:
            raise EngineDead(self._why_dead)
        request_id = request.request_id
        if request_id in self._streams:
            raise ValueError(f"'request_id' must be unique, {request_id!r} is running.")
        stream = self._streams[request_id] = OutputStream(on_output)
        is_finished = False
        try:
            self._send(Add(request))
            while not is_finished:
                output = await stream.get()
                is_finished = output.finish_reason is not None
                yield output
        finally:
            del self._streams[request_id]
            if not is_finished:
                self._send(Abort(request_id))

    def abort(self, request_id: str) -> None:
        if request_id in self._streams:
            self._send(Abort(request_id))

    async def watch(self, since: int = 0) -> AsyncGenerator[StepRecord, None]:
        """See `Engine.watch`. The engine sends records while anybody watches."""
        if self._why_dead is not None:
            raise EngineDead(self._why_dead)
        if not self._step_history.num_readers:
            self._send(Watch())
        try:
            async with aclosing(self._step_history.read(since)) as records:
                async for record in records:
                    yield record
        finally:
            if not self._step_history.num_readers:
                self._send(Unwatch())

    async def inspect(self, request: TraceRequest) -> AsyncGenerator[Trace, None]:
        """See `Engine.inspect`."""
        if self._why_dead is not None:
            raise EngineDead(self._why_dead)
        async with aclosing(self._trace_readers.read(request)) as traces:
            async for trace in traces:
                yield trace

    def receive(self, step: Step) -> None:
        """Take in one step of the engine: its numbers, and the outputs of every request in it."""
        assert step.sequence == self._next_step, f"lost steps {self._next_step}..{step.sequence}"
        self._next_step += 1
        self._stats = step.stats
        self._last_step_at = time.monotonic()
        self._step_history.post(step.records)
        self._trace_readers.post(step.traces)
        for report in step.adapters:
            future = self._loading.pop(report.number)
            if not future.done():  # its caller may have left
                future.set_result(report)
        self.dispatch(step.outputs)

    def dispatch(self, outputs: list[StepOutput]) -> None:
        """Hand each output to its stream. A stream that was left is no longer in the table."""
        for output in outputs:
            stream = self._streams.get(output.request_id)
            if stream is not None:
                stream.put(output)

    def refuse(self, why: str) -> None:
        """Take no request from now on; those that run go on. The first reason given stays."""
        self._why_dead = self._why_dead or why

    def fail_all(self, why: str) -> None:
        """The engine has died: open streams end with ERROR, new ones raise `EngineDead(why)`."""
        self.refuse(why)
        self._end_all(FinishReason.ERROR, ENGINE_STOPPED)

    def abort_all(self) -> None:
        """The engine was closed in good order: whatever is still open ends with ABORT."""
        self.refuse(ENGINE_CLOSED)
        self._end_all(FinishReason.ABORT)

    def _end_all(self, reason: FinishReason, error: str | None = None) -> None:
        """A reader leaves at the first last output, so one that comes after another is not seen."""
        self._stats = msgspec.structs.replace(
            self._stats,
            num_requests_running=0,
            num_requests_waiting=0,
            num_blocks_used=0,
            num_states_used=0,
        )
        self._step_history.close()
        self._trace_readers.end_all(ENGINE_STOPPED)
        for future in self._loading.values():
            if not future.done():
                future.set_exception(EngineDead(ENGINE_STOPPED))
        self._loading.clear()
        for request_id, stream in self._streams.items():
            stream.put(StepOutput(request_id=request_id, finish_reason=reason, error=error))
        self._dead.set()
