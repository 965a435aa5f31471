"""The attention protocol: one object for layers that attend alike; it plans once a step and attends
once a layer."""

from collections.abc import Hashable
from typing import Any, Protocol, Self

from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import AttentionSpec
from thirdeye.model.state.kv_cache import KVCache


class AttentionBackend(Protocol):
    """Causal attention of ragged queries over a paged KV cache, in the way that one `AttentionSpec`
    says (its `rope` apart: queries and keys come turned).

    `plan` turns a batch's metadata into whatever the backend wants (host integers, masks,
    indices), once a step; `forward` runs once a layer with that plan. Keys and values of the
    step's own tokens are in the cache before `forward` is called: token i of a sequence sees the
    keys at positions <= its own, with a window the last `window` of them.
    """

    @property
    def plan_key(self) -> Hashable:
        """Backends of one kind with equal keys make equal plans: a step is planned once for all."""

    def for_layers(self, spec: AttentionSpec) -> Self:
        """The same for layers that attend so. Raises ValueError for what it cannot do."""

    def plan(self, batch: ForwardBatch, kv_cache: KVCache) -> Any: ...

    def forward(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        plan: Any,
        sinks: Tensor | None = None,
        slopes: Tensor | None = None,
    ) -> Tensor:
        """query [T, num_heads, head_dim], caches [num_blocks, block_size, num_kv_heads, head_dim],
        with `spec.sinks` sinks and with `spec.alibi` fp32 slopes [num_heads] -> [T, num_heads,
        head_dim], in the query's dtype. With `spec.latent` values are a view of the keys' last
        channels, and the result is as wide as they are."""
