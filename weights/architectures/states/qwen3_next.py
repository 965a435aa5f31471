"""Qwen3-Next (80B-A3B): a gated delta net in three layers of four, experts in all."""

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
from thirdeye.weights.architectures.common.guessing import BESIDE_THE_MODEL
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.states import delta_net
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=151936,
    hidden_size=2048,
    intermediate_size=5632,
    num_hidden_layers=48,
    num_heads=16,
    num_kv_heads=2,
    max_position_embeddings=32768,
    head_dim=256,
    rotary_fraction=0.25,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    config = delta_net.huggingface_config(fields, "qwen3_next", DEFAULTS)
    if fields.raw("num_experts", None) == 0:
        return config
    num_experts = count(fields, "num_experts", 512, config)
    spec = ExpertsSpec(
        num_experts=num_experts,
        num_chosen=chosen(fields, "num_experts_per_tok", 10, num_experts),
        intermediate_size=size(fields, "moe_intermediate_size", 512),
        is_renormalized=fields.boolean("norm_topk_prob", True),
        shared_size=size(fields, "shared_expert_intermediate_size", 512),
        shared_gate=True,
    )
    return replace(config, experts=spec, dense_layers=sparse_layers(fields, config))


def _gates(config: ModelConfig) -> TensorTarget:
    """b and a of each key head's value heads, one key head after the other."""
    spec = delta_net.delta_net(config)
    share = spec.num_value_heads // spec.num_key_heads
    order = delta_net.by_key_head((share, share), spec.num_key_heads)
    return TensorTarget(f"{delta_net.ATTENTION}.gates.weight", reorder=order)


def huggingface_names(config: ModelConfig) -> NameTable:
    spec = delta_net.delta_net(config)
    keys, values = spec.key_size, spec.num_value_heads // spec.num_key_heads * spec.value_size
    order = delta_net.by_key_head((keys, keys, values, values), spec.num_key_heads)
    table = delta_net.huggingface_names(config)
    own = {
        "layers.{i}.linear_attn.in_proj_qkvz.weight": TensorTarget(
            f"{delta_net.ATTENTION}.project.weight", reorder=order
        ),
        "layers.{i}.linear_attn.in_proj_ba.weight": _gates(config),
    }
    table = replace(table, names={**table.names, **own})
    return with_experts(table, config, WITH_GATED_BESIDE) if config.experts else table


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = delta_net.gguf_config(fields, file, vocab_size, "qwen3_next", is_tiled=False)
    spec = gguf_experts(
        fields,
        config,
        intermediate_size=size(fields, "expert_feed_forward_length", 0),
        shared_size=size(fields, "expert_shared_feed_forward_length", config.intermediate_size),
        shared_gate=True,
        is_renormalized=True,
    )
    return replace(config, experts=spec)


def gguf_names(config: ModelConfig) -> NameTable:
    table = delta_net.gguf_names(config)
    table = replace(table, names={**table.names, "blk.{i}.ssm_ba.weight": _gates(config)})
    return with_experts(table, config, GGUF_WITH_GATED_BESIDE)


QWEN3_NEXT = Architecture(
    models="Qwen3-Next: 80B-A3B",
    model_types=("qwen3_next",),
    gguf_architectures=("qwen3next",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
    guessing_names=BESIDE_THE_MODEL,
)
