"""Mistral: a Llama whose layers may all see a window of keys alone, as those of version 0.1 do.

llama.cpp knows it as a Llama.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.layer_types import SLIDING, read_window, windows
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
    for key in ("attention_bias", "mlp_bias"):  # no settings of this class: it never has biases
        fields.refuse(key, False)
    fields.refuse("layer_types")  # transformers does not obey it in this class
    config = llama_family.huggingface_config(fields, "mistral", DEFAULTS)
    kinds = [SLIDING] * config.num_hidden_layers
    return replace(config, attention=windows(kinds, config.rope, read_window(fields, 4096)))


MISTRAL = Architecture(
    models="Mistral 7B, Nemo, Small",
    model_types=("mistral",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=llama_names.huggingface_names,
)
