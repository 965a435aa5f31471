"""Building a step's batch by hand: which tokens of which sequence, in which blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch, count_singles


@dataclass(frozen=True)
class Row:
    """The next `token_ids` of a sequence that has `past` tokens in its `blocks` already."""

    token_ids: Sequence[int]
    past: int
    blocks: Sequence[int]

    @property
    def seq_len(self) -> int:
        return self.past + len(self.token_ids)

    @property
    def positions(self) -> range:
        return range(self.past, self.seq_len)


def make_batch(rows: Sequence[Row], block_size: int, logits: str = "last") -> ForwardBatch:
    """`logits` is "last" (of every row), "all" (tokens) or "none"."""
    starts = [0]
    for row in rows:
        starts.append(starts[-1] + len(row.token_ids))
    slots = [
        row.blocks[position // block_size] * block_size + position % block_size
        for row in rows
        for position in row.positions
    ]
    wanted = {"last": [stop - 1 for stop in starts[1:]], "all": range(starts[-1]), "none": []}
    width = max(len(row.blocks) for row in rows)
    table = [[*row.blocks, *[0] * (width - len(row.blocks))] for row in rows]
    return ForwardBatch(
        input_ids=torch.tensor([token for row in rows for token in row.token_ids]),
        positions=torch.tensor([position for row in rows for position in row.positions]),
        slot_mapping=torch.tensor(slots),
        query_start_loc=torch.tensor(starts, dtype=torch.int32),
        seq_lens=torch.tensor([row.seq_len for row in rows], dtype=torch.int32),
        block_table=torch.tensor(table, dtype=torch.int32),
        logits_indices=torch.tensor(list(wanted[logits]), dtype=torch.int64),
        num_singles=count_singles(len(row.token_ids) for row in rows),
    )


def to_device(batch: ForwardBatch, device: torch.device) -> ForwardBatch:
    fields = {name: getattr(batch, name) for name in ForwardBatch.__slots__}
    return ForwardBatch(
        **{name: f.to(device) if isinstance(f, Tensor) else f for name, f in fields.items()}
    )
