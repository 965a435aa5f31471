"""What the scheduler asks of a step, row by row; `StepResult` answers in the same order."""

from dataclasses import dataclass

from thirdeye.server.engine.scheduling.sequence import Sequence


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One sequence's share of a step: compute the KV of its tokens at positions `[start, end)`.

        positions   |<- computed ->|<- real tokens ->|<- draft_token_ids ->|
                                 start            real_end                end

    Logits at position p tell about token p + 1. They are wanted at `[score_start, score_end)` for
    logprobs of the prompt, and at `[real_end - 1, end)` if the row `is_sampled`: the first gives a
    new token, each further one gives another if its draft turns out to be the token before it.
    Drafts are guesses beyond the sequence's `token_ids`; only a sampled row may have them.
    """

    sequence: Sequence
    start: int
    end: int
    score_start: int
    score_end: int
    is_sampled: bool
    draft_token_ids: tuple[int, ...] = ()

    @property
    def real_end(self) -> int:
        """The end of what is certain: the KV of drafts is stale unless they are accepted."""
        return self.end - len(self.draft_token_ids)

    @property
    def num_pending_tokens(self) -> int:
        """1 if its last real token is one that a step in flight chooses, else 0."""
        return max(0, self.real_end - len(self.sequence.token_ids))

    @property
    def token_ids(self) -> list[int]:
        """The tokens at positions `[start, end)`, with 0 for one that is pending."""
        real = self.sequence.token_ids[self.start : self.real_end]
        return [*real, *[0] * self.num_pending_tokens, *self.draft_token_ids]

    @property
    def num_samples(self) -> int:
        """Positions that are sampled, the last of the row."""
        return 1 + len(self.draft_token_ids) if self.is_sampled else 0

    @property
    def is_embedding(self) -> bool:
        """Whether the hidden states of all its tokens are wanted, too."""
        return self.sequence.request.is_embedding

    @property
    def num_scheduled_tokens(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class StepPlan:
    rows: list[PlanRow]

    @property
    def num_scheduled_tokens(self) -> int:
        return sum(row.num_scheduled_tokens for row in self.rows)
