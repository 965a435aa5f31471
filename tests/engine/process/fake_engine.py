"""An engine without a model: it replays token ids. For tests of the layers above and HTTP
benchmarks.

    engine = FakeEngine(lambda request: [5, 6, 7], eos_token_ids=[7], delay=0.01)

It keeps every promise of the `Engine` protocol (one last output, abort, early leave, death), so
what passes over it fails over the real one only for reasons of tokens. Its settings break things on
purpose: `error_after`, `hang_after`, and the method `die`.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

import msgspec

from tests.engine.process.fake_script import Replay, Script, fake_timings
from tests.engine.process.fake_traces import FAKE_LAYERS, fake_array, fake_endings, fake_sweep, ones
from thirdeye.server.engine.interface.adapters import AdapterReport, AdapterSource
from thirdeye.server.engine.interface.engine_stats import EngineStats
from thirdeye.server.engine.interface.step_record import RowKind, StepRecord, StepRow
from thirdeye.server.engine.interface.trace import Trace, TraceRequest
from thirdeye.server.engine.interface.types import (
    EngineDead,
    EngineInfo,
    ErrorCode,
    FinishReason,
    OnOutput,
    Request,
    StepOutput,
)
from thirdeye.server.engine.process.engine_client import ENGINE_CLOSED, ENGINE_STOPPED
from thirdeye.server.engine.process.step_history import StepHistory


def fake_info(
    *, vocab_size: int = 256, max_model_len: int = 2048, max_num_seqs: int = 64
) -> EngineInfo:
    return EngineInfo(
        num_parameters=0,
        max_model_len=max_model_len,
        vocab_size=vocab_size,
        device="cpu",
        dtype="float32",
        num_blocks=128,
        block_size=16,
        max_num_seqs=max_num_seqs,
    )


class Gate(Protocol):
    """`threading.Event`, `ToldSteps`."""

    def is_set(self) -> bool:
        """Whether an output may come; asked until it may, once for each."""


class FakeEngine:
    """Replays `replay`: a list of ids for everybody, or a function of the request.

    A replay that runs out ends with STOP. `delay` is in seconds before each output, and none comes
    before `gate` is set; `error_after` and `hang_after` count tokens. `requests` and `aborted`
    record what was asked and what was ended early.
    """

    def __init__(
        self,
        replay: Replay | Sequence[int],
        *,
        info: EngineInfo | None = None,
        eos_token_ids: Collection[int] = (),
        delay: float = 0.0,
        gate: Gate | None = None,
        tokens_per_step: int = 1,
        num_cached_tokens: int = 0,
        error_after: int | None = None,
        error: str = "The engine failed on purpose.",
        error_code: ErrorCode | None = None,
        hang_after: int | None = None,
    ) -> None:
        self._info = info or fake_info()
        self._script = Script(
            replay if callable(replay) else lambda _: replay,
            self._info,
            eos_token_ids,
            tokens_per_step,
            num_cached_tokens,
            error_after,
            error,
            error_code,
            hang_after,
        )
        self._delay = delay
        self._gate = gate
        self._why_dead: str | None = None
        self._endings: dict[str, asyncio.Future[StepOutput]] = {}  # of the requests that run
        self._loop: asyncio.AbstractEventLoop | None = None  # where they run
        self._step_history = StepHistory()
        self._num_records = 0
        self._stats = EngineStats(num_blocks_total=self._info.num_blocks)
        self.requests: list[Request] = []
        self.aborted: list[str] = []
        self.inspections: list[TraceRequest] = []
        self.num_resets = 0
        self.adapters: dict[int, str] = {}  # number -> path of those that are loaded

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def is_alive(self) -> bool:
        return self._why_dead is None

    @property
    def num_watchers(self) -> int:
        return self._step_history.num_readers

    @property
    def restart_eta(self) -> float | None:
        return None

    def stats(self) -> EngineStats:
        return msgspec.structs.replace(self._stats, num_requests_running=len(self._endings))

    def reset_prefix_cache(self) -> None:
        self.num_resets += 1
        self._script = replace(self._script, num_cached_tokens=0)

    async def load_adapter(self, source: AdapterSource) -> AdapterReport:
        """A path that ends in `broken` cannot be loaded."""
        if source.path.endswith("broken"):
            return AdapterReport(number=source.number, error=f"{source.path}: is broken.")
        self.adapters[source.number] = source.path
        about = {"rank": 4, "num_bytes": 64, "fingerprint": "ab" * 32, "base": "org/Tiny"}
        return AdapterReport(number=source.number, **about)  # type: ignore[arg-type]  # as named

    def count_adapters(self, running: Sequence[int], waiting: Sequence[int]) -> None:
        """As if requests with these were under way."""
        self._stats = msgspec.structs.replace(
            self._stats,
            num_adapters=len(self.adapters),
            running_adapters=list(running),
            waiting_adapters=list(waiting),
        )

    def unload_adapter(self, number: int) -> None:
        self.adapters.pop(number, None)

    def stalled_seconds(self) -> float:
        return 0.0

    async def generate(
        self, request: Request, on_output: OnOutput | None = None
    ) -> AsyncGenerator[StepOutput, None]:
        if self._why_dead is not None:
            raise EngineDead(self._why_dead)
        self._loop = asyncio.get_running_loop()
        ending: asyncio.Future[StepOutput] = self._loop.create_future()
        self._endings[request.request_id] = ending
        self.requests.append(request)
        self._count(prompt_tokens_total=len(request.prompt_token_ids))
        is_finished = False
        started = time.monotonic()
        try:
            for num_steps, script_output in enumerate(self._script.outputs(request), 1):
                output = await self._pace(script_output, ending)
                is_finished = output.finish_reason is not None
                if is_finished and output.timings is None:
                    output = msgspec.structs.replace(
                        output, timings=fake_timings(started, num_steps)
                    )
                self._post_step(request, is_first=num_steps == 1, is_last=is_finished)
                self._count(steps_total=1, generation_tokens_total=len(output.token_ids))
                if on_output is None or is_finished or not on_output(output):
                    yield output
                if is_finished:
                    return
        finally:
            del self._endings[request.request_id]
            if not is_finished or ending.done():
                self.aborted.append(request.request_id)

    def _post_step(self, request: Request, *, is_first: bool, is_last: bool) -> None:
        """A step of one request: its whole prompt, then a token at a time."""
        num_tokens = len(request.prompt_token_ids) if is_first else 1
        kind = RowKind.PREFILL if is_first else RowKind.DECODE
        row = StepRow(request.request_id, num_tokens, kind)
        finished = [request.request_id] if is_last else []
        self._post(rows=[row], finished=finished, tenants={request.request_id: request.tenant})

    def _post(
        self,
        *,
        rows: Sequence[StepRow] = (),
        finished: Sequence[str] = (),
        inspected: str = "",
        tenants: dict[str, str],
    ) -> None:
        """A record of a step, which takes no time."""
        record = StepRecord(
            step=self._num_records,
            started_at=time.time(),
            rows=list(rows),
            num_waiting=0,
            finished=list(finished),
            inspected=inspected,
            tenants={name: tenant for name, tenant in tenants.items() if tenant},
            num_blocks_used=0,
            num_blocks_free=self._info.num_blocks,
            num_preemptions=0,
            schedule_ms=0.0,
            forward_ms=0.0,
            sample_ms=0.0,
            total_ms=0.0,
        )
        self._num_records += 1
        self._step_history.post([record])

    async def watch(self, since: int = 0) -> AsyncGenerator[StepRecord, None]:
        if self._why_dead is not None:
            raise EngineDead(self._why_dead)
        self._loop = asyncio.get_running_loop()
        async with aclosing(self._step_history.read(since)) as records:
            async for record in records:
                yield record

    async def inspect(self, request: TraceRequest) -> AsyncGenerator[Trace, None]:
        """Two heads that look at everything they may alike, vectors of ones, guesses in order."""
        if self._why_dead is not None:
            raise EngineDead(self._why_dead)
        self.inspections.append(request)
        guesses = [(i % self._info.vocab_size, -0.5 - i) for i in range(request.num_top)]
        lens = [guesses for _ in request.lens_positions]
        arrays = {name: fake_array(name, request) for name in request.arrays}
        places, followed = len(request.lens_positions), len(request.lens_tokens)
        through_lens = {"lens_tokens": ones([places, followed, 2])} if followed else {}
        if request.sweep is not None:
            for swept in fake_sweep(request):
                await asyncio.sleep(self._delay)
                yield Trace(request_id=request.request_id, arrays=swept)
        for layer in request.layers if request.sweep is None else []:
            await asyncio.sleep(self._delay)
            if not self.is_alive:
                break
            self._post(inspected=request.request_id, tenants={request.request_id: request.tenant})
            yield Trace(
                request_id=request.request_id,
                layer=layer,
                arrays=arrays | through_lens,
                lens=lens if request.has_lens else [],
            )
        error = None if self.is_alive else ENGINE_STOPPED
        has_compared = "attribution" in request.endings or bool(request.edits or request.sweep)
        yield Trace(
            request_id=request.request_id,
            lens=lens,
            arrays=fake_endings(request, FAKE_LAYERS) | through_lens,
            compare=(request.compare or [0, 1]) if has_compared else [],
            base_lens=lens[-1:] if request.edits else [],
            continued=[[i] * request.num_continued for i in (1, 2) if request.num_continued],
            is_last=True,
            error=error,
        )

    async def _pace(
        self, output: StepOutput | None, ending: asyncio.Future[StepOutput]
    ) -> StepOutput:
        """`output` after the delay (None hangs), or an ending that came before it."""
        if output is None:
            return await ending
        while self._gate is not None and not (self._gate.is_set() or ending.done()):
            await asyncio.wait([ending], timeout=0.005)
        if self._delay:
            await asyncio.wait([ending], timeout=self._delay)
        else:
            await asyncio.sleep(0)
        return ending.result() if ending.done() else output

    def abort(self, request_id: str) -> None:
        """See `Engine.abort`."""
        self._end(StepOutput(request_id=request_id, finish_reason=FinishReason.ABORT))

    def _end(self, output: StepOutput) -> None:
        ending = self._endings.get(output.request_id)
        if ending is not None and not ending.done():
            ending.set_result(output)

    def die(self, why: str = "The engine died.") -> None:
        """What a crash looks like from outside: every stream ends with ERROR, nothing is taken.

        From any thread: the streams are told on the loop that reads them.
        """
        self._why_dead = why
        if self._loop is None or self._loop.is_closed() or self._loop is _running_loop():
            self._end_all()
        else:
            self._loop.call_soon_threadsafe(self._end_all)

    def _end_all(self) -> None:
        self._step_history.close()
        for request_id in self._endings:
            reason = FinishReason.ERROR
            self._end(StepOutput(request_id=request_id, finish_reason=reason, error=ENGINE_STOPPED))

    async def close(self) -> None:
        self._why_dead = self._why_dead or ENGINE_CLOSED
        self._step_history.close()
        for request_id in list(self._endings):
            self.abort(request_id)

    def _count(self, **added: int) -> None:
        totals = {name: getattr(self._stats, name) + more for name, more in added.items()}
        self._stats = msgspec.structs.replace(self._stats, **totals)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
