"""One request's life in the engine: the one object that changes. The scheduler changes it.

    token_ids   |<---- prompt ---->|<- generated ->|
    KV          |<- computed ->|<- to compute ----->|
                0              num_computed_tokens  len(token_ids)

There is no prefill phase and no decode phase. A sequence is behind by `num_uncomputed_tokens`; each
step lets it catch up, and the step that reaches the end gives the next token. It knows no tensor.

Where steps are launched before the last one is read, the plan is ahead of what is known:

    token_ids   |<-------------- known -------------->|<- pending ->|
    KV          |<- computed ->|<-- in flight ------->|             num_tokens
                               num_computed_tokens    num_launched_tokens

A step in flight that verifies guesses may give several tokens, so the pending ones are from 1 to
1 + `num_launched_drafts`. All that is said without "at most" is of the fewest.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from thirdeye.server.engine.cache.grouped_blocks import BlockTables
from thirdeye.server.engine.interface.grammar_protocol import Matcher
from thirdeye.server.engine.interface.types import PromptProgress, Request, TokenLogprobs
from thirdeye.server.engine.scheduling.sequence_timings import SequenceTimings
from thirdeye.server.engine.scheduling.tenant_shares import TenantShare


class SequenceStatus(StrEnum):
    WAITING = "waiting"  # holds no block
    RUNNING = "running"  # holds blocks for its next step
    FINISHED = "finished"  # holds no block, its last output is given


@dataclass(slots=True)
class SequenceState:
    """Rows of the state cache that a running sequence holds."""

    own: int  # its own, as long as it runs
    current: int  # of the tokens below `num_computed_tokens`: its own, a snapshot, or `ZEROS`
    answer_hash: bytes | None = None  # of its snapshot of the answer: there is one, the latest


@dataclass(slots=True, eq=False)
class Sequence:
    """`max_tokens` is the request's, or less if the context is full earlier."""

    request: Request
    max_tokens: int
    arrival: int  # 0, 1, 2, ...: first come, first served within a tenant
    timings: SequenceTimings
    share: TenantShare = field(default_factory=TenantShare)  # of its tenant, at its priority
    turn: int | None = None  # 0, 1, 2, ...: when it was first admitted, which it keeps
    token_ids: list[int] = field(default_factory=list)
    num_prompt_tokens: int = 0
    status: SequenceStatus = SequenceStatus.WAITING
    num_computed_tokens: int = 0  # KV below is exactly that of these tokens
    num_launched_tokens: int = 0  # KV below will be computed by steps that are launched, if more
    num_launched_drafts: int = 0  # guesses that the last of these steps verifies behind it
    is_guessed_ahead: bool = False  # these are made on the device
    num_charged_tokens: int = 0  # below, tokens count as served: computing them again is free
    num_cached_tokens: int = 0  # prompt tokens found in the prefix cache when it was first admitted
    blocks: BlockTables = field(default_factory=BlockTables)
    block_hashes: list[bytes] = field(
        default_factory=list
    )  # of the leading full blocks of token_ids
    state: SequenceState | None = None  # where it lies, while it runs in a model that keeps one
    branch: int = 0  # a position to keep a snapshot of: others share the prefix up to there
    prompt_logprobs: list[TokenLogprobs] = field(
        default_factory=list
    )  # of tokens 1.., as they come
    hidden_sums: list[int] = field(default_factory=list)  # of an embedding, up to what is computed
    drafters: dict[Any, Any] = field(default_factory=dict)  # what each `Proposer` keeps of it
    draw_params: Any = None  # what sampling makes of its request, once that is asked for
    matcher: Matcher | None = None  # of its grammar, once it is ready
    num_preemptions: int = 0

    def __post_init__(self) -> None:
        prompt = self.request.prompt_token_ids
        self.token_ids = [*prompt, *self.request.answer_token_ids]
        self.num_prompt_tokens = len(prompt)

    @property
    def order(self) -> tuple[int, int]:
        """Who goes first of those admitted once: lower priority value, then earlier admission."""
        assert self.turn is not None, "it has no place in the order before it is admitted"
        return self.request.priority, self.turn

    @property
    def num_uncomputed_tokens(self) -> int:
        return len(self.token_ids) - self.num_computed_tokens

    # The next five run for each row of each step: none asks another, none calls max().

    @property
    def num_tokens(self) -> int:
        """With those that launched steps choose, and nobody has read: the pending ones."""
        known, launched = len(self.token_ids), self.num_launched_tokens
        return known if known > launched else launched + 1

    @property
    def num_uncertain_tokens(self) -> int:
        """By so many its pending tokens may be more than one, as guesses turn out."""
        is_pending = self.num_launched_tokens >= len(self.token_ids)
        return self.num_launched_drafts if is_pending else 0

    @property
    def num_planned_tokens(self) -> int:
        """Where the next step goes on."""
        computed, launched = self.num_computed_tokens, self.num_launched_tokens
        return computed if computed > launched else launched

    @property
    def num_unplanned_tokens(self) -> int:
        """`num_tokens` less `num_planned_tokens`."""
        known, launched = len(self.token_ids), self.num_launched_tokens
        computed = self.num_computed_tokens
        return (known if known > launched else launched + 1) - (
            computed if computed > launched else launched
        )

    @property
    def is_due(self) -> bool:
        """Whether the next step has something to do for it: not if its last token is pending."""
        launched = self.num_launched_tokens
        if launched < len(self.token_ids):
            return True  # none is pending
        return launched + 1 - self.num_prompt_tokens < self.max_tokens

    @property
    def block_table(self) -> list[int]:
        """Of the first group of layers, or the only one."""
        return self.blocks.tables[0] if self.blocks.tables else []

    @property
    def num_generated_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_prompt_logprobs_left(self) -> int:
        """Prompt tokens still to be scored; token 0 has no logprob."""
        if self.request.sampling.prompt_logprobs is None:
            return 0
        return self.num_prompt_tokens - 1 - len(self.prompt_logprobs)

    @property
    def needs_every_position(self) -> bool:
        """Whether its whole prompt must be computed: a prefix hit gives keys and values alone."""
        return self.num_prompt_logprobs_left > 0 or self.request.is_embedding

    def progress(self, now: float) -> PromptProgress:
        """Of its prompt, once it is admitted."""
        assert self.timings.admitted_at is not None
        return PromptProgress(
            num_prompt_tokens=self.num_prompt_tokens,
            num_cached_tokens=self.num_cached_tokens,
            num_computed_tokens=self.num_computed_tokens,
            elapsed_ms=(now - self.timings.admitted_at) * 1000,
        )

    def charge(self, end: int) -> None:
        """Count the tokens up to position `end`, which are now to be computed, as served."""
        if end > self.num_charged_tokens:
            self.share.served += end - max(self.num_computed_tokens, self.num_charged_tokens)
            self.num_charged_tokens = end
