"""Guesses by a smaller model of the same vocabulary.

It keeps keys and values of its own, in a pool of its own, and is behind a text by what it has not
computed, as any sequence is. For each text that it guesses for it has a `Sequence`, the shadow:

    text      |<------------ known ------------->|
    shadow    |<- computed ->|<- to catch up --->|<- its guesses ->|

What the text became is compared with the guesses before the next ones: as far as they agree, keys
and values are right and stay; behind that they are cut off. So nothing has to be told about what
was accepted, and whatever becomes of a text (another token, a preemption, a step that failed), a
shadow can only be behind. It catches up by a chunk a step, and guesses when it is there.

Where steps are launched ahead its guesses are made on the device (`draft_ahead.py`).

A guess is chosen as the target would choose from the same logits: by the request's temperature,
seed, penalties and grammar, with the noise of the position. Where both models agree about a
distribution, they so agree about the token.
"""

import logging
import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TypeVar

import torch
from msgspec.structs import replace

from thirdeye.server.engine.cache.block_pool import BlockPool
from thirdeye.server.engine.cache.grouped_blocks import GroupedBlocks
from thirdeye.server.engine.drafting.worth import GuessAccount, TextRate
from thirdeye.server.engine.execution.model_runner import Runner
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.step_result import StepResult
from thirdeye.server.engine.interface.types import EngineDead, Request
from thirdeye.server.engine.scheduling.prefixes import Prefixes
from thirdeye.server.engine.scheduling.sequence import Sequence, SequenceStatus
from thirdeye.server.engine.scheduling.sequence_states import NoStates
from thirdeye.server.engine.scheduling.sequence_timings import SequenceTimings
from thirdeye.server.engine.scheduling.speculation.proposer import (
    DraftAsk,
    DraftRoom,
    ProposerCounts,
)
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan

T = TypeVar("T")
logger = logging.getLogger(__name__)

CATCH_UP = 256  # tokens of texts in one step: as long as a prompt's chunk may be
FEW_BEHIND = 4  # tokens that a row computes in about the time of one


@dataclass(slots=True, eq=False)
class Shadow:
    """A text as the draft model knows it."""

    sequence: Sequence
    rate: TextRate
    num_known: int = 0  # tokens of the text; behind them are guesses
    num_wanted: int = 0  # guesses in this step

    @property
    def end(self) -> int:
        """Tokens up to here can be computed now."""
        return self.num_known

    @property
    def guesses(self) -> list[int]:
        return self.sequence.token_ids[self.num_known :]

    def follow(self, token_ids: Seq[int]) -> None:
        """The text has become this: keep what was computed of it."""
        own = self.sequence
        end, new = self.num_known, token_ids[self.num_known :]
        for token_id in new:
            if end >= len(own.token_ids) or own.token_ids[end] != token_id:
                break
            end += 1
        own.num_computed_tokens = min(own.num_computed_tokens, end)
        own.token_ids[self.num_known :] = new
        self.num_known = len(token_ids)


Rows = list[tuple[Shadow, PlanRow]]


