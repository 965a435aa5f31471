"""A head's own query, key and value where attention is over latents (`latent_spec.py`).

The served path never has them: queries are led to latents, and all heads look at those. They are
made here, for a look alone, of the served layers: a query before it is led anywhere, a key and a
value of the latent by the head's own matrices. Of a query and a key the channels that are turned
come first.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from thirdeye.model.inspection.probe import LayerTrace
from thirdeye.model.parts.latent.projection import LatentProjection

NAMES = ("q", "k", "v", "rot_q", "rot_k", "value_norms")  # what is told of them


class LatentHeads:
    """Of one layer; of its heads this rank's own."""

    def __init__(self, trace: LayerTrace) -> None:
        self._trace, self._attention = trace, trace.block.self_attention
        spec = self._attention.spec.latent
        assert spec is not None
        self._spec = spec

    def vectors(self, name: str, rows: Sequence[int]) -> Tensor:
        """One of NAMES (of the last, values as they are kept), [rows, num_heads, size of it]."""
        trace = self._trace
        if name == "q":
            return self._queries(trace.normed[rows])
        if name == "rot_q":
            return self._turned_queries(rows)
        is_kept = name in ("rot_k", "value_norms")
        kept = trace.keys[rows] if is_kept else self._attention.projected(trace.normed[rows])[1]
        turned, latents = kept.to(trace.z.dtype).tensor_split([self._spec.rope_size], dim=-1)
        if name in ("k", "rot_k"):
            own = torch.einsum("nc,hkc->nhk", latents[:, 0], self._key_matrices)
            return torch.cat((turned.expand(-1, len(self._key_matrices), -1), own), dim=-1)
        values: Tensor = self._attention.value(latents.expand(-1, self._attention.num_heads, -1))
        return values

    def _queries(self, x: Tensor) -> Tensor:
        """x [m, hidden_size] -> [m, num_heads, head_size]."""
        projection = self._projection
        made: Tensor = projection.query(projection.query_input(x))
        return made.view(len(x), self._attention.num_heads, self._spec.head_size)

    def _turned_queries(self, rows: Sequence[int]) -> Tensor:
        """Of the served queries what is turned; the rest grows with its position as they do."""
        trace, size = self._trace, self._spec.rope_size
        rest = self._queries(trace.normed[rows])[..., size:]
        if trace.query_scale is not None:
            rest = rest * trace.query_scale[rows]
        return torch.cat((trace.query[rows][..., :size], rest), dim=-1)

    @property
    def _projection(self) -> LatentProjection:
        projection = self._attention.qkv
        assert isinstance(projection, LatentProjection)
        return projection

    @cached_property
    def _key_matrices(self) -> Tensor:
        """From latents to keys, [num_heads, key_size, size]: the served layer has them for queries,
        which it multiplies from the other side, so they are what it makes of unit vectors."""
        spec, like = self._spec, self._trace.z
        units = like.new_zeros(spec.key_size, self._attention.num_heads, spec.head_size)
        units[..., spec.rope_size :] = torch.eye(spec.key_size).to(like)[:, None]
        rows: Tensor = self._projection.key(units)[..., spec.rope_size :]  # [key_size, heads, size]
        return rows.transpose(0, 1)
