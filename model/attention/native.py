"""Attention in C, right out of the paged cache: the default on a CPU where it could be compiled.

The step is cut into tiles: consecutive queries of one sequence, few enough to share what the caches
hold. Each tile and key head is work for one thread; where there are too few of them for all
threads, these share the blocks of keys. `model/native/csrc/paged_attention.c` adds up in an order
that knows nothing of tiles and threads, so a token's bits are the same in any batch, as those of
`model/attention/blocked.py` are, but not equal to them.
"""

import numpy as np
import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import TEXTBOOK, AttentionSpec
from thirdeye.model.native.library import Library
from thirdeye.model.native.paged_attention import KEYS, PagedAttentionKernel, Tiles
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.kv_int8 import Int8Vectors

TILE_QUERIES = 64
TILE_LATENT_QUERIES = 8  # of all heads: they share a key
FEW = 4  # blocks of keys: sizes are rounded up to so many, for few of them to be different
TABLE_STEP = 16  # columns of block tables, likewise: tapes are for one shape (`model/taped.py`)


class NativeAttention:
    """fp32 queries over keys and values in fp32, fp16 or int8; all sums in fp32."""

    def __init__(self, library: Library, spec: AttentionSpec = TEXTBOOK) -> None:
        self._library = library
        self._tile_queries = TILE_LATENT_QUERIES if spec.latent else TILE_QUERIES
        self._kernel = PagedAttentionKernel(library, spec)

    @property
    def plan_key(self) -> int:
        return self._tile_queries

    def for_layers(self, spec: AttentionSpec) -> "NativeAttention":
        return NativeAttention(self._library, spec)

    def plan(self, batch: ForwardBatch, kv_cache: KVCache) -> Tiles:  # noqa: ARG002
        seq_lens = batch.seq_lens.tolist()
        if batch.num_singles == len(seq_lens) > 0:
            return self._plan_singles(seq_lens, batch.block_table)
        starts = batch.query_start_loc.tolist()
        tiles = []
        for sequence, seq_len in enumerate(seq_lens):
            stop = starts[sequence + 1]
            past = seq_len - stop  # from a row of the step to its position
            tiles += [
                (sequence, first, min(self._tile_queries, stop - first), first + past)
                for first in range(starts[sequence], stop, self._tile_queries)
            ]
        longest = max((position + count for _, _, count, position in tiles), default=0)
        return Tiles(
            tiles=torch.tensor(tiles, dtype=torch.int32).view(-1, 4),
            block_table=_wider(batch.block_table),
            max_queries=max((count for _, _, count, _ in tiles), default=0),
            max_blocks=rounded_blocks(longest),
        )

    def _plan_singles(self, seq_lens: list[int], block_table: Tensor) -> Tiles:
        """Of sequences that have a token each, of most steps: a tile each."""
        tiles = [(row, row, 1, seq_len - 1) for row, seq_len in enumerate(seq_lens)]
        return Tiles(
            tiles=torch.from_numpy(np.array(tiles, np.int32)),  # [B, 4]
            block_table=_wider(block_table),
            max_queries=1,
            max_blocks=rounded_blocks(max(seq_lens)),
        )

    def forward(
        self,
        query: Tensor,
        key_cache: Tensor | Int8Vectors,
        value_cache: Tensor | Int8Vectors,
        plan: Tiles,
        sinks: Tensor | None = None,
        slopes: Tensor | None = None,
    ) -> Tensor:
        return self._kernel(query.contiguous(), key_cache, value_cache, plan, sinks, slopes)


def rounded_blocks(num_keys: int) -> int:
    """Blocks of so many keys, rounded up."""
    return -(-num_keys // (FEW * KEYS)) * FEW


def rounded_width(num_columns: int) -> int:
    """Of a block table, rounded up."""
    return -(-num_columns // TABLE_STEP) * TABLE_STEP


def _wider(block_table: Tensor) -> Tensor:
    """block_table [B, M], with columns added that nobody looks at."""
    num_rows, width = block_table.shape
    if not width % TABLE_STEP:
        return block_table.contiguous()  # the kernel reads rows that lie one after another
    wide = np.zeros((num_rows, rounded_width(width)), np.int32)
    wide[:, :width] = block_table.numpy()  # torch pads so few in several times the time
    return torch.from_numpy(wide)
