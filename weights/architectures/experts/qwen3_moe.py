"""Qwen3 with experts (30B-A3B, 235B-A22B, Coder): Qwen3's attention, and a softmax router.

llama.cpp makes the weights of the chosen add up to 1 whatever the model's config says.
"""

from dataclasses import replace

from thirdeye.model.config import AttentionSpec, ModelConfig
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import (
    GGUF_EXPERTS,
    ONE_BY_ONE,
    chosen,
    either_count,
    gguf_experts,
    size,
    sparse_layers,
    with_experts,
)
from thirdeye.weights.architectures.common.layer_types import FULL, SLIDING, read_window, windows
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.llama.llama_names import GGUF_HEAD_NORMS, HEAD_NORMS
from thirdeye.weights.architectures.llama.qwen2 import read_what_pictures_need
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=151936,
    hidden_size=2048,
    intermediate_size=6144,
    num_hidden_layers=24,
    num_heads=32,
    num_kv_heads=4,
    max_position_embeddings=32768,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: it never has one
    config = llama_family.huggingface_config(fields, "qwen3_moe", DEFAULTS)
    num_experts = either_count(fields, 128, config)
    spec = ExpertsSpec(
        num_experts=num_experts,
        num_chosen=chosen(fields, "num_experts_per_tok", 8, num_experts),
        intermediate_size=size(fields, "moe_intermediate_size", 768),
        is_renormalized=fields.boolean("norm_topk_prob", False),
    )
    return replace(
        config,
        qk_norm=True,
        attention=every_window(fields, config),
        experts=spec,
        dense_layers=sparse_layers(fields, config),
    )


def every_window(fields: Fields, config: ModelConfig) -> tuple[AttentionSpec, ...]:
    """In this class all layers have the window, or none."""
    fields.refuse("layer_types", [FULL] * config.num_hidden_layers)
    if not fields.boolean("use_sliding_window", False) or fields.is_null("sliding_window"):
        return ()
    kinds = [SLIDING] * config.num_hidden_layers
    return windows(kinds, config.rope, read_window(fields, 4096))


def huggingface_names(config: ModelConfig) -> NameTable:
    table = llama_names.huggingface_names(config, HEAD_NORMS)
    return with_experts(table, config, ONE_BY_ONE)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    read_what_pictures_need(fields)
    config = llama_family.gguf_config(fields, file, vocab_size, "qwen3_moe", has_experts=True)
    width = size(fields, "expert_feed_forward_length", 0)
    spec = gguf_experts(fields, config, intermediate_size=width, is_renormalized=True)
    return replace(config, qk_norm=True, experts=spec)


def gguf_names(config: ModelConfig) -> NameTable:
    table = llama_names.gguf_names(config, GGUF_HEAD_NORMS)
    return with_experts(table, config, GGUF_EXPERTS)


QWEN3_MOE = Architecture(
    models="Qwen3 with experts: 30B-A3B, 235B-A22B, Coder; Qwen3-VL's (their text)",
    model_types=("qwen3_moe",),
    gguf_architectures=("qwen3moe", "qwen3vlmoe"),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
