"""GLM-4, the dense ones, under both their names: half of each head is turned, by neighbours.

`glm4` (of 2025) also norms what attention and MLP add to the stream.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.llama.llama_names import (
    FUSED_GATE_UP,
    GGUF_GATE_UP,
    GGUF_POST_NORMS,
)
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=151552,
    hidden_size=4096,
    intermediate_size=13696,
    num_hidden_layers=40,
    num_heads=32,
    num_kv_heads=2,
    max_position_embeddings=131072,
    head_dim=128,
    norm_eps=1.5625e-7,
    rotary_fraction=0.5,
)
POST_NORMS = {
    "post_self_attn_layernorm.weight": TensorTarget("blocks.{i}.attention_post_norm.weight"),
    "post_mlp_layernorm.weight": TensorTarget("blocks.{i}.mlp_post_norm.weight"),
}


def glm_config(fields: Fields) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: its MLP never has biases
    config = llama_family.huggingface_config(fields, "glm", DEFAULTS)
    bias = fields.boolean("attention_bias", True)
    return replace(config, qkv_bias=bias, attention_output_bias=False)


def glm4_config(fields: Fields) -> ModelConfig:
    return replace(glm_config(fields), architecture="glm4", post_norm=True)


def glm_names(config: ModelConfig) -> NameTable:
    return llama_names.interleaved_names(config, FUSED_GATE_UP)


def glm4_names(config: ModelConfig) -> NameTable:
    return llama_names.interleaved_names(config, FUSED_GATE_UP | POST_NORMS)


def glm_gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    """llama.cpp's name for both generations of ChatGLM whose layers are as these are."""
    config = llama_family.gguf_config(fields, file, vocab_size, "glm", is_partly_rotary=True)
    biases = [f"blk.0.attn_{kind}.bias" in file.tensors for kind in ("q", "qkv")]
    return replace(config, qkv_bias=any(biases), attention_output_bias=False)


def glm4_gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    return replace(glm_gguf_config(fields, file, vocab_size), architecture="glm4", post_norm=True)


def glm_gguf_names(config: ModelConfig) -> NameTable:
    return llama_names.interleaved_gguf_names(config, GGUF_GATE_UP)


def glm4_gguf_names(config: ModelConfig) -> NameTable:
    return llama_names.interleaved_gguf_names(config, GGUF_GATE_UP | GGUF_POST_NORMS)


GLM = Architecture(
    models="GLM-4 (9B of 2024), GLM-Edge",
    model_types=("glm",),
    gguf_architectures=("chatglm",),
    huggingface_config=glm_config,
    huggingface_names=glm_names,
    gguf_config=glm_gguf_config,
    gguf_names=glm_gguf_names,
)
GLM4 = Architecture(
    models="GLM-4 (dense, 2025)",
    model_types=("glm4",),
    gguf_architectures=("glm4",),
    huggingface_config=glm4_config,
    huggingface_names=glm4_names,
    gguf_config=glm4_gguf_config,
    gguf_names=glm4_gguf_names,
)
