"""Llama 4: most layers turn queries and keys, norm both without a weight, and look at their own
stretch of positions alone; the others turn nothing, see all, and their queries grow with their
position. In some layers, or all, each token is led through an expert, after it was multiplied by
that expert's sigmoid, beside an MLP for all tokens.
"""

from dataclasses import replace
from typing import Any

from thirdeye.model.config import AttentionSpec, ModelConfig, Temperature
from thirdeye.model.experts_spec import ExpertsSpec, Scoring
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import (
    BESIDE,
    DOWN,
    GATE_UP,
    GGUF_BESIDE,
    GGUF_EXPERTS,
    ROUTER,
    chosen,
    count,
    gguf_experts,
    size,
    spec_of,
    with_experts,
)
from thirdeye.weights.architectures.common.limits import MAX_LAYERS, MAX_POSITIONS
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.common.rope_scaling import as_float32
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=202048,
    hidden_size=5120,
    intermediate_size=8192,
    num_hidden_layers=48,
    num_heads=40,
    num_kv_heads=8,
    max_position_embeddings=131072,
    head_dim=128,
    norm_eps=1e-5,
    rope_theta=500000.0,
)
KINDS = ("full_attention", "chunked_attention")
STRETCH, INTERVAL = 8192, 4  # positions; of so many layers the last sees all and turns nothing
TEMPERATURE = Temperature(as_float32(0.1), STRETCH, first=1)
UNNORMED = 128  # experts
MLP = "feed_forward"
NAMES = {
    f"{MLP}.router.weight": ROUTER,
    f"{MLP}.experts.gate_up_proj": replace(GATE_UP, is_transposed=True),
    f"{MLP}.experts.down_proj": replace(DOWN, is_transposed=True),
    **{f"{MLP}.shared_expert.{name}.weight": target for name, target in BESIDE.items()},
    f"{MLP}.gate_proj.weight": TensorTarget("blocks.{i}.mlp.gate_up.weight", "gate"),
    f"{MLP}.up_proj.weight": TensorTarget("blocks.{i}.mlp.gate_up.weight", "up"),
    f"{MLP}.down_proj.weight": TensorTarget("blocks.{i}.mlp.down.weight"),
}


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: it never has one
    config = llama_family.huggingface_config(fields, "llama4_text", DEFAULTS)
    experts = _experts(fields, config)
    sparse = _sparse_layers(fields, config)
    dense = tuple(n for n in range(config.num_hidden_layers) if n not in sparse)
    return replace(
        config,
        intermediate_size=size(fields, "intermediate_size_mlp", 16384),
        attention=_attention(fields, config),
        experts=experts,
        dense_layers=dense,
    )


def _experts(fields: Fields, config: ModelConfig) -> ExpertsSpec:
    num_experts = count(fields, "num_local_experts", 16, config)
    return spec_of(
        fields,
        "num_experts_per_tok",
        num_experts=num_experts,
        num_chosen=chosen(fields, "num_experts_per_tok", 1, num_experts),
        intermediate_size=config.intermediate_size,
        scoring=Scoring.SIGMOID,
        scales_input=True,
        shared_size=config.intermediate_size,
    )


def _sparse_layers(fields: Fields, config: ModelConfig) -> frozenset[int]:
    num_layers = config.num_hidden_layers
    step = fields.integer("interleave_moe_layer_step", 1, high=MAX_LAYERS)
    listed: Any = fields.raw("moe_layers", None)
    if listed is None:
        return frozenset(range(step - 1, num_layers, step))
    if not isinstance(listed, list) or not all(
        type(layer) is int and 0 <= layer < num_layers for layer in listed
    ):
        raise fields.error("moe_layers", f"must be a list of layers' numbers below {num_layers}.")
    return frozenset(listed)


