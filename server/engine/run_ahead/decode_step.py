"""The decode step as one function of fixed shapes, which never asks the host anything.

    slots -> tokens, positions, block tables -> layers -> logits -> sample -> tokens, positions + 1

Each row's input is what the step before it left on the device, so a step can be launched before
anybody has read the one before. A step is a graph for its bucket of rows and its way of sampling;
graphs are captured in advance or when they are first needed, on scrap rows, which change nothing.

Where a row has a grammar the step is two graphs, cut behind the logits: a mask is known only when
the token before has been read, and the device need not wait for that to compute the layers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.run_ahead.cuda_graphs import Capture, Step
from thirdeye.server.engine.run_ahead.device_state import DeviceState, SlotField
from thirdeye.server.engine.sampling.logprobs import NUM_TOP, Scores, score_tokens
from thirdeye.server.engine.sampling.philox import uniform
from thirdeye.server.engine.sampling.sampler import Ranking, draw

MAX_WIDTH = 4 + 2 * NUM_TOP


@dataclass(frozen=True, slots=True)
class SamplingMode:
    """What a step does to logits. Without `ranking` every row is greedy, and nothing is drawn."""

    ranking: Ranking | None
    is_penalized: bool = False
    has_logprobs: bool = False
    is_biased: bool = False  # or holds an end back
    is_masked: bool = False


class DeviceSampler:
    """Logits to tokens, with what the device knows of each slot."""

    def __init__(self, state: DeviceState) -> None:
        self._state = state

    def __call__(
        self, logits: Tensor, slots: Tensor, positions: Tensor, mode: SamplingMode
    ) -> Tensor:
        """logits [R, vocab_size] for the tokens at `positions` [R] of `slots` [R] -> int64 [R, W].

        Of each row: whether all logits are numbers, the token, which is the slot's newest now, and
        with logprobs its rank, the likeliest tokens, and their logprobs as bits (`read_sampled`).
        """
        is_finite = logits.amax(-1).isfinite()  # [R], NaN anywhere in a row makes its maximum NaN
        state = self._state
        processed = state.mask(logits, slots) if mode.is_masked else logits
        if mode.is_biased:
            processed = state.bias(processed, slots, positions)
        if mode.is_penalized:
            processed = state.penalize(processed, slots)
        token_ids = processed.argmax(-1)  # [R]
        if mode.ranking is not None:
            columns = state.draw_columns(slots)
            noise = uniform(columns.seed, positions)
            drawn = draw(processed, columns, noise, mode.ranking)
            token_ids = torch.where(columns.temperature > 0, drawn, token_ids)
        state.put_tokens(slots, token_ids)
        if mode.is_penalized:
            state.count_tokens(slots, token_ids)
        if not mode.has_logprobs:
            return torch.stack([is_finite.long(), token_ids], dim=1)
        return pack_scores(is_finite, *score_tokens(logits, token_ids))


def score_prompt(logits: Tensor, token_ids: Tensor, num_top: int) -> Tensor:
    """logits [L, vocab_size] at a prompt's positions, the tokens that follow them [L] -> what a
    `DeviceSampler` would say of them."""
    is_finite = logits.amax(-1).isfinite()
    return pack_scores(is_finite, *score_tokens(logits, token_ids, num_top))


def pack_scores(is_finite: Tensor, ids: Tensor, values: Tensor) -> Tensor:
    """One tensor of integers, so that one copy brings it to the host."""
    return torch.cat([is_finite.long()[:, None], ids, values.view(torch.int32).long()], dim=1)


@dataclass(frozen=True, slots=True)
class SampledRow:
    """What became of one row."""

    is_finite: bool
    token_id: int
    scores: Scores | None


def read_sampled(rows: Tensor) -> list[SampledRow]:
    """What a `DeviceSampler` has said, [R, W], on the host."""
    width = rows.shape[1]
    if width == 2:
        return [
            SampledRow(bool(is_finite), token_id, None) for is_finite, token_id in rows.tolist()
        ]
    num_ids = (width - 1) // 2 + 1  # the token, its rank and K ids; then 1 + K logprobs
    ids = rows[:, 1 : 1 + num_ids].tolist()
    values = rows[:, 1 + num_ids :].int().view(torch.float32).tolist()
    return [
        SampledRow(bool(is_finite), own[0], (own, logprobs))
        for is_finite, own, logprobs in zip(rows[:, 0].tolist(), ids, values, strict=True)
    ]


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
    ) -> None:
        self._vocab_size = vocab_size
        self._forward = forward
        self._state = state
        self._sampler = sampler
        self._block_size = block_size
        self._capture = capture
        self._steps: dict[tuple[int, SamplingMode], Step] = {}
        self._forward_graphs: dict[int, Step] = {}
        self._sample_graphs: dict[tuple[int, SamplingMode], Step] = {}
        device, num_rows = state.device, state.num_slots
        self._logits = torch.zeros(num_rows, vocab_size, device=device)  # between two graphs
        self._output = torch.zeros(num_rows, MAX_WIDTH, dtype=torch.int64, device=device)
        self._order = torch.arange(num_rows + 1, dtype=torch.int32, device=device)

    def replay(self, bucket: int, mode: SamplingMode) -> Tensor:
        """What each row chose, [bucket, W], until the next replay writes over it."""
        self.prepare(bucket, mode)
        self._steps[bucket, mode]()
        return self._sampled(bucket, mode)

    def prepare(self, bucket: int, mode: SamplingMode) -> None:
        """Capture the graph if there is none yet."""
        if (bucket, mode) not in self._steps:
            self._steps[bucket, mode] = self._record(lambda: self._step(bucket, mode))

    def begin(self, bucket: int) -> None:
        """Compute the rows' logits."""
        if bucket not in self._forward_graphs:
            self._forward_graphs[bucket] = self._record(lambda: self._begin(bucket))
        self._forward_graphs[bucket]()

    def sample(self, bucket: int, mode: SamplingMode) -> Tensor:
        """What each row chose of the logits that `begin` has left, as `replay` gives it."""
        if (bucket, mode) not in self._sample_graphs:
            self._sample_graphs[bucket, mode] = self._record(lambda: self._finish(bucket, mode))
        self._sample_graphs[bucket, mode]()
        return self._sampled(bucket, mode)

    def _sampled(self, bucket: int, mode: SamplingMode) -> Tensor:
        num_top = min(NUM_TOP, self._vocab_size)
        return self._output[:bucket, : 4 + 2 * num_top if mode.has_logprobs else 2]

    def _record(self, step: Step) -> Step:
        """On scrap rows."""
        rows = self._state.rows.clone()
        self._state.rows.fill_(self._state.num_slots)
        graph = self._capture(step)
        self._state.rows.copy_(rows)
        return graph

    # --- the functions that are captured ---

    def _step(self, bucket: int, mode: SamplingMode) -> None:
        slots, positions = self._rows(bucket)
        self._end(self._compute(slots, positions), slots, positions, mode)

    def _begin(self, bucket: int) -> None:
        self._logits[:bucket] = self._compute(*self._rows(bucket))

    def _finish(self, bucket: int, mode: SamplingMode) -> None:
        self._end(self._logits[:bucket], *self._rows(bucket), mode)

    def _rows(self, bucket: int) -> tuple[Tensor, Tensor]:
        """Slots [B], and where their newest tokens stand [B]."""
        slots = self._state.rows[:bucket].long()
        return slots, self._state.table[:, SlotField.POSITION].index_select(0, slots).long()

    def _compute(self, slots: Tensor, positions: Tensor) -> Tensor:
        """slots, positions [B] -> logits [B, vocab_size] float32."""
        words = self._state.table.index_select(0, slots)  # [B, width]
        block_table = words[:, SlotField.BLOCKS :]  # [B, M]
        blocks = block_table.gather(1, (positions // self._block_size)[:, None])[:, 0].long()
        order = self._order[: len(slots) + 1]
        batch = ForwardBatch(
            input_ids=words[:, SlotField.TOKEN].long(),
            positions=positions,
            slot_mapping=blocks * self._block_size + positions % self._block_size,
            query_start_loc=order,
            seq_lens=(positions + 1).int(),
            block_table=block_table,
            logits_indices=order[:-1].long(),
        )
        return self._forward(batch).float()

    def _end(self, logits: Tensor, slots: Tensor, positions: Tensor, mode: SamplingMode) -> None:
        """logits [B, vocab_size] -> the rows' next tokens, one position further."""
        state = self._state
        chosen = self._sampler(logits, slots, positions + 1, mode)
        self._output[: len(slots), : chosen.shape[1]] = chosen
        is_real = slots != state.num_slots  # scrap stays where it is
        state.table[:, SlotField.POSITION].index_add_(0, slots, is_real.int())
