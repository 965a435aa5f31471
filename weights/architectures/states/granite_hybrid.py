"""Granite 4 (micro, tiny and small, with and without experts): Mamba-2 in most layers.

Granite 3's four scales. Each layer has an MLP that all tokens take, and in some models experts
beside it. Most of them have no positions: the layers with a state know the order.
"""

from collections.abc import Mapping
from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.model.state_spec import MAX_KERNEL, MAX_STATE_SIZE
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import (
    BESIDE,
    GGUF_BESIDE,
    GGUF_EXPERTS,
    chosen,
    count,
    gguf_experts,
    size,
    with_experts,
)
from thirdeye.weights.architectures.common.layer_types import FULL
from thirdeye.weights.architectures.common.limits import MAX_EXPERTS, MAX_HEADS
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.experts.granite_moe import NAMES as EXPERTS
from thirdeye.weights.architectures.llama import llama_names
from thirdeye.weights.architectures.llama.llama import LLAMA
from thirdeye.weights.architectures.scaled import granite
from thirdeye.weights.architectures.states import mamba2
from thirdeye.weights.architectures.states.delta_net import LINEAR
from thirdeye.weights.architectures.states.layers import (
    KV_HEADS,
    per_layer,
    stateless_layers,
    with_states,
    without_positions,
)
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

OLD_NAMES = {"mamba": LINEAR, "attention": FULL}
KINDS, OTHER_KINDS = "layer_types", "layers_block_type"  # two names for one setting


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: it never has one
    fields.refuse("hidden_act", "silu")
    config = replace(granite.huggingface_config(fields), architecture="granitemoehybrid")
    config = replace(config, intermediate_size=size(fields, "shared_intermediate_size", 1024))
    if fields.raw("position_embedding_type", None) != "rope":
        config = without_positions(config)
    kinds = _kinds(fields, config.num_hidden_layers)
    layers = tuple(layer for layer, kind in enumerate(kinds) if kind == LINEAR)
    heads = fields.integer("mamba_n_heads", 128, high=MAX_HEADS)
    width = fields.integer("mamba_expand", 2, high=64) * config.hidden_size
    bias = fields.boolean("mamba_proj_bias", False)
    mamba2.refuse_step_limits(fields)
    spec = mamba2.spec_of(
        fields,
        "mamba_n_heads",
        num_heads=heads,
        num_groups=fields.integer("mamba_n_groups", 1, high=MAX_HEADS),
        head_size=mamba2.head_size(fields, width, heads),
        state_size=fields.integer("mamba_d_state", 256, high=MAX_STATE_SIZE),
        kernel=fields.integer("mamba_d_conv", 4, low=2, high=MAX_KERNEL),
        conv_bias=fields.boolean("mamba_conv_bias", True),
        input_bias=bias,
        output_bias=bias,
    )
    return with_states(fields, KINDS, _with_experts(fields, config), spec, layers)


def _kinds(fields: Fields, num_layers: int) -> list[str]:
    by_rule = [LINEAR] * num_layers
    known = (FULL, LINEAR, *OLD_NAMES)
    key = KINDS if KINDS in fields else OTHER_KINDS
    kinds = per_layer(fields, key, by_rule, known)
    if KINDS in fields:
        fields.refuse(OTHER_KINDS, kinds)
    return [OLD_NAMES.get(kind, kind) for kind in kinds]


def _with_experts(fields: Fields, config: ModelConfig) -> ModelConfig:
    num_experts = fields.integer("num_local_experts", 8, low=0, high=MAX_EXPERTS)
    width = size(fields, "intermediate_size", granite.DEFAULTS.intermediate_size)
    if not num_experts:
        return config
    spec = ExpertsSpec(
        num_experts=count(fields, "num_local_experts", 8, config),
        num_chosen=chosen(fields, "num_experts_per_tok", 2, num_experts),
        intermediate_size=width,
        is_renormalized=True,
        shared_size=config.intermediate_size,
    )
    return replace(config, experts=spec)


def huggingface_names(config: ModelConfig) -> NameTable:
    table = llama_names.huggingface_names(config)
    own = {f"mamba.{k}": v for k, v in mamba2.huggingface_layer(mamba2.mamba2(config)).items()}
    shared: Mapping[str, TensorTarget] = {
        "gate_up": TensorTarget("blocks.{i}.mlp.gate_up.weight"),
        "down": TensorTarget("blocks.{i}.mlp.down.weight"),
    }
    if config.experts:
        table = with_experts(table, config, EXPERTS)
        merged = TensorTarget(BESIDE["gate_proj"].name)
        shared = {"gate_up": merged, "down": BESIDE["down_proj"]}
    own |= {
        "shared_mlp.input_linear.weight": shared["gate_up"],
        "shared_mlp.output_linear.weight": shared["down"],
    }
    names = {f"layers.{{i}}.{name}": target for name, target in own.items()}
    return replace(table, names={**table.names, **names})


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    """Layers without key-value heads are those with a state."""
    plain, layers = stateless_layers(fields)
    config = granite.gguf_config(plain, file, vocab_size, has_experts=True)
    first = next(layer for layer in range(config.num_hidden_layers) if layer not in layers)
    shared = size(fields, "expert_shared_feed_forward_length", config.intermediate_size)
    config = replace(
        config,
        architecture="granitemoehybrid",
        qkv_bias=any(f"blk.{first}.attn_{kind}.bias" in file.tensors for kind in ("q", "qkv")),
        attention_output_bias=f"blk.{first}.attn_output.bias" in file.tensors,
    )
    if not fields.boolean("rope.scaling.finetuned", True):  # llama.cpp's sign for positions
        config = without_positions(config)
    if fields.raw("expert_count", 0):
        experts = gguf_experts(plain, config, is_renormalized=True, shared_size=shared)
        config = replace(config, experts=experts)
    elif shared != config.intermediate_size:
        raise fields.error("feed_forward_length", f"must be {shared} too, where none is shared.")
    config = replace(config, intermediate_size=shared)
    return with_states(fields, KV_HEADS, config, mamba2.gguf_spec(fields, file, layers), layers)


def gguf_names(config: ModelConfig) -> NameTable:
    table = LLAMA.gguf_names(replace(config, experts=None))
    own = mamba2.gguf_layer(mamba2.mamba2(config))
    names = {f"blk.{{i}}.{name}": target for name, target in own.items()}
    table = replace(table, names={**table.names, **names})
    return with_experts(table, config, GGUF_EXPERTS | GGUF_BESIDE) if config.experts else table


GRANITE_HYBRID = Architecture(
    models="Granite 4 (with and without experts)",
    model_types=("granitemoehybrid",),
    gguf_architectures=("granitehybrid",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
