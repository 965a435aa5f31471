"""An engine without a model: it replays token ids. For tests of the layers above and HTTP
benchmarks.

    engine = FakeEngine(lambda request: [5, 6, 7], eos_token_ids=[7], delay=0.01)

It keeps every promise of the `Engine` protocol (one last output, abort, early leave, death), so
what passes over it fails over the real one only for reasons of tokens. Its knobs break things on
purpose: `error_after`, `hang_after`, and the method `die`.
"""

import asyncio
import time
from array import array
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import aclosing
from itertools import count, islice

import msgspec

from server.engine.board import StepBoard
from server.engine.client import ENGINE_CLOSED, ENGINE_STOPPED
from server.engine.finish import finish_after
from server.engine.inspection import STREAM, Array, InspectRequest, Trace
from server.engine.pooling import unit_vector
from server.engine.types import (
    EngineDead,
    EngineInfo,
    EngineStats,
    ErrorCode,
    FinishReason,
    PromptProgress,
    Request,
    RowKind,
    StepOutput,
    StepRecord,
    StepRow,
    Take,
    Timings,
    TokenLogprobs,
)

FAKE_HEADS, FAKE_WIDTH = 2, 4
Replay = Callable[[Request], Iterable[int]]


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


class FakeEngine:
    """Replays `replay`: a list of ids for everybody, or a function of the request.

    A replay that runs out ends with STOP. `delay` is in seconds before each output; `error_after`
    and `hang_after` count tokens. `requests` and `aborted` record what was asked and what was ended
    early.
    """

    def __init__(
        self,
        replay: Replay | Sequence[int],
        *,
        info: EngineInfo | None = None,
        eos_token_ids: Collection[int] = (),
        delay: float = 0.0,
        tokens_per_step: int = 1,
        num_cached_tokens: int = 0,
        error_after: int | None = None,
        error: str = "The engine failed on purpose.",
        error_code: ErrorCode | None = None,
        hang_after: int | None = None,
    ) -> None:
        self._replay: Replay = replay if callable(replay) else lambda _: replay
        self._info = info or fake_info()
        self._eos_token_ids = eos_token_ids
        self._delay = delay
        self._tokens_per_step = tokens_per_step
        self._num_cached_tokens = num_cached_tokens
        self._error_after = error_after
        self._error = error
        self._error_code = error_code
        self._hang_after = hang_after
        self._why_dead: str | None = None
        self._endings: dict[str, asyncio.Future[StepOutput]] = {}  # of the requests that run
        self._board = StepBoard()
        self._num_records = 0
        self._stats = EngineStats(num_blocks_total=self._info.num_blocks)
        self.requests: list[Request] = []
        self.aborted: list[str] = []
        self.inspections: list[InspectRequest] = []

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def is_alive(self) -> bool:
        return self._why_dead is None

    @property
    def restart_eta(self) -> float | None:
        return None

    def stats(self) -> EngineStats:
        return msgspec.structs.replace(self._stats, num_requests_running=len(self._endings))

    def stalled_seconds(self) -> float:
        return 0.0

    async def generate(
        self, request: Request, take: Take | None = None
    ) -> AsyncGenerator[StepOutput, None]:
        if self._why_dead is not None:
            raise EngineDead(self._why_dead)
        ending: asyncio.Future[StepOutput] = asyncio.get_running_loop().create_future()
        self._endings[request.request_id] = ending
        self.requests.append(request)
        self._count(prompt_tokens_total=len(request.prompt_token_ids))
        is_finished = False
        started = time.monotonic()
        try:
            for num_steps, script_output in enumerate(self._script(request), 1):
                output = await self._pace(script_output, ending)
                is_finished = output.finish_reason is not None
                if is_finished and output.timings is None:
                    output = msgspec.structs.replace(output, timings=_timings(started, num_steps))
                self._post_step(request, is_first=num_steps == 1, is_last=is_finished)
                self._count(steps_total=1, generation_tokens_total=len(output.token_ids))
                if take is None or is_finished or not take(output):
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
        self._post(rows=[row], finished=[request.request_id] if is_last else [])

    def _post(
        self, *, rows: Sequence[StepRow] = (), finished: Sequence[str] = (), inspected: str = ""
    ) -> None:
        """A record of a step, which takes no time."""
        record = StepRecord(
            step=self._num_records,
            started_at=time.time(),
            rows=list(rows),
            num_waiting=0,
            finished=list(finished),
            inspected=inspected,
            num_blocks_used=0,
            num_blocks_free=self._info.num_blocks,
            num_preemptions=0,
            schedule_ms=0.0,
            forward_ms=0.0,
            sample_ms=0.0,
            total_ms=0.0,
        )
        self._num_records += 1
        self._board.post([record])

    async def watch(self, since: int = 0) -> AsyncGenerator[StepRecord, None]:
        if self._why_dead is not None:
            raise EngineDead(self._why_dead)
        async with aclosing(self._board.read(since)) as records:
            async for record in records:
                yield record

    async def inspect(self, request: InspectRequest) -> AsyncGenerator[Trace, None]:
        """Two heads that look at everything they may alike, vectors of ones, guesses in order."""
        if self._why_dead is not None:
            raise EngineDead(self._why_dead)
        self.inspections.append(request)
        guesses = [(i % self._info.vocab_size, -0.5 - i) for i in range(request.num_top)]
        lens = [guesses for _ in request.lens_positions]
        arrays = {name: _fake_array(name, len(request.token_ids)) for name in request.arrays}
        for layer in request.layers:
            await asyncio.sleep(self._delay)
            if not self.is_alive:
                break
            self._post(inspected=request.request_id)
            yield Trace(
                request_id=request.request_id,
                layer=layer,
                arrays=arrays,
                lens=lens if request.has_lens else [],
            )
        error = None if self.is_alive else ENGINE_STOPPED
        yield Trace(request_id=request.request_id, lens=lens, is_last=True, error=error)

    async def _pace(
        self, output: StepOutput | None, ending: asyncio.Future[StepOutput]
    ) -> StepOutput:
        """`output` after the delay (None hangs), or an ending that came before it."""
        if output is None:
            return await ending
        if self._delay:
            await asyncio.wait([ending], timeout=self._delay)
        else:
            await asyncio.sleep(0)
        return ending.result() if ending.done() else output

    def _script(self, request: Request) -> Iterator[StepOutput | None]:
        """What this request will see if nobody ends it; None stands for a hang."""
        started, num_generated, reason = time.monotonic(), 0, None
        if request.return_progress:
            yield self._half_way(request)
        token_ids = iter(self._replay(request))
        for step in count():
            if self._is_due(self._hang_after, num_generated):
                yield None
            if self._is_due(self._error_after, num_generated):
                reason = FinishReason.ERROR
                yield StepOutput(
                    request_id=request.request_id,
                    finish_reason=reason,
                    error=self._error,
                    error_code=self._error_code,
                )
            new, reason, stop_token_id = self._take(token_ids, num_generated, request)
            num_generated += len(new)
            sampling = request.sampling
            prompt = None if step else request.prompt_token_ids[1:]
            yield StepOutput(
                request_id=request.request_id,
                token_ids=new,
                logprobs=self._logprobs(new, sampling.logprobs),
                prompt_logprobs=self._logprobs(prompt, sampling.prompt_logprobs),
                embedding=_embedding(request) if reason and request.is_embedding else None,
                finish_reason=reason,
                stop_token_id=stop_token_id,
                num_cached_tokens=self._num_cached_tokens,
                timings=_timings(started, step + 1) if reason else None,
            )

    def _half_way(self, request: Request) -> StepOutput:
        """What is told of a prompt that takes two steps."""
        num_tokens = len(request.prompt_token_ids)
        progress = PromptProgress(num_tokens, self._num_cached_tokens, num_tokens // 2, 0.0)
        return StepOutput(request_id=request.request_id, progress=progress)

    def _take(
        self, token_ids: Iterator[int], num_generated: int, request: Request
    ) -> tuple[list[int], FinishReason | None, int | None]:
        """The next step's tokens, why they are the last, and the stop id that made them so."""
        new: list[int] = []
        max_tokens = self._max_tokens(request)
        if max_tokens == 0:
            return new, FinishReason.LENGTH, None
        for token_id in islice(token_ids, self._tokens_per_step):
            new.append(token_id)
            reason, stop_token_id = finish_after(
                token_id,
                num_generated + len(new),
                request.sampling,
                self._eos_token_ids,
                max_tokens,
            )
            if reason is not None:
                return new, reason, stop_token_id
        return new, None if new else FinishReason.STOP, None

    @staticmethod
    def _is_due(after: int | None, num_generated: int) -> bool:
        return after is not None and num_generated >= after

    def _max_tokens(self, request: Request) -> int:
        room = self._info.max_model_len - len(request.prompt_token_ids)
        return max(0, min(request.sampling.max_tokens, room))

    def _logprobs(
        self, token_ids: Iterable[int] | None, num_top: int | None
    ) -> list[TokenLogprobs] | None:
        """Every token is the likeliest at -0.5; its neighbours by number follow, one nat apart."""
        if token_ids is None or num_top is None:
            return None
        vocab_size = self._info.vocab_size
        return [
            TokenLogprobs(
                token_id=token_id,
                logprob=-0.5,
                rank=1,
                top=[((token_id + i) % vocab_size, -0.5 - i) for i in range(num_top)],
            )
            for token_id in token_ids
        ]

    def abort(self, request_id: str) -> None:
        """See `Engine.abort`."""
        self._end(StepOutput(request_id=request_id, finish_reason=FinishReason.ABORT))

    def _end(self, output: StepOutput) -> None:
        ending = self._endings.get(output.request_id)
        if ending is not None and not ending.done():
            ending.set_result(output)

    def die(self, why: str = "The engine died.") -> None:
        """What a crash looks like from outside: every stream ends with ERROR, nothing is taken."""
        self._why_dead = why
        self._board.close()
        for request_id in self._endings:
            reason = FinishReason.ERROR
            self._end(StepOutput(request_id=request_id, finish_reason=reason, error=ENGINE_STOPPED))

    async def close(self) -> None:
        self._why_dead = self._why_dead or ENGINE_CLOSED
        self._board.close()
        for request_id in list(self._endings):
            self.abort(request_id)

    def _count(self, **added: int) -> None:
        totals = {name: getattr(self._stats, name) + more for name, more in added.items()}
        self._stats = msgspec.structs.replace(self._stats, **totals)


def _embedding(request: Request) -> list[float]:
    """Two numbers that tell prompts apart."""
    return unit_vector([len(request.prompt_token_ids), sum(request.prompt_token_ids)])


def _fake_array(name: str, num_tokens: int) -> Array:
    if name == "pattern":
        rows = [[1 / (q + 1)] * (q + 1) + [0.0] * (num_tokens - q - 1) for q in range(num_tokens)]
        values = [value for _ in range(FAKE_HEADS) for row in rows for value in row]
        return Array([FAKE_HEADS, num_tokens, num_tokens], array("f", values).tobytes())
    shape = [len(STREAM), num_tokens] if name == "norms" else [num_tokens, FAKE_WIDTH]
    return Array(shape, array("f", [1.0] * (shape[0] * shape[1])).tobytes())


def _timings(started: float, num_steps: int) -> Timings:
    total_ms = (time.monotonic() - started) * 1000
    return Timings(
        queue_ms=0.0,
        prefill_ms=0.0,
        decode_ms=total_ms,
        total_ms=total_ms,
        num_steps=num_steps,
        batch_mean=1.0,
        batch_max=1,
    )