def _attention(fields: Fields, config: ModelConfig) -> tuple[AttentionSpec, ...]:
    turns = _turning_layers(fields, config)
    kinds = fields.raw("layer_types", None)
    if kinds is None:
        kinds = [KINDS[turned] for turned in turns]
    if (
        not isinstance(kinds, list)
        or len(kinds) != config.num_hidden_layers
        or not all(kind in KINDS for kind in kinds)
    ):
        raise fields.error(
            "layer_types", f"must be a list of {' or '.join(KINDS)}, one for each layer."
        )
    stretch = fields.integer("attention_chunk_size", STRETCH, high=MAX_POSITIONS)
    norm_eps = config.norm_eps if fields.boolean("use_qk_norm", True) else None
    temperature = None
    if _grows_with_position(fields):
        beta = as_float32(fields.positive("attn_scale", 0.1))
        length = fields.integer("floor_scale", STRETCH, high=MAX_POSITIONS)
        temperature = Temperature(beta, length, first=1)
    cut = [kind == "chunked_attention" for kind in kinds]
    return _specs(config, turns, cut, stretch, norm_eps, temperature)


def _specs(
    config: ModelConfig,
    turns: list[bool],
    cut: list[bool],
    stretch: int,
    norm_eps: float | None,
    temperature: Temperature | None,
) -> tuple[AttentionSpec, ...]:
    """Of each layer, whether it turns, and whether it looks at its own stretch alone."""
    return tuple(
        AttentionSpec(
            rope=config.rope if turned else None,
            # No key of a stretch lies farther back than it is long: so a window says nothing new,
            # but to whoever asks which keys will not be seen again.
            window=stretch if is_cut else None,
            chunk=stretch if is_cut else None,
            unit_norm_eps=norm_eps if turned else None,
            temperature=None if turned else temperature,
        )
        for turned, is_cut in zip(turns, cut, strict=True)
    )


def _grows_with_position(fields: Fields) -> bool:
    """What Meta published says 4 where transformers has true."""
    said: Any = fields.raw("attn_temperature_tuning", True)
    return said > 0 if type(said) is int else fields.boolean("attn_temperature_tuning", True)


def _turning_layers(fields: Fields, config: ModelConfig) -> list[bool]:
    """`no_rope_layers` says 1 of those that turn."""
    num_layers = config.num_hidden_layers
    interval = fields.integer("no_rope_layer_interval", INTERVAL, high=MAX_LAYERS)
    listed: Any = fields.raw("no_rope_layers", None)
    if not listed:
        return [(layer + 1) % interval != 0 for layer in range(num_layers)]
    if (
        not isinstance(listed, list)
        or len(listed) < num_layers
        or not all(type(turned) is int and turned in (0, 1) for turned in listed)
    ):
        raise fields.error("no_rope_layers", f"must be a list of {num_layers} numbers, 0 or 1.")
    return [bool(turned) for turned in listed[:num_layers]]


def huggingface_names(config: ModelConfig) -> NameTable:
    return with_experts(llama_names.interleaved_names(config), config, NAMES)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    """What a file does not say is in llama.cpp's source: stretches and growth of the published
    models, and that the one with 128 experts alone norms nothing."""
    fields.refuse("attention.sliding_window", STRETCH)
    fields.refuse("attention.sliding_window_pattern", INTERVAL)
    config = llama_family.gguf_config(
        fields, file, vocab_size, "llama4_text", has_windows=True, has_experts=True
    )
    width = size(fields, "expert_feed_forward_length", 0)
    spec = gguf_experts(
        fields,
        config,
        intermediate_size=width,
        scoring=Scoring.SIGMOID,
        scales_input=True,
        shared_size=width,
    )
    step = fields.integer("interleave_moe_layer_step", high=MAX_LAYERS)
    norm_eps = None if spec.num_experts == UNNORMED else config.norm_eps
    layers = range(config.num_hidden_layers)
    turns = [(layer + 1) % INTERVAL != 0 for layer in layers]
    return replace(
        config,
        attention=_specs(config, turns, turns, STRETCH, norm_eps, TEMPERATURE),
        experts=spec,
        dense_layers=tuple(layer for layer in layers if (layer + 1) % step),
    )


def gguf_names(config: ModelConfig) -> NameTable:
    table = llama_names.interleaved_gguf_names(config)
    return with_experts(table, config, GGUF_EXPERTS | GGUF_BESIDE)


LLAMA4 = Architecture(
    models="Llama 4 (text)",
    model_types=("llama4_text",),
    gguf_architectures=("llama4",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
