"""OLMoE: queries and keys normed over all heads together, eight experts of 64."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import (
    GGUF_EXPERTS,
    ONE_BY_ONE,
    chosen,
    either_count,
    gguf_experts,
    with_experts,
)
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.relatives.olmo import KEY_NORM, QUERY_NORM
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=50304,
    hidden_size=2048,
    intermediate_size=2048,
    num_hidden_layers=16,
    num_heads=16,
    max_position_embeddings=4096,
    norm_eps=1e-5,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: it never has one
    fields.refuse("clip_qkv")  # what is normed would be cut, not what norms read
    config = llama_family.huggingface_config(fields, "olmoe", DEFAULTS)
    num_experts = either_count(fields, 64, config)
    spec = ExpertsSpec(
        num_experts=num_experts,
        num_chosen=chosen(fields, "num_experts_per_tok", 8, num_experts),
        intermediate_size=config.intermediate_size,
        is_renormalized=fields.boolean("norm_topk_prob", False),
    )
    return replace(config, wide_qk_norm=True, experts=spec)


def huggingface_names(config: ModelConfig) -> NameTable:
    norms = {"self_attn.q_norm.weight": QUERY_NORM, "self_attn.k_norm.weight": KEY_NORM}
    return with_experts(llama_names.huggingface_names(config, norms), config, ONE_BY_ONE)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "olmoe", has_experts=True)
    return replace(config, wide_qk_norm=True, experts=gguf_experts(fields, config))


def gguf_names(config: ModelConfig) -> NameTable:
    norms = {"attn_q_norm.weight": QUERY_NORM, "attn_k_norm.weight": KEY_NORM}
    return with_experts(llama_names.gguf_names(config, norms), config, GGUF_EXPERTS)


OLMOE = Architecture(
    models="OLMoE",
    model_types=("olmoe",),
    gguf_architectures=("olmoe",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
