"""Which class each part of a block is: by the model's config, and by where it will run."""

from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.config import Activation, ModelConfig, Norm
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


def make_norm(config: ModelConfig, where: Placement) -> AddNorm:
    if config.norm is Norm.LAYER_NORM:
        layer_norm = NativeLayerNorm if where.native else LayerNorm
        return layer_norm(config.hidden_size, config.norm_eps, where)
    kind = FusedRMSNorm if where.has_kernels else RMSNorm
    return kind(config.hidden_size, config.norm_eps, where)


def make_attention(
    config: ModelConfig, layer: int, backend: AttentionBackend, where: Placement
) -> SelfAttention:
    kind = FusedSelfAttention if where.has_kernels else SelfAttention
    return kind(config, layer, backend, where)


def make_mlp(config: ModelConfig, where: Placement) -> MLP | GatedMLP:
    if not config.gated_mlp:
        return NativeMLP(config, where) if where.native else MLP(config, where)
    has_kernel = bool(where.native) or config.activation is Activation.SILU
    is_fused = where.has_kernels and has_kernel
    return FusedGatedMLP(config, where) if is_fused else GatedMLP(config, where)
