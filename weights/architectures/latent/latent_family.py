"""What models with multi-head latent attention share: the keys of its sizes and scale.

What it computes: `model/declare/latent_spec.py`; the names of its tensors: `latent_names.py`.
"""

import math
from dataclasses import dataclass, replace

from thirdeye.model.config import AttentionSpec, ModelConfig, Temperature
from thirdeye.model.declare.latent_spec import LatentSpec
from thirdeye.weights.architectures.common.limits import MAX_HEAD_DIM, MAX_HEADS, MAX_HIDDEN
from thirdeye.weights.architectures.common.rope_scaling import yarn_magnitude
from thirdeye.weights.architectures.common.rope_settings import rope_parameters
from thirdeye.weights.architectures.llama import llama_family
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields


@dataclass(frozen=True, slots=True)
class LatentDefaults:
    """As `Defaults`, of latents."""

    size: int = 512
    rope_size: int = 64
    key_size: int = 128
    value_size: int = 128
    query_size: int | None = 1536


def huggingface_latents(fields: Fields, defaults: LatentDefaults = LatentDefaults()) -> LatentSpec:
    """Norms of latents have a small number of their own, whatever the others'."""
    query_size = None
    if not fields.is_null("q_lora_rank") and (
        "q_lora_rank" in fields or defaults.query_size is not None
    ):
        query_size = fields.integer("q_lora_rank", defaults.query_size or 1, high=MAX_HIDDEN)
    rope_size = fields.integer("qk_rope_head_dim", defaults.rope_size, high=MAX_HEAD_DIM)
    if rope_size % 2:
        raise fields.error("qk_rope_head_dim", f"must be even, got {rope_size}.")
    fields.refuse("rope_interleave", True)
    spec = LatentSpec(
        size=fields.integer("kv_lora_rank", defaults.size, high=MAX_HIDDEN),
        rope_size=rope_size,
        key_size=fields.integer("qk_nope_head_dim", defaults.key_size, high=MAX_HEAD_DIM),
        value_size=fields.integer("v_head_dim", defaults.value_size, high=MAX_HEAD_DIM),
        query_size=query_size,
    )
    fields.refuse("qk_head_dim", spec.head_size)
    return spec


def huggingface_config(
    fields: Fields, architecture: str, defaults: Defaults, spec: LatentSpec
) -> ModelConfig:
    """Of a class that calls a head what is turned of it."""
    fields.refuse("head_dim", spec.rope_size)
    own = replace(defaults, head_dim=spec.rope_size)
    config = llama_family.huggingface_config(fields, architecture, own)
    check_heads(fields, config)
    return with_latents(config, spec, huggingface_scale(fields, spec))


def check_heads(fields: Fields, config: ModelConfig) -> None:
    """Raises `ModelFormatError` where heads would share keys: they are made of one latent, each has
    its own."""
    num_kv_heads = fields.integer("num_key_value_heads", config.num_heads, high=MAX_HEADS)
    if num_kv_heads != config.num_heads:
        raise fields.error(
            "num_key_value_heads",
            f"must equal 'num_attention_heads' ({config.num_heads}), got {num_kv_heads}.",
        )


def huggingface_scale(fields: Fields, spec: LatentSpec) -> float:
    """Of scores. YaRN's magnitude is on both sides of them."""
    parameters = rope_parameters(fields)
    if parameters is None or not parameters.raw("mscale_all_dim", 0):
        return score_scale(spec)
    kind = "rope_type" if "rope_type" in parameters else "type"
    if parameters.text(kind, "default") == "default":
        return score_scale(spec)
    return score_scale(
        spec,
        yarn_magnitude(parameters.positive("factor"), parameters.positive("mscale_all_dim")),
    )


def score_scale(spec: LatentSpec, magnitude: float = 1.0) -> float:
    return magnitude * magnitude / math.sqrt(spec.head_size)


def with_latents(
    config: ModelConfig,
    spec: LatentSpec,
    scale: float,
    temperature: Temperature | None = None,
) -> ModelConfig:
    """All heads look at one key."""
    attention = AttentionSpec(
        rope=config.rope, scale=scale, has_values=False, latent=spec, temperature=temperature
    )
    return replace(
        config,
        num_kv_heads=1,
        head_dim=spec.kept_size,
        attention=(attention,) * config.num_hidden_layers,
    )
