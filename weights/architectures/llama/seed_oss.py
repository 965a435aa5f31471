"""Seed-OSS: a Llama with biases on queries, keys and values, and its own setting for the output's.

llama.cpp's converter keeps the order of rows.
"""

from dataclasses import replace
from functools import partial

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.name_table import TensorTarget
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields

DEFAULTS = Defaults(
    vocab_size=155136,
    hidden_size=4096,
    intermediate_size=27648,
    num_hidden_layers=64,
    num_heads=80,
    num_kv_heads=8,
    max_position_embeddings=524288,
    head_dim=128,
)
NORM = {"post_attention_norm.weight": TensorTarget("blocks.{i}.mlp_norm.weight")}


def huggingface_config(fields: Fields) -> ModelConfig:
    return replace(
        llama_family.huggingface_config(fields, "seed_oss", DEFAULTS),
        qkv_bias=fields.boolean("attention_bias", True),
        attention_output_bias=fields.boolean("attention_out_bias", False),
    )


SEED_OSS = Architecture(
    models="Seed-OSS",
    model_types=("seed_oss",),
    gguf_architectures=("seed_oss",),
    huggingface_config=huggingface_config,
    huggingface_names=llama_names.huggingface_names,
    gguf_config=partial(llama_family.gguf_config, architecture="seed_oss"),
    gguf_names=partial(llama_names.gguf_names, also=NORM),  # it calls the second norm so
)
