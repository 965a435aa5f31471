"""Speculation in a batch: who drafts in a step, with what room, and what became of it.

A draft is a guess beyond a sequence's tokens. It is computed in the same step as the last real
token, like a prompt token, and the step says which drafts are what would have been sampled anyway.
Drafts live on leftovers: the budget that is left, blocks that are free, and only in small steps. A
small step is bound by reading the weights, so a few more tokens cost it little: up to half of
`max_tokens_with_drafts` any reasonable guess is worth it, up to the whole only one that is nearly
certain. Nothing ever waits for drafts: the blocks of rejected ones are free again at once.

Where steps are launched ahead, the tokens of the step before are pending, and of one that verifies
guesses nobody knows how many there are. A guess is then for the places behind all that may be
pending, and its row says by how much it may be wrong about where it begins. What looks back at the
tokens before (grammars, penalties) would have to look at guesses on the device: such rows have
none. Drafts are then decode steps' alone, and leave a free block to each sequence. A model's
guesses are made on the device, from tokens that nobody has read, and are themselves read with the
step that verifies them (`UNREAD`). Only where that model has to catch up with a text is the step in
flight read first (`reads_newest`).

Guessing itself is a `Proposer`'s (`server/engine/drafting/`); which guesses are right is told by
`server/engine/execution/model_runner.py`.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any

from thirdeye.server.engine.cache.block_pool import BlockPool
from thirdeye.server.engine.cache.grouped_blocks import GroupedBlocks
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.grammar_protocol import Matcher
from thirdeye.server.engine.interface.step_result import StepResult
from thirdeye.server.engine.interface.types import Request
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.sequence_states import States
from thirdeye.server.engine.scheduling.speculation.proposer import (
    DraftAsk,
    DraftRoom,
    NoGuesses,
    Proposer,
)
from thirdeye.server.engine.scheduling.step_plan import UNREAD, PlanRow, StepPlan


class Speculator:
    """`draft` lengthens the rows of a step that is about to run; `settle` takes each one back."""

    def __init__(
        self, config: EngineConfig, pool: BlockPool, proposer: Proposer | None = None
    ) -> None:
        self._num_draft_tokens = config.num_draft_tokens
        self._max_tokens = min(config.max_tokens_with_drafts, config.max_num_batched_tokens)
        self._blocks = GroupedBlocks(config, pool)
        self._proposer = proposer or NoGuesses()
        self._is_ahead = config.steps_ahead > 0
        if self._is_ahead and not config.most_rows_verified:
            self._num_draft_tokens = 0
        self.num_drafted = self.num_accepted = 0

    def draft(self, rows: list[PlanRow], states: States) -> list[PlanRow]:
        """The same rows in the same order, those of decoding sequences perhaps with drafts."""
        room = self._max_tokens - sum([row.num_scheduled_tokens for row in rows])
        if room <= 0 or not self._num_draft_tokens:
            return rows
        if self._is_ahead and not all(is_of_guessed_step(row) for row in rows):
            return rows
        most = states.num_drafts(min(self._num_draft_tokens, room))
        limits = [self._limit_of(row, most) for row in rows]
        asks = [
            DraftAsk(row.sequence, limit, num_ahead_of(row))
            for row, limit in zip(rows, limits, strict=True)
            if limit
        ]
        if not asks:
            return rows
        guesses = iter(self._proposer.propose(asks, DraftRoom(room - self._max_tokens // 2, room)))
        drafted: list[PlanRow] = []
        for row, limit in zip(rows, limits, strict=True):
            longer = row
            if limit:
                longer = self._lengthen(row, next(guesses)[:room], states, len(rows))
            room -= len(longer.draft_token_ids)
            drafted.append(longer)
        return drafted

    def reads_newest(self, running: Seq[Sequence]) -> bool:
        """Whether the next step, if all of these are in it, may have guesses by what has to know
        their newest tokens."""
        if not (self._is_ahead and self._num_draft_tokens and self._proposer.reads_newest):
            return False
        num_cheap = self._max_tokens - self._max_tokens // 2 - len(running)
        is_decode = all(sequence.num_unplanned_tokens <= 1 for sequence in running)
        return num_cheap > 0 and is_decode and any(has_no_look_back(s.request) for s in running)

    def _limit_of(self, row: PlanRow, most: int) -> int:
        may_guess = not self._is_ahead or has_no_look_back(row.sequence.request)
        return limit_of(row, most) if may_guess else 0

    def _lengthen(self, row: PlanRow, guesses: list[int], states: States, num_rows: int) -> PlanRow:
        if not guesses:
            return row
        drafts = guesses[: states.num_drafts(len(guesses))]
        drafts = drafts[: self._ensure_blocks(row, len(drafts), num_rows)]
        if not drafts:
            return row
        self.num_drafted += len(drafts)
        return replace(
            row,
            end=row.end + len(drafts),
            draft_token_ids=tuple(drafts),
            is_guessed_ahead=drafts[0] == UNREAD,
            state_spans=states.draft_spans(row, len(drafts)),
        )

    def undrafted(self, row: PlanRow) -> PlanRow:
        """The row without its drafts: nobody computes them."""
        if not row.draft_token_ids:
            return row
        self.num_drafted -= len(row.draft_token_ids)
        return replace(row, end=row.real_end, draft_token_ids=(), is_guessed_ahead=False)

    def release(self, sequence: Sequence) -> None:
        """It has ended, or lost its blocks."""
        self._proposer.release(sequence)

    def _ensure_blocks(self, row: PlanRow, num_drafts: int, num_rows: int) -> int:
        """How many drafts have a slot, with blocks taken for all of them if so many are free.

        Steps that are launched ahead: with a slot behind them for the next step's token, which may
        be there, so that no step has to find room for what was guessed; and a block is left to
        each row, since what is guessed in vain is given back a step late.
        """
        num_tokens, blocks = row.real_end + row.num_uncertain, row.sequence.blocks
        num_behind = int(self._is_ahead)
        num_spare = self._blocks.pool.num_free - num_behind * num_rows * self._blocks.num_groups
        num_more = self._blocks.pool.num_blocks_for(num_drafts + num_behind) + 1
        if not self._is_ahead or num_spare >= num_more * self._blocks.num_groups:
            self._blocks.extend(blocks, num_tokens + num_drafts + num_behind)
        num_slots = self._blocks.num_held_tokens(blocks) - num_tokens - num_behind
        return max(0, min(num_drafts, num_slots))

    def stepped(self, plan: StepPlan, result: StepResult) -> None:
        """A step is computed, whose drafts are not judged yet."""
        self._proposer.stepped(plan, result)

    @property
    def draft_seconds(self) -> float:
        """In which a model guessed."""
        return self._proposer.counts().draft_seconds_total

    def stats(self) -> dict[str, Any]:
        """The fields of `EngineStats` that are counted here."""
        return {
            "spec_decode_num_draft_tokens_total": self.num_drafted,
            "spec_decode_num_accepted_tokens_total": self.num_accepted,
            **self._proposer.counts()._asdict(),
        }

    def release_rejected(self, row: PlanRow, num_accepted: int) -> None:
        """Count, and free the blocks that only rejected drafts had needed."""
        if not row.draft_token_ids:
            return
        self.num_accepted += num_accepted
        self._proposer.judge(row, num_accepted)
        sequence = row.sequence
        num_tokens = len(sequence.token_ids)
        if self._is_ahead:  # what the step in flight may need stays
            num_tokens = sequence.num_tokens + sequence.num_uncertain_tokens
        self._blocks.cut(sequence.blocks, num_tokens)


def limit_of(row: PlanRow, most: int) -> int:
    """How many drafts a row may have, of so many: none if it does not decode."""
    if not row.is_sampled or not _has_masks(row):
        return 0
    num_generated = row.real_end + row.num_uncertain - row.sequence.num_prompt_tokens
    num_left = row.sequence.max_tokens - num_generated
    return max(0, min(most, num_left - 1))  # a step gives one token more


def num_ahead_of(row: PlanRow) -> int:
    """Tokens between a row's text and its first draft: those in flight, at most."""
    return row.real_end + row.num_uncertain - len(row.sequence.token_ids)


