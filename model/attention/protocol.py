"""The attention protocol: one object per engine; it plans once a step and attends once a layer."""

from typing import Any, Protocol

from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.state.kv_cache import KVCache


class AttentionBackend(Protocol):
    """Causal attention of ragged queries over a paged KV cache.

    `plan` turns a batch's metadata into whatever the backend wants (host integers, masks,
    indices), once a step; `forward` runs once a layer with that plan. Keys and values of the
    step's own tokens are in the cache before `forward` is called: token i of a sequence sees the
    keys at positions <= its own.
    """

    def plan(self, batch: ForwardBatch, kv_cache: KVCache) -> Any: ...

    def forward(self, query: Tensor, key_cache: Tensor, value_cache: Tensor, plan: Any) -> Tensor:
        """query [T, num_heads, head_dim], caches [num_blocks, block_size, num_kv_heads, head_dim]
        -> [T, num_heads, head_dim], in the query's dtype."""
