"""Gemma 4 in GGUF: sizes of the layers with a window stand beside those of the others, and what
differs from layer to layer is a list."""

from dataclasses import replace
from typing import Any

from thirdeye.model.config import Activation, ModelConfig
from thirdeye.weights.architectures.common.experts import gguf_experts, size
from thirdeye.weights.architectures.common.heads import check_kv_heads
from thirdeye.weights.architectures.common.layer_types import FULL, SLIDING, gguf_layer_types
from thirdeye.weights.architectures.common.limits import (
    MAX_EXPERTS,
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_INTERMEDIATE,
    MAX_LAYERS,
    MAX_POSITIONS,
)
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.common.per_layer import numbers
from thirdeye.weights.architectures.common.rope_settings import gguf_proportional
from thirdeye.weights.architectures.gemma.gemma import gemma_config
from thirdeye.weights.architectures.gemma.gemma4_heads import (
    Heads,
    gemma4_config,
    shared,
    spec_of,
    with_experts,
)
from thirdeye.weights.architectures.gemma.gemma4_names import (
    DENSE,
    DENSE_NORM,
    DENSE_POST_NORM,
    DOWN,
    EXPERT_SCALES,
    EXPERTS_NORM,
    EXPERTS_POST_NORM,
    GATE,
    GATE_UP,
    INPUT_NORM,
    INPUT_PROJECTION,
    INPUT_TABLE,
    OWN_GATE,
    OWN_NORM,
    OWN_PROJECTION,
    ROUTER,
    ROUTER_NORM,
    UP,
    with_experts_beside,
    with_layer_inputs,
    without_shared,
)
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_names import GGUF_HEAD_NORMS, GGUF_POST_NORMS
from thirdeye.weights.architectures.states.layers import overlaid
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

KV_HEADS, KEY_SIZE = "attention.head_count_kv", "attention.key_length"
OF_A_KIND = (
    KEY_SIZE,
    "attention.value_length",
    "rope.dimension_count",
)  # and with "_swa" at the end
WIDTHS, NUM_SHARED = "feed_forward_length", "attention.shared_kv_layers"
INPUTS = {
    "per_layer_token_embd.weight": INPUT_TABLE,
    "per_layer_model_proj.weight": INPUT_PROJECTION,
    "per_layer_proj_norm.weight": INPUT_NORM,
}
OF_INPUT = {
    "blk.{i}.inp_gate.weight": OWN_GATE,
    "blk.{i}.proj.weight": OWN_PROJECTION,
    "blk.{i}.post_norm.weight": OWN_NORM,
}
EXPERTS = {
    **{f"ffn_{name}.weight": target for name, target in DENSE.items()},
    "ffn_norm.weight": DENSE_NORM,
    "post_ffw_norm_1.weight": DENSE_POST_NORM,
    "pre_ffw_norm_2.weight": EXPERTS_NORM,
    "post_ffw_norm_2.weight": EXPERTS_POST_NORM,
    "ffn_gate_inp.weight": ROUTER,
    "ffn_gate_inp.scale": ROUTER_NORM,
    "ffn_down_exps.scale": EXPERT_SCALES,
    "ffn_gate_up_exps.weight": GATE_UP,
    "ffn_gate_exps.weight": GATE,
    "ffn_up_exps.weight": UP,
    "ffn_down_exps.weight": DOWN,
}
SHARED = [f"blk.{{i}}.{name}.weight" for name in ("attn_k", "attn_v", "attn_k_norm")]
NEAR_THETA = 1e4
TABLE = "rope_freqs.weight"  # of the layers that see all keys
LAYER = {
    **GGUF_POST_NORMS,
    **GGUF_HEAD_NORMS,
    "layer_output_scale.weight": TensorTarget("blocks.{i}.layer_scale.weight"),
}


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    num_layers = fields.integer("block_count", high=MAX_LAYERS)
    fields.raw("attention.sliding_window_pattern")  # llama.cpp has no rule without it
    kinds = gguf_layer_types(fields, num_layers, 6)
    kv_heads = numbers(fields, KV_HEADS, num_layers, MAX_HEADS)
    widths = numbers(fields, WIDTHS, num_layers, MAX_INTERMEDIATE)
    near = near_fields(fields, kv_heads[0], widths[0])
    tensors = {name: info for name, info in file.tensors.items() if name != TABLE}
    config = llama_family.gguf_config(
        near,
        replace(file, tensors=tensors),
        vocab_size,
        "gemma4",
        has_windows=True,
        has_experts=True,
    )
    assert config.rope is not None
    if config.rope.scaling is not None:
        raise fields.error("rope.scaling.type", "is not supported for this architecture.")
    ropes = {SLIDING: config.rope, FULL: gguf_proportional(fields, file, full_head_dim(fields))}
    window = fields.integer("attention.sliding_window", high=MAX_POSITIONS)
    specs = []
    for layer, (kind, num_kv_heads) in enumerate(zip(kinds, kv_heads, strict=True)):
        check_kv_heads(fields, KV_HEADS, config.num_heads, num_kv_heads)
        spec = spec_of(Heads(ropes[kind].dim, num_kv_heads), ropes[kind])
        own = (f"blk.{layer}.attn_{kind}.weight" for kind in ("v", "qkv"))
        has_values = any(name in file.tensors for name in own)
        own_window = window if kind == SLIDING else None
        specs.append(replace(spec, has_values=has_values, window=own_window))
    num_shared = fields.integer(NUM_SHARED, 0, low=0, high=num_layers)
    attention = shared(fields, NUM_SHARED, tuple(specs), kinds, num_shared)
    has_cap = "final_logit_softcapping" in fields
    cap = fields.positive("final_logit_softcapping") if has_cap else None
    config = gemma_config(replace(config, activation=Activation.GELU_TANH))
    config = gemma4_config(config, attention, cap)
    width = fields.integer("embedding_length_per_layer_input", 0, low=0, high=MAX_HIDDEN)
    sizes = tuple(widths) if len({*widths}) > 1 else ()
    config = replace(config, layer_input_size=width, mlp_sizes=sizes)
    return with_its_experts(fields, config)


