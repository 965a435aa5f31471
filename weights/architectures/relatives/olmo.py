"""OLMo 2 and 3: Llamas that norm what a layer adds to the stream instead of what it reads.

Queries are normed over all heads together, and so are keys. In OLMo 3 three layers of four see a
window, and only the fourth's rotation is stretched.
"""

from dataclasses import replace

from thirdeye.model.config import AttentionSpec, ModelConfig, RopeConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.layer_types import (
    FULL,
    SLIDING,
    by_kind,
    every_nth_full,
    gguf_layer_types,
    read_layer_types,
    read_window,
)
from thirdeye.weights.architectures.common.limits import MAX_POSITIONS
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.common.rope_settings import (
    huggingface_rope_of,
    huggingface_rope_of_full,
)
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.llama.llama_names import GGUF_POST_NORMS, POST_NORMS
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

OLMO2_DEFAULTS = Defaults(
    vocab_size=50304,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_heads=32,
    max_position_embeddings=2048,
    norm_eps=1e-5,
)
THETA = 500000.0
OLMO3_DEFAULTS = replace(OLMO2_DEFAULTS, has_ropes_by_kind=True)
QUERY_NORM = TensorTarget("blocks.{i}.attention.wide_qk_norm.query_norm.weight")
KEY_NORM = TensorTarget("blocks.{i}.attention.wide_qk_norm.key_norm.weight")


def _normed(config: ModelConfig) -> ModelConfig:
    return replace(config, pre_norm=False, post_norm=True, wide_qk_norm=True)


def olmo2_config(fields: Fields) -> ModelConfig:
    return _normed(llama_family.huggingface_config(fields, "olmo2", OLMO2_DEFAULTS))


def olmo3_config(fields: Fields) -> ModelConfig:
    config = _normed(llama_family.huggingface_config(fields, "olmo3", OLMO3_DEFAULTS))
    kinds = read_layer_types(fields, every_nth_full(config.num_hidden_layers, 4))
    context, window = config.max_position_embeddings, read_window(fields, 4096)
    far = huggingface_rope_of_full(fields, FULL, config.head_dim, context, THETA)
    near = huggingface_rope_of(fields, SLIDING, config.head_dim, context, THETA)
    return _windowed(replace(config, rope=far), kinds, near, window)


def _windowed(
    config: ModelConfig, kinds: list[str], near_rope: RopeConfig, window: int | None
) -> ModelConfig:
    full, near = AttentionSpec(rope=config.rope), AttentionSpec(near_rope, window=window)
    return replace(config, attention=by_kind(kinds, full, near))


def huggingface_names(config: ModelConfig) -> NameTable:
    norms = {"self_attn.q_norm.weight": QUERY_NORM, "self_attn.k_norm.weight": KEY_NORM}
    return llama_names.huggingface_names(config, norms | POST_NORMS)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    """Of both: OLMo 3 is an OLMo 2 with windows there."""
    config = llama_family.gguf_config(fields, file, vocab_size, "olmo2", has_windows=True)
    config = _normed(config)
    window = fields.integer("attention.sliding_window", 0, low=0, high=MAX_POSITIONS)
    kinds = gguf_layer_types(fields, config.num_hidden_layers, 4)
    if not window:
        return config
    assert config.rope is not None
    theta = fields.positive("rope.freq_base_swa", config.rope.theta)
    return _windowed(config, kinds, RopeConfig(theta, config.head_dim), window)


def gguf_names(config: ModelConfig) -> NameTable:
    norms = {"attn_q_norm.weight": QUERY_NORM, "attn_k_norm.weight": KEY_NORM}
    return llama_names.gguf_names(config, GGUF_POST_NORMS | norms)


OLMO2 = Architecture(
    models="OLMo 2",
    model_types=("olmo2",),
    gguf_architectures=("olmo2",),
    huggingface_config=olmo2_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
OLMO3 = Architecture(
    models="OLMo 3",
    model_types=("olmo3",),
    gguf_architectures=(),  # llama.cpp calls it an OLMo 2 with windows
    huggingface_config=olmo3_config,
    huggingface_names=huggingface_names,
)
