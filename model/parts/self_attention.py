"""Self-attention around its kernel: queries, keys and values from the stream, keys and values into
the cache, and what the queries saw back into the stream.

`project` and `keep` are the textbook; `model/parts/fused.py` has `keep` in one kernel.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from thirdeye.model.attention.alibi import alibi_slopes
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.declare.block import AttentionPart
from thirdeye.model.declare.latent import LatentPart
from thirdeye.model.declare.parts import LinearPart
from thirdeye.model.parallel.parallel_linear import make_linear
from thirdeye.model.parts.activations import multiply_by_sigmoid
from thirdeye.model.parts.head_norms import (
    HeadQKNorm,
    QKNorm,
    ValueNorm,
    WideQKNorm,
    make_qk_norm,
)
from thirdeye.model.parts.latent.head_linear import make_head_linear
from thirdeye.model.parts.latent.projection import make_latent_projection
from thirdeye.model.parts.layers import Clip
from thirdeye.model.parts.rope import Rotation
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache


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
        self.num_kv_heads = part.own_kv_heads(where.ranks.size)  # that queries look at
        self.qkv = make_qkv(part.qkv, where)
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
        self.value = make_head_linear(part.value, where) if part.value else nn.Identity()
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
        """query [T, num_heads, head_dim] -> the values that they see, weighted, [T, num_heads, size
        of a value]."""
        caches = kv_cache.layer(self.layer)
        seen = self.backend.forward(query, *caches, plan, self.sink_scores, self.slopes)
        mixed: Tensor = self.value(seen)
        return mixed

    def value_of(self, head: int, seen: Tensor) -> Tensor:
        """What one head, by its number here, saw in the cache, [m, size], as `mix` gives it."""
        alone = seen.new_zeros(len(seen), self.num_heads, seen.shape[1])
        alone[:, head] = seen
        mixed: Tensor = self.value(alone)
        return mixed[:, head]

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

    def projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same three with their biases, before anything else is done to them."""
        heads = self.qkv(x).view(len(x), -1, self.head_dim)
        first_value, last = self.layout.first_value, self.num_heads + self.layout.num_kv_heads
        return heads[:, : self.num_heads], heads[:, self.num_heads : last], heads[:, first_value:]

    def unturned(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same before queries and keys are turned: cut, and normed where that comes first."""
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


def make_qkv(part: LinearPart | LatentPart, where: Placement) -> nn.Module:
    if isinstance(part, LatentPart):
        return make_latent_projection(part, where)
    return make_linear(part, where)


def ungated(mixed: Tensor, x: Tensor) -> Tensor:  # noqa: ARG001
    return mixed


def norm_then_turn(query_key: Tensor, norm: nn.Module, rotate: Rotation) -> Tensor:
    return rotate(norm(query_key))


def turn_then_norm(query_key: Tensor, norm: nn.Module, rotate: Rotation) -> Tensor:
    normed: Tensor = norm(rotate(query_key))
    return normed
