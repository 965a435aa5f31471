"""Gemma 3: a Gemma 2 with norms on queries and keys, without soft caps, with two rotations.

Five layers of six see a window of keys and turn by one theta; the sixth sees all and turns by
another, stretched for long contexts.
"""

from dataclasses import replace

from thirdeye.model.config import Activation, AttentionSpec, ModelConfig, RopeConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.layer_types import (
    FULL,
    SLIDING,
    every_nth_full,
    gguf_layer_types,
    read_layer_types,
    read_window,
)
from thirdeye.weights.architectures.common.limits import MAX_LAYERS, MAX_POSITIONS
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.common.rope_settings import (
    huggingface_rope_of,
    huggingface_rope_of_full,
)
from thirdeye.weights.architectures.gemma.gemma import gemma_config, gemma_names
from thirdeye.weights.architectures.gemma.gemma2 import (
    NORMS,
    gemma2_config,
    gguf_query_scale,
    read_cap,
)
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.llama.llama_names import (
    GGUF_HEAD_NORMS,
    GGUF_POST_NORMS,
    HEAD_NORMS,
)
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=262208,
    hidden_size=2304,
    intermediate_size=9216,
    num_hidden_layers=26,
    num_heads=8,
    num_kv_heads=4,
    max_position_embeddings=131072,
    head_dim=256,
    activation="gelu_pytorch_tanh",
    activation_key="hidden_activation",
    is_tied=True,
    has_ropes_by_kind=True,
)
GLOBAL_THETA, LOCAL_THETA = 1e6, 1e4
LAYERS_OF_27B = 62


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("use_bidirectional_attention", False)
    fields.refuse("attn_logit_softcapping")  # transformers does not obey it in this class
    config = gemma_config(llama_family.huggingface_config(fields, "gemma3", DEFAULTS))
    rule = fields.integer("sliding_window_pattern", 6, high=MAX_LAYERS)
    kinds = read_layer_types(fields, every_nth_full(config.num_hidden_layers, rule))
    config = gemma2_config(
        replace(config, rope=_rope(fields, config, FULL)),
        kinds,
        window=read_window(fields, 4096),
        scale=fields.positive("query_pre_attn_scalar", 256) ** -0.5,
        score_cap=None,
        logit_cap=read_cap(fields, "final_logit_softcapping", None),
    )
    return _with_local_rope(config, kinds, _rope(fields, config, SLIDING))


def _rope(fields: Fields, config: ModelConfig, kind: str) -> RopeConfig:
    """Older files have the two thetas apart."""
    context = config.max_position_embeddings
    if kind == SLIDING:
        theta = fields.positive("rope_local_base_freq", LOCAL_THETA)
        return huggingface_rope_of(fields, kind, config.head_dim, context, theta)
    return huggingface_rope_of_full(fields, kind, config.head_dim, context, GLOBAL_THETA)


def _with_local_rope(config: ModelConfig, kinds: list[str], rope: RopeConfig) -> ModelConfig:
    def turned(spec: AttentionSpec, kind: str) -> AttentionSpec:
        return replace(spec, rope=rope) if kind == SLIDING else spec

    specs = tuple(map(turned, config.attention, kinds))
    return replace(config, qk_norm=True, attention=specs)


def huggingface_names(config: ModelConfig) -> NameTable:
    return gemma_names(config, NORMS | {name: target.name for name, target in HEAD_NORMS.items()})


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "gemma3", has_windows=True)
    config = gemma_config(replace(config, activation=Activation.GELU_TANH))
    kinds = gguf_layer_types(fields, config.num_hidden_layers, 6)
    has_cap = "final_logit_softcapping" in fields
    config = gemma2_config(
        config,
        kinds,
        window=fields.integer("attention.sliding_window", high=MAX_POSITIONS),
        scale=gguf_query_scale(config, LAYERS_OF_27B),
        score_cap=None,
        logit_cap=fields.positive("final_logit_softcapping") if has_cap else None,
    )
    theta = fields.positive("rope.freq_base_swa", LOCAL_THETA)
    return _with_local_rope(config, kinds, RopeConfig(theta, config.head_dim))


def gguf_names(config: ModelConfig) -> NameTable:
    return llama_names.gguf_names(config, GGUF_POST_NORMS | GGUF_HEAD_NORMS)


GEMMA3 = Architecture(
    models="Gemma 3 (text)",
    model_types=("gemma3_text",),
    gguf_architectures=("gemma3",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
