"""Qwen3: a Llama whose queries and keys are normed head by head before they are turned.

The head's size is a setting of its own, independent of the hidden size. Windows are as in Qwen2.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.llama.llama_names import GGUF_HEAD_NORMS, HEAD_NORMS
from thirdeye.weights.architectures.llama.qwen2 import qwen_windows, read_what_pictures_need
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=151936,
    hidden_size=4096,
    intermediate_size=22016,
    num_hidden_layers=32,
    num_heads=32,
    max_position_embeddings=32768,
    head_dim=128,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    config = llama_family.huggingface_config(fields, "qwen3", DEFAULTS)
    return replace(config, qk_norm=True, attention=qwen_windows(fields, config))


def huggingface_names(config: ModelConfig) -> NameTable:
    return llama_names.huggingface_names(config, HEAD_NORMS)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    read_what_pictures_need(fields)
    return replace(llama_family.gguf_config(fields, file, vocab_size, "qwen3"), qk_norm=True)


def gguf_names(config: ModelConfig) -> NameTable:
    return llama_names.gguf_names(config, GGUF_HEAD_NORMS)


QWEN3 = Architecture(
    models="Qwen3 (dense), Qwen3-VL (dense, its text)",
    model_types=("qwen3",),
    gguf_architectures=("qwen3", "qwen3vl"),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
