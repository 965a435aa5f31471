"""Qwen3: a Llama whose queries and keys are normed head by head before they are turned.

The head's size is a setting of its own, independent of the hidden size. Layers from
`max_window_layers` on may see a window of keys alone, where `use_sliding_window` says so.
"""

from dataclasses import replace

from thirdeye.model.config import AttentionSpec, ModelConfig
from thirdeye.weights.architectures import llama_family, llama_names
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.limits import MAX_LAYERS, MAX_POSITIONS
from thirdeye.weights.architectures.llama_family import Defaults
from thirdeye.weights.architectures.name_table import NameTable, TensorTarget
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
KINDS = ("full_attention", "sliding_attention")
QUERY_NORM = TensorTarget("blocks.{i}.attention.qk_norm.query_norm.weight")
KEY_NORM = TensorTarget("blocks.{i}.attention.qk_norm.key_norm.weight")


def huggingface_config(fields: Fields) -> ModelConfig:
    config = llama_family.huggingface_config(fields, "qwen3", DEFAULTS)
    return replace(config, qk_norm=True, attention=_windows(fields, config))


def _windows(fields: Fields, config: ModelConfig) -> tuple[AttentionSpec, ...]:
    """One spec a layer, or none at all where every layer sees all keys."""
    (full, sliding), num_layers = KINDS, config.num_hidden_layers
    if not fields.boolean("use_sliding_window", False):
        fields.refuse("layer_types", [full] * num_layers)
        return ()
    window = fields.integer("sliding_window", 4096, high=MAX_POSITIONS)
    first = fields.integer("max_window_layers", 28, low=0, high=MAX_LAYERS)
    by_rule = [full if layer < first else sliding for layer in range(num_layers)]
    kinds = fields.raw("layer_types", by_rule)
    if not isinstance(kinds, list) or len(kinds) != num_layers or set(map(str, kinds)) - {*KINDS}:
        raise fields.error(
            "layer_types", f"must name one of {', '.join(KINDS)} for each of {num_layers} layers."
        )
    return tuple(
        AttentionSpec(rope=config.rope, window=None if kind == full else window) for kind in kinds
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    return llama_names.huggingface_names(
        config, {"self_attn.q_norm.weight": QUERY_NORM, "self_attn.k_norm.weight": KEY_NORM}
    )


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    return replace(llama_family.gguf_config(fields, file, vocab_size, "qwen3"), qk_norm=True)


def gguf_names(config: ModelConfig) -> NameTable:
    return llama_names.gguf_names(
        config, {"attn_q_norm.weight": QUERY_NORM, "attn_k_norm.weight": KEY_NORM}
    )


QWEN3 = Architecture(
    model_types=("qwen3",),
    gguf_architectures=("qwen3",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
