"""Code World Model: a Llama in which every fourth layer, from the first on, sees all keys, and the
others a window. llama.cpp does not know it."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig, RopeConfig, RopeScaling
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.layer_types import (
    FULL,
    SLIDING,
    read_layer_types,
    windows,
)
from thirdeye.weights.architectures.common.limits import MAX_POSITIONS
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields

DEFAULTS = Defaults(
    vocab_size=128256,
    hidden_size=6144,
    intermediate_size=21504,
    num_hidden_layers=64,
    num_heads=48,
    num_kv_heads=8,
    max_position_embeddings=131072,
    head_dim=128,
    norm_eps=1e-5,
    rope_theta=1e6,
)
SCALING = RopeScaling("llama3", 16.0, 1.0, 4.0, 8192)  # of a config that says nothing of rotation


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("attention_bias", False)  # no setting of this class: it never has these biases
    config = llama_family.huggingface_config(fields, "cwm", DEFAULTS)
    rope = config.rope
    if "rope_parameters" not in fields and "rope_scaling" not in fields:
        rope = RopeConfig(DEFAULTS.rope_theta, config.head_dim, SCALING)
    by_rule = [SLIDING if layer % 4 else FULL for layer in range(config.num_hidden_layers)]
    kinds = read_layer_types(fields, by_rule)
    window = fields.integer("sliding_window", 8192, low=0, high=MAX_POSITIONS)
    if not window and SLIDING in kinds:
        raise fields.error("sliding_window", "must be above 0 where 'layer_types' has windows.")
    return replace(config, rope=rope, attention=windows(kinds, rope, window))


CWM = Architecture(
    models="Code World Model",
    model_types=("cwm",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=llama_names.huggingface_names,
)
