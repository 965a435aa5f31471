"""Command R and R7B: attention and MLP side by side, reading one LayerNorm without bias.

Neighbouring channels are turned; logits have a scale. In `cohere2` three layers of four see a
window, and the fourth, which sees all, is not turned.
"""

from dataclasses import replace

from thirdeye.model.config import AttentionSpec, ModelConfig, Norm
from thirdeye.weights.architectures import llama_family, llama_names
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.layer_types import (
    FULL,
    SLIDING,
    every_nth_full,
    gguf_layer_types,
    read_layer_types,
    read_window,
)
from thirdeye.weights.architectures.limits import MAX_LAYERS, MAX_POSITIONS
from thirdeye.weights.architectures.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=256000,
    hidden_size=8192,
    intermediate_size=22528,
    num_hidden_layers=40,
    num_heads=64,
    max_position_embeddings=8192,
    norm_eps=1e-5,
    norm_eps_key="layer_norm_eps",
    rope_theta=500000.0,
    is_tied=True,
)
COHERE2_DEFAULTS = replace(DEFAULTS, rope_theta=10000.0)


def _parallel(config: ModelConfig, logit_scale: float) -> ModelConfig:
    return replace(
        config,
        norm=Norm.LAYER_NORM,
        norm_bias=False,
        is_parallel=True,
        shares_norm=True,
        logit_scale=logit_scale,
    )


def _windowed(config: ModelConfig, kinds: list[str], window: int | None) -> ModelConfig:
    near = AttentionSpec(rope=config.rope, window=window)
    specs = {FULL: AttentionSpec(), SLIDING: near}
    return replace(config, attention=tuple(specs[kind] for kind in kinds))


def _config(fields: Fields, name: str, defaults: Defaults) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: its MLP never has biases
    config = llama_family.huggingface_config(fields, name, defaults)
    return _parallel(config, fields.positive("logit_scale", 0.0625))


def cohere_config(fields: Fields) -> ModelConfig:
    fields.refuse("use_qk_norm", False)
    return _config(fields, "cohere", DEFAULTS)


def cohere2_config(fields: Fields) -> ModelConfig:
    config = _config(fields, "cohere2", COHERE2_DEFAULTS)
    rule = fields.integer("sliding_window_pattern", 4, high=MAX_LAYERS)
    kinds = read_layer_types(fields, every_nth_full(config.num_hidden_layers, rule))
    return _windowed(config, kinds, read_window(fields, 4096))


def cohere_gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "cohere", norm=Norm.LAYER_NORM)
    return _parallel(config, fields.positive("logit_scale"))


def cohere2_gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(
        fields, file, vocab_size, "cohere2", norm=Norm.LAYER_NORM, has_windows=True
    )
    config = _parallel(config, fields.positive("logit_scale"))
    kinds = gguf_layer_types(fields, config.num_hidden_layers, 4)
    window = fields.integer("attention.sliding_window", high=MAX_POSITIONS)
    return _windowed(config, kinds, window)


COHERE = Architecture(
    models="Command R",
    model_types=("cohere",),
    gguf_architectures=("command-r",),
    huggingface_config=cohere_config,
    huggingface_names=llama_names.interleaved_names,
    gguf_config=cohere_gguf_config,
    gguf_names=llama_names.interleaved_gguf_names,
)
COHERE2 = Architecture(
    models="Command R7B, Command A",
    model_types=("cohere2",),
    gguf_architectures=("cohere2",),
    huggingface_config=cohere2_config,
    huggingface_names=llama_names.interleaved_names,
    gguf_config=cohere2_gguf_config,
    gguf_names=llama_names.interleaved_gguf_names,
)
