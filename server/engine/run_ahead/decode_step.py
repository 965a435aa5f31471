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
from thirdeye.server.engine.run_ahead.device_state import DeviceState, Word
from thirdeye.server.engine.sampling.logprobs import NUM_TOP, Scores, score_tokens
from thirdeye.server.engine.sampling.philox import uniform
from thirdeye.server.engine.sampling.sampler import Ranking, draw

MAX_WIDTH = 4 + 2 * NUM_TOP


@dataclass(frozen=True, slots=True)
class Way:
    """What a step does to logits. Without `ranking` every row is greedy, and nothing is drawn."""

    ranking: Ranking | None
    is_penalized: bool = False
    has_logprobs: bool = False
    is_biased: bool = False  # or holds an end back
    is_masked: bool = False


class Chooser:
    """Logits to tokens, with what the device knows of each slot."""

    def __init__(self, state: DeviceState) -> None:
        self._state = state

    def __call__(self, logits: Tensor, slots: Tensor, positions: Tensor, way: Way) -> Tensor:
        """logits [R, vocab_size] for the tokens at `positions` [R] of `slots` [R] -> int64 [R, W].

        Of each row: whether all logits are numbers, the token, which is the slot's newest now, and
        with logprobs its rank, the likeliest tokens, and their logprobs as bits (`read_choices`).
        """
        is_finite = logits.amax(-1).isfinite()  # [R], NaN anywhere in a row makes its maximum NaN
        state = self._state
        processed = state.mask(logits, slots) if way.is_masked else logits
        if way.is_biased:
            processed = state.bias(processed, slots, positions)
        if way.is_penalized:
            processed = state.penalize(processed, slots)
        token_ids = processed.argmax(-1)  # [R]
        if way.ranking is not None:
            columns = state.columns(slots)
            noise = uniform(columns.seed, positions)
            drawn = draw(processed, columns, noise, way.ranking)
            token_ids = torch.where(columns.temperature > 0, drawn, token_ids)
        state.put_tokens(slots, token_ids)
        if way.is_penalized:
            state.count_tokens(slots, token_ids)
        if not way.has_logprobs:
            return torch.stack([is_finite.long(), token_ids], dim=1)
        return pack_scores(is_finite, *score_tokens(logits, token_ids))


def score_prompt(logits: Tensor, token_ids: Tensor, num_top: int) -> Tensor:
    """logits [L, vocab_size] at a prompt's positions, the tokens that follow them [L] -> what a
    `Chooser` would say of them."""
    is_finite = logits.amax(-1).isfinite()
    return pack_scores(is_finite, *score_tokens(logits, token_ids, num_top))


def pack_scores(is_finite: Tensor, ids: Tensor, values: Tensor) -> Tensor:
    """One tensor of integers, so that one copy brings it to the host."""
    return torch.cat([is_finite.long()[:, None], ids, values.view(torch.int32).long()], dim=1)


@dataclass(frozen=True, slots=True)
class Choice:
    """What became of one row."""

    is_finite: bool
    token_id: int
    scores: Scores | None


def read_choices(rows: Tensor) -> list[Choice]:
    """What a `Chooser` has said, [R, W], on the host."""
    width = rows.shape[1]
    if width == 2:
        return [Choice(bool(is_finite), token_id, None) for is_finite, token_id in rows.tolist()]
    num_ids = (width - 1) // 2 + 1  # the token, its rank and K ids; then 1 + K logprobs
    ids = rows[:, 1 : 1 + num_ids].tolist()
    values = rows[:, 1 + num_ids :].int().view(torch.float32).tolist()
    return [
        Choice(bool(is_finite), own[0], (own, logprobs))
        for is_finite, own, logprobs in zip(rows[:, 0].tolist(), ids, values, strict=True)
    ]


