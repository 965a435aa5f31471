"""Helium: a Llama that turns neighbouring channels. llama.cpp does not know it."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields

DEFAULTS = Defaults(
    vocab_size=48000,
    hidden_size=2560,
    intermediate_size=7040,
    num_hidden_layers=24,
    num_heads=20,
    num_kv_heads=20,
    max_position_embeddings=4096,
    head_dim=128,
    norm_eps=1e-8,
    rope_theta=100000.0,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    config = llama_family.huggingface_config(fields, "helium", DEFAULTS)
    if config.num_heads * config.head_dim != config.hidden_size:
        raise fields.error("head_dim", "must be the hidden size over the number of heads.")
    return replace(config, attention_output_bias=False)


HELIUM = Architecture(
    models="Helium 1",
    model_types=("helium",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=llama_names.interleaved_names,
)
