"""Looking inside, off the hot path: one bounded piece of work between two steps of the engine.

`LayerInspector` turns a request into pieces, with the served model's own weights; the engine's core
draws on `InspectionQueue`, one piece a step, first come first served. What goes wrong in one is
told to its reader and hurts nobody else.
"""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator

import torch
from torch import Tensor

from thirdeye.model.inspection.probe import LayerTrace, logit_lens, trace_layers
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.interface.trace import (
    FAILED,
    UNABLE,
    Array,
    Guesses,
    Trace,
    TraceRequest,
)
from thirdeye.server.engine.interface.types import EngineDead

logger = logging.getLogger(__name__)

MAX_ROWS = 64  # tokens in a piece: what a running stream waits for is less than a chunk of these

Inspect = Callable[[TraceRequest], Iterator[Trace | None]]


class LayerInspector:
    """The model, taken apart piece by piece. None stands between two pieces."""

    def __init__(
        self,
        model: Transformer,
        device: torch.device,
        max_rows: int = MAX_ROWS,
        kv_dtype: torch.dtype | None = None,
    ) -> None:
        """`kv_dtype`: of the server's KV cache, see `trace_layers`."""
        self._model, self._kv_dtype = model, kv_dtype
        self._device = device
        self._max_rows = max_rows

    def __call__(self, request: TraceRequest) -> Iterator[Trace | None]:
        input_ids = torch.tensor(request.token_ids, device=self._device)
        resid = torch.empty(0)
        layer = 0
        for trace in trace_layers(self._model, input_ids, self._max_rows, self._kv_dtype):
            if trace is None:
                yield None
                continue
            if layer in request.layers:
                yield None
                lens = []
                if request.has_lens:
                    lens = yield from self._lens(trace.resid_pre, request)
                yield Trace(
                    request_id=request.request_id,
                    layer=layer,
                    arrays={name: _array(trace, name) for name in request.arrays},
                    lens=lens,
                )
            else:
                yield None
            resid = trace.resid_post
            layer += 1
        lens = yield from self._lens(resid, request)
        yield Trace(request_id=request.request_id, lens=lens, is_last=True)

    def _lens(self, resid: Tensor, request: TraceRequest) -> Generator[None, None, list[Guesses]]:
        """resid [n, hidden_size] -> the likeliest tokens at each of `lens_positions`."""
        guesses: list[Guesses] = []
        for start in range(0, len(request.lens_positions), self._max_rows):
            if start:
                yield None
            rows = resid[request.lens_positions[start : start + self._max_rows]]
            logprobs, ids = logit_lens(self._model, rows).topk(request.num_top)  # [m, num_top]
            pairs = zip(ids.tolist(), logprobs.tolist(), strict=True)
            guesses += [list(zip(*pair, strict=True)) for pair in pairs]
        return guesses


def _array(trace: LayerTrace, name: str) -> Array:
    values: Tensor = trace.norms() if name == "norms" else getattr(trace, name)
    values = values.float().cpu().contiguous()
    return Array(list(values.shape), values.numpy().astype("<f4", copy=False).tobytes())


class InspectionQueue:
    """Those that wait, and the one that is worked on. Belongs to the engine's core."""

    def __init__(self, inspect: Inspect | None) -> None:
        self._inspect = inspect
        self._queue: deque[tuple[TraceRequest, Iterator[Trace | None]]] = deque()
        self._traces: list[Trace] = []

    def add(self, request: TraceRequest) -> None:
        if self._inspect is None:
            self._fail(request.request_id, UNABLE)
        else:
            self._queue.append((request, self._inspect(request)))

    def abort(self, request_id: str) -> None:
        """Its reader has left: nothing is told. Unknown ids are ignored."""
        self._queue = deque(entry for entry in self._queue if entry[0].request_id != request_id)

    @property
    def has_work(self) -> bool:
        return bool(self._queue or self._traces)

    @property
    def first(self) -> TraceRequest | None:
        """The one that is worked on."""
        return self._queue[0][0] if self._queue else None

    def advance(self) -> None:
        """One piece of the first in the queue."""
        if not self._queue:
            return
        request, pieces = self._queue[0]
        try:
            with torch.inference_mode():
                trace = next(pieces)
        except (torch.AcceleratorError, EngineDead):
            raise
        except Exception:
            logger.exception("inspection %s failed", request.request_id)
            self._queue.popleft()
            self._fail(request.request_id, FAILED)
            return
        if trace is not None:
            self._traces.append(trace)
            if trace.is_last:
                self._queue.popleft()

    def pop_traces(self) -> list[Trace]:
        """What there is to tell since the last time."""
        traces, self._traces = self._traces, []
        return traces

    def _fail(self, request_id: str, why: str) -> None:
        self._traces.append(Trace(request_id=request_id, is_last=True, error=why))
