"""Those who look inside: which reader a trace belongs to. The asyncio side of `layer_inspector.py`.

Each reader gets its traces in order and exactly one last one, also when the engine dies. Not
thread-safe: it lives on one event loop.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable

from thirdeye.server.engine.interface.trace import Trace, TraceRequest


class TraceReaders:
    """`send` and `abort` hand a request to the engine and take it back."""

    def __init__(self, send: Callable[[TraceRequest], None], abort: Callable[[str], None]) -> None:
        self._send = send
        self._abort = abort
        self._queues: dict[str, asyncio.Queue[Trace]] = {}

    async def read(self, request: TraceRequest) -> AsyncGenerator[Trace, None]:
        """The traces of one request, which reaches the engine when iteration starts."""
        request_id = request.request_id
        assert request_id not in self._queues, f"{request_id!r} is running"
        queue = self._queues[request_id] = asyncio.Queue()
        is_finished = False
        try:
            self._send(request)
            while not is_finished:
                trace = await queue.get()
                is_finished = trace.is_last
                yield trace
        finally:
            del self._queues[request_id]
            if not is_finished:
                self._abort(request_id)

    def post(self, traces: list[Trace]) -> None:
        """A reader that has left is no longer in the table."""
        for trace in traces:
            queue = self._queues.get(trace.request_id)
            if queue is not None:
                queue.put_nowait(trace)

    def end_all(self, why: str) -> None:
        for request_id in self._queues:
            self.post([Trace(request_id=request_id, is_last=True, error=why)])
