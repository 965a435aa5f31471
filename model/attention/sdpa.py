"""Attention by torch's fused kernel, sequence after sequence: for a GPU without triton.

`F.scaled_dot_product_attention` never writes the matrix of scores to memory. It wants keys side by
side, so each sequence's blocks are gathered first; sequences are not padded to a common length, so
a short one never pays for a long one and never reads what is not its own. Sinks are a key more, of
zeros, whose score comes from the mask; ALiBi is in it too. The kernel has no place for a soft cap.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from thirdeye.model.attention.alibi import distances
from thirdeye.model.attention.reference import causal_mask, first_seen, seen_mask
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import TEXTBOOK, AttentionSpec
from thirdeye.model.state.kv_cache import KVCache


@dataclass(frozen=True, slots=True)
class SequenceSpan:
    """One sequence of the step: its query rows [start, stop) over its keys [first, seq_len)."""

    start: int
    stop: int
    first: int  # a multiple of the cache's block size
    seq_len: int
    block_table: Tensor  # [M] int32, padded
    is_causal: bool  # the kernel's own triangle, right only when there is no past
    mask: Tensor | None  # [stop - start, seq_len - first] bool, for what is no triangle


class SdpaAttention:
    """Host integers and masks are made once a step, in `plan`; each layer gathers and attends."""

    def __init__(self, spec: AttentionSpec = TEXTBOOK) -> None:
        """Raises ValueError for a spec with a soft cap."""
        if spec.softcap is not None:
            raise ValueError(
                "'--attention' sdpa cannot do this model's soft cap on scores "
                f"({spec.softcap:g}): use 'triton', 'native' or 'blocked'."
            )
        self._spec = spec

    @property
    def plan_key(self) -> tuple[int | None, int | None]:
        return self._spec.window, self._spec.chunk

    def for_layers(self, spec: AttentionSpec) -> "SdpaAttention":
        return SdpaAttention(spec)

    def plan(self, batch: ForwardBatch, kv_cache: KVCache) -> list[SequenceSpan]:
        starts, seq_lens = batch.query_start_loc.tolist(), batch.seq_lens.tolist()
        tables, block_size = batch.block_table.unbind(), kv_cache.block_size
        return [
            _span(start, stop, seq_len, table, self._spec, block_size)
            for start, stop, seq_len, table in zip(
                starts[:-1], starts[1:], seq_lens, tables, strict=True
            )
        ]

    def forward(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        plan: list[SequenceSpan],
        sinks: Tensor | None = None,
        slopes: Tensor | None = None,
    ) -> Tensor:
        output = query.new_empty(*query.shape[:2], value_cache.shape[3])
        for span in plan:
            rows = query[span.start : span.stop].transpose(0, 1)  # [num_heads, n, head_dim]
            keys, values = (_gather(cache, span) for cache in (key_cache, value_cache))
            mixed = self._attend(rows, keys, values, span, sinks, slopes)
            output[span.start : span.stop] = mixed.transpose(0, 1)
        return output

    def _attend(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        span: SequenceSpan,
        sinks: Tensor | None,
        slopes: Tensor | None,
    ) -> Tensor:
        """query [num_heads, n, head_dim], keys and values [num_kv_heads, L, head_dim] ->
        [num_heads, n, size of a value]."""
        mask, is_causal = span.mask, span.is_causal
        if sinks is not None or slopes is not None:
            mask, is_causal = _added(query, span, sinks, slopes), False
        if sinks is not None:
            keys, values = F.pad(keys, (0, 0, 0, 1)), F.pad(values, (0, 0, 0, 1))
        output = F.scaled_dot_product_attention(
            *(query[None], keys[None], values[None]),
            attn_mask=mask,
            is_causal=is_causal,
            scale=self._spec.scale,
            enable_gqa=True,
        )
        return output.squeeze(0)


def _span(
    start: int, stop: int, seq_len: int, block_table: Tensor, spec: AttentionSpec, block_size: int
) -> SequenceSpan:
    num_queries = stop - start
    unseen = first_seen(seq_len, num_queries, spec)
    first = unseen // block_size * block_size
    is_triangle = num_queries == seq_len <= min(spec.window or seq_len, spec.chunk or seq_len)
    sees_all = num_queries == 1 and first == unseen
    mask = None
    if not sees_all and not is_triangle:
        mask = seen_mask(spec, num_queries, seq_len - first, block_table.device, first)
    is_causal = is_triangle and not sees_all
    return SequenceSpan(start, stop, first, seq_len, block_table, is_causal=is_causal, mask=mask)


def _added(
    query: Tensor, span: SequenceSpan, sinks: Tensor | None, slopes: Tensor | None
) -> Tensor:
    """What is added to the scores [1, num_heads, n, L]; with sinks, they are those of one key more,
    of zeros."""
    num_heads, num_queries, _ = query.shape
    seen, num_keys = span.mask, span.seq_len - span.first
    if seen is None:
        seen = causal_mask(num_queries, num_keys, query.device)
    hidden = torch.zeros_like(seen, dtype=query.dtype).masked_fill_(~seen, -math.inf)
    if slopes is not None:
        far = slopes.view(num_heads, 1, 1) * distances(num_queries, num_keys, query.device)
        hidden = hidden - far.to(query.dtype)
    if sinks is None:
        return hidden[None]
    column = sinks.to(query.dtype).view(num_heads, 1, 1).expand(-1, num_queries, -1)
    return torch.cat((hidden.expand(num_heads, -1, -1), column), dim=-1)[None]


def _gather(cache: Tensor, span: SequenceSpan) -> Tensor:
    """[num_blocks, block_size, num_kv_heads, head_dim] -> [num_kv_heads, L, head_dim]: of the keys
    [first, seq_len) of a span."""
    block_size = cache.shape[1]
    blocks = span.block_table[span.first // block_size : -(-span.seq_len // block_size)]
    tokens = cache.index_select(0, blocks).flatten(0, 1)[: span.seq_len - span.first]
    return tokens.transpose(0, 1)
