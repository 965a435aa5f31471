"""Gemma 2: a Gemma with norms around attention and MLP, windows in every other layer, soft caps.

Scores are scaled by a setting of their own, `query_pre_attn_scalar`.
"""

from collections.abc import Sequence
from dataclasses import replace

from thirdeye.model.config import Activation, AttentionSpec, ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.layer_types import (
    by_kind,
    every_nth_full,
    gguf_layer_types,
    read_layer_types,
    read_window,
)
from thirdeye.weights.architectures.common.limits import MAX_POSITIONS
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.gemma.gemma import gemma_config, gemma_names
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.llama.llama_names import GGUF_POST_NORMS
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=256000,
    hidden_size=2304,
    intermediate_size=9216,
    num_hidden_layers=26,
    num_heads=8,
    num_kv_heads=4,
    max_position_embeddings=8192,
    head_dim=256,
    activation="gelu_pytorch_tanh",
    activation_key="hidden_activation",
    is_tied=True,
)
NORMS = {
    "input_layernorm.weight": "blocks.{i}.attention_norm.weight",
    "post_attention_layernorm.weight": "blocks.{i}.attention_post_norm.weight",
    "pre_feedforward_layernorm.weight": "blocks.{i}.mlp_norm.weight",
    "post_feedforward_layernorm.weight": "blocks.{i}.mlp_post_norm.weight",
}
LAYERS_OF_27B = 46  # llama.cpp tells it by them: its queries are scaled in another way


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("use_bidirectional_attention", False)
    config = gemma_config(llama_family.huggingface_config(fields, "gemma2", DEFAULTS))
    kinds = read_layer_types(fields, every_nth_full(config.num_hidden_layers, 2))
    return gemma2_config(
        config,
        kinds,
        window=read_window(fields, 4096),
        scale=fields.positive("query_pre_attn_scalar", 256) ** -0.5,
        score_cap=read_cap(fields, "attn_logit_softcapping", 50.0),
        logit_cap=read_cap(fields, "final_logit_softcapping", 30.0),
    )


def read_cap(fields: Fields, key: str, default: float | None) -> float | None:
    """Null: none."""
    if fields.is_null(key) or (key not in fields and default is None):
        return None
    return fields.positive(key, default or 0.0)


def gemma2_config(
    config: ModelConfig,
    kinds: Sequence[str],
    *,
    window: int | None,
    scale: float,
    score_cap: float | None,
    logit_cap: float | None,
) -> ModelConfig:
    full = AttentionSpec(rope=config.rope, scale=scale, softcap=score_cap)
    attention = by_kind(kinds, full, replace(full, window=window))
    return replace(config, post_norm=True, attention=attention, logit_softcap=logit_cap)


def huggingface_names(config: ModelConfig) -> NameTable:
    return gemma_names(config, NORMS)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "gemma2", has_windows=True)
    config = gemma_config(replace(config, activation=Activation.GELU_TANH))
    return gemma2_config(
        config,
        gguf_layer_types(fields, config.num_hidden_layers, 2),
        window=fields.integer("attention.sliding_window", 4096, high=MAX_POSITIONS),
        scale=gguf_query_scale(config, LAYERS_OF_27B),
        score_cap=fields.positive("attn_logit_softcapping", 50.0),
        logit_cap=fields.positive("final_logit_softcapping", 30.0),
    )


def gguf_query_scale(config: ModelConfig, layers_of_27b: int) -> float:
    if config.num_hidden_layers == layers_of_27b:
        return float((config.hidden_size // config.num_heads) ** -0.5)
    return float(config.head_dim**-0.5)


def gguf_names(config: ModelConfig) -> NameTable:
    return llama_names.gguf_names(config, GGUF_POST_NORMS)


GEMMA2 = Architecture(
    models="Gemma 2",
    model_types=("gemma2",),
    gguf_architectures=("gemma2",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