class DraftModel:
    """A `Proposer`. Not for models whose layers keep a state: that cannot be cut off."""

    _make_shadow: type[Shadow] = Shadow

    def __init__(
        self,
        runner: Runner,
        config: EngineConfig,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`config` and `runner` are of the draft model: its blocks, its context, its cache."""
        self._runner, self._config, self._clock = runner, config, clock
        self._pool = BlockPool(config.num_blocks, config.block_size)
        self._blocks = GroupedBlocks(config, self._pool)
        self._prefixes = Prefixes(config, self._pool, NoStates())
        self._eos = frozenset(config.eos_token_ids)
        self._account = GuessAccount()
        self._seconds = 0.0
        self._num_texts = 1
        self._has_failed = False

    # --- what the scheduler asks and tells ---

    @property
    def reads_newest(self) -> bool:
        """It is not for steps that are launched ahead."""
        return False

    def propose(self, asks: Seq[DraftAsk], room: DraftRoom) -> list[list[int]]:
        nothing: list[list[int]] = [[] for _ in asks]
        num_cheap = min(room.num_cheap, room.num_all)
        if not asks or num_cheap <= 0 or self._has_failed:
            return nothing
        if not self._account.may_guess(len(asks)):
            return nothing
        return self.guarded(lambda: self._guess(asks, num_cheap), nothing)

    def guarded(self, work: Callable[[], T], otherwise: T) -> T:
        """Do something that takes time and may fail: nobody needs a guess."""
        started = self._clock()
        try:
            return work()
        except (torch.AcceleratorError, EngineDead):
            raise
        except Exception:
            logger.exception("the draft model failed: nothing is guessed any more")
            self._has_failed = True
            return otherwise
        finally:
            self._seconds += self._clock() - started

    def release(self, sequence: Sequence) -> None:
        shadow: Shadow | None = sequence.drafters.pop(self, None)
        if shadow is not None:
            self._blocks.free(shadow.sequence.blocks)

    def judge(self, row: PlanRow, num_right: int) -> None:
        num_guesses = len(row.draft_token_ids)
        shadow: Shadow | None = row.sequence.drafters.get(self)
        if shadow is not None:
            shadow.rate.judge(num_right, num_guesses)
        self._account.judge(num_right, num_guesses, self._num_texts)

    def stepped(self, plan: StepPlan, result: StepResult) -> None:
        if all(row.num_scheduled_tokens == row.num_samples for row in plan.rows):
            self._num_texts = len(plan.rows)
            if seconds := result.forward_seconds + result.sample_seconds:  # else it was not alone
                self._account.step(seconds, plan.num_scheduled_tokens)

    def counts(self) -> ProposerCounts:
        return ProposerCounts(self._seconds, self._has_failed or self._account.is_off)

    # --- guessing ---

    def _guess(self, asks: Seq[DraftAsk], num_cheap: int) -> list[list[int]]:
        started = self._clock()
        cost = self._account.cost
        shadows = [
            self._ready(ask.sequence, limit, cost) if limit else None
            for ask, limit in zip(asks, limits_of(asks, num_cheap), strict=True)
        ]
        rounds: list[float] = []
        rows = self._catch_up([shadow for shadow in shadows if shadow is not None])
        while rows:
            round_started = self._clock()
            due = self._run(rows)
            seconds = self._clock() - round_started
            if all(row.num_scheduled_tokens <= FEW_BEHIND for _, row in rows):
                rounds.append(seconds)
            else:
                num_tokens = sum(row.num_scheduled_tokens for _, row in rows)
                self._account.caught_up(seconds, num_tokens)
            rows = [(shadow, next_row(shadow.sequence)) for shadow in due]
        round_seconds = sum(rounds) / len(rounds) if rounds else 0.0
        self._account.guessed(self._clock() - started, round_seconds)
        return [shadow.guesses if shadow is not None else [] for shadow in shadows]

    def _ready(self, sequence: Sequence, limit: int, cost: float) -> Shadow | None:
        """The shadow of a text, if guesses are worth it and there is room for them."""
        shadow = self._shadow_of(sequence)
        shadow.num_wanted = min(limit, shadow.rate.num_wanted(shadow.num_known, cost))
        num_tokens = shadow.num_known + shadow.num_wanted
        if not shadow.num_wanted or not self._has_room(shadow, sequence, num_tokens):
            return None
        return shadow

    def _shadow_of(self, sequence: Sequence) -> Shadow:
        """It knows the text as it is now."""
        shadow: Shadow | None = sequence.drafters.get(self)
        if shadow is None:
            shadow = self._make_shadow(make_shadow(sequence), self._account.new_text())
            sequence.drafters[self] = shadow
        shadow.follow(sequence.token_ids)
        return shadow

    def _has_room(self, shadow: Shadow, sequence: Sequence, num_tokens: int) -> bool:
        """Blocks for so many tokens, if it pays to catch up with what is known of them."""
        own = shadow.sequence
        if num_tokens > self._config.max_model_len:
            return False
        num_behind = shadow.num_known - own.num_computed_tokens
        num_left = sequence.max_tokens - sequence.num_generated_tokens
        rate = shadow.rate.rate
        if num_behind > FEW_BEHIND and not self._account.pays(rate, num_behind, num_left):
            return False
        if not own.blocks.tables:
            prefix = self._prefixes.find(own)
            num_found = self._pool.num_free_among(prefix.found.held())
            if self._blocks.num_new(prefix, num_tokens) + num_found > self._pool.num_free:
                return False
            own.blocks = self._blocks.start(prefix, num_tokens)
            own.num_computed_tokens = prefix.num_blocks * self._pool.block_size
        return self._blocks.extend(own.blocks, num_tokens)

    def _catch_up(self, shadows: Seq[Shadow]) -> Rows:
        """What is known of the texts and not computed, in their order, within a chunk."""
        left, rows = CATCH_UP, Rows()
        for shadow in shadows:
            own = shadow.sequence
            start = own.num_computed_tokens
            end = min(shadow.end, start + left)
            left -= end - start
            if end > start:
                is_there = end == shadow.num_known
                rows.append((shadow, PlanRow(own, start, end, start, start, is_sampled=is_there)))
        return rows

    def _run(self, rows: Rows) -> list[Shadow]:
        """Compute; a guess more for each whose text is computed. Those that go on."""
        result = self._runner.run(StepPlan([row for _, row in rows]))
        still: list[Shadow] = []
        for (shadow, row), found in zip(rows, result.rows, strict=True):
            own = shadow.sequence
            own.num_computed_tokens = row.end
            if row.end <= shadow.num_known:
                self._publish(shadow, row)
            if not row.is_sampled:
                continue
            if found.error is not None:  # it cost as much as a wrong one
                shadow.rate.judge(0, 1)
                self._account.judge(0, 1, self._num_texts)
                continue
            if self._is_end(own.request, found.token_ids):
                continue
            own.token_ids += found.token_ids
            if len(shadow.guesses) < shadow.num_wanted and not found.is_complete:
                still.append(shadow)
        return still

    def _publish(self, shadow: Shadow, row: PlanRow) -> None:  # noqa: ARG002  # a head's are its own
        self._prefixes.publish(row)

    def _is_end(self, request: Request, token_ids: list[int]) -> bool:
        """Behind the last token of an answer nothing is of use, and so it is itself."""
        return token_ids[0] in self._eos and not request.sampling.ignore_eos

    def check_integrity(self, running: Seq[Sequence]) -> None:
        """Every block is accounted for by the shadows of the running sequences alone."""
        shadows: list[Shadow | None] = [sequence.drafters.get(self) for sequence in running]
        self._blocks.check_integrity(s.sequence.blocks for s in shadows if s is not None)


def limits_of(asks: Seq[DraftAsk], num_cheap: int) -> list[int]:
    """The most for each: all have about as many."""
    share, rest = divmod(num_cheap, len(asks))
    return [min(ask.limit, share + (i < rest)) for i, ask in enumerate(asks)]


def next_row(sequence: Sequence) -> PlanRow:
    """Its last guess is computed, and tells the next."""
    end = len(sequence.token_ids)
    return PlanRow(sequence, end - 1, end, end - 1, end - 1, is_sampled=True)


def make_shadow(sequence: Sequence, adapter: int = 0) -> Sequence:
    """Without what is asked for beside tokens."""
    request = sequence.request
    sampling = replace(request.sampling, logprobs=None, prompt_logprobs=None)
    shadow = Sequence(
        request=replace(request, sampling=sampling, adapter=adapter),
        max_tokens=sequence.max_tokens,
        arrival=sequence.arrival,
        timings=SequenceTimings(arrived_at=0.0),
        status=SequenceStatus.RUNNING,
        matcher=sequence.matcher,
    )
    shadow.token_ids = []
    return shadow
