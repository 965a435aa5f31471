"""The decode step as one function of fixed shapes, which never asks the host anything.

    slots -> tokens, positions, block tables -> layers -> logits -> sample -> tokens, positions + 1

Each row's input is what the step before it left on the device, so a step can be launched before
anybody has read the one before. A step is a graph for its bucket of rows and its way of sampling;
graphs are captured when they are first needed, on scrap rows, which change nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.batch import ForwardBatch
from server.engine.graphs import Capture, Step
from server.engine.noise import uniform
from server.engine.sampler import Ranking, draw
from server.engine.slots import DeviceState, Word


@dataclass(frozen=True, slots=True)
class Way:
    """How a step samples. Without `ranking` every row is greedy, and nothing is drawn."""

    ranking: Ranking | None


class Chooser:
    """Logits to tokens, with what the device knows of each slot."""

    def __init__(self, state: DeviceState) -> None:
        self._state = state

    def __call__(self, logits: Tensor, slots: Tensor, positions: Tensor, way: Way) -> Tensor:
        """logits [R, vocab_size] for the tokens at `positions` [R] of `slots` [R] -> [R, 2] int64:
        the tokens, which are the slots' newest now, and whether all their logits are numbers."""
        is_finite = logits.amax(-1).isfinite()  # [R], NaN anywhere in a row makes its maximum NaN
        token_ids = logits.argmax(-1)  # [R]
        if way.ranking is not None:
            columns = self._state.columns(slots)
            noise = uniform(columns.seed, positions)
            drawn = draw(logits, columns, noise, way.ranking)
            token_ids = torch.where(columns.temperature > 0, drawn, token_ids)
        self._state.put_tokens(slots, token_ids)
        return torch.stack([token_ids, is_finite.long()], dim=1)


class DecodeSteps:
    """`replay(bucket, way)` computes the first `bucket` of `state.rows`, into `output`."""

    def __init__(
        self,
        forward: Callable[[ForwardBatch], Tensor],
        state: DeviceState,
        choose: Chooser,
        block_size: int,
        capture: Capture,
    ) -> None:
        self._forward = forward
        self._state = state
        self._choose = choose
        self._block_size = block_size
        self._capture = capture
        self._graphs: dict[tuple[int, Way], Step] = {}
        device, num_rows = state.device, state.num_slots
        self.output = torch.zeros(num_rows, 2, dtype=torch.int64, device=device)
        self._order = torch.arange(num_rows + 1, dtype=torch.int32, device=device)

    def replay(self, bucket: int, way: Way) -> None:
        graph = self._graphs.get((bucket, way))
        if graph is None:
            graph = self._graphs[bucket, way] = self._record(bucket, way)
        graph()

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
        self.output[:bucket] = self._choose(logits, slots, positions + 1, way)
        is_real = slots != state.num_slots  # scrap stays where it is
        state.table[:, Word.POSITION].index_add_(0, slots, is_real.int())
