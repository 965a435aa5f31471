"""Guesses by a head of the model itself that was trained for it: multi-token prediction (MTP).

The head is a model of one layer. For the token at position p it reads that token and the model's
final hidden state of the one before, and tells the token at p + 1 (DeepSeek-V3, arXiv:2412.19437,
section 2.2):

    position     0       1       2       3                4         5
    token        a       b       c       d                guess 1   guess 2
    hidden       zeros   of a    of b    of c             of d, by the head
                                         tells guess 1    tells guess 2

So the last real token, which the model computes in the step to come, is behind the head already. A
second guess goes on from the head's own hidden state, as in vLLM and SGLang; what is computed so is
cut off again, right or wrong, since the model's own hidden state is better.

Each step's hidden states are taken as they come (`stepped`): of a prompt's chunk they are used at
once, of an answer when the next guess is. The cache is the draft model's, one layer deep, with a
prefix cache of its own: an entry depends on the tokens up to its own, so blocks are found by the
same hashes; beside each block that is found lies the hidden state of its last token. A text of
which something is missing (a prefix whose blocks here are gone, a time in which nothing was
guessed) goes on without guesses.
"""

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.drafting.draft_model import DraftModel, Rows, Shadow, make_shadow
from thirdeye.server.engine.execution.model_runner import Runner
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.step_result import StepResult
from thirdeye.server.engine.scheduling.sequence import Sequence, SequenceStatus
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan

FEW = 16  # hidden states of an answer that may wait for the next guess


class HeadModel(Protocol):
    def with_hidden(self, batch: ForwardBatch, kv_cache: Any, /) -> tuple[Tensor, Tensor]: ...


class HeadStep:
    """The head as a runner's model: what it reads besides is laid down before a step, and what it
    made of it is there after."""

    def __init__(self, model: HeadModel, hidden_size: int, device: torch.device | str) -> None:
        self._model = model
        self.zeros = torch.zeros(1, hidden_size, device=device)  # before a text
        self.before = self.zeros
        self.after = self.zeros

    def __call__(self, batch: ForwardBatch, kv_cache: Any, /) -> Tensor:
        """`before` [T, hidden_size], or one row for all of a warm-up -> logits [S, vocab_size]."""
        before = self.before.expand(len(batch.input_ids), -1)
        logits, self.after = self._model.with_hidden(replace(batch, hidden=before), kv_cache)
        return logits

    def with_hidden(self, batch: ForwardBatch, kv_cache: Any, /) -> tuple[Tensor, Tensor]:
        return self(batch, kv_cache), self.after


@dataclass(slots=True, eq=False)
class HeadShadow(Shadow):
    """`before` are what the head reads with the tokens at positions `first`, `first + 1`, ..."""

    first: int = 0  # all below is computed
    before: Tensor = field(default_factory=lambda: torch.empty(0))
    last: Tensor = field(default_factory=lambda: torch.empty(0))  # [1, hidden_size], its own
    is_lost: bool = False

    def follow(self, token_ids: Seq[int]) -> None:
        """What was computed behind the known tokens was the head's own."""
        own = self.sequence
        own.num_computed_tokens = self.first
        own.token_ids[self.num_known :] = token_ids[self.num_known :]
        self.num_known = len(token_ids)

    @property
    def end(self) -> int:
        """Tokens up to here can be computed, if they are known."""
        return self.first + len(self.before)


