"""Self-attention around its kernel: queries, keys and values from the stream, keys and values into
the cache, and what the queries saw back into the stream.

`project` and `keep` are the textbook; `model/parts/fused.py` has `keep` in one kernel.
"""

from typing import Any

import torch
from torch import Tensor, nn

from thirdeye.model.attention.protocol import Attends, AttentionBackend
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import ModelConfig
from thirdeye.model.parallel.parallel_linear import ColumnParallelLinear, RowParallelLinear
from thirdeye.model.parallel.shares import own_rows
from thirdeye.model.parts.layers import RMSNorm
from thirdeye.model.parts.rope import Rotation
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache


class QKNorm(nn.Module):
    """An RMSNorm over each head's channels, one for queries and one for keys (Qwen3)."""

    def __init__(self, config: ModelConfig, where: Placement) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.query_norm = RMSNorm(config.head_dim, config.norm_eps, where)
        self.key_norm = RMSNorm(config.head_dim, config.norm_eps, where)

    def forward(self, query_key: Tensor) -> Tensor:
        """[T, heads of q and k, head_dim] -> the same, normed."""
        query, key = query_key.tensor_split([self.num_heads], dim=1)
        return torch.cat((self.query_norm(query), self.key_norm(key)), dim=1)


class Sinks(nn.Module):
    """A learned score a head, see `AttentionSpec`."""

    def __init__(self, num_heads: int, where: Placement) -> None:
        super().__init__()
        self.weight = where.empty(num_heads)
        self._ranks = where.ranks

    def share(self, name: str, part: str | None, tensor: Tensor) -> Tensor:  # noqa: ARG002
        """This rank's of all heads' scores."""
        return own_rows(tensor, self._ranks)


class SelfAttention(nn.Module):
    """Queries, keys, values from one projection; keys and values are kept, queries look at them."""

    def __init__(
        self, config: ModelConfig, layer: int, backend: AttentionBackend, where: Placement
    ) -> None:
        super().__init__()
        self.layer = layer
        self.backend: Attends = backend  # the probe's hook stands before it while it looks
        self.head_dim = config.head_dim
        self.num_heads, self.num_kv_heads = config.num_heads, config.num_kv_heads
        hidden, width = config.hidden_size, config.num_heads * config.head_dim
        kv_width = config.num_kv_heads * config.head_dim
        self.qkv = ColumnParallelLinear(
            hidden,
            width + 2 * kv_width,
            config.qkv_bias,
            where,
            parts={"q": width, "k": kv_width, "v": kv_width},
        )
        self.qk_norm = QKNorm(config, where) if config.qk_norm else nn.Identity()
        self.spec = config.attention_of(layer)
        self.sink_scores: Tensor | None = None
        if self.spec.sinks:
            self.sinks = Sinks(config.num_heads, where)
            self.sink_scores = self.sinks.weight.detach()  # the same memory, found faster
        self.output = RowParallelLinear(width, hidden, config.attention_output_bias, where)

    def forward(
        self, x: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache, plan: Any
    ) -> Tensor:
        query = self.keep(x, batch, rotate, kv_cache)
        mixed = self.backend.forward(query, *kv_cache.layer(self.layer), plan, self.sink_scores)
        return self.output(mixed.flatten(1))  # [T, hidden_size]

    def keep(self, x: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache) -> Tensor:
        """Put keys and values of x [T, hidden_size] into the cache; the query is given back."""
        query, key, value = self.project(x, rotate)
        kv_cache.write(self.layer, key, value, batch.slot_mapping)
        return query

    def project(self, x: Tensor, rotate: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """x [T, hidden_size] -> query [T, num_heads, head_dim] and, narrower, key and value."""
        qkv = self.qkv(x).unflatten(-1, (-1, self.head_dim))  # [T, heads of q, k, v, head_dim]
        query_key, value = qkv.tensor_split([self.num_heads + self.num_kv_heads], dim=1)
        turned = rotate(self.qk_norm(query_key))
        query, key = turned.tensor_split([self.num_heads], dim=1)
        return query, key, value
