"""Granite with windows: most layers see a window of keys alone, heads have sinks, and each layer
may turn at a pace of its own, or not at all."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig, RopeConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.layer_types import (
    FULL,
    SLIDING,
    read_layer_types,
    read_window,
)
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.experts.gpt_oss import SINKS
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.scaled.granite import with_multipliers
from thirdeye.weights.formats.fields import Fields

DEFAULTS = Defaults(
    vocab_size=100352,
    hidden_size=2560,
    intermediate_size=8192,
    num_hidden_layers=24,
    num_heads=20,
    num_kv_heads=4,
    max_position_embeddings=8192,
    norm_eps=1e-5,
    is_tied=True,
)
PERIOD = 4  # layers, of which the first sees all keys
PACES = "layer_rope_theta"


def huggingface_config(fields: Fields) -> ModelConfig:
    config = with_multipliers(
        fields, llama_family.huggingface_config(fields, "granite_swa", DEFAULTS)
    )
    by_rule = [SLIDING if layer % PERIOD else FULL for layer in range(config.num_hidden_layers)]
    kinds, window = read_layer_types(fields, by_rule), read_window(fields, 128)
    return replace(
        config,
        attention=tuple(
            replace(spec, rope=rope, sinks=True, window=window if kind == SLIDING else None)
            for spec, rope, kind in zip(
                config.attention, _ropes(fields, config), kinds, strict=True
            )
        ),
    )


def _ropes(fields: Fields, config: ModelConfig) -> list[RopeConfig | None]:
    """Of each layer; 0 turns nothing."""
    rope, num_layers = config.rope, config.num_hidden_layers
    assert rope is not None
    thetas = fields.raw(PACES, [rope.theta] * num_layers)
    if not isinstance(thetas, list) or len(thetas) != num_layers:
        raise fields.error(PACES, f"must be a number for each of {num_layers} layers.")
    each = Fields(fields.path, {f"{PACES}.{i}": theta for i, theta in enumerate(thetas)})
    return [
        replace(rope, theta=each.positive(f"{PACES}.{i}")) if theta else None
        for i, theta in enumerate(thetas)
    ]


def huggingface_names(config: ModelConfig) -> NameTable:
    return llama_names.huggingface_names(config, {"self_attn.sinks": SINKS})


GRANITE_SWA = Architecture(
    models="Granite with windows (Granite Swash)",
    model_types=("granite_swa",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
)
