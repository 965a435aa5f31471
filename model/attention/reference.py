"""Attention as in the textbook: scores, mask, softmax, weighted values. Slow and obvious.

Attention(Q, K, V) = softmax(Q K^T / sqrt(head_dim)) V (Vaswani et al. 2017), one sequence and one
head at a time. Every faster backend is held against this one.
"""

import math

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.kv_fp8 import ScaledCache


class ReferenceAttention:
    """One loop over sequences, one over heads. The plan is the batch itself."""

    def plan(self, batch: ForwardBatch, kv_cache: KVCache) -> ForwardBatch:  # noqa: ARG002
        return batch

    def forward(
        self,
        query: Tensor,
        key_cache: Tensor | ScaledCache,
        value_cache: Tensor | ScaledCache,
        plan: ForwardBatch,
    ) -> Tensor:
        output = torch.empty_like(query)  # [T, num_heads, head_dim]
        starts, seq_lens = plan.query_start_loc.tolist(), plan.seq_lens.tolist()
        for i, seq_len in enumerate(seq_lens):
            rows = slice(starts[i], starts[i + 1])
            keys = read_tokens(key_cache, plan.block_table[i], seq_len)
            values = read_tokens(value_cache, plan.block_table[i], seq_len)
            output[rows] = attend(query[rows], keys, values)
        return output


def read_tokens(cache: Tensor | ScaledCache, block_table: Tensor, seq_len: int) -> Tensor:
    """One sequence's tokens in order, out of its blocks: [seq_len, num_kv_heads, head_dim]."""
    num_blocks = math.ceil(seq_len / cache.shape[1])
    return cache[block_table[:num_blocks]].flatten(0, 1)[:seq_len]


def attend(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """query [n, num_heads, head_dim], keys and values [L, num_kv_heads, head_dim] -> like query.

    The n queries are the last n of the L positions.
    """
    group = query.shape[1] // keys.shape[1]  # query heads that share one key and value head
    mask = causal_mask(len(query), len(keys), query.device)
    output = torch.empty_like(query)
    for head in range(query.shape[1]):
        q, k, v = query[:, head], keys[:, head // group], values[:, head // group]
        output[:, head] = attention_weights(q, k, mask).to(v.dtype) @ v
    return output


def attention_weights(query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    """One head: query [n, head_dim], keys [L, head_dim] -> [n, L] in fp32; rows add up to 1."""
    scores = query.float() @ keys.float().T / math.sqrt(query.shape[-1])
    return scores.masked_fill(~mask, -math.inf).softmax(dim=-1)


def causal_mask(num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """[n, L] bool: query i stands at position L - n + i and may look at keys up to there."""
    past = num_keys - num_queries
    return torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril(diagonal=past)
