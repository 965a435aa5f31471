"""Which rows are computed together: of one text, or of several of one length."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch

BLOCK_SIZE = 16  # of the probe's own KV cache


@dataclass(frozen=True, slots=True)
class TextRows:
    """Positions [start, stop) of each of `num_texts` texts that have `num_tokens` in all."""

    start: int
    stop: int
    num_tokens: int
    num_texts: int = 1

    @property
    def num_blocks(self) -> int:
        """Of a text, in the KV cache."""
        return -(-self.num_tokens // BLOCK_SIZE)

    def pieces(self, max_rows: int) -> list["TextRows"]:
        """The same in pieces, of one text."""
        starts = range(self.start, self.stop, max_rows)
        return [replace(self, start=i, stop=min(i + max_rows, self.stop)) for i in starts]

    def of(self, text: int) -> slice:
        """Its rows of the piece."""
        length = self.stop - self.start
        return slice(text * length, (text + 1) * length)

    def block_table(self, device: torch.device) -> Tensor:
        """[num_texts, num_blocks] int32: a text's blocks lie in order."""
        blocks = torch.arange(self.num_texts * self.num_blocks, dtype=torch.int32, device=device)
        return blocks.view(self.num_texts, self.num_blocks)

    def batch(self, device: torch.device) -> ForwardBatch:
        """The same as a step of the engine; of its token ids a block sees nothing."""
        length = self.stop - self.start
        positions = torch.arange(self.start, self.stop, device=device)
        first_slots = torch.arange(self.num_texts, device=device) * self.num_blocks * BLOCK_SIZE
        starts = torch.arange(self.num_texts + 1, dtype=torch.int32, device=device) * length
        every = positions.repeat(self.num_texts)
        return ForwardBatch(
            input_ids=every,
            positions=every,
            slot_mapping=(first_slots[:, None] + positions).flatten(),
            query_start_loc=starts,
            seq_lens=torch.full_like(starts[1:], self.stop),
            block_table=self.block_table(device),
            logits_indices=every[:0],
        )
