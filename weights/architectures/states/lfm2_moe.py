"""LFM2 with experts: all layers but the first have them in place of the MLP, chosen by sigmoids
with a bias that decides and weighs nothing."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.model.experts_spec import Scoring
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import (
    CHOICE_BIAS,
    DOWN,
    GATE,
    GGUF_EXPERTS,
    GGUF_SIGMOID,
    ROUTER,
    UP,
    chosen,
    count,
    gguf_experts,
    size,
    spec_of,
    with_experts,
)
from thirdeye.weights.architectures.common.grouped_experts import with_dense_first
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.llama import llama_family
from thirdeye.weights.architectures.states import lfm2
from thirdeye.weights.architectures.states.lfm2 import (
    gguf_convolutions,
    huggingface_convolutions,
    refuse_others,
)
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = replace(lfm2.DEFAULTS, hidden_size=2048, intermediate_size=7168)
NAMES = {
    "feed_forward.gate.weight": ROUTER,
    "feed_forward.expert_bias": CHOICE_BIAS,
    "feed_forward.experts.{e}.w1.weight": GATE,
    "feed_forward.experts.{e}.w3.weight": UP,
    "feed_forward.experts.{e}.w2.weight": DOWN,
}
GGUF_NAMES = {**GGUF_EXPERTS, "exp_probs_b.bias": CHOICE_BIAS}


def huggingface_config(fields: Fields) -> ModelConfig:
    refuse_others(fields)
    config = llama_family.huggingface_config(fields, "lfm2_moe", DEFAULTS)
    config = huggingface_convolutions(fields, config)
    num_experts = count(fields, "num_experts", 32, config)
    spec = spec_of(
        fields,
        "num_experts",
        num_experts=num_experts,
        num_chosen=chosen(fields, "num_experts_per_tok", 4, num_experts),
        intermediate_size=size(fields, "moe_intermediate_size", 1792),
        scoring=Scoring.SIGMOID,
        is_renormalized=fields.boolean("norm_topk_prob", True),
        scale=fields.positive("routed_scaling_factor", 1.0),
        choice_bias=fields.boolean("use_expert_bias", True),
    )
    return with_dense_first(fields, config, "num_dense_layers", 2, spec)


def huggingface_names(config: ModelConfig) -> NameTable:
    return with_experts(lfm2.huggingface_names(config), config, NAMES)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = gguf_convolutions(fields, file, vocab_size, "lfm2_moe")
    fields.refuse("expert_gating_func", GGUF_SIGMOID)
    spec = gguf_experts(
        fields,
        config,
        intermediate_size=size(fields, "expert_feed_forward_length", 0),
        scoring=Scoring.SIGMOID,
        is_renormalized=True,
        scale=fields.positive("expert_weights_scale", 1.0),
        choice_bias=True,
    )
    return with_dense_first(fields, config, "leading_dense_block_count", 0, spec)


def gguf_names(config: ModelConfig) -> NameTable:
    return with_experts(lfm2.gguf_names(config), config, GGUF_NAMES)


LFM2_MOE = Architecture(
    models="LFM2 with experts: 8B-A1B, 24B-A2B",
    model_types=("lfm2_moe",),
    gguf_architectures=("lfm2moe",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
