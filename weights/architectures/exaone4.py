"""EXAONE 4: norms as in OLMo 2, on heads as in Qwen3; with windows, full layers are not turned."""

from dataclasses import replace

from thirdeye.model.config import AttentionSpec, ModelConfig
from thirdeye.weights.architectures import llama_family, llama_names
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.layer_types import (
    FULL,
    SLIDING,
    every_nth_full,
    read_layer_types,
    read_window,
)
from thirdeye.weights.architectures.limits import MAX_LAYERS
from thirdeye.weights.architectures.llama_family import Defaults
from thirdeye.weights.architectures.name_table import NameTable
from thirdeye.weights.architectures.olmo import POST_NORMS
from thirdeye.weights.architectures.qwen3 import KEY_NORM, QUERY_NORM
from thirdeye.weights.formats.fields import Fields

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


def huggingface_config(fields: Fields) -> ModelConfig:
    config = llama_family.huggingface_config(fields, "exaone4", DEFAULTS)
    config = replace(config, pre_norm=False, post_norm=True, qk_norm=True)
    window = read_window(fields, 4096)
    if window is None:
        fields.refuse("layer_types", [FULL] * config.num_hidden_layers)
        return config
    by_rule = [FULL] * config.num_hidden_layers
    if "layer_types" not in fields:
        rule = fields.integer("sliding_window_pattern", 4, high=MAX_LAYERS)
        by_rule = every_nth_full(config.num_hidden_layers, rule)
    kinds = read_layer_types(fields, by_rule)
    specs = {FULL: AttentionSpec(), SLIDING: AttentionSpec(rope=config.rope, window=window)}
    return replace(config, attention=tuple(specs[kind] for kind in kinds))


def huggingface_names(config: ModelConfig) -> NameTable:
    norms = {"self_attn.q_norm.weight": QUERY_NORM, "self_attn.k_norm.weight": KEY_NORM}
    return llama_names.huggingface_names(config, norms | POST_NORMS)


EXAONE4 = Architecture(
    models="EXAONE 4",
    model_types=("exaone4",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
)
