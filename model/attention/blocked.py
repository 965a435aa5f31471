"""Attention whose result for a token never depends on its company: the default on the CPU.

A sum of floats depends on its order, and a library chooses the order by the shapes it is given.
Here keys are cut into blocks of 128, counted from position 0; every product reduces over one block
or one head, and blocks are added up one after the other. What a query may not see adds exactly 0.
So a token's bits are the same alone or in a batch, in a chunk of any length, after any past.
`docs/numerics.md` has the measurements behind it.

Queries of equal count and similar length share one set of calls: sequences that decode are a batch.
"""

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.state.kv_cache import KVCache

KEY_BLOCK = 128  # keys in one reduction
QUERY_TILE = 128  # queries of one sequence in one tile: bounds the scores, skips keys none may see
MAX_KEYS = 8192  # keys gathered for one tile, unless one sequence alone has more
MIN_ROWS = 4  # for 1 to 3 rows the library has kernels with another order of sums


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive queries of sequence `index`: rows [start, start + n) of the step."""

    index: int
    start: int
    end: int  # keys the last of them sees


@dataclass(frozen=True, slots=True)
class Tile:
    """`S` spans of `n` queries over `L` keys each; `L` is a multiple of KEY_BLOCK."""

    rows: Tensor  # [S, n] int64, where the queries lie in the step
    keys: Tensor  # [S * num_kv_heads * L] int64, where each head's keys lie in a layer's cache
    is_hidden: Tensor  # [S, 1, 1, n, L] bool: what lies behind a query's own position


class BlockedAttention:
    """Tiles are cut once a step, in `plan`; each layer gathers, scores and adds up."""

    def plan(self, batch: ForwardBatch, kv_cache: KVCache) -> list[Tile]:
        alike: defaultdict[tuple[int, int], list[Span]] = defaultdict(list)
        starts, seq_lens = batch.query_start_loc.tolist(), batch.seq_lens.tolist()
        for index, seq_len in enumerate(seq_lens):
            past = seq_len - (starts[index + 1] - starts[index])
            for start in range(starts[index], starts[index + 1], QUERY_TILE):
                stop = min(start + QUERY_TILE, starts[index + 1])
                span = Span(index, start, past + stop - starts[index])
                alike[stop - start, -(-span.end // KEY_BLOCK)].append(span)
        tiles = []
        for (num_queries, num_blocks), spans in alike.items():
            width = max(1, MAX_KEYS // (num_blocks * KEY_BLOCK))
            tiles += [
                _tile(spans[i : i + width], num_queries, num_blocks * KEY_BLOCK, batch, kv_cache)
                for i in range(0, len(spans), width)
            ]
        return tiles

    def forward(
        self, query: Tensor, key_cache: Tensor, value_cache: Tensor, plan: list[Tile]
    ) -> Tensor:
        output = torch.empty_like(query)  # [T, num_heads, head_dim]
        for tile in plan:
            output[tile.rows] = _attend(query[tile.rows], key_cache, value_cache, tile)
        return output


def _tile(
    spans: list[Span], num_queries: int, num_keys: int, batch: ForwardBatch, kv_cache: KVCache
) -> Tile:
    device = batch.block_table.device
    block_size, num_kv_heads = kv_cache.keys.shape[2:4]
    ends = torch.tensor([span.end for span in spans], device=device)  # [S]
    starts = torch.tensor([span.start for span in spans], device=device)
    tables = batch.block_table[[span.index for span in spans]]  # [S, M]
    order = torch.arange(num_queries, device=device)
    own = (ends - num_queries)[:, None] + order  # [S, n], position of each query
    positions = torch.arange(num_keys, device=device)  # [L]
    # Behind a sequence's end its first token stands in: hidden, but its numbers are its own.
    present = positions.where(positions < ends[:, None], 0)  # [S, L]
    slots = tables.gather(1, present // block_size).long() * block_size + present % block_size
    heads = torch.arange(num_kv_heads, device=device)[:, None]
    return Tile(
        rows=starts[:, None] + order,
        keys=(slots[:, None] * num_kv_heads + heads).flatten(),
        is_hidden=(positions > own[:, :, None])[:, None, None],
    )


def _attend(query: Tensor, key_cache: Tensor, value_cache: Tensor, tile: Tile) -> Tensor:
    """query [S, n, num_heads, head_dim] -> the same shape; all sums in fp32."""
    num_spans, num_queries, num_heads, head_dim = query.shape
    num_kv_heads = key_cache.shape[2]
    group = num_heads // num_kv_heads  # query heads that share one key and value head
    num_rows, batch = group * num_queries, num_spans * num_kv_heads
    keys, values = (
        cache.view(-1, head_dim).index_select(0, tile.keys).float().view(batch, -1, head_dim)
        for cache in (key_cache, value_cache)
    )  # [S * num_kv_heads, L, head_dim]
    rows = query.float().view(num_spans, num_queries, num_kv_heads, group, head_dim)
    rows = rows.permute(0, 2, 3, 1, 4)
    rows = rows.reshape(batch, num_rows, head_dim) / math.sqrt(head_dim)
    rows = F.pad(rows, (0, 0, 0, max(0, MIN_ROWS - num_rows)))  # [batch, R, head_dim]
    scores = rows @ keys.mT  # [batch, R, L]
    seen = scores[:, :num_rows].view(num_spans, num_kv_heads, group, num_queries, -1)
    seen.masked_fill_(tile.is_hidden, -math.inf)
    mixed = _mix(scores, values)[:, :num_rows]
    mixed = mixed.reshape(num_spans, num_kv_heads, group, num_queries, head_dim)
    return mixed.permute(0, 3, 1, 2, 4).flatten(2, 3).to(query.dtype)


def _mix(scores: Tensor, values: Tensor) -> Tensor:
    """softmax(scores) @ values: [batch, R, L], [batch, L, head_dim] -> [batch, R, head_dim].

    Overwrites the scores. The maximum is the same in any order; the sums go block by block.
    """
    weights = scores.sub_(scores.amax(-1, keepdim=True)).exp_()
    totals = weights.view(*weights.shape[:2], -1, KEY_BLOCK).sum(-1)  # [batch, R, L / KEY_BLOCK]
    mixed = torch.zeros_like(weights[..., :1] * values[:, :1])
    for start in range(0, weights.shape[-1], KEY_BLOCK):
        block = slice(start, start + KEY_BLOCK)
        mixed.baddbmm_(weights[:, :, block], values[:, block])
    return mixed / totals.cumsum(-1)[..., -1:]
