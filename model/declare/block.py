"""The parts of one layer, as its config asks for them: attention and MLP, a norm before each."""

from collections.abc import Mapping
from dataclasses import dataclass

from thirdeye.model.config import Activation, AttentionSpec, ModelConfig, Norm
from thirdeye.model.declare.head_layout import HeadLayout
from thirdeye.model.declare.latent import HeadLinearPart, LatentPart, latent_part, value_part
from thirdeye.model.declare.mlp import (
    ExpertsPart,
    GatedMLPPart,
    MixedMLPPart,
    MLPPart,
    experts_part,
    gated_mlp_part,
    plain_mlp_part,
)
from thirdeye.model.declare.parameter import Dealt, Fill, Parameter, Role, Rows
from thirdeye.model.declare.parts import HeadNormPart, LinearPart, NormPart, Part, WideNormPart
from thirdeye.model.declare.states import StatePart, state_part


@dataclass(frozen=True, slots=True)
class QKNormPart(Part):
    """A norm over each head's channels, one for queries and one for keys, if it has any."""

    query_norm: NormPart
    key_norm: NormPart | None
    is_last: bool  # of heads that have been turned


@dataclass(frozen=True, slots=True)
class WideQKNormPart(Part):
    """A norm over all heads' channels together, one for queries and one for keys."""

    query_norm: WideNormPart
    key_norm: WideNormPart


@dataclass(frozen=True, slots=True)
class HeadQKNormPart(Part):
    """A norm of its own for each head of queries, and of keys."""

    query_norm: HeadNormPart
    key_norm: HeadNormPart


@dataclass(frozen=True, slots=True)
class SinksPart(Part):
    """A score for each head, of a key that is not there."""

    num_heads: int

    def own(self) -> Mapping[str, Parameter]:
        return {"weight": Parameter((Rows(self.num_heads, Role.KEY),), dealt=Dealt.ROWS)}


@dataclass(frozen=True, slots=True)
class LayerScalePart(Part):
    """One number."""

    def own(self) -> Mapping[str, Parameter]:
        return {"weight": Parameter((Rows(1, Role.NORMS),), fill=Fill.ONES)}


@dataclass(frozen=True, slots=True)
class LayerInputPart(Part):
    """What a layer makes of its own input of a token, `number` among the layers'. Each rank does
    all of it: it is small."""

    number: int
    activation: Activation
    gate: LinearPart
    project: LinearPart
    norm: NormPart


@dataclass(frozen=True, slots=True)
class AttentionPart(Part):
    """Heads are dealt out: a rank has those of its query, key and value rows. `value_eps`: of the
    norm over each value, without a weight; None: there is none."""

    spec: AttentionSpec
    num_heads: int
    num_kv_heads: int
    head_dim: int
    qkv: LinearPart | LatentPart
    clip: float | None
    qk_norm: QKNormPart | None
    wide_qk_norm: WideQKNormPart | None
    head_qk_norm: HeadQKNormPart | None
    value_eps: float | None
    sinks: SinksPart | None
    value: HeadLinearPart | None  # what becomes of what heads saw; None: nothing
    gate: LinearPart | None  # by whose sigmoids what the heads saw is multiplied
    output: LinearPart

    def layout(self, num_ranks: int) -> HeadLayout:
        """Of one rank's heads."""
        num_kv_heads = 0 if self.spec.source is not None else self.own_kv_heads(num_ranks)
        return HeadLayout(
            self.num_heads // num_ranks,
            num_kv_heads,
            self.spec.has_values,
            self.value_eps,
            keeps_values=self.spec.latent is None,
        )

    def own_kv_heads(self, num_ranks: int) -> int:
        """How many one rank's queries look at. A latent is everybody's."""
        return self.num_kv_heads if self.spec.latent else self.num_kv_heads // num_ranks


@dataclass(frozen=True, slots=True)
class BlockPart(Part):
    """`attention_norm` and `mlp_norm` are of the stream, the others of what is added to it. A layer
    that keeps a state stands where others have attention. Where there is either attention or an MLP
    it reads the first norm, and the second is not there."""

    attention_norm: NormPart | None
    attention: AttentionPart | StatePart | None
    state: StatePart | None  # beside attention: what both make of one norm is added up
    attention_post_norm: NormPart | None
    # None although there is the other: they share that, or experts beside the MLP norm themselves.
    mlp_norm: NormPart | None
    mlp: MLPPart | GatedMLPPart | ExpertsPart | MixedMLPPart | None
    mlp_post_norm: NormPart | None
    layer_input: LayerInputPart | None
    layer_scale: LayerScalePart | None
    residual_scale: float
    is_parallel: bool
    norms_stream: bool  # with the first two norms, after each addition


