"""Attention by torch's fused kernel, sequence after sequence: the default on the CPU.

`F.scaled_dot_product_attention` never writes the matrix of scores to memory. It wants keys side by
side, so each sequence's blocks are gathered first; sequences are not padded to a common length, so
a short one never pays for a long one and never reads what is not its own.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from thirdeye.model.attention.reference import causal_mask
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.state.kv_cache import KVCache


@dataclass(frozen=True, slots=True)
class Span:
    """One sequence of the step: its query rows [start, stop) over its `seq_len` keys."""

    start: int
    stop: int
    seq_len: int
    block_table: Tensor  # [M] int32, padded
    is_causal: bool  # the kernel's own triangle, right only when there is no past
    mask: Tensor | None  # [stop - start, seq_len] bool, for several tokens after a past


class SdpaAttention:
    """Host integers and masks are made once a step, in `plan`; each layer gathers and attends."""

    def plan(self, batch: ForwardBatch, kv_cache: KVCache) -> list[Span]:  # noqa: ARG002
        starts, seq_lens = batch.query_start_loc.tolist(), batch.seq_lens.tolist()
        tables = batch.block_table.unbind()
        return [
            _span(start, stop, seq_len, table)
            for start, stop, seq_len, table in zip(
                starts[:-1], starts[1:], seq_lens, tables, strict=True
            )
        ]

    def forward(
        self, query: Tensor, key_cache: Tensor, value_cache: Tensor, plan: list[Span]
    ) -> Tensor:
        output = torch.empty_like(query)  # [T, num_heads, head_dim]
        for span in plan:
            rows = slice(span.start, span.stop)
            output[rows] = _attend(query[rows], key_cache, value_cache, span)
        return output


def _span(start: int, stop: int, seq_len: int, block_table: Tensor) -> Span:
    num_queries = stop - start
    alone, no_past = num_queries == 1, num_queries == seq_len
    mask = None if alone or no_past else causal_mask(num_queries, seq_len, block_table.device)
    return Span(start, stop, seq_len, block_table, is_causal=no_past and not alone, mask=mask)


def _attend(query: Tensor, key_cache: Tensor, value_cache: Tensor, span: Span) -> Tensor:
    """query [n, num_heads, head_dim] -> the same shape."""
    num_blocks = -(-span.seq_len // key_cache.shape[1])
    blocks = span.block_table[:num_blocks]
    output = F.scaled_dot_product_attention(
        query.transpose(0, 1).unsqueeze(0),  # [1, num_heads, n, head_dim]
        _gather(key_cache, blocks, span.seq_len),
        _gather(value_cache, blocks, span.seq_len),
        attn_mask=span.mask,
        is_causal=span.is_causal,
        enable_gqa=True,
    )
    return output.squeeze(0).transpose(0, 1)


def _gather(cache: Tensor, blocks: Tensor, seq_len: int) -> Tensor:
    """[num_blocks, block_size, num_kv_heads, head_dim] -> [1, num_kv_heads, seq_len, head_dim]."""
    tokens = cache.index_select(0, blocks).flatten(0, 1)[:seq_len]
    return tokens.transpose(0, 1).unsqueeze(0)
