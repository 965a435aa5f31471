"""Mistral: a Llama whose layers may all see a window of keys alone, as those of version 0.1 do.

llama.cpp knows it as a Llama. Ministral 8B says of each layer whether it is one of those.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.layer_types import (
    FULL,
    SLIDING,
    read_layer_types,
    read_window,
    windows,
)
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields

DEFAULTS = Defaults(
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_heads=32,
    num_kv_heads=8,
    max_position_embeddings=131072,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("layer_types")  # transformers does not obey it in this class
    config = _unbiased(fields, "mistral")
    kinds = [SLIDING] * config.num_hidden_layers
    return replace(config, attention=windows(kinds, config.rope, read_window(fields, 4096)))


def ministral_config(fields: Fields) -> ModelConfig:
    config, window = _unbiased(fields, "ministral"), read_window(fields, 4096)
    if window is None:
        fields.refuse("layer_types", [FULL] * config.num_hidden_layers)
        return config
    kinds = read_layer_types(fields, [SLIDING] * config.num_hidden_layers)
    return replace(config, attention=windows(kinds, config.rope, window))


def _unbiased(fields: Fields, architecture: str) -> ModelConfig:
    for key in ("attention_bias", "mlp_bias"):  # no settings of these classes: they never have any
        fields.refuse(key, False)
    return llama_family.huggingface_config(fields, architecture, DEFAULTS)


MISTRAL = Architecture(
    models="Mistral 7B, Nemo, Small",
    model_types=("mistral",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=llama_names.huggingface_names,
)
MINISTRAL = Architecture(
    models="Ministral 8B",
    model_types=("ministral",),
    gguf_architectures=(),
    huggingface_config=ministral_config,
    huggingface_names=llama_names.huggingface_names,
)
