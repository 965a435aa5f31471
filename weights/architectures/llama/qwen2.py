"""Qwen2 and Qwen2.5: a Llama with biases on queries, keys and values, and on nothing else.

Layers from `max_window_layers` on may see a window of keys alone, where `use_sliding_window` says
so.
"""

from dataclasses import replace

from thirdeye.model.config import AttentionSpec, ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.layer_types import (
    FULL,
    SLIDING,
    read_layer_types,
    windows,
)
from thirdeye.weights.architectures.common.limits import MAX_LAYERS, MAX_POSITIONS
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=151936,
    hidden_size=4096,
    intermediate_size=22016,
    num_hidden_layers=32,
    num_heads=32,
    max_position_embeddings=32768,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("attention_bias", True)  # no setting of this class: its biases are always there
    config = llama_family.huggingface_config(fields, "qwen2", DEFAULTS)
    return replace(
        config,
        qkv_bias=True,
        attention_output_bias=False,
        attention=qwen_windows(fields, config),
    )


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    read_what_pictures_need(fields)
    return llama_family.gguf_config(fields, file, vocab_size, "qwen2")


def read_what_pictures_need(fields: Fields) -> None:
    """Of the text part of a model that sees: text has the same position in each section of a rotary
    head, and nothing that is added to layers."""
    if fields.prefix in ("qwen2vl.", "qwen3vl.", "qwen3vlmoe."):
        fields.raw("rope.dimension_sections", None)
        fields.raw("n_deepstack_layers", None)


def qwen_windows(fields: Fields, config: ModelConfig) -> tuple[AttentionSpec, ...]:
    """One spec a layer, or none at all where every layer sees all keys."""
    num_layers = config.num_hidden_layers
    if not fields.boolean("use_sliding_window", False):
        fields.refuse("layer_types", [FULL] * num_layers)
        return ()
    window = fields.integer("sliding_window", 4096, high=MAX_POSITIONS)
    first = fields.integer("max_window_layers", 28, low=0, high=MAX_LAYERS)
    by_rule = [FULL if layer < first else SLIDING for layer in range(num_layers)]
    return windows(read_layer_types(fields, by_rule), config.rope, window)


QWEN2 = Architecture(
    models="Qwen2, Qwen2.5, QwQ, DeepSeek-R1-Distill-Qwen, Qwen2-VL and Qwen2.5-VL (their text)",
    model_types=("qwen2",),
    gguf_architectures=("qwen2", "qwen2vl"),
    huggingface_config=huggingface_config,
    huggingface_names=llama_names.huggingface_names,
    gguf_config=gguf_config,
    gguf_names=llama_names.gguf_names,
)