def with_its_experts(fields: Fields, config: ModelConfig) -> ModelConfig:
    """Beside the MLP, if there are any."""
    if not fields.integer("expert_count", 0, low=0, high=MAX_EXPERTS):
        return config
    key = "expert_feed_forward_length"
    if key not in fields:
        raise fields.error("expert_count", f"needs '{key}' beside it.")
    spec = gguf_experts(fields, config, intermediate_size=size(fields, key, 0))
    return with_experts(config, spec.num_experts, spec.num_chosen, spec.intermediate_size)


def near_fields(fields: Fields, num_kv_heads: int, width: int) -> Fields:
    """The settings as they would stand if all layers had a window."""
    instead: dict[str, Any] = {key: fields.raw(f"{key}_swa") for key in OF_A_KIND}
    theta = fields.positive("rope.freq_base_swa", NEAR_THETA)
    instead |= {KV_HEADS: num_kv_heads, WIDTHS: width, "rope.freq_base": theta}
    return overlaid(fields, instead)


def full_head_dim(fields: Fields) -> int:
    """Of the layers without a window."""
    size = fields.integer(KEY_SIZE, high=MAX_HEAD_DIM)
    for key in OF_A_KIND[1:]:
        if (other := fields.integer(key, size, high=MAX_HEAD_DIM)) != size:
            raise fields.error(key, f"must equal the key length {size}, got {other}.")
    if size % 2:
        raise fields.error(KEY_SIZE, f"rotary positions need an even head size, got {size}.")
    return size


def gguf_names(config: ModelConfig) -> NameTable:
    table = llama_names.gguf_names(config, LAYER)
    table = with_layer_inputs(table, config, INPUTS, OF_INPUT)
    return with_experts_beside(without_shared(table, config, SHARED), config, EXPERTS)
