"""From the stream to queries and keys of multi-head latent attention: see `latent_spec.py`."""

from typing import Any

import torch
from torch import Tensor, nn

from thirdeye.model.declare.latent import LatentPart
from thirdeye.model.native.latent_kernels import LatentNormKernel
from thirdeye.model.parallel.parallel_linear import make_linear
from thirdeye.model.parts.latent.head_linear import NativeHeadLinear, make_head_linear
from thirdeye.model.parts.layers import RMSNorm
from thirdeye.model.placement import Placement


class LatentProjection(nn.Module):
    """What `SelfAttention` has elsewhere of one linear layer: this rank's queries, then a key, all
    of one size, not yet turned. Of each the first channels are those that will be."""

    def __init__(self, part: LatentPart, where: Placement) -> None:
        super().__init__()
        self._rope_size, self._head_size = part.spec.rope_size, part.spec.head_size
        self.query_down = make_linear(part.query_down, where) if part.query_down else None
        norm = part.query_norm
        self.query_norm = RMSNorm(norm.size, norm.eps, where) if norm else None
        self.query = make_linear(part.query, where)
        self.latent = make_linear(part.latent, where)
        self.latent_norm = RMSNorm(part.latent_norm.size, part.latent_norm.eps, where)
        self.key = make_head_linear(part.key, where, part.spec.rope_size)

    def forward(self, x: Tensor) -> Tensor:
        """x [T, hidden_size] -> [T, (num_heads + 1) * kept_size]."""
        query = self.query(self.query_input(x))
        heads = query.view(len(x), -1, self._head_size)
        return self.joined(heads, self.latent(x))

    def query_input(self, x: Tensor) -> Tensor:
        """x, or the latent that queries are made of."""
        if self.query_down is None or self.query_norm is None:
            return x
        return self.normed(self.query_down(x), self.query_norm)

    def joined(self, query: Tensor, latent: Tensor) -> Tensor:
        """query [T, num_heads, head_size], latent [T, kept_size] -> as `forward`."""
        turned, vector = latent.tensor_split([self._rope_size], dim=-1)
        normed = self.normed(vector.contiguous(), self.latent_norm)
        return torch.cat((self.key(query).flatten(1), turned, normed), dim=-1)

    def normed(self, x: Tensor, norm: RMSNorm) -> Tensor:
        normed: Tensor = norm(x)
        return normed


class NativeLatentProjection(LatentProjection):
    """The same with norms in a kernel, and queries and key written where attention wants them; a
    CPU's alone."""

    def __init__(self, part: LatentPart, where: Placement) -> None:
        super().__init__(part, where)
        assert where.native is not None
        self._kernel = LatentNormKernel(where.native)

    def joined(self, query: Tensor, latent: Tensor) -> Tensor:
        num_tokens, num_heads, _ = query.shape
        heads = query.new_empty(num_tokens, num_heads + 1, latent.shape[1])
        assert isinstance(self.key, NativeHeadLinear)
        self.key.write(query, heads[:, :num_heads])
        norm = self.latent_norm
        self._kernel(latent, norm.weight, norm.eps, heads[:, num_heads], self._rope_size)
        return heads.view(num_tokens, -1)

    def normed(self, x: Tensor, norm: RMSNorm) -> Tensor:
        normed = torch.empty_like(x)
        self._kernel(x, norm.weight, norm.eps, normed)
        return normed


class FusedLatentProjection(LatentProjection):
    """The same with norms in a kernel in triton, imported here."""

    def __init__(self, part: LatentPart, where: Placement) -> None:
        super().__init__(part, where)
        from thirdeye.model.kernels import rms_norm  # noqa: PLC0415

        self._kernels: Any = rms_norm

    def normed(self, x: Tensor, norm: RMSNorm) -> Tensor:
        normed: Tensor = self._kernels.rms_norm(x, norm.weight, norm.eps)
        return normed


def make_latent_projection(part: LatentPart, where: Placement) -> LatentProjection:
    if where.native:
        return NativeLatentProjection(part, where)
    return (FusedLatentProjection if where.is_fused else LatentProjection)(part, where)
