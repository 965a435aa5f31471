"""Rotary positions: each pair of a head's channels is a hand of a clock, turned by the token's
position.

The score of a query at position m and a key at n then depends on n - m alone (Su et al. 2021,
"RoFormer"). Each frequency turns one pair of channels; pairs are (i, i + dim / 2), the "rotate
half" convention of Hugging Face, not RoFormer's (2i, 2i + 1): checkpoints in the other order are
permuted when they are read.

`at(positions)` is asked once a step; what it returns is applied to queries and keys in each layer.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from thirdeye.model.config import RopeConfig, RopeScaling, Temperature
from thirdeye.model.placement import Placement


@dataclass(frozen=True, slots=True)
class Rotation:
    """One step's hands: the cos and sin [T, 1, dim / 2] of its tokens, the same for every head.

    `query_scale` [T, 1, 1]: what queries are then multiplied by; None: nothing.
    """

    cos: Tensor
    sin: Tensor
    query_scale: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        half = self.cos.shape[-1]
        if not half:
            return x
        first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        turned = (first * self.cos - second * self.sin, second * self.cos + first * self.sin)
        return torch.cat((*turned, rest), dim=-1)

    def scale_query(self, query: Tensor) -> Tensor:
        """query [T, num_heads, head_dim] -> the same, turned queries as they look at keys."""
        return query if self.query_scale is None else query * self.query_scale


class Rope(nn.Module):
    """Cos and sin of position * frequency: computed in fp32, kept in the model's dtype."""

    def __init__(
        self,
        config: RopeConfig,
        max_position_embeddings: int,
        where: Placement,
        context: int | None = None,
    ) -> None:
        """`context`: the longest text there will be; None: as long as there are positions."""
        super().__init__()
        positions = torch.arange(max_position_embeddings, dtype=torch.float32)
        frequencies = inverse_frequencies(config, context or max_position_embeddings)
        angles = torch.outer(positions, frequencies)  # [max_pos, dim / 2]
        factor = config.scaling.attention_factor if config.scaling else 1.0
        both = torch.stack((angles.cos(), angles.sin())) * factor
        self.table = both.to(where.device, where.dtype)  # [2, max_pos, dim / 2], looked up at once

    def at(self, positions: Tensor) -> Rotation:
        """positions [T] -> the function that turns the heads of these T tokens."""
        cos, sin = self.table.index_select(1, positions)[:, :, None]  # [T, 1, dim / 2] each
        return Rotation(cos, sin)


class NoRope(nn.Module):
    """For layers that leave their heads as they are: a rotation of no channel."""

    def __init__(self, where: Placement) -> None:
        super().__init__()
        self._table = torch.empty(1, 1, 0, dtype=where.dtype, device=where.device)

    def at(self, positions: Tensor) -> Rotation:
        nothing = self._table.expand(len(positions), 1, 0)
        return Rotation(nothing, nothing)


class TemperatureRope:
    """A rotation whose queries grow with their position, see `Temperature`."""

    def __init__(
        self,
        rope: Rope | NoRope,
        temperature: Temperature,
        max_position_embeddings: int,
        where: Placement,
    ) -> None:
        positions = torch.arange(max_position_embeddings, dtype=torch.float32)
        counted = positions + temperature.first
        growth = torch.log(1 + torch.floor(counted / temperature.length))
        self._rope = rope
        self._query_scale = (1 + temperature.beta * growth).to(where.device, where.dtype)

    def at(self, positions: Tensor) -> Rotation:
        scale = self._query_scale.index_select(0, positions)  # [T]
        return replace(self._rope.at(positions), query_scale=scale.view(-1, 1, 1))


def inverse_frequencies(config: RopeConfig, context: int) -> Tensor:
    """Radians a position, for each of the dim / 2 channel pairs, fastest first: theta^(-2i / dim),
    scaled. `context`: the longest text there will be, which some scalings depend on.

    Raises ValueError for a scaling this model does not know.
    """
    scaling = config.scaling
    if scaling is None:
        return _unscaled(config)
    if scaling.kind not in SCALINGS:
        known = ", ".join(SCALINGS)
        raise ValueError(f"RoPE scaling '{scaling.kind}' is not supported: use one of {known}.")
    return SCALINGS[scaling.kind](config, scaling, context)


def _unscaled(config: RopeConfig) -> Tensor:
    exponents = torch.arange(0, config.dim, 2, dtype=torch.float32) / config.dim
    return 1.0 / config.theta**exponents


def _linear(config: RopeConfig, scaling: RopeScaling, context: int) -> Tensor:  # noqa: ARG001
    """All hands go `factor` times slower."""
    return _unscaled(config) / scaling.factor


def _dynamic(config: RopeConfig, scaling: RopeScaling, context: int) -> Tensor:
    """Up to the original context nothing changes; a longer one raises theta, once and for all
    texts: keys that were turned by another theta could not be compared with."""
    original = scaling.original_max_position_embeddings
    growth = scaling.factor * max(context, original) / original - (scaling.factor - 1)
    theta = config.theta * growth ** (config.dim / (config.dim - 2))
    return _unscaled(replace(config, theta=theta))


def _llama3(config: RopeConfig, scaling: RopeScaling, context: int) -> Tensor:  # noqa: ARG001
    """Llama 3.1's stretch: fast hands keep their pace, slow ones go `factor` times slower.

    "Fast" is more than `high_freq_factor` turns within the original context, "slow" fewer than
    `low_freq_factor`; between them the two paces are mixed linearly.
    """
    frequencies = _unscaled(config)
    turns = scaling.original_max_position_embeddings * frequencies / (2 * math.pi)
    band = scaling.high_freq_factor - scaling.low_freq_factor
    keep = ((turns - scaling.low_freq_factor) / band).clamp(0, 1)
    return keep * frequencies + (1 - keep) * frequencies / scaling.factor


def _yarn(config: RopeConfig, scaling: RopeScaling, context: int) -> Tensor:  # noqa: ARG001
    """YaRN (Peng et al. 2023): as Llama 3's, but mixed linearly over the hands' numbers: from the
    one with `beta_fast` turns within the original context to the one with `beta_slow`."""

    def hand_of(turns: float) -> float:
        length = scaling.original_max_position_embeddings / (turns * 2 * math.pi)
        return config.dim * math.log(length) / (2 * math.log(config.theta))

    first, last = hand_of(scaling.beta_fast), hand_of(scaling.beta_slow)
    if scaling.is_truncated:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, config.dim - 1)
    width = last - first if last != first else 0.001
    hands = torch.arange(config.dim // 2, dtype=torch.float32)
    slowed = ((hands - first) / width).clamp(0, 1)
    frequencies = _unscaled(config)
    return frequencies / scaling.factor * slowed + frequencies * (1 - slowed)


def _longrope(config: RopeConfig, scaling: RopeScaling, context: int) -> Tensor:
    """LongRoPE (Ding et al. 2024): a factor for each hand, found by search; other ones for contexts
    longer than the original. The server's context decides, so that all its texts share keys."""
    is_long = context > scaling.original_max_position_embeddings
    factors = scaling.long_factors if is_long else scaling.short_factors
    return _unscaled(config) / torch.tensor(factors, dtype=torch.float32)


def _proportional(config: RopeConfig, scaling: RopeScaling, context: int) -> Tensor:  # noqa: ARG001
    """The first pairs are turned, at the pace they have among all; the others never (Gemma 4)."""
    frequencies = _unscaled(config) / scaling.factor
    frequencies[scaling.num_pairs :] = 0
    return frequencies


SCALINGS = {
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "proportional": _proportional,
}
