"""One request's life in the engine: the one object that changes. The scheduler changes it.

    token_ids   |<---- prompt ---->|<- generated ->|
    KV          |<- computed ->|<- to compute ----->|
                0              num_computed_tokens  len(token_ids)

There is no prefill phase and no decode phase. A sequence is behind by `num_uncomputed_tokens`; each
step lets it catch up, and the step that reaches the end gives the next token. It knows no tensor.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from server.engine.lookup import Drafter
from server.engine.types import Request, Timings, TokenLogprobs


class SequenceStatus(StrEnum):
    WAITING = "waiting"  # holds no block
    RUNNING = "running"  # holds the blocks of all its tokens
    FINISHED = "finished"  # holds no block, its last output is given


@dataclass(slots=True, eq=False)
class Sequence:
    """`max_tokens` is the request's, or less if the context is full earlier. Times in seconds."""

    request: Request
    max_tokens: int
    arrival: int  # 0, 1, 2, ...: first come, first served
    arrived_at: float
    token_ids: list[int] = field(default_factory=list)
    num_prompt_tokens: int = 0
    status: SequenceStatus = SequenceStatus.WAITING
    num_computed_tokens: int = 0  # KV below is exactly that of these tokens
    num_cached_tokens: int = 0  # prompt tokens found in the prefix cache when it was first admitted
    block_table: list[int] = field(default_factory=list)
    block_hashes: list[bytes] = field(
        default_factory=list
    )  # of the leading full blocks of token_ids
    prompt_logprobs: list[TokenLogprobs] = field(
        default_factory=list
    )  # of tokens 1.., as they come
    admitted_at: float | None = None
    first_token_at: float | None = None
    drafter: Drafter | None = None  # once it has decoded in a small batch
    num_steps: int = 0
    num_preemptions: int = 0

    def __post_init__(self) -> None:
        self.token_ids = list(self.request.prompt_token_ids)
        self.num_prompt_tokens = len(self.token_ids)

    @property
    def order(self) -> tuple[int, int]:
        """Who goes first: lower priority value, then earlier arrival. Never changes."""
        return self.request.priority, self.arrival

    @property
    def num_uncomputed_tokens(self) -> int:
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def num_generated_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_prompt_logprobs_left(self) -> int:
        """Prompt tokens still to be scored; token 0 has no logprob."""
        if self.request.sampling.prompt_logprobs is None:
            return 0
        return self.num_prompt_tokens - 1 - len(self.prompt_logprobs)

    def timings(self, now: float) -> Timings:
        """Where the time went until `now`; a part that was never reached took none."""
        admitted_at = now if self.admitted_at is None else self.admitted_at
        first_token_at = now if self.first_token_at is None else self.first_token_at
        return Timings(
            queue_ms=(admitted_at - self.arrived_at) * 1000,
            prefill_ms=(first_token_at - admitted_at) * 1000,
            decode_ms=(now - first_token_at) * 1000,
            total_ms=(now - self.arrived_at) * 1000,
            num_steps=self.num_steps,
            num_preemptions=self.num_preemptions,
        )
