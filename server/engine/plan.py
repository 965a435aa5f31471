"""What the scheduler asks of a step, and what the step gives back, row by row in the same order."""

from dataclasses import dataclass, field

from server.engine.sequence import Sequence
from server.engine.types import TokenLogprobs


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One sequence's share of a step: compute the KV of its tokens at positions `[start, end)`.

    Logits at position p tell about token p + 1. They are wanted at `[score_start, score_end)` for
    logprobs of the prompt, and at `end - 1` if the row `is_sampled`: then a new token comes of it.
    """

    sequence: Sequence
    start: int
    end: int
    score_start: int
    score_end: int
    is_sampled: bool

    @property
    def num_scheduled_tokens(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class StepPlan:
    rows: list[PlanRow]

    @property
    def num_scheduled_tokens(self) -> int:
        return sum(row.num_scheduled_tokens for row in self.rows)


@dataclass(frozen=True, slots=True)
class RowResult:
    """`token_ids` is empty where the row was not sampled. `error` ends the request, and it
    alone."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] | None = None
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class StepResult:
    """With the seconds that its two stages took."""

    rows: list[RowResult]
    forward_seconds: float = 0.0
    sample_seconds: float = 0.0
