"""A norm taken apart: what it measures of a vector, and what it does to one when that is held.

With its divisor held at the actual value a norm is linear, and what it makes of a sum is the sum of
what it makes of the parts. The divisor itself depends on all of them: what is attributed that way
is exact, and is not what would happen without a part.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thirdeye.model.inspection.probe import LayerTrace
from thirdeye.model.parts.blocks import ParallelBlock, PostNormBlock, SharedNormBlock
from thirdeye.model.parts.layers import LayerNorm, LayerScale, RMSNorm, Scaled
from thirdeye.model.parts.mixed_mlp import MixedMLP

STATS = ("mean", "rms", "std", "scale")


def norm_stats(trace: LayerTrace) -> Tensor:
    """Of the inputs of attention's norm and the MLP's, at each token: [2, n, 4] as STATS."""
    block, before = trace.block, trace.resid_pre
    if isinstance(block, SharedNormBlock):
        both = [(block.attention_norm, before)] * 2
    elif isinstance(block, ParallelBlock):
        both = [(block.attention_norm, before), (block.mlp_norm, before)]
    elif isinstance(block, PostNormBlock):
        behind = block.attention_norm(trace.resid_mid) + trace.mlp_out
        both = [(block.attention_norm, trace.resid_mid), (block.mlp_norm, behind)]
    else:
        mlp_norm = block.mlp.norm if isinstance(block.mlp, MixedMLP) else block.mlp_norm
        both = [(block.attention_norm, before), (mlp_norm, trace.resid_mid)]
    return torch.stack([stats_of(norm, x) for norm, x in both])


def stats_of(norm: nn.Module, x: Tensor) -> Tensor:
    """x [n, width] -> [n, 4]: its mean, root mean square and deviation over the channels of each
    token, and what `norm` divides by; NaN where there is none."""
    x = x.float()
    mean, rms = x.mean(-1), x.square().mean(-1).sqrt()
    std = (x - mean[:, None]).square().mean(-1).sqrt()
    return torch.stack((mean, rms, std, divisor(norm, x)), dim=-1)


def divisor(norm: nn.Module, x: Tensor) -> Tensor:
    """x [n, width] -> [n] what each row is divided by, in x's dtype."""
    if isinstance(norm, RMSNorm):
        return (x.square().mean(-1) + norm.eps).sqrt()
    if isinstance(norm, LayerNorm):
        return (x.var(-1, correction=0) + norm.eps).sqrt()
    return torch.full_like(x[:, 0], math.nan)


@dataclass(frozen=True, slots=True)
class HeldNorm:
    """What is done to a part c of the vector x that a module norms, with the divisor held at x's:
    the parts' sum, plus `constant`, is what it makes of x. In float64."""

    weight: Tensor  # [width] or [1]: per channel
    is_centred: bool
    constant: Tensor  # [width] or [1]

    def __call__(self, parts: Tensor) -> Tensor:
        """parts [..., width] -> [..., width]."""
        parts = parts.double()
        if self.is_centred:
            parts = parts - parts.mean(-1, keepdim=True)
        return parts * self.weight

    def back(self, direction: Tensor) -> Tensor:
        """The direction [width] before the norm that gives a part what `direction` gives behind."""
        found = direction.double() * self.weight
        return found - found.mean() if self.is_centred else found


def held(module: nn.Module, x: Tensor) -> HeldNorm:
    """x [width]. `module`: a norm, a factor, or nothing."""
    wide = x.double()
    nothing = wide.new_zeros(1)
    if isinstance(module, RMSNorm | LayerNorm):
        weight = module.weight.double() / divisor(module, wide[None])
        is_centred = isinstance(module, LayerNorm)
        bias = module.bias if isinstance(module, LayerNorm) else None
        return HeldNorm(weight, is_centred, nothing if bias is None else bias.double())
    factor = nothing + 1
    if isinstance(module, Scaled):
        factor = factor * module.factor
    if isinstance(module, LayerScale):
        factor = module.weight.double()
    return HeldNorm(factor, False, nothing)
