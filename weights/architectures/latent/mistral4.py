"""Mistral Small 4: DeepSeek V3's attention, with queries that grow past the original context, and
experts chosen by softmax, within groups if there are several.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig, RopeConfig, RopeScaling, Temperature
from thirdeye.model.experts_spec import Scoring
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import DOWN, GATE_UP, with_experts
from thirdeye.weights.architectures.common.grouped_experts import (
    WITH_BESIDE,
    GroupedDefaults,
    gguf_grouped_experts,
    grouped_experts,
    with_dense_first,
)
from thirdeye.weights.architectures.common.limits import MAX_POSITIONS
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.common.rope_scaling import ORIGINAL, as_float32, yarn_magnitude
from thirdeye.weights.architectures.common.rope_settings import rope_parameters
from thirdeye.weights.architectures.latent import latent_family, latent_gguf, latent_names
from thirdeye.weights.architectures.latent.deepseek import DEEPSEEK_V3, GGUF_SOFTMAX
from thirdeye.weights.architectures.latent.latent_family import LatentDefaults
from thirdeye.weights.architectures.llama import llama_family
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import MISSING, Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=131072,
    hidden_size=4096,
    intermediate_size=12288,
    num_hidden_layers=36,
    num_heads=32,
    max_position_embeddings=1048576,
)
LATENTS = LatentDefaults(size=256, key_size=64, query_size=1024)
EXPERTS = GroupedDefaults(num_experts=128, num_chosen=4, intermediate_size=2048)
STACKED = {"mlp.experts.gate_up_proj": GATE_UP, "mlp.experts.down_proj": DOWN}
# Of a config that says nothing of rotation.
THETA, SCALING = 1e4, RopeScaling("yarn", 128.0, original_max_position_embeddings=8192)
TEMPERATURE = Temperature(as_float32(0.1), 8192)


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: it never has one
    spec = latent_family.huggingface_latents(fields, LATENTS)
    fields.refuse("head_dim", spec.head_size)
    part = spec.rope_size / spec.head_size
    defaults = replace(DEFAULTS, head_dim=spec.head_size, rotary_fraction=part)
    config = llama_family.huggingface_config(fields, "mistral4", defaults)
    latent_family.check_heads(fields, config)
    assert config.rope is not None
    if config.rope.dim != spec.rope_size:
        raise fields.error(
            "partial_rotary_factor",
            f"must give 'qk_rope_head_dim' ({spec.rope_size}) channels, got {config.rope.dim}.",
        )
    parameters = rope_parameters(fields)
    if parameters is None:
        rope = RopeConfig(THETA, spec.rope_size, SCALING)
        scale = latent_family.score_scale(spec, yarn_magnitude(SCALING.factor))
        temperature: Temperature | None = TEMPERATURE
        config = replace(config, rope=rope)
    else:
        scale, temperature = latent_family.huggingface_scale(fields, spec), None
        if "llama_4_scaling_beta" in parameters:
            beta = as_float32(parameters.positive("llama_4_scaling_beta"))
            temperature = Temperature(beta, parameters.integer(ORIGINAL, high=MAX_POSITIONS))
    config = latent_family.with_latents(config, spec, scale, temperature)
    experts = replace(
        grouped_experts(fields, config, EXPERTS), scoring=Scoring.SOFTMAX, choice_bias=False
    )
    return with_dense_first(fields, config, "first_k_dense_replace", 0, experts)


def huggingface_names(config: ModelConfig) -> NameTable:
    return with_experts(latent_names.huggingface_names(config), config, WITH_BESIDE | STACKED)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    """Of files that say nothing of it, queries do not grow: llama.cpp's then do not either."""
    config = latent_gguf.gguf_config(fields, file, vocab_size, "mistral4")
    fields.refuse("expert_gating_func", GGUF_SOFTMAX)
    spec = gguf_grouped_experts(fields, config)
    spec = replace(spec, scoring=Scoring.SOFTMAX, choice_bias=False)
    config = with_dense_first(fields, config, "leading_dense_block_count", 0, spec)
    if "attention.temperature_scale" not in fields:
        return config
    key = "attention.temperature_length"
    original = fields.optional_integer("rope.scaling.original_context_length", high=MAX_POSITIONS)
    length = fields.integer(key, original or MISSING, high=MAX_POSITIONS)
    temperature = Temperature(fields.positive("attention.temperature_scale"), length)
    attention = tuple(replace(spec, temperature=temperature) for spec in config.attention)
    return replace(config, attention=attention)


MISTRAL4 = Architecture(
    models="Mistral Small 4",
    model_types=("mistral4",),
    gguf_architectures=("mistral4",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=DEEPSEEK_V3.gguf_names,
)
