"""Rotary positions: each pair of a head's channels is a hand of a clock, turned by the token's
position.

The score of a query at position m and a key at n then depends on n - m alone (Su et al. 2021,
"RoFormer"). Each frequency turns one pair of channels; pairs are (i, i + dim / 2), the "rotate
half" convention of Hugging Face, not RoFormer's (2i, 2i + 1): checkpoints in the other order are
permuted when they are read.

`at(positions)` is asked once a step; what it returns is applied to queries and keys in each layer.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thirdeye.model.config import RopeConfig, RopeScaling
from thirdeye.model.placement import Placement


@dataclass(frozen=True, slots=True)
class Rotation:
    """One step's hands: the cos and sin [T, 1, dim / 2] of its tokens, the same for every head."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        half = self.cos.shape[-1]
        if not half:
            return x
        first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        turned = (first * self.cos - second * self.sin, second * self.cos + first * self.sin)
        return torch.cat((*turned, rest), dim=-1)


class Rope(nn.Module):
    """Cos and sin of position * frequency: computed in fp32, kept in the model's dtype."""

    def __init__(self, config: RopeConfig, max_position_embeddings: int, where: Placement) -> None:
        super().__init__()
        positions = torch.arange(max_position_embeddings, dtype=torch.float32)
        angles = torch.outer(positions, inverse_frequencies(config))  # [max_pos, dim / 2]
        self.cos = angles.cos().to(where.device, where.dtype)
        self.sin = angles.sin().to(where.device, where.dtype)

    def at(self, positions: Tensor) -> Rotation:
        """positions [T] -> the function that turns the heads of these T tokens."""
        return Rotation(self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1))


class NoRope(nn.Module):
    """For layers that leave their heads as they are: a rotation of no channel."""

    def __init__(self, where: Placement) -> None:
        super().__init__()
        self._table = torch.empty(1, 1, 0, dtype=where.dtype, device=where.device)

    def at(self, positions: Tensor) -> Rotation:
        nothing = self._table.expand(len(positions), 1, 0)
        return Rotation(nothing, nothing)


def inverse_frequencies(config: RopeConfig) -> Tensor:
    """Radians a position, for each of the dim / 2 channel pairs, fastest first: theta^(-2i / dim),
    scaled.

    Raises ValueError for a scaling this model does not know.
    """
    exponents = torch.arange(0, config.dim, 2, dtype=torch.float32) / config.dim
    frequencies = 1.0 / config.theta**exponents
    scaling = config.scaling
    if scaling is None:
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    if scaling.kind == "llama3":
        return _llama3(frequencies, scaling)
    raise ValueError(f"RoPE scaling '{scaling.kind}' is not supported: use 'linear' or 'llama3'.")


def _llama3(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3.1's stretch: fast hands keep their pace, slow ones go `factor` times slower.

    "Fast" is more than `high_freq_factor` turns within the original context, "slow" fewer than
    `low_freq_factor`; between them the two paces are mixed linearly.
    """
    turns = scaling.original_max_position_embeddings * frequencies / (2 * math.pi)
    band = scaling.high_freq_factor - scaling.low_freq_factor
    keep = ((turns - scaling.low_freq_factor) / band).clamp(0, 1)
    return keep * frequencies + (1 - keep) * frequencies / scaling.factor
