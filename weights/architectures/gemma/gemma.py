"""Gemma: a Llama with scaled embeddings, GELU at the gate, and norms kept as what is added to 1.

Tokens' vectors are multiplied by the square root of the hidden size. transformers keeps a norm's
weights less 1, llama.cpp's converter has added it.
"""

import math
from dataclasses import replace

from thirdeye.model.config import Activation, ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=256000,
    hidden_size=3072,
    intermediate_size=24576,
    num_hidden_layers=28,
    num_heads=16,
    max_position_embeddings=8192,
    head_dim=256,
    activation="gelu_pytorch_tanh",
    is_tied=True,
)
NORMS = {
    "input_layernorm.weight": "blocks.{i}.attention_norm.weight",
    "post_attention_layernorm.weight": "blocks.{i}.mlp_norm.weight",
}


def gemma_config(config: ModelConfig) -> ModelConfig:
    """What all Gemmas have in common."""
    return replace(config, embedding_scale=math.sqrt(config.hidden_size))


def gemma_names(config: ModelConfig, norms: dict[str, str]) -> NameTable:
    """transformers' names, with the norms of a layer."""
    targets = {name: TensorTarget(place, offset=1.0) for name, place in norms.items()}
    table = llama_names.huggingface_names(config, targets)
    final = {"norm.weight": TensorTarget("final_norm.weight", offset=1.0)}
    return replace(table, names={**table.names, **final})


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("use_bidirectional_attention", False)
    config = gemma_config(llama_family.huggingface_config(fields, "gemma", DEFAULTS))
    if fields.text("hidden_act", "") == "gelu":  # by mistake, in the first release's files
        config = replace(config, activation=Activation.GELU_TANH)
    return config


def huggingface_names(config: ModelConfig) -> NameTable:
    return gemma_names(config, NORMS)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "gemma")
    return gemma_config(replace(config, activation=Activation.GELU_TANH))


GEMMA = Architecture(
    models="Gemma 1",
    model_types=("gemma",),
    gguf_architectures=("gemma",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=llama_names.gguf_names,
)
