"""Attention as in the textbook: scores, mask, softmax, weighted values. Slow and obvious.

Attention(Q, K, V) = softmax(Q K^T / sqrt(head_dim)) V (Vaswani et al. 2017), one sequence and one
head at a time, with what models have added to it: another scale, a window, a soft cap, ALiBi,
sinks. Every faster backend is held against this one.
"""

import math

import torch
from torch import Tensor

from thirdeye.model.attention.alibi import distances
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import TEXTBOOK, AttentionSpec
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.kv_fp8 import ScaledCache
from thirdeye.model.state.kv_int8 import Int8Vectors


class ReferenceAttention:
    """One loop over sequences, one over heads. The plan is the batch itself."""

    plan_key = None

    def __init__(self, spec: AttentionSpec = TEXTBOOK) -> None:
        self._spec = spec

    def for_layers(self, spec: AttentionSpec) -> "ReferenceAttention":
        return ReferenceAttention(spec)

    def plan(self, batch: ForwardBatch, kv_cache: KVCache) -> ForwardBatch:  # noqa: ARG002
        return batch

    def forward(
        self,
        query: Tensor,
        key_cache: Tensor | ScaledCache | Int8Vectors,
        value_cache: Tensor | ScaledCache | Int8Vectors,
        plan: ForwardBatch,
        sinks: Tensor | None = None,
        slopes: Tensor | None = None,
    ) -> Tensor:
        output = query.new_empty(*query.shape[:2], value_cache.shape[3])
        starts, seq_lens = plan.query_start_loc.tolist(), plan.seq_lens.tolist()
        for i, seq_len in enumerate(seq_lens):
            rows = slice(starts[i], starts[i + 1])
            first = first_seen(seq_len, starts[i + 1] - starts[i], self._spec)
            keys = read_tokens(key_cache, plan.block_table[i], seq_len, first)
            values = read_tokens(value_cache, plan.block_table[i], seq_len, first)
            output[rows] = attend(query[rows], keys, values, self._spec, sinks, slopes, first)
        return output


def first_seen(seq_len: int, num_queries: int, spec: AttentionSpec) -> int:
    """The first position that one of the last queries of a sequence sees: blocks before it may be
    others'."""
    position = seq_len - num_queries
    first = 0 if spec.window is None else max(0, position - spec.window + 1)
    return first if spec.chunk is None else max(first, position // spec.chunk * spec.chunk)


def read_tokens(
    cache: Tensor | ScaledCache | Int8Vectors, block_table: Tensor, seq_len: int, first: int = 0
) -> Tensor:
    """One sequence's tokens in order, out of its blocks: [seq_len - first, num_kv_heads,
    head_dim]."""
    block_size = cache.shape[1]
    skipped, num_blocks = first // block_size, math.ceil(seq_len / block_size)
    read = cache[block_table[skipped:num_blocks]].flatten(0, 1)
    return read[first - skipped * block_size : seq_len - skipped * block_size]


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    spec: AttentionSpec = TEXTBOOK,
    sinks: Tensor | None = None,
    slopes: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """query [n, num_heads, head_dim], keys [L, num_kv_heads, head_dim], values [L, num_kv_heads,
    size of a value] -> [n, num_heads, size of a value].

    The n queries are the last n of the L positions, of which `first` is the first.
    """
    group = query.shape[1] // keys.shape[1]  # query heads that share one key and value head
    mask = seen_mask(spec, len(query), len(keys), query.device, first)
    output = query.new_empty(*query.shape[:2], values.shape[2])
    for head in range(query.shape[1]):
        q, k, v = query[:, head], keys[:, head // group], values[:, head // group]
        sink = None if sinks is None else sinks[head]
        slope = None if slopes is None else slopes[head]
        output[:, head] = attention_weights(q, k, mask, spec, sink, slope).to(v.dtype) @ v
    return output


def attention_weights(
    query: Tensor,
    keys: Tensor,
    mask: Tensor,
    spec: AttentionSpec = TEXTBOOK,
    sink: Tensor | None = None,
    slope: Tensor | None = None,
) -> Tensor:
    """One head: query [n, head_dim], keys [L, head_dim] -> [n, L] in fp32; rows add up to 1, or
    with a sink to less, by what that takes."""
    scores = attention_scores(query, keys, spec, slope).masked_fill(~mask, -math.inf)
    if sink is None:
        return scores.softmax(dim=-1)
    column = sink.float().expand(len(scores), 1)
    return torch.cat((scores, column), dim=-1).softmax(dim=-1)[:, :-1]


def attention_scores(
    query: Tensor, keys: Tensor, spec: AttentionSpec = TEXTBOOK, slope: Tensor | None = None
) -> Tensor:
    """One head before mask and softmax: query [n, head_dim], keys [L, head_dim] -> [n, L] fp32."""
    scores = query.float() @ keys.float().T / spec.divisor(query.shape[-1])
    if spec.softcap is not None:
        scores = spec.softcap * torch.tanh(scores / spec.softcap)
    if slope is not None:
        scores = scores - slope * distances(len(query), len(keys), scores.device)
    return scores


def seen_mask(
    spec: AttentionSpec, num_queries: int, num_keys: int, device: torch.device, first: int = 0
) -> Tensor:
    """[n, L] bool: which keys, from position `first` on, the last n of the positions see."""
    mask = causal_mask(num_queries, num_keys, device, spec.window)
    if spec.chunk is None:
        return mask
    stretch = torch.arange(first, first + num_keys, device=device) // spec.chunk
    return mask & (stretch == stretch[num_keys - num_queries :, None])


def causal_mask(
    num_queries: int, num_keys: int, device: torch.device, window: int | None = None
) -> Tensor:
    """[n, L] bool: query i stands at position L - n + i and may look at keys up to there; with a
    window, at the last so many of them."""
    past = num_keys - num_queries
    every = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
    seen = every.tril(diagonal=past)
    return seen if window is None else seen & every.triu(diagonal=past - window + 1)
