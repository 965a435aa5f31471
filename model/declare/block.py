"""The parts of one layer, as its config asks for them: attention and MLP, a norm before each."""

from dataclasses import dataclass

from thirdeye.model.config import Activation, ModelConfig, Norm
from thirdeye.model.declare.parameter import Dealt, Role, Rows
from thirdeye.model.declare.parts import LinearPart, NormPart, Part


@dataclass(frozen=True, slots=True)
class QKNormPart(Part):
    """A norm over each head's channels, one for queries and one for keys."""

    query_norm: NormPart
    key_norm: NormPart


@dataclass(frozen=True, slots=True)
class AttentionPart(Part):
    """Heads are dealt out: a rank has those of its query, key and value rows."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    is_rotary: bool
    qkv: LinearPart
    qk_norm: QKNormPart | None
    output: LinearPart


@dataclass(frozen=True, slots=True)
class MLPPart(Part):
    activation: Activation
    up: LinearPart
    down: LinearPart


@dataclass(frozen=True, slots=True)
class GatedMLPPart(Part):
    activation: Activation
    gate_up: LinearPart
    down: LinearPart


@dataclass(frozen=True, slots=True)
class BlockPart(Part):
    attention_norm: NormPart
    attention: AttentionPart
    mlp_norm: NormPart
    mlp: MLPPart | GatedMLPPart


def block_part(config: ModelConfig) -> BlockPart:
    """Layers differ in nothing yet."""
    return BlockPart(
        attention_norm=norm_part(config),
        attention=attention_part(config),
        mlp_norm=norm_part(config),
        mlp=mlp_part(config),
    )


def norm_part(config: ModelConfig) -> NormPart:
    """Of the residual stream."""
    return NormPart(config.norm, config.hidden_size, config.norm_eps)


def attention_part(config: ModelConfig) -> AttentionPart:
    hidden, width = config.hidden_size, config.num_heads * config.head_dim
    kv_width = config.num_kv_heads * config.head_dim
    qkv = (
        Rows(width, Role.QUERY, "q"),
        Rows(kv_width, Role.KEY, "k"),
        Rows(kv_width, Role.VALUE, "v"),
    )
    head_norm = NormPart(Norm.RMS_NORM, config.head_dim, config.norm_eps)
    return AttentionPart(
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        is_rotary=config.rope is not None,
        qkv=LinearPart(hidden, qkv, config.qkv_bias, Dealt.ROWS),
        qk_norm=QKNormPart(head_norm, head_norm) if config.qk_norm else None,
        output=LinearPart(
            width, (Rows(hidden, Role.OUTPUT),), config.attention_output_bias, Dealt.COLUMNS
        ),
    )


def mlp_part(config: ModelConfig) -> MLPPart | GatedMLPPart:
    hidden, wide, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
    down = LinearPart(wide, (Rows(hidden, Role.MLP),), bias, Dealt.COLUMNS)
    if not config.gated_mlp:
        up = LinearPart(hidden, (Rows(wide, Role.MLP),), bias, Dealt.ROWS)
        return MLPPart(config.activation, up, down)
    halves = (Rows(wide, Role.MLP, "gate"), Rows(wide, Role.MLP, "up"))
    return GatedMLPPart(config.activation, LinearPart(hidden, halves, bias, Dealt.ROWS), down)
