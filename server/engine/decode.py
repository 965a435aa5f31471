"""The decode step as one function of fixed shapes, which never asks the host anything.

    slots -> tokens, positions, block tables -> layers -> logits -> sample -> tokens, positions + 1

Each row's input is what the step before it left on the device, so a step can be launched before
anybody has read the one before. A step is a graph for its bucket of rows and its way of sampling;
graphs are captured in advance or when they are first needed, on scrap rows, which change nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.batch import ForwardBatch
from server.engine.graphs import Capture, Step
from server.engine.logprobs import NUM_TOP, Scores, score_tokens
from server.engine.noise import uniform
from server.engine.sampler import Ranking, draw
from server.engine.slots import DeviceState, Word

MAX_WIDTH = 4 + 2 * NUM_TOP


@dataclass(frozen=True, slots=True)
class Way:
    """What a step does to logits. Without `ranking` every row is greedy, and nothing is drawn."""

    ranking: Ranking | None
    is_penalized: bool = False
    has_logprobs: bool = False


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
        processed = state.penalize(logits, slots) if way.is_penalized else logits
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
        ids, values = score_tokens(logits, token_ids)
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
    """`replay(bucket, way)` computes the first `bucket` of `state.rows`."""

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
        self._graphs: dict[tuple[int, Way], Step] = {}
        device, num_rows = state.device, state.num_slots
        self._output = torch.zeros(num_rows, MAX_WIDTH, dtype=torch.int64, device=device)
        self._order = torch.arange(num_rows + 1, dtype=torch.int32, device=device)

    def replay(self, bucket: int, way: Way) -> Tensor:
        """What each row chose, [bucket, W], until the next replay writes over it."""
        self.prepare(bucket, way)
        self._graphs[bucket, way]()
        return self._output[:bucket, : self._width(way)]

    def _width(self, way: Way) -> int:
        num_top = min(NUM_TOP, self._vocab_size)
        return 4 + 2 * num_top if way.has_logprobs else 2

    def prepare(self, bucket: int, way: Way) -> None:
        """Capture the graph if there is none yet."""
        if (bucket, way) not in self._graphs:
            self._graphs[bucket, way] = self._record(bucket, way)

    def _record(self, bucket: int, way: Way) -> Step:
        rows = self._state.rows.clone()
        self._state.rows.fill_(self._state.num_slots)
        graph = self._capture(lambda: self._step(bucket, way))
        self._state.rows.copy_(rows)
        return graph

    def _step(self, bucket: int, way: Way) -> None:
        """The function that is captured."""
        state = self._state
        slots = state.rows[:bucket].long()  # [B]
        words = state.table.index_select(0, slots)  # [B, width]
        positions = words[:, Word.POSITION].long()  # [B]
        block_table = words[:, Word.BLOCKS :]  # [B, M]
        blocks = block_table.gather(1, (positions // self._block_size)[:, None])[:, 0].long()
        batch = ForwardBatch(
            input_ids=words[:, Word.TOKEN].long(),
            positions=positions,
            slot_mapping=blocks * self._block_size + positions % self._block_size,
            query_start_loc=self._order[: bucket + 1],
            seq_lens=(positions + 1).int(),
            block_table=block_table,
            logits_indices=self._order[:bucket].long(),
        )
        logits = self._forward(batch).float()  # [B, vocab_size]
        chosen = self._choose(logits, slots, positions + 1, way)
        self._output[:bucket, : chosen.shape[1]] = chosen
        is_real = slots != state.num_slots  # scrap stays where it is
        state.table[:, Word.POSITION].index_add_(0, slots, is_real.int())
