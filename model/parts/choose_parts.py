"""Which class each part of a block is: by what it declares, and by where it will run."""

from typing import Any, TypeVar

from torch import nn

from thirdeye.model.config import Activation, Norm
from thirdeye.model.declare.block import AttentionPart, LayerScalePart
from thirdeye.model.declare.mlp import ExpertsPart, GatedMLPPart, MixedMLPPart, MLPPart
from thirdeye.model.declare.parts import LinearPart, NormPart, TablePart
from thirdeye.model.declare.states import DeltaNetPart, ShortConvPart, StatePart
from thirdeye.model.parallel.parallel_linear import make_linear
from thirdeye.model.parts.experts import Experts
from thirdeye.model.parts.fused import (
    FusedGatedMLP,
    FusedRMSNorm,
    FusedSelfAttention,
    NativeLayerNorm,
    NativeLayerScale,
    NativeMLP,
)
from thirdeye.model.parts.fused_experts import FusedExperts, NativeExperts
from thirdeye.model.parts.layers import (
    MLP,
    AddNorm,
    Embedding,
    GatedMLP,
    LayerNorm,
    LayerScale,
    NoNorm,
    RMSNorm,
    Scaled,
    ScaledEmbedding,
    SoftCap,
)
from thirdeye.model.parts.mixed_mlp import MixedMLP
from thirdeye.model.parts.self_attention import BorrowingAttention, SelfAttention
from thirdeye.model.parts.states.delta_net import DeltaNet, NativeDeltaNet
from thirdeye.model.parts.states.fused_states import (
    FusedDeltaNet,
    FusedMamba2,
    FusedShortConv,
)
from thirdeye.model.parts.states.mamba2 import Mamba2, NativeMamba2
from thirdeye.model.parts.states.short_conv import NativeShortConv, ShortConv
from thirdeye.model.parts.states.state_mixer import StateMixer
from thirdeye.model.placement import Placement

Kind = TypeVar("Kind")


def make_norm(part: NormPart, where: Placement) -> AddNorm:
    if part.kind is Norm.LAYER_NORM:
        layer_norm = NativeLayerNorm if where.native else LayerNorm
        return layer_norm(part, where)
    kind = FusedRMSNorm if where.has_kernels else RMSNorm
    return kind(part.size, part.eps, where, has_weight=part.has_weight)


def make_pre_norm(part: NormPart | None, where: Placement) -> AddNorm:
    """Of the stream, which a layer may also read as it is."""
    return NoNorm() if part is None else make_norm(part, where)


def make_post_norm(part: NormPart | None, scale: float, where: Placement) -> nn.Module:
    """What is done to a layer's output before it is added to the stream: nothing, in most."""
    if part is not None:
        return make_norm(part, where)
    return nn.Identity() if scale == 1 else Scaled(scale)


def make_layer_scale(part: LayerScalePart | None, where: Placement) -> nn.Module:
    """What is done to the stream behind a layer: nothing, in most."""
    if part is None:
        return nn.Identity()
    return NativeLayerScale(where) if where.native else LayerScale(where)


def make_embedding(part: TablePart, where: Placement) -> Embedding:
    return Embedding(part, where) if part.scale == 1 else ScaledEmbedding(part, where)


def make_projection(part: LinearPart | None, where: Placement) -> nn.Module:
    """Between embeddings and a stream of another width: nothing, in most."""
    return nn.Identity() if part is None else make_linear(part, where)


def make_logit_shape(scale: float, softcap: float | None) -> nn.Module:
    """What is done to the head's logits: nothing, in most."""
    scaled = nn.Identity() if scale == 1 else Scaled(scale)
    return scaled if softcap is None else nn.Sequential(scaled, SoftCap(softcap))


def make_attention(
    part: AttentionPart | StatePart | None, index: int, backend: Any, where: Placement
) -> nn.Module:
    """`index`: of its cache among those of its kind. None: there is none, in a layer of few."""
    if part is None:
        return nn.Identity()
    if not isinstance(part, AttentionPart):
        return make_state(part, index, where)
    plain = SelfAttention if part.spec.source is None else BorrowingAttention
    kind = FusedSelfAttention if where.has_kernels else plain
    return kind(part, index, backend, where)


def make_state(part: StatePart, index: int, where: Placement) -> StateMixer:
    """`index`: of its state among those of all such layers."""
    if isinstance(part, ShortConvPart):
        return _kind_of(where, ShortConv, NativeShortConv, FusedShortConv)(part, index, where)
    if isinstance(part, DeltaNetPart):
        return _kind_of(where, DeltaNet, NativeDeltaNet, FusedDeltaNet)(part, index, where)
    return _kind_of(where, Mamba2, NativeMamba2, FusedMamba2)(part, index, where)


def _kind_of(where: Placement, plain: Kind, native: Kind, fused: Kind) -> Kind:
    if where.native:
        return native
    return fused if where.is_fused else plain


def make_mlp(
    part: MLPPart | GatedMLPPart | ExpertsPart | MixedMLPPart | None, where: Placement
) -> MLP | GatedMLP | Experts | MixedMLP | nn.Identity:
    """None: there is none, in a layer of few."""
    if part is None:
        return nn.Identity()
    if isinstance(part, ExpertsPart):
        return make_experts(part, where)
    if isinstance(part, MixedMLPPart):
        return make_mixed_mlp(part, where)
    return make_dense_mlp(part, where)


def make_mixed_mlp(part: MixedMLPPart, where: Placement) -> MixedMLP:
    return MixedMLP(
        norm=make_norm(part.norm, where),
        mlp=make_dense_mlp(part.mlp, where),
        post_norm=make_norm(part.post_norm, where),
        router_norm=make_norm(part.router_norm, where),
        experts_norm=make_norm(part.experts_norm, where),
        experts=make_experts(part.experts, where),
        experts_post_norm=make_norm(part.experts_post_norm, where),
    )


def make_dense_mlp(part: MLPPart | GatedMLPPart, where: Placement) -> MLP | GatedMLP:
    if isinstance(part, MLPPart):
        return NativeMLP(part, where) if where.native else MLP(part, where)
    has_kernel = bool(where.native) or part.activation is not Activation.XIELU
    is_fused = where.has_kernels and has_kernel
    return FusedGatedMLP(part, where) if is_fused else GatedMLP(part, where)


def make_experts(part: ExpertsPart, where: Placement) -> Experts:
    """Raises ValueError on a GPU without triton: rows would be grouped on the host there."""
    if where.native:
        return NativeExperts(part, where)
    if where.is_fused:
        return FusedExperts(part, where)
    if where.device.type == "cuda":
        raise ValueError("models with experts need the package triton on a GPU, or '--device cpu'.")
    return Experts(part, where)
