"""gpt-oss: sinks, a window in every second layer, biases everywhere, YaRN that is not cut to whole
channels, experts with a clamped SwiGLU that lie in two tensors a layer, gates and partners mixed.
"""

from dataclasses import replace
from typing import Any

from thirdeye.model.config import Activation, AttentionSpec, ModelConfig
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import (
    DOWN,
    GATE_UP,
    GGUF_EXPERTS,
    ROUTER,
    chosen,
    either_count,
    gguf_experts,
    size,
    with_experts,
)
from thirdeye.weights.architectures.common.layer_types import (
    FULL,
    SLIDING,
    by_kind,
    read_layer_types,
)
from thirdeye.weights.architectures.common.limits import MAX_POSITIONS
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.common.rope_settings import rope_parameters
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=201088,
    hidden_size=2880,
    intermediate_size=2880,
    num_hidden_layers=36,
    num_heads=64,
    num_kv_heads=8,
    max_position_embeddings=131072,
    head_dim=64,
    norm_eps=1e-5,
    rope_theta=150000.0,
)
SWIGLU_ALPHA, SWIGLU_LIMIT = 1.702, 7.0
SINKS = TensorTarget("blocks.{i}.attention.sinks.weight")


def parted(rows: Any) -> Any:
    """Gates, then partners, of rows that have them in turns."""
    return rows.reshape(-1, 2, *rows.shape[1:]).swapaxes(0, 1).reshape(rows.shape)


def biased(name: str, target: TensorTarget) -> dict[str, TensorTarget]:
    return {
        f"{name}.weight": target,
        f"{name}.bias": replace(target, name=target.name.removesuffix("weight") + "bias"),
    }


def bias_of(target: TensorTarget) -> TensorTarget:
    return replace(target, name=target.name.removesuffix("weight") + "bias")


NAMES = {
    **biased("mlp.router", ROUTER),
    "self_attn.sinks": SINKS,
    "mlp.experts.gate_up_proj": replace(GATE_UP, is_transposed=True, reorder=parted),
    "mlp.experts.gate_up_proj_bias": replace(bias_of(GATE_UP), reorder=parted),
    "mlp.experts.down_proj": replace(DOWN, is_transposed=True),
    "mlp.experts.down_proj_bias": bias_of(DOWN),
}
GGUF_NAMES = {
    **{
        bare + leaf: target if leaf == "weight" else bias_of(target)
        for name, target in GGUF_EXPERTS.items()
        for bare in [name.removesuffix("weight")]
        for leaf in ("weight", "bias")
    },
    "attn_sinks.weight": SINKS,
    "post_attention_norm.weight": TensorTarget("blocks.{i}.mlp_norm.weight"),
}


def _shaped(config: ModelConfig, spec: ExpertsSpec, kinds: list[str], window: int) -> ModelConfig:
    full = AttentionSpec(rope=config.rope, sinks=True)
    return replace(
        config,
        activation=Activation.CLAMPED_SWIGLU,
        attention=by_kind(kinds, full, replace(full, window=window)),
        experts=replace(spec, is_renormalized=True, router_bias=True, bias=True),
    )


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("mlp_bias")  # no setting of this class
    fields.refuse("hidden_act", "silu")  # nor is this obeyed
    fields.refuse("swiglu_alpha", SWIGLU_ALPHA)
    fields.refuse("swiglu_limit", SWIGLU_LIMIT)
    if rope_parameters(fields) is None:
        raise fields.error("rope_parameters", "is required and missing, or 'rope_scaling' is.")
    config = llama_family.huggingface_config(fields, "gpt_oss", DEFAULTS)
    bias = fields.boolean("attention_bias", True)
    num_experts = either_count(fields, 128, config)
    num_chosen = chosen(fields, "num_experts_per_tok", 4, num_experts)
    by_rule = [FULL if layer % 2 else SLIDING for layer in range(config.num_hidden_layers)]
    return _shaped(
        replace(config, qkv_bias=bias, attention_output_bias=bias),
        ExpertsSpec(num_experts, num_chosen, config.intermediate_size),
        read_layer_types(fields, by_rule),
        fields.integer("sliding_window", 128, high=MAX_POSITIONS),
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    return with_experts(llama_names.huggingface_names(config), config, NAMES)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(
        fields, file, vocab_size, "gpt_oss", has_windows=True, has_experts=True
    )
    rope = config.rope
    if rope is not None and rope.scaling is not None:  # as it was trained, which no file says
        config = replace(
            config, rope=replace(rope, scaling=replace(rope.scaling, is_truncated=False))
        )
    width = size(fields, "expert_feed_forward_length", config.intermediate_size)
    layers = range(config.num_hidden_layers)
    return _shaped(
        config,
        gguf_experts(fields, config, intermediate_size=width),
        [FULL if layer % 2 else SLIDING for layer in layers],
        fields.integer("attention.sliding_window", high=MAX_POSITIONS),
    )


def gguf_names(config: ModelConfig) -> NameTable:
    return with_experts(llama_names.gguf_names(config), config, GGUF_NAMES)


GPT_OSS = Architecture(
    models="gpt-oss 20B and 120B",
    model_types=("gpt_oss",),
    gguf_architectures=("gpt-oss",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
