"""A head's own query, key and value where attention is over latents (`latent_spec.py`).

The served path never has them: queries are led to latents, and all heads look at those. They are
made here, for a look alone, of the served layers: a query before it is led anywhere, a key and a
value of the latent by the head's own matrices. Of a query and a key the channels that are turned
come first.
"""

from functools import cached_property

import torch
from torch import Tensor

from thirdeye.model.declare.latent_spec import LatentSpec
from thirdeye.model.parts.latent.projection import LatentProjection
from thirdeye.model.parts.self_attention import SelfAttention


class HeadMatrices:
    """Of one layer; of its heads this rank's own."""

    def __init__(self, attention: SelfAttention, like: Tensor) -> None:
        """`like` has the dtype and device of what is made."""
        spec, projection = attention.spec.latent, attention.qkv
        assert spec is not None
        assert isinstance(projection, LatentProjection)
        self.spec: LatentSpec = spec
        self._attention, self._projection, self._like = attention, projection, like

    def queries(self, x: Tensor) -> Tensor:
        """x [m, hidden_size] -> [m, num_heads, head_size], not turned."""
        made: Tensor = self._projection.query(self._projection.query_input(x))
        return made.view(len(x), self._attention.num_heads, self.spec.head_size)

    def turned_queries(self, query: Tensor, x: Tensor, scale: Tensor | None) -> Tensor:
        """The same as they look at keys: of the served queries [m, num_heads, kept_size] what is
        turned; the rest grows with its position as they do (`scale` [m, 1, 1])."""
        size = self.spec.rope_size
        rest = self.queries(x)[..., size:]
        if scale is not None:
            rest = rest * scale
        return torch.cat((query[..., :size], rest), dim=-1)

    def latents(self, x: Tensor) -> Tensor:
        """x [m, hidden_size] -> what is kept of it before it is turned, [m, 1, kept_size]."""
        return self._attention.projected(x)[1]

    def keys(self, kept: Tensor) -> Tensor:
        """kept [m, 1, kept_size] -> [m, num_heads, head_size], turned or not, as `kept` is."""
        turned, latents = kept.to(self._like.dtype).tensor_split([self.spec.rope_size], dim=-1)
        own = torch.einsum("nc,hkc->nhk", latents[:, 0], self._matrices)
        return torch.cat((turned.expand(-1, len(self._matrices), -1), own), dim=-1)

    def values(self, kept: Tensor) -> Tensor:
        """kept [m, 1, kept_size] -> [m, num_heads, value_size]."""
        latents = kept.to(self._like.dtype)[..., self.spec.rope_size :]
        made: Tensor = self._attention.value(latents.expand(-1, self._attention.num_heads, -1))
        return made

    @cached_property
    def _matrices(self) -> Tensor:
        """From latents to keys, [num_heads, key_size, size]: the served layer has them for queries,
        which it multiplies from the other side, so they are what it makes of unit vectors."""
        spec, like = self.spec, self._like
        units = like.new_zeros(spec.key_size, self._attention.num_heads, spec.head_size)
        units[..., spec.rope_size :] = torch.eye(spec.key_size).to(like)[:, None]
        rows: Tensor = self._projection.key(units)[..., spec.rope_size :]  # [key_size, heads, size]
        return rows.transpose(0, 1)
