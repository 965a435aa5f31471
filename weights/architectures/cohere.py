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
    read_layer_types,
    read_window,
)
from thirdeye.weights.architectures.limits import MAX_LAYERS
from thirdeye.weights.architectures.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields

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


def _config(fields: Fields, name: str, defaults: Defaults) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: its MLP never has biases
    return replace(
        llama_family.huggingface_config(fields, name, defaults),
        norm=Norm.LAYER_NORM,
        norm_bias=False,
        is_parallel=True,
        shares_norm=True,
        logit_scale=fields.positive("logit_scale", 0.0625),
    )


def cohere_config(fields: Fields) -> ModelConfig:
    fields.refuse("use_qk_norm", False)
    return _config(fields, "cohere", DEFAULTS)


def cohere2_config(fields: Fields) -> ModelConfig:
    config = _config(fields, "cohere2", COHERE2_DEFAULTS)
    rule = fields.integer("sliding_window_pattern", 4, high=MAX_LAYERS)
    kinds = read_layer_types(fields, every_nth_full(config.num_hidden_layers, rule))
    near = AttentionSpec(rope=config.rope, window=read_window(fields, 4096))
    specs = {FULL: AttentionSpec(), SLIDING: near}
    return replace(config, attention=tuple(specs[kind] for kind in kinds))


COHERE = Architecture(
    models="Command R",
    model_types=("cohere",),
    gguf_architectures=(),
    huggingface_config=cohere_config,
    huggingface_names=llama_names.interleaved_names,
)
COHERE2 = Architecture(
    models="Command R7B, Command A",
    model_types=("cohere2",),
    gguf_architectures=(),
    huggingface_config=cohere2_config,
    huggingface_names=llama_names.interleaved_names,
)
