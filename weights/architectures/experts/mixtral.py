"""Mixtral: Mistral's attention and two experts of eight. llama.cpp knows it as a Llama."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import (
    DOWN,
    GATE,
    ROUTER,
    UP,
    chosen,
    either_count,
    with_experts,
)
from thirdeye.weights.architectures.common.layer_types import SLIDING, read_window, windows
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields

DEFAULTS = Defaults(
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_heads=32,
    num_kv_heads=8,
    max_position_embeddings=131072,
    norm_eps=1e-5,
    rope_theta=1e6,
)
NAMES = {
    "block_sparse_moe.gate.weight": ROUTER,
    "block_sparse_moe.experts.{e}.w1.weight": GATE,
    "block_sparse_moe.experts.{e}.w3.weight": UP,
    "block_sparse_moe.experts.{e}.w2.weight": DOWN,
}


def huggingface_config(fields: Fields) -> ModelConfig:
    for key in ("attention_bias", "mlp_bias"):  # no settings of this class: it never has biases
        fields.refuse(key, False)
    fields.refuse("layer_types")  # transformers does not obey it in this class
    config = llama_family.huggingface_config(fields, "mixtral", DEFAULTS)
    num_experts = either_count(fields, 8, config)
    window = read_window(fields, 4096) if "sliding_window" in fields else None
    return replace(
        config,
        attention=windows([SLIDING] * config.num_hidden_layers, config.rope, window),
        experts=ExpertsSpec(
            num_experts=num_experts,
            num_chosen=chosen(fields, "num_experts_per_tok", 2, num_experts),
            intermediate_size=config.intermediate_size,
            is_renormalized=True,
        ),
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    return with_experts(llama_names.huggingface_names(config), config, NAMES)


MIXTRAL = Architecture(
    models="Mixtral 8x7B, 8x22B",
    model_types=("mixtral",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
)
