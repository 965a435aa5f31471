"""Nemotron, Minitron: LayerNorms with weights kept less 1, a plain MLP `down(relu(up x)^2)`, half
of each head turned. In GGUF the 1 has been added, and rows keep their order.

Jais 2 is one with biases, whose norms are kept whole and whose heads are turned whole.
"""

from dataclasses import replace

from thirdeye.model.config import Activation, ModelConfig, Norm
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=256000,
    hidden_size=6144,
    intermediate_size=24576,
    num_hidden_layers=32,
    num_heads=48,
    max_position_embeddings=4096,
    norm_eps=1e-5,
    norm_eps_key="norm_eps",
    activation="relu2",
    rotary_fraction=0.5,
)
JAIS2_DEFAULTS = Defaults(
    vocab_size=150272,
    hidden_size=3328,
    intermediate_size=26624,
    num_hidden_layers=32,
    num_heads=26,
    max_position_embeddings=8192,
    norm_eps=1e-5,
    norm_eps_key="layer_norm_eps",
    activation="relu2",
)


def _normed(config: ModelConfig) -> ModelConfig:
    return replace(config, norm=Norm.LAYER_NORM, gated_mlp=False)


def huggingface_config(fields: Fields) -> ModelConfig:
    return _normed(llama_family.huggingface_config(fields, "nemotron", DEFAULTS))


def huggingface_names(config: ModelConfig) -> NameTable:
    names = llama_names.with_norm_biases(llama_names.huggingface_names(config))
    return llama_names.with_norm_offset(names)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(
        fields, file, vocab_size, "nemotron", norm=Norm.LAYER_NORM, is_partly_rotary=True
    )
    return _normed(replace(config, activation=Activation.RELU2))


def gguf_names(config: ModelConfig) -> NameTable:
    return llama_names.with_norm_biases(llama_names.gguf_names(config))


def jais2_config(fields: Fields) -> ModelConfig:
    config = llama_family.huggingface_config(fields, "jais2", JAIS2_DEFAULTS)
    bias = fields.boolean("attention_bias", True)
    return replace(
        _normed(config),
        qkv_bias=bias,
        attention_output_bias=bias,
        mlp_bias=fields.boolean("mlp_bias", True),
    )


def jais2_names(config: ModelConfig) -> NameTable:
    return llama_names.with_norm_biases(llama_names.huggingface_names(config))


def jais2_gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "jais2", norm=Norm.LAYER_NORM)
    return _normed(replace(config, activation=Activation.RELU2))


NEMOTRON = Architecture(
    models="Nemotron, Minitron",
    model_types=("nemotron",),
    gguf_architectures=("nemotron",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
JAIS2 = Architecture(
    models="Jais 2",
    model_types=("jais2",),
    gguf_architectures=("jais2",),
    huggingface_config=jais2_config,
    huggingface_names=jais2_names,
    gguf_config=jais2_gguf_config,
    gguf_names=gguf_names,
)