def has_no_look_back(request: Request) -> bool:
    """Whether what a request asks of its logits is the same whatever the tokens before are."""
    return not (request.is_constrained or request.sampling.is_penalized or request.adapter)


def is_of_guessed_step(row: PlanRow) -> bool:
    """Whether a step that is launched ahead, with this row in it, may verify guesses. What the
    device's state has no room for is computed step by step (`Launcher.can_launch`), and whatever
    was guessed for the others of that step would be thrown away."""
    request = row.sequence.request
    return row.is_decoded and not request.adapter and request.sampling.penalty_window < 0


def _has_masks(row: PlanRow) -> bool:
    """Whether it can be told at once what may follow a guess."""
    matcher = row.sequence.matcher
    return matcher is None or matcher.late is None


@dataclass(frozen=True, slots=True)
class DraftedHistory:
    """A sequence as it will be if its first drafts are right: what processors see at a draft."""

    request: Request
    token_ids: list[int]
    num_prompt_tokens: int
    matcher: Matcher | None

    @property
    def num_generated_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens


def histories(row: PlanRow) -> Iterator[Sequence | DraftedHistory]:
    """What lies behind each sample of a row: its sequence, then one draft more each time."""
    sequence = row.sequence
    yield sequence
    for stop in range(1, row.num_samples):
        token_ids = [*sequence.token_ids, *row.draft_token_ids[:stop]]
        yield DraftedHistory(
            sequence.request, token_ids, sequence.num_prompt_tokens, sequence.matcher
        )
