"""What a step gives back, row by row in the order of its plan."""

from dataclasses import dataclass, field
from typing import Any

from thirdeye.server.engine.interface.types import ErrorCode, TokenLogprobs

BROKEN_LOGITS = "The model's output for this request is not a number."


@dataclass(frozen=True, slots=True)
class RowResult:
    """`token_ids` is empty where the row was not sampled; else it is the drafts that were accepted
    and one token more. `is_complete`: with these tokens the request's grammar is over, and so is
    the request. `error` ends the request, and it alone."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] | None = None
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    hidden_sums: list[int] = field(default_factory=list)  # of an embedding's row
    is_complete: bool = False
    error: str | None = None
    error_code: ErrorCode | None = None


@dataclass(frozen=True, slots=True)
class StepResult:
    """With the seconds that its two stages took."""

    rows: list[RowResult]
    forward_seconds: float = 0.0
    sample_seconds: float = 0.0
    hidden: Any = None  # tensor [T, hidden_size]: final hidden states, where a proposer reads them