def block_part(config: ModelConfig, layer: int) -> BlockPart:
    norm, state = norm_part(config), config.state_of(layer)
    before, after = (
        norm if config.pre_norm or config.norms_stream else None,
        norm if config.post_norm else None,
    )
    has_mlp, is_lone = layer in config.mlp_layers, bool(config.lone_mlps)
    mlp = mlp_part(config, layer) if has_mlp else None
    reads_stream = config.shares_norm or is_lone or isinstance(mlp, MixedMLPPart)
    return BlockPart(
        attention_norm=before,
        attention=None if has_mlp and is_lone else mixer_part(config, layer),
        state=state_part(config, state) if state and config.state_beside else None,
        attention_post_norm=after,
        mlp_norm=None if reads_stream else before,
        mlp=mlp,
        mlp_post_norm=after,
        layer_input=layer_input_part(config, layer) if config.layer_input_size else None,
        layer_scale=LayerScalePart() if config.layer_scale else None,
        residual_scale=config.residual_scale,
        is_parallel=config.is_parallel,
        norms_stream=config.norms_stream,
    )


def layer_input_part(config: ModelConfig, layer: int) -> LayerInputPart:
    hidden, size = config.hidden_size, config.layer_input_size
    return LayerInputPart(
        layer,
        config.activation,
        LinearPart(hidden, (Rows(size, Role.MLP),), False, Dealt.WHOLE),
        LinearPart(size, (Rows(hidden, Role.MLP),), False, Dealt.WHOLE),
        norm_part(config),
    )


def mixer_part(config: ModelConfig, layer: int) -> AttentionPart | StatePart:
    """What looks at other tokens."""
    state = config.state_of(layer)
    if state is None or config.state_beside:
        return attention_part(config, layer)
    return state_part(config, state)


def norm_part(config: ModelConfig) -> NormPart:
    """Of the residual stream."""
    return NormPart(
        config.norm, config.hidden_size, config.norm_eps, config.norm_bias, config.norm_weight
    )


def attention_part(config: ModelConfig, layer: int) -> AttentionPart:
    spec = config.attention_of(layer)
    head_dim, num_kv_heads = config.head_dim_of(layer), config.num_kv_heads_of(layer)
    hidden, width = config.hidden_size, config.num_heads * head_dim
    kv_width = num_kv_heads * head_dim
    query, key = Rows(width, Role.QUERY, "q"), Rows(kv_width, Role.KEY, "k")
    value = Rows(kv_width, Role.VALUE, "v")
    kept = () if spec.source is not None else (key, value) if spec.has_values else (key,)
    latent, seen = spec.latent, width
    if latent is not None:
        seen = config.num_heads * latent.value_size
    wide_norms = WideQKNormPart(
        WideNormPart(width, config.norm_eps), WideNormPart(kv_width, config.norm_eps)
    )
    head_norms = HeadQKNormPart(
        HeadNormPart(config.num_heads, head_dim, config.norm_eps),
        HeadNormPart(num_kv_heads, head_dim, config.norm_eps),
    )
    return AttentionPart(
        spec=spec,
        num_heads=config.num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        qkv=latent_part(config, latent)
        if latent
        else LinearPart(hidden, (query, *kept), config.qkv_bias, Dealt.ROWS),
        qk_norm=qk_norm_part(config, spec, head_dim, has_keys=bool(kept)),
        clip=config.clip_qkv,
        wide_qk_norm=wide_norms if config.wide_qk_norm else None,
        head_qk_norm=head_norms if config.head_qk_norm else None,
        value_eps=config.norm_eps if config.value_norm else None,
        sinks=SinksPart(config.num_heads) if spec.sinks else None,
        value=value_part(config, latent) if latent else None,
        gate=LinearPart(hidden, (Rows(seen, Role.OUTPUT),), config.qkv_bias, Dealt.ROWS)
        if config.attention_gate
        else None,
        output=LinearPart(
            seen, (Rows(hidden, Role.OUTPUT),), config.attention_output_bias, Dealt.COLUMNS
        ),
    )


def qk_norm_part(
    config: ModelConfig, spec: AttentionSpec, head_dim: int, *, has_keys: bool
) -> QKNormPart | None:
    norm, is_last = NormPart(Norm.RMS_NORM, head_dim, config.norm_eps), config.norms_turned
    if spec.unit_norm_eps is not None:
        norm, is_last = NormPart(Norm.RMS_NORM, head_dim, spec.unit_norm_eps, False, False), True
    elif not config.qk_norm:
        return None
    return QKNormPart(norm, norm if has_keys else None, is_last)


def mlp_part(
    config: ModelConfig, layer: int = 0
) -> MLPPart | GatedMLPPart | ExpertsPart | MixedMLPPart:
    spec = config.experts_of(layer)
    if spec is not None and not config.experts_beside:
        return experts_part(config, spec)
    make = gated_mlp_part if config.gated_mlp else plain_mlp_part
    mlp = make(config, config.mlp_size_of(layer), config.mlp_bias)
    if spec is None:
        return mlp
    norm = norm_part(config)
    return MixedMLPPart(norm, mlp, norm, norm, norm, experts_part(config, spec), norm)
