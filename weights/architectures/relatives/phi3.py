"""Phi-3, 3.5, 4 and 4-mini: Llamas with merged projections, LongRoPE, heads turned in part."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.layer_types import SLIDING, windows
from thirdeye.weights.architectures.common.limits import MAX_POSITIONS
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.llama.llama_names import FUSED_GATE_UP, FUSED_QKV
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=32064,
    hidden_size=3072,
    intermediate_size=8192,
    num_hidden_layers=32,
    num_heads=32,
    max_position_embeddings=4096,
    norm_eps=1e-5,
    rotary_fraction=1.0,
)
GGUF_FUSED = {
    "attn_qkv.weight": TensorTarget("blocks.{i}.attention.qkv.weight"),
    "ffn_up.weight": TensorTarget("blocks.{i}.mlp.gate_up.weight"),
}


def huggingface_config(fields: Fields) -> ModelConfig:
    for key in ("attention_bias", "mlp_bias"):  # no settings of this class: it never has biases
        fields.refuse(key, False)
    scaling = fields.nested("rope_scaling")
    if scaling is not None and "yarn" in (scaling.raw("type", ""), scaling.raw("rope_type", "")):
        raise scaling.error("type", "'yarn' is not supported here; supported is longrope.")
    config = llama_family.huggingface_config(fields, "phi3", DEFAULTS)
    window = None
    if "sliding_window" in fields:
        window = fields.integer("sliding_window", high=MAX_POSITIONS)
    return _windowed(config, window)


def _windowed(config: ModelConfig, window: int | None) -> ModelConfig:
    """All layers have it, where it is shorter than the context."""
    if window is None or window >= config.max_position_embeddings:
        return config
    kinds = [SLIDING] * config.num_hidden_layers
    return replace(config, attention=windows(kinds, config.rope, window))


def huggingface_names(config: ModelConfig) -> NameTable:
    return llama_names.huggingface_names(config, FUSED_QKV | FUSED_GATE_UP)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(
        fields, file, vocab_size, "phi3", has_windows=True, is_partly_rotary=True
    )
    window = fields.integer("attention.sliding_window", 0, low=0, high=MAX_POSITIONS)
    return _windowed(config, window or None)


def gguf_names(config: ModelConfig) -> NameTable:
    return llama_names.gguf_names(config, GGUF_FUSED)


PHI3 = Architecture(
    models="Phi-3, 3.5, 4, 4-mini",
    model_types=("phi3",),
    gguf_architectures=("phi3",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
    tokens_swallow_space=True,
)