class HeadProposer(DraftModel):
    """A `Proposer`."""

    def __init__(
        self,
        runner: Runner,
        step: HeadStep,
        config: EngineConfig,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`runner` runs `step`; `config` is of the head's own cache."""
        super().__init__(runner, config, *([] if clock is None else [clock]))
        self._step = step
        size = step.zeros.shape[-1]
        # Of the last token of each block that can be found.
        self._ends = torch.zeros(config.num_blocks, size, device=step.zeros.device)

    # --- hidden states come ---

    def stepped(self, plan: StepPlan, result: StepResult) -> None:
        super().stepped(plan, result)
        if self._account.is_off or self._has_failed:
            for row in plan.rows:
                self._lose(row.sequence.drafters.get(self))
            return
        self.guarded(lambda: self._take(plan, result), None)

    def _take(self, plan: StepPlan, result: StepResult) -> None:
        started = self._clock()
        pieces = torch.split(result.hidden, [row.num_scheduled_tokens for row in plan.rows])
        full: list[HeadShadow] = []
        for row, found, hidden in zip(plan.rows, result.rows, pieces, strict=True):
            if found.error is not None or not is_guessed(row.sequence):
                continue
            shadow: HeadShadow = row.sequence.drafters.get(self) or self._begin(row)
            num_right = max(len(found.token_ids) - 1, 0)
            if shadow.is_lost or shadow.end != row.start + 1:
                self._lose(shadow)
                continue
            num_new = row.real_end - row.start + num_right
            shadow.before = torch.cat([shadow.before, hidden[:num_new]])
            if len(shadow.before) > FEW:
                full.append(shadow)
        self._feed(full)
        self._account.guessed(self._clock() - started, 0.0)

    def _begin(self, row: PlanRow) -> HeadShadow:
        """At the first step of a text, or of one that was preempted."""
        sequence, num_found = row.sequence, row.start
        own = make_shadow(sequence, adapter=sequence.request.adapter)
        shadow = HeadShadow(own, self._account.new_text(), before=self._step.zeros)
        sequence.drafters[self] = shadow
        shadow.follow(sequence.token_ids)
        num_blocks, rest = divmod(num_found, self._pool.block_size)
        salt = own.request.prefix_salt
        self._pool.extend_hashes(own.block_hashes, own.token_ids[:num_found], salt)
        prefix = self._blocks.find_prefix(own.block_hashes, own.token_ids, num_blocks)
        if rest or prefix.num_blocks < num_blocks:
            shadow.is_lost = True
            return shadow
        own.blocks = self._blocks.start(prefix, num_found)
        own.num_computed_tokens = shadow.first = num_found
        if num_blocks:
            shadow.before = self._ends[own.block_table[-1]][None].clone()
        return shadow

    def _feed(self, shadows: Seq[HeadShadow]) -> None:
        """Compute what is there of some texts, and guess nothing."""
        rows: Rows = []
        for shadow in shadows:
            own, end = shadow.sequence, min(shadow.end, shadow.num_known)
            if not self._blocks.extend(own.blocks, end):
                self._lose(shadow)
            elif end > shadow.first:
                own.num_computed_tokens = start = shadow.first
                row = PlanRow(own, start, end, start, start, is_sampled=False)
                rows.append((shadow, row))
        if rows:
            self._run(rows)

    def _lose(self, shadow: HeadShadow | None) -> None:
        """Its text goes on without guesses."""
        if shadow is not None and not shadow.is_lost:
            self._blocks.free(shadow.sequence.blocks)
            shadow.is_lost = True
            shadow.before = shadow.last = self._step.zeros

    # --- guessing ---

    def _ready(self, sequence: Sequence, limit: int, cost: float) -> Shadow | None:
        shadow: HeadShadow | None = sequence.drafters.get(self)
        if shadow is None or shadow.is_lost:
            return None
        shadow.follow(sequence.token_ids)
        shadow.num_wanted = min(limit, shadow.rate.num_wanted(shadow.num_known, cost))
        num_tokens = shadow.num_known + shadow.num_wanted
        if not shadow.num_wanted or num_tokens > self._config.max_model_len:
            return None
        return shadow if self._blocks.extend(shadow.sequence.blocks, num_tokens) else None

    def _run(self, rows: Rows) -> list[Shadow]:
        self._step.before = torch.cat([hidden_before(shadow, row) for shadow, row in rows])
        due = super()._run(rows)
        ends = accumulate(row.num_scheduled_tokens for _, row in rows)
        for (shadow, row), end in zip(rows, ends, strict=True):
            assert isinstance(shadow, HeadShadow)
            shadow.last = self._step.after[end - 1 : end]
            if row.start < shadow.num_known:
                shadow.before = shadow.before[row.end - shadow.first :].clone()
                shadow.first = row.end
        return due

    def _publish(self, shadow: Shadow, row: PlanRow) -> None:
        """Blocks whose last token's hidden state is there: it is read with the token behind."""
        assert isinstance(shadow, HeadShadow)
        if not self._config.enable_prefix_caching:
            return
        own, size = row.sequence, self._pool.block_size
        salt = own.request.prefix_salt
        self._pool.extend_hashes(own.block_hashes, own.token_ids[: row.end], salt)
        for p in range(-(-row.start // size) * size, row.end, size):
            if p:
                i = p // size - 1
                self._ends[own.block_table[i]] = shadow.before[p - shadow.first]
                token_ids = own.token_ids[i * size : p]
                self._blocks.publish(own.blocks, i, own.block_hashes[i], token_ids)


def hidden_before(shadow: Shadow, row: PlanRow) -> Tensor:
    """Of the token before each of a row's: [num_scheduled_tokens, hidden_size]."""
    assert isinstance(shadow, HeadShadow)
    if row.start >= shadow.num_known:
        return shadow.last
    return shadow.before[row.start - shadow.first : row.end - shadow.first]


def is_guessed(sequence: Sequence) -> bool:
    """Whether it is going to have an answer of several tokens, with a grammar that can be looked
    at; and holds its blocks."""
    is_late = sequence.matcher is not None and sequence.matcher.late is not None
    is_running = sequence.status is SequenceStatus.RUNNING
    return is_running and sequence.max_tokens > 1 and not is_late
