"""Those who look inside take turns: one bounded piece of one's work between two steps.

The engine's core draws on this queue. Each piece is of the next one in turn, so who asks for little
waits for little, however much others ask for. What goes wrong in one is told to its reader and
hurts nobody else.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator

import torch

from thirdeye.server.engine.interface.trace import FAILED, UNABLE, Trace, TraceRequest
from thirdeye.server.engine.interface.types import EngineDead

logger = logging.getLogger(__name__)

Inspect = Callable[[TraceRequest], Iterator[Trace | None]]


class InspectionQueue:
    """Those that are worked on, in turn. Belongs to the engine's core."""

    def __init__(self, inspect: Inspect | None) -> None:
        self._inspect = inspect
        self._queue: deque[tuple[TraceRequest, Iterator[Trace | None]]] = deque()
        self._traces: list[Trace] = []

    def add(self, request: TraceRequest) -> None:
        if self._inspect is None:
            self._fail(request.request_id, UNABLE)
        else:
            self._queue.append((request, self._inspect(request)))

    def refuse(self, request_id: str, why: str) -> None:
        """Tell its reader why it is not worked on."""
        self._fail(request_id, why)

    @property
    def adapters(self) -> set[int]:
        """That those who are worked on have."""
        return {request.adapter for request, _ in self._queue} - {0}

    def abort(self, request_id: str) -> None:
        """Its reader has left: nothing is told. Unknown ids are ignored."""
        self._queue = deque(entry for entry in self._queue if entry[0].request_id != request_id)

    @property
    def has_work(self) -> bool:
        return bool(self._queue or self._traces)

    @property
    def first(self) -> TraceRequest | None:
        """The one whose turn it is."""
        return self._queue[0][0] if self._queue else None

    def advance(self) -> None:
        """One piece of the first in the queue, which is then the last."""
        if not self._queue:
            return
        request, pieces = self._queue.popleft()
        try:
            with torch.inference_mode():
                trace = next(pieces)
        except (torch.AcceleratorError, EngineDead):
            raise
        except Exception:
            logger.exception("inspection %s failed", request.request_id)
            self._fail(request.request_id, FAILED)
            return
        if trace is not None:
            self._traces.append(trace)
        if trace is None or not trace.is_last:
            self._queue.append((request, pieces))

    def pop_traces(self) -> list[Trace]:
        """What there is to tell since the last time."""
        traces, self._traces = self._traces, []
        return traces

    def _fail(self, request_id: str, why: str) -> None:
        self._traces.append(Trace(request_id=request_id, is_last=True, error=why))
