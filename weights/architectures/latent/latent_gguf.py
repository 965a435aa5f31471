"""The settings of multi-head latent attention as llama.cpp's files say them.

Those of before April 2025 describe heads as they are trained. Later ones describe what is computed,
as here: one key a token, of which the value is a part; the sizes of heads have keys of their own.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig, RopeConfig
from thirdeye.model.declare.latent_spec import LatentSpec
from thirdeye.weights.architectures.common.limits import MAX_HEAD_DIM, MAX_HIDDEN, MAX_LAYERS
from thirdeye.weights.architectures.common.rope_scaling import yarn_magnitude
from thirdeye.weights.architectures.latent.latent_family import score_scale, with_latents
from thirdeye.weights.architectures.llama import llama_family
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

LOG_UNIT = 0.1  # what llama.cpp's converter multiplies YaRN's magnitude by


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int, architecture: str) -> ModelConfig:
    rope_size = fields.integer("rope.dimension_count", high=MAX_HEAD_DIM)
    config = llama_family.gguf_config(
        fields, file, vocab_size, architecture, has_experts=True, head_dim=rope_size
    )
    spec = _latents(fields, config, rope_size)
    num_guessing = fields.integer("nextn_predict_layers", 0, low=0, high=MAX_LAYERS)
    if num_guessing >= config.num_hidden_layers:
        raise fields.error("nextn_predict_layers", "must be fewer than all layers.")
    config = replace(
        config,
        num_hidden_layers=config.num_hidden_layers - num_guessing,
        qkv_bias="blk.0.attn_kv_a_mqa.bias" in file.tensors,
    )
    assert config.rope is not None
    rope, magnitude = _without_magnitude(fields, config.rope)
    return with_latents(replace(config, rope=rope), spec, score_scale(spec, magnitude))


def dense_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    """Of a model without experts (Youtu-LLM): its file says that all layers are dense."""
    config = gguf_config(fields, file, vocab_size, "youtu")
    fields.refuse("expert_shared_count", 0)
    fields.refuse("leading_dense_block_count", config.num_hidden_layers)
    return config


def _latents(fields: Fields, config: ModelConfig, rope_size: int) -> LatentSpec:
    size = fields.integer("attention.kv_lora_rank", high=MAX_HIDDEN)
    is_split = "attention.key_length_mla" in fields
    own = "_mla" if is_split else ""
    head_size = fields.integer(f"attention.key_length{own}", high=MAX_HEAD_DIM)
    value_size = fields.integer(f"attention.value_length{own}", high=MAX_HEAD_DIM)
    if is_split:
        fields.refuse("attention.key_length", size + rope_size)
        fields.refuse("attention.value_length", size)
    num_keys = 1 if is_split else config.num_heads
    if config.num_kv_heads != num_keys:
        raise fields.error(
            "attention.head_count_kv", f"must be {num_keys}, got {config.num_kv_heads}."
        )
    if head_size <= rope_size:
        raise fields.error(
            f"attention.key_length{own}",
            f"must be above 'rope.dimension_count' ({rope_size}), got {head_size}.",
        )
    return LatentSpec(
        size=size,
        rope_size=rope_size,
        key_size=head_size - rope_size,
        value_size=value_size,
        query_size=fields.optional_integer("attention.q_lora_rank", high=MAX_HIDDEN) or None,
    )


def _without_magnitude(fields: Fields, rope: RopeConfig) -> tuple[RopeConfig, float]:
    """YaRN's is on both sides of scores, and so in their scale; not in cosines and sines."""
    if rope.scaling is None or rope.scaling.kind != "yarn":
        return rope, 1.0
    part = fields.positive("rope.scaling.yarn_log_multiplier") / LOG_UNIT
    scaling = replace(rope.scaling, attention_factor=1.0)
    return replace(rope, scaling=scaling), yarn_magnitude(scaling.factor, part)
