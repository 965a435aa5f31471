"""GPT-J: attention and MLP side by side, reading one norm; neighbouring channels are turned.

CodeGen is one whose queries, values and keys lie merged, by the four chips it was trained on.
"""

from dataclasses import replace

import numpy as np

from thirdeye.model.config import ModelConfig, RopeConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.classic import plain_family, plain_names
from thirdeye.weights.architectures.classic.plain_family import GPT2_NAMES, Sizes
from thirdeye.weights.architectures.common.name_table import (
    NameTable,
    Reorder,
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
QKV = "blocks.{i}.attention.qkv.weight"
CHIPS = 4


def huggingface_config(fields: Fields) -> ModelConfig:
    return _read(fields, "gptj")


def codegen_config(fields: Fields) -> ModelConfig:
    config = _read(fields, "codegen")
    if config.num_heads % CHIPS:
        raise fields.error(
            SIZES.key(fields, "num_attention_heads"),
            f"must be a multiple of {CHIPS}, got {config.num_heads}.",
        )
    return config


def _read(fields: Fields, architecture: str) -> ModelConfig:
    for key in ("rope_parameters", "rope_scaling"):
        fields.refuse(key)  # this class has none
    config = plain_family.huggingface_config(fields, architecture, SIZES)
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
    turned = _turned(config)
    return _names(
        config,
        {
            "attn.q_proj": TensorTarget(QKV, "q", turned),
            "attn.k_proj": TensorTarget(QKV, "k", turned),
            "attn.v_proj": TensorTarget(QKV, "v"),
        },
    )


def codegen_names(config: ModelConfig) -> NameTable:
    return _names(config, {"attn.qkv_proj": TensorTarget(QKV, reorder=_of_chips(config))})


def _turned(config: ModelConfig) -> Reorder:
    assert config.rope is not None
    return rotate_half_rows(config.num_heads, config.rope.dim)


def _of_chips(config: ModelConfig) -> Reorder:
    """Each had some heads' queries, then their values, then their keys."""
    height = config.hidden_size // CHIPS
    order = np.arange(3 * config.hidden_size).reshape(CHIPS, 3, height)
    query, value, key = (order[:, kind].reshape(-1) for kind in range(3))
    turned = _turned(config)
    rows = np.concatenate([turned(query), turned(key), value])
    return lambda merged: merged[rows]


def _names(config: ModelConfig, attention: dict[str, TensorTarget]) -> NameTable:
    return plain_names.huggingface_names(
        config,
        layers="h.{i}",
        layer={
            **attention,
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
CODEGEN = Architecture(
    models="CodeGen",
    model_types=("codegen",),
    gguf_architectures=(),
    huggingface_config=codegen_config,
    huggingface_names=codegen_names,
)
