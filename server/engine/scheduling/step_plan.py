"""What the scheduler asks of a step, row by row; `StepResult` answers in the same order."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from thirdeye.server.engine.scheduling.sequence import Sequence

ZEROS = -1  # the source of a span that begins with its sequence
UNREAD = -1  # a guess that the device makes, and nobody has read


class StateSpan(NamedTuple):
    """Consecutive tokens of a row, up to position `end`: where the state lies that they go on from,
    and where it is written that they leave. A row's spans follow each other."""

    end: int
    source: int  # a row of the state cache, or `ZEROS`
    target: int
    is_taken: bool = False  # the target is held by this step, not by its sequence


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One sequence's share of a step: compute the KV of its tokens at positions `[start, end)`.

        positions   |<- computed ->|<- real tokens ->|<- draft_token_ids ->|
                                 start            real_end                end

    Logits at position p tell about token p + 1. They are wanted at `[score_start, score_end)` for
    logprobs of the prompt, and at `[real_end - 1, end)` if the row `is_sampled`: the first gives a
    new token, each further one gives another if its draft turns out to be the token before it.
    Drafts are guesses beyond the sequence's `token_ids`; only a sampled row may have them.

    While a step in flight verifies guesses, nobody knows where the next one goes on: it begins, and
    ends, by 0 to `num_uncertain` positions later than it says, and `settled` is how it was.
    """

    sequence: Sequence
    start: int
    end: int
    score_start: int
    score_end: int
    is_sampled: bool
    draft_token_ids: tuple[int, ...] = ()
    state_spans: tuple[StateSpan, ...] = ()  # all its tokens, in a model whose layers keep states
    num_uncertain: int = 0
    is_guessed_ahead: bool = False  # its drafts are `UNREAD` until the step was read

    # What follows from these is asked for several times in each step, so it is told once.
    real_end: int = field(init=False)  # of what is certain: drafts' KV is stale if not accepted
    num_scheduled_tokens: int = field(init=False)
    num_samples: int = field(init=False)  # positions that are sampled, the last of the row
    is_embedding: bool = field(init=False)  # whether all its hidden states are wanted, too

    def __post_init__(self) -> None:
        num_drafts = len(self.draft_token_ids)
        tell = object.__setattr__  # as dataclasses do themselves where an object is frozen
        tell(self, "real_end", self.end - num_drafts)
        tell(self, "num_scheduled_tokens", self.end - self.start)
        tell(self, "num_samples", 1 + num_drafts if self.is_sampled else 0)
        tell(self, "is_embedding", self.sequence.request.is_embedding)

    @property
    def is_decoded(self) -> bool:
        """Whether it computes the newest token of an answer, and drafts."""
        return self.is_sampled and self.real_end - self.start == 1

    @property
    def end_at_most(self) -> int:
        return self.end + self.num_uncertain

    def settled(self) -> "PlanRow":
        """The same once all steps before it were read."""
        if not self.num_uncertain:
            return self
        start = len(self.sequence.token_ids) - 1
        end = start + self.num_scheduled_tokens
        return replace(
            self, start=start, end=end, score_start=start, score_end=start, num_uncertain=0
        )

    @property
    def num_pending_tokens(self) -> int:
        """1 if its last real token is one that a step in flight chooses, else 0: so it is told
        anew, when that step has been read it is 0."""
        return max(0, self.real_end - len(self.sequence.token_ids))

    @property
    def token_ids(self) -> list[int]:
        """The tokens at positions `[start, end)`, with 0 for one that is pending."""
        real = self.sequence.token_ids[self.start : self.real_end]
        num_pending = self.real_end - self.start - len(real)
        return [*real, *[0] * num_pending, *self.draft_token_ids]


@dataclass(frozen=True, slots=True)
class StepPlan:
    rows: list[PlanRow]

    @property
    def num_scheduled_tokens(self) -> int:
        return sum([row.num_scheduled_tokens for row in self.rows])
