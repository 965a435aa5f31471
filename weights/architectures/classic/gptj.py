"""GPT-J: attention and MLP side by side, reading one norm; neighbouring channels are turned."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig, RopeConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.classic import plain_family, plain_names
from thirdeye.weights.architectures.classic.plain_family import GPT2_NAMES, Sizes
from thirdeye.weights.architectures.common.name_table import (
    NameTable,
    TensorTarget,
    rotate_half_rows,
)
from thirdeye.weights.formats.fields import Fields

SIZES = Sizes(
    vocab_size=50400,
    hidden_size=4096,
    num_hidden_layers=28,
    num_attention_heads=16,
    max_position_embeddings=2048,
    activation="gelu_new",
    names=GPT2_NAMES,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    for key in ("rope_parameters", "rope_scaling"):
        fields.refuse(key)  # this class has none
    config = plain_family.huggingface_config(fields, "gptj", SIZES)
    if fields.is_null("rotary_dim"):
        raise fields.error("rotary_dim", "must be the number of channels that are turned.")
    dim = fields.integer("rotary_dim", 64, high=config.head_dim)
    if dim % 2:
        raise fields.error("rotary_dim", f"must be even, got {dim}.")
    return replace(
        config,
        rope=RopeConfig(10000.0, dim),
        qkv_bias=False,
        attention_output_bias=False,
        is_parallel=True,
        shares_norm=True,
        head_bias=not config.tie_word_embeddings,
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    assert config.rope is not None
    turned = rotate_half_rows(config.num_heads, config.rope.dim)
    qkv = "blocks.{i}.attention.qkv.weight"
    return plain_names.huggingface_names(
        config,
        layers="h.{i}",
        layer={
            "attn.q_proj": TensorTarget(qkv, "q", turned),
            "attn.k_proj": TensorTarget(qkv, "k", turned),
            "attn.v_proj": TensorTarget(qkv, "v"),
            "attn.out_proj": "attention.output",
            "mlp.fc_in": "mlp.up",
            "mlp.fc_out": "mlp.down",
            "ln_1": "attention_norm",
        },
        top={"wte": "embed_tokens", "ln_f": "final_norm"},
        ignored=frozenset(f"h.{{i}}.attn.{name}" for name in ("bias", "masked_bias")),
        prefixes=("transformer.",),
    )


GPTJ = Architecture(
    models="GPT-J 6B",
    model_types=("gptj",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
)