class DecodeSteps:
    """`replay(bucket, way)` computes the first `bucket` of `state.rows`; or `begin(bucket)` does
    all but choosing, and `choose(bucket, way)` the rest."""

    def __init__(
        self,
        forward: Callable[[ForwardBatch], Tensor],
        state: DeviceState,
        choose: Chooser,
        block_size: int,
        vocab_size: int,
        capture: Capture,
    ) -> None:
        self._vocab_size = vocab_size
        self._forward = forward
        self._state = state
        self._choose = choose
        self._block_size = block_size
        self._capture = capture
        self._steps: dict[tuple[int, Way], Step] = {}
        self._begins: dict[int, Step] = {}
        self._choices: dict[tuple[int, Way], Step] = {}
        device, num_rows = state.device, state.num_slots
        self._logits = torch.zeros(num_rows, vocab_size, device=device)  # between two graphs
        self._output = torch.zeros(num_rows, MAX_WIDTH, dtype=torch.int64, device=device)
        self._order = torch.arange(num_rows + 1, dtype=torch.int32, device=device)

    def replay(self, bucket: int, way: Way) -> Tensor:
        """What each row chose, [bucket, W], until the next replay writes over it."""
        self.prepare(bucket, way)
        self._steps[bucket, way]()
        return self._said(bucket, way)

    def prepare(self, bucket: int, way: Way) -> None:
        """Capture the graph if there is none yet."""
        if (bucket, way) not in self._steps:
            self._steps[bucket, way] = self._record(lambda: self._step(bucket, way))

    def begin(self, bucket: int) -> None:
        """Compute the rows' logits."""
        if bucket not in self._begins:
            self._begins[bucket] = self._record(lambda: self._begin(bucket))
        self._begins[bucket]()

    def choose(self, bucket: int, way: Way) -> Tensor:
        """What each row chose of the logits that `begin` has left, as `replay` gives it."""
        if (bucket, way) not in self._choices:
            self._choices[bucket, way] = self._record(lambda: self._finish(bucket, way))
        self._choices[bucket, way]()
        return self._said(bucket, way)

    def _said(self, bucket: int, way: Way) -> Tensor:
        num_top = min(NUM_TOP, self._vocab_size)
        return self._output[:bucket, : 4 + 2 * num_top if way.has_logprobs else 2]

    def _record(self, step: Step) -> Step:
        """On scrap rows."""
        rows = self._state.rows.clone()
        self._state.rows.fill_(self._state.num_slots)
        graph = self._capture(step)
        self._state.rows.copy_(rows)
        return graph

    # --- the functions that are captured ---

    def _step(self, bucket: int, way: Way) -> None:
        slots, positions = self._rows(bucket)
        self._end(self._compute(slots, positions), slots, positions, way)

    def _begin(self, bucket: int) -> None:
        self._logits[:bucket] = self._compute(*self._rows(bucket))

    def _finish(self, bucket: int, way: Way) -> None:
        self._end(self._logits[:bucket], *self._rows(bucket), way)

    def _rows(self, bucket: int) -> tuple[Tensor, Tensor]:
        """Slots [B], and where their newest tokens stand [B]."""
        slots = self._state.rows[:bucket].long()
        return slots, self._state.table[:, Word.POSITION].index_select(0, slots).long()

    def _compute(self, slots: Tensor, positions: Tensor) -> Tensor:
        """slots, positions [B] -> logits [B, vocab_size] float32."""
        words = self._state.table.index_select(0, slots)  # [B, width]
        block_table = words[:, Word.BLOCKS :]  # [B, M]
        blocks = block_table.gather(1, (positions // self._block_size)[:, None])[:, 0].long()
        order = self._order[: len(slots) + 1]
        batch = ForwardBatch(
            input_ids=words[:, Word.TOKEN].long(),
            positions=positions,
            slot_mapping=blocks * self._block_size + positions % self._block_size,
            query_start_loc=order,
            seq_lens=(positions + 1).int(),
            block_table=block_table,
            logits_indices=order[:-1].long(),
        )
        return self._forward(batch).float()

    def _end(self, logits: Tensor, slots: Tensor, positions: Tensor, way: Way) -> None:
        """logits [B, vocab_size] -> the rows' next tokens, one position further."""
        state = self._state
        chosen = self._choose(logits, slots, positions + 1, way)
        self._output[: len(slots), : chosen.shape[1]] = chosen
        is_real = slots != state.num_slots  # scrap stays where it is
        state.table[:, Word.POSITION].index_add_(0, slots, is_real.int())
