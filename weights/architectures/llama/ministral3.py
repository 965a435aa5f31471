"""Ministral 3: a Mistral stretched by YaRN, whose queries grow past the original context.

That is Llama 4's temperature of attention. llama.cpp knows it as `mistral3`, with rows in Llama's
order.
"""

from dataclasses import replace

from thirdeye.model.config import AttentionSpec, ModelConfig, RopeConfig, RopeScaling, Temperature
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.limits import MAX_POSITIONS
from thirdeye.weights.architectures.common.rope_scaling import ORIGINAL, as_float32, yarn_magnitude
from thirdeye.weights.architectures.common.rope_settings import rope_parameters
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama import LLAMA
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=131072,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=34,
    num_heads=32,
    num_kv_heads=8,
    max_position_embeddings=262144,
    head_dim=128,
    norm_eps=1e-5,
)
# Of a config that says nothing of rotation.
THETA, SCALING = 1e6, RopeScaling("yarn", 16.0, original_max_position_embeddings=16384)
TEMPERATURE = Temperature(as_float32(0.1), 16384)


def _tempered(
    config: ModelConfig, temperature: Temperature | None, window: int | None
) -> ModelConfig:
    spec = AttentionSpec(rope=config.rope, window=window, temperature=temperature)
    return replace(config, attention=(spec,) * config.num_hidden_layers)


def huggingface_config(fields: Fields) -> ModelConfig:
    for key in ("attention_bias", "mlp_bias"):  # no settings of this class: it never has biases
        fields.refuse(key, False)
    fields.refuse("layer_types")  # transformers does not obey it in this class
    config = llama_family.huggingface_config(fields, "ministral3", DEFAULTS)
    has_window = "sliding_window" in fields
    window = fields.integer("sliding_window", high=MAX_POSITIONS) if has_window else None
    parameters = rope_parameters(fields)
    if parameters is None:
        rope = RopeConfig(THETA, config.head_dim, SCALING)
        return _tempered(replace(config, rope=rope), TEMPERATURE, window)
    temperature = None
    if "llama_4_scaling_beta" in parameters:
        beta = as_float32(parameters.positive("llama_4_scaling_beta"))
        temperature = Temperature(beta, parameters.integer(ORIGINAL, high=MAX_POSITIONS))
    return _tempered(config, temperature, window)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "mistral3")
    assert config.rope is not None
    scaling = config.rope.scaling
    if scaling is not None and scaling.kind == "yarn":
        part = yarn_magnitude(scaling.factor, fields.positive("rope.scaling.yarn_log_multiplier"))
        factor = as_float32(scaling.attention_factor / part)
        rope = replace(config.rope, scaling=replace(scaling, attention_factor=factor))
        config = replace(config, rope=rope)
    temperature = None
    if "attention.temperature_scale" in fields:
        length = fields.integer("rope.scaling.original_context_length", high=MAX_POSITIONS)
        fields.refuse("attention.temperature_length", length)
        temperature = Temperature(fields.positive("attention.temperature_scale"), length)
    return _tempered(config, temperature, None)


MINISTRAL3 = Architecture(
    models="Ministral 3",
    model_types=("ministral3",),
    gguf_architectures=("mistral3",),
    huggingface_config=huggingface_config,
    huggingface_names=llama_names.huggingface_names,
    gguf_config=gguf_config,
    gguf_names=LLAMA.gguf_names,
)
