"""ERNIE 4.5 with experts: ERNIE's attention, and a softmax router that chooses with a bias."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import (
    BESIDE,
    CHOICE_BIAS,
    GGUF_BESIDE,
    GGUF_EXPERTS,
    ONE_BY_ONE,
    either,
    either_count,
    gguf_experts,
    size,
    spec_of,
    with_experts,
)
from thirdeye.weights.architectures.common.grouped_experts import first_layers
from thirdeye.weights.architectures.common.limits import MAX_INTERMEDIATE, MAX_LAYERS
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama import LLAMA
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=103424,
    hidden_size=2560,
    intermediate_size=12288,
    num_hidden_layers=28,
    num_heads=20,
    num_kv_heads=4,
    max_position_embeddings=131072,
    norm_eps=1e-5,
    rope_theta=500000.0,
    is_tied=True,
)
NAMES = {
    **ONE_BY_ONE,
    **{f"mlp.shared_experts.{name}.weight": target for name, target in BESIDE.items()},
    "mlp.moe_statics.e_score_correction_bias": replace(CHOICE_BIAS, num_pieces=1),
}
GGUF_NAMES = {**GGUF_EXPERTS, **GGUF_BESIDE, "exp_probs_b.bias": CHOICE_BIAS}
MAX_SHARED = 64


def huggingface_config(fields: Fields) -> ModelConfig:
    for key in ("attention_bias", "mlp_bias"):
        fields.refuse(key, False)  # `use_bias` is this class's
    config = llama_family.huggingface_config(fields, "ernie4_5_moe", DEFAULTS)
    bias = fields.boolean("use_bias", False)
    if bias and config.tie_word_embeddings:
        raise fields.error("use_bias", "is not supported beside 'tie_word_embeddings'.")
    num_experts = either_count(fields, 64, config, ("moe_num_experts", "num_experts"))
    num_chosen = either(fields, ("moe_k", "num_experts_per_tok"), 6)
    width = size(fields, "moe_intermediate_size", 1536)
    spec = spec_of(
        fields,
        "moe_k",
        num_experts=num_experts,
        num_chosen=num_chosen,
        intermediate_size=width,
        is_renormalized=True,
        choice_bias=True,
        shared_size=width * fields.integer("moe_num_shared_experts", 2, low=0, high=MAX_SHARED),
    )
    fields.refuse("moe_norm_min", 1e-12)  # a floor that no sum of weights reaches
    return replace(
        config,
        qkv_bias=bias,
        attention_output_bias=bias,
        mlp_bias=bias,
        head_bias=bias,
        experts=spec,
        dense_layers=_dense_layers(fields, config),
    )


def _dense_layers(fields: Fields, config: ModelConfig) -> tuple[int, ...]:
    first = fields.integer("moe_layer_start_index", 1, low=0, high=MAX_LAYERS)
    last = fields.integer("moe_layer_end_index", -1, low=-1, high=MAX_LAYERS)
    step = fields.integer("moe_layer_interval", 1, high=MAX_LAYERS)
    layers = range(config.num_hidden_layers)
    if last == -1:
        last = len(layers) - 1
    return tuple(layer for layer in layers if not first <= layer <= last or (layer + 1) % step)


def huggingface_names(config: ModelConfig) -> NameTable:
    table = with_experts(llama_names.interleaved_names(config), config, NAMES)
    if not config.head_bias:
        return table
    return replace(table, names={**table.names, "lm_head.bias": TensorTarget("lm_head.bias")})


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "ernie4_5_moe", has_experts=True)
    fields.refuse("interleave_moe_layer_step", 1)
    num_dense = fields.integer("leading_dense_block_count", 0, low=0, high=MAX_LAYERS)
    num_shared = fields.integer("expert_shared_count", 0, low=0, high=MAX_SHARED)
    width = size(fields, "expert_feed_forward_length", 0)
    key = "expert_shared_feed_forward_length"
    shared_size = fields.integer(key, 0, low=0, high=MAX_INTERMEDIATE)
    if shared_size != num_shared * width:
        raise fields.error(key, f"must be {num_shared} times {width}, got {shared_size}.")
    spec = gguf_experts(
        fields,
        config,
        intermediate_size=width,
        is_renormalized=True,
        choice_bias=True,
        shared_size=shared_size,
    )
    return replace(config, experts=spec, dense_layers=first_layers(num_dense, config))


def gguf_names(config: ModelConfig) -> NameTable:
    return with_experts(LLAMA.gguf_names(config), config, GGUF_NAMES)


ERNIE4_5_MOE = Architecture(
    models="ERNIE 4.5 with experts",
    model_types=("ernie4_5_moe",),
    gguf_architectures=("ernie4_5-moe",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
