"""EXAONE 4: norms as in OLMo 2, on heads as in Qwen3; with windows, full layers are not turned."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.layer_types import (
    FULL,
    every_nth_full,
    gguf_layer_types,
    read_layer_types,
    read_window,
    with_turned_windows,
)
from thirdeye.weights.architectures.common.limits import MAX_LAYERS, MAX_POSITIONS
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.llama.llama_names import (
    GGUF_HEAD_NORMS,
    GGUF_POST_NORMS,
    HEAD_NORMS,
    POST_NORMS,
)
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=102400,
    hidden_size=4096,
    intermediate_size=16384,
    num_hidden_layers=32,
    num_heads=32,
    num_kv_heads=32,
    max_position_embeddings=2048,
    norm_eps=1e-5,
)

LAYERS_OF_32B, WINDOW_OF_32B = 64, 4096  # llama.cpp tells it by them


def huggingface_config(fields: Fields) -> ModelConfig:
    config = _normed(llama_family.huggingface_config(fields, "exaone4", DEFAULTS))
    window = read_window(fields, 4096)
    if window is None:
        fields.refuse("layer_types", [FULL] * config.num_hidden_layers)
        return config
    by_rule = [FULL] * config.num_hidden_layers
    if "layer_types" not in fields:
        rule = fields.integer("sliding_window_pattern", 4, high=MAX_LAYERS)
        by_rule = every_nth_full(config.num_hidden_layers, rule)
    return with_turned_windows(config, read_layer_types(fields, by_rule), window)


def _normed(config: ModelConfig) -> ModelConfig:
    return replace(config, pre_norm=False, post_norm=True, qk_norm=True)


def huggingface_names(config: ModelConfig) -> NameTable:
    return llama_names.huggingface_names(config, HEAD_NORMS | POST_NORMS)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "exaone4", has_windows=True)
    config = _normed(config)
    default = WINDOW_OF_32B if config.num_hidden_layers == LAYERS_OF_32B else 0
    window = fields.integer("attention.sliding_window", default, low=0, high=MAX_POSITIONS)
    kinds = gguf_layer_types(fields, config.num_hidden_layers, 4)
    return with_turned_windows(config, kinds, window) if window else config


def gguf_names(config: ModelConfig) -> NameTable:
    return llama_names.gguf_names(config, GGUF_POST_NORMS | GGUF_HEAD_NORMS)


EXAONE4 = Architecture(
    models="EXAONE 4",
    model_types=("exaone4",),
    gguf_architectures=("exaone4",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
