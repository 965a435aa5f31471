"""Paged caches of random numbers, queries over them, and attention by any backend."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tests.model.tiny import LLAMA, change
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import ModelConfig
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.state.kv_cache import KVCache

BLOCK_SIZE = 16


@dataclass(frozen=True)
class AttentionCase:
    batch: ForwardBatch
    cache: KVCache
    query: Tensor  # [T, num_heads, head_dim]
    num_keys: int  # of all sequences

    @property
    def kv_bytes(self) -> int:
        """What one layer of attention reads of the cache at the least."""
        keys, _ = self.cache.layer(0)
        numbers = keys.numbers if hasattr(keys, "numbers") else keys
        token = numbers.element_size() * numbers.shape[2] * numbers.shape[3]
        scales = numbers.shape[2] if numbers is not keys else 0
        return 2 * self.num_keys * (token + scales)


def decode_case(
    num_sequences: int,
    context: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    device: torch.device,
    num_queries: int = 1,
    num_layers: int = 1,
    kv_dtype: torch.dtype | None = None,
) -> AttentionCase:
    """Sequences of `context` keys in scattered blocks, the last `num_queries` of which ask."""
    blocks = -(-context // BLOCK_SIZE)
    config: ModelConfig = change(
        LLAMA,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        num_hidden_layers=num_layers,
    )
    cache = make_kv_cache(config, num_sequences * blocks, BLOCK_SIZE, kv_dtype or dtype, device)
    slots = torch.arange(num_sequences * blocks * BLOCK_SIZE, device=device)
    for layer in range(num_layers):
        new = torch.randn(2, len(slots), num_kv_heads, head_dim, device=device).to(dtype)
        cache.write(layer, new[0], new[1], slots)
    table = torch.randperm(num_sequences * blocks).view(num_sequences, blocks)
    num_tokens = num_sequences * num_queries
    positions = torch.arange(context - num_queries, context).repeat(num_sequences)
    batch = ForwardBatch(
        input_ids=torch.zeros(num_tokens, dtype=torch.int64, device=device),
        positions=positions.to(device),
        slot_mapping=torch.zeros(num_tokens, dtype=torch.int64, device=device),
        query_start_loc=torch.arange(0, num_tokens + 1, num_queries, dtype=torch.int32).to(device),
        seq_lens=torch.full((num_sequences,), context, dtype=torch.int32, device=device),
        block_table=table.int().to(device),
        logits_indices=torch.zeros(0, dtype=torch.int64, device=device),
    )
    query = torch.randn(num_tokens, num_heads, head_dim, device=device).to(dtype)
    return AttentionCase(batch, cache, query, num_sequences * context)


def attend_by(backend: AttentionBackend, case: AttentionCase, layer: int = 0) -> Tensor:
    plan = backend.plan(case.batch, case.cache)
    return backend.forward(case.query, *case.cache.layer(layer), plan)
