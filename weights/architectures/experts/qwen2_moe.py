"""Qwen1.5 and Qwen2 with experts: a softmax router whose weights need not add up to 1, and an MLP
beside that each token takes by a sigmoid."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import (
    GGUF_WITH_GATED_BESIDE,
    WITH_GATED_BESIDE,
    chosen,
    count,
    gguf_experts,
    size,
    sparse_layers,
    with_experts,
)
from thirdeye.weights.architectures.common.layer_types import FULL
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=151936,
    hidden_size=2048,
    intermediate_size=5632,
    num_hidden_layers=24,
    num_heads=16,
    num_kv_heads=16,
    max_position_embeddings=32768,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    for key in ("attention_bias", "mlp_bias"):  # no settings of this class
        fields.refuse(key, False)
    config = llama_family.huggingface_config(fields, "qwen2_moe", DEFAULTS)
    fields.refuse("use_sliding_window", False)
    fields.refuse("layer_types", [FULL] * config.num_hidden_layers)
    num_experts = count(fields, "num_experts", 60, config)
    spec = ExpertsSpec(
        num_experts=num_experts,
        num_chosen=chosen(fields, "num_experts_per_tok", 4, num_experts),
        intermediate_size=size(fields, "moe_intermediate_size", 1408),
        is_renormalized=fields.boolean("norm_topk_prob", False),
        shared_size=size(fields, "shared_expert_intermediate_size", 5632),
        shared_gate=True,
    )
    return replace(
        config,
        qkv_bias=fields.boolean("qkv_bias", True),
        experts=spec,
        dense_layers=sparse_layers(fields, config),
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    return with_experts(llama_names.huggingface_names(config), config, WITH_GATED_BESIDE)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "qwen2_moe", has_experts=True)
    spec = gguf_experts(
        fields,
        config,
        intermediate_size=size(fields, "expert_feed_forward_length", 0),
        shared_size=size(fields, "expert_shared_feed_forward_length", config.intermediate_size),
        shared_gate=True,
    )
    return replace(config, experts=spec)


def gguf_names(config: ModelConfig) -> NameTable:
    return with_experts(llama_names.gguf_names(config), config, GGUF_WITH_GATED_BESIDE)


QWEN2_MOE = Architecture(
    models="Qwen1.5 and Qwen2 with experts",
    model_types=("qwen2_moe",),
    gguf_architectures=("qwen2moe",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
