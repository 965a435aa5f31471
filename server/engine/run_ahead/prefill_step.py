"""A step with a prompt's chunk in it: its shapes are its own, so it is computed eagerly.

It reads and writes the same state as the replayed steps, in the same two parts: the layers, whose
logits also score the prompts that want it, and then sampling.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.run_ahead.device_bitmask import MaskUpdate
from thirdeye.server.engine.run_ahead.device_sampler import (
    DeviceSampler,
    SamplingMode,
    score_prompt,
)
from thirdeye.server.engine.run_ahead.device_state import DeviceState, SlotField, StateUpdate
from thirdeye.server.engine.run_ahead.slot_table import SlotState
from thirdeye.server.engine.sampling.logprobs import NUM_TOP
from thirdeye.server.engine.scheduling.step_plan import PlanRow

Send = Callable[[list[int]], Tensor]


@dataclass(frozen=True, slots=True)
class PrefillIndices:
    """Where things are in a step, as lists of numbers on the device, int64."""

    pending: Tensor  # [P] tokens that the host does not know yet
    pending_slots: Tensor  # [P] where they are known
    afloat: Tensor  # [F] those of them whose positions the host does not know either
    afloat_rows: Tensor  # [F] their rows of the plan
    afloat_slots: Tensor  # [F] where they are known
    samples: Tensor  # [S] logits to sample from
    slots: Tensor  # [S] whose they are
    scores: Tensor  # [L] logits that score a prompt
    targets: Tensor  # [L] the tokens they score
    num_top: int  # likeliest that are told with each


def make_prefill_indices(
    rows: list[PlanRow], states: list[SlotState], send: Send
) -> PrefillIndices:
    """Logits come in row order: a row's prompt scores, its sample."""
    pending: list[tuple[int, int]] = []
    afloat: list[tuple[int, int]] = []
    afloat_slots: list[int] = []
    samples: list[tuple[int, int]] = []
    scores: list[tuple[int, int]] = []
    num_top, end, num_logits = NUM_TOP, 0, 0
    for b, (row, own) in enumerate(zip(rows, states, strict=True)):
        end += row.num_scheduled_tokens
        if row.num_pending_tokens:
            pending.append((end - 1, own.slot))
        if row.num_uncertain:
            afloat.append((end - 1, b))
            afloat_slots.append(own.slot)
        for position in range(row.score_start, row.score_end):
            scores.append((num_logits, row.sequence.token_ids[position + 1]))
            num_logits += 1
        if row.score_start < row.score_end:
            num_top = max(num_top, row.sequence.request.sampling.prompt_logprobs or 0)
        if row.is_sampled:
            samples.append((num_logits, own.slot))
            num_logits += 1
    indices, owners = _unzip(pending, send)
    floating, floating_rows = _unzip(afloat, send)
    sampled, slots = _unzip(samples, send)
    scored, targets = _unzip(scores, send)
    return PrefillIndices(
        pending=indices,
        pending_slots=owners,
        afloat=floating,
        afloat_rows=floating_rows,
        afloat_slots=send(afloat_slots),
        samples=sampled,
        slots=slots,
        scores=scored,
        targets=targets,
        num_top=num_top,
    )


def _unzip(pairs: list[tuple[int, int]], send: Send) -> tuple[Tensor, Tensor]:
    return send([left for left, _ in pairs]), send([right for _, right in pairs])


class PrefillStep:
    """`begin`, then `sample`. Nothing in it is read on the host."""

    def __init__(
        self,
        forward: Callable[[ForwardBatch], Tensor],
        state: DeviceState,
        sampler: DeviceSampler,
        batch: ForwardBatch,
        block_size: int,
        update: StateUpdate,
        indices: PrefillIndices,
        mode: SamplingMode,
    ) -> None:
        self._forward, self._state, self._sampler = forward, state, sampler
        self._batch, self._update, self._indices, self._mode = batch, update, indices, mode
        self._block_size = block_size
        self._logits: Tensor | None = None  # [S, vocab_size], between the two

    def begin(self) -> Tensor:
        """Compute the layers -> what is said of the prompts, [L, W]."""
        self._state.apply(self._update)
        indices = self._indices
        if len(indices.pending):
            tokens = self._state.table[:, SlotField.TOKEN].index_select(0, indices.pending_slots)
            self._batch.input_ids.index_copy_(0, indices.pending, tokens.long())
        if len(indices.afloat):
            self._place_afloat()
        logits = self._forward(self._batch).float()  # [S + L, vocab_size]
        if not len(indices.scores):
            self._logits = logits
            return torch.empty(0, 2, dtype=torch.int64, device=logits.device)
        self._logits = logits.index_select(0, indices.samples)
        scored = logits.index_select(0, indices.scores)  # [L, vocab_size]
        return score_prompt(scored, indices.targets, indices.num_top)

    def _place_afloat(self) -> None:
        """Where rows stand that go on behind guesses, [F]; and then they stand one further."""
        batch, indices, size = self._batch, self._indices, self._block_size
        places, rows, slots = indices.afloat, indices.afloat_rows, indices.afloat_slots
        positions = self._state.table[:, SlotField.POSITION].index_select(0, slots).long()
        batch.positions.index_copy_(0, places, positions)
        batch.seq_lens.index_copy_(0, rows, (positions + 1).int())
        for group in batch.by_group():
            table = group.block_table.index_select(0, rows)  # [F, M]
            blocks = table.gather(1, (positions // size)[:, None])[:, 0].long()
            group.slot_mapping.index_copy_(0, places, blocks * size + positions % size)
        self._state.advance(slots)

    def sample(self, masks: MaskUpdate | None) -> Tensor:
        """The tokens of the sampled rows, [S, W]."""
        assert self._logits is not None, "there are no logits to sample from"
        slots = self._indices.slots
        if not len(slots):
            return torch.empty(0, 2, dtype=torch.int64, device=slots.device)
        self._state.masks.apply(masks)
        positions = self._state.table[:, SlotField.POSITION].index_select(0, slots).long()
        logits, self._logits = self._logits, None  # not to be kept until the step is read
        return self._sampler(logits, slots, positions, self._mode)
