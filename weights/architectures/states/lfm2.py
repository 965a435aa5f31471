"""LFM2: most layers are a convolution over few tokens between two gates, the others attend.

The MLP is narrower than its config says, unless that says not to adjust it: two thirds, times a
multiplier, rounded up. Configs by the company that made it have names of their own for some
settings, which transformers understands too.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from thirdeye.model.config import ModelConfig
from thirdeye.model.state_spec import MAX_KERNEL, ShortConvSpec
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.layer_types import FULL
from thirdeye.weights.architectures.common.limits import MAX_INTERMEDIATE
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget, with_bias
from thirdeye.weights.architectures.llama import llama_family
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.llama.llama_names import KEY_NORM, PREFIXES, QUERY_NORM
from thirdeye.weights.architectures.states.layers import (
    KV_HEADS,
    per_layer,
    stateless_layers,
    with_states,
)
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

CONV = "conv"
DEFAULTS = Defaults(
    vocab_size=65536,
    hidden_size=2560,
    intermediate_size=12288,
    num_hidden_layers=32,
    num_heads=32,
    num_kv_heads=8,
    max_position_embeddings=128_000,
    norm_eps=1e-5,
    norm_eps_key="norm_eps",
    rope_theta=1e6,
    is_tied=True,
)
LAYER = {  # our names, without the layer's
    "qkv": "attention.qkv.weight",
    "output": "attention.output.weight",
    "gate_up": "mlp.gate_up.weight",
}


def huggingface_config(fields: Fields) -> ModelConfig:
    refuse_others(fields)
    config = llama_family.huggingface_config(fields, "lfm2", DEFAULTS)
    size = _intermediate_size(fields, config.intermediate_size)
    return huggingface_convolutions(fields, replace(config, intermediate_size=size))


def refuse_others(fields: Fields) -> None:
    """What is no setting of these classes."""
    for key in ("attention_bias", "mlp_bias"):
        fields.refuse(key, False)
    fields.refuse("hidden_act", "silu")


def huggingface_convolutions(fields: Fields, config: ModelConfig) -> ModelConfig:
    """`config`: as a Llama's."""
    config = replace(
        config,
        qk_norm=True,
        tie_word_embeddings=fields.boolean("tie_embedding", config.tie_word_embeddings),
    )
    kinds = _layer_types(fields, config.num_hidden_layers)
    kernel = fields.integer("conv_L_cache", 3, low=2, high=MAX_KERNEL)
    spec = ShortConvSpec(config.hidden_size, kernel, fields.boolean("conv_bias", False))
    layers = tuple(layer for layer, kind in enumerate(kinds) if kind == CONV)
    return with_states(fields, "layer_types", config, spec, layers)


