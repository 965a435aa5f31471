"""Self-attention around its kernel: queries, keys and values from the stream, keys and values into
the cache, and what the queries saw back into the stream.

`project` and `keep` are the textbook; `model/parts/fused.py` has `keep` in one kernel.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thirdeye.model.attention.alibi import alibi_slopes
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.declare.block import (
    AttentionPart,
    HeadQKNormPart,
    QKNormPart,
    WideQKNormPart,
)
from thirdeye.model.declare.parts import HeadNormPart, WideNormPart
from thirdeye.model.parallel.parallel_linear import make_linear
from thirdeye.model.parts.activations import multiply_by_sigmoid
from thirdeye.model.parts.layers import Clip, RMSNorm
from thirdeye.model.parts.rope import Rotation
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache


class QKNorm(nn.Module):
    """An RMSNorm over each head's channels, one for queries and one for keys: before they are
    turned (Qwen3), or after (Hunyuan)."""

    def __init__(self, part: QKNormPart, num_heads: int, where: Placement) -> None:
        super().__init__()
        self.num_heads, self.is_last = num_heads, part.is_last
        self.query_norm = RMSNorm(part.query_norm.size, part.query_norm.eps, where)
        self.key_norm: RMSNorm | None = None
        if part.key_norm is not None:
            self.key_norm = RMSNorm(part.key_norm.size, part.key_norm.eps, where)

    def forward(self, query_key: Tensor) -> Tensor:
        """[T, heads of q and k, head_dim] -> the same, normed."""
        assert self.key_norm is not None
        query, key = query_key.tensor_split([self.num_heads], dim=1)
        return torch.cat((self.query_norm(query), self.key_norm(key)), dim=1)


class QueryNorm(QKNorm):
    """The same of a layer that projects no keys."""

    def forward(self, query_key: Tensor) -> Tensor:
        """[T, heads of q, head_dim] -> the same, normed."""
        normed: Tensor = self.query_norm(query_key)
        return normed


class WideQKNorm(nn.Module):
    """An RMSNorm over all heads' channels together, one for queries and one for keys (OLMo 2).

    A rank that has some of the heads asks the others for their squares.
    """

    def __init__(self, part: WideQKNormPart, where: Placement) -> None:
        super().__init__()
        self.query_norm = WideNorm(part.query_norm, where)
        self.key_norm = WideNorm(part.key_norm, where)

    def forward(self, qkv: Tensor) -> Tensor:
        """[T, channels of q, k and v] -> the same with queries and keys normed."""
        sizes = len(self.query_norm.weight), len(self.key_norm.weight)
        query, key, value = qkv.tensor_split([sizes[0], sum(sizes)], dim=-1)
        return torch.cat((self.query_norm(query), self.key_norm(key), value), dim=-1)


class WideNorm(nn.Module):
    def __init__(self, part: WideNormPart, where: Placement) -> None:
        super().__init__()
        self._ranks, self._size, self.eps = where.ranks, part.size, part.eps
        self.weight = where.empty(part.size // where.ranks.size)

    def forward(self, x: Tensor) -> Tensor:
        """[T, this rank's channels] -> the same, normed."""
        wide = x.float()
        squares = self._ranks.add_up(wide.square().sum(-1, keepdim=True)) / self._size
        return self.weight * (wide * torch.rsqrt(squares + self.eps)).to(x.dtype)


class HeadQKNorm(nn.Module):
    """A LayerNorm of its own for each head of queries and of keys (Command R+, StableLM 2 12B)."""

    def __init__(self, part: HeadQKNormPart, where: Placement) -> None:
        super().__init__()
        self.query_norm = HeadNorm(part.query_norm, where)
        self.key_norm = HeadNorm(part.key_norm, where)

    def forward(self, qkv: Tensor) -> Tensor:
        """[T, channels of q, k and v] -> the same with queries and keys normed."""
        sizes = self.query_norm.weight.numel(), self.key_norm.weight.numel()
        query, key, value = qkv.tensor_split([sizes[0], sum(sizes)], dim=-1)
        return torch.cat((self.query_norm(query), self.key_norm(key), value), dim=-1)


class HeadNorm(nn.Module):
    def __init__(self, part: HeadNormPart, where: Placement) -> None:
        super().__init__()
        self.eps = part.eps
        self.weight = where.empty(part.num_heads // where.ranks.size, part.head_dim)

    def forward(self, x: Tensor) -> Tensor:
        """[T, channels of this rank's heads] -> the same, normed."""
        heads = x.reshape(len(x), *self.weight.shape).float()
        normed = F.layer_norm(heads, self.weight.shape[1:], eps=self.eps) * self.weight.float()
        return normed.to(x.dtype).flatten(1)


class ValueNorm(nn.Module):
    """An RMSNorm over each value's channels, without a weight (Gemma 4)."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self._eps = eps

    def forward(self, value: Tensor) -> Tensor:
        """[T, num_kv_heads, head_dim] -> the same, normed."""
        wide = value.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self._eps)
        return (wide * scale).to(value.dtype)


class Sinks(nn.Module):
    """A learned score a head, see `AttentionSpec`."""

    def __init__(self, num_heads: int, where: Placement) -> None:
        super().__init__()
        self.weight = where.empty(num_heads)


class SelfAttention(nn.Module):
    """Queries, keys, values from one projection; keys and values are kept, queries look at them.

    `num_heads` and `num_kv_heads` are this rank's.
    """

    def __init__(
        self, part: AttentionPart, layer: int, backend: AttentionBackend, where: Placement
    ) -> None:
        super().__init__()
        self.layer = layer
        self.backend = backend
        self.spec, self.head_dim = part.spec, part.head_dim
        self.layout = part.layout(where.ranks.size)
        self.num_heads = self.layout.num_heads
        self.num_kv_heads = part.num_kv_heads // where.ranks.size  # that queries look at
        self.qkv = make_linear(part.qkv, where)
        self.clip = nn.Identity() if part.clip is None else Clip(part.clip)
        norms = part.qk_norm
        self.qk_norm = make_qk_norm(norms, self.num_heads, where)
        self._norms_last = norms is not None and norms.is_last
        self._turned = turn_then_norm if self._norms_last else norm_then_turn
        wide = part.wide_qk_norm
        self.wide_qk_norm = WideQKNorm(wide, where) if wide else nn.Identity()
        by_head = part.head_qk_norm
        self.head_qk_norm = HeadQKNorm(by_head, where) if by_head else nn.Identity()
        self.value_norm = ValueNorm(part.value_eps) if part.value_eps else nn.Identity()
        self.sink_scores: Tensor | None = None
        if part.sinks:
            self.sinks = Sinks(self.num_heads, where)
            self.sink_scores = self.sinks.weight.detach()  # the same memory, found faster
        self.slopes: Tensor | None = None
        if part.spec.alibi:
            self.slopes = alibi_slopes(part.spec.alibi, part.num_heads, where)
        self.output = make_linear(part.output, where)
        self.gate = make_linear(part.gate, where) if part.gate else None
        self.through_gate = self._gated if part.gate else ungated
        self._multiply: Callable[[Tensor, Tensor], Tensor] = multiply_by_sigmoid

    def forward(
        self, x: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache, plan: Any
    ) -> Tensor:
        query = self.keep(x, batch, rotate, kv_cache)
        mixed = self.mix(query, kv_cache, plan)
        return self.output(self.through_gate(mixed.flatten(1), x))  # [T, hidden_size]

    def _gated(self, mixed: Tensor, x: Tensor) -> Tensor:
        """What the heads saw, [T, their channels], let through as each token's x says."""
        assert self.gate is not None
        return self._multiply(mixed, self.gate(x))

    def mix(self, query: Tensor, kv_cache: KVCache, plan: Any) -> Tensor:
        """The values that queries see, weighted: like query [T, num_heads, head_dim]."""
        caches = kv_cache.layer(self.layer)
        return self.backend.forward(query, *caches, plan, self.sink_scores, self.slopes)

    def keep(self, x: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache) -> Tensor:
        """Put keys and values of x [T, hidden_size] into the cache; the query is given back."""
        query, key, value = self.project(x, rotate)
        kv_cache.write(self.layer, key, value, batch.slot_mapping)
        return query

    def normed(self, x: Tensor) -> Tensor:
        """x [T, hidden_size] -> [T, channels of q, k and v], before they are turned."""
        return self.shaped(self.qkv(x))

    def shaped(self, qkv: Tensor) -> Tensor:
        """[T, channels of q, k and v], as they are projected -> what is turned and kept."""
        return self.head_qk_norm(self.wide_qk_norm(self.clip(qkv)))

    def project(self, x: Tensor, rotate: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """x [T, hidden_size] -> query [T, num_heads, head_dim] and, narrower, key and value."""
        query_key, value = self._heads(x)
        turned = self._turned(query_key, self.qk_norm, rotate)
        query, key = turned.tensor_split([self.num_heads], dim=1)
        return rotate.scale_query(query), key, value

    def unturned(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same three before queries and keys are turned: normed, where that comes first."""
        query_key, value = self._heads(x)
        if not self._norms_last:
            query_key = self.qk_norm(query_key)
        query, key = query_key.tensor_split([self.num_heads], dim=1)
        return query, key, value

    def turn_keys(self, keys: Tensor, rotate: Rotation) -> Tensor:
        """Keys [T, num_kv_heads, head_dim] that `unturned` gave, as they are kept."""
        turned = rotate(keys)
        if self._norms_last and isinstance(self.qk_norm, QKNorm) and self.qk_norm.key_norm:
            turned = self.qk_norm.key_norm(turned)
        return turned

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys [T, heads, head_dim] as they are projected, and values as kept."""
        heads = self.normed(x).view(len(x), -1, self.head_dim)
        query_key = heads[:, : self.num_heads + self.layout.num_kv_heads]
        return query_key, self.value_norm(heads[:, self.layout.first_value :])


class BorrowingAttention(SelfAttention):
    """Queries look at the keys of an earlier layer, which is where `layer` says."""

    def keep(
        self,
        x: Tensor,
        batch: ForwardBatch,  # noqa: ARG002  # nothing is written
        rotate: Rotation,
        kv_cache: KVCache,  # noqa: ARG002
    ) -> Tensor:
        query, _, _ = self.project(x, rotate)
        return query


def make_qk_norm(part: QKNormPart | None, num_heads: int, where: Placement) -> nn.Module:
    if part is None:
        return nn.Identity()
    kind = QKNorm if part.key_norm else QueryNorm
    return kind(part, num_heads, where)


def ungated(mixed: Tensor, x: Tensor) -> Tensor:  # noqa: ARG001
    return mixed


def norm_then_turn(query_key: Tensor, norm: nn.Module, rotate: Rotation) -> Tensor:
    return rotate(norm(query_key))


def turn_then_norm(query_key: Tensor, norm: nn.Module, rotate: Rotation) -> Tensor:
    normed: Tensor = norm(rotate(query_key))
    return normed
