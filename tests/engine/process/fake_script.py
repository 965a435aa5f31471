"""What a request of the `FakeEngine` will see if nobody ends it: one output after the other."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice

from thirdeye.server.engine.interface.pooling import unit_vector
from thirdeye.server.engine.interface.types import (
    EngineInfo,
    ErrorCode,
    FinishReason,
    PromptProgress,
    Request,
    StepOutput,
    Timings,
    TokenLogprobs,
)
from thirdeye.server.engine.scheduling.stopping import finish_after

Replay = Callable[[Request], Iterable[int]]


@dataclass(frozen=True, slots=True)
class Script:
    """The draw_params are those of `FakeEngine`."""

    replay: Replay
    info: EngineInfo
    eos_token_ids: Collection[int]
    tokens_per_step: int
    num_cached_tokens: int
    error_after: int | None
    error: str
    error_code: ErrorCode | None
    hang_after: int | None

    def outputs(self, request: Request) -> Iterator[StepOutput | None]:
        """What this request will see if nobody ends it; None stands for a hang."""
        num_generated, reason = len(request.answer_token_ids), None
        started = time.monotonic()
        if request.return_progress:
            yield self._half_way(request)
        token_ids = islice(self.replay(request), num_generated, None)
        for step in count():
            if self._is_due(self.hang_after, num_generated):
                yield None
            if self._is_due(self.error_after, num_generated):
                reason = FinishReason.ERROR
                yield StepOutput(
                    request_id=request.request_id,
                    finish_reason=reason,
                    error=self.error,
                    error_code=self.error_code,
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
                num_cached_tokens=self.num_cached_tokens,
                timings=fake_timings(started, step + 1) if reason else None,
            )

    def _half_way(self, request: Request) -> StepOutput:
        """What is told of a prompt that takes two steps."""
        num_tokens = len(request.prompt_token_ids)
        progress = PromptProgress(num_tokens, self.num_cached_tokens, num_tokens // 2, 0.0)
        return StepOutput(request_id=request.request_id, progress=progress)

    def _take(
        self, token_ids: Iterator[int], num_generated: int, request: Request
    ) -> tuple[list[int], FinishReason | None, int | None]:
        """The next step's tokens, why they are the last, and the stop id that made them so."""
        new: list[int] = []
        max_tokens = self._max_tokens(request)
        if max_tokens == 0:
            return new, FinishReason.LENGTH, None
        for token_id in islice(token_ids, self.tokens_per_step):
            new.append(token_id)
            reason, stop_token_id = finish_after(
                token_id,
                num_generated + len(new),
                request.sampling,
                self.eos_token_ids,
                max_tokens,
            )
            if reason is not None:
                return new, reason, stop_token_id
        return new, None if new else FinishReason.STOP, None

    @staticmethod
    def _is_due(after: int | None, num_generated: int) -> bool:
        return after is not None and num_generated >= after

    def _max_tokens(self, request: Request) -> int:
        room = self.info.max_model_len - len(request.prompt_token_ids)
        return max(0, min(request.sampling.max_tokens, room))

    def _logprobs(
        self, token_ids: Iterable[int] | None, num_top: int | None
    ) -> list[TokenLogprobs] | None:
        """Every token is the likeliest at -0.5; its neighbours by number follow, one nat apart."""
        if token_ids is None or num_top is None:
            return None
        vocab_size = self.info.vocab_size
        return [
            TokenLogprobs(
                token_id=token_id,
                logprob=-0.5,
                rank=1,
                top=[((token_id + i) % vocab_size, -0.5 - i) for i in range(num_top)],
            )
            for token_id in token_ids
        ]


def _embedding(request: Request) -> list[float]:
    """Two numbers that tell prompts apart."""
    return unit_vector([len(request.prompt_token_ids), sum(request.prompt_token_ids)])


def fake_timings(started: float, num_steps: int) -> Timings:
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