def _intermediate_size(fields: Fields, size: int) -> int:
    size = fields.integer("block_ff_dim", size, high=MAX_INTERMEDIATE)
    if not fields.boolean("block_auto_adjust_ff_dim", True):
        return size
    size = int(2 * size / 3)
    if not fields.is_null("block_ffn_dim_multiplier"):
        size = int(fields.positive("block_ffn_dim_multiplier", 1.0) * size)
        multiple = fields.integer("block_multiple_of", 256, high=MAX_INTERMEDIATE)
        size = -(-size // multiple) * multiple
    if not 1 <= size <= MAX_INTERMEDIATE:
        raise fields.error("block_ffn_dim_multiplier", f"gives an MLP of the width {size}.")
    return size


def _layer_types(fields: Fields, num_layers: int) -> list[str]:
    listed = fields.raw("full_attn_idxs", list(range(num_layers)))
    if not isinstance(listed, list) or not all(type(layer) is int for layer in listed):
        raise fields.error("full_attn_idxs", "must be a list of layers' numbers.")
    by_rule = [FULL if layer in listed else CONV for layer in range(num_layers)]
    return per_layer(fields, "layer_types", by_rule, (FULL, CONV))


def _names(prefix: str, own: Mapping[str, str], top: Mapping[str, TensorTarget]) -> dict[str, Any]:
    """`own`: what a checkpoint calls things in a layer, by what they are."""
    block = "blocks.{i}."
    linear = {
        f"{own[name]}.weight": TensorTarget(f"{block}{LAYER[whole]}", part)
        for name, whole, part in (
            *((name, "qkv", name) for name in "qkv"),
            *((name, "gate_up", name) for name in ("gate", "up")),
        )
    } | {
        f"{own['o']}.weight": TensorTarget(block + LAYER["output"]),
        f"{own['down']}.weight": TensorTarget(f"{block}mlp.down.weight"),
    }
    conv = {
        f"{own['in']}.weight": TensorTarget(f"{block}attention.project.weight"),
        f"{own['out']}.weight": TensorTarget(f"{block}attention.output.weight"),
    }
    norms = {
        f"{own['attention_norm']}.weight": TensorTarget(f"{block}attention_norm.weight"),
        f"{own['mlp_norm']}.weight": TensorTarget(f"{block}mlp_norm.weight"),
        f"{own['q_norm']}.weight": QUERY_NORM,
        f"{own['k_norm']}.weight": KEY_NORM,
    }
    layer = linear | with_bias(conv) | norms
    return {f"{prefix}.{{i}}.{name}": target for name, target in layer.items()} | dict(top)


TAPS = TensorTarget("blocks.{i}.attention.conv.weight")


def huggingface_names(config: ModelConfig) -> NameTable:
    own = {f"{name}_norm": f"self_attn.{name}_layernorm" for name in "qk"}
    own |= {name: f"self_attn.{name}_proj" for name in "qkv"} | {"o": "self_attn.out_proj"}
    own |= {"gate": "feed_forward.w1", "up": "feed_forward.w3", "down": "feed_forward.w2"}
    own |= {"in": "conv.in_proj", "out": "conv.out_proj"}
    own |= {"attention_norm": "operator_norm", "mlp_norm": "ffn_norm"}
    top = {
        "layers.{i}.conv.conv.weight": replace(TAPS, is_depthwise=True),
        "layers.{i}.conv.conv.bias": replace(TAPS, name=TAPS.name.replace("weight", "bias")),
        "embed_tokens.weight": TensorTarget("embed_tokens.weight"),
        "embedding_norm.weight": TensorTarget("final_norm.weight"),
    }
    ignored = set()
    if config.tie_word_embeddings:
        ignored.add("lm_head.weight")  # a copy of the embedding
    else:
        top["lm_head.weight"] = TensorTarget("lm_head.weight")
    names = _names("layers", own, top)
    return NameTable(names, frozenset(ignored), config.num_hidden_layers, PREFIXES)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    fields.refuse("expert_count", 0)
    return gguf_convolutions(fields, file, vocab_size, "lfm2")


def gguf_convolutions(
    fields: Fields, file: GGUFFile, vocab_size: int, architecture: str
) -> ModelConfig:
    """Layers without key-value heads are those that do not attend. Who has experts sees to them."""
    plain, short = stateless_layers(fields)
    config = llama_family.gguf_config(plain, file, vocab_size, architecture, has_experts=True)
    kernel = fields.integer("shortconv.l_cache", low=2, high=MAX_KERNEL)
    spec = ShortConvSpec(config.hidden_size, kernel)
    attending = next(layer for layer in range(config.num_hidden_layers) if layer not in short)
    config = replace(config, qk_norm=True, qkv_bias=f"blk.{attending}.attn_q.bias" in file.tensors)
    return with_states(fields, KV_HEADS, config, spec, short)


def gguf_names(config: ModelConfig) -> NameTable:
    own = {name: f"attn_{name}" for name in ("q", "k", "v", "q_norm", "k_norm")}
    own |= {"o": "attn_output", "attention_norm": "attn_norm", "mlp_norm": "ffn_norm"}
    own |= {name: f"ffn_{name}" for name in ("gate", "up", "down")}
    own |= {"in": "shortconv.in_proj", "out": "shortconv.out_proj"}
    top = {
        "blk.{i}.shortconv.conv.weight": TAPS,
        "blk.{i}.attn_qkv.weight": TensorTarget("blocks.{i}.attention.qkv.weight"),
        "token_embd.weight": TensorTarget("embed_tokens.weight"),
        "token_embd_norm.weight": TensorTarget("final_norm.weight"),
        "output_norm.weight": TensorTarget("final_norm.weight"),
        "output.weight": TensorTarget("lm_head.weight"),
    }
    return NameTable(_names("blk", own, top), frozenset(), config.num_hidden_layers)


LFM2 = Architecture(
    models="LFM2 and LFM2.5 (dense)",
    model_types=("lfm2",),
    gguf_architectures=("lfm2",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
