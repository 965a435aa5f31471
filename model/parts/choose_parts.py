"""Which class each part of a block is: by what it declares, and by where it will run."""

from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.config import Activation, Norm
from thirdeye.model.declare.block import AttentionPart, GatedMLPPart, MLPPart
from thirdeye.model.declare.parts import NormPart
from thirdeye.model.parts.fused import (
    FusedGatedMLP,
    FusedRMSNorm,
    FusedSelfAttention,
    NativeLayerNorm,
    NativeMLP,
)
from thirdeye.model.parts.layers import MLP, AddNorm, GatedMLP, LayerNorm, RMSNorm
from thirdeye.model.parts.self_attention import SelfAttention
from thirdeye.model.placement import Placement


def make_norm(part: NormPart, where: Placement) -> AddNorm:
    if part.kind is Norm.LAYER_NORM:
        layer_norm = NativeLayerNorm if where.native else LayerNorm
        return layer_norm(part.size, part.eps, where, has_bias=part.has_bias)
    kind = FusedRMSNorm if where.has_kernels else RMSNorm
    return kind(part.size, part.eps, where)


def make_attention(
    part: AttentionPart, layer: int, backend: AttentionBackend, where: Placement
) -> SelfAttention:
    kind = FusedSelfAttention if where.has_kernels else SelfAttention
    return kind(part, layer, backend, where)


def make_mlp(part: MLPPart | GatedMLPPart, where: Placement) -> MLP | GatedMLP:
    if isinstance(part, MLPPart):
        return NativeMLP(part, where) if where.native else MLP(part, where)
    has_kernel = bool(where.native) or part.activation is Activation.SILU
    is_fused = where.has_kernels and has_kernel
    return FusedGatedMLP(part, where) if is_fused else GatedMLP(part, where)
