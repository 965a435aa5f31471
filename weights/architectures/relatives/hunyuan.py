"""Hunyuan, the dense ones: a Llama whose queries and keys are normed head by head after they were
turned, by a theta that was raised once and for all (NTK by `alpha`).

Its files call that scaling "dynamic", but a text's length has no part in it. llama.cpp's converter
writes the raised theta and keeps the order of rows.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig, RopeConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.common.rope_scaling import as_float32
from thirdeye.weights.architectures.common.rope_settings import huggingface_rope, rope_parameters
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.llama.llama_names import (
    GGUF_HEAD_NORMS,
    KEY_NORM,
    QUERY_NORM,
)
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

THETA = 10000.0
DEFAULTS = Defaults(
    vocab_size=290943,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_heads=32,
    max_position_embeddings=2048,
    norm_eps=1e-5,
    has_ropes_by_kind=True,  # read here
)


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: its MLP never has biases
    fields.refuse("use_cla", False)  # layers that share keys, of the larger ones
    config = llama_family.huggingface_config(fields, "hunyuan_v1_dense", DEFAULTS)
    rope = _rope(fields, config.head_dim, config.max_position_embeddings)
    return _normed(replace(config, rope=rope))


def _rope(fields: Fields, dim: int, context: int) -> RopeConfig:
    parameters = rope_parameters(fields)
    if parameters is None or "alpha" not in parameters or _kind(parameters) != "dynamic":
        return huggingface_rope(fields, dim, context, THETA)
    theta = parameters.positive("rope_theta", fields.positive("rope_theta", THETA))
    alpha = parameters.positive("alpha")
    return RopeConfig(as_float32(theta * alpha ** (dim / (dim - 2))), dim)


def _kind(parameters: Fields) -> str:
    return parameters.text("rope_type", parameters.text("type", "default"))


def _normed(config: ModelConfig) -> ModelConfig:
    return replace(config, qk_norm=True, norms_turned=True)


def huggingface_names(config: ModelConfig) -> NameTable:
    norms = {
        "self_attn.query_layernorm.weight": QUERY_NORM,
        "self_attn.key_layernorm.weight": KEY_NORM,
    }
    return llama_names.huggingface_names(config, norms)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "hunyuan-dense")
    assert config.rope is not None
    rope = replace(config.rope, theta=as_float32(config.rope.theta))
    return _normed(replace(config, rope=rope))


def gguf_names(config: ModelConfig) -> NameTable:
    return llama_names.gguf_names(config, GGUF_HEAD_NORMS)


HUNYUAN = Architecture(
    models="Hunyuan (dense, 0.5B to 7B)",
    model_types=("hunyuan_v1_dense",),
    gguf_architectures=("hunyuan-dense",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
