"""The numbers of one request, added up from its events: usage, timings, why it ended; its receipt.

Usage counts every sampled token, the end-of-sequence token included, summed over the choices, and
each prompt once. Timings are those of the choice that took longest: the engine's, or, where a stop
string ended the choice and the engine was too busy to tell, what was seen from here.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import UNSET

from thirdeye.server.api.state.answer_parts import (
    AnswerTimings,
    CompletionTokensDetails,
    PromptTokensDetails,
    TokenUsage,
)
from thirdeye.server.engine.interface.types import FinishReason, Timings
from thirdeye.server.text.events import TextEvent

JsonObject = dict[str, object]


class ReceiptMaker(Protocol):
    """Sees each event, and in the end makes the receipt of them."""

    def add(self, index: int, event: TextEvent) -> None: ...

    def receipt(self) -> JsonObject: ...


class Tally:
    """Counts `n` choices for each of the prompts; choice index = prompt x n + sample."""

    def __init__(
        self,
        prompt_lens: Sequence[int],
        n: int,
        truncated: int = 0,
        receipt_maker: ReceiptMaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prompt_lens = prompt_lens
        self._n = n
        self._truncated = truncated
        self._receipt_maker = receipt_maker
        self._generated = [0] * (len(prompt_lens) * n)
        self._thought = [0] * (len(prompt_lens) * n)
        self._cached = [0] * (len(prompt_lens) * n)
        self._timings: Timings | None = None
        self._slowest = 0
        self.finish_reasons: dict[int, FinishReason] = {}
        self.outcomes: dict[int, str] = {}  # the same, but for answers that ended in tool calls
        self._clock = clock
        self._started = clock()
        self._first_seen: dict[int, float] = {}

    def add(self, index: int, event: TextEvent) -> None:
        if event.progress is not None:
            return  # nothing has come of it yet
        self._generated[index] = max(self._generated[index], event.num_generated_tokens)
        self._thought[index] = max(self._thought[index], event.num_thought_tokens)
        self._cached[index] = max(self._cached[index], event.num_cached_tokens)
        if index not in self._first_seen:
            self._first_seen[index] = self._clock()
        if self._receipt_maker is not None:
            self._receipt_maker.add(index, event)
        if event.finish_reason is None:
            return
        self.finish_reasons[index] = event.finish_reason
        self.outcomes[index] = "tool_calls" if event.ended_in_tool_calls else event.finish_reason
        timings = event.timings or self._seen_from_here(index)
        if self._timings is None or timings.total_ms > self._timings.total_ms:
            self._timings, self._slowest = timings, index

    def _seen_from_here(self, index: int) -> Timings:
        """Timings by our own clock: waiting in the queue cannot be told from the prefill."""
        now, first = self._clock(), self._first_seen[index]
        return Timings(
            queue_ms=0.0,
            prefill_ms=(first - self._started) * 1000,
            decode_ms=(now - first) * 1000,
            total_ms=(now - self._started) * 1000,
            num_steps=self._generated[index],
        )

    @property
    def is_finished(self) -> bool:
        return len(self.finish_reasons) == len(self._generated)

    @property
    def num_prompt_tokens(self) -> int:
        return sum(self._prompt_lens)

    @property
    def num_answered_prompt_tokens(self) -> int:
        """Of the prompts that something has come of: in the end all, if nothing fails."""
        answered = {index // self._n for index in self._first_seen}
        return sum(self._prompt_lens[prompt] for prompt in answered)

    @property
    def num_generated_tokens(self) -> int:
        return sum(self._generated)

    @property
    def num_thought_tokens(self) -> int:
        """Of those that were generated."""
        return sum(self._thought)

    @property
    def num_cached_tokens(self) -> int:
        """Of each prompt, what its first sample found: the later ones find what it computed."""
        return sum(self._cached[:: self._n])

    @property
    def engine_timings(self) -> Timings | None:
        return self._timings

    def usage(self) -> TokenUsage:
        prompt, generated = self.num_prompt_tokens, self.num_generated_tokens
        details = PromptTokensDetails(self.num_cached_tokens)
        parts = CompletionTokensDetails(self.num_thought_tokens)
        return TokenUsage(prompt, generated, prompt + generated, details, parts)

    def receipt(self) -> JsonObject | None:
        """If one was asked for, and every choice has ended."""
        if self._receipt_maker is None or not self.is_finished:
            return None
        return self._receipt_maker.receipt()

    def final_timings(self) -> AnswerTimings:
        """Once a choice has ended."""
        timings = self.timings()
        assert timings is not None, "no choice has ended"
        return timings

    def timings(self) -> AnswerTimings | None:
        """None before the end."""
        t = self._timings
        if t is None:
            return None
        cached, generated = self._cached[self._slowest], self._generated[self._slowest]
        computed = self._prompt_lens[self._slowest // self._n] - cached
        return AnswerTimings(
            queue_ms=round(t.queue_ms, 3),
            cache_n=cached,
            prompt_n=computed,
            prompt_ms=round(t.prefill_ms, 3),
            prompt_per_second=_per_second(computed, t.prefill_ms),
            predicted_n=generated,
            predicted_ms=round(t.decode_ms, 3),
            predicted_per_second=_per_second(generated, t.decode_ms),
            ttft_ms=round(t.queue_ms + t.prefill_ms, 3),
            itl_mean_ms=round(t.decode_ms / max(generated - 1, 1), 3),
            itl_max_ms=round(t.itl_max_ms, 3),
            total_ms=round(t.total_ms, 3),
            steps=t.num_steps,
            preemptions=t.num_preemptions,
            batch_mean=round(t.batch_mean, 2),
            batch_max=t.batch_max,
            truncated_n=self._truncated or UNSET,
        )


def _per_second(count: int, milliseconds: float) -> float:
    return round(1000 * count / milliseconds, 2) if milliseconds > 0 else 0.0


def server_timing(timings: Timings, num_cached_tokens: int) -> str:
    """The `Server-Timing` header, which browsers draw; counts are descriptions."""
    parts = {
        "queue": timings.queue_ms,
        "prefill": timings.prefill_ms,
        "decode": timings.decode_ms,
        "total": timings.total_ms,
    }
    counts = {
        "cached": f"{num_cached_tokens} tokens",
        "steps": timings.num_steps,
        "preemptions": timings.num_preemptions,
    }
    return ", ".join(
        [f"{name};dur={value:.1f}" for name, value in parts.items()]
        + [f'{name};desc="{value}"' for name, value in counts.items()]
    )
