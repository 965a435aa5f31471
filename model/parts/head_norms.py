"""Norms of queries, keys and values: of each head, or over all heads together.

Queries and keys may be normed before they are turned or after, or among all that is projected.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thirdeye.model.declare.block import HeadQKNormPart, QKNormPart, WideQKNormPart
from thirdeye.model.declare.parts import HeadNormPart, NormPart, WideNormPart
from thirdeye.model.parts.layers import RMSNorm
from thirdeye.model.placement import Placement


def head_norm(part: NormPart, where: Placement) -> RMSNorm:
    return RMSNorm(part.size, part.eps, where, has_weight=part.has_weight)


class QKNorm(nn.Module):
    """An RMSNorm over each head's channels, one for queries and one for keys: before they are
    turned (Qwen3), or after (Hunyuan)."""

    def __init__(self, part: QKNormPart, num_heads: int, where: Placement) -> None:
        super().__init__()
        self.num_heads, self.is_last = num_heads, part.is_last
        self.query_norm = head_norm(part.query_norm, where)
        self.key_norm: RMSNorm | None = None
        if part.key_norm is not None:
            self.key_norm = head_norm(part.key_norm, where)

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


def make_qk_norm(part: QKNormPart | None, num_heads: int, where: Placement) -> nn.Module:
    if part is None:
        return nn.Identity()
    kind = QKNorm if part.key_norm else QueryNorm
    return kind(part, num_heads, where)
