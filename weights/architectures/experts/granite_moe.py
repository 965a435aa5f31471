"""Granite 3 with experts: Granite's four scales; all experts of a layer in two tensors."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import (
    DOWN,
    GATE_UP,
    ROUTER,
    chosen,
    count,
    gguf_experts,
    with_experts,
)
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.llama import llama_names
from thirdeye.weights.architectures.llama.llama import LLAMA
from thirdeye.weights.architectures.scaled import granite
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

NAMES = {
    "block_sparse_moe.router.layer.weight": ROUTER,
    "block_sparse_moe.input_linear.weight": GATE_UP,
    "block_sparse_moe.output_linear.weight": DOWN,
}


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: it never has one
    config = replace(granite.huggingface_config(fields), architecture="granitemoe")
    num_experts = count(fields, "num_local_experts", 8, config)
    spec = ExpertsSpec(
        num_experts=num_experts,
        num_chosen=chosen(fields, "num_experts_per_tok", 2, num_experts),
        intermediate_size=config.intermediate_size,
        is_renormalized=True,
    )
    return replace(config, experts=spec)


def huggingface_names(config: ModelConfig) -> NameTable:
    return with_experts(llama_names.huggingface_names(config), config, NAMES)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    fields.refuse("expert_shared_feed_forward_length", 0)
    config = granite.gguf_config(fields, file, vocab_size, has_experts=True)
    return replace(config, experts=gguf_experts(fields, config, is_renormalized=True))


def gguf_names(config: ModelConfig) -> NameTable:
    return LLAMA.gguf_names(config)


GRANITE_MOE = Architecture(
    models="Granite 3 with experts",
    model_types=("granitemoe",),
    gguf_architectures=("granitemoe",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
