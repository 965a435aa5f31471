"""The asyncio side of an engine: open streams, and who is woken when a step arrives.

What the thread engine and the process engine share. They differ in how a command reaches the engine
(`_send`) and how a `Step` comes back (they call `receive` on the event loop); the promise that each
request sees exactly one last output, also when the engine dies, is kept here once. Not thread-safe:
everything below runs on the event loop.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator

from server.engine.messages import Abort, Add, Command, Step
from server.engine.types import (
    EngineDead,
    EngineInfo,
    EngineStats,
    FinishReason,
    Request,
    StepOutput,
)


class OutputStream:
    """Outputs of one request, in order, between the engine and the one reader."""

    __slots__ = ("_outputs", "_waiter")

    def __init__(self) -> None:
        self._outputs: deque[StepOutput] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, output: StepOutput) -> None:
        """Append, and wake the reader: once, however many outputs come before it runs."""
        self._outputs.append(output)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

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
        self._why_dead: str | None = None

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

    def stats(self) -> EngineStats:
        return self._stats

    async def generate(self, request: Request) -> AsyncGenerator[StepOutput, None]:
        """See `Engine.generate`. The request reaches the engine when iteration starts."""
        if self._why_dead is not None:
            raise EngineDead(self._why_dead)
        request_id = request.request_id
        if request_id in self._streams:
            raise ValueError(f"'request_id' must be unique, {request_id!r} is running.")
        stream = self._streams[request_id] = OutputStream()
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

    def receive(self, step: Step) -> None:
        """Take in one step of the engine: its numbers, and the outputs of every request in it."""
        assert step.sequence == self._next_step, f"lost steps {self._next_step}..{step.sequence}"
        self._next_step += 1
        self._stats = step.stats
        self.dispatch(step.outputs)

    def dispatch(self, outputs: list[StepOutput]) -> None:
        """Hand each output to its stream. A stream that was left is no longer in the table."""
        for output in outputs:
            stream = self._streams.get(output.request_id)
            if stream is not None:
                stream.put(output)

    def _die(self, why: str, reason: FinishReason, error: str | None = None) -> None:
        """Take no request any more and end every open stream. The first reason given stays."""
        if self._why_dead is not None:
            return
        self._why_dead = why
        self._stats = _idle(self._stats)
        for request_id, stream in self._streams.items():
            stream.put(StepOutput(request_id=request_id, finish_reason=reason, error=error))

    def fail_all(self, why: str) -> None:
        """The engine has died: every open stream ends with ERROR, new ones raise `EngineDead(why)`."""
        error = "The engine stopped while it worked on this request. Please try again."
        self._die(why, FinishReason.ERROR, error)

    def abort_all(self) -> None:
        """The engine was closed in good order: whatever is still open ends with ABORT."""
        self._die("The engine is closed.", FinishReason.ABORT)


def _idle(stats: EngineStats) -> EngineStats:
    """The counters of an engine that is gone: nothing runs, nothing waits, nothing is held."""
    return EngineStats(
        num_blocks_total=stats.num_blocks_total,
        prompt_tokens_total=stats.prompt_tokens_total,
        generation_tokens_total=stats.generation_tokens_total,
        prefix_cache_queries_total=stats.prefix_cache_queries_total,
        prefix_cache_hits_total=stats.prefix_cache_hits_total,
        preemptions_total=stats.preemptions_total,
        steps_total=stats.steps_total,
    )
