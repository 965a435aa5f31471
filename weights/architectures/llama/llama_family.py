"""What Llama and its many relatives share: the keys of their settings.

    x += attention(norm(x)); x += down(silu(gate(norm x)) * up(norm x)), rotary positions, RMSNorm

A relative reads its settings with `huggingface_config` and `gguf_config`, replaces in the result
what differs. Their tensors' names are in `llama_names.py`.
"""

from dataclasses import dataclass

from thirdeye.model.config import Activation, ModelConfig, Norm, RopeConfig
from thirdeye.weights.architectures.common.activations import read_activation
from thirdeye.weights.architectures.common.heads import check_kv_heads, split_into_heads
from thirdeye.weights.architectures.common.limits import (
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_INTERMEDIATE,
    MAX_LAYERS,
    MAX_POSITIONS,
    MAX_VOCAB,
)
from thirdeye.weights.architectures.common.per_layer import shared_number
from thirdeye.weights.architectures.common.rope_settings import (
    gguf_rope,
    huggingface_rope,
    refuse_partial_rotation,
)
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the configuration class in transformers takes for keys that a config.json leaves out."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_heads: int
    max_position_embeddings: int
    head_dim: int | None = None  # None: hidden_size / num_heads
    num_kv_heads: int | None = None  # None: num_heads
    norm_eps: float = 1e-6
    norm_eps_key: str = "rms_norm_eps"
    activation: str = "silu"
    activation_key: str = "hidden_act"
    rope_theta: float = 10000.0
    rotary_fraction: float | None = None  # of a head's channels; None: always all
    has_ropes_by_kind: bool = False  # whoever says so reads them itself
    is_tied: bool = False


GGUF_EPS = {
    Norm.RMS_NORM: "attention.layer_norm_rms_epsilon",
    Norm.LAYER_NORM: "attention.layer_norm_epsilon",
}


def huggingface_config(fields: Fields, architecture: str, defaults: Defaults) -> ModelConfig:
    fields.refuse("is_causal", True)
    if defaults.rotary_fraction is None:
        refuse_partial_rotation(fields)
    hidden_size = fields.integer("hidden_size", defaults.hidden_size, high=MAX_HIDDEN)
    num_heads = fields.integer("num_attention_heads", defaults.num_heads, high=MAX_HEADS)
    num_kv_heads = num_heads if fields.is_null("num_key_value_heads") else defaults.num_kv_heads
    num_kv_heads = fields.integer("num_key_value_heads", num_kv_heads or num_heads, high=MAX_HEADS)
    check_kv_heads(fields, "num_key_value_heads", num_heads, num_kv_heads)
    head_dim = defaults.head_dim
    if head_dim is None or "head_dim" in fields:
        head_dim = _head_dim(fields, "head_dim", "num_attention_heads", hidden_size, num_heads)
    attention_bias = fields.boolean("attention_bias", False)
    context = fields.integer(
        "max_position_embeddings", defaults.max_position_embeddings, high=MAX_POSITIONS
    )
    return ModelConfig(
        architecture=architecture,
        vocab_size=fields.integer("vocab_size", defaults.vocab_size, high=MAX_VOCAB),
        hidden_size=hidden_size,
        intermediate_size=fields.integer(
            "intermediate_size", defaults.intermediate_size, high=MAX_INTERMEDIATE
        ),
        num_hidden_layers=fields.integer(
            "num_hidden_layers", defaults.num_hidden_layers, high=MAX_LAYERS
        ),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_position_embeddings=context,
        norm=Norm.RMS_NORM,
        norm_eps=fields.positive(defaults.norm_eps_key, defaults.norm_eps),
        activation=read_activation(fields, defaults.activation_key, defaults.activation),
        gated_mlp=True,
        rope=_rope(fields, head_dim, context, defaults),
        qkv_bias=attention_bias,
        attention_output_bias=attention_bias,
        mlp_bias=fields.boolean("mlp_bias", False),
        tie_word_embeddings=fields.boolean("tie_word_embeddings", defaults.is_tied),
    )


def gguf_config(
    fields: Fields,
    file: GGUFFile,
    vocab_size: int,
    architecture: str,
    *,
    norm: Norm = Norm.RMS_NORM,
    has_windows: bool = False,
    is_partly_rotary: bool = False,
    has_experts: bool = False,
    head_dim: int | None = None,
) -> ModelConfig:
    """Who says that it has windows, experts or heads of some size sees to them itself."""
    if not has_experts:
        fields.refuse("expert_count", 0)
    fields.refuse("attention.causal", True)
    if not has_windows:
        fields.refuse("attention.sliding_window", 0)
    hidden_size = fields.integer("embedding_length", high=MAX_HIDDEN)
    num_heads = shared_number(fields, "attention.head_count", high=MAX_HEADS)
    num_kv_heads = shared_number(fields, "attention.head_count_kv", num_heads, high=MAX_HEADS)
    check_kv_heads(fields, "attention.head_count_kv", num_heads, num_kv_heads)
    if head_dim is None:
        head_dim = _head_dim(
            fields, "attention.key_length", "attention.head_count", hidden_size, num_heads
        )
        if fields.integer("attention.value_length", head_dim, high=MAX_HEAD_DIM) != head_dim:
            raise fields.error("attention.value_length", f"must equal the key length {head_dim}.")
    return ModelConfig(
        architecture=architecture,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=shared_number(fields, "feed_forward_length", high=MAX_INTERMEDIATE),
        num_hidden_layers=fields.integer("block_count", high=MAX_LAYERS),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_position_embeddings=fields.integer("context_length", high=MAX_POSITIONS),
        norm=norm,
        norm_eps=fields.positive(GGUF_EPS[norm]),
        activation=Activation.SILU,
        gated_mlp=True,
        rope=gguf_rope(fields, file, head_dim, is_partial=is_partly_rotary),
        qkv_bias=any(f"blk.0.attn_{kind}.bias" in file.tensors for kind in ("q", "qkv")),
        attention_output_bias="blk.0.attn_output.bias" in file.tensors,
        mlp_bias="blk.0.ffn_up.bias" in file.tensors,
        tie_word_embeddings="output.weight" not in file.tensors,
    )


def _rope(fields: Fields, head_dim: int, context: int, defaults: Defaults) -> RopeConfig:
    if defaults.has_ropes_by_kind:
        return RopeConfig(defaults.rope_theta, head_dim)
    fraction = defaults.rotary_fraction or 1.0
    return huggingface_rope(fields, head_dim, context, defaults.rope_theta, fraction)


def _head_dim(fields: Fields, key: str, heads_key: str, hidden_size: int, num_heads: int) -> int:
    if key in fields:
        head_dim = fields.integer(key, high=MAX_HEAD_DIM)
    else:
        head_dim = split_into_heads(fields, heads_key, hidden_size, num_heads)
    if head_dim % 2:
        raise fields.error(key, f"rotary positions need an even head size, got {head_dim}.")
    return head_dim
