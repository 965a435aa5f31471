"""The decode step as one function of fixed shapes, which never asks the host anything.

    slots -> tokens, positions, block tables -> layers -> logits -> sample -> tokens, positions + 1

Each row's input is what the step before it left on the device, so a step can be launched before
anybody has read the one before. A usual step, whose rows are greedy or drawn, is one graph for its
bucket of rows; graphs are captured in advance, on scrap rows, which change nothing.

All other steps (penalties, biases, logprobs, grammars) are cut behind the logits: a graph of the
layers for their bucket, and then some small kernels that are launched one by one. So there are few
graphs and none is captured while somebody waits. A grammar's mask is known only when the token
before has been read, and the device need not wait for that to compute the layers.

A step that verifies guesses is like any other, with a row for each guess. Of small ones there is a
graph for each bucket that ends by finding out which guesses are right.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch, GroupBlocks, LookUp
from thirdeye.model.placement import can_fuse
from thirdeye.server.engine.run_ahead.cuda_graphs import Capture, Step
from thirdeye.server.engine.run_ahead.device_sampler import (
    GREEDY_MODE,
    MAX_WIDTH,
    DeviceSampler,
    SamplingMode,
)
from thirdeye.server.engine.run_ahead.device_state import DeviceState, SlotField
from thirdeye.server.engine.sampling.logprobs import NUM_TOP


@dataclass(frozen=True, slots=True)
class DecodeRows:
    """The rows of a decode step, as they stand on the device."""

    slots: Tensor  # [B] int64
    positions: Tensor  # [B] int64, of their newest tokens, or of the drafts behind these
    batch: ForwardBatch


class DecodeGraphs:
    """`replay(bucket, mode)` computes the first `bucket` of `state.rows`; or `begin(bucket)` does
    all but sampling, and `sample(bucket, mode)` the rest."""

    def __init__(
        self,
        forward: Callable[[ForwardBatch], Tensor],
        state: DeviceState,
        sampler: DeviceSampler,
        block_size: int,
        vocab_size: int,
        capture: Capture,
        look_up: LookUp | None = None,
        largest_verified: int = 0,
    ) -> None:
        """`look_up`: what kernels that know a step's tokens may look up for the model.
        `largest_verified`: the largest bucket of steps that verify guesses; 0: none does."""
        self._vocab_size, self._largest_verified = vocab_size, largest_verified
        self._forward = forward
        self._state = state
        self._sampler = sampler
        self._block_size = block_size
        self._capture = capture
        self._steps: dict[tuple[int, SamplingMode], Step] = {}
        self._forward_graphs: dict[int, Step] = {}
        self.captured: list[str] = []  # in order; with several ranks they have to be in one
        self._begin_rows: Any = None
        self._look_up = look_up
        if can_fuse(state.device):
            from thirdeye.model.kernels.begin_step import begin_step  # noqa: PLC0415

            self._begin_rows = begin_step
        device, num_rows = state.device, state.num_rows
        self._logits = torch.zeros(num_rows, vocab_size, device=device)  # between two graphs
        self._output = torch.zeros(num_rows, MAX_WIDTH, dtype=torch.int64, device=device)
        self._order = torch.arange(num_rows + 1, dtype=torch.int32, device=device)
        self._indices = torch.arange(num_rows, device=device)

    def replay(self, bucket: int, mode: SamplingMode) -> Tensor:
        """What each row chose, [bucket, W], until the next replay writes over it."""
        usual = self._sampler.usual_mode(mode)
        if usual is None:
            self.begin(bucket)
            return self.sample(bucket, mode)
        self._usual(bucket, usual)()
        return self._sampled(bucket, mode)

    def prepare(self, bucket: int) -> None:
        """Capture all graphs of these rows; and sample of what the first has left, which is done in
        no graph: its kernels are compiled then. Before any row is known."""
        self._layers(bucket)
        verified = [False, True] if bucket <= self._largest_verified else [False]
        for is_verified in verified:
            for mode in self._sampler.usual:
                self._usual(bucket, replace(mode, is_verified=is_verified))
            self.sample(bucket, replace(GREEDY_MODE, is_verified=is_verified))

    def begin(self, bucket: int) -> None:
        """Compute the rows' logits."""
        self._layers(bucket)()

    def sample(self, bucket: int, mode: SamplingMode) -> Tensor:
        """What each row chose of the logits that `begin` has left, as `replay` gives it."""
        slots = self._state.rows[:bucket].long()
        positions = self._state.table[:, SlotField.POSITION].index_select(0, slots).long()
        if mode.is_verified:
            positions = positions + self._state.offsets[:bucket]
        self._end(self._logits[:bucket], slots, positions, mode)
        return self._sampled(bucket, mode)

    def _usual(self, bucket: int, mode: SamplingMode) -> Step:
        """The graph of a whole step; captured here if that has not been done in advance."""
        if (bucket, mode) not in self._steps:
            self._steps[bucket, mode] = self._record(lambda: self._step(bucket, mode))
            self.captured.append(f"{bucket} rows, {mode}")
        return self._steps[bucket, mode]

    def _layers(self, bucket: int) -> Step:
        """The graph of a step up to its logits."""
        if bucket not in self._forward_graphs:
            self._forward_graphs[bucket] = self._record(lambda: self._begin(bucket))
            self.captured.append(f"{bucket} rows, layers")
        return self._forward_graphs[bucket]

    def _sampled(self, bucket: int, mode: SamplingMode) -> Tensor:
        num_top = min(NUM_TOP, self._vocab_size)
        return self._output[:bucket, : 4 + 2 * num_top if mode.has_logprobs else 2]

    def _record(self, step: Step) -> Step:
        """On scrap rows, without drafts."""
        state = self._state
        kept = [(told, told.clone()) for told in (state.rows, state.offsets)]
        state.rows.fill_(state.num_slots)
        state.offsets.zero_()
        graph = self._capture(step)
        for told, words in kept:
            told.copy_(words)
        return graph

    # --- the functions that are captured ---

    def _step(self, bucket: int, mode: SamplingMode) -> None:
        rows = self._rows(bucket)
        self._end(self._forward(rows.batch), rows.slots, rows.positions, mode)

    def _begin(self, bucket: int) -> None:
        self._logits[:bucket] = self._forward(self._rows(bucket).batch)

    def _rows(self, bucket: int) -> DecodeRows:
        """What the layers are to compute for the first `bucket` rows."""
        if self._begin_rows is None:
            return self._rows_without_kernels(bucket)
        state = self._state
        rows = self._begin_rows(
            state.rows[:bucket],
            state.table,
            SlotField.BLOCKS,
            self._block_size,
            state.num_groups,
            self._look_up,
            offsets=state.offsets,
            drafts=state.drafts,
            has_states=state.has_states,
        )
        batch = ForwardBatch(
            input_ids=rows.input_ids,
            positions=rows.positions,
            slot_mapping=rows.slot_mapping,
            query_start_loc=self._order[: bucket + 1],
            seq_lens=rows.seq_lens,
            block_table=rows.block_table,
            logits_indices=self._indices[:bucket],
            num_singles=bucket,
            other_groups=rows.other_groups,
            looked_up=rows.looked_up,
            state_spans=rows.state_spans,
        )
        return DecodeRows(rows.slots, rows.positions, batch)

    def _rows_without_kernels(self, bucket: int) -> DecodeRows:
        """The kernel's twin."""
        slots = self._state.rows[:bucket].long()  # [B]
        words = self._state.table.index_select(0, slots)  # [B, width]
        offsets, drafts = self._state.offsets[:bucket], self._state.drafts[:bucket]
        positions = (words[:, SlotField.POSITION] + offsets).long()  # [B]
        newest = words[:, SlotField.TOKEN]
        first, *others = [
            self._blocks_of(table, positions)
            for table in words[:, SlotField.BLOCKS :].chunk(self._state.num_groups, dim=1)
        ]
        batch = ForwardBatch(
            input_ids=newest.where(offsets == 0, drafts).long(),
            positions=positions,
            slot_mapping=first.slot_mapping,
            query_start_loc=self._order[: bucket + 1],
            seq_lens=(positions + 1).int(),
            block_table=first.block_table,
            logits_indices=self._indices[:bucket],
            num_singles=bucket,
            other_groups=tuple(others),
            state_spans=self._state_spans(words) if self._state.has_states else None,
        )
        return DecodeRows(slots, positions, batch)

    def _state_spans(self, words: Tensor) -> Tensor:
        """Slots' words [B, width] -> one span a row, [B, 4] int32."""
        first = self._order[: len(words)]
        source, target = words[:, SlotField.STATE_SOURCE], words[:, SlotField.STATE_TARGET]
        return torch.stack((first, torch.ones_like(first), source, target), dim=1)

    def _blocks_of(self, table: Tensor, positions: Tensor) -> GroupBlocks:
        """A group's table [B, M], and where it keeps the tokens at these positions [B]."""
        blocks = table.gather(1, (positions // self._block_size)[:, None])[:, 0].long()
        return GroupBlocks(blocks * self._block_size + positions % self._block_size, table)

    def _end(self, logits: Tensor, slots: Tensor, positions: Tensor, mode: SamplingMode) -> None:
        """logits [B, vocab_size], of any floats -> the rows' next tokens, one position further."""
        chosen = self._sampler(logits, slots, positions, mode, advance=True)
        self._output[: len(slots), : chosen.shape[1]] = chosen
